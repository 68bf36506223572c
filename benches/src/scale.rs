//! Many posts with vectors, made from the real demo posts: for questions whose answer depends on size.
//!
//! The first posts are the real ones with their real vectors. Every further one joins the halves of two real posts,
//! of which the second is the nearest in meaning of a few drawn at random; its vector lies between theirs, with
//! noise, so that it stays where vectors of real posts are. Everything follows from the seed.

use std::collections::HashMap;
use std::error::Error;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use bowerbird_live::VectorSource;
use bowerbird_posts::{Ordinal, Post, PostId, PostStore};
use bowerbird_vector::{PointId, VectorConfig, VectorIndex};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Real posts among which the second half of a made one is chosen.
const DRAWN: usize = 24;
/// Length of the noise added to a made vector before it is scaled to unit length.
const NOISE: f32 = 0.25;

/// Real posts, and the vector of each.
pub struct Real {
    posts: Vec<Post>,
    vectors: Vec<Vec<f32>>,
    space: String,
}

impl Real {
    /// Every post of a data directory that no process has open, with its vector.
    ///
    /// # Panics
    /// When a file cannot be read or a post has no vector yet.
    pub fn read(data_dir: &Path, space: &str, dim: usize) -> Self {
        let store = PostStore::open(&data_dir.join("posts")).expect("the post store opens");
        let live = store.live_ordinals().expect("ordinals are read");
        let ordinals: Vec<Ordinal> = live.iter().map(Ordinal).collect();
        let index = data_dir.join("generation").join("vector");
        let index =
            VectorIndex::open(&index, space, dim, VectorConfig::default()).expect("the vector index opens");
        let posts: Vec<Post> = store
            .get_many(&ordinals)
            .expect("posts are read")
            .into_iter()
            .flatten()
            .map(|stored| stored.post)
            .collect();
        let vectors = ordinals
            .iter()
            .map(|ordinal| {
                let vector = index.vector(PointId(ordinal.0)).expect("a vector is read");
                vector.expect("every post has its vector: index them first")
            })
            .collect();
        Self { posts, vectors, space: space.to_owned() }
    }

    /// Number of real posts.
    pub fn len(&self) -> usize {
        self.posts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.posts.is_empty()
    }

    /// `count` posts with their vectors, the real ones first.
    pub fn grown(&self, count: usize, seed: u64) -> Grown<'_> {
        Grown { real: self, next: 0, count, rng: SmallRng::seed_from_u64(seed) }
    }
}

/// Iterates over real and made posts.
pub struct Grown<'a> {
    real: &'a Real,
    next: usize,
    count: usize,
    rng: SmallRng,
}

impl Iterator for Grown<'_> {
    type Item = (Post, Vec<f32>);

    fn next(&mut self) -> Option<Self::Item> {
        let (n, real) = (self.next, self.real);
        if n == self.count {
            return None;
        }
        self.next += 1;
        if n < real.len() {
            return Some((real.posts[n].clone(), real.vectors[n].clone()));
        }
        let first = self.rng.random_range(0..real.len());
        let drawn = (0..DRAWN).map(|_| self.rng.random_range(0..real.len()));
        let cosine = |other: &usize| dot(&real.vectors[first], &real.vectors[*other]);
        let second = drawn.filter(|other| *other != first).max_by(|a, b| cosine(a).total_cmp(&cosine(b)));
        let second = second.unwrap_or(first);
        let text = joined(&real.posts[first].text, &real.posts[second].text);
        let step = NOISE * (12.0 / real.vectors[first].len() as f32).sqrt();
        let vector = real.vectors[first].iter().zip(&real.vectors[second]);
        let vector = vector.map(|(a, b)| 0.5 * (a + b) + step * (self.rng.random::<f32>() - 0.5)).collect();
        let post = Post {
            id: PostId::new(format!("made-{n}")).expect("a valid id"),
            text,
            ..real.posts[first].clone()
        };
        Some((post.validated().expect("made of valid posts"), unit(vector)))
    }
}

/// The first half of the words of one text and the second half of the other's.
fn joined(first: &str, second: &str) -> String {
    let (first, second): (Vec<&str>, Vec<&str>) =
        (first.split_whitespace().collect(), second.split_whitespace().collect());
    let halves = first[..first.len().div_ceil(2)].iter().chain(&second[second.len() / 2..]);
    halves.copied().collect::<Vec<_>>().join(" ")
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let length = dot(&vector, &vector).sqrt();
    for value in &mut vector {
        *value /= length;
    }
    vector
}

/// Gives each text the vector it was made with.
pub struct Given {
    vectors: HashMap<u64, Vec<i16>>,
    space: String,
    dim: usize,
}

impl Given {
    /// The vectors of `real.grown(count, seed)`, kept at 16 bits a component.
    pub fn new(real: &Real, count: usize, seed: u64) -> Self {
        let vectors: HashMap<u64, Vec<i16>> = real
            .grown(count, seed)
            .map(|(post, vector)| {
                (key(&post.text), vector.iter().map(|value| (value * 32_767.0).round() as i16).collect())
            })
            .collect();
        let dim = vectors.values().next().map_or(0, Vec::len);
        Self { vectors, space: real.space.clone(), dim }
    }
}

fn key(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

impl VectorSource for Given {
    fn space(&self) -> String {
        self.space.clone()
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Box<dyn Error + Send + Sync>> {
        let vector = |text: &String| {
            let kept = self.vectors.get(&key(text)).ok_or("a text that was not made here")?;
            Ok(unit(kept.iter().map(|value| f32::from(*value) / 32_767.0).collect()))
        };
        texts.iter().map(vector).collect()
    }
}
