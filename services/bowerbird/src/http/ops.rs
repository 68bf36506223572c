//! Health, readiness, metrics.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use crate::http::App;
use crate::wire::ingest::ReadyIngest;

/// The process answers.
#[utoipa::path(get, path = "/healthz", responses((status = 200, body = String)))]
pub async fn healthz() -> &'static str {
    "ok"
}

/// What is loaded, and how far the indexes are.
#[utoipa::path(get, path = "/readyz", responses((status = 200, body = Object)))]
pub async fn readyz(State(app): State<App>) -> Json<Value> {
    let status = app.stack.live.status();
    let models = &app.stack.models;
    Json(json!({
        "status": "ready",
        "posts": status.posts,
        "vectors_pending": status.vectors_pending,
        "last_error": status.last_error,
        "models": {"embedder": models.embedder, "reranker": models.reranker, "generator": models.generator},
        "providers": {"requested": models.requested, "used": models.used, "note": models.note, "batches": models.batches},
        "ads": app.stack.ads.is_some(),
        "ingest": app.stack.ingest.as_ref().map(|ingest| ReadyIngest::from(ingest.status())),
        "demo": app.stack.demo,
    }))
}

/// Prometheus text.
#[utoipa::path(get, path = "/metrics", responses((status = 200, body = String)))]
pub async fn metrics(State(app): State<App>) -> impl IntoResponse {
    let status = app.stack.live.status();
    metrics::gauge!("bowerbird_posts").set(status.posts as f64);
    metrics::gauge!("bowerbird_vectors_pending").set(status.vectors_pending as f64);
    if let Some(ingest) = &app.stack.ingest {
        ingest.status().record_metrics();
    }
    app.stack.encoders.caches(); // brings the sizes of the caches up to date
    let models = &app.stack.models;
    metrics::gauge!("bowerbird_execution_provider",
        "requested" => models.requested.clone(), "used" => models.used.clone())
    .set(1.0);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], app.metrics.render())
}
