//! How fast is lexical search beside raw tantivy on the same index, and are the hits the exact ones?
//!
//! `cargo bench -p bowerbird-benches --bench lexical_speed -- --posts 1000000 [--rounds 3] [--commits 60]`. The texts
//! are the demo posts; past their number, halves of two of them are put together. The index is kept in the user's
//! cache between runs. Raw tantivy is its own BM25 (k1 1.2, b .75, approximate block bounds) as an OR of the same
//! terms in the same fields: a measure of speed, not of the same ranking.
#![expect(clippy::print_stdout, reason = "the output of a bench")]

#[path = "lexical_speed/measure.rs"]
mod measure;

use bowerbird_benches::{argument, demo_texts};

fn main() {
    let options = measure::Options {
        posts: argument("--posts", 100_000),
        rounds: argument("--rounds", 3),
        commits: argument("--commits", 0),
    };
    let texts = demo_texts();
    let dir = bowerbird::stack::cache_dir().expect("a cache directory");
    let kept = dir.join("bench-data").join(format!("lexical-{}", options.posts));
    if options.commits == 0 {
        std::fs::create_dir_all(&kept).expect("a directory for bench data");
        return measure::run(&kept, &texts, &options);
    }
    // Commits change the index, so they get one of their own.
    let own = tempfile::tempdir().expect("a directory");
    measure::run(own.path(), &texts, &options);
}
