//! What do the models cost here, against the same models in Python, and does a reader wait for a bulk job?
//!
//! `cargo bench -p bowerbird-benches --bench model_speed`. Needs python3 with venv; what it measures against is
//! `model_speed_python.py`, which lives through the whole run and takes turns with this process, so that a slow minute of
//! the machine meets both. Quality stands beside speed: vectors and logits of both sides are compared, and the first ten
//! hits of both searches.
#![expect(clippy::print_stdout, reason = "the output of a bench")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bowerbird::eval::measure::latency;
use bowerbird::progress::Bars;
use bowerbird::stack::{Parts, Stack, load_models, model_store};
use bowerbird_benches::{POSTS, QUERIES, demo_texts, demo_without_caches};
use bowerbird_models_api::TextRole;
use bowerbird_posts::Ordinal;
use bowerbird_scheduler::{Encoders, Job, Priority};
use bowerbird_search::{Collapse, RerankOptions, SearchRequest};
use bowerbird_vector::PointId;
use bytesize::ByteSize;
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use serde_json::{Value, json};

const ROUNDS: usize = 5;
/// Texts embedded and pairs scored in a round.
const CALLS: usize = 160;
const DEPTH: usize = 16;

/// The Python side.
struct Python {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

#[derive(Deserialize)]
struct Reply {
    value: Value,
    wall: f64,
    cpu: f64,
}

impl Python {
    fn start(models: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("model_speed_python.py");
        let mut child = Command::new("python3")
            .arg(script)
            .arg(models)
            // Set for other programs of some machines; wrong for the OpenBLAS of faiss.
            .env_remove("OPENBLAS_CORETYPE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let to = child.stdin.take().expect("piped");
        let from = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, to, from }
    }

    fn ask(&mut self, task: &Value) -> Reply {
        writeln!(self.to, "{task}").expect("the Python side reads");
        let mut line = String::new();
        self.from.read_line(&mut line).expect("the Python side answers");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("the Python side failed: {error}: {line}"))
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Wall and CPU seconds of this process, all threads.
fn clocks() -> (Instant, f64) {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    (Instant::now(), time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9)
}

fn since(start: (Instant, f64)) -> (f64, f64) {
    (start.0.elapsed().as_secs_f64(), clocks().1 - start.1)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stack = demo_without_caches(0).await;
        let store = model_store(&stack.config).expect("a model store");
        let root = store.root().to_owned();
        let mut python = Python::start(&root);
        raw_calls(&stack, &mut python).await;
        whole_searches(&stack, &mut python).await;
        drop(python);
        beside_bulk(&stack.encoders).await;
    });
}

/// One thread on each side, one item a call.
async fn raw_calls(stack: &Stack, python: &mut Python) {
    let mut config = (*stack.config).clone();
    config.models.workers = 1;
    (config.models.query_cache, config.models.score_cache) = (ByteSize(0), ByteSize(0));
    let models = load_models(&config, Parts::SEARCH, &Bars::default()).expect("models");
    let encoders = models.encoders;
    let all = demo_texts();
    let step = all.len() / (CALLS * (ROUNDS + 1));
    let (mut embed, mut score) = (Vec::new(), Vec::new());
    let (mut cosine, mut difference) = (1.0f64, 0.0f64);
    let job = Job { priority: Priority::Rerank, deadline: None };
    for round in 0..=ROUNDS {
        let texts: Vec<String> = (0..CALLS).map(|at| all[(round * CALLS + at) * step].clone()).collect();
        let passages: Vec<Arc<str>> = texts.iter().map(|text| text.as_str().into()).collect();
        let query = QUERIES[round];

        let start = clocks();
        let blocking = encoders.clone();
        let given = texts.clone();
        let ours = tokio::task::spawn_blocking(move || {
            blocking.embed_blocking(&given, TextRole::Passage, Priority::Ingest).expect("vectors")
        });
        let ours = ours.await.expect("not cancelled");
        let (_, cpu) = since(start);
        let theirs = python.ask(&json!({"do": "embed", "texts": texts}));
        if round > 0 {
            embed.push((CALLS as f64 / cpu, CALLS as f64 / theirs.cpu));
        }
        for (ours, theirs) in ours.iter().zip(theirs.value.as_array().expect("vectors")) {
            let theirs = theirs.as_array().expect("a vector").iter().filter_map(Value::as_f64);
            cosine = cosine.min(ours.as_slice().iter().zip(theirs).map(|(a, b)| f64::from(*a) * b).sum());
        }

        let start = clocks();
        let ours = encoders.score(query, &passages, job).await;
        let (_, cpu) = since(start);
        let theirs = python.ask(&json!({"do": "score", "query": query, "texts": texts}));
        if round > 0 {
            score.push((CALLS as f64 / cpu, CALLS as f64 / theirs.cpu));
        }
        for (ours, theirs) in ours.iter().zip(theirs.value.as_array().expect("logits")) {
            let ours = f64::from(ours.as_ref().expect("a logit").get());
            difference = difference.max((ours - theirs.as_f64().expect("a logit")).abs());
        }
    }
    println!("raw calls, {CALLS} demo posts × {ROUNDS} rounds, per core-second");
    println!("{:<16} {:>10} {:>10} {:>8}", "", "ours", "Python", "ratio");
    for (name, rates) in [("texts embedded", embed), ("pairs scored", score)] {
        let ratio = median(rates.iter().map(|(ours, theirs)| ours / theirs).collect());
        let (ours, theirs) = rates.into_iter().unzip();
        println!("{name:<16} {:>10.1} {:>10.1} {ratio:>8.2}", median(ours), median(theirs));
    }
    println!(
        "least cosine of a text's two vectors {cosine:.6}, greatest difference of two logits {difference:.4}\n"
    );
}

/// The same corpus, the same vectors, the same depth.
async fn whole_searches(stack: &Stack, python: &mut Python) {
    let snapshot = stack.live.snapshot();
    let ordinals: Vec<Ordinal> = snapshot.live().iter().map(Ordinal).collect();
    let posts = snapshot.posts(&ordinals).expect("posts");
    let texts: Vec<&str> =
        posts.iter().map(|post| post.as_ref().expect("alive").post.text.as_str()).collect();
    let ids: Vec<&str> = posts.iter().map(|post| post.as_ref().expect("alive").post.id.as_str()).collect();
    let vectors: Vec<Vec<f32>> = ordinals
        .iter()
        .map(|ordinal| snapshot.vectors().vector(PointId(ordinal.0)).expect("read").expect("a vector"))
        .collect();
    python.ask(&json!({"do": "index", "texts": texts, "vectors": vectors}));

    let always = RerankOptions { gated: false, depth: DEPTH, blend: 0.3, ..stack.engine.config().rerank };
    let plain = SearchRequest { collapse: Some(Collapse::None), ..SearchRequest::new("") };
    let variants = [
        ("ours, depth 16", SearchRequest { rerank: Some(always), ..plain.clone() }),
        ("ours, as shipped", SearchRequest::new("")),
    ];
    let mut ms: Vec<Vec<f64>> = vec![Vec::new(); variants.len() + 2];
    let mut cpu_ms = ms.clone();
    let mut overlap = Vec::new();
    for round in 0..=3 {
        for q in QUERIES {
            let mut top: Vec<String> = Vec::new();
            for (at, (_, template)) in variants.iter().enumerate() {
                let request = SearchRequest { text: q.to_owned(), ..template.clone() };
                let start = clocks();
                let page = stack.engine.search(&request).await.expect("a page");
                let (wall, cpu) = since(start);
                assert!(page.degraded.is_empty(), "{q}: {:?} was skipped", page.degraded);
                if at == 0 {
                    top = page.hits.iter().map(|hit| hit.post.id.to_string()).collect();
                }
                // The first round warms up.
                if round > 0 {
                    ms[at].push(wall * 1e3);
                    cpu_ms[at].push(cpu * 1e3);
                }
            }
            for (at, threads) in [(2, 1), (3, 2)] {
                let reply =
                    python.ask(&json!({"do": "search", "query": q, "depth": DEPTH, "threads": threads}));
                if round > 0 {
                    ms[at].push(reply.wall * 1e3);
                    cpu_ms[at].push(reply.cpu * 1e3);
                }
                let theirs = reply.value.as_array().expect("hits").iter().filter_map(Value::as_u64);
                let shared = theirs.filter(|at| top.iter().any(|id| id == ids[*at as usize])).count();
                overlap.push(shared as f64 / top.len().max(1) as f64);
            }
        }
    }
    println!(
        "whole searches, {POSTS} demo posts, {} queries × 3 rounds, caches off, milliseconds",
        QUERIES.len()
    );
    println!(
        "{:<18} {:>8} {:>8} {:>8} {:>9} {:>14} {:>15}",
        "", "p50", "p95", "p99", "CPU p50", "Python 1 thr ×", "Python 2 thr ×"
    );
    let names = [variants[0].0, variants[1].0, "Python, 1 thread", "Python, 2 threads"];
    let (one, two) = (latency(ms[2].clone()).p50, latency(ms[3].clone()).p50);
    for (name, (ms, cpu)) in names.iter().zip(ms.iter().zip(&cpu_ms)) {
        let quantiles = latency(ms.clone());
        println!(
            "{name:<18} {:>8.2} {:>8.2} {:>8.2} {:>9.2} {:>14.2} {:>15.2}",
            quantiles.p50,
            quantiles.p95,
            quantiles.p99,
            latency(cpu.clone()).p50,
            one / quantiles.p50,
            two / quantiles.p50
        );
    }
    println!("first ten hits shared with Python {:.2}\n", overlap.iter().sum::<f64>() / overlap.len() as f64);
}

/// Reranks of sixteen posts, alone and while posts are embedded as fast as the scheduler lets them.
async fn beside_bulk(encoders: &Encoders) {
    let texts = demo_texts();
    let mut alone = Vec::new();
    let mut beside = Vec::new();
    let mut embedded = 0.0;
    let mut at = 0;
    for round in 0..=4 {
        for bulk in [false, true] {
            let stop = Arc::new(AtomicBool::new(!bulk));
            let done = Arc::new(AtomicUsize::new(0));
            let (worker, ended, counted) = (encoders.clone(), stop.clone(), done.clone());
            let feed: Vec<String> = texts.iter().skip(20_000 + round * 4_000).take(4_000).cloned().collect();
            let feeding = tokio::task::spawn_blocking(move || {
                for part in feed.chunks(64).cycle().take_while(|_| !ended.load(Ordering::Relaxed)) {
                    worker.embed_blocking(part, TextRole::Passage, Priority::Bulk).expect("vectors");
                    counted.fetch_add(part.len(), Ordering::Relaxed);
                }
            });
            let begun = Instant::now();
            for q in QUERIES {
                // No pair twice: what is measured is the model, not its cache.
                let passages: Vec<Arc<str>> =
                    texts[at..at + DEPTH].iter().map(|text| text.as_str().into()).collect();
                at = (at + DEPTH) % 15_000;
                let started = Instant::now();
                let job = Job { priority: Priority::Rerank, deadline: None };
                let scores = encoders.score(q, &passages, job).await;
                assert!(scores.iter().all(Result::is_ok), "{scores:?}");
                let ms = started.elapsed().as_secs_f64() * 1e3;
                if round > 0 {
                    if bulk { &mut beside } else { &mut alone }.push(ms);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            stop.store(true, Ordering::Relaxed);
            feeding.await.expect("not cancelled");
            if bulk && round > 0 {
                embedded += done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64() / 4.0;
            }
        }
    }
    let (alone, beside) = (latency(alone), latency(beside));
    println!("rerank of {DEPTH} posts, milliseconds");
    println!("{:<32} {:>8} {:>8} {:>8}", "", "p50", "p95", "p99");
    println!("{:<32} {:>8.2} {:>8.2} {:>8.2}", "alone", alone.p50, alone.p95, alone.p99);
    let name = format!("beside {embedded:.0} bulk texts/s");
    println!("{name:<32} {:>8.2} {:>8.2} {:>8.2}", beside.p50, beside.p95, beside.p99);
    println!(
        "{:<32} {:>8.2} {:>8.2} {:>8.2}",
        "ratio",
        beside.p50 / alone.p50,
        beside.p95 / alone.p95,
        beside.p99 / alone.p99
    );
}
