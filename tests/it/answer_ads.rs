//! Ads below answers over HTTP: looked for while the answer is written, drawn when it is there, and explained.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode, header};
use bowerbird_auction::Micros;
use bowerbird_tests::{Fixture, call, fixture_with, post, post_json, stub_models, test_config};
use serde_json::{Value, json};
use tower::ServiceExt;

const QUERY: &str = "running shoes";
const SAYS: &str = "Light running shoes spare the knees.";

/// Posts that can be answered from, the demo's ads, and an answer that is shown one whenever one fits.
async fn market() -> Fixture {
    let mut config = test_config();
    config.ads.engine.segment.no_ad_micros = Micros(0);
    config.answer.cache_memory = bytesize::ByteSize(0);
    let posts = vec![
        post("a", "ann", "2014-05-01", "Light running shoes spare the knees of most runners"),
        post("b", "bob", "2014-05-02", "Runners like light running shoes with a wide toe box"),
    ];
    let fixture = fixture_with(config, stub_models(SAYS), posts).await;
    let ads = fixture.stack.ads.as_ref().expect("ads are on");
    ads.import_json(bowerbird::demo::ADS).await.expect("demo ads load");
    fixture
}

async fn get(app: &Router, path: &str) -> (StatusCode, Value) {
    call(app, Method::GET, path, Body::empty()).await
}

/// Names and data of the events of an answer.
async fn streamed(app: &Router) -> Vec<(String, Value)> {
    let body = json!({"q": QUERY, "stream": true, "ads": true}).to_string();
    let request = Request::post("/v1/answer").header(header::CONTENT_TYPE, "application/json");
    let request = request.body(Body::from(body)).expect("a request");
    let response = app.clone().oneshot(request).await.expect("routers do not fail");
    let bytes = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
    let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let field = |event: &str, name: &str| {
        event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
    };
    let events = text.split("\n\n").filter(|event| event.contains("event:"));
    events
        .map(|event| {
            let data = serde_json::from_str(&field(event, "data:")).unwrap_or(Value::Null);
            (field(event, "event:"), data)
        })
        .collect()
}

/// The block below an answer was drawn, with its probability, and runs again to the same.
async fn check_drawn(app: &Router, ads: &Value) {
    let block = &ads["blocks"][0];
    assert_eq!((&block["label"], &block["slot"]), (&json!("Sponsored"), &json!(1)), "{ads}");
    let auction = ads["auction_id"].as_str().expect("an id");
    let (status, why) = get(app, &format!("/v1/explain/{auction}")).await;
    assert_eq!(status, StatusCode::OK, "{why}");
    assert_eq!((&why["rules"]["mechanism"], &why["replay"]["same"]), (&json!("segment"), &json!(true)));
    assert_eq!(why["awards"][0]["ad"], block["ad_id"]);
    let propensity = why["propensity"].as_f64().expect("a number");
    assert!(propensity > 0.0 && propensity <= 1.0, "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ad_below_an_answer_is_drawn_after_it_and_explained() {
    let fixture = market().await;
    let app = &fixture.router;
    let (status, page) = post_json(app, "/v1/answer", json!({"q": QUERY, "ads": true})).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    assert!(!page["sentences"].as_array().expect("a list").is_empty(), "{page}");
    check_drawn(app, &page["ads"]).await;

    let events = streamed(app).await;
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    let (last, ad) = (names.len() - 1, names.iter().position(|name| *name == "ad"));
    assert_eq!((names[last], ad), ("done", Some(last - 1)), "{names:?}");
    check_drawn(app, &events[last - 1].1).await;

    // What stands on the page already is not drawn again.
    let there = page["ads"]["blocks"][0]["ad_id"].clone();
    for _ in 0..8 {
        let asked = json!({"q": QUERY, "ads": true, "beside_ads": [there]});
        let (_, page) = post_json(app, "/v1/answer", asked).await;
        let blocks = page["ads"]["blocks"].as_array().expect("a list");
        assert!(blocks.iter().all(|block| block["ad_id"] != there), "{page}");
    }
    let asked = json!({"q": QUERY, "ads": true, "beside_ads": vec!["a"; 17]});
    let (status, refused) = post_json(app, "/v1/answer", asked).await;
    assert_eq!((status.as_u16(), &refused["error"]["param"]), (400, &json!("beside_ads")), "{refused}");

    // A page of results ranks as before.
    let (_, page) = post_json(app, "/v1/search", json!({"q": QUERY, "ads": true})).await;
    let auction = page["ads"]["auction_id"].as_str().expect("an id");
    let (_, why) = get(app, &format!("/v1/explain/{auction}")).await;
    assert_eq!(why["rules"]["mechanism"], json!("vcg"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_rules_are_judged_or_refused_by_name() {
    let fixture = market().await;
    let app = &fixture.router;
    post_json(app, "/v1/answer", json!({"q": QUERY, "ads": true})).await;
    for (query, code, param) in [
        ("temperature=1", "log_too_short", "days"),
        ("days=31", "days_out_of_range", "days"),
        ("temprature=1", "invalid_query", "temprature"),
        ("days=some", "invalid_query", "days"),
    ] {
        let (status, answer) = get(app, &format!("/v1/ope?{query}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}: {answer}");
        let error = &answer["error"];
        assert_eq!(error["code"], json!(code), "{query}: {answer}");
        assert_eq!(error["param"].as_str().unwrap_or_default(), param, "{query}: {answer}");
    }
}
