//! `POST /v1/decide`, and the links of sponsored blocks.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::Json;
use axum::extract::{ConnectInfo, FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use bowerbird_ads::{AdEngine, EventContext};
use jiff::Timestamp;

use crate::flow;
use crate::http::App;
use crate::http::json::JsonBody;
use crate::http::problem::Problem;
use crate::wire::ads::{Beside, DecideBody, Sponsored};
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
    let beside = body.beside.iter().map(Beside::neighbour).collect();
    flow::decide(&app.stack, &body, beside).await.map(Json)
}

/// Record that a block was seen.
#[utoipa::path(get, path = "/e/i/{token}", params(("token" = String, Path)),
    responses((status = 200, body = Object), (status = 400, body = ErrorBody)))]
pub async fn impression(
    State(app): State<App>,
    Path(token): Path<String>,
    Sender(context): Sender,
) -> Result<Response, Problem> {
    let outcome = engine(&app)?.impression(&token, &context, Timestamp::now()).await?;
    Ok((NO_STORE, Json(outcome)).into_response())
}

/// Record a click and go where the ad leads.
#[utoipa::path(get, path = "/e/c/{token}", params(("token" = String, Path)),
    responses((status = 303), (status = 400, body = ErrorBody)))]
pub async fn click(
    State(app): State<App>,
    Path(token): Path<String>,
    Sender(context): Sender,
) -> Result<Response, Problem> {
    let outcome = engine(&app)?.click(&token, &context, Timestamp::now()).await?;
    Ok((NO_STORE, Redirect::to(&outcome.destination)).into_response())
}

/// The ad engine, or the problem that ads are off.
pub(super) fn engine(app: &App) -> Result<&AdEngine, Problem> {
    app.stack.ads.as_ref().ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "not_found", "ads_off", "ads are off: set ads.enabled = true")
    })
}

/// What absolute links begin with: the configured address, else the host that was called.
pub(super) fn public_base(app: &App, headers: &HeaderMap) -> String {
    if let Some(url) = &app.stack.config.server.public_url {
        return url.trim_end_matches('/').to_owned();
    }
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or("localhost");
    format!("http://{host}")
}

/// What a request says of whoever sent it.
pub struct Sender(pub EventContext);

impl FromRequestParts<App> for Sender {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let purpose = text("sec-purpose").or_else(|| text("purpose")).unwrap_or_default();
        let connection = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        // A proxy appends the address it was called from, so the last one is the one it vouches for.
        let forwarded = text("x-forwarded-for").filter(|_| app.stack.config.server.behind_proxy);
        let forwarded =
            forwarded.and_then(|list| list.rsplit(',').next()).and_then(|ip| ip.trim().parse().ok());
        let user_agent = text("user-agent").map(str::to_owned);
        Ok(Self(EventContext {
            user_agent,
            ip: forwarded.or(connection),
            prefetch: purpose.contains("prefetch") || purpose.contains("preview"),
        }))
    }
}
