//! The web page, carried inside the binary.

use axum::extract::Path;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::http::problem::Problem;

const POLICY: (HeaderName, HeaderValue) = (
    header::CONTENT_SECURITY_POLICY,
    HeaderValue::from_static(
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
         base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
);

/// Names and contents of the files of `web/`.
macro_rules! files {
    ($($name:literal)*) => { [$(($name, include_str!(concat!("../../web/", $name)))),*] };
}

const FILES: [(&str, &str); 17] = files![
    "index.html" "app.css" "app.js" "answer.js" "chart.js" "console.html" "console.js" "dom.js" "early.js" "icon.svg" "keys.js" "net.js" "query.js"
    "quote.js" "results.js" "sponsored.js" "suggest.js"
];

/// `/`
pub async fn index() -> Result<Response, Problem> {
    serve("index.html")
}

/// A file of the page.
pub async fn file(Path(name): Path<String>) -> Result<Response, Problem> {
    serve(&name)
}

fn serve(name: &str) -> Result<Response, Problem> {
    let (_, content) = FILES.iter().find(|(file, _)| *file == name).ok_or_else(|| {
        let message = format!("there is no /{name}: see /openapi.json");
        Problem::new(StatusCode::NOT_FOUND, "not_found", "unknown_route", message)
    })?;
    let kind = match name.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/html; charset=utf-8",
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        // The page changes with the binary: a browser asks each time, and the files are small.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        POLICY,
    ];
    Ok((headers, *content).into_response())
}
