//! How long does a search over short posts take, what does the cross-encoder add, and what does it change?
//!
//! `cargo bench -p bowerbird-benches --bench search_latency`. One process, caches off, 10,000 demo posts, 40 queries in
//! rounds that take turns between the variants, so that a slow minute of the machine meets all of them. Quality is the
//! overlap of the first ten hits with those of the reranked list, beside the milliseconds.
#![expect(clippy::print_stdout, reason = "the output of a bench")]

use std::collections::BTreeMap;
use std::time::Duration;

use bowerbird::eval::measure::latency;
use bowerbird::stack::Stack;
use bowerbird_benches::{POSTS, QUERIES, demo_without_caches};
use bowerbird_search::{Collapse, Mode, Recency, RerankOptions, SearchRequest};

const ROUNDS: usize = 3;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stack = demo_without_caches(0).await;
        run(&stack).await;
    });
}

async fn run(stack: &Stack) {
    let shipped = stack.engine.config().rerank;
    // Every query is read.
    let rerank = RerankOptions { gated: false, ..shipped };
    let off = RerankOptions { depth: 0, ..rerank };
    let bare = SearchRequest { rerank: Some(off), collapse: Some(Collapse::None), ..SearchRequest::new("") };
    let hybrid = SearchRequest { mode: Mode::Hybrid, ..bare.clone() };
    let folded = SearchRequest { collapse: Some(Collapse::NearDuplicates), ..hybrid.clone() };
    let week = Recency { half_life: Duration::from_hours(7 * 24), weight: 0.2 };
    let variants = [
        ("lexical", SearchRequest { mode: Mode::Lexical, ..bare.clone() }),
        ("vector", SearchRequest { mode: Mode::Vector, ..bare }),
        ("fused", hybrid.clone()),
        ("+folded", folded.clone()),
        ("+recency", SearchRequest { recency: Some(week), ..hybrid.clone() }),
        ("+mmr", SearchRequest { diversity: Some(0.3), ..hybrid.clone() }),
        ("+explain", SearchRequest { explain: true, ..hybrid }),
        ("reranked", SearchRequest { rerank: Some(rerank), ..folded.clone() }),
        ("gated", SearchRequest { rerank: Some(shipped), ..folded }),
    ];
    let mut totals: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut stages: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut overlap: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for round in 0..=ROUNDS {
        for q in QUERIES {
            let mut tops: BTreeMap<&str, Vec<String>> = BTreeMap::new();
            for (name, template) in &variants {
                let request = SearchRequest { text: q.to_owned(), ..template.clone() };
                let page = stack.engine.search(&request).await.expect("a page");
                assert!(page.degraded.is_empty(), "{q}: {:?} was skipped", page.degraded);
                tops.insert(name, page.hits.iter().map(|hit| hit.post.id.to_string()).collect());
                // The first round warms up.
                if round > 0 {
                    totals.entry(name).or_default().push(page.took.as_secs_f64() * 1e3);
                    if *name == "reranked" {
                        for (stage, time) in &page.stages {
                            stages.entry(stage.name()).or_default().push(time.as_secs_f64() * 1e3);
                        }
                    }
                }
            }
            for (name, _) in &variants {
                let shared = tops[*name].iter().filter(|id| tops["reranked"].contains(id)).count();
                overlap.entry(name).or_default().push(shared as f64 / tops["reranked"].len().max(1) as f64);
            }
        }
    }
    println!(
        "{POSTS} posts, {} queries × {ROUNDS} rounds, {} worker threads",
        QUERIES.len(),
        stack.config.models.worker_threads()
    );
    println!(
        "{:<10} {:>8} {:>8} {:>8} {:>10} {:>12}",
        "whole", "p50 ms", "p95", "p99", "× fused", "overlap@10"
    );
    let fused = latency(totals["fused"].clone()).p50;
    for (name, ms) in &totals {
        let quantiles = latency(ms.clone());
        let shared = overlap[name].iter().sum::<f64>() / overlap[name].len() as f64;
        println!(
            "{name:<10} {:>8.2} {:>8.2} {:>8.2} {:>10.2} {shared:>12.2}",
            quantiles.p50,
            quantiles.p95,
            quantiles.p99,
            quantiles.p50 / fused
        );
    }
    println!("{:<10} {:>8} {:>8} {:>8}", "stage", "p50 ms", "p95", "p99");
    for (name, ms) in &stages {
        let quantiles = latency(ms.clone());
        println!("{name:<10} {:>8.2} {:>8.2} {:>8.2}", quantiles.p50, quantiles.p95, quantiles.p99);
    }
}
