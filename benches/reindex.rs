//! What does a migration to another embedder cost those who search and write meanwhile, and is anything lost?
//!
//! `cargo bench -p bowerbird-benches --bench reindex`; `-- --queries 20 --writes 50 --seconds 60 --posts 46728` are the
//! defaults. Real models with the caches as shipped, a copy of the demo posts indexed with e5-small-v2 (made once, some
//! minutes), migrated to bge-small-en-v1.5. The load is open: queries (the first words of posts drawn at random, so
//! that nearly all are new) and writes (six in ten new posts, two edits, one deletion, one change of counters) are sent
//! when they are due. Latencies before, during and after come from one process, as do the ratios. At the end every
//! post is compared with what was acknowledged, the indexes with the post store, and the old generation serves again.
#![expect(clippy::print_stdout, reason = "the output of a bench")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bowerbird::cli::PostCount;
use bowerbird::config::Config;
use bowerbird::demo;
use bowerbird::eval::measure::latency;
use bowerbird::stack::{Parts, Stack, cache_dir};
use bowerbird::usage;
use bowerbird_benches::{argument, demo_texts};
use bowerbird_catalog::Silent;
use bowerbird_live::{SnapshotDraft, check, copy_closed, restore};
use bowerbird_posts::{CountsPatch, Op, Ordinal, Post, PostId};
use bowerbird_reindex::{Phase, Plan, State};
use bowerbird_search::SearchRequest;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::runtime::Runtime;

const OLD: &str = "e5-small-v2";
const NEW: &str = "bge-small-en-v1.5";
const SEED: u64 = 7;

/// Parts of the run, by name.
const PHASES: [&str; 3] = ["before", "during", "after"];

/// What the load saw.
#[derive(Default)]
struct Seen {
    phase: AtomicUsize,
    stop: AtomicBool,
    search_ms: [Mutex<Vec<f64>>; 3],
    write_ms: [Mutex<Vec<f64>>; 3],
    failed: AtomicUsize,
    degraded: AtomicUsize,
}

fn main() {
    let (queries, writes) = (argument("--queries", 20), argument("--writes", 50));
    let (seconds, posts) = (argument("--seconds", 60) as u64, argument("--posts", 46_728));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let base = base(&runtime, posts);
    let home = tempfile::tempdir_in(cache_dir().expect("a cache directory")).expect("a directory");
    let data = copied(&base, home.path());
    let texts = demo_texts();

    let config = bowerbird_tests::test_config();
    let mut shipped = Config { models: config.models, ..Config::default() };
    shipped.ads.enabled = false;
    let stack = runtime.block_on(Stack::open(&shipped, &data, Parts::SEARCH, &Silent)).expect("a stack");
    assert_eq!(stack.index_embedder(), OLD);
    println!(
        "{} posts; {queries} queries/s and {writes} writes/s; {seconds} s before and after",
        stack.live.status().posts
    );

    let seen = Arc::new(Seen::default());
    let searching = runtime.spawn(search(stack.clone(), texts.clone(), queries, Arc::clone(&seen)));
    let writing = runtime.spawn(write(stack.clone(), texts, writes, Arc::clone(&seen)));
    std::thread::sleep(Duration::from_secs(seconds));
    seen.phase.store(1, Ordering::Release);
    let (began, written_before) = (Instant::now(), usage::written_bytes());
    let plan = migrate(&runtime, &stack);
    let took = began.elapsed();
    let bytes = usage::written_bytes() - written_before;
    seen.phase.store(2, Ordering::Release);
    std::thread::sleep(Duration::from_secs(seconds));
    seen.stop.store(true, Ordering::Release);
    runtime.block_on(searching).expect("no panic");
    let expected = runtime.block_on(writing).expect("no panic");
    stack.live.flush().expect("flushed");

    assert_eq!((plan.state, &plan.reasons), (State::Done, &Vec::new()));
    let compared = plan.comparison.expect("compared");
    let live = stack.live.status().posts;
    println!(
        "migrated in {:.0} s: {:.0} posts/s on {} cores; {} bytes written a post, writes of the load included; peak {} MB",
        took.as_secs_f64(),
        live as f64 / took.as_secs_f64(),
        bowerbird::config::cores(),
        bytes / live.max(1),
        usage::peak_memory_bytes().unwrap_or_default() >> 20
    );
    println!(
        "compared: {} posts in {} shards agree; overlap@10 {:.3} over {} queries",
        compared.posts, compared.shards, compared.overlap_at_10, compared.queries
    );
    table("search", &seen.search_ms);
    table("write", &seen.write_ms);
    println!(
        "failed {}, without one of the two retrievals {}",
        seen.failed.load(Ordering::Acquire),
        seen.degraded.load(Ordering::Acquire)
    );
    verify(&runtime, stack, &data, &expected);
}

/// The demo posts indexed with the old embedder; kept between runs.
fn base(runtime: &Runtime, posts: usize) -> PathBuf {
    let name = if posts == 46_728 { "reindex-e5".to_owned() } else { format!("reindex-e5-{posts}") };
    let dir = cache_dir().expect("a cache directory").join("bench-data").join(name);
    std::fs::create_dir_all(&dir).expect("a directory for bench data");
    let mut config = bowerbird_tests::test_config();
    config.models.embedder = OLD.into();
    let count = if posts == 46_728 { PostCount::All } else { PostCount::First(posts) };
    drop(runtime.block_on(demo::prepare(&config, &dir, count)).unwrap_or_else(|error| panic!("{error:#}")));
    dir
}

fn copied(base: &Path, home: &Path) -> PathBuf {
    let draft = SnapshotDraft::begin(&home.join("base")).expect("begun");
    let contents = copy_closed(base, &draft).expect("copied");
    draft.finish(contents).expect("taken");
    let data = home.join("data");
    restore(&home.join("base"), &data).expect("restored");
    data
}

fn migrate(runtime: &Runtime, stack: &Stack) -> Plan {
    let reindexer = &stack.reindexer;
    let id = runtime.block_on(async {
        let reindexer = reindexer.clone();
        tokio::task::spawn_blocking(move || reindexer.start(Plan::new(NEW)))
            .await
            .expect("ran")
            .expect("begun")
    });
    let mut told = Instant::now();
    loop {
        let now = reindexer.status(&id).expect("known");
        if now.progress.phase == Phase::Ended {
            return now.plan;
        }
        if told.elapsed() > Duration::from_secs(30) {
            told = Instant::now();
            let progress = now.progress;
            println!(
                "  {:?}, {} vectors to go, {:.0} posts/s",
                progress.phase, progress.vectors_left, progress.posts_per_second
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Sends queries when they are due, whatever became of those before.
async fn search(stack: Stack, texts: Vec<String>, rate: usize, seen: Arc<Seen>) {
    let mut rng = SmallRng::seed_from_u64(SEED);
    let mut due = tokio::time::Instant::now();
    let mut asked = tokio::task::JoinSet::new();
    while !seen.stop.load(Ordering::Acquire) {
        due += Duration::from_secs_f64(-rng.random::<f64>().max(1e-9).ln() / rate.max(1) as f64);
        tokio::time::sleep_until(due).await;
        let words: Vec<&str> = texts[rng.random_range(0..texts.len())].split_whitespace().collect();
        let length = rng.random_range(2..=5).min(words.len());
        let from = rng.random_range(0..=words.len() - length);
        let plain = words[from..from + length].join(" ");
        let (stack, seen) = (stack.clone(), Arc::clone(&seen));
        asked.spawn(async move {
            let phase = seen.phase.load(Ordering::Acquire);
            let begun = Instant::now();
            let request = SearchRequest { plain: true, ..SearchRequest::new(plain) };
            match stack.engine.search(&request).await {
                Ok(page) => {
                    let lost = page.degraded.iter().any(|stage| stage.is_retrieval());
                    seen.degraded.fetch_add(usize::from(lost), Ordering::AcqRel);
                }
                Err(error) => {
                    println!("a query failed: {error}");
                    seen.failed.fetch_add(1, Ordering::AcqRel);
                }
            }
            seen.search_ms[phase].lock().push(begun.elapsed().as_secs_f64() * 1e3);
        });
        while asked.try_join_next().is_some() {}
    }
    while asked.join_next().await.is_some() {}
}

/// Writes one change after the other, each when it is due; gives what must be stored at the end.
async fn write(stack: Stack, texts: Vec<String>, rate: usize, seen: Arc<Seen>) -> BTreeMap<PostId, Post> {
    let mut expected = BTreeMap::new();
    stack
        .live
        .store()
        .scan(Ordinal(0), &mut |stored| {
            expected.insert(stored.post.id.clone(), stored.post);
            ControlFlow::Continue(())
        })
        .expect("scanned");
    let mut ids: Vec<PostId> = expected.keys().cloned().collect();
    let mut rng = SmallRng::seed_from_u64(SEED + 1);
    let mut due = tokio::time::Instant::now();
    for n in 0.. {
        if seen.stop.load(Ordering::Acquire) {
            break;
        }
        due += Duration::from_secs_f64(1.0 / rate.max(1) as f64);
        tokio::time::sleep_until(due).await;
        let half = |text: &str| {
            let words: Vec<&str> = text.split_whitespace().collect();
            words[..words.len().div_ceil(2)].join(" ")
        };
        let drawn = |rng: &mut SmallRng| half(&texts[rng.random_range(0..texts.len())]);
        let text = format!("{} {}", drawn(&mut rng), drawn(&mut rng));
        let at = rng.random_range(0..ids.len());
        let op = match rng.random_range(0..10) {
            0 => Op::Delete(ids.swap_remove(at)),
            1 => {
                let likes = Some(rng.random_range(0..1000));
                Op::SetCounts { id: ids[at].clone(), counts: CountsPatch { likes, ..CountsPatch::default() } }
            }
            kind => {
                let id =
                    if kind < 4 { ids[at].clone() } else { PostId::new(format!("load-{n}")).expect("an id") };
                if kind >= 4 {
                    ids.push(id.clone());
                }
                let created_at = "2026-01-01T00:00:00Z".parse().expect("a time");
                Op::Upsert(Box::new(Post::new(id, text, "load", created_at).validated().expect("valid")))
            }
        };
        match &op {
            Op::Delete(id) => drop(expected.remove(id)),
            Op::SetCounts { id, counts } => {
                if let Some(post) = expected.get_mut(id) {
                    post.counts = counts.apply(post.counts);
                }
            }
            Op::Upsert(post) => drop(expected.insert(post.id.clone(), (**post).clone())),
        }
        let phase = seen.phase.load(Ordering::Acquire);
        let begun = Instant::now();
        if let Err(error) = stack.live.write(vec![op]).await {
            println!("a write failed: {error}");
            seen.failed.fetch_add(1, Ordering::AcqRel);
        }
        seen.write_ms[phase].lock().push(begun.elapsed().as_secs_f64() * 1e3);
    }
    expected
}

fn table(what: &str, all: &[Mutex<Vec<f64>>; 3]) {
    println!(
        "{what:<8} {:>7} {:>9} {:>9} {:>9} {:>10} {:>10}",
        "calls", "p50 ms", "p95", "p99", "p50 ratio", "p99 ratio"
    );
    let before = latency(all[0].lock().clone());
    for (name, ms) in PHASES.iter().zip(all) {
        let ms = ms.lock().clone();
        let (calls, found) = (ms.len(), latency(ms));
        println!(
            "  {name:<6} {calls:>7} {:>9.1} {:>9.1} {:>9.1} {:>10.2} {:>10.2}",
            found.p50,
            found.p95,
            found.p99,
            found.p50 / before.p50,
            found.p99 / before.p99
        );
    }
}

/// Every post is there once, as it was acknowledged, in both generations; and one can go back.
fn verify(runtime: &Runtime, stack: Stack, data: &Path, expected: &BTreeMap<PostId, Post>) {
    let mut differ = 0;
    let mut stored = 0;
    let scan = &mut |found: bowerbird_posts::StoredPost| {
        stored += 1;
        differ += usize::from(expected.get(&found.post.id) != Some(&found.post));
        ControlFlow::Continue(())
    };
    stack.live.store().scan(Ordinal(0), scan).expect("scanned");
    println!("{stored} posts stored, {} expected, {differ} differ", expected.len());
    assert_eq!((stored, differ), (expected.len(), 0));
    let page = runtime.block_on(stack.engine.search(&SearchRequest::new("coffee and heart disease")));
    let before: Vec<String> = page.expect("a page").hits.iter().map(|hit| hit.post.id.to_string()).collect();
    let reindexer = stack.reindexer.clone();
    let begun = Instant::now();
    let back = runtime.block_on(async { tokio::task::spawn_blocking(move || reindexer.rollback()).await });
    println!(
        "rolled back to generation {} in {:.2} s",
        back.expect("ran").expect("rolled back"),
        begun.elapsed().as_secs_f64()
    );
    let begun = Instant::now();
    stack.live.flush().expect("flushed");
    println!("what was written since has its old vectors after {:.0} s more", begun.elapsed().as_secs_f64());
    assert_eq!(stack.index_embedder(), OLD);
    let page = runtime.block_on(stack.engine.search(&SearchRequest::new("coffee and heart disease")));
    let after: Vec<String> = page.expect("a page").hits.iter().map(|hit| hit.post.id.to_string()).collect();
    println!(
        "one query, {} of its ten hits in common",
        after.iter().filter(|id| before.contains(id)).count()
    );
    drop(stack);
    let report = check(data).expect("examined");
    assert!(report.agrees(), "{report:?}");
    assert_eq!(report.posts, expected.len() as u64);
    println!("store and indexes agree after closing");
}
