//! Which vector engine is fastest at equal recall, what does it hold in memory and on disk, and how long is it built?
//!
//! `cargo bench -p bowerbird-benches --bench vector_engines -- --points 100000 --data-dir DIR --faiss`
//!
//! Points are the embeddings in the vector log of a Bowerbird data directory. When more are asked for than it holds,
//! the rest are made from them: two near neighbours are mixed, noise is added, the sum is normalised. Queries are
//! real embeddings that are held out. Without `--data-dir` all are synthetic, which flatters every graph. Everything
//! is seeded (`--seed`).
//!
//! All engines stand behind the same `VectorIndex`, over the same log, one after another in one process, and are
//! searched from one thread; a search includes rescoring in full precision from the log. recall@10 is against the
//! exact cosine of every point, and a hit that is as near as the tenth counts. `--faiss` measures faiss on the same
//! vectors with the same `m` and `ef` (`vector_engines_faiss.py`, which makes its own environment). `x best` is the
//! median CPU time of the fastest row with recall of 0.97 at least, divided by the best of all engines; CPU time of
//! the searching thread, because it is comparable on a machine that others use too.
#![expect(clippy::print_stdout, reason = "the output of a bench")]

mod vector_points;

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bowerbird_vector::{Engine, PointId, VectorConfig, VectorIndex};
use roaring::RoaringBitmap;
use vector_points::{Points, Rows, dot, points};

const K: usize = 10;
/// Share of the points that come after sealing, for the tail.
const TAIL: f64 = 0.03;
const RECALL_FLOOR: f64 = 0.97;
/// Shares that a filter allows; ids are spread over them by a hash.
const FILTERS: [f64; 5] = [0.5, 0.1, 0.01, 0.001, 0.0];
const SPACE: &str = "bench";

struct Args {
    points: usize,
    queries: usize,
    seed: u64,
    data_dir: Option<PathBuf>,
    work_dir: PathBuf,
    engines: Vec<Engine>,
    ef: Vec<usize>,
    config: VectorConfig,
    faiss: bool,
    /// Leaves the index where it is, and takes one that was left there, with the segment of the first engine; points
    /// are not added behind it.
    keep: Option<PathBuf>,
}

/// What a search should find: the score of the tenth best, for each query.
type Truth = Vec<f32>;

struct Row {
    engine: String,
    ef: usize,
    recall: f64,
    /// Time of the searching thread on a processor, which others do not disturb.
    cpu_p50_ms: f64,
    cpu_p99_ms: f64,
    /// By the clock.
    p50_ms: f64,
    p99_ms: f64,
}

fn main() {
    let args = arguments();
    let tail = (args.points as f64 * TAIL) as usize;
    let started = Instant::now();
    let Points { base, queries, described } =
        points(args.data_dir.as_deref(), args.points + tail, args.queries, args.seed);
    println!("points: {} + {tail} later, {described}; seed {}", args.points, args.seed);
    println!("config: {:?}", args.config);
    let filters: Vec<RoaringBitmap> = FILTERS
        .iter()
        .map(|share| (0..args.points as u32).filter(|id| allowed(*id, *share)).collect())
        .collect();
    let truths = truths(&base, &queries, args.points, &filters);
    println!("made points and exact answers in {:.0} s", started.elapsed().as_secs_f64());

    let dir = tempfile::tempdir_in(&args.work_dir).expect("a work directory");
    if args.faiss {
        write_npy(&dir.path().join("base.npy"), &base, args.points);
        write_npy(&dir.path().join("queries.npy"), &queries, queries.len());
        let truth = Rows { dim: 1, values: truths.sealed.clone() };
        write_npy(&dir.path().join("truth.npy"), &truth, truth.len());
    }
    let index_dir = args.keep.clone().unwrap_or(dir.path().join("index"));
    let index = open(&index_dir, base.dim, &args.config);
    if index.is_empty() {
        let inserted = Instant::now();
        insert(&index, &base, 0..args.points);
        index.sync().expect("synced");
        println!("inserted {:.0} points/s", args.points as f64 / inserted.elapsed().as_secs_f64());
    }
    assert_eq!(index.len(), args.points, "another index was left in {}", index_dir.display());
    drop(index);
    // The tail alone is kept: what the process holds from here on is the engine's.
    let later = Rows { dim: base.dim, values: base.values[args.points * base.dim..].to_vec() };
    drop(base);

    let mut rows = Vec::new();
    for engine in &args.engines {
        measure_engine(*engine, &args, &index_dir, &queries, &truths, &filters, &mut rows);
    }
    if args.faiss {
        rows.extend(faiss(dir.path(), &args));
    }
    table(&rows);
    if args.keep.is_some() {
        return;
    }
    let engine = *args.engines.last().expect("an engine");
    let index = open(&index_dir, later.dim, &VectorConfig { engine, ..args.config.clone() });
    measure_tail(&index, &args, &later, &queries, &truths);
}

struct Truths {
    sealed: Truth,
    filtered: Vec<Truth>,
    with_tail: Truth,
}

fn allowed(id: u32, share: f64) -> bool {
    let mixed = u64::from(id).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 11) as f64 / ((1u64 << 53) as f64) < share
}

/// Exact answers in full precision, every point against every query.
fn truths(base: &Rows, queries: &Rows, sealed: usize, filters: &[RoaringBitmap]) -> Truths {
    let mut truths =
        Truths { sealed: Vec::new(), filtered: vec![Vec::new(); filters.len()], with_tail: Vec::new() };
    for query in queries.iter() {
        let scores: Vec<f32> = base.iter().map(|point| dot(query, point)).collect();
        truths.sealed.push(tenth(scores[..sealed].to_vec()));
        truths.with_tail.push(tenth(scores.clone()));
        for (truth, filter) in truths.filtered.iter_mut().zip(filters) {
            truth.push(tenth(filter.iter().map(|id| scores[id as usize]).collect()));
        }
    }
    truths
}

/// The score of the tenth best, or of the worst when there are fewer.
fn tenth(mut scores: Vec<f32>) -> f32 {
    if scores.len() <= K {
        return scores.into_iter().fold(f32::INFINITY, f32::min);
    }
    *scores.select_nth_unstable_by(K - 1, |a, b| b.total_cmp(a)).1
}

fn measure_engine(
    engine: Engine,
    args: &Args,
    dir: &Path,
    queries: &Rows,
    truths: &Truths,
    filters: &[RoaringBitmap],
    rows: &mut Vec<Row>,
) {
    let config = VectorConfig { engine, ..args.config.clone() };
    let none = RoaringBitmap::new();
    let log_bytes = disk_of(&dir.join("vectors.log"));
    let index = open(dir, queries.dim, &config);
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    if index.wants_seal(&none) {
        assert!(index.seal(&none).expect("sealed").built, "{engine:?} was not built");
    }
    let (wall, cpu) = (wall.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    drop(index);
    let before = anonymous_bytes();
    let opened = Instant::now();
    let mut index = open(dir, queries.dim, &config);
    let opened = opened.elapsed().as_secs_f64();
    let points = args.points as f64;
    for ef in &args.ef {
        index = index.with_search(*ef, config.rescore);
        rows.push(measure(&index, &format!("{engine:?}"), *ef, queries, None, &truths.sealed));
        if engine == Engine::Flat {
            break;
        }
    }
    let (memory, grown) = (index.memory(), anonymous_bytes().saturating_sub(before));
    println!(
        "{engine:?}: built in {wall:.0} s, {cpu:.0} CPU-s; opened in {opened:.2} s; bytes a point: {:.0} heap ({:.0} \
         resident), {:.0} mapped, {:.0} segment on disk, {:.0} log",
        memory.heap as f64 / points,
        grown as f64 / points,
        memory.mapped as f64 / points,
        (disk(dir) - log_bytes) / points,
        log_bytes / points
    );
    index = index.with_search(config.ef_search, config.rescore);
    for ((filter, share), truth) in filters.iter().zip(FILTERS).zip(&truths.filtered) {
        let row = measure(&index, "", config.ef_search, queries, Some(filter), truth);
        println!("{engine:?}, filter allows {share}: {row}");
    }
}

/// Points that came after sealing, and searches while the segment takes them in.
fn measure_tail(index: &VectorIndex, args: &Args, later: &Rows, queries: &Rows, truths: &Truths) {
    let ef = args.config.ef_search;
    let engine = format!("{:?}", args.engines[args.engines.len() - 1]);
    let batches = Instant::now();
    for (at, chunk) in later.values.chunks(1000 * later.dim).enumerate() {
        let first = args.points + 1000 * at;
        let batch: Vec<_> =
            chunk.chunks(later.dim).zip(first as u32..).map(|(v, id)| (PointId(id), v)).collect();
        index.insert(&batch).expect("inserted");
    }
    let rate = later.len() as f64 / batches.elapsed().as_secs_f64();
    let row = measure(index, &engine, ef, queries, None, &truths.with_tail);
    println!("{engine} with {} points behind the segment (inserted at {rate:.0}/s): {row}", later.len());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sealing = scope.spawn(|| {
            let started = Instant::now();
            let report = index.seal(&RoaringBitmap::new()).expect("sealed");
            done.store(true, Ordering::Release);
            (report, started.elapsed())
        });
        let (mut times, mut cpu_times) = (Vec::new(), Vec::new());
        while !done.load(Ordering::Acquire) {
            for query in queries.iter() {
                let (started, cpu) = (Instant::now(), thread_ms());
                index.search(query, K, None).expect("searched");
                cpu_times.push(thread_ms() - cpu);
                times.push(started.elapsed().as_secs_f64() * 1e3);
            }
        }
        let (report, took) = sealing.join().expect("no panic");
        let ((cpu_p50, cpu_p99), (p50, p99)) = (quantiles(&mut cpu_times), quantiles(&mut times));
        println!(
            "{engine} while sealing ({report:?}, {:.1} s): CPU p50 {cpu_p50:.3} p99 {cpu_p99:.3} ms, clock p50 {p50:.3} \
             p99 {p99:.3} ms",
            took.as_secs_f64()
        );
    });
    let row = measure(index, &engine, ef, queries, None, &truths.with_tail);
    println!("{engine} after it: {row}");
}

fn measure(
    index: &VectorIndex,
    engine: &str,
    ef: usize,
    queries: &Rows,
    filter: Option<&RoaringBitmap>,
    truth: &Truth,
) -> Row {
    let (mut times, mut cpu_times, mut found, mut wanted) = (Vec::new(), Vec::new(), 0, 0);
    for round in 0..2 {
        for (query, tenth) in queries.iter().zip(truth) {
            let (started, cpu) = (Instant::now(), thread_ms());
            let hits = index.search(query, K, filter).expect("searched");
            let (cpu, wall) = (thread_ms() - cpu, started.elapsed().as_secs_f64() * 1e3);
            // The first round warms up.
            if round == 1 {
                times.push(wall);
                cpu_times.push(cpu);
                wanted += filter.map_or(K, |filter| K.min(filter.len() as usize));
                found += hits.iter().filter(|hit| hit.1.get() >= tenth - 1e-6).count();
            }
        }
    }
    let ((cpu_p50_ms, cpu_p99_ms), (p50_ms, p99_ms)) = (quantiles(&mut cpu_times), quantiles(&mut times));
    let recall = if wanted == 0 { 1.0 } else { f64::from(found as u32) / f64::from(wanted as u32) };
    Row { engine: engine.to_owned(), ef, recall, cpu_p50_ms, cpu_p99_ms, p50_ms, p99_ms }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "recall {:.4}, CPU p50 {:.3} p99 {:.3} ms, clock p50 {:.3} p99 {:.3} ms",
            self.recall, self.cpu_p50_ms, self.cpu_p99_ms, self.p50_ms, self.p99_ms
        )
    }
}

/// Milliseconds this thread has been on a processor.
fn thread_ms() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

fn table(rows: &[Row]) {
    let mut fastest: BTreeMap<&str, f64> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.recall >= RECALL_FLOOR) {
        let best = fastest.entry(&row.engine).or_insert(f64::INFINITY);
        *best = best.min(row.cpu_p50_ms);
    }
    let best = fastest.values().copied().fold(f64::INFINITY, f64::min);
    println!(
        "\n{:<15} {:>4} {:>7} {:>11} {:>11} {:>12} {:>9} {:>9} {:>7}",
        "engine", "ef", "recall", "CPU p50 ms", "CPU p99 ms", "queries/CPUs", "p50 ms", "p99 ms", "x best"
    );
    for row in rows {
        let own = fastest.get(row.engine.as_str()).copied();
        let mark = own.filter(|own| row.cpu_p50_ms <= *own && row.recall >= RECALL_FLOOR);
        let ratio = mark.map_or_else(String::new, |own| format!("{:.2}", own / best));
        println!(
            "{:<15} {:>4} {:>7.4} {:>11.3} {:>11.3} {:>12.0} {:>9.3} {:>9.3} {ratio:>7}",
            row.engine,
            row.ef,
            row.recall,
            row.cpu_p50_ms,
            row.cpu_p99_ms,
            1e3 / row.cpu_p50_ms,
            row.p50_ms,
            row.p99_ms
        );
    }
    println!();
}

/// Rows that the Python script prints: `engine ef recall cpu_p50_ms cpu_p99_ms p50_ms p99_ms`, tab-separated; other lines are
/// shown.
fn faiss(dir: &Path, args: &Args) -> Vec<Row> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("vector_engines_faiss.py");
    let ef = args.ef.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let output = Command::new("python3")
        .arg(script)
        .arg(dir)
        .args([
            "--m",
            &args.config.m.to_string(),
            "--ef-construction",
            &args.config.ef_construction.to_string(),
        ])
        .args(["--threads", &args.config.threads.to_string(), "--ef", &ef])
        // Set for other programs of this machine; wrong for the OpenBLAS of faiss.
        .env_remove("OPENBLAS_CORETYPE")
        .env_remove("OPENBLAS_L2_SIZE")
        .stderr(std::process::Stdio::inherit())
        .output()
        .expect("python3 runs");
    assert!(output.status.success(), "the faiss script failed: {}", output.status);
    let mut rows = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let number = |at: usize| fields[at].parse::<f64>().expect("a number");
        if fields.len() == 7 {
            rows.push(Row {
                engine: fields[0].to_owned(),
                ef: number(1) as usize,
                recall: number(2),
                cpu_p50_ms: number(3),
                cpu_p99_ms: number(4),
                p50_ms: number(5),
                p99_ms: number(6),
            });
        } else {
            println!("{line}");
        }
    }
    rows
}

fn open(dir: &Path, dim: usize, config: &VectorConfig) -> VectorIndex {
    VectorIndex::open(dir, SPACE, dim, config.clone()).expect("opens")
}

fn insert(index: &VectorIndex, rows: &Rows, range: std::ops::Range<usize>) {
    for first in range.clone().step_by(1000) {
        let batch: Vec<_> =
            (first..range.end.min(first + 1000)).map(|at| (PointId(at as u32), rows.row(at))).collect();
        index.insert(&batch).expect("inserted");
    }
}

fn quantiles(times: &mut [f64]) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    (at(0.5), at(0.99))
}

/// A NumPy file (format 1.0) of the first `count` rows.
fn write_npy(path: &Path, rows: &Rows, count: usize) {
    let mut header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({count}, {}), }}", rows.dim);
    let padding = 64 - (header.len() + 11) % 64;
    header.extend(std::iter::repeat_n(' ', padding % 64));
    header.push('\n');
    let mut out = BufWriter::new(std::fs::File::create(path).expect("created"));
    out.write_all(b"\x93NUMPY\x01\x00").expect("written");
    out.write_all(&(header.len() as u16).to_le_bytes()).expect("written");
    out.write_all(header.as_bytes()).expect("written");
    for value in &rows.values[..count * rows.dim] {
        out.write_all(&value.to_le_bytes()).expect("written");
    }
    out.flush().expect("written");
}

/// Bytes of all files below `dir`.
fn disk(dir: &Path) -> f64 {
    std::fs::read_dir(dir)
        .expect("listed")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| if path.is_dir() { disk(&path) } else { disk_of(&path) })
        .sum()
}

fn disk_of(path: &Path) -> f64 {
    path.metadata().map_or(0.0, |metadata| metadata.len() as f64)
}

/// CPU time of this process with its threads; 0 where `/proc` is not there. A tick is a hundredth of a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

/// Resident memory of this process that is no file; 0 where `/proc` is not there.
fn anonymous_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<usize>().ok());
    kib.unwrap_or(0) * 1024
}

fn arguments() -> Args {
    let mut args = Args {
        points: 100_000,
        queries: 300,
        seed: 1,
        data_dir: None,
        work_dir: std::env::temp_dir(),
        engines: [Engine::Flat, Engine::HnswRs, Engine::Usearch, Engine::Graph]
            .into_iter()
            .filter(|engine| engine.available())
            .collect(),
        ef: vec![16, 32, 64, 128, 256],
        config: VectorConfig { seal_min_points: 1, ..VectorConfig::default() },
        faiss: false,
        keep: None,
    };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let mut value = || given.next().unwrap_or_else(|| panic!("{name} needs a value"));
        let number =
            |value: String| value.parse::<usize>().unwrap_or_else(|_| panic!("{name} needs a number"));
        match name.as_str() {
            "--points" => args.points = number(value()),
            "--queries" => args.queries = number(value()),
            "--seed" => args.seed = number(value()) as u64,
            "--data-dir" => args.data_dir = Some(value().into()),
            "--work-dir" => args.work_dir = value().into(),
            "--m" => args.config.m = number(value()),
            "--ef-construction" => args.config.ef_construction = number(value()),
            "--threads" => args.config.threads = number(value()),
            "--rescore" => args.config.rescore = number(value()),
            "--graph-cost-codes" => args.config.graph_cost_codes = number(value()),
            "--ef-search" => args.config.ef_search = number(value()),
            "--ef" => args.ef = value().split(',').map(|ef| number(ef.to_owned())).collect(),
            "--engines" => {
                let known = |name: &str| {
                    let found = Engine::all().into_iter().find(|engine| engine.name() == name);
                    found.unwrap_or_else(|| panic!("this build has no engine {name}"))
                };
                args.engines = value().split(',').map(known).collect();
            }
            "--keep" => args.keep = Some(value().into()),
            "--faiss" => args.faiss = true,
            // What `cargo bench` adds.
            "--bench" => {}
            _ => panic!("unknown argument {name}; see the top of benches/vector_engines.rs"),
        }
    }
    args
}
