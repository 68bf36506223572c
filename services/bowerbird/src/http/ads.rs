//! `POST /v1/decide`, and the links of sponsored blocks.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use bowerbird_ads::AdEngine;
use jiff::Timestamp;

use crate::flow;
use crate::http::App;
use crate::http::json::JsonBody;
use crate::http::problem::Problem;
use crate::wire::ads::{DecideBody, Sponsored};
use crate::wire::error::ErrorBody;

const NO_STORE: [(HeaderName, HeaderValue); 1] =
    [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];

/// Choose sponsored blocks for a query or the text of a page.
#[utoipa::path(post, path = "/v1/decide", request_body = DecideBody, responses(
    (status = 200, body = Sponsored), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
))]
pub async fn decide(
    State(app): State<App>,
    JsonBody(body): JsonBody<DecideBody>,
) -> Result<Json<Sponsored>, Problem> {
    flow::decide(&app.stack, &body).await.map(Json)
}

/// Record that a block was seen.
#[utoipa::path(get, path = "/e/i/{token}", params(("token" = String, Path)),
    responses((status = 200, body = Object), (status = 400, body = ErrorBody)))]
pub async fn impression(State(app): State<App>, Path(token): Path<String>) -> Result<Response, Problem> {
    let outcome = engine(&app)?.impression(&token, Timestamp::now()).await?;
    Ok((NO_STORE, Json(outcome)).into_response())
}

/// Record a click and go where the ad leads.
#[utoipa::path(get, path = "/e/c/{token}", params(("token" = String, Path)),
    responses((status = 303), (status = 400, body = ErrorBody)))]
pub async fn click(State(app): State<App>, Path(token): Path<String>) -> Result<Response, Problem> {
    let outcome = engine(&app)?.click(&token, Timestamp::now()).await?;
    Ok((NO_STORE, Redirect::to(&outcome.destination)).into_response())
}

pub(super) fn engine(app: &App) -> Result<&AdEngine, Problem> {
    app.stack.ads.as_ref().ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "not_found", "ads_off", "ads are off: set ads.enabled = true")
    })
}
