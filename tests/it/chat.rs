//! `POST /v1/chat/completions` in the shape of OpenAI, streamed and whole, with stub models.

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use bowerbird_tests::{Fixture, call, fixture, post, post_json, stub_models};
use serde_json::{Value, json};
use std::sync::Arc;

use crate::support::{Copying, Sent, read_events};

const PATH: &str = "/v1/chat/completions";

async fn posts() -> Fixture {
    let mut coffee =
        post("coffee 1", "ann", "2014-01-01", "Coffee lowers the risk of liver disease in adults");
    coffee.links = vec!["https://example.org/coffee".into()];
    let posts = vec![
        coffee,
        post("coffee-2", "bob", "2014-02-01", "Coffee lowers the risk of kidney disease in children"),
        post("shoes", "eve", "2014-03-01", "Running shoes are on sale ☕ today"),
    ];
    let mut models = stub_models("");
    models.generator = Some(Arc::new(Copying::default()));
    fixture(models, posts).await
}

async fn chunks(app: &Router, body: Value) -> Vec<Value> {
    let request = Request::post(PATH).body(Body::from(body.to_string())).expect("a request");
    read_events(app, request).await.into_iter().map(|Sent { data, .. }| data).collect()
}

fn part(text: &Value, start: &Value, end: &Value) -> String {
    let (start, end) = (start.as_u64().expect("a place"), end.as_u64().expect("a place"));
    text.as_str().expect("text").chars().skip(start as usize).take((end - start) as usize).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_has_the_shape_of_openai_and_its_spans_are_right() {
    let fixture = posts().await;
    // What clients send besides is taken.
    let body = json!({
        "model": "bowerbird", "temperature": 0.2, "max_tokens": 100, "user": "u", "tools": [], "n": 1,
        "metadata": {"a": 1}, "stop": null, "stream": null, "response_format": {"type": "text"},
        "messages": [
            {"role": "system", "content": "You are helpful."},
            {"role": "user", "content": [{"type": "text", "text": "coffee risk of liver disease"}], "name": "x"},
        ],
    });
    let (status, reply) = post_json(&fixture.router, PATH, body).await;
    assert_eq!(status, StatusCode::OK, "{reply}");
    assert_eq!((&reply["object"], &reply["model"]), (&json!("chat.completion"), &json!("bowerbird")));
    assert!(reply["id"].as_str().is_some_and(|id| id.starts_with("chatcmpl-")), "{reply}");
    assert!(reply["created"].as_i64().is_some_and(|at| at > 1_700_000_000), "{reply}");
    let choice = &reply["choices"][0];
    assert_eq!((&choice["finish_reason"], &choice["message"]["role"]), (&json!("stop"), &json!("assistant")));
    let content = &choice["message"]["content"];
    let annotations = choice["message"]["annotations"].as_array().expect("annotations");
    assert!(annotations.len() >= 2, "{reply}");
    for (annotation, citation) in annotations.iter().zip(reply["citations"].as_array().expect("citations")) {
        assert_eq!(annotation["type"], "url_citation");
        let note = &annotation["url_citation"];
        let sentence = part(content, &note["start_index"], &note["end_index"]);
        assert!(sentence.starts_with("Coffee lowers") && !sentence.contains('['), "{sentence:?}");
        assert_eq!(sentence, part(content, &citation["answer_start"], &citation["answer_end"]));
        let results = reply["search_results"].as_array().expect("results");
        let result = results.iter().find(|result| result["n"] == citation["n"]).expect("a result");
        assert_eq!(part(&result["text"], &citation["start"], &citation["end"]), citation["quote"]);
        assert_eq!((&result["url"], &result["title"]), (&note["url"], &note["title"]));
    }
    let urls: Vec<&str> = annotations.iter().filter_map(|a| a["url_citation"]["url"].as_str()).collect();
    assert!(urls.contains(&"https://example.org/coffee") && urls.contains(&"/v1/posts/coffee-2"), "{urls:?}");
    let usage = &reply["usage"];
    assert_eq!(
        usage["total_tokens"].as_u64(),
        Some(
            usage["prompt_tokens"].as_u64().expect("tokens")
                + usage["completion_tokens"].as_u64().expect("tokens")
        )
    );
    assert!(usage["total_tokens"].as_u64() > Some(0), "{usage}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chunks_of_a_stream_are_the_same_reply() {
    let fixture = posts().await;
    let mut body = json!({"messages": [{"role": "user", "content": "coffee risk of liver disease"}]});
    let (_, whole) = post_json(&fixture.router, PATH, body.clone()).await;
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let chunks = chunks(&fixture.router, body).await;
    let (done, chunks) = chunks.split_last().expect("chunks");
    assert_eq!(done, "[DONE]");
    let (mut content, mut notes, mut citations) = (String::new(), Vec::new(), Vec::new());
    for chunk in chunks {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!(chunk["id"], chunks[0]["id"]);
        content += chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
        notes.extend(chunk["choices"][0]["delta"]["annotations"].as_array().cloned().unwrap_or_default());
        citations.extend(chunk["citations"].as_array().cloned().unwrap_or_default());
    }
    let message = &whole["choices"][0]["message"];
    assert_eq!((json!(content), json!(notes)), (message["content"].clone(), message["annotations"].clone()));
    assert_eq!(json!(citations), whole["citations"]);
    assert_eq!(chunks[0]["search_query"], "coffee risk of liver disease");
    assert_eq!(chunks[0]["search_results"], whole["search_results"]);
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let [last, usage] = &chunks[chunks.len() - 2..] else { panic!("two chunks") };
    assert_eq!(
        (&last["choices"][0]["finish_reason"], &last["bowerbird"]["finish_reason"]),
        (&json!("stop"), &json!("stop"))
    );
    assert_eq!((&usage["choices"], &usage["usage"]["cached"]), (&json!([]), &json!(true)), "asked before");
    assert_eq!(whole["usage"]["cached"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follow_up_is_completed_and_a_refusal_says_what_came_nearest() {
    let fixture = posts().await;
    let conversation = |last: &str| {
        json!({"messages": [
            {"role": "user", "content": "Does coffee lower the risk of liver disease in adults?"},
            {"role": "assistant", "content": "Coffee lowers it. [1]"},
            {"role": "user", "content": last},
        ]})
    };
    let (_, reply) = post_json(&fixture.router, PATH, conversation("and in children?")).await;
    assert_eq!(reply["search_query"], "coffee lower risk liver disease in children", "{reply}");
    assert!(
        reply["citations"].as_array().is_some_and(|cited| cited.iter().any(|c| c["post_id"] == "coffee-2")),
        "{reply}"
    );
    let (_, reply) =
        post_json(&fixture.router, PATH, conversation("Which capital has Zanzibar island?")).await;
    assert_eq!(reply["search_query"], "Which capital has Zanzibar island?");
    assert_eq!(reply["choices"][0]["finish_reason"], "stop");
    let end = &reply["bowerbird"];
    assert_eq!(end["finish_reason"], "refused_no_evidence", "{reply}");
    assert!(end["nearest"].as_array().is_some_and(|near| near.iter().all(|n| n["url"].is_string())), "{end}");
    let content = reply["choices"][0]["message"]["content"].as_str().expect("words");
    assert!(content.starts_with("The posts do not answer this: "), "{content}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_names_the_field_what_was_found_and_the_remedy() {
    let fixture = posts().await;
    let user = |text: &str| json!({"role": "user", "content": text});
    let many = json!({"messages": vec![user("a"); 65]});
    let long = json!({"messages": [user(&"x".repeat(5000))]});
    for (body, status, code, param, part) in [
        (json!({}), 400, "invalid_field", None, "messages"),
        (json!({"messages": []}), 400, "no_messages", Some("messages"), "at least one"),
        (many, 400, "too_many_messages", Some("messages"), "65"),
        (long, 400, "query_too_long", Some("messages[0].content"), "5000"),
        (json!({"messages": [user(" ")]}), 400, "empty_query", Some("messages[0].content"), "ask"),
        (
            json!({"messages": [user("from:ann")]}),
            400,
            "empty_query",
            Some("messages[0].content"),
            "no words",
        ),
        (
            json!({"messages": [{"role": "bot", "content": "a"}]}),
            400,
            "invalid_field",
            Some("messages[0].role"),
            "bot",
        ),
        (
            json!({"messages": [user("a"), {"role": "assistant", "content": "b"}]}),
            400,
            "last_message_not_user",
            Some("messages[1].role"),
            "assistant",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
            400,
            "invalid_field",
            Some("messages[0].content"),
            "image_url",
        ),
        (
            json!({"messages": [user("a")], "model": "gpt-4o"}),
            404,
            "model_not_found",
            Some("model"),
            "bowerbird",
        ),
        (json!({"messages": [user("a")], "n": 2}), 400, "out_of_range", Some("n"), "expected 1"),
        (
            json!({"messages": [user("a")], "filter": "since:never"}),
            400,
            "invalid_filter",
            Some("filter"),
            "since",
        ),
        (
            json!({"messages": [user("a")], "max_sentences": 11}),
            400,
            "max_sentences_out_of_range",
            Some("max_sentences"),
            "11",
        ),
    ] {
        let shown = body.to_string();
        let (got, envelope) = call(&fixture.router, Method::POST, PATH, shown.clone()).await;
        let error = &envelope["error"];
        let shown = &shown[..shown.len().min(80)];
        assert_eq!((got.as_u16(), error["code"].as_str()), (status, Some(code)), "{shown}: {envelope}");
        assert_eq!(error["param"].as_str(), param, "{shown}: {envelope}");
        assert!(error["message"].as_str().is_some_and(|text| text.contains(part)), "{shown}: {envelope}");
    }
}
