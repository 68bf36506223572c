//! `/v1/reindex`, `/v1/tasks/{id}`

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use bowerbird_reindex::{ReindexError, Reindexer};

use crate::http::json::{parse, read};
use crate::http::problem::Problem;
use crate::http::{App, RequestId};
use crate::wire::error::ErrorBody;
use crate::wire::reindex::{PrunePage, ReindexBody, ReindexPage, RollbackPage, TaskPage};

/// Begin a rebuild of the indexes for another embedder, analyser or vector index, while this one serves. One that was
/// begun with the same settings goes on.
#[utoipa::path(post, path = "/v1/reindex", request_body = ReindexBody, responses(
    (status = 202, body = TaskPage), (status = 400, body = ErrorBody),
    (status = 409, body = ErrorBody, description = "one is under way, or there is nothing to do"),
    (status = 507, body = ErrorBody, description = "too little space"),
))]
pub async fn begin(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    request: Request,
) -> Result<(StatusCode, Json<TaskPage>), Problem> {
    let bytes = read(request, &app).await?;
    let body: ReindexBody =
        if bytes.trim_ascii().is_empty() { ReindexBody::default() } else { parse(&bytes)? };
    let present = app.stack.index_embedder();
    let task = blocking(&app, move |reindexer| {
        let id = reindexer.start(body.plan(&present))?;
        reindexer.status(&id)
    })
    .await?;
    Ok((StatusCode::ACCEPTED, Json(TaskPage { task: task.into(), request_id: id.0 })))
}

/// List the rebuilds and the generations on disk.
#[utoipa::path(get, path = "/v1/reindex", responses((status = 200, body = ReindexPage)))]
pub async fn list(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
) -> Result<Json<ReindexPage>, Problem> {
    let (tasks, generations) =
        blocking(&app, |reindexer| Ok((reindexer.list()?, reindexer.generations()?))).await?;
    let tasks = tasks.into_iter().map(Into::into).collect();
    let generations = generations.into_iter().map(Into::into).collect();
    Ok(Json(ReindexPage { tasks, generations, request_id: id.0 }))
}

/// Make the generation serve again that the present one took over from.
#[utoipa::path(post, path = "/v1/reindex/rollback", responses(
    (status = 200, body = RollbackPage), (status = 409, body = ErrorBody),
))]
pub async fn rollback(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
) -> Result<Json<RollbackPage>, Problem> {
    let generation = blocking(&app, Reindexer::rollback).await?;
    Ok(Json(RollbackPage { generation, request_id: id.0 }))
}

/// Remove every generation that neither serves nor is being built.
#[utoipa::path(post, path = "/v1/reindex/prune", responses((status = 200, body = PrunePage)))]
pub async fn prune(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
) -> Result<Json<PrunePage>, Problem> {
    let bytes = blocking(&app, Reindexer::prune).await?;
    Ok(Json(PrunePage { bytes, request_id: id.0 }))
}

/// How far a rebuild is.
#[utoipa::path(get, path = "/v1/tasks/{id}", params(("id" = String, Path)), responses(
    (status = 200, body = TaskPage), (status = 404, body = ErrorBody),
))]
pub async fn task(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    Path(task): Path<String>,
) -> Result<Json<TaskPage>, Problem> {
    let task = blocking(&app, move |reindexer| reindexer.status(&task)).await?;
    Ok(Json(TaskPage { task: task.into(), request_id: id.0 }))
}

/// Pause a rebuild, resume it, or let one that waits take over.
#[utoipa::path(post, path = "/v1/tasks/{id}/{action}", params(
    ("id" = String, Path), ("action" = String, Path, description = "pause, resume or take_over"),
), responses(
    (status = 200, body = TaskPage), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
    (status = 409, body = ErrorBody),
))]
pub async fn act(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    Path((task, action)): Path<(String, String)>,
) -> Result<Json<TaskPage>, Problem> {
    let act = match action.as_str() {
        "pause" => Reindexer::pause,
        "resume" => Reindexer::resume,
        "take_over" => Reindexer::take_over,
        _ => {
            let message = "expected pause, resume or take_over";
            return Err(Problem::invalid("invalid_action", "action", message));
        }
    };
    let task = blocking(&app, move |reindexer| {
        act(reindexer, &task)?;
        reindexer.status(&task)
    })
    .await?;
    Ok(Json(TaskPage { task: task.into(), request_id: id.0 }))
}

/// End a rebuild and remove what it built.
#[utoipa::path(delete, path = "/v1/tasks/{id}", params(("id" = String, Path)), responses(
    (status = 204), (status = 409, body = ErrorBody),
))]
pub async fn cancel(State(app): State<App>, Path(task): Path<String>) -> Result<StatusCode, Problem> {
    blocking(&app, move |reindexer| reindexer.cancel(&task)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Runs `work` where blocking holds up nobody.
async fn blocking<T: Send + 'static>(
    app: &App,
    work: impl FnOnce(&Reindexer) -> Result<T, ReindexError> + Send + 'static,
) -> Result<T, Problem> {
    let reindexer = app.stack.reindexer.clone();
    let done = tokio::task::spawn_blocking(move || work(&reindexer)).await;
    Ok(done.map_err(|error| Problem::internal(&error))??)
}
