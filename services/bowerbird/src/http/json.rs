//! JSON bodies and query strings: bounded, unknown fields refused with a suggestion, errors that name the field.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
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

/// As [`JsonBody`] for bodies of megabytes: those are parsed on a thread where they hold up nobody.
pub struct LargeJson<T>(pub T);

/// Bodies up to this size are parsed where they arrive, in about half a millisecond.
const SMALL_BODY: usize = 64 << 10;

impl<S, T> FromRequest<S> for LargeJson<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Send + 'static,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = read(request, state).await?;
        if bytes.len() <= SMALL_BODY {
            return parse(&bytes).map(Self);
        }
        let parsed = tokio::task::spawn_blocking(move || parse(&bytes)).await;
        parsed.map_err(|error| Problem::internal(&error))?.map(Self)
    }
}

/// The query string as `T`.
pub struct QueryString<T>(pub T);

impl<S, T> FromRequestParts<S> for QueryString<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Query(query) = Query::try_from_uri(&parts.uri).map_err(|rejection| {
            let text = rejection.body_text();
            let message = text.split_once("query string: ").map_or(text.as_str(), |(_, message)| message);
            // The path of the field comes first.
            let (field, says) = message.split_once(": ").unwrap_or(("", message));
            let (param, message) = match unknown_field(says) {
                Some((unknown, Some(nearest))) => {
                    (unknown.clone(), format!("unknown field {unknown:?}: did you mean {nearest:?}?"))
                }
                Some((unknown, None)) => (unknown, says.to_owned()),
                None => (field.to_owned(), message.to_owned()),
            };
            Problem::invalid("invalid_query", &shortened(&param), shortened(&message))
        })?;
        Ok(Self(query))
    }
}

/// The whole body, up to the limit of the route.
pub async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "invalid_request",
            "body_too_large",
            "the body is larger than this call accepts: send less at once, or raise server.max_json, \
             server.max_posts or server.max_models in the configuration",
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
        if message.contains("hex escape") {
            message.push_str(" (half of a surrogate pair is no character: send whole characters)");
        }
        Problem::invalid(code, &shortened(&param), shortened(&message))
    })?;
    json.end().map_err(|error| Problem::invalid("malformed_json", "", error.to_string()))?;
    Ok(value)
}

/// The two ends of a text that repeats what was sent, which may be megabytes.
fn shortened(text: &str) -> String {
    if text.len() <= 400 {
        return text.to_owned();
    }
    let (head, tail) = (text.floor_char_boundary(150), text.ceil_char_boundary(text.len() - 200));
    format!("{} … {}", &text[..head], &text[tail..])
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

    #[tokio::test]
    async fn a_query_string_is_refused_like_a_body() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "only its fields are looked at")]
        struct Asked {
            #[serde(default)]
            days: i64,
        }
        for (query, param, says) in [
            ("dys=3", "dys", "did you mean \"days\""),
            ("zebra=3", "zebra", "expected"),
            ("days=x", "days", "invalid digit"),
        ] {
            let (mut parts, ()) =
                Request::get(format!("/v1?{query}")).body(()).expect("a request").into_parts();
            let refused = QueryString::<Asked>::from_request_parts(&mut parts, &()).await;
            let body = refused.map(|_| ()).expect_err("a mistake").body("r").error;
            assert_eq!(
                (body.code.as_str(), body.param.as_deref().unwrap_or_default()),
                ("invalid_query", param)
            );
            assert!(body.message.contains(says), "{}", body.message);
        }
    }

    #[test]
    fn half_a_character_is_told_and_a_long_mistake_is_not_repeated_in_full() {
        for json in [&br#"{"q":"\ud800"}"#[..], br#"{"q":"\udc00 a"}"#, br#"{"q":"\ud800\u0041"}"#] {
            let body = parse::<SearchBody>(json).expect_err("no character").body("r").error;
            assert!(body.message.contains("surrogate pair"), "{}", body.message);
            assert_eq!((body.code.as_str(), body.param.as_deref()), ("malformed_json", Some("q")));
        }
        let long = "é".repeat(500_000);
        for json in [format!(r#"{{"q":"a","limit":"{long}"}}"#), format!(r#"{{"q":"a","{long}":1}}"#)] {
            let body = parse::<SearchBody>(json.as_bytes()).expect_err("a mistake").body("r").error;
            assert!(body.message.len() < 500, "{} bytes", body.message.len());
            assert!(body.param.is_some_and(|param| param.len() < 500));
        }
    }
}
