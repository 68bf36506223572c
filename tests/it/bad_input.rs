//! What is refused says which field, what was found and what to do, and nothing is lost.

use axum::http::{Method, StatusCode};
use bowerbird_tests::{call, fixture, fixture_with, post, post_json, stub_models, test_config};
use serde_json::json;

/// Method, path, body, and the status, code and field of the answer.
type Case<'a> = (Method, &'a str, &'a str, u16, &'a str, Option<&'a str>);

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_has_its_envelope() {
    let fixture =
        fixture(stub_models(""), vec![post("a", "ann", "2015-01-01", "one post about sleep")]).await;
    let app = &fixture.router;
    let long = json!({"q": "x".repeat(5000)}).to_string();
    let huge = json!({"q": "x".repeat(1 << 20)}).to_string();
    let cases: [Case<'_>; 16] = [
        (Method::POST, "/v1/search", "{\"q\":", 400, "malformed_json", None),
        (Method::POST, "/v1/search", "[]", 400, "invalid_field", None),
        (Method::POST, "/v1/search", r#"{"q":"a","limt":3}"#, 400, "invalid_field", Some("limt")),
        (Method::POST, "/v1/search", r#"{"limit":3}"#, 400, "invalid_field", None),
        (Method::POST, "/v1/search", r#"{"q":"  "}"#, 400, "empty_query", Some("q")),
        (Method::POST, "/v1/search", &long, 400, "query_too_long", Some("q")),
        (Method::POST, "/v1/search", &huge, 413, "body_too_large", None),
        (Method::POST, "/v1/search", r#"{"q":"a","limit":0}"#, 400, "limit_out_of_range", Some("limit")),
        (Method::POST, "/v1/search", r#"{"q":"a","limit":101}"#, 400, "limit_out_of_range", Some("limit")),
        (
            Method::POST,
            "/v1/search",
            r#"{"q":"a","filter":"since:never"}"#,
            400,
            "invalid_filter",
            Some("filter"),
        ),
        (Method::POST, "/v1/search", r#"{"q":"a","facets":["text"]}"#, 400, "unknown_facet", Some("facets")),
        (Method::POST, "/v1/search", r#"{"q":"a","cursor":"zzz"}"#, 400, "invalid_cursor", Some("cursor")),
        (Method::POST, "/v1/answer", r#"{"q":"from:ann"}"#, 400, "empty_query", Some("q")),
        (Method::POST, "/v1/posts", "\n\n", 400, "empty_body", None),
        (Method::GET, "/v1/nothing", "", 404, "unknown_route", None),
        (Method::GET, "/v1/search", "", 405, "method_not_allowed", None),
    ];
    for (method, path, body, status, code, param) in cases {
        let shown = format!("{method} {path} {}", &body[..body.len().min(60)]);
        let (got, envelope) = call(app, method, path, body.to_owned()).await;
        let error = &envelope["error"];
        assert_eq!((got.as_u16(), error["code"].as_str()), (status, Some(code)), "{shown}: {envelope}");
        if param.is_some() {
            assert_eq!(error["param"].as_str(), param, "{shown}: {envelope}");
        }
        assert!(error["message"].as_str().is_some_and(|m| !m.is_empty()), "{shown}");
        assert_eq!(error["request_id"].as_str().map(str::len), Some(36), "{shown}");
    }
    let (status, _) = call(app, Method::GET, "/v1/posts/a", "").await;
    assert_eq!(status, StatusCode::OK, "nothing was lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_too_long_is_refused_and_its_neighbours_are_kept() {
    let fixture = fixture(stub_models(""), Vec::new()).await;
    let line = |id: &str, text: &str| {
        json!({"id": id, "text": text, "created_at": "2015-01-01T00:00:00Z"}).to_string()
    };
    let body = [line("a", "fine"), line("b", &"x".repeat(10 << 20)), line("c", "fine too")].join("\n");
    let (status, report) = call(&fixture.router, Method::POST, "/v1/posts", body).await;
    assert_eq!(status, StatusCode::OK, "{report}");
    assert_eq!(report["items"][1]["status"], "refused");
    for (id, status) in [("a", StatusCode::OK), ("b", StatusCode::NOT_FOUND), ("c", StatusCode::OK)] {
        assert_eq!(call(&fixture.router, Method::GET, &format!("/v1/posts/{id}"), "").await.0, status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_v1_and_nothing_else_asks_for_one() {
    let mut config = test_config();
    config.server.api_keys = vec!["0123456789abcdef".into()];
    let fixture = fixture_with(config, stub_models(""), Vec::new()).await;
    let (status, body) = post_json(&fixture.router, "/v1/search", json!({"q": "a"})).await;
    assert_eq!((status, body["error"]["type"].as_str()), (StatusCode::UNAUTHORIZED, Some("auth")));
    assert_eq!(call(&fixture.router, Method::GET, "/healthz", "").await.0, StatusCode::OK);
    assert_eq!(call(&fixture.router, Method::GET, "/", "").await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_interface_describes_itself() {
    let fixture = fixture(stub_models(""), Vec::new()).await;
    let (status, interface) = call(&fixture.router, Method::GET, "/openapi.json", "").await;
    assert_eq!(status, StatusCode::OK);
    for path in [
        "/v1/search",
        "/v1/suggest",
        "/v1/answer",
        "/v1/answer/{stream}",
        "/v1/chat/completions",
        "/v1/decide",
        "/v1/embeddings",
        "/v1/rerank",
        "/v2/rerank",
        "/rerank",
        "/v1/posts",
        "/v1/posts/{id}",
        "/e/c/{token}",
        "/metrics",
    ] {
        assert!(interface["paths"][path].is_object(), "{path} is missing");
    }
    let (status, ready) = call(&fixture.router, Method::GET, "/readyz", "").await;
    assert_eq!((status, ready["status"].as_str()), (StatusCode::OK, Some("ready")));
}
