//! Milliseconds a query and gigabytes a second of the flat scan, and of the graph beside it.
//!
//! `cargo run --release -p bowerbird-vector --example scan_speed -- 10000 100000 1000000 [graph]`
//!
//! Vectors are random (seed 1); with `graph` a graph is built too, which takes minutes. A scan of random vectors
//! costs the same as of any others.
#![expect(clippy::print_stdout, reason = "prints its table")]

use std::time::Instant;

use bowerbird_vector::{Kernel, PointId, VectorConfig, VectorIndex};
use rand::{Rng, SeedableRng, rngs::SmallRng};

const DIM: usize = 384;
const QUERIES: usize = 100;

fn unit(rng: &mut SmallRng) -> Vec<f32> {
    let vector: Vec<f32> = (0..DIM).map(|_| rng.random::<f32>() - 0.5).collect();
    let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
    vector.iter().map(|v| v / length).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let with_graph = arguments.iter().any(|argument| argument == "graph");
    println!("points\tkernel\tmode\tms/query median\tGB/s of codes");
    for points in arguments.iter().filter_map(|argument| argument.parse::<u32>().ok()) {
        let dir = tempfile::tempdir()?;
        let config = VectorConfig { hnsw_min_points: 1, threads: 2, ..VectorConfig::default() };
        let mut index = VectorIndex::open(dir.path(), "speed", DIM, config.clone())?;
        let mut rng = SmallRng::seed_from_u64(1);
        let start = Instant::now();
        for first in (0..points).step_by(1000) {
            let vectors: Vec<Vec<f32>> = (0..1000.min(points - first)).map(|_| unit(&mut rng)).collect();
            let batch: Vec<_> =
                vectors.iter().zip(first..).map(|(v, id)| (PointId(id), v.as_slice())).collect();
            index.insert(&batch)?;
        }
        println!("{points}\t\tgenerate and insert\t{:.1} s", start.elapsed().as_secs_f64());
        let queries: Vec<Vec<f32>> = (0..QUERIES).map(|_| unit(&mut rng)).collect();
        for kernel in Kernel::supported() {
            index = index.with_kernel(kernel).ok_or("kernel was supported a moment ago")?;
            report(&index, &queries, points, "flat, rescore from the log")?;
        }
        let start = Instant::now();
        index.sync()?;
        drop(index);
        println!("{points}\t\tsync\t{:.1} s", start.elapsed().as_secs_f64());
        let start = Instant::now();
        let config = VectorConfig { keep_originals_in_memory: true, ..config };
        let index = VectorIndex::open(dir.path(), "speed", DIM, config)?;
        println!("{points}\t\topen\t{:.1} s", start.elapsed().as_secs_f64());
        report(&index, &queries, points, "flat, rescore from memory")?;
        if with_graph {
            drop(index);
            let config = VectorConfig {
                hnsw_min_points: 1,
                threads: 2,
                graph_cost_codes: 0,
                ..VectorConfig::default()
            };
            let index = VectorIndex::open(dir.path(), "speed", DIM, config.clone())?;
            let start = Instant::now();
            let sealed = index.seal()?;
            println!("{points}\t\tseal {}\t{:.1} s", sealed.sealed_points, start.elapsed().as_secs_f64());
            report(&index, &queries, points, "graph, ef 128")?;
            drop(index);
            let start = Instant::now();
            let index = VectorIndex::open(dir.path(), "speed", DIM, config)?;
            println!(
                "{points}\t\topen with graph {:?}\t{:.1} s",
                index.opened(),
                start.elapsed().as_secs_f64()
            );
        }
    }
    Ok(())
}

fn report(
    index: &VectorIndex,
    queries: &[Vec<f32>],
    points: u32,
    mode: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut times = Vec::with_capacity(queries.len());
    for query in queries {
        let start = Instant::now();
        let found = index.search(query, 10, None)?;
        times.push(start.elapsed().as_secs_f64());
        assert_eq!(found.len(), 10);
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    let rate = f64::from(points) * DIM as f64 / median / 1e9;
    println!("{points}\t{:?}\t{mode}\t{:.3}\t{rate:.1}", index.kernel(), median * 1e3);
    Ok(())
}
