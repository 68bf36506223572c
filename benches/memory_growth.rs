//! Does a server grow with the requests it has answered?
//!
//! `cargo bench -p bowerbird-benches --bench memory_growth [-- --requests 100000]`. One process with every model, 10,000
//! demo posts and caches as they are shipped; requests of every kind go through the router, four at a time, each with
//! words that no request had before. What is printed is the memory of the process: its own (`RssAnon`) and what it maps
//! (`RssFile`). It rises while caches and free lists fill, and must then stay.
#![expect(clippy::print_stdout, reason = "the output of a bench")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use axum::Router;
use axum::http::StatusCode;
use bowerbird::cli::PostCount;
use bowerbird::http::router;
use bowerbird::stack::cache_dir;
use bowerbird_benches::{POSTS, argument, demo_texts};
use bowerbird_tests::{post_json, test_config};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};

const AT_ONCE: usize = 4;
const STEPS: usize = 10;

fn main() {
    let requests = argument("--requests", 100_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let dir = cache_dir().expect("a cache directory").join("bench-data").join(format!("demo-{POSTS}"));
        std::fs::create_dir_all(&dir).expect("a directory for bench data");
        let stack = bowerbird::demo::prepare(&test_config(), &dir, PostCount::First(POSTS)).await;
        let stack = stack.unwrap_or_else(|error| panic!("{error:#}"));
        let router = router(stack, PrometheusBuilder::new().build_recorder().handle());
        let texts = Arc::new(demo_texts());
        let next = Arc::new(AtomicUsize::new(0));
        println!("{:>9} {:>12} {:>12} {:>12}", "requests", "own MB", "mapped MB", "requests/s");
        let mut first = None;
        for step in 0..=STEPS {
            // The first step warms up every path.
            let until = if step == 0 { 400 } else { 400 + requests * step / STEPS };
            let begun = Instant::now();
            let before = next.load(Ordering::Relaxed);
            let tasks: Vec<_> = (0..AT_ONCE)
                .map(|_| tokio::spawn(ask(router.clone(), texts.clone(), next.clone(), until)))
                .collect();
            for task in tasks {
                task.await.expect("no request panics");
            }
            let (own, mapped) = (status("RssAnon"), status("RssFile"));
            let rate = (until - before) as f64 / begun.elapsed().as_secs_f64();
            println!("{until:>9} {own:>12.1} {mapped:>12.1} {rate:>12.0}");
            if step == 2 {
                first = Some(own);
            }
        }
        let growth = status("RssAnon") - first.expect("there are more steps");
        println!(
            "growth of its own memory over the last {} requests: {growth:.1} MB",
            requests * (STEPS - 2) / STEPS
        );
    });
}

/// Sends requests number `next` to `until`.
async fn ask(router: Router, texts: Arc<Vec<String>>, next: Arc<AtomicUsize>, until: usize) {
    loop {
        let at = next.fetch_add(1, Ordering::Relaxed);
        if at >= until {
            next.fetch_min(until, Ordering::Relaxed);
            return;
        }
        let (path, body) = request(&texts, at);
        let (status, reply) = post_json(&router, path, body).await;
        assert!(
            status == StatusCode::OK || status == StatusCode::TOO_MANY_REQUESTS,
            "{path}: {status} {reply}"
        );
    }
}

/// Three in four are searches; one in a thousand writes an answer, because that takes a hundred times as long.
fn request(texts: &[String], at: usize) -> (&'static str, Value) {
    let text = |n: usize| texts[(at * 7 + n) % texts.len()].as_str();
    let words: Vec<&str> = text(0).split_whitespace().skip(at % 3).take(2 + at % 4).collect();
    let q = format!("{} {at}", words.join(" ").replace(['"', ':', '(', ')'], " "));
    match at % 1000 {
        0 => {
            ("/v1/answer", json!({"q": words.join(" ").replace(['"', ':', '(', ')'], " "), "stream": false}))
        }
        1..=20 => ("/v1/search", json!({"q": q})),
        21..=120 => ("/v1/embeddings", json!({"model": "bge-small-en-v1.5", "input": [text(1)]})),
        121..=170 => ("/v1/rerank", json!({"query": q, "documents": [text(1), text(2)]})),
        171..=250 => ("/v1/search", json!({"q": q, "mode": "lexical", "rerank": false, "explain": true})),
        _ => ("/v1/search", json!({"q": q, "rerank": false})),
    }
}

/// A line of `/proc/self/status` that is in kB, as MB.
fn status(name: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = text.lines().find(|line| line.starts_with(name)).expect("a line of that name");
    let kilobytes: f64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    kilobytes / 1e3
}
