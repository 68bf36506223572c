//! Every error of every room, as a status and an envelope.
//!
//! The client gets a stable code and a message that names the field and the remedy; the log gets the chain of
//! causes, once.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bowerbird_ads::{AdsError, ImportProblems};
use bowerbird_answer::AnswerError;
use bowerbird_live::LiveError;
use bowerbird_models_api::ModelError;
use bowerbird_reindex::ReindexError;
use bowerbird_scheduler::SchedulerError;
use bowerbird_search::SearchError;

use crate::snapshots::SnapshotError;
use crate::stack::chain;
use crate::wire::error::{ErrorBody, ErrorDetail, FieldProblem};

/// Most problems of one body that are told.
const MAX_PROBLEMS: usize = 100;

/// An error on its way to a client.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    status: StatusCode,
    kind: &'static str,
    code: &'static str,
    message: String,
    param: Option<String>,
    problems: Vec<FieldProblem>,
    retry_after_s: Option<u32>,
}

impl Problem {
    /// A mistake of the caller in `param`.
    pub fn invalid(code: &'static str, param: &str, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            kind: "invalid_request",
            code,
            message: message.into(),
            param: (!param.is_empty()).then(|| param.to_owned()),
            problems: Vec::new(),
            retry_after_s: None,
        }
    }

    /// Everything that is wrong with a body of ads.
    fn of_fields(problems: ImportProblems) -> Self {
        // The whole body stands at `$`.
        let param = |path: &str| path.strip_prefix("$.").unwrap_or(path).to_owned();
        let total = problems.problems.len() + problems.left_out;
        let problems: Vec<FieldProblem> = problems
            .problems
            .into_iter()
            .take(MAX_PROBLEMS)
            .map(|p| FieldProblem { param: param(&p.path), found: p.found, message: p.message })
            .collect();
        let first = problems.first().map_or(("", ""), |p| (p.param.as_str(), p.message.as_str()));
        let more = if total > 1 { format!(" (and {} more, see problems)", total - 1) } else { String::new() };
        let mut problem = Self::invalid("invalid_ads", first.0, format!("{} {}{more}", first.0, first.1));
        problem.problems = problems;
        problem
    }

    /// Any other situation.
    pub fn new(
        status: StatusCode,
        kind: &'static str,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            status,
            kind,
            code,
            message: message.into(),
            param: None,
            problems: Vec::new(),
            retry_after_s: None,
        }
    }

    /// The same, naming the field at fault.
    #[must_use]
    pub fn at(self, param: &str) -> Self {
        Self { param: Some(param.to_owned()), ..self }
    }

    /// The same for a call that has another name for the field `from`.
    #[must_use]
    pub fn renamed(self, from: &str, to: &str) -> Self {
        if self.param.as_deref() == Some(from) { self.at(to) } else { self }
    }

    /// No room; the caller should come back.
    pub fn overloaded(message: impl Into<String>) -> Self {
        let mut problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "overloaded", "overloaded", message);
        problem.retry_after_s = Some(1);
        problem
    }

    /// Our own fault: logged with its causes, told without them.
    pub fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(error = chain(error), "request failed");
        let message = "something failed on our side; the log has the cause under this request_id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "internal", message)
    }

    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The envelope.
    pub fn body(&self, request_id: &str) -> ErrorBody {
        ErrorBody {
            error: ErrorDetail {
                code: self.code.into(),
                r#type: self.kind.into(),
                message: self.message.clone(),
                param: self.param.clone(),
                problems: self.problems.clone(),
                request_id: request_id.into(),
            },
        }
    }
}

impl IntoResponse for Problem {
    /// The envelope without a request id; the outermost layer puts the id in.
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body(""))).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(std::sync::Arc::new(self));
        response
    }
}

impl From<SearchError> for Problem {
    fn from(error: SearchError) -> Self {
        use SearchError as E;
        let text = error.to_string();
        match error {
            E::EmptyQuery => Self::invalid("empty_query", "q", text),
            E::QueryTooLong { .. } => Self::invalid("query_too_long", "q", text),
            E::Limit { .. } => Self::invalid("limit_out_of_range", "limit", text),
            E::Option { name, .. } => Self::invalid("option_out_of_range", name, text),
            E::Filter { .. } => Self::invalid("invalid_filter", "filter", text),
            E::Facet { .. } => Self::invalid("unknown_facet", "facets", text),
            E::InvalidCursor => Self::invalid("invalid_cursor", "cursor", text),
            E::ExpiredCursor => {
                let mut problem = Self::new(StatusCode::GONE, "invalid_request", "cursor_expired", text);
                problem.param = Some("cursor".into());
                problem
            }
            E::Overloaded => Self::overloaded(text),
            E::Timeout => Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", "timeout", text),
            E::Unavailable { .. } => {
                tracing::error!(error = text, "search unavailable");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "internal", "search_unavailable", text)
            }
            E::Model(error) => error.into(),
            E::Live(error) => error.into(),
            E::Lexical(_) | E::Vector(_) | E::NoEmbedder { .. } => Self::internal(&error),
        }
    }
}

impl From<SchedulerError> for Problem {
    fn from(error: SchedulerError) -> Self {
        match error {
            SchedulerError::Overloaded { .. } => Self::overloaded(error.to_string()),
            SchedulerError::DeadlineExceeded => {
                Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", "timeout", error.to_string())
            }
            SchedulerError::Model(error) => error.into(),
            _ => Self::internal(&error),
        }
    }
}

impl From<ModelError> for Problem {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Overloaded { retry_after, .. } => {
                let mut problem = Self::overloaded(error.to_string());
                // Rounded up: who comes back a moment early is refused again.
                let seconds = retry_after.map(|rest| rest.as_secs() + u64::from(rest.subsec_nanos() > 0));
                problem.retry_after_s = seconds.map(|s| u32::try_from(s).unwrap_or(u32::MAX)).or(Some(1));
                problem
            }
            _ => Self::internal(&error),
        }
    }
}

impl From<LiveError> for Problem {
    fn from(error: LiveError) -> Self {
        match error {
            LiveError::Overloaded { .. } => Self::overloaded(error.to_string()),
            LiveError::Filter { .. } => Self::invalid("invalid_filter", "q", error.to_string()),
            LiveError::SnapshotName { .. } => Self::invalid("invalid_name", "name", error.to_string()),
            LiveError::SnapshotExists { .. } => {
                let message = "there is a snapshot of this name: give another, or delete it";
                let mut problem =
                    Self::new(StatusCode::CONFLICT, "invalid_request", "snapshot_exists", message);
                problem.param = Some("name".into());
                problem
            }
            LiveError::NoRoom { free_bytes, need_bytes, .. } => {
                tracing::error!(error = error.to_string(), "the disk is full");
                let message = format!(
                    "the disk of the server has {free_bytes} bytes free, {need_bytes} are needed: free space; \
                     reading and searching go on"
                );
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "internal", "disk_full", message)
            }
            _ => Self::internal(&error),
        }
    }
}

impl From<SnapshotError> for Problem {
    fn from(error: SnapshotError) -> Self {
        let text = error.to_string();
        match error {
            SnapshotError::Running => {
                let mut problem = Self::new(StatusCode::CONFLICT, "overloaded", "snapshot_running", text);
                problem.retry_after_s = Some(10);
                problem
            }
            SnapshotError::TooMany { .. } => {
                Self::new(StatusCode::CONFLICT, "invalid_request", "too_many_snapshots", text)
            }
            SnapshotError::NotFound { .. } => {
                Self::new(StatusCode::NOT_FOUND, "not_found", "snapshot_not_found", text)
            }
            SnapshotError::Live(error) => error.into(),
            SnapshotError::Ads(error) => error.into(),
            SnapshotError::Io { .. } | SnapshotError::Stopped(_) => Self::internal(&error),
        }
    }
}

impl From<ReindexError> for Problem {
    fn from(error: ReindexError) -> Self {
        let text = error.to_string();
        let conflict = |code| Self::new(StatusCode::CONFLICT, "invalid_request", code, text.clone());
        match error {
            ReindexError::Running { .. } => conflict("reindex_running"),
            ReindexError::State { .. } => conflict("reindex_state"),
            ReindexError::Nothing => conflict("nothing_to_reindex"),
            ReindexError::NoEarlier => conflict("no_earlier_generation"),
            ReindexError::NotFound { .. } => {
                Self::new(StatusCode::NOT_FOUND, "not_found", "task_not_found", text)
            }
            ReindexError::Field { field, .. } => Self::invalid("invalid_field", field, text),
            ReindexError::Embedder { .. } => Self::invalid("invalid_embedder", "embedder", text),
            ReindexError::NoRoom { .. } => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "internal", "disk_full", text)
            }
            ReindexError::Live(error) => error.into(),
            ReindexError::Model(_)
            | ReindexError::Search(_)
            | ReindexError::Part(_)
            | ReindexError::Damaged { .. }
            | ReindexError::Io { .. }
            | ReindexError::Stopped => Self::internal(&error),
        }
    }
}

impl From<AnswerError> for Problem {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::BlankQuestion => Self::invalid("empty_query", "q", error.to_string()),
            AnswerError::QuestionTooLong { .. } => Self::invalid("query_too_long", "q", error.to_string()),
            AnswerError::DuplicateSource { .. } | AnswerError::Stopped => Self::internal(&error),
        }
    }
}

impl From<AdsError> for Problem {
    fn from(error: AdsError) -> Self {
        match error {
            AdsError::Import(problems) => Self::of_fields(problems),
            AdsError::NotBooked { .. } => {
                Self::new(StatusCode::NOT_FOUND, "not_found", "booking_not_found", error.to_string())
            }
            AdsError::Taken { .. } => {
                Self::new(StatusCode::CONFLICT, "invalid_request", "id_taken", error.to_string()).at("id")
            }
            AdsError::Stale { what: "revision", .. } => {
                let status = StatusCode::PRECONDITION_FAILED;
                Self::new(status, "invalid_request", "stale_revision", error.to_string()).at("If-Match")
            }
            AdsError::Stale { what, .. } => {
                Self::new(StatusCode::CONFLICT, "invalid_request", "stale_version", error.to_string())
                    .at(what)
            }
            AdsError::KeyReused => {
                let (status, code) = (StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused");
                Self::new(status, "invalid_request", code, error.to_string()).at("Idempotency-Key")
            }
            AdsError::TextTooLong { .. } => Self::invalid("query_too_long", "q", error.to_string()),
            AdsError::UserKey { .. } => Self::invalid("user_out_of_range", "user", error.to_string()),
            AdsError::TooManyTopics { .. } => Self::invalid("too_many_topics", "topics", error.to_string()),
            AdsError::TooManyAds { .. } => Self::invalid("too_many_ads", "beside_ads", error.to_string()),
            AdsError::OtherRules(_) => Self::invalid("invalid_rules", "", error.to_string()),
            AdsError::ReserveNotLogged { .. } => {
                Self::invalid("reserve_not_logged", "reserve_micros", error.to_string())
            }
            AdsError::OffPolicy(_) => Self::invalid("log_too_short", "days", error.to_string()),
            AdsError::Token(_) => Self::invalid("invalid_token", "token", error.to_string()),
            AdsError::Postback(_) => Self::invalid("invalid_postback", "", error.to_string()),
            AdsError::Busy => Self::overloaded(error.to_string()),
            _ => Self::internal(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_busy_model_is_429_with_the_time_it_asks_for() {
        for (rest, expected) in
            [(None, "1"), (Some(Duration::from_millis(6100)), "7"), (Some(Duration::from_secs(7)), "7")]
        {
            let error = ModelError::Overloaded { model: "m".into(), waiting: 16, retry_after: rest };
            let response = Problem::from(SchedulerError::from(error)).into_response();
            assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(response.headers()[header::RETRY_AFTER], expected);
        }
        let error = ModelError::Failed { model: "m".into(), message: "broke".into() };
        assert_eq!(Problem::from(error).status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
