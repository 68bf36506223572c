//! How soon does a reader see the first checked sentence, and where do the sentences come from?
//!
//! `cargo bench -p bowerbird-benches --bench answer_latency`. One process, caches off, 10,000 demo posts. The baseline
//! is the search alone, in the same process.
#![expect(clippy::print_stdout, reason = "the output of a bench")]

use std::time::Instant;

use bowerbird::commands::ask::ask;
use bowerbird::eval::measure::latency;
use bowerbird_benches::{POSTS, QUERIES, demo_without_caches};
use bowerbird_search::SearchRequest;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run());
}

async fn run() {
    let stack = demo_without_caches(0).await;
    let (mut first, mut whole, mut search) = (Vec::new(), Vec::new(), Vec::new());
    let (mut generated, mut extracted, mut refused) = (0, 0, 0);
    for q in QUERIES {
        let begun = Instant::now();
        stack.engine.search(&SearchRequest::new(q)).await.expect("a page");
        search.push(begun.elapsed().as_secs_f64() * 1e3);
        let begun = Instant::now();
        let (answer, _) = ask(&stack, q, false).await.expect("an answer");
        whole.push(begun.elapsed().as_secs_f64() * 1e3);
        match answer.summary.usage.first_sentence_ms {
            Some(ms) => first.push(ms as f64),
            None => refused += 1,
        }
        for sentence in &answer.sentences {
            if sentence.origin.as_str() == "generated" {
                generated += 1;
            } else {
                extracted += 1;
            }
        }
    }
    println!(
        "{POSTS} posts, {} questions, generator {}",
        QUERIES.len(),
        stack.models.generator.as_deref().unwrap_or("none")
    );
    println!("sentences: {generated} generated, {extracted} quoted; {refused} refusals");
    println!("{:<24} {:>8} {:>8} {:>8}", "ms", "p50", "p95", "p99");
    for (name, ms) in [("search alone", search), ("first sentence", first), ("whole answer", whole)] {
        let quantiles = latency(ms);
        println!("{name:<24} {:>8.0} {:>8.0} {:>8.0}", quantiles.p50, quantiles.p95, quantiles.p99);
    }
}
