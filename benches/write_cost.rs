//! How many bytes go to the disk for one write to an index that serves, and who writes them?
//!
//! `cargo bench -p bowerbird-benches --bench write_cost`; `-- --posts 50000 --writes 3000 --rate 50` are the defaults.
//! The index begins with demo posts, and beyond those with posts made of their halves; vectors come from a stub. Writes
//! are single ones, each when it is due, mixed as in the bench `reindex`: six in ten new posts, two edits, one deletion,
//! one change of counters. In between, searches by words are timed. Then the same while another generation is built.
//!
//! What is counted is what is given to write calls (`wchar` of `/proc/self/io`, see `usage::written_bytes`), by the name
//! of the thread that gives it, and what the disk got meanwhile (`/sys/dev/block`), other processes and the journal of the
//! file system included. tantivy writes a segment in threads that end with it; those are the line "threads that ended".
#![expect(clippy::print_stdout, reason = "the output of a bench")]

use std::collections::BTreeMap;
use std::error::Error;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bowerbird::eval::measure::latency;
use bowerbird::usage;
use bowerbird_benches::{argument, demo_texts};
use bowerbird_lexical::BagQuery;
use bowerbird_live::{GenerationSpec, Live, LiveConfig, VectorSource};
use bowerbird_posts::{CountsPatch, Op, Post, PostId};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const SEED: u64 = 7;
/// Components of a vector, as those of the small embedders.
const DIM: usize = 384;
/// After every so many writes a search by words is timed.
const SEARCH_EVERY: usize = 10;
/// Posts that a rebuild adds in one step, and the time that a step takes with a real embedder on two cores.
const STEP: (usize, usize, Duration) = (512, 32, Duration::from_millis(500));

fn main() {
    let posts = argument("--posts", 50_000);
    let (writes, rate) = (argument("--writes", 3000), argument("--rate", 50));
    let texts = demo_texts();
    let dir = tempfile::tempdir().expect("a directory");
    let mut load = Load { ids: filled(dir.path(), &texts, posts), texts, rng: SmallRng::seed_from_u64(SEED) };
    // Opened again, so that nothing of the load is still being merged.
    let live = opened(dir.path(), "old");
    println!("{posts} posts to begin with; {writes} writes, {rate}/s");
    println!("\nno rebuild");
    let before = Written::now(dir.path());
    load.write(&live, dir.path(), writes, rate);
    before.report(dir.path(), writes);

    println!("\na rebuild beside");
    let done = AtomicBool::new(false);
    let before = Written::now(dir.path());
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("rebuild".into());
        builder.spawn_scoped(scope, || rebuild(&live, &done)).expect("a thread");
        load.write(&live, dir.path(), writes, rate);
        // Before the threads of the rebuild end.
        before.report(dir.path(), writes);
        done.store(true, Ordering::Release);
    });
}

/// Builds generation 2 at the pace of a real embedder until `done`.
fn rebuild(live: &Live, done: &AtomicBool) {
    let spec = GenerationSpec::default();
    let mut building = live.build(2, &spec, Arc::new(Stub("new"))).expect("a generation");
    let (words, vectors, time) = STEP;
    let (mut added, mut embedded) = (0, 0);
    while !done.load(Ordering::Acquire) {
        let begun = Instant::now();
        added += building.add_words(words).expect("added").done;
        embedded += building.add_vectors(vectors, &|| false).done;
        std::thread::sleep(time.saturating_sub(begun.elapsed()));
    }
    println!("the rebuild added the words of {added} posts and {embedded} vectors");
}

fn opened(dir: &Path, space: &'static str) -> Live {
    Live::open(dir, LiveConfig::default(), Arc::new(Stub(space))).expect("a live index")
}

/// Loads posts; gives their ids.
fn filled(dir: &Path, texts: &[String], count: usize) -> Vec<PostId> {
    let live = opened(dir, "old");
    let mut rng = SmallRng::seed_from_u64(SEED + 1);
    let mut ids = Vec::with_capacity(count);
    while ids.len() < count {
        let from = ids.len();
        let ops = (from..count.min(from + 1000)).map(|n| {
            let text = texts.get(n).cloned().unwrap_or_else(|| joined(texts, &mut rng));
            ids.push(PostId::new(format!("base-{n}")).expect("an id"));
            upsert(ids[n].clone(), text)
        });
        live.write_blocking(ops.collect()).expect("written");
    }
    live.flush().expect("flushed");
    ids
}

fn upsert(id: PostId, text: String) -> Op {
    let created_at = "2026-01-01T00:00:00Z".parse().expect("a time");
    Op::Upsert(Box::new(Post::new(id, text, "load", created_at).validated().expect("valid")))
}

/// The halves of two posts.
fn joined(texts: &[String], rng: &mut SmallRng) -> String {
    let mut half = || {
        let words: Vec<&str> = texts[rng.random_range(0..texts.len())].split_whitespace().collect();
        words[..words.len().div_ceil(2)].join(" ")
    };
    format!("{} {}", half(), half())
}

struct Load {
    ids: Vec<PostId>,
    texts: Vec<String>,
    rng: SmallRng,
}

impl Load {
    /// Writes one change after the other, each when it is due, and waits until the indexes have them.
    fn write(&mut self, live: &Live, dir: &Path, writes: usize, rate: usize) {
        let begun = Instant::now();
        let (mut acknowledged, mut searched, mut segments) = (Vec::new(), Vec::new(), 0);
        for n in 0..writes {
            let due = begun + Duration::from_secs_f64(n as f64 / rate as f64);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let op = self.op(n);
            let sent = Instant::now();
            live.write_blocking(vec![op]).expect("acknowledged");
            acknowledged.push(sent.elapsed().as_secs_f64() * 1e3);
            if n % SEARCH_EVERY == 0 {
                let text = &self.texts[self.rng.random_range(0..self.texts.len())];
                let words: Vec<&str> = text.split_whitespace().take(3).collect();
                let begun = Instant::now();
                live.snapshot()
                    .lexical()
                    .search(&BagQuery::words(words.join(" ")), None, 100)
                    .expect("searched");
                searched.push(begun.elapsed().as_secs_f64() * 1e3);
                segments += segments_in(dir);
            }
        }
        live.flush().expect("flushed");
        let took = latency(acknowledged);
        println!("acknowledged after {:.1} ms p50, {:.1} p95, {:.1} p99", took.p50, took.p95, took.p99);
        let (searches, took) = (searched.len(), latency(searched));
        println!(
            "BM25 over {:.1} segments: {:.2} ms p50, {:.2} p95, {:.2} p99",
            segments as f64 / searches as f64,
            took.p50,
            took.p95,
            took.p99
        );
    }

    fn op(&mut self, n: usize) -> Op {
        let text = joined(&self.texts, &mut self.rng);
        let at = self.rng.random_range(0..self.ids.len());
        match self.rng.random_range(0..10) {
            0 => Op::Delete(self.ids.swap_remove(at)),
            1 => {
                let likes = Some(self.rng.random_range(0..1000));
                Op::SetCounts {
                    id: self.ids[at].clone(),
                    counts: CountsPatch { likes, ..CountsPatch::default() },
                }
            }
            2 | 3 => upsert(self.ids[at].clone(), text),
            _ => {
                // Two loads of one bench give different ids.
                let id = PostId::new(format!("load-{n}-{}", self.ids.len())).expect("an id");
                self.ids.push(id.clone());
                upsert(id, text)
            }
        }
    }
}

/// Segments of the lexical index that serves.
fn segments_in(dir: &Path) -> usize {
    let files = std::fs::read_dir(dir.join("generation").join("lexical")).into_iter().flatten().flatten();
    files.filter(|file| file.path().extension().is_some_and(|extension| extension == "idx")).count()
}

/// Bytes written so far: by the process, by each thread that runs, under its name and number, and to the disk.
struct Written {
    process: u64,
    threads: BTreeMap<(String, String), u64>,
    disk: Option<u64>,
}

impl Written {
    fn now(dir: &Path) -> Self {
        let mut threads = BTreeMap::new();
        for entry in std::fs::read_dir("/proc/self/task").expect("threads are listed").flatten() {
            let read = |name: &str| std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
            let number = entry.file_name().to_string_lossy().into_owned();
            threads.insert((read("comm").trim().to_owned(), number), usage::bytes_given(&read("io")));
        }
        Self { process: usage::written_bytes(), threads, disk: disk_bytes(dir) }
    }

    /// Prints what was written since, for each of `writes`.
    fn report(&self, dir: &Path, writes: usize) {
        let now = Self::now(dir);
        let each = |bytes: u64| bytes / writes.max(1) as u64;
        let total = now.process - self.process;
        println!("{:>12} bytes given to write calls, for each write", each(total));
        let mut by_name: BTreeMap<&str, u64> = BTreeMap::new();
        for (thread, bytes) in &now.threads {
            *by_name.entry(&thread.0).or_default() += bytes - self.threads.get(thread).unwrap_or(&0);
        }
        let alive: u64 = by_name.values().sum();
        for (name, bytes) in by_name {
            if each(bytes) > 0 {
                println!("{:>12}   {name}", each(bytes));
            }
        }
        println!("{:>12}   threads that ended", each(total.saturating_sub(alive)));
        if let (Some(before), Some(now)) = (self.disk, now.disk) {
            println!("{:>12} bytes got the disk, those of other processes included", each(now - before));
        }
    }
}

/// Bytes that the disk of `dir` was given since the machine started, where the system says.
fn disk_bytes(dir: &Path) -> Option<u64> {
    let device = rustix::fs::stat(dir).ok()?.st_dev;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let stat = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    // The seventh number counts sectors of 512 bytes.
    Some(stat.split_whitespace().nth(6)?.parse::<u64>().ok()? * 512)
}

/// Gives every text a vector that follows from it.
struct Stub(&'static str);

impl VectorSource for Stub {
    fn space(&self) -> String {
        self.0.to_owned()
    }

    fn dim(&self) -> usize {
        DIM
    }

    fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Box<dyn Error + Send + Sync>> {
        let vector = |text: &String| {
            let mut hasher = DefaultHasher::new();
            text.hash(&mut hasher);
            let mut rng = SmallRng::seed_from_u64(hasher.finish());
            let vector: Vec<f32> = (0..DIM).map(|_| rng.random::<f32>() - 0.5).collect();
            let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
            vector.into_iter().map(|value| value / length).collect()
        };
        Ok(texts.iter().map(vector).collect())
    }
}
