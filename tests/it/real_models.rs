//! The real models behind the calls that bring texts of others: odd texts, very many texts, and company in the queue.

use std::sync::Arc;

use axum::http::{Method, StatusCode};
use bowerbird::commands::convert::convert;
use bowerbird::config::{Batching, Provider};
use bowerbird::stack::{Parts, load_models, model_store};
use bowerbird_catalog::{Catalog, Silent};
use bowerbird_models_api::TextRole;
use bowerbird_scheduler::{Job, Priority};
use bowerbird_tests::{Fixture, call, fixture, post_json, real_models, test_config};
use serde_json::{Value, json};

async fn real() -> Fixture {
    fixture(real_models(), Vec::new()).await
}

fn vector(page: &Value, n: usize) -> Vec<f64> {
    let values = page["data"][n]["embedding"].as_array().expect("a vector");
    values.iter().map(|value| value.as_f64().expect("a number")).collect()
}

/// The int8 graphs take one activation scale over a call: a score stays the same only because nothing shares its call.
#[tokio::test(flavor = "multi_thread")]
async fn on_the_processor_a_score_does_not_depend_on_what_else_is_queued() {
    let models = real_models();
    assert!(!models.report.batches, "the fetched models are quantised");
    let encoders = models.encoders;
    let job = |priority| Job { priority, deadline: None };
    let query: Arc<str> = "how to sleep better".into();
    let passages = ["Nine ways to fall asleep faster", "FDA nod for a new drug", "yes", "🙂🙂 ¿qué?"];
    // Counted calls leave the caches alone: every score is computed.
    let score = async |passage: &str| {
        let (logit, read) =
            encoders.score_counted(&query, passage, None, job(Priority::Rerank)).await.expect("scores");
        (logit.get().to_bits(), read)
    };
    let embed = async |text: &str| {
        let (vector, read) =
            encoders.embed_counted(text, TextRole::Passage, job(Priority::Bulk)).await.expect("embeds");
        (vector.as_slice().iter().map(|value| value.to_bits()).collect::<Vec<u32>>(), read)
    };
    let mut alone = Vec::new();
    for passage in passages {
        alone.push((score(passage).await, embed(passage).await));
    }
    let crowd = tokio::spawn({
        let encoders = encoders.clone();
        let texts: Vec<Arc<str>> =
            (0..200).map(|n| format!("other post {n} {}", "and so on ".repeat(n % 40)).into()).collect();
        async move { encoders.score("another question", &texts, job(Priority::Rerank)).await }
    });
    while encoders.status().queued < 50 {
        tokio::task::yield_now().await;
    }
    for (passage, expected) in passages.iter().zip(&alone) {
        assert!(encoders.status().queued > 0, "nothing else waits any more");
        assert_eq!(score(passage).await, expected.0, "{passage}");
    }
    for (passage, expected) in passages.iter().zip(&alone) {
        assert_eq!(embed(passage).await, expected.1, "{passage}");
    }
    assert!(crowd.await.expect("not cancelled").iter().all(Result::is_ok));
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_texts_get_a_sane_vector_or_a_clear_error() {
    let fixture = real().await;
    let app = &fixture.router;
    let spaced = format!("{0}sleep well{0}", " ".repeat(500_000));
    let long = "sleep well tonight ".repeat(200_000);
    let word = "x".repeat(1_000_000);
    let texts = json!([
        "sleep well",
        spaced,
        "sleep\0well",
        "sleep well\0",
        "\0",
        "\u{feff}\u{202e}e\u{301}",
        long,
        word
    ]);
    let (status, page) = post_json(app, "/v1/embeddings", json!({"input": texts})).await;
    if status != StatusCode::OK {
        // A text of which the model sees nothing is named; the others are embedded without it.
        assert_eq!((status, page["error"]["code"].as_str()), (StatusCode::BAD_REQUEST, Some("empty_text")));
        assert_eq!(page["error"]["param"].as_str(), Some("input[4]"), "{page}");
    }
    let texts: Vec<Value> = texts
        .as_array()
        .expect("texts")
        .iter()
        .enumerate()
        .filter(|(n, _)| *n != 4)
        .map(|(_, text)| text.clone())
        .collect();
    let (status, page) = post_json(app, "/v1/embeddings", json!({"input": texts})).await;
    assert_eq!(status, StatusCode::OK, "{:.300}", page.to_string());
    for n in 0..texts.len() {
        let length: f64 = vector(&page, n).iter().map(|v| v * v).sum();
        assert!((length - 1.0).abs() < 1e-3, "text {n} has a vector of length {length}");
    }
    assert_eq!(vector(&page, 0), vector(&page, 1), "spaces are nothing");
    assert_eq!(vector(&page, 0), vector(&page, 3), "neither is NUL");
    assert_eq!(
        page["truncated"].as_array().map(|t| t.contains(&json!(5))),
        Some(true),
        "{}",
        page["truncated"]
    );

    let spaces = " ".repeat(1_000_000);
    for (body, code) in [
        (r#"{"input":""}"#.to_owned(), "empty_text"),
        (format!(r#"{{"input":["a","{spaces}"]}}"#), "empty_text"),
        (r#"{"input":"sleep \ud83d well"}"#.to_owned(), "malformed_json"),
        (r#"{"input":["\udc00"]}"#.to_owned(), "malformed_json"),
    ] {
        let (status, page) = call(app, Method::POST, "/v1/embeddings", body).await;
        assert_eq!((status, page["error"]["code"].as_str()), (StatusCode::BAD_REQUEST, Some(code)), "{page}");
    }
    let (status, page) =
        call(app, Method::POST, "/v1/embeddings", r#"{"input":"sleep \ud83d\ude00 well"}"#).await;
    assert_eq!(status, StatusCode::OK, "a whole pair is one character: {page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_pairs_get_a_sane_score_or_a_clear_error() {
    let fixture = real().await;
    let long = "sleep well tonight ".repeat(200_000);
    let spaced = format!("{0}how to sleep better{0}", " ".repeat(500_000));
    let documents =
        json!(["FDA nod for a new drug", "how to\0 sleep better", spaced, long, "how to sleep better"]);
    for query in ["how to sleep better\0", &"how to sleep better ".repeat(50_000)] {
        let body = json!({"query": query, "documents": documents});
        let (status, page) = post_json(&fixture.router, "/v1/rerank", body).await;
        assert_eq!(status, StatusCode::OK, "{:.300}", page.to_string());
        let results = page["results"].as_array().expect("results");
        let score = |index: usize| {
            let found = results.iter().find(|result| result["index"] == index).expect("each has a score");
            found["relevance_score"].as_f64().expect("a number")
        };
        assert!((0..5).all(|n| (0.0..=1.0).contains(&score(n))), "{page}");
        assert!((score(2) - score(4)).abs() < 1e-9, "spaces are nothing: {page}");
        assert!(score(0) < score(4), "{page}");
        assert_eq!(page["meta"]["truncated"], json!([3]));
    }
    for (query, document, param) in [("", "a", "query"), ("q", &*" ".repeat(1_000_000), "documents[0]")] {
        let body = json!({"query": query, "documents": [document]});
        let (status, page) = post_json(&fixture.router, "/v1/rerank", body).await;
        let error = &page["error"];
        assert_eq!((status, error["param"].as_str()), (StatusCode::BAD_REQUEST, Some(param)), "{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_documents_are_ranked_in_one_call() {
    let fixture = real().await;
    let mut documents: Vec<String> = (0..10_000).map(|n| format!("steel {n}")).collect();
    documents[7_777] = "how to sleep better".into();
    // A busy machine must not turn this into a test of deadlines.
    let body = json!({"query": "sleep better", "documents": documents, "timeout_ms": 600_000});
    let (status, page) = post_json(&fixture.router, "/v1/rerank", body).await;
    assert_eq!(status, StatusCode::OK, "{:.300}", page.to_string());
    let results = page["results"].as_array().expect("results");
    assert_eq!((results.len(), results[0]["index"].as_u64()), (10_000, Some(7_777)));
}

/// The way to a GPU, walked on the processor: float graphs, made of the fetched ones, behind one worker with batches.
#[tokio::test(flavor = "multi_thread")]
async fn converted_models_run_in_batches_and_stay_near_the_quantised_ones() {
    let mut config = test_config();
    let (catalog, store) = (Catalog::embedded().expect("a catalog"), model_store(&config).expect("a store"));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let made = |name: &str| convert(&catalog, &store, name, dir.path());
    let embedder = made(&config.models.embedder).expect("converts");
    assert!(embedder.least_cosine.is_some_and(|cosine| cosine > 0.99), "{embedder}");
    let reranker = made(&config.models.reranker).expect("converts");
    assert!(reranker.largest_difference.is_some_and(|difference| difference < 1.0), "{reranker}");
    let error = made("demo-posts").expect_err("is no model").to_string();
    assert!(error.contains("neither an embedder nor a reranker"), "{error}");

    config.models.float_dir = Some(dir.path().into());
    config.models.batching = Batching::On;
    config.models.provider = Provider::Cpu;
    let parts = Parts::SEARCH;
    let float = load_models(&config, parts, &Silent).expect("the converted models load");
    assert!(float.report.batches);
    let int8 = real_models().encoders;
    let job = Job { priority: Priority::Rerank, deadline: None };
    let passages: Vec<Arc<str>> =
        (0..40).map(|n| format!("sleep better {}", "tonight and so on ".repeat(n)).into()).collect();
    let together = float.encoders.score("how to sleep better", &passages, job).await;
    let query: Arc<str> = "how to sleep better".into();
    for (passage, together) in passages.iter().zip(together) {
        let (alone, read) = float.encoders.score_counted(&query, passage, None, job).await.expect("scores");
        let together = together.expect("scores").get();
        assert!((together - alone.get()).abs() < 1e-3, "{} alone, {together} in a batch", alone.get());
        let expected = int8.score_counted(&query, passage, None, job).await.expect("scores").1;
        assert_eq!(read, expected, "what was read does not depend on the graph");
    }
    let same = int8.space().fingerprint() == float.encoders.space().fingerprint();
    assert!(!same, "vectors of the float graph are a space of their own");

    // A graph that was touched since is not loaded.
    let graph = dir.path().join(&config.models.embedder).join("model.onnx");
    let mut bytes = std::fs::read(&graph).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&graph, bytes).expect("writes");
    let error = load_models(&config, parts, &Silent).err().expect("is refused");
    assert!(format!("{error:#}").contains("bowerbird models convert"), "{error:#}");
}
