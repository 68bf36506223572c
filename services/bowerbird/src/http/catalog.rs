//! Bookings: `/v1/advertisers`, `/v1/campaigns`, `/v1/ad_groups`, `/v1/ads`
//!
//! All four levels work alike. A booking carries its revision as `ETag`; `If-Match` makes a change depend on it. What a
//! call answers is what is stored; decisions follow within about a second.

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowerbird_ads::{Booked, Level, Review, ReviewDecision};

use crate::http::ads::engine;
use crate::http::json::read;
use crate::http::problem::Problem;
use crate::http::suggest::parameters;
use crate::http::{App, RequestId};
use crate::wire::catalog::{BookedPage, ReviewBody};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Bookings of a page when a call does not say.
const PAGE: usize = 100;
/// Most bookings of a page.
const MAX_PAGE: usize = 1000;

/// The handlers of a level, each with its description for the interface.
macro_rules! level {
    ($module:ident, $level:ident, $body:ident, $all:literal, $one:literal, $parent:literal,
     [$create:literal, $list:literal, $read:literal, $change:literal, $remove:literal]) => {
        #[doc = concat!("`", $all, "`")]
        pub mod $module {
            use axum::extract::{Path, Request, State};
            use axum::http::{HeaderMap, Uri};
            use axum::response::Response;
            use axum::{Extension, Json};
            use bowerbird_ads::Level;

            use crate::http::problem::Problem;
            use crate::http::{App, RequestId};
            use crate::wire::catalog::{BookedPage, $body};
            use crate::wire::error::ErrorBody;

            /// Book one. With the header `Idempotency-Key` the same call again within a day gets the same answer.
            #[utoipa::path(post, path = $all, operation_id = $create, request_body = $body,
                params(("idempotency-key" = Option<String>, Header)),
                responses(
                    (status = 201, body = $body), (status = 400, body = ErrorBody),
                    (status = 409, body = ErrorBody, description = "the id is taken"),
                    (status = 422, body = ErrorBody, description = "the key came with another body"),
                ))]
            pub async fn create(
                State(app): State<App>,
                headers: HeaderMap,
                request: Request,
            ) -> Result<Response, Problem> {
                super::create(Level::$level, $all, &app, &headers, request).await
            }

            /// List them in the order of ids.
            #[utoipa::path(get, path = $all, operation_id = $list,
                params(
                    ("limit" = Option<usize>, Query, description = "1 to 1000, 100 by default"),
                    ("cursor" = Option<String>, Query),
                    ($parent = Option<String>, Query, description = "only those of this parent"),
                ),
                responses((status = 200, body = BookedPage), (status = 400, body = ErrorBody)))]
            pub async fn list(
                State(app): State<App>,
                Extension(id): Extension<RequestId>,
                uri: Uri,
            ) -> Result<Json<BookedPage>, Problem> {
                super::list(Level::$level, &app, id, &uri).await
            }

            /// Read one.
            #[utoipa::path(get, path = $one, operation_id = $read, params(("id" = String, Path)),
                responses((status = 200, body = $body), (status = 404, body = ErrorBody)))]
            pub async fn read(State(app): State<App>, Path(id): Path<String>) -> Result<Response, Problem> {
                super::read_one(Level::$level, &app, &id).await
            }

            /// Change some fields: a merge patch (RFC 7396), checked together with those that stay.
            #[utoipa::path(patch, path = $one, operation_id = $change, request_body = Object,
                params(("id" = String, Path), ("if-match" = Option<String>, Header)),
                responses(
                    (status = 200, body = $body), (status = 400, body = ErrorBody),
                    (status = 404, body = ErrorBody), (status = 412, body = ErrorBody),
                ))]
            pub async fn change(
                State(app): State<App>,
                Path(id): Path<String>,
                headers: HeaderMap,
                request: Request,
            ) -> Result<Response, Problem> {
                super::change(Level::$level, &app, &id, &headers, request).await
            }

            /// Take it and everything below it out of service for good.
            #[utoipa::path(delete, path = $one, operation_id = $remove,
                params(("id" = String, Path), ("if-match" = Option<String>, Header)),
                responses(
                    (status = 200, body = $body), (status = 404, body = ErrorBody), (status = 412, body = ErrorBody),
                ))]
            pub async fn remove(
                State(app): State<App>,
                Path(id): Path<String>,
                headers: HeaderMap,
            ) -> Result<Response, Problem> {
                super::remove(Level::$level, &app, &id, &headers).await
            }

            /// Routes of all of them.
            pub fn all() -> axum::routing::MethodRouter<App> {
                axum::routing::get(list).post(create)
            }

            /// Routes of one.
            pub fn one() -> axum::routing::MethodRouter<App> {
                axum::routing::get(read).patch(change).delete(remove)
            }
        }
    };
}

level!(
    advertisers,
    Advertiser,
    Advertiser,
    "/v1/advertisers",
    "/v1/advertisers/{id}",
    "name",
    ["create_advertiser", "list_advertisers", "read_advertiser", "change_advertiser", "remove_advertiser"]
);
level!(
    campaigns,
    Campaign,
    Campaign,
    "/v1/campaigns",
    "/v1/campaigns/{id}",
    "advertiser",
    ["create_campaign", "list_campaigns", "read_campaign", "change_campaign", "remove_campaign"]
);
level!(
    ad_groups,
    AdGroup,
    AdGroup,
    "/v1/ad_groups",
    "/v1/ad_groups/{id}",
    "campaign",
    ["create_ad_group", "list_ad_groups", "read_ad_group", "change_ad_group", "remove_ad_group"]
);
level!(
    ads,
    Ad,
    Ad,
    "/v1/ads",
    "/v1/ads/{id}",
    "ad_group",
    ["create_ad", "list_ads", "read_ad", "change_ad", "remove_ad"]
);

async fn body(app: &App, request: Request) -> Result<String, Problem> {
    let bytes = read(request, app).await?;
    String::from_utf8(bytes.into()).map_err(|_| {
        Problem::invalid("malformed_json", "", "the body is not UTF-8: send JSON in that encoding")
    })
}

async fn create(
    level: Level,
    path: &str,
    app: &App,
    headers: &HeaderMap,
    request: Request,
) -> Result<Response, Problem> {
    let json = body(app, request).await?;
    let key = headers.get(IDEMPOTENCY_KEY).map(|value| {
        value.to_str().map_err(|_| {
            let message = "the idempotency key is not printable ASCII: send such as a UUID";
            Problem::invalid("invalid_field", "Idempotency-Key", message)
        })
    });
    let made = engine(app)?.create(level, &json, key.transpose()?).await?;
    let location = HeaderValue::from_str(&format!("{path}/{}", made.booked.id));
    let mut response = (StatusCode::CREATED, told(made.booked)).into_response();
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    if made.replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

async fn list(level: Level, app: &App, id: RequestId, uri: &Uri) -> Result<Json<BookedPage>, Problem> {
    let (limit, cursor, parent) = match level.parent() {
        None => {
            let [limit, cursor] = parameters(uri, ["limit", "cursor"])?;
            (limit, cursor, None)
        }
        Some(above) => {
            let [limit, cursor, parent] = parameters(uri, ["limit", "cursor", above.as_str()])?;
            (limit, cursor, parent)
        }
    };
    let limit = match limit {
        None => PAGE,
        Some(text) => text.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit)).ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            let message = format!("limit is {shown:?}, expected 1 to {MAX_PAGE}");
            Problem::invalid("limit_out_of_range", "limit", message)
        })?,
    };
    let after = match cursor {
        None => String::new(),
        Some(cursor) => {
            let bytes = URL_SAFE_NO_PAD.decode(cursor.as_bytes()).ok();
            bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| {
                Problem::invalid("invalid_cursor", "cursor", "this is no cursor of ours: start without one")
            })?
        }
    };
    let page = engine(app)?.list(level, parent.as_deref(), &after, limit).await?;
    let next = page.next.map(|id| URL_SAFE_NO_PAD.encode(id));
    Ok(Json(BookedPage::new(page.items, next, id.0)))
}

async fn read_one(level: Level, app: &App, id: &str) -> Result<Response, Problem> {
    Ok(told(engine(app)?.booked(level, id).await?))
}

async fn change(
    level: Level,
    app: &App,
    id: &str,
    headers: &HeaderMap,
    request: Request,
) -> Result<Response, Problem> {
    let expected = if_match(headers)?;
    let patch = body(app, request).await?;
    Ok(told(engine(app)?.change(level, id, &patch, expected).await?))
}

async fn remove(level: Level, app: &App, id: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    Ok(told(engine(app)?.remove(level, id, if_match(headers)?).await?))
}

/// Decide about an ad, above what the policy said; kept with who and when.
#[utoipa::path(post, path = "/v1/ads/{id}/review", request_body = ReviewBody, params(("id" = String, Path)),
    responses(
        (status = 200, body = crate::wire::catalog::Ad), (status = 400, body = crate::wire::error::ErrorBody),
        (status = 404, body = crate::wire::error::ErrorBody),
        (status = 409, body = crate::wire::error::ErrorBody, description = "the text has changed since"),
    ))]
pub async fn review(
    axum::extract::State(app): axum::extract::State<App>,
    axum::extract::Path(id): axum::extract::Path<String>,
    crate::http::json::JsonBody(body): crate::http::json::JsonBody<ReviewBody>,
) -> Result<Response, Problem> {
    let ReviewBody { state, reviewer, reason, topic, version } = body;
    let review = Review::parse(&state).ok_or_else(|| {
        let shown: String = state.chars().take(40).collect();
        let message = format!("state is {shown:?}, expected approved, under_review or disapproved");
        Problem::invalid("invalid_field", "state", message)
    })?;
    let decision = ReviewDecision { review, topic, reason, reviewer, version };
    Ok(told(engine(&app)?.review(&id, &decision).await?))
}

/// The booking with its revision.
fn told(booked: Booked) -> Response {
    let mut response = Json(booked.json).into_response();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", booked.revision)) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// The revision that a change depends on; `*` is any.
fn if_match(headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let tag = text.strip_prefix("W/").unwrap_or(text);
    let number = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).and_then(|tag| tag.parse().ok());
    number.map(Some).ok_or_else(|| {
        let message = "If-Match is no ETag of a booking: send one such as \"3\", quotes included";
        Problem::invalid("invalid_field", "If-Match", message)
    })
}
