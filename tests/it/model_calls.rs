//! The calls that embed and rerank texts of others: shapes, mistakes, and manners in the queue.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use bowerbird_models_api::stub::{STUB_WINDOW, StubEmbedder, StubReranker};
use bowerbird_models_api::{
    Embedder, Embedding, EmbeddingSpace, ModelError, RerankLogit, Reranker, TextRole,
};
use bowerbird_scheduler::{Encoders, EncodersConfig, Job, Priority};
use bowerbird_tests::{Fixture, call, fixture, post_json, stub_models};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tower::ServiceExt;

async fn stub() -> Fixture {
    fixture(stub_models(""), Vec::new()).await
}

fn indexes(results: &Value) -> Vec<u64> {
    let results = results.as_array().expect("results");
    results.iter().map(|result| result["index"].as_u64().expect("an index")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_come_in_the_shape_of_openai() {
    let fixture = stub().await;
    let long = "word ".repeat(STUB_WINDOW + 5);
    let body = json!({"input": ["a post", "another post about sleep", long], "model": "stub", "user": "u"});
    let (status, page) = post_json(&fixture.router, "/v1/embeddings", body).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    assert_eq!((page["object"].as_str(), page["model"].as_str()), (Some("list"), Some("stub")));
    let data = page["data"].as_array().expect("data");
    assert_eq!(indexes(&page["data"]), [0, 1, 2]);
    assert!(data.iter().all(|item| item["object"] == "embedding"));
    assert!(data.iter().all(|item| item["embedding"].as_array().is_some_and(|v| v.len() == 128)));
    let tokens = 2 + 4 + STUB_WINDOW;
    assert_eq!(page["usage"], json!({"prompt_tokens": tokens, "total_tokens": tokens}));
    assert_eq!(page["truncated"], json!([2]));

    let body = json!({"input": "a post", "encoding_format": "base64", "dimensions": 128});
    let (status, coded) = post_json(&fixture.router, "/v1/embeddings", body).await;
    assert_eq!(status, StatusCode::OK, "{coded}");
    // 128 floats of 4 bytes, in groups of 3 bytes for 4 characters.
    assert_eq!(coded["data"][0]["embedding"].as_str().map(str::len), Some(684));
    assert_eq!((coded["data"].as_array().map(Vec::len), &coded["truncated"]), (Some(1), &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_ranked_in_the_shapes_of_cohere() {
    let fixture = stub().await;
    let long = format!("sleep better {}", "and so on ".repeat(STUB_WINDOW));
    let documents = json!(["steel", {"text": "sleep", "title": 7}, "how to sleep better", "sleep", long]);
    let body = json!({"model": "stub", "query": "how to sleep better", "documents": documents, "return_documents": true});
    let (status, page) = post_json(&fixture.router, "/v1/rerank", body).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    let results = page["results"].as_array().expect("results");
    assert_eq!(indexes(&page["results"]), [2, 4, 1, 3, 0], "best first, equal ones by index: {page}");
    let scores: Vec<f64> = results.iter().map(|r| r["relevance_score"].as_f64().expect("a score")).collect();
    assert!(
        scores.is_sorted_by(|a, b| a >= b) && scores.iter().all(|s| (0.0..=1.0).contains(s)),
        "{scores:?}"
    );
    assert_eq!(results[2]["document"], json!({"text": "sleep"}));
    let meta = &page["meta"];
    assert_eq!(
        (&meta["api_version"]["version"], &meta["billed_units"]["search_units"]),
        (&json!("1"), &json!(1))
    );
    assert_eq!(meta["truncated"], json!([4]));
    assert!(meta["warnings"][0].as_str().is_some_and(|text| text.starts_with("1 of 5 documents")), "{meta}");
    assert_eq!(page["id"].as_str().map(str::len), Some(36));

    let texts = json!(["steel", "sleep", "no words of it, but sleep better", "sleep"]);
    let body =
        json!({"query": "how to sleep better", "documents": texts, "top_n": 2, "max_tokens_per_doc": 5});
    let (status, page) = post_json(&fixture.router, "/v2/rerank", body).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    assert_eq!(indexes(&page["results"]), [1, 3], "what is cut off has no say: {page}");
    assert_eq!(
        (&page["meta"]["api_version"]["version"], &page["meta"]["truncated"]),
        (&json!("2"), &json!([2]))
    );
    assert_eq!(page["results"][0].get("document"), None);

    let body = json!({"query": "sleep ".repeat(STUB_WINDOW + 1), "documents": ["sleep"], "top_n": 9});
    let (_, page) = post_json(&fixture.router, "/v2/rerank", body).await;
    assert!(page["meta"]["warnings"][0].as_str().is_some_and(|text| text.starts_with("the query")), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_ranked_in_the_shape_of_tei() {
    let fixture = stub().await;
    let long = "sleep ".repeat(STUB_WINDOW + 1);
    let body =
        json!({"query": "sleep better", "texts": ["steel", "sleep better", long], "return_text": true});
    let (status, ranks) = post_json(&fixture.router, "/rerank", body).await;
    assert_eq!((status, indexes(&ranks)), (StatusCode::OK, vec![1, 2, 0]), "{ranks}");
    assert_eq!((&ranks[0]["text"], ranks[0].get("truncated")), (&json!("sleep better"), None));
    assert_eq!(ranks[1]["truncated"], true);
    let body = json!({"query": "sleep better", "texts": ["steel", "sleep better"], "raw_scores": true});
    let (_, raw) = post_json(&fixture.router, "/rerank", body).await;
    assert_eq!((raw[0]["score"].as_f64(), raw[1]["score"].as_f64()), (Some(4.0), Some(-4.0)), "{raw}");
    assert_eq!(raw[0].get("text"), None);

    let body =
        json!({"query": "sleep", "texts": ["a", long], "truncate": false, "truncation_direction": "Right"});
    let (status, refused) = post_json(&fixture.router, "/rerank", body).await;
    assert_eq!((status, refused["error"]["param"].as_str()), (StatusCode::BAD_REQUEST, Some("texts[1]")));
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_named() {
    let fixture = stub().await;
    let spaces = " ".repeat(1_000_000);
    let of_spaces = format!(r#"{{"input":["a","{spaces}"]}}"#);
    let too_large = format!(r#"{{"input":"{}"}}"#, "x".repeat(33 << 20));
    let embed: [(&str, u16, &str, Option<&str>); 20] = [
        ("{}", 400, "invalid_field", None),
        (r#"{"input":[]}"#, 400, "no_texts", Some("input")),
        (r#"{"input":""}"#, 400, "empty_text", Some("input")),
        (r#"{"input":["a"," \n"]}"#, 400, "empty_text", Some("input[1]")),
        (&of_spaces, 400, "empty_text", Some("input[1]")),
        (r#"{"input":[1,2,3]}"#, 400, "invalid_field", Some("input[0]")),
        (r#"{"input":[[1,2],[3]]}"#, 400, "invalid_field", Some("input[0]")),
        (r#"{"input":["a",null]}"#, 400, "invalid_field", Some("input[1]")),
        (r#"{"input":{"text":"a"}}"#, 400, "invalid_field", Some("input")),
        (r#"{"input":"\ud800"}"#, 400, "malformed_json", None),
        (r#"{"input":["\udc00 a"]}"#, 400, "malformed_json", None),
        (r#"{"input":"a","model":"text-embedding-3-small"}"#, 404, "model_not_found", Some("model")),
        (r#"{"input":"a","dimensions":256}"#, 400, "dimensions_not_supported", Some("dimensions")),
        (r#"{"input":"a","dimensions":-1}"#, 400, "invalid_field", Some("dimensions")),
        (r#"{"input":"a","encoding_format":"int8"}"#, 400, "invalid_field", Some("encoding_format")),
        (r#"{"input":"a","input_type":"document"}"#, 400, "invalid_field", Some("input_type")),
        (r#"{"input":"a","timeout_ms":0}"#, 400, "timeout_out_of_range", Some("timeout_ms")),
        (r#"{"inputs":"a"}"#, 400, "invalid_field", Some("inputs")),
        (r#"{"input":"a"} x"#, 400, "malformed_json", None),
        (&too_large, 413, "body_too_large", None),
    ];
    let rerank: [(&str, &str, u16, &str, Option<&str>); 14] = [
        ("/v2/rerank", r#"{"query":"","documents":["a"]}"#, 400, "empty_text", Some("query")),
        ("/v2/rerank", r#"{"query":"q","documents":[]}"#, 400, "no_texts", Some("documents")),
        ("/v2/rerank", r#"{"query":"q","documents":["a",""]}"#, 400, "empty_text", Some("documents[1]")),
        ("/v2/rerank", r#"{"query":"q","documents":["a"],"top_n":0}"#, 400, "out_of_range", Some("top_n")),
        ("/v2/rerank", r#"{"query":"q","documents":["a"],"top_n":1.5}"#, 400, "invalid_field", Some("top_n")),
        (
            "/v2/rerank",
            r#"{"query":"q","documents":["a"],"max_tokens_per_doc":0}"#,
            400,
            "out_of_range",
            Some("max_tokens_per_doc"),
        ),
        (
            "/v2/rerank",
            r#"{"query":"q","documents":[{"text":"a"}]}"#,
            400,
            "invalid_field",
            Some("documents[0]"),
        ),
        ("/v2/rerank", r#"{"query":"q","documents":["\ud800"]}"#, 400, "malformed_json", None),
        ("/v2/rerank", r#"{"query":7,"documents":["a"]}"#, 400, "invalid_field", Some("query")),
        (
            "/v1/rerank",
            r#"{"query":"q","documents":[{"body":"a"}]}"#,
            400,
            "invalid_field",
            Some("documents[0]"),
        ),
        (
            "/v1/rerank",
            r#"{"query":"q","documents":["a"],"rank_fields":["title"]}"#,
            400,
            "invalid_field",
            Some("rank_fields"),
        ),
        (
            "/v1/rerank",
            r#"{"query":"q","documents":["a"],"model":"x"}"#,
            404,
            "model_not_found",
            Some("model"),
        ),
        ("/rerank", r#"{"query":"q","texts":"a"}"#, 400, "invalid_field", Some("texts")),
        (
            "/rerank",
            r#"{"query":"q","texts":["a"],"truncation_direction":"left"}"#,
            400,
            "invalid_field",
            Some("truncation_direction"),
        ),
    ];
    let embed = embed.map(|(body, status, code, param)| ("/v1/embeddings", body, status, code, param));
    for (path, body, status, code, param) in embed.into_iter().chain(rerank) {
        let shown = format!("{path} {}", &body[..body.len().min(80)]);
        let (got, envelope) = call(&fixture.router, Method::POST, path, body.to_owned()).await;
        let error = &envelope["error"];
        assert_eq!((got.as_u16(), error["code"].as_str()), (status, Some(code)), "{shown}: {envelope}");
        if param.is_some() {
            assert_eq!(error["param"].as_str(), param, "{shown}: {envelope}");
        }
        assert!(
            error["message"].as_str().is_some_and(|m| !m.is_empty() && m.len() < 500),
            "{shown}: {envelope}"
        );
    }
    let (_, unknown) =
        post_json(&fixture.router, "/v1/embeddings", json!({"input": "a", "model": "x"})).await;
    let message = unknown["error"]["message"].as_str().expect("a message");
    assert!(message.contains("\"x\"") && message.contains("\"stub\""), "the one loaded is named: {message}");
    let (_, half) =
        call(&fixture.router, Method::POST, "/v1/embeddings", r#"{"input":["a","\ud800"]}"#).await;
    assert!(half["error"]["message"].as_str().is_some_and(|m| m.contains("surrogate")), "{half}");
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_texts_are_read_as_what_is_visible_in_them() {
    let fixture = stub().await;
    let spaced = format!("{0}sleep{0}", " ".repeat(500_000));
    let body = json!({"input": ["sleep", spaced, "sleep\0"]});
    let (status, page) = post_json(&fixture.router, "/v1/embeddings", body).await;
    assert_eq!((status, &page["truncated"]), (StatusCode::OK, &json!([])), "{:.300}", page.to_string());
    let data = &page["data"];
    assert_eq!(data[0]["embedding"], data[1]["embedding"]);
    assert_eq!(data[0]["embedding"], data[2]["embedding"]);
}

/// Texts beyond any queue: all are answered, each at its place.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_texts_are_one_call() {
    let fixture = fixture(models(&Gate::open(), 16), Vec::new()).await;
    let mut documents: Vec<String> = (0..10_000).map(|n| format!("steel {n}")).collect();
    documents[7_777] = "sleep better".into();
    documents[3_333] = "sleep".into();
    let body = json!({"query": "sleep better", "documents": documents});
    let (status, page) = post_json(&fixture.router, "/v2/rerank", body).await;
    assert_eq!(status, StatusCode::OK, "{:.300}", page.to_string());
    let found = indexes(&page["results"]);
    assert_eq!((found.len(), &found[..4]), (10_000, &[7_777, 3_333, 0, 1][..]));
    assert_eq!(page["meta"]["billed_units"]["search_units"], 100);

    let (status, page) = post_json(&fixture.router, "/v1/embeddings", json!({"input": documents})).await;
    assert_eq!(status, StatusCode::OK, "{:.300}", page.to_string());
    let data = page["data"].as_array().expect("data");
    assert_eq!(data.len(), 10_000);
    let mut alone = StubEmbedder::new(128);
    for n in [0, 3_333, 7_777, 9_999] {
        let expected = alone.embed(&documents[n], TextRole::Passage).expect("embeds");
        let got = data[n]["embedding"].as_array().expect("a vector").iter();
        let got: Vec<f32> = got.map(|value| value.as_f64().expect("a number") as f32).collect();
        assert_eq!(got, expected.as_slice(), "{n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_of_others_leave_room_in_the_queue_and_too_many_callers_are_told_to_come_back() {
    let gate = Gate::closed();
    let fixture = fixture(models(&gate, 64), Vec::new()).await;
    let encoders = fixture.stack.encoders.clone();
    let limit = encoders.status().limit;
    let documents: Vec<String> = (0..1000).map(|n| format!("steel {n}")).collect();
    let body = json!({"query": "sleep", "documents": documents}).to_string();
    let mut calls = Vec::new();
    for _ in 0..40 {
        calls.push(tokio::spawn(send(fixture.router.clone(), "/v2/rerank", body.clone())));
    }
    // Every call has begun or is refused once the places are gone.
    while calls.iter().filter(|call| call.is_finished()).count() < 40 - limit / 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(encoders.status().queued <= limit / 4, "{:?}", encoders.status());
    }
    // A page of results finds room, and goes first.
    let job = Job { priority: Priority::Rerank, deadline: None };
    let passages: Vec<Arc<str>> = (0..16).map(|n| format!("sleep {n}").into()).collect();
    let page = tokio::spawn({
        let encoders = encoders.clone();
        async move { encoders.score("sleep", &passages, job).await }
    });
    gate.release();
    assert!(page.await.expect("not cancelled").iter().all(Result::is_ok));
    let mut done = 0;
    for call in calls {
        let (status, retry, body) = call.await.expect("not cancelled");
        if status == StatusCode::OK {
            assert_eq!(body["results"].as_array().map(Vec::len), Some(1000));
            done += 1;
        } else {
            assert_eq!(
                (status, body["error"]["code"].as_str()),
                (StatusCode::TOO_MANY_REQUESTS, Some("overloaded"))
            );
            assert_eq!(retry.as_deref(), Some("1"));
        }
    }
    assert!(done >= 1, "none was served");
    assert_eq!(encoders.status().queued, 0);
    let (status, _) =
        post_json(&fixture.router, "/v2/rerank", json!({"query": "q", "documents": ["a"]})).await;
    assert_eq!(status, StatusCode::OK, "the places were given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_and_a_deadline_that_passes_stop_the_work() {
    let gate = Gate::closed();
    // A queue of 32 has 8 places for texts of others, and two workers let one call take all of them.
    let fixture = fixture(models(&gate, 32), Vec::new()).await;
    let encoders = fixture.stack.encoders.clone();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let mut client = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connects");
    let router = fixture.router.clone();
    let server = tokio::spawn(async move { axum::serve(listener, router).await });

    let documents: Vec<String> = (0..1000).map(|n| format!("steel {n}")).collect();
    let body = json!({"query": "sleep", "documents": documents}).to_string();
    let head = format!("POST /v2/rerank HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", body.len());
    client.write_all(format!("{head}{body}").as_bytes()).await.expect("is sent");
    while gate.calls() < 2 || encoders.status().queued == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let other = json!({"input": ["one", "two"], "timeout_ms": 30}).to_string();
    let probe = || send(fixture.router.clone(), "/v1/embeddings", other.clone());
    assert_eq!(probe().await.0, StatusCode::TOO_MANY_REQUESTS);
    drop(client);
    // Its places are free as soon as it is seen to have left.
    let (status, late) = loop {
        let (status, _, body) = probe().await;
        if status != StatusCode::TOO_MANY_REQUESTS {
            break (status, body);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!((status, late["error"]["code"].as_str()), (StatusCode::GATEWAY_TIMEOUT, Some("timeout")));
    assert!(late["error"]["message"].as_str().is_some_and(|m| m.contains("of 2 texts")), "{late}");

    gate.release();
    let job = Job { priority: Priority::Bulk, deadline: None };
    encoders.embed("after them", TextRole::Passage, job).await.expect("embeds");
    assert_eq!(gate.calls(), 3, "two had started; then only what somebody waits for");
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_side_that_only_the_model_finds_empty_is_named() {
    let fixture = fixture(models(&Gate::open(), 64), Vec::new()).await;
    let check = async |body: Value, param: &str| {
        let (status, envelope) = post_json(&fixture.router, "/v2/rerank", body).await;
        let error = &envelope["error"];
        assert_eq!(
            (status, error["code"].as_str(), error["param"].as_str()),
            (StatusCode::BAD_REQUEST, Some("empty_text"), Some(param)),
            "{envelope}"
        );
    };
    check(json!({"query": "\u{200b}", "documents": ["a", "b"]}), "query").await;
    check(json!({"query": "q", "documents": ["a", "\u{200b}", "b"]}), "documents[1]").await;
    let (status, envelope) =
        post_json(&fixture.router, "/v1/embeddings", json!({"input": ["\u{200b}"]})).await;
    assert_eq!((status, envelope["error"]["param"].as_str()), (StatusCode::BAD_REQUEST, Some("input[0]")));
}

/// Status, `Retry-After` and body.
async fn send(router: Router, path: &str, body: String) -> (StatusCode, Option<String>, Value) {
    let request = Request::post(path).body(Body::from(body)).expect("a request");
    let response = router.oneshot(request).await.expect("routers do not fail");
    let status = response.status();
    let retry = response.headers().get(header::RETRY_AFTER);
    let retry = retry.map(|value| value.to_str().expect("plain text").to_owned());
    let bytes = axum::body::to_bytes(response.into_body(), 64 << 20).await.expect("a body");
    (status, retry, serde_json::from_slice(&bytes).expect("JSON"))
}

/// Holds every model call until it is opened, and counts them.
#[derive(Clone)]
struct Gate(Arc<(Mutex<bool>, Condvar, AtomicUsize)>);

impl Gate {
    fn open() -> Self {
        Self(Arc::new((Mutex::new(true), Condvar::new(), AtomicUsize::new(0))))
    }

    fn closed() -> Self {
        Self(Arc::new((Mutex::new(false), Condvar::new(), AtomicUsize::new(0))))
    }

    fn release(&self) {
        *self.0.0.lock().expect("not poisoned") = true;
        self.0.1.notify_all();
    }

    fn calls(&self) -> usize {
        self.0.2.load(Ordering::SeqCst)
    }

    /// One model call; a zero-width space is no text to it.
    fn pass(&self, text: &str) -> Result<(), ModelError> {
        self.0.2.fetch_add(1, Ordering::SeqCst);
        let open = self.0.0.lock().expect("not poisoned");
        drop(self.0.1.wait_while(open, |open| !*open).expect("not poisoned"));
        if text == "\u{200b}" { Err(ModelError::EmptyText) } else { Ok(()) }
    }
}

/// Two workers behind the gate and a queue of so many items.
fn models(gate: &Gate, queue_items: usize) -> bowerbird::stack::Models {
    let config = EncodersConfig { workers: 2, queue_items, ..EncodersConfig::default() };
    let encoders = Encoders::start(config, |_| {
        Ok((
            Box::new(Held(gate.clone(), StubEmbedder::new(128))) as Box<dyn Embedder>,
            Box::new(Held(gate.clone(), StubReranker)) as Box<dyn Reranker>,
        ))
    });
    bowerbird::stack::Models { encoders: encoders.expect("workers start"), ..stub_models("") }
}

struct Held<M>(Gate, M);

impl Embedder for Held<StubEmbedder> {
    fn space(&self) -> &EmbeddingSpace {
        self.1.space()
    }

    fn embed(&mut self, text: &str, role: TextRole) -> Result<Embedding, ModelError> {
        self.0.pass(text)?;
        self.1.embed(text, role)
    }
}

impl Reranker for Held<StubReranker> {
    fn name(&self) -> &str {
        self.1.name()
    }

    fn score(&mut self, query: &str, passage: &str) -> Result<RerankLogit, ModelError> {
        self.0.pass(passage)?;
        if query == "\u{200b}" { Err(ModelError::EmptyText) } else { self.1.score(query, passage) }
    }
}
