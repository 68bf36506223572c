//! `POST /openrtb2/auction`.

use std::time::Instant;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use crate::http::App;
use crate::http::ads::{engine, public_base};
use crate::http::problem::Problem;
use crate::openrtb::types::{BidRequest, BidResponse};
use crate::openrtb::{NoBid, ad_request, deadline, no_bid, openings, response};
use crate::wire::error::ErrorBody;

const VERSION: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-openrtb-version"), HeaderValue::from_static("2.6"));

/// Bid on native places as OpenRTB 2.6 asks; an answer without a bid has `nbr` and says why.
#[utoipa::path(post, path = "/openrtb2/auction", request_body = Object,
    responses((status = 200, body = Object), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn auction(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Result<Response, Problem> {
    let begun = Instant::now();
    let engine = engine(&app)?;
    let request: BidRequest = match serde_json::from_slice(&body) {
        Ok(request) => request,
        // Without an id there is nothing to answer to.
        Err(error) => return Err(Problem::invalid("invalid_bid_request", "", error.to_string())),
    };
    let currency = app.stack.config.ads.engine.currency.clone();
    let places = match openings(&request, &currency) {
        Ok(places) => places,
        Err((why, message)) => return Ok(answer(&no_bid(&request.id, why, message))),
    };
    let until = match deadline(&request, begun) {
        Ok(until) => until,
        Err((why, message)) => return Ok(answer(&no_bid(&request.id, why, message))),
    };
    let asked = ad_request(&request, places.len(), Timestamp::now(), until);
    let slate = tokio::time::timeout_at(until.into(), engine.decide(asked)).await;
    let bids = match slate {
        Err(_) => no_bid(&request.id, NoBid::Time, "the decision took longer than tmax"),
        Ok(Err(error)) => {
            tracing::error!(%error, "no bid");
            no_bid(&request.id, NoBid::Technical, "something failed on our side")
        }
        Ok(Ok(slate)) => response(&request, &places, &slate, &currency, &public_base(&app, &headers)),
    };
    Ok(answer(&bids))
}

fn answer(bids: &BidResponse) -> Response {
    ([(header::CACHE_CONTROL, HeaderValue::from_static("no-store")), VERSION], Json(bids)).into_response()
}
