//! The web page, carried inside the binary.

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::IntoResponse;

const POLICY: (HeaderName, HeaderValue) = (
    header::CONTENT_SECURITY_POLICY,
    HeaderValue::from_static(
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
         base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
);

fn text(kind: &'static str, body: &'static str) -> impl IntoResponse {
    let headers =
        [(header::CONTENT_TYPE, HeaderValue::from_static(kind)), (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")), POLICY];
    (headers, body)
}

/// `/`
pub async fn index() -> impl IntoResponse {
    text("text/html; charset=utf-8", include_str!("../../web/index.html"))
}

/// `/app.css`
pub async fn css() -> impl IntoResponse {
    text("text/css; charset=utf-8", include_str!("../../web/app.css"))
}

/// `/app.js`
pub async fn js() -> impl IntoResponse {
    text("text/javascript; charset=utf-8", include_str!("../../web/app.js"))
}
