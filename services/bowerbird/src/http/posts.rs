//! `POST /v1/posts` (one JSON object a line) and `/v1/posts/{id}`

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use bowerbird_posts::{CountsPatch, Op, Outcome, Post, PostId, parse_post_line};

use crate::http::json::{JsonBody, read};
use crate::http::problem::Problem;
use crate::http::{App, RequestId};
use crate::wire::error::ErrorBody;
use crate::wire::posts::{WriteItem, WriteReport, status};

/// Most posts of one call.
const MAX_LINES: usize = 100_000;

/// Write posts, one JSON object a line. A line that is refused does not stop the others.
#[utoipa::path(post, path = "/v1/posts",
    request_body(content = String, content_type = "application/x-ndjson"),
    responses((status = 200, body = WriteReport), (status = 413, body = ErrorBody), (status = 429, body = ErrorBody)),
)]
pub async fn write(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    request: Request,
) -> Result<Json<WriteReport>, Problem> {
    let body = read(request, &app).await?;
    let lines = body.split(|byte| *byte == b'\n').zip(1..).filter(|(line, _)| !line.trim_ascii().is_empty());
    let (mut items, mut ops, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for (bytes, line) in lines {
        if items.len() == MAX_LINES {
            let message = format!("the body has more than {MAX_LINES} lines: send fewer at once");
            return Err(Problem::invalid("too_many_lines", "", message));
        }
        match parse_post_line(bytes.trim_ascii()) {
            Ok(post) => {
                items.push(WriteItem { line, id: Some(post.id.to_string()), status: "created", error: None });
                places.push(items.len() - 1);
                ops.push(Op::Upsert(Box::new(post)));
            }
            Err(error) => {
                items.push(WriteItem { line, id: None, status: "refused", error: Some(error.to_string()) });
            }
        }
    }
    if items.is_empty() {
        return Err(Problem::invalid("empty_body", "", "the body has no line: send one JSON object a line"));
    }
    let errors = ops.len() < items.len();
    if !ops.is_empty() {
        for (place, outcome) in places.into_iter().zip(app.stack.live.write(ops).await?) {
            items[place].status = status(&outcome);
        }
    }
    Ok(Json(WriteReport { items, errors, request_id: id.0 }))
}

/// Read a post.
#[utoipa::path(get, path = "/v1/posts/{id}", params(("id" = String, Path)),
    responses((status = 200, body = Object), (status = 404, body = ErrorBody)))]
pub async fn get(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Post>, Problem> {
    let id = post_id(id)?;
    let live = app.stack.live.clone();
    let wanted = id.clone();
    let found = tokio::task::spawn_blocking(move || live.store().get(&wanted))
        .await
        .map_err(|error| Problem::internal(&error))?
        .map_err(|error| Problem::internal(&error))?;
    found.map(|stored| Json(stored.post)).ok_or_else(|| missing(&id))
}

/// Change the counters of a post in place.
#[utoipa::path(patch, path = "/v1/posts/{id}", params(("id" = String, Path)), request_body = Object,
    responses((status = 200, body = WriteReport), (status = 404, body = ErrorBody)))]
pub async fn patch(
    State(app): State<App>,
    Extension(request): Extension<RequestId>,
    Path(id): Path<String>,
    JsonBody(counts): JsonBody<CountsPatch>,
) -> Result<Json<WriteReport>, Problem> {
    let id = post_id(id)?;
    one(&app, &request, &id, Op::SetCounts { id: id.clone(), counts }).await
}

/// Delete a post. It is gone from every page of a search that starts after this returns.
#[utoipa::path(delete, path = "/v1/posts/{id}", params(("id" = String, Path)),
    responses((status = 200, body = WriteReport), (status = 404, body = ErrorBody)))]
pub async fn delete(
    State(app): State<App>,
    Extension(request): Extension<RequestId>,
    Path(id): Path<String>,
) -> Result<Json<WriteReport>, Problem> {
    let id = post_id(id)?;
    one(&app, &request, &id, Op::Delete(id.clone())).await
}

async fn one(app: &App, request: &RequestId, id: &PostId, op: Op) -> Result<Json<WriteReport>, Problem> {
    let outcome = app.stack.live.write(vec![op]).await?.pop();
    match outcome {
        None | Some(Outcome::NotFound) => Err(missing(id)),
        Some(outcome) => {
            let item = WriteItem { line: 1, id: Some(id.to_string()), status: status(&outcome), error: None };
            Ok(Json(WriteReport { items: vec![item], errors: false, request_id: request.0.clone() }))
        }
    }
}

fn post_id(id: String) -> Result<PostId, Problem> {
    PostId::new(id).map_err(|error| Problem::invalid("invalid_id", "id", error.to_string()))
}

fn missing(id: &PostId) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "not_found",
        "post_not_found",
        format!("there is no post {:?}", id.as_str()),
    )
}
