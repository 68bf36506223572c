//! `GET /v1/suggest`, `DELETE /v1/suggest/queries`, and who asks a query.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use axum::extract::{ConnectInfo, FromRequestParts, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};

use crate::http::problem::Problem;
use crate::http::{App, RequestId};
use crate::stack::today;
use crate::wire::error::ErrorBody;
use crate::wire::suggest::{Forgotten, SuggestPage, page};

/// Suggestions of a call that names no number.
const DEFAULT_LIMIT: usize = 8;
/// Longest `x-client-id` that is looked at, in bytes.
const MAX_CLIENT_ID: usize = 256;

/// Complete what is being typed: past queries that several people asked, words, `#tags`, `@accounts`.
#[utoipa::path(get, path = "/v1/suggest",
    params(
        ("q" = String, Query, description = "what is typed so far, at most 512 bytes"),
        ("limit" = Option<usize>, Query, description = "most suggestions, 1 to 20, 8 by default"),
    ),
    responses((status = 200, body = SuggestPage), (status = 400, body = ErrorBody), (status = 429, body = ErrorBody)),
)]
pub async fn suggest(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    uri: Uri,
) -> Result<Response, Problem> {
    let begun = Instant::now();
    let [q, limit] = parameters(&uri, ["q", "limit"])?;
    let q = required(q)?;
    let limit = match limit {
        None => DEFAULT_LIMIT,
        Some(text) => text.parse().map_err(|_| {
            Problem::invalid("invalid_field", "limit", format!("limit is {text:?}, expected a whole number"))
        })?,
    };
    let found = app.stack.suggester.suggest(&q, limit, today()).await?;
    let headers = [(header::CACHE_CONTROL, "no-store")];
    Ok((headers, Json(page(found, begun.elapsed(), id.0))).into_response())
}

/// Forget a past query, so that it is suggested to nobody until enough people have asked it anew.
#[utoipa::path(delete, path = "/v1/suggest/queries",
    params(("q" = String, Query, description = "the query")),
    responses((status = 200, body = Forgotten), (status = 400, body = ErrorBody)),
)]
pub async fn forget(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    uri: Uri,
) -> Result<Json<Forgotten>, Problem> {
    let [q] = parameters(&uri, ["q"])?;
    let q = required(q)?;
    let suggester = app.stack.suggester.clone();
    let forgotten = tokio::task::spawn_blocking(move || suggester.log().forget(&q))
        .await
        .map_err(|error| Problem::internal(&error))?
        .map_err(|error| Problem::internal(&error))?;
    Ok(Json(Forgotten { forgotten, request_id: id.0 }))
}

/// The parameters of the query string, by name; any other is refused.
pub(super) fn parameters<const N: usize>(
    uri: &Uri,
    names: [&str; N],
) -> Result<[Option<String>; N], Problem> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|error| Problem::invalid("malformed_query", "", error.to_string()))?;
    let mut values = [const { None }; N];
    for (name, value) in pairs {
        let Some(at) = names.iter().position(|known| *known == name) else {
            let message = format!("unknown parameter {name:?}: expected {}", names.join(", "));
            return Err(Problem::invalid("unknown_parameter", &name, message));
        };
        if values[at].replace(value).is_some() {
            let message = format!("{name} is given twice: give it once");
            return Err(Problem::invalid("repeated_parameter", &name, message));
        }
    }
    Ok(values)
}

fn required(q: Option<String>) -> Result<String, Problem> {
    q.ok_or_else(|| Problem::invalid("missing_parameter", "q", "q is missing: give the text as ?q=TEXT"))
}

/// Who asks, for counting the people behind a query; nobody when they do not want to be counted.
///
/// With `server.api_keys`, a person is the key and the `x-client-id` that the platform gives them, any opaque text;
/// without keys the header is not believed, and a person is an address (of IPv6 the first 64 bits). `Sec-GPC: 1` and
/// `DNT: 1` mean that the query is not remembered. What names a person goes no further than the keyed hash of
/// [`bowerbird_search::suggest::QueryLog`].
pub struct Asker(Option<String>);

impl Asker {
    /// Notes that they asked `q` and got results.
    pub fn asked(&self, app: &App, q: &str) {
        if let Some(client) = &self.0 {
            app.stack.suggester.asked(q, client, today());
        }
    }
}

impl FromRequestParts<App> for Asker {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        let keyed = !app.stack.config.server.api_keys.is_empty();
        Ok(Self(asker(&parts.headers, peer, keyed)))
    }
}

fn asker(headers: &HeaderMap, peer: Option<IpAddr>, keyed: bool) -> Option<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if ["sec-gpc", "dnt"].iter().any(|name| text(name).is_some_and(|value| value.trim() == "1")) {
        return None;
    }
    let address = peer.map(|peer| match peer.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        // One subscriber has all addresses of a /64.
        IpAddr::V6(address) => format!("{:x?}", &address.segments()[..4]),
    });
    if !keyed {
        return address;
    }
    let key = text("authorization").unwrap_or_default();
    let person = text("x-client-id").filter(|id| !id.is_empty() && id.len() <= MAX_CLIENT_ID);
    let person = person.map(|id| format!("id {id}")).or(address.map(|address| format!("at {address}")))?;
    Some(format!("{key}\n{person}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_apart_as_far_as_they_can_be_believed() {
        let ask = |pairs: &[(&'static str, &'static str)], peer: &str, keyed: bool| {
            let headers: HeaderMap = pairs
                .iter()
                .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")))
                .collect();
            asker(&headers, peer.parse().ok(), keyed)
        };
        let one = ask(&[], "10.0.0.1", false);
        assert!(one.is_some());
        assert_ne!(one, ask(&[], "10.0.0.2", false));
        assert_eq!(one, ask(&[], "::ffff:10.0.0.1", false));
        assert_eq!(ask(&[], "2001:db8::1", false), ask(&[], "2001:db8::2", false), "one subscriber");
        assert_ne!(ask(&[], "2001:db8::1", false), ask(&[], "2001:db8:0:1::1", false));
        assert_eq!(one, ask(&[("x-client-id", "forged")], "10.0.0.1", false), "not believed without a key");
        let key = ("authorization", "Bearer k");
        assert_ne!(
            ask(&[key, ("x-client-id", "a")], "10.0.0.1", true),
            ask(&[key, ("x-client-id", "b")], "10.0.0.1", true)
        );
        assert_eq!(
            ask(&[key, ("x-client-id", "a")], "10.0.0.1", true),
            ask(&[key, ("x-client-id", "a")], "10.0.0.9", true)
        );
        for private in [("sec-gpc", "1"), ("dnt", "1")] {
            assert_eq!(ask(&[private], "10.0.0.1", false), None);
        }
        assert_eq!(ask(&[], "no address", false), None);
    }

    #[test]
    fn parameters_are_named_when_they_are_wrong() {
        let check = |text: &str| {
            let uri: Uri = format!("/v1/suggest?{text}").parse().expect("an address");
            parameters(&uri, ["q", "limit"])
        };
        assert_eq!(check("q=a%20b&limit=3").expect("good"), [Some("a b".into()), Some("3".into())]);
        assert_eq!(check("q=%ff").expect("lossy")[0].as_deref(), Some("\u{fffd}"));
        for (text, param) in [("q=a&lim=3", "lim"), ("q=a&q=b", "q")] {
            let body = check(text).expect_err("refused").body("r").error;
            assert_eq!(body.param.as_deref(), Some(param), "{text}");
        }
        assert_eq!(required(None).expect_err("refused").body("r").error.param.as_deref(), Some("q"));
    }
}
