//! JSON bodies: bounded, unknown fields refused with a suggestion, errors that name the field.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;

use crate::http::problem::Problem;

/// A JSON body of type `T`.
pub struct JsonBody<T>(pub T);

impl<S, T> FromRequest<S> for JsonBody<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = read(request, state).await?;
        parse(&bytes).map(Self)
    }
}

/// The whole body, up to the limit of the route.
pub async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "invalid_request",
            "body_too_large",
            "the body is larger than this call accepts: send less at once, or raise server.max_json or \
             server.max_posts in the configuration",
        ),
        _ => Problem::invalid("unreadable_body", "", format!("the body could not be read: {rejection}")),
    })
}

/// Parses `bytes`; an error names the field, what was expected and, for an unknown field, the nearest known one.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        let code = if inner.is_data() { "invalid_field" } else { "malformed_json" };
        let mut message = inner.to_string();
        let mut param = if path == "." { String::new() } else { path };
        if let Some((unknown, nearest)) = unknown_field(&message) {
            message = match nearest {
                Some(nearest) => format!("unknown field {unknown:?}: did you mean {nearest:?}?"),
                None => message,
            };
            param = unknown;
        }
        Problem::invalid(code, &param, message)
    })?;
    json.end().map_err(|error| Problem::invalid("malformed_json", "", error.to_string()))?;
    Ok(value)
}

/// The unknown field that `message` names, and the most similar of the fields it expected.
fn unknown_field(message: &str) -> Option<(String, Option<String>)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (unknown, rest) = rest.split_once('`')?;
    let known = rest.split('`').skip(1).step_by(2);
    let nearest = known
        .map(|name| (strsim::normalized_damerau_levenshtein(unknown, name), name))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(similarity, _)| *similarity >= 0.4);
    Some((unknown.to_owned(), nearest.map(|(_, name)| name.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::search::SearchBody;

    #[test]
    fn an_unknown_field_is_named_with_the_nearest_known_one() {
        let problem = parse::<SearchBody>(br#"{"q":"a","limt":3}"#).expect_err("unknown");
        let body = problem.body("r").error;
        assert_eq!((body.code.as_str(), body.param.as_deref()), ("invalid_field", Some("limt")));
        assert!(body.message.contains("\"limit\""), "{}", body.message);
    }

    #[test]
    fn a_wrong_type_names_the_field_and_broken_json_the_place() {
        let body = parse::<SearchBody>(br#"{"q":"a","limit":"x"}"#).expect_err("type").body("r").error;
        assert_eq!(body.param.as_deref(), Some("limit"));
        let body = parse::<SearchBody>(br#"{"q":"a""#).expect_err("open").body("r").error;
        assert_eq!(body.code, "malformed_json");
        assert!(parse::<SearchBody>(br#"{"q":"a"} x"#).is_err());
    }
}
