//! Fixtures for tests and benches across crates.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode, header};
use bowerbird::commands::index::finish;
use bowerbird::config::Config;
use bowerbird::http::router;
use bowerbird::stack::{ModelReport, Models, Parts, Stack, load_models};
use bowerbird_catalog::Silent;
use bowerbird_models_api::stub::{StubEmbedder, StubGenerator, StubReranker};
use bowerbird_models_api::{Embedder, Generator, Reranker};
use bowerbird_posts::{Op, Post, PostId};
use bowerbird_scheduler::{Encoders, EncodersConfig};
use jiff::Timestamp;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt;

/// A stack in a directory that goes when this is dropped.
pub struct Fixture {
    /// The product.
    pub stack: Stack,
    /// Its routes.
    pub router: Router,
    /// Its data.
    pub dir: TempDir,
}

/// A post with a text.
///
/// # Panics
/// When the post is not valid.
pub fn post(id: &str, author: &str, day: &str, text: &str) -> Post {
    let created_at: Timestamp = format!("{day}T12:00:00Z").parse().expect("a day");
    Post::new(PostId::new(id).expect("an id"), text, author, created_at).validated().expect("a valid post")
}

/// Stub models: they rank by shared words.
///
/// # Panics
/// When threads cannot be started.
pub fn stub_models(says: &str) -> Models {
    let encoders = Encoders::start(EncodersConfig { workers: 2, ..EncodersConfig::default() }, |_| {
        Ok((
            Box::new(StubEmbedder::new(128)) as Box<dyn Embedder>,
            Box::new(StubReranker) as Box<dyn Reranker>,
        ))
    })
    .expect("stub workers start");
    let generator: Arc<dyn Generator> = Arc::new(StubGenerator::saying(says));
    Models {
        encoders,
        generator: Some(generator),
        report: ModelReport { used: "stub".into(), ..ModelReport::default() },
    }
}

/// The real models, loaded once per process, fetched when missing.
///
/// # Panics
/// When they cannot be loaded: the message says which file, from where, and how to hand it over.
pub fn real_models() -> Models {
    static ENCODERS: OnceLock<(Encoders, Arc<dyn Generator>, ModelReport)> = OnceLock::new();
    let (encoders, generator, report) = ENCODERS.get_or_init(|| {
        let models =
            load_models(&test_config(), Parts::ALL, &Silent).unwrap_or_else(|error| panic!("{error:#}"));
        (models.encoders, models.generator.expect("a generator was asked for"), models.report)
    });
    Models { encoders: encoders.clone(), generator: Some(generator.clone()), report: report.clone() }
}

/// The default configuration with time to spare, and `BOWERBIRD_MODELS_DIR` respected.
pub fn test_config() -> Config {
    let mut config = Config::default();
    // A busy machine must not turn a test of ranking into one of fallbacks.
    config.search.rerank_budget = Duration::from_mins(1);
    config.search.timeout = Duration::from_mins(2);
    config.ads.timeout = Duration::from_mins(1);
    config.models.dir = std::env::var_os("BOWERBIRD_MODELS_DIR").map(Into::into);
    config
}

/// A stack over `posts` in a new directory, every post indexed.
///
/// # Panics
/// When it cannot be opened.
pub async fn fixture(models: Models, posts: Vec<Post>) -> Fixture {
    fixture_with(test_config(), models, posts).await
}

/// As [`fixture`], with a configuration.
///
/// # Panics
/// When it cannot be opened.
pub async fn fixture_with(config: Config, models: Models, posts: Vec<Post>) -> Fixture {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let stack = Stack::assemble(&config, dir.path(), models, Parts::ALL).await.expect("a stack");
    write(&stack, posts).await;
    let metrics = PrometheusBuilder::new().build_recorder().handle();
    Fixture { router: router(stack.clone(), metrics), stack, dir }
}

/// Writes posts and waits until they are found by word and meaning.
///
/// # Panics
/// When they cannot be written.
pub async fn write(stack: &Stack, posts: Vec<Post>) {
    let live = stack.live.clone();
    let flushed = tokio::task::spawn_blocking(move || {
        let ops: Vec<Op> = posts.into_iter().map(|post| Op::Upsert(Box::new(post))).collect();
        if !ops.is_empty() {
            live.write_blocking(ops)?;
        }
        finish(&live)
    });
    flushed.await.expect("not cancelled").expect("posts are written");
}

/// One call: status and body as JSON (`Null` when it is not JSON).
///
/// # Panics
/// When the router fails to answer.
pub async fn call(router: &Router, method: Method, path: &str, body: impl Into<Body>) -> (StatusCode, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body.into())
        .expect("a request");
    let response = router.clone().oneshot(request).await.expect("routers do not fail");
    let status = response.status();
    let bytes = to_bytes(response.into_body(), 64 << 20).await.expect("a body");
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

/// `POST` of a JSON value.
pub async fn post_json(router: &Router, path: &str, body: Value) -> (StatusCode, Value) {
    call(router, Method::POST, path, body.to_string()).await
}
