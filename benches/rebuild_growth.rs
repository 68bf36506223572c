//! How does the cost of building a data directory grow from ten thousand posts to a million, vectors given?
//!
//! `cargo bench -p bowerbird-benches --bench rebuild_growth`; `-- --most 1000000` is the default. Posts and vectors are
//! made from the demo's (see `src/scale.rs`); each size is built in a directory of its own, the graph included.
//! Posts/s are of one build on all cores; each size is compared with the first.
#![expect(clippy::print_stdout, reason = "the output of a bench")]

use std::time::Instant;

use bowerbird::stack::cache_dir;
use bowerbird::usage;
use bowerbird_benches::scale::Real;
use bowerbird_benches::{POSTS, argument, demo_without_caches};
use bowerbird_live::{LiveConfig, bulk_build};

const SEED: u64 = 11;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let (space, dim) = {
        let stack = runtime.block_on(demo_without_caches(0));
        let space = stack.encoders.space();
        (space.fingerprint(), space.dim)
    };
    let base = cache_dir().expect("a cache directory").join("bench-data").join(format!("demo-{POSTS}"));
    let real = Real::read(&base, &space, dim);
    let most = argument("--most", 1_000_000);
    println!(
        "{:>9} {:>9} {:>9} {:>10} {:>12} {:>12} {:>9}",
        "posts", "seconds", "posts/s", "× first", "bytes/post", "written/post", "peak MB"
    );
    let mut first = None;
    for count in [10_000, 30_000, 100_000, 300_000, 1_000_000].into_iter().filter(|count| *count <= most) {
        let home = tempfile::tempdir_in(cache_dir().expect("a cache directory")).expect("a directory");
        let posts = real.grown(count, SEED).map(|(post, vector)| Ok((post, Some(vector))));
        let (begun, before) = (Instant::now(), usage::written_bytes());
        let target = home.path().join("built");
        let report =
            bulk_build(&target, &space, dim, &LiveConfig::default(), posts, &mut |_| {}).expect("built");
        let seconds = begun.elapsed().as_secs_f64();
        let rate = count as f64 / seconds;
        let first = *first.get_or_insert(rate);
        println!(
            "{:>9} {seconds:>9.1} {rate:>9.0} {:>10.2} {:>12} {:>12} {:>9}",
            report.posts,
            rate / first,
            report.bytes / report.posts.max(1),
            (usage::written_bytes() - before) / report.posts.max(1),
            usage::peak_memory_bytes().unwrap_or_default() >> 20
        );
    }
}
