//! The sample queries that defeat plain words, with the real models on real posts.

use axum::http::Method;
use bowerbird_search::SearchRequest;
use bowerbird_tests::{call, post_json};
use serde_json::{Value, json};

use crate::support::{demo_router, demo_stack};

/// Whether one of the first three texts holds one of `words`.
async fn check(q: &str, words: &[&str]) {
    let stack = demo_stack().await;
    let page = stack.engine.search(&SearchRequest::new(q)).await.expect("a page");
    let texts: Vec<String> = page.hits.iter().take(3).map(|hit| hit.post.text.to_lowercase()).collect();
    assert!(texts.iter().any(|text| words.iter().any(|word| text.contains(word))), "{q}: {texts:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn meaning_is_found_where_words_differ() {
    check("can't nod off at night", &["sleep", "insomnia"]).await;
    check("my head is throbbing", &["headache", "migraine"]).await;
    check("shoes for jogging", &["running shoe", "barefoot", "sneaker", "run"]).await;
    check("office job aching spine", &["back pain", "desk", "posture", "sitting"]).await;
    check("are vaping devices safe for teenagers", &["e-cig", "vaping", "vape"]).await;
    check("gadgets that count your steps", &["tracker", "fitbit", "pedometer", "wearable", "step"]).await;
    check("kids not getting their shots", &["vaccin", "measles", "immuniz"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exact_names_are_found() {
    check("Amber Vinson", &["vinson", "nurse"]).await;
    check("new york large soda ban", &["soda"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_quotes_what_it_cites() {
    let app = demo_router().await;
    let (_, answer) =
        post_json(&app, "/v1/answer", json!({"q": "Does coffee lower the risk of disease?"})).await;
    let sentences = answer["sentences"].as_array().expect("sentences");
    assert!(!sentences.is_empty(), "{answer}");
    for sentence in sentences {
        assert_eq!(sentence["verdict"], "supported", "{sentence}");
        let citations = sentence["citations"].as_array().expect("citations");
        assert!(!citations.is_empty(), "{sentence}");
        for citation in citations {
            let source =
                answer["sources"].as_array().expect("sources").iter().find(|s| s["n"] == citation["n"]);
            let text = source.and_then(|s| s["text"].as_str()).expect("the cited post is among the sources");
            assert!(text.contains(citation["quote"].as_str().expect("a quote")), "{citation} in {text}");
        }
    }
    let (_, refused) =
        post_json(&app, "/v1/answer", json!({"q": "What is the capital of the moon base Zanzibar?"})).await;
    assert_eq!(refused["finish_reason"], "refused_no_evidence", "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_tells_the_same_answer() {
    let app = demo_router().await;
    let q = "Is barefoot running better?";
    let (_, whole) = post_json(&app, "/v1/answer", json!({"q": q})).await;
    let events = events(&app, json!({"q": q, "stream": true, "ads": true})).await;
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names[0], names[1], names.last()), ("meta", "sources", Some(&"done")), "{names:?}");
    let streamed: Vec<&str> =
        events.iter().filter(|e| e.0 == "delta").filter_map(|e| e.1["text"].as_str()).collect();
    let told: Vec<&str> =
        whole["sentences"].as_array().expect("sentences").iter().filter_map(|s| s["text"].as_str()).collect();
    assert_eq!(streamed, told);
}

async fn events(app: &axum::Router, body: Value) -> Vec<(String, Value)> {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;
    let request = Request::post("/v1/answer").body(Body::from(body.to_string())).expect("a request");
    let response = app.clone().oneshot(request).await.expect("answers");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let bytes = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
    let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let mut events = Vec::new();
    for block in text.split("\n\n") {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if let (Some(name), Some(data)) = (field("event:"), field("data:")) {
            assert!(field("id:").is_some(), "{block}");
            events.push((name.to_owned(), serde_json::from_str(data).expect("JSON")));
        }
    }
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_shows_every_stage_and_metrics_count_them() {
    let app = demo_router().await;
    let (_, page) = post_json(
        &app,
        "/v1/search",
        json!({"q": "office job aching spine", "explain": true, "facets": ["author", "tags"]}),
    )
    .await;
    let scores = &page["hits"][0]["scores"];
    for stage in ["lexical", "vector", "fused", "rerank", "final"] {
        assert!(scores[stage].is_number(), "{stage}: {page}");
    }
    for stage in ["lexical", "embed", "vector", "fuse", "rerank"] {
        assert!(page["stages_ms"][stage].is_number(), "{stage}: {page}");
    }
    assert!(page["facets"]["author"].as_array().is_some_and(|values| !values.is_empty()), "{page}");
    assert!(page["hits"].as_array().expect("hits").iter().any(|hit| hit["highlights"] != json!([])));
    let (status, _) = call(&app, Method::GET, "/metrics", "").await;
    assert!(status.is_success());
}
