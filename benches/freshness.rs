//! How soon is what was acknowledged found, by words and by meaning, and what does a crowd of writes cost a search?
//!
//! `cargo bench -p bowerbird-benches --bench freshness`; `BOWERBIRD_FRESHNESS_SECONDS=30`, `BOWERBIRD_FRESHNESS_RATE=200`
//! and `BOWERBIRD_EMBED_BATCH=32` are the defaults. Real models, no caches, a copy of the demo index of 10,000 posts.
//! The load is open: posts are sent when they are due, however far the index is, with a tenth as many edits, counter
//! changes and deletions each. Latencies count from the acknowledgement to the first snapshot that has it, looked at
//! every millisecond or so; a vector that was not there when the drain ended would stop the bench. Twice in one
//! process: alone, and with five searches a second beside.
#![expect(clippy::print_stdout, reason = "the output of a bench")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bowerbird::demo;
use bowerbird::eval::measure::latency;
use bowerbird::stack::{Parts, Stack, cache_dir, load_models, model_store};
use bowerbird_benches::{POSTS, QUERIES, demo_without_caches};
use bowerbird_catalog::{Catalog, Silent};
use bowerbird_lexical::BagQuery;
use bowerbird_live::{Filter, Live, SnapshotDraft, copy_closed, restore};
use bowerbird_posts::{CountsPatch, Op, Ordinal, Outcome, Post, PostId};
use bowerbird_search::SearchRequest;
use bowerbird_vector::PointId;
use bytesize::ByteSize;

/// Posts of one write.
const BATCH: usize = 10;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let (seconds, rate) =
        (number("BOWERBIRD_FRESHNESS_SECONDS", 30), number("BOWERBIRD_FRESHNESS_RATE", 200));
    let texts = spare_texts();
    drop(runtime.block_on(demo_without_caches(0)));
    let base = cache_dir().expect("a cache directory").join("bench-data").join(format!("demo-{POSTS}"));
    let dir = tempfile::tempdir().expect("a directory");
    let draft = SnapshotDraft::begin(&dir.path().join("base")).expect("begun");
    let contents = copy_closed(&base, &draft).expect("copied");
    draft.finish(contents).expect("taken");
    println!(
        "{POSTS} posts to begin with; {rate} posts/s in writes of {BATCH} for {seconds} s, and {} edits, counter changes \
         and deletions/s each",
        rate / BATCH
    );
    for searches in [0, 5] {
        let data = dir.path().join(format!("with-{searches}-searches"));
        restore(&dir.path().join("base"), &data).expect("restored");
        let mut config = bowerbird_tests::test_config();
        config.models.query_cache = ByteSize(0);
        config.models.score_cache = ByteSize(0);
        config.search.rerank_budget = Duration::from_millis(400);
        config.index.embed_batch = number("BOWERBIRD_EMBED_BATCH", config.index.embed_batch);
        let models = load_models(&config, Parts::SEARCH, &Silent).expect("models");
        let stack =
            runtime.block_on(Stack::assemble(&config, &data, models, Parts::SEARCH)).expect("a stack");
        println!("\nwith {searches} searches/s beside");
        run(&runtime, &stack, &texts, rate, Duration::from_secs(seconds as u64), searches);
    }
}

/// Demo posts that are not in the index.
fn spare_texts() -> Vec<String> {
    let catalog = Catalog::embedded().expect("a catalog");
    let store = model_store(&bowerbird_tests::test_config()).expect("a store");
    let entry = catalog.entry("demo-posts").expect("demo posts");
    let archive = store.ensure(entry, &Silent).expect("demo posts").join("healthtweets.zip");
    demo::corpus::read(&archive).expect("demo posts").into_iter().map(|post| post.text).collect()
}

/// A version of a post whose way into the indexes is followed.
struct Followed {
    ordinal: Ordinal,
    /// A word that no other text has.
    word: String,
    acknowledged: Instant,
    edit: bool,
}

fn run(
    runtime: &tokio::runtime::Runtime,
    stack: &Stack,
    texts: &[String],
    rate: usize,
    length: Duration,
    searches: u32,
) {
    let live = &stack.live;
    let done = AtomicBool::new(false);
    let (follow, followed) = mpsc::channel();
    let searched = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(move || watch(live, &followed));
        let searcher = scope.spawn(|| {
            let mut took = Vec::new();
            while searches > 0 && !done.load(Ordering::Acquire) {
                let begun = Instant::now();
                let q = QUERIES[searched.fetch_add(1, Ordering::AcqRel) % QUERIES.len()];
                runtime.block_on(stack.engine.search(&SearchRequest::new(q))).expect("a page");
                took.push(begun.elapsed().as_secs_f64() * 1e3);
                std::thread::sleep((Duration::from_secs(1) / searches).saturating_sub(begun.elapsed()));
            }
            took
        });
        let begun = Instant::now();
        let written = write(live, texts, rate, length, follow);
        let wrote_for = begun.elapsed();
        let backlog = live.status().vectors_pending;
        let draining = Instant::now();
        live.flush().expect("everything gets into the indexes");
        let drained = draining.elapsed();
        done.store(true, Ordering::Release);
        let seen = watcher.join().expect("no panic");
        let took = searcher.join().expect("no panic");

        let line = |name: &str, ms: Vec<f64>| {
            if ms.is_empty() {
                return;
            }
            let (count, worst) = (ms.len(), ms.iter().copied().fold(0.0, f64::max));
            let at = latency(ms);
            println!("{name:<34} {count:>6} {:>9.1} {:>9.1} {:>9.1} {worst:>9.1}", at.p50, at.p95, at.p99);
        };
        println!("{:<34} {:>6} {:>9} {:>9} {:>9} {:>9}", "", "n", "p50 ms", "p95", "p99", "worst");
        line("write, sent to acknowledged", written.acknowledged);
        line("post found by words", seen.words);
        line("post has its vector", seen.vectors);
        line("edit found by its new words", seen.edit_words);
        line("edit has its vector", seen.edit_vectors);
        line("whole search", took);
        println!(
            "at the acknowledgement: {} of {} counters changed, {} of {} deleted posts and {} of {} old texts gone",
            written.counters.0,
            written.counters.1,
            written.deletions.0,
            written.deletions.1,
            written.edits.0,
            written.edits.1
        );
        let vectors = written.posts + written.edits.1;
        println!(
            "{} posts in {:.1} s; {backlog} vectors to go at the end, drained in {:.1} s: {:.0} vectors/s",
            written.posts,
            wrote_for.as_secs_f64(),
            drained.as_secs_f64(),
            vectors as f64 / (wrote_for + drained).as_secs_f64()
        );
    });
}

/// What was written, and how much of it was to be seen when it was acknowledged.
#[derive(Default)]
struct Written {
    acknowledged: Vec<f64>,
    posts: usize,
    counters: (usize, usize),
    deletions: (usize, usize),
    edits: (usize, usize),
}

fn write(
    live: &Live,
    texts: &[String],
    rate: usize,
    length: Duration,
    follow: mpsc::Sender<Followed>,
) -> Written {
    let mut written = Written::default();
    let begun = Instant::now();
    let pause = Duration::from_secs(1) * BATCH as u32 / rate as u32;
    for round in 0.. {
        let due = begun + pause * round;
        if due > begun + length {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let word = |n: usize| format!("unique{round}x{n}");
        let text =
            |n: usize| format!("{} {}", texts[(round as usize * (BATCH + 1) + n) % texts.len()], word(n));
        let upsert = |name: String, n: usize| {
            let post = Post::new(PostId::new(name).expect("valid"), text(n), "bench", jiff::Timestamp::now());
            Op::Upsert(Box::new(post.validated().expect("valid")))
        };
        let mut send = |ops: Vec<Op>| {
            let sent = Instant::now();
            let outcomes = live.write_blocking(ops).expect("acknowledged");
            written.acknowledged.push(sent.elapsed().as_secs_f64() * 1e3);
            outcomes
        };
        let outcomes = send((0..BATCH).map(|n| upsert(format!("r{round}n{n}"), n)).collect());
        let acknowledged = Instant::now();
        for (n, outcome) in outcomes.into_iter().enumerate() {
            let Outcome::Created { ordinal } = outcome else { panic!("{outcome:?}") };
            // The receiver is there until the sender goes.
            let _ = follow.send(Followed { ordinal, word: word(n), acknowledged, edit: false });
        }
        written.posts += BATCH;
        if round < 20 {
            continue;
        }
        let old = |n: usize| PostId::new(format!("r{}n{n}", round - 20)).expect("valid");
        let edited = send(vec![upsert(old(0).to_string(), BATCH)]);
        if let [Outcome::Replaced { ordinal, old }] = edited[..] {
            written.edits.0 += usize::from(!live.is_live(old));
            let _ = follow.send(Followed {
                ordinal,
                word: word(BATCH),
                acknowledged: Instant::now(),
                edit: true,
            });
        }
        written.edits.1 += 1;
        let counts = CountsPatch { likes: Some(1_000_000), ..CountsPatch::default() };
        if let [Outcome::CountsChanged { ordinal, .. }] = send(vec![Op::SetCounts { id: old(1), counts }])[..]
        {
            let snapshot = live.snapshot();
            let popular = snapshot.allowed(Some(&Filter::MinLikes(1_000_000))).expect("evaluated").bitmap;
            let seen = popular.contains(ordinal.0) && snapshot.columns().counts(ordinal).likes == 1_000_000;
            written.counters.0 += usize::from(seen);
        }
        written.counters.1 += 1;
        if let [Outcome::Deleted { ordinal }] = send(vec![Op::Delete(old(2))])[..] {
            written.deletions.0 += usize::from(!live.is_live(ordinal));
        }
        written.deletions.1 += 1;
    }
    written
}

#[derive(Default)]
struct Seen {
    words: Vec<f64>,
    vectors: Vec<f64>,
    edit_words: Vec<f64>,
    edit_vectors: Vec<f64>,
}

/// Looks at new snapshots until everything sent was seen. Of the posts, one in each write is searched for.
fn watch(live: &Live, followed: &mpsc::Receiver<Followed>) -> Seen {
    let mut seen = Seen::default();
    let (mut words, mut vectors): (Vec<Followed>, Vec<(Ordinal, Instant, bool)>) = (Vec::new(), Vec::new());
    let mut open = true;
    while open || !words.is_empty() || !vectors.is_empty() {
        loop {
            match followed.try_recv() {
                Ok(followed) => {
                    vectors.push((followed.ordinal, followed.acknowledged, followed.edit));
                    if followed.edit || followed.ordinal.0.is_multiple_of(BATCH as u32) {
                        words.push(followed);
                    }
                }
                Err(mpsc::TryRecvError::Empty) => break,
                Err(mpsc::TryRecvError::Disconnected) => {
                    open = false;
                    break;
                }
            }
        }
        let snapshot = live.snapshot();
        // One commit makes many visible: the oldest that is not there tells of those after it.
        words.retain(|post| {
            if !snapshot.live().contains(post.ordinal.0) {
                return false;
            }
            let found = snapshot.lexical().search(&BagQuery::words(post.word.clone()), None, 1);
            let there = found.expect("searched").total > 0;
            if there {
                let ms = post.acknowledged.elapsed().as_secs_f64() * 1e3;
                if post.edit { seen.edit_words.push(ms) } else { seen.words.push(ms) }
            }
            !there
        });
        vectors.retain(|(ordinal, acknowledged, edit)| {
            if !snapshot.live().contains(ordinal.0) {
                return false;
            }
            let there = snapshot.vectors().contains(PointId(ordinal.0));
            if there {
                let ms = acknowledged.elapsed().as_secs_f64() * 1e3;
                if *edit { seen.edit_vectors.push(ms) } else { seen.vectors.push(ms) }
            }
            !there
        });
        std::thread::sleep(Duration::from_millis(1));
    }
    seen
}
