//! Points and queries for `vector_engines`: real embeddings from a data directory, made more by mixing, or synthetic.

use std::path::Path;

use bowerbird_vector::{PointId, read_log};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng, rngs::SmallRng};

/// Among so many random points the near neighbour for a mixture is looked for.
const NEIGHBOUR_SAMPLE: usize = 500;
/// Length of the noise that a mixture gets; the mixture has length 1.
const NOISE: f32 = 0.25;
/// Centres of the synthetic points.
const CENTRES: usize = 1000;
const SYNTHETIC_DIM: usize = 384;

/// Rows of `dim` components, one after another.
pub struct Rows {
    pub dim: usize,
    pub values: Vec<f32>,
}

impl Rows {
    pub fn len(&self) -> usize {
        self.values.len() / self.dim
    }

    pub fn row(&self, at: usize) -> &[f32] {
        &self.values[at * self.dim..(at + 1) * self.dim]
    }

    pub fn iter(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.dim)
    }

    fn push(&mut self, mut vector: Vec<f32>) {
        let length = vector.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt() as f32;
        for v in &mut vector {
            *v /= length;
        }
        self.values.append(&mut vector);
    }
}

/// What a run is measured on.
pub struct Points {
    pub base: Rows,
    /// Not among `base`, and no mixture is made of them.
    pub queries: Rows,
    pub described: String,
}

/// `count` points and `queries` queries; real ones from the vector log of `data_dir` when given.
pub fn points(data_dir: Option<&Path>, count: usize, queries: usize, seed: u64) -> Points {
    let mut rng = SmallRng::seed_from_u64(seed);
    let Some(data_dir) = data_dir else { return synthetic(count, queries, &mut rng) };
    let mut latest = std::collections::BTreeMap::new();
    let read = read_log(&data_dir.join("generation/vector"), |PointId(id), vector| {
        latest.insert(id, vector.to_vec());
    });
    let dim = read.expect("the data directory holds a vector log").dim;
    let mut real: Vec<Vec<f32>> = latest.into_values().collect();
    real.shuffle(&mut rng);
    assert!(real.len() > 2 * queries, "{} real vectors are too few for {queries} queries", real.len());
    let mut held_out = Rows { dim, values: Vec::new() };
    real.split_off(real.len() - queries).into_iter().for_each(|vector| held_out.push(vector));
    let mut base = Rows { dim, values: Vec::with_capacity(count * dim) };
    let used = real.len().min(count);
    real.iter().take(count).for_each(|vector| base.push(vector.clone()));
    let neighbour: Vec<usize> = if count > used { near_neighbours(&real, &mut rng) } else { Vec::new() };
    while base.len() < count {
        let at = rng.random_range(0..used);
        let (a, b, share) = (&real[at], &real[neighbour[at]], rng.random_range(0.3..0.7f32));
        let mixed: Vec<f32> = a.iter().zip(b).map(|(a, b)| share * a + (1.0 - share) * b).collect();
        let length = mixed.iter().map(|v| v * v).sum::<f32>().sqrt();
        let noise = NOISE / (dim as f32).sqrt();
        base.push(mixed.iter().map(|v| v / length + noise * normal(&mut rng)).collect());
    }
    let described = format!(
        "{used} real embeddings and {} mixtures of two near ones with noise {NOISE}; {queries} real ones held out as queries",
        count - used
    );
    Points { base, queries: held_out, described }
}

/// The nearest of a random sample, for each.
fn near_neighbours(real: &[Vec<f32>], rng: &mut SmallRng) -> Vec<usize> {
    let nearest = |(at, vector): (usize, &Vec<f32>)| {
        let sample =
            (0..NEIGHBOUR_SAMPLE).map(|_| rng.random_range(0..real.len())).filter(|other| *other != at);
        let score = |other: usize| dot(vector, &real[other]);
        sample.max_by(|a, b| score(*a).total_cmp(&score(*b))).unwrap_or(at)
    };
    real.iter().enumerate().map(nearest).collect()
}

/// Centres with noise in 24 directions of their own and a little in all: as `rust-spike.md` had.
fn synthetic(count: usize, queries: usize, rng: &mut SmallRng) -> Points {
    let dim = SYNTHETIC_DIM;
    let mut gauss = |scale: f32| (0..dim).map(|_| scale * normal(rng)).collect::<Vec<f32>>();
    let unit = 1.0 / (dim as f32).sqrt();
    let centres: Vec<Vec<f32>> = (0..CENTRES).map(|_| gauss(unit)).collect();
    let directions: Vec<Vec<f32>> = (0..24).map(|_| gauss(unit)).collect();
    let mut rows = |count: usize| {
        let mut rows = Rows { dim, values: Vec::with_capacity(count * dim) };
        for _ in 0..count {
            let mut vector = centres[rng.random_range(0..CENTRES)].clone();
            for direction in &directions {
                let weight = 0.12 * normal(rng);
                vector.iter_mut().zip(direction).for_each(|(v, d)| *v += weight * d);
            }
            for v in &mut vector {
                *v += 0.25 * unit * normal(rng);
            }
            rows.push(vector);
        }
        rows
    };
    let (base, queries) = (rows(count), rows(queries));
    Points { base, queries, described: format!("synthetic: {CENTRES} centres, low-rank and isotropic noise") }
}

/// A standard normal number (Box and Muller).
fn normal(rng: &mut SmallRng) -> f32 {
    let (u, v): (f32, f32) = (rng.random_range(f32::MIN_POSITIVE..1.0), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}

pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    for (a, b) in a.as_chunks::<16>().0.iter().zip(b.as_chunks::<16>().0) {
        (0..16).for_each(|lane| sums[lane] += a[lane] * b[lane]);
    }
    let done = a.len() / 16 * 16;
    sums.iter().sum::<f32>() + a[done..].iter().zip(&b[done..]).map(|(a, b)| a * b).sum::<f32>()
}
