//! Bookings over HTTP.

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use bowerbird::config::Config;
use bowerbird_ads::Level;
use bowerbird_tests::{Fixture, call, fixture, fixture_with, post_json, stub_models, test_config};
use serde_json::{Value, json};
use tower::ServiceExt;

/// One call with headers: status, headers and body.
async fn send(
    fixture: &Fixture,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> (StatusCode, HeaderMap, Value) {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let response =
        fixture.router.clone().oneshot(request.body(body).expect("a request")).await.expect("answers");
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = to_bytes(response.into_body(), 64 << 20).await.expect("a body");
    (status, headers, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).map_or("", |value| value.to_str().expect("text"))
}

/// Code, field and status of an error.
fn refusal(answer: &(StatusCode, HeaderMap, Value)) -> (u16, &str, &str) {
    let error = &answer.2["error"];
    (
        answer.0.as_u16(),
        error["code"].as_str().unwrap_or_default(),
        error["param"].as_str().unwrap_or_default(),
    )
}

/// Advertiser `adv`, campaign `camp`, ad group `grp` and ad `ad`.
async fn booked() -> Fixture {
    booked_with(test_config()).await
}

/// The same with another configuration.
pub async fn booked_with(config: Config) -> Fixture {
    let fixture = fixture_with(config, stub_models(""), Vec::new()).await;
    for (path, body) in [
        ("/v1/advertisers", json!({"id": "adv", "name": "Acme"})),
        (
            "/v1/campaigns",
            json!({"id": "camp", "advertiser": "adv", "name": "C", "daily_budget_micros": 9_000_000, "currency": "USD"}),
        ),
        (
            "/v1/ad_groups",
            json!({"id": "grp", "campaign": "camp", "bid_micros": 900_000,
                "keywords": [{"text": "kettle", "match_type": "exact"}]}),
        ),
        ("/v1/ads", ad("ad")),
    ] {
        let (status, body) = post_json(&fixture.router, path, body).await;
        assert_eq!(status, StatusCode::CREATED, "{path}: {body}");
    }
    fixture
}

fn ad(id: &str) -> Value {
    json!({
        "id": id, "ad_group": "grp", "headline": "The kettle", "text": "Kettle kettle kettle.",
        "landing_url": "https://kettle.example/",
    })
}

#[tokio::test]
async fn a_booking_is_created_read_listed_changed_and_removed() {
    let fixture = booked().await;
    let answer = send(&fixture, Method::POST, "/v1/ads", &[], &ad("second")).await;
    assert_eq!(answer.0, StatusCode::CREATED, "{}", answer.2);
    assert_eq!((header(&answer.1, "location"), header(&answer.1, "etag")), ("/v1/ads/second", "\"1\""));
    assert_eq!(
        (&answer.2["display_url"], &answer.2["review"]),
        (&json!("kettle.example"), &json!({"state": "approved"}))
    );

    let read = send(&fixture, Method::GET, "/v1/ads/second", &[], &Value::Null).await;
    assert_eq!((read.0, header(&read.1, "etag"), &read.2), (StatusCode::OK, "\"1\"", &answer.2));

    let page = send(&fixture, Method::GET, "/v1/ads?ad_group=grp&limit=1", &[], &Value::Null).await.2;
    assert_eq!(page["items"][0]["id"], "ad", "{page}");
    let next = format!("/v1/ads?ad_group=grp&limit=1&cursor={}", page["next_cursor"].as_str().expect("more"));
    let page = send(&fixture, Method::GET, &next, &[], &Value::Null).await.2;
    assert_eq!((&page["items"][0]["id"], page.get("next_cursor")), (&json!("second"), None), "{page}");

    let patch = json!({"headline": "Another kettle"});
    let changed = send(&fixture, Method::PATCH, "/v1/ads/second", &[("if-match", "\"1\"")], &patch).await;
    assert_eq!(
        (changed.0, header(&changed.1, "etag"), &changed.2["version"]),
        (StatusCode::OK, "\"2\"", &json!(2))
    );
    let stale = send(&fixture, Method::PATCH, "/v1/ads/second", &[("if-match", "\"1\"")], &patch).await;
    assert_eq!(refusal(&stale), (412, "stale_revision", "If-Match"));
    let stale =
        send(&fixture, Method::DELETE, "/v1/ads/second", &[("if-match", "\"1\"")], &Value::Null).await;
    assert_eq!(refusal(&stale), (412, "stale_revision", "If-Match"));
    let wrong = send(&fixture, Method::DELETE, "/v1/ads/second", &[("if-match", "2")], &Value::Null).await;
    assert_eq!(refusal(&wrong), (400, "invalid_field", "If-Match"));

    let removed =
        send(&fixture, Method::DELETE, "/v1/ads/second", &[("if-match", "\"2\"")], &Value::Null).await;
    assert_eq!((removed.0, &removed.2["status"]), (StatusCode::OK, &json!("removed")));
    let again = send(&fixture, Method::DELETE, "/v1/ads/second", &[], &Value::Null).await;
    assert_eq!(refusal(&again), (404, "booking_not_found", ""));
    let page = send(&fixture, Method::GET, "/v1/ads", &[], &Value::Null).await.2;
    assert_eq!(page["items"].as_array().map(Vec::len), Some(1), "{page}");
}

#[tokio::test]
async fn what_is_booked_is_served_and_what_is_removed_is_not() {
    let fixture = booked().await;
    let engine = fixture.stack.ads.clone().expect("ads are on");
    let served = async || {
        engine.in_force().await.expect("reads");
        let (status, slate) = post_json(&fixture.router, "/v1/decide", json!({"q": "kettle"})).await;
        assert_eq!(status, StatusCode::OK, "{slate}");
        slate["blocks"].as_array().map(Vec::len)
    };
    assert_eq!(served().await, Some(1));
    let (status, _) = call(&fixture.router, Method::DELETE, "/v1/advertisers/adv", "").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(served().await, Some(0));
}

#[tokio::test]
async fn every_problem_is_named_at_once() {
    let fixture = booked().await;
    let body = json!({
        "id": "x", "advertiser": "nobody", "name": " ", "daily_budget_micros": -5, "currency": "XXX", "endz": "2026-01-01",
        "frequency_cap": {"impressions": 300, "hours": 24},
    });
    let answer = send(&fixture, Method::POST, "/v1/campaigns", &[], &body).await;
    assert_eq!(refusal(&answer), (400, "invalid_ads", "endz"));
    let error = &answer.2["error"];
    let params: Vec<&str> =
        error["problems"].as_array().expect("a list").iter().filter_map(|p| p["param"].as_str()).collect();
    assert_eq!(params, ["endz", "name", "daily_budget_micros", "currency", "frequency_cap.impressions"]);
    assert!(error["message"].as_str().is_some_and(|m| m.contains("did you mean ends?")), "{error}");
    assert_eq!(error["problems"][2]["found"], "-5");
    for (method, path, body, expected) in [
        (Method::POST, "/v1/ads", json!([]), (400, "invalid_ads", "$")),
        (Method::POST, "/v1/ads", json!({"id": "ad"}), (400, "invalid_ads", "ad_group")),
        (Method::POST, "/v1/ads", ad("ad"), (409, "id_taken", "id")),
        (
            Method::PATCH,
            "/v1/ads/ad",
            json!({"landing_url": "http://kettle.example"}),
            (400, "invalid_ads", "landing_url"),
        ),
        (Method::PATCH, "/v1/ads/nobody", json!({}), (404, "booking_not_found", "")),
        (Method::GET, "/v1/ads/nobody", Value::Null, (404, "booking_not_found", "")),
        (Method::GET, "/v1/ads?limit=0", Value::Null, (400, "limit_out_of_range", "limit")),
        (Method::GET, "/v1/ads?campaign=camp", Value::Null, (400, "unknown_parameter", "campaign")),
        (Method::GET, "/v1/ads?cursor=%21", Value::Null, (400, "invalid_cursor", "cursor")),
        (Method::PUT, "/v1/ads/ad", json!({}), (405, "method_not_allowed", "")),
    ] {
        let answer = send(&fixture, method, path, &[], &body).await;
        assert_eq!(refusal(&answer), expected, "{path}: {}", answer.2);
    }
    let (status, body) = call(&fixture.router, Method::POST, "/v1/ads", vec![0xff, 0xfe]).await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::BAD_REQUEST, &json!("malformed_json")));
}

#[tokio::test]
async fn an_idempotency_key_answers_again_and_refuses_another_body() {
    let fixture = booked().await;
    let key = [("idempotency-key", "0b7e")];
    let first = send(&fixture, Method::POST, "/v1/ads", &key, &ad("once")).await;
    let second = send(&fixture, Method::POST, "/v1/ads", &key, &ad("once")).await;
    assert_eq!((first.0, second.0), (StatusCode::CREATED, StatusCode::CREATED));
    assert_eq!(first.2, second.2);
    assert_eq!(header(&first.1, "idempotency-replayed"), "");
    assert_eq!((header(&second.1, "idempotency-replayed"), header(&second.1, "etag")), ("true", "\"1\""));
    let other = send(&fixture, Method::POST, "/v1/ads", &key, &ad("twice")).await;
    assert_eq!(refusal(&other), (422, "idempotency_key_reused", "Idempotency-Key"));
    let empty = send(&fixture, Method::POST, "/v1/ads", &[("idempotency-key", "")], &ad("twice")).await;
    assert_eq!(refusal(&empty), (400, "invalid_ads", "Idempotency-Key"));
}

#[tokio::test]
async fn an_operator_reviews_an_ad() {
    let fixture = booked().await;
    let mut claim = ad("claim");
    claim["text"] = json!("This kettle cures cancer!");
    let (status, made) = post_json(&fixture.router, "/v1/ads", claim).await;
    assert_eq!((status, &made["review"]["state"]), (StatusCode::CREATED, &json!("disapproved")), "{made}");
    assert_eq!(made["review"]["topic"], "health_claims");
    let review = async |body: Value| send(&fixture, Method::POST, "/v1/ads/claim/review", &[], &body).await;
    let approved = review(json!({"state": "approved", "reviewer": "Mina", "version": 1})).await;
    assert_eq!((approved.0, &approved.2["review"]), (StatusCode::OK, &json!({"state": "approved"})));
    for (body, expected) in [
        (json!({"state": "fine", "reviewer": "Mina"}), (400, "invalid_field", "state")),
        (json!({"state": "approved", "reviewer": " "}), (400, "invalid_ads", "reviewer")),
        (json!({"state": "disapproved", "reviewer": "Mina"}), (400, "invalid_ads", "reason")),
        (json!({"state": "approved", "reviewer": "Mina", "version": 7}), (409, "stale_version", "version")),
        (json!({"state": "approved", "revewer": "Mina"}), (400, "invalid_field", "revewer")),
    ] {
        assert_eq!(refusal(&review(body).await), expected);
    }
    let body = json!({"state": "approved", "reviewer": "M"});
    let absent = send(&fixture, Method::POST, "/v1/ads/no/review", &[], &body).await;
    assert_eq!(refusal(&absent), (404, "booking_not_found", ""));
}

#[tokio::test]
async fn bookings_need_the_key_that_writing_needs() {
    let mut config = test_config();
    config.server.api_keys = vec!["a-key-that-is-long-enough".into()];
    let fixture = fixture_with(config, stub_models(""), Vec::new()).await;
    for (method, path) in [
        (Method::POST, "/v1/advertisers"),
        (Method::GET, "/v1/campaigns"),
        (Method::PATCH, "/v1/ad_groups/x"),
        (Method::DELETE, "/v1/ads/x"),
        (Method::POST, "/v1/ads/x/review"),
    ] {
        let answer = send(&fixture, method, path, &[], &json!({})).await;
        assert_eq!(refusal(&answer), (401, "unauthorized", ""), "{path}");
    }
    let key = [("authorization", "Bearer a-key-that-is-long-enough")];
    let answer =
        send(&fixture, Method::POST, "/v1/advertisers", &key, &json!({"id": "a", "name": "A"})).await;
    assert_eq!(answer.0, StatusCode::CREATED, "{}", answer.2);
}

#[tokio::test]
async fn the_interface_describes_the_fields_that_are_read() {
    let fixture = fixture(stub_models(""), Vec::new()).await;
    let (_, api) = call(&fixture.router, Method::GET, "/openapi.json", "").await;
    for (level, schema, path) in [
        (Level::Advertiser, "Advertiser", "/v1/advertisers/{id}"),
        (Level::Campaign, "Campaign", "/v1/campaigns/{id}"),
        (Level::AdGroup, "AdGroup", "/v1/ad_groups/{id}"),
        (Level::Ad, "Ad", "/v1/ads/{id}"),
    ] {
        let properties = api["components"]["schemas"][schema]["properties"].as_object().expect("a schema");
        let mut described: Vec<&str> = properties.keys().map(String::as_str).collect();
        let mut read = level.fields();
        described.sort_unstable();
        read.sort_unstable();
        assert_eq!(described, read, "{schema}");
        for method in ["get", "patch", "delete"] {
            assert!(api["paths"][path][method]["operationId"].is_string(), "{method} {path}");
        }
    }
    let ids: Vec<&str> = api["paths"]
        .as_object()
        .expect("paths")
        .values()
        .flat_map(|path| path.as_object().into_iter().flat_map(|path| path.values()))
        .filter_map(|operation| operation["operationId"].as_str())
        .collect();
    assert!(ids.contains(&"create_campaign"), "{ids:?}");
}
