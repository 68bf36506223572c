//! `/v1/snapshots`

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::{Extension, Json};

use crate::http::json::{parse, read};
use crate::http::problem::Problem;
use crate::http::{App, RequestId};
use crate::wire::error::ErrorBody;
use crate::wire::snapshots::{SnapshotBody, SnapshotList, SnapshotPage};

/// Take a snapshot of posts, indexes and ads, as of one transaction, while everything goes on. An empty body will do.
#[utoipa::path(post, path = "/v1/snapshots", request_body = SnapshotBody, responses(
    (status = 201, body = SnapshotPage), (status = 400, body = ErrorBody),
    (status = 409, body = ErrorBody, description = "one is being taken, the name is taken, or there are too many"),
    (status = 507, body = ErrorBody, description = "too little space"),
))]
pub async fn take(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    request: Request,
) -> Result<(StatusCode, Json<SnapshotPage>), Problem> {
    let bytes = read(request, &app).await?;
    let body: SnapshotBody =
        if bytes.trim_ascii().is_empty() { SnapshotBody::default() } else { parse(&bytes)? };
    let manifest = app.stack.snapshots.take(&app.stack.live, body.name).await?;
    let page = SnapshotPage { snapshot: manifest.into(), request_id: id.0 };
    Ok((StatusCode::CREATED, Json(page)))
}

/// List the snapshots.
#[utoipa::path(get, path = "/v1/snapshots", responses((status = 200, body = SnapshotList)))]
pub async fn list(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
) -> Result<Json<SnapshotList>, Problem> {
    let snapshots = app.stack.snapshots.clone();
    let listed = tokio::task::spawn_blocking(move || snapshots.list()).await;
    let listed = listed.map_err(|error| Problem::internal(&error))??;
    let snapshots = listed.into_iter().map(Into::into).collect();
    Ok(Json(SnapshotList { snapshots, request_id: id.0 }))
}

/// Delete a snapshot.
#[utoipa::path(delete, path = "/v1/snapshots/{name}", params(("name" = String, Path)), responses(
    (status = 204), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
))]
pub async fn delete(State(app): State<App>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    let snapshots = app.stack.snapshots.clone();
    let deleted = tokio::task::spawn_blocking(move || snapshots.delete(&name)).await;
    deleted.map_err(|error| Problem::internal(&error))??;
    Ok(StatusCode::NO_CONTENT)
}
