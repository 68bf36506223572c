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
    /// Names this call in the log.
    pub request_id: String,
}
