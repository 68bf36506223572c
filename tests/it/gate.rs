//! The gate before the cross-encoder: when it reads, when it does not, and what time does to it.

use std::path::PathBuf;
use std::time::Duration;

use axum::http::StatusCode;
use bowerbird::profile::ProfileChoice;
use bowerbird::stack::{ModelReport, Models, Parts, Stack};
use bowerbird_models_api::stub::{StubEmbedder, StubReranker};
use bowerbird_models_api::{Embedder, ModelError, RerankLogit, Reranker};
use bowerbird_posts::Post;
use bowerbird_scheduler::{Encoders, EncodersConfig};
use bowerbird_tests::{Fixture, fixture_with, post, post_json, stub_models, test_config};
use serde_json::{Value, json};

/// A profile that reads where the first two candidates are close.
fn profile(dir: &tempfile::TempDir) -> PathBuf {
    let profile = json!({
        "format": 1, "name": "close races", "trained_on": [], "intercept": 10.0,
        "weights": {"gap_next": -40.0, "gap_depth": 0, "entropy": 0, "overlap": 0, "coverage": 0, "words": 0, "length": 0},
        "steps": [{"probability": 0.5, "depth": 12, "blend": 0.4}],
        "cross_validation": {"folds": [], "held_out": []},
    });
    let file = dir.path().join("profile.json");
    std::fs::write(&file, profile.to_string()).expect("written");
    file
}

/// Forty posts on amber, all alike, and one on birch and cedar among many that hold neither.
fn posts() -> Vec<Post> {
    let alike = (0..40).map(|n| post(&format!("a{n:02}"), "ann", "2014-01-01", &format!("amber again n{n}")));
    let clear = post("clear", "bob", "2014-01-02", "birch cedar");
    let half = (0..5)
        .map(|n| post(&format!("h{n}"), "cec", "2014-01-03", &format!("cedar with words of its own m{n}")));
    alike.chain([clear]).chain(half).collect()
}

async fn search(fixture: &Fixture, body: Value) -> Value {
    let (status, page) = post_json(&fixture.router, "/v1/search", body).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    page
}

/// Hits with a logit stand before those without, and were the first of the fused list.
fn check_head(page: &Value, depth: u64) {
    let hits = page["hits"].as_array().expect("hits");
    let read: Vec<bool> = hits.iter().map(|hit| hit["scores"]["rerank"].is_number()).collect();
    assert_eq!(read.iter().filter(|read| **read).count() as u64, depth, "{page}");
    assert!(read.is_sorted_by(|a, b| a >= b), "{read:?}");
    for (hit, read) in hits.iter().zip(read) {
        assert_eq!(hit["explain"]["ranks"]["fused"].as_u64().expect("a rank") <= depth, read, "{hit}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn close_races_are_read_and_clear_winners_are_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = test_config();
    config.search.rerank_profile = ProfileChoice::File(profile(&dir));
    let fixture = fixture_with(config, stub_models(""), posts()).await;
    let body = |q: &str| json!({"q": q, "explain": true, "limit": 100, "collapse": "none"});

    let close = search(&fixture, body("amber again")).await;
    let gate = &close["explain"]["gate"];
    assert_eq!((&gate["reason"], &gate["profile"]), (&json!("useful"), &json!("close races")), "{gate}");
    assert_eq!(gate["depth"], 12, "{gate}");
    assert!(gate["features"]["gap_next"].as_f64().expect("a feature") < 0.25, "{gate}");
    check_head(&close, 12);

    let clear = search(&fixture, body("birch cedar")).await;
    let gate = &clear["explain"]["gate"];
    assert_eq!(gate["reason"], "confident", "{gate}");
    assert!(gate["probability"].as_f64().expect("a probability") < 0.5, "{gate}");
    assert_eq!(clear["hits"][0]["id"], "clear", "{clear}");
    assert_eq!(clear["degraded"], json!([]), "skipping on purpose is no fault");
    check_head(&clear, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_profile_every_query_is_read() {
    let mut config = test_config();
    config.search.rerank_profile = ProfileChoice::None;
    config.search.rerank_blend = Some(0.25);
    let fixture = fixture_with(config, stub_models(""), posts()).await;
    let page = search(&fixture, json!({"q": "birch cedar", "explain": true})).await;
    let gate = &page["explain"]["gate"];
    assert_eq!((&gate["reason"], &gate["profile"]), (&json!("always"), &Value::Null), "{gate}");
    assert_eq!((&gate["depth"], &gate["blend"]), (&json!(16), &json!(0.25)), "{gate}");
    let off = search(&fixture, json!({"q": "birch cedar", "explain": true, "rerank": false})).await;
    assert_eq!(off["explain"]["gate"]["reason"], "off", "{off}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_does_not_read_stops_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = profile(&dir);
    let text = std::fs::read_to_string(&file).expect("written").replace("0.4", "4.0");
    std::fs::write(&file, text).expect("written");
    let mut config = test_config();
    config.search.rerank_profile = ProfileChoice::File(file);
    let data = dir.path().join("data");
    let Err(error) = Stack::assemble(&config, &data, stub_models(""), Parts::SEARCH).await else {
        panic!("a share of 4 was taken");
    };
    let error = format!("{error:#}");
    assert!(error.contains("profile.json") && error.contains("steps[0].blend is 4"), "{error}");
}

/// Takes its time for every pair.
struct Slow(StubReranker);

impl Reranker for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn score(&mut self, query: &str, passage: &str) -> Result<RerankLogit, ModelError> {
        std::thread::sleep(Duration::from_millis(60));
        self.0.score(query, passage)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_deadline_shortens_the_head_and_says_so() {
    let encoders = Encoders::start(EncodersConfig { workers: 1, ..EncodersConfig::default() }, |_| {
        let models = (Box::new(StubEmbedder::new(128)), Box::new(Slow(StubReranker)));
        Ok((models.0 as Box<dyn Embedder>, models.1 as Box<dyn Reranker>))
    });
    let models = Models {
        generator: stub_models("").generator,
        encoders: encoders.expect("starts"),
        report: ModelReport::default(),
    };
    let mut config = test_config();
    config.search.rerank_profile = ProfileChoice::None;
    let fixture = fixture_with(config, models, posts()).await;
    let body = |q: &str, timeout: u64| json!({"q": q, "explain": true, "limit": 100, "collapse": "none", "timeout_ms": timeout});
    // The first search has all the time, and measures what a post costs: 60 ms.
    let first = search(&fixture, body("amber again", 60_000)).await;
    assert_eq!(first["explain"]["gate"]["reason"], "always", "{first}");
    assert_eq!(first["degraded"], json!([]));
    check_head(&first, 16);
    // Sixteen cost 960 ms: with 700 some are read, or none where this machine was busy with other things.
    let second = search(&fixture, body("amber once again", 700)).await;
    let gate = &second["explain"]["gate"];
    let depth = gate["depth"].as_u64().expect("a depth");
    assert!(
        gate["reason"] == "shortened" && (4..16).contains(&depth) || gate["reason"] == "no_time",
        "{gate}"
    );
    assert!(gate["predicted_ms"].as_f64() > gate["left_ms"].as_f64(), "{gate}");
    assert_eq!(second["degraded"], json!(["rerank"]), "{second}");
    check_head(&second, if gate["reason"] == "no_time" { 0 } else { depth });
}
