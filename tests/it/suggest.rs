//! Suggestions over HTTP: what is typed, what others asked, and who may know.

use std::net::SocketAddr;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{Method, Request, StatusCode, header};
use bowerbird_tests::{call, fixture, fixture_with, post, post_json, stub_models, test_config};
use serde_json::{Value, json};
use tower::ServiceExt;

fn posts() -> Vec<bowerbird_posts::Post> {
    let texts = [
        "Nasal spray against flu",
        "Spare time with @CDC",
        "Sleep tips for nurses #Sleep",
        "#SleepWell tonight",
        "Un café crème",
    ];
    let post = |(n, text): (usize, &&str)| post(&n.to_string(), "ann", "2015-01-01", text);
    texts.iter().enumerate().map(post).collect()
}

async fn suggest(app: &Router, query: &str) -> Vec<Value> {
    let (status, page) = call(app, Method::GET, &format!("/v1/suggest?{query}"), "").await;
    assert_eq!(status, StatusCode::OK, "{query}: {page}");
    assert!(page["took_ms"].as_f64().is_some_and(|ms| ms >= 0.0), "{page}");
    page["suggestions"].as_array().expect("suggestions").clone()
}

async fn texts(app: &Router, query: &str) -> Vec<String> {
    let found = suggest(app, query).await;
    found.iter().map(|suggestion| suggestion["text"].as_str().expect("a text").to_owned()).collect()
}

/// A search by the person at `address`, with more headers.
async fn search_from(app: &Router, address: &str, q: &str, headers: &[(&str, &str)]) -> StatusCode {
    let mut request = Request::builder().method(Method::POST).uri("/v1/search");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(json!({"q": q}).to_string()))
        .expect("a request");
    let address: SocketAddr = address.parse().expect("an address");
    request.extensions_mut().insert(ConnectInfo(address));
    let response = app.clone().oneshot(request).await.expect("routers do not fail");
    let status = response.status();
    to_bytes(response.into_body(), 1 << 20).await.expect("a body");
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn words_tags_and_accounts_are_completed() {
    let fixture = fixture(stub_models(""), posts()).await;
    let app = &fixture.router;
    let found = suggest(app, "q=nasal%20SP").await;
    assert_eq!(found, [json!({"text": "nasal spray", "kind": "word", "highlight": 8, "posts": 1})]);
    assert_eq!(texts(app, "q=%23sl").await, ["#sleep", "#sleepwell"]);
    assert_eq!(texts(app, "q=%23sl&limit=1").await, ["#sleep"]);
    assert_eq!(texts(app, "q=%40").await, ["@cdc"]);
    assert_eq!(texts(app, "q=caf").await, ["café"]);
    for nothing in ["q=", "q=%20", "q=%00", "q=%ff%fe", "q=%F0%9F%98%80", "q=zzz", "q=a%20OR%20(", "q=%22"] {
        assert_eq!(texts(app, nothing).await, Vec::<String>::new(), "{nothing}");
    }
    let (status, _) = call(app, Method::DELETE, "/v1/posts/0", "").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(texts(app, "q=nas").await, Vec::<String>::new(), "gone with the only post");
    let metrics = app.clone().oneshot(Request::get("/metrics").body(Body::empty()).expect("a request")).await;
    assert_eq!(metrics.expect("metrics").status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_parameters_are_named() {
    let fixture = fixture(stub_models(""), posts()).await;
    let long = format!("q={}", "a".repeat(513));
    for (method, path, query, code, param) in [
        (Method::GET, "/v1/suggest", "", "missing_parameter", "q"),
        (Method::GET, "/v1/suggest", "q=a&limit=0", "limit_out_of_range", "limit"),
        (Method::GET, "/v1/suggest", "q=a&limit=21", "limit_out_of_range", "limit"),
        (Method::GET, "/v1/suggest", "q=a&limit=x", "invalid_field", "limit"),
        (Method::GET, "/v1/suggest", "q=a&prefix=b", "unknown_parameter", "prefix"),
        (Method::GET, "/v1/suggest", "q=a&q=b", "repeated_parameter", "q"),
        (Method::GET, "/v1/suggest", long.as_str(), "query_too_long", "q"),
        (Method::DELETE, "/v1/suggest/queries", "", "missing_parameter", "q"),
    ] {
        let (status, body) = call(&fixture.router, method, &format!("{path}?{query}"), "").await;
        let error = &body["error"];
        let found = (status, error["code"].as_str(), error["param"].as_str());
        assert_eq!(found, (StatusCode::BAD_REQUEST, Some(code), Some(param)), "{path}?{query}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_past_query_is_shown_when_five_people_have_asked_it() {
    let fixture = fixture(stub_models(""), posts()).await;
    let app = &fixture.router;
    for person in 1..=4 {
        let address = format!("10.0.0.{person}:4000");
        assert_eq!(search_from(app, &address, "Sleep  tips", &[]).await, StatusCode::OK);
    }
    for _ in 0..20 {
        search_from(app, "10.0.0.1:5000", "sleep tips", &[]).await;
        // Ones who forbid it, and one who makes up names, are nobody.
        search_from(app, "10.0.0.7:1", "sleep tips", &[("sec-gpc", "1")]).await;
        search_from(app, "10.0.0.8:1", "sleep tips", &[("dnt", "1")]).await;
        search_from(app, "10.0.0.1:6000", "sleep tips", &[("x-client-id", "made up")]).await;
    }
    assert_eq!(texts(app, "q=sle").await, ["sleep", "sleepwell"]);
    search_from(app, "10.0.0.5:4000", "sleep tips", &[]).await;
    let found = suggest(app, "q=sle").await;
    assert_eq!(found[0], json!({"text": "sleep tips", "kind": "query", "highlight": 3, "posts": 1}));
    // What has no result is not learned, however many ask.
    for person in 1..=9 {
        search_from(app, &format!("10.0.1.{person}:4000"), "qqqq zzzz", &[]).await;
    }
    assert_eq!(texts(app, "q=qqqq").await, Vec::<String>::new());

    let (status, body) = call(app, Method::DELETE, "/v1/suggest/queries?q=Sleep%20tips", "").await;
    assert_eq!((status, &body["forgotten"]), (StatusCode::OK, &json!(true)));
    assert_eq!(texts(app, "q=sle").await, ["sleep", "sleepwell"]);
    let (_, body) = call(app, Method::DELETE, "/v1/suggest/queries?q=Sleep%20tips", "").await;
    assert_eq!(body["forgotten"], json!(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_names_its_people_by_header() {
    let mut config = test_config();
    config.server.api_keys = vec!["a key of the platform".into()];
    config.suggest.min_clients = 3;
    let fixture = fixture_with(config, stub_models(""), posts()).await;
    let key = ("authorization", "Bearer a key of the platform");
    for person in ["u1", "u2", "u1", "u1"] {
        let headers = [key, ("x-client-id", person)];
        assert_eq!(search_from(&fixture.router, "10.0.0.1:1", "sleep tips", &headers).await, StatusCode::OK);
    }
    let log = fixture.stack.suggester.log();
    assert_eq!(log.proven(), 0);
    search_from(&fixture.router, "10.0.0.1:1", "sleep tips", &[key, ("x-client-id", "u3")]).await;
    assert_eq!(log.proven(), 1);
    let (status, _) = call(&fixture.router, Method::GET, "/v1/suggest?q=a", "").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistyped_word_is_put_right_on_the_first_page_only() {
    let text = |n: usize| format!("nasal spray against flu, number {n}");
    let posts = (0..12).map(|n| post(&n.to_string(), "ann", "2015-01-01", &text(n))).collect();
    let fixture = fixture(stub_models(""), posts).await;
    let search = async |body: Value| post_json(&fixture.router, "/v1/search", body).await.1;
    let page = search(json!({"q": "nasal sprya -kids", "limit": 1})).await;
    let meant = json!({"text": "nasal spray -kids", "changed": [{"from": "sprya", "to": "spray"}]});
    assert_eq!(page["did_you_mean"], meant, "{page}");
    let next = search(json!({"q": "nasal sprya -kids", "limit": 1, "cursor": page["next_cursor"]})).await;
    assert_eq!(
        (next["hits"].as_array().map(Vec::len), &next["did_you_mean"]),
        (Some(1), &Value::Null),
        "{next}"
    );
    assert_eq!(search(json!({"q": "nasal spray"})).await["did_you_mean"], Value::Null);
    let failed = search(json!({"q": ""})).await;
    assert_eq!(failed["error"]["code"], "empty_query", "{failed}");
}
