//! `/v1/ingest/status`

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};

use crate::http::problem::Problem;
use crate::http::{App, RequestId};
use crate::wire::error::ErrorBody;
use crate::wire::ingest::{IngestPage, page};

/// How far the stream of posts is applied, and what of it was refused.
#[utoipa::path(get, path = "/v1/ingest/status", responses(
    (status = 200, body = IngestPage), (status = 404, body = ErrorBody, description = "no stream is configured"),
))]
pub async fn status(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
) -> Result<Json<IngestPage>, Problem> {
    let Some(ingest) = &app.stack.ingest else {
        let message = "posts are read from no stream: set ingest.url to have them read";
        return Err(Problem::new(StatusCode::NOT_FOUND, "not_found", "ingest_off", message));
    };
    Ok(Json(page(ingest.status(), id.0)))
}
