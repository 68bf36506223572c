//! The one error envelope.

use serde::Serialize;
use utoipa::ToSchema;

/// `{"error": {...}}`
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ErrorDetail {
    /// Stable name of the situation, such as `query_too_long`.
    pub code: String,
    /// Who must act: `invalid_request`, `auth`, `not_found`, `overloaded`, `timeout` or `internal`.
    pub r#type: String,
    /// What was expected, what was found, and the remedy.
    pub message: String,
    /// The field or parameter at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub param: Option<String>,
    /// Every problem, where a body is checked as a whole; `param` and `message` are then those of the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<FieldProblem>,
    /// Names this call in the log.
    pub request_id: String,
}

/// One of several problems of a body.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FieldProblem {
    /// The field, such as `keywords[2].text`.
    pub param: String,
    /// What was found there, shortened.
    pub found: String,
    /// What is wrong with it and the remedy.
    pub message: String,
}
