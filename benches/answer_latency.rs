//! How soon does a reader see the first checked sentence, and where do the sentences come from?
//!
//! `cargo bench -p bowerbird-benches --bench answer_latency`. One process, caches off, 10,000 demo posts. The baseline
//! is the search alone, in the same process. `--free` lifts the constraint on the generator's words, `--once` takes back
//! the second try of a rejected sentence.
#![expect(clippy::print_stdout, reason = "the output of a bench")]

use std::time::Instant;

use bowerbird::commands::ask::ask;
use bowerbird::eval::measure::latency;
use bowerbird_benches::{POSTS, QUERIES, demo_with};
use bowerbird_search::SearchRequest;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run());
}

async fn run() {
    let given = |name: &str| std::env::args().any(|argument| argument == name);
    let (free, once) = (given("--free"), given("--once"));
    let stack = demo_with(0, |config| {
        config.answer.compose.constrain = !free;
        config.answer.compose.regenerate = !once;
        config.answer.timeout = std::time::Duration::from_mins(1);
    })
    .await;
    let (mut kept, mut again, mut replaced, mut dropped, mut conflicting) = (0, 0, 0, 0, 0);
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
        let usage = answer.summary.usage;
        kept += usage.generated;
        again += usage.regenerated;
        replaced += usage.replaced;
        dropped += usage.dropped;
        conflicting += usage.conflicting;
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
    let drafted = kept + again + replaced;
    let share = |n: usize| 100.0 * n as f64 / drafted.max(1) as f64;
    println!(
        "constrained: {}, second try: {}; of {drafted} drafted sentences: {kept} held ({:.0}%), {again} held at the second \
         try ({:.0}%), {replaced} replaced by a quotation ({:.0}%); {dropped} dropped, {conflicting} in conflicts",
        !free,
        !once,
        share(kept),
        share(again),
        share(replaced),
    );
    println!("{:<24} {:>8} {:>8} {:>8}", "ms", "p50", "p95", "p99");
    for (name, ms) in [("search alone", search), ("first sentence", first), ("whole answer", whole)] {
        let quantiles = latency(ms);
        println!("{name:<24} {:>8.0} {:>8.0} {:>8.0}", quantiles.p50, quantiles.p95, quantiles.p99);
    }
}
