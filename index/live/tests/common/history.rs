//! A history of writes that both sides of a kill can tell: batch `n` of a writer is a function of the two numbers.

use std::collections::BTreeMap;

use bowerbird_posts::{CountsPatch, Op, Post, PostId};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{id, post};

/// Posts a writer has at most.
const POSTS: u32 = 60;

/// The post that tells which batch of a writer was the last.
pub fn marker(writer: u32) -> PostId {
    id(&format!("w{writer}"))
}

/// A word that only the text of op `at` of batch `n` of a writer has.
pub fn word(writer: u32, n: u64, at: usize) -> String {
    format!("u{writer}x{n}x{at}")
}

/// Batch `n`, from 1: 1 to 50 edits, deletions and counter changes, and the marker.
pub fn batch(writer: u32, n: u64) -> Vec<Op> {
    let mut random = SmallRng::seed_from_u64(n << 8 | u64::from(writer));
    let size =
        if random.random_ratio(1, 4) { random.random_range(1..=50) } else { random.random_range(1..=6) };
    let mut ops: Vec<Op> = (0..size)
        .map(|at| {
            let name = format!("w{writer}p{}", random.random_range(0..POSTS));
            match random.random_range(0..8) {
                0 => Op::Delete(id(&name)),
                1 | 2 => {
                    let likes = Some(random.random_range(0..1000));
                    Op::SetCounts { id: id(&name), counts: CountsPatch { likes, ..CountsPatch::default() } }
                }
                _ => Op::Upsert(Box::new(post(&name, &format!("common {} #tag{at}", word(writer, n, at))))),
            }
        })
        .collect();
    ops.push(Op::Upsert(Box::new(post(marker(writer).as_str(), &format!("progress {n}")))));
    ops
}

/// The batch a marker stands for.
pub fn progress(marker: &Post) -> u64 {
    marker.text.strip_prefix("progress ").and_then(|n| n.parse().ok()).expect("a marker")
}

/// What a writer's posts are after some of its batches.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub done: u64,
    pub posts: BTreeMap<PostId, Post>,
    /// Texts that were replaced or deleted.
    pub dead: Vec<String>,
}

impl Model {
    pub fn advance(&mut self, writer: u32, to: u64) {
        for op in (self.done + 1..=to).flat_map(|n| batch(writer, n)) {
            let gone = match op {
                Op::Delete(id) => self.posts.remove(&id),
                Op::SetCounts { id, counts } => {
                    if let Some(post) = self.posts.get_mut(&id) {
                        post.counts = counts.apply(post.counts);
                    }
                    None
                }
                Op::Upsert(post) => self.posts.insert(post.id.clone(), *post),
            };
            self.dead.extend(gone.map(|post| post.text));
        }
        self.done = to;
    }
}
