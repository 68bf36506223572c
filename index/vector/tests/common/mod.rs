//! Seeded vectors for the tests of the vector index.
#![allow(dead_code, reason = "each test file uses some of it")]

use bowerbird_vector::{PointId, VectorConfig, VectorIndex};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::path::Path;

pub const SPACE: &str = "test-model/cls/checksum";

/// A standard normal number (Box and Muller).
fn normal(rng: &mut SmallRng) -> f32 {
    let (u, v): (f32, f32) = (rng.random_range(f32::MIN_POSITIVE..1.0), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}

pub fn normalised(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
    for v in &mut vector {
        *v = (f64::from(*v) / length) as f32;
    }
    vector
}

pub fn random_units(count: usize, dim: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut rng = SmallRng::seed_from_u64(seed);
    (0..count).map(|_| normalised((0..dim).map(|_| normal(&mut rng)).collect())).collect()
}

/// Vectors around `clusters` centres with noise of the given size, as embeddings of posts on common subjects are.
pub fn clustered(count: usize, dim: usize, clusters: usize, noise: f32, seed: u64) -> Vec<Vec<f32>> {
    let centres = random_units(clusters, dim, 7);
    let mut rng = SmallRng::seed_from_u64(seed);
    let scale = noise / (dim as f32).sqrt();
    (0..count)
        .map(|_| {
            let centre = &centres[rng.random_range(0..clusters)];
            normalised(centre.iter().map(|v| v + scale * normal(&mut rng)).collect())
        })
        .collect()
}

pub fn open(dir: &Path, dim: usize, config: VectorConfig) -> VectorIndex {
    VectorIndex::open(dir, SPACE, dim, config).expect("opens")
}

pub fn insert_all(index: &VectorIndex, vectors: &[Vec<f32>]) {
    for (chunk_at, chunk) in vectors.chunks(1000).enumerate() {
        let first = (chunk_at * 1000) as u32;
        let batch: Vec<_> = chunk.iter().zip(first..).map(|(v, id)| (PointId(id), v.as_slice())).collect();
        index.insert(&batch).expect("inserted");
    }
}

/// Share of the exact best `k` that `search` finds, over all queries.
pub fn recall(index: &VectorIndex, queries: &[Vec<f32>], k: usize) -> f64 {
    let mut found = 0;
    for query in queries {
        let exact = index.search_exact(query, k, None).expect("searched");
        let approximate = index.search(query, k, None).expect("searched");
        assert_eq!(approximate.len(), exact.len());
        found += approximate.iter().filter(|hit| exact.contains(hit)).count();
    }
    found as f64 / (queries.len() * k) as f64
}
