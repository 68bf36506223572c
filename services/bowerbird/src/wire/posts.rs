//! `POST /v1/posts` and `/v1/posts/{id}`

use bowerbird_posts::Outcome;
use serde::Serialize;
use utoipa::ToSchema;

/// What became of each line.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WriteReport {
    /// One entry per line, in order.
    pub items: Vec<WriteItem>,
    /// Whether any line was refused.
    pub errors: bool,
    /// Names this call in the log.
    pub request_id: String,
}

/// What became of one line.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WriteItem {
    /// Line, from 1.
    pub line: usize,
    /// Id of the post, when it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `created`, `replaced`, `counts_changed`, `unchanged`, `deleted`, `not_found` or `refused`.
    pub status: &'static str,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The word for an outcome.
pub fn status(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Created { .. } => "created",
        Outcome::Replaced { .. } => "replaced",
        Outcome::CountsChanged { .. } => "counts_changed",
        Outcome::Unchanged { .. } => "unchanged",
        Outcome::Deleted { .. } => "deleted",
        Outcome::NotFound => "not_found",
    }
}
