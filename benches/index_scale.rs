//! What do 100,000 or a million posts cost, and how fast and how right is retrieval over them?
//!
//! `cargo bench -p bowerbird-benches --bench index_scale -- --posts 1000000 [--keep DIR]`
//!
//! Posts: the 46,728 demo posts with their real vectors, then posts made of their halves (see `scale.rs`). Queries
//! are real, encoded by the real model, caches off, cross-encoder off. Recall is of the dense leg against exact
//! cosines over every post. With `--keep` the index stays in DIR and is used again.
#![expect(clippy::print_stdout, reason = "the output of a bench")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowerbird::cli::PostCount;
use bowerbird::demo;
use bowerbird::eval::measure::latency;
use bowerbird::stack::{Models, Parts, Stack, cache_dir, load_models};
use bowerbird_benches::QUERIES;
use bowerbird_benches::scale::{Given, Real};
use bowerbird_catalog::Silent;
use bowerbird_lexical::{Checkpoint, LexicalConfig, LexicalIndex};
use bowerbird_live::{Live, LiveConfig};
use bowerbird_models_api::TextRole;
use bowerbird_posts::{Op, Ordinal};
use bowerbird_scheduler::{Job, Priority};
use bowerbird_search::{Engine, Mode, RerankOptions, SearchConfig, SearchRequest};
use bytesize::ByteSize;
use roaring::RoaringBitmap;

const SEED: u64 = 7;
const ROUNDS: usize = 5;
/// Posts embedded by the real model to measure its rate.
const EMBEDDED: usize = 1000;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let (posts, keep) = arguments();
    runtime.block_on(run(posts, keep));
}

fn arguments() -> (usize, Option<PathBuf>) {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |name: &str| {
        arguments.iter().position(|argument| argument == name).and_then(|at| arguments.get(at + 1)).cloned()
    };
    let posts = after("--posts").map_or(100_000, |count| count.parse().expect("--posts takes a number"));
    (posts, after("--keep").map(PathBuf::from))
}

async fn run(count: usize, keep: Option<PathBuf>) {
    let (models, real) = prepared().await;
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let dir = keep.unwrap_or_else(|| temporary.path().join("data"));
    if !dir.join("FORMAT").exists() {
        rates(&models, &real, count).await;
    }
    let live = loaded(&real, count, &dir);
    drop(real);
    sizes(&live, &dir);
    let config = SearchConfig {
        rerank: RerankOptions { depth: 0, blend: 0.0, gated: false, budget: None },
        ..SearchConfig::default()
    };
    let engine = Engine::new(live.clone(), models.encoders.clone(), config).expect("an engine");
    searches(&engine).await;
    recall(&live, &models).await;
}

/// The models with caches off, and the demo posts with their vectors, indexed once.
async fn prepared() -> (Models, Real) {
    let mut config = bowerbird_tests::test_config();
    config.models.query_cache = ByteSize(0);
    config.models.score_cache = ByteSize(0);
    let dir = cache_dir().expect("a cache directory").join("bench-data").join("demo-all");
    std::fs::create_dir_all(&dir).expect("a directory for bench data");
    let stack: Stack =
        demo::prepare(&config, &dir, PostCount::All).await.unwrap_or_else(|error| panic!("{error:#}"));
    drop(stack);
    let models = load_models(&config, Parts::SEARCH, &Silent).unwrap_or_else(|error| panic!("{error:#}"));
    let space = models.encoders.space().clone();
    let real = Real::read(&dir, &space.fingerprint(), space.dim);
    (models, real)
}

/// Posts a second: into the lexical index alone, and through the real embedder.
async fn rates(models: &Models, real: &Real, count: usize) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let index = LexicalIndex::open_with(dir.path(), LexicalConfig::default()).expect("a lexical index");
    let begun = Instant::now();
    for (ordinal, (post, _)) in (0..).zip(real.grown(count, SEED)) {
        index.add(Ordinal(ordinal), &post).expect("added");
    }
    index.commit(Checkpoint { next_ordinal: count as u32, sequence: 1 }).expect("committed");
    println!(
        "lexical alone     {:>10.0} posts/s, making them included",
        count as f64 / begun.elapsed().as_secs_f64()
    );
    let texts: Vec<String> = real.grown(EMBEDDED, SEED).map(|(post, _)| post.text).collect();
    let encoders = models.encoders.clone();
    let begun = Instant::now();
    tokio::task::spawn_blocking(move || encoders.embed_blocking(&texts, TextRole::Passage, Priority::Bulk))
        .await
        .expect("not cancelled")
        .expect("embedded");
    println!(
        "real embedder     {:>10.0} posts/s, all cores",
        EMBEDDED as f64 / begun.elapsed().as_secs_f64()
    );
}

/// A live generation of `count` posts, every vector in it and the graph built.
fn loaded(real: &Real, count: usize, dir: &Path) -> Live {
    let config = LiveConfig { embed_batch: 1024, ..LiveConfig::default() };
    let source = Arc::new(Given::new(real, count, SEED));
    let begun = Instant::now();
    let live = Live::open(dir, config, source).expect("a live generation");
    println!(
        "open              {:>10.1} s with {} posts",
        begun.elapsed().as_secs_f64(),
        live.status().posts
    );
    if live.status().posts < count as u64 {
        let begun = Instant::now();
        let mut grown = real.grown(count, SEED);
        loop {
            let ops: Vec<Op> =
                grown.by_ref().take(1000).map(|(post, _)| Op::Upsert(Box::new(post))).collect();
            if ops.is_empty() {
                break;
            }
            live.write_blocking(ops).expect("written");
        }
        let written = begun.elapsed();
        live.flush().expect("flushed");
        println!(
            "bulk load         {:>10.0} posts/s durable, {:.0} posts/s searchable both ways, vectors given",
            count as f64 / written.as_secs_f64(),
            count as f64 / begun.elapsed().as_secs_f64()
        );
    }
    let begun = Instant::now();
    while live.snapshot().vectors().wants_seal(&RoaringBitmap::new()) {
        std::thread::sleep(Duration::from_millis(200));
    }
    println!("graph             {:>10.1} s more until it serves", begun.elapsed().as_secs_f64());
    live
}

fn sizes(live: &Live, dir: &Path) {
    let posts = live.status().posts as f64;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok()).unwrap_or(0.0)
    };
    println!(
        "resident          {:>10.0} MB private, {:.0} MB of files; models and bench data included",
        kilobytes("RssAnon:") / 1024.0,
        kilobytes("RssFile:") / 1024.0
    );
    for part in ["posts", "generation/lexical", "generation/vector"] {
        println!("disk {part:<20} {:>10.0} bytes a post", bytes_below(&dir.join(part)) as f64 / posts);
    }
}

fn bytes_below(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let size = |entry: std::fs::DirEntry| {
        let metadata = entry.metadata().ok()?;
        Some(if metadata.is_dir() { bytes_below(&entry.path()) } else { metadata.len() })
    };
    entries.flatten().filter_map(size).sum()
}

async fn searches(engine: &Engine) {
    let variants = [("lexical", Mode::Lexical), ("vector", Mode::Vector), ("hybrid", Mode::Hybrid)];
    let mut totals = [const { Vec::new() }; 3];
    let mut stages: std::collections::BTreeMap<&str, Vec<f64>> = std::collections::BTreeMap::new();
    for round in 0..=ROUNDS {
        for q in QUERIES {
            for (at, (_, mode)) in variants.iter().enumerate() {
                let request = SearchRequest { mode: *mode, ..SearchRequest::new(q) };
                let page = engine.search(&request).await.expect("a page");
                assert!(page.degraded.is_empty(), "{q}: {:?} was skipped", page.degraded);
                // The first round warms up.
                if round > 0 {
                    totals[at].push(page.took.as_secs_f64() * 1e3);
                    if *mode == Mode::Hybrid {
                        for (stage, time) in &page.stages {
                            stages.entry(stage.name()).or_default().push(time.as_secs_f64() * 1e3);
                        }
                    }
                }
            }
        }
    }
    println!("{:<16} {:>8} {:>8} {:>8}", "whole search, ms", "p50", "p95", "p99");
    for ((name, _), ms) in variants.iter().zip(totals) {
        let quantiles = latency(ms);
        println!("{name:<16} {:>8.2} {:>8.2} {:>8.2}", quantiles.p50, quantiles.p95, quantiles.p99);
    }
    for (name, ms) in stages {
        let quantiles = latency(ms);
        println!("  {name:<14} {:>8.2} {:>8.2} {:>8.2}", quantiles.p50, quantiles.p95, quantiles.p99);
    }
}

/// Share of the ten nearest posts that the dense leg finds, over all queries.
async fn recall(live: &Live, models: &Models) {
    let snapshot = live.snapshot();
    let (mut found, mut wanted) = (0, 0);
    for q in QUERIES {
        let job = Job { priority: Priority::QueryEmbedding, deadline: None };
        let vector = models.encoders.embed(q, TextRole::Query, job).await.expect("embedded");
        let near = snapshot.vectors().search(vector.as_slice(), 10, Some(snapshot.live())).expect("searched");
        let exact = snapshot.vectors().search_exact(vector.as_slice(), 10, Some(snapshot.live()));
        let exact = exact.expect("searched");
        found += exact.iter().filter(|hit| near.iter().any(|other| other.0 == hit.0)).count();
        wanted += exact.len();
    }
    println!(
        "recall@10         {:>10.4} of the dense leg against exact cosines, {} queries",
        f64::from(found as u32) / f64::from(wanted as u32),
        QUERIES.len()
    );
}
