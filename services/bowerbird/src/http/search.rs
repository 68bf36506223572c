//! `POST /v1/search`

use axum::extract::State;
use axum::{Extension, Json};

use crate::flow;
use crate::http::json::JsonBody;
use crate::http::problem::Problem;
use crate::http::suggest::Asker;
use crate::http::{App, RequestId};
use crate::wire::error::ErrorBody;
use crate::wire::search::{SearchBody, SearchPage};

/// Search posts.
#[utoipa::path(post, path = "/v1/search", request_body = SearchBody, responses(
    (status = 200, body = SearchPage),
    (status = 400, body = ErrorBody), (status = 410, body = ErrorBody), (status = 429, body = ErrorBody),
))]
pub async fn search(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    asker: Asker,
    JsonBody(body): JsonBody<SearchBody>,
) -> Result<Json<SearchPage>, Problem> {
    let page = flow::search(&app.stack, &body, &id.0).await?;
    if body.cursor.is_none() && page.total.value > 0 {
        asker.asked(&app, &body.q);
    }
    Ok(Json(page))
}
