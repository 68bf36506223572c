//! The walk through one level of an HNSW graph (Malkov and Yashunin, arXiv:1603.09320, algorithm 2), for building
//! and for searching.
//!
//! A node with its score is one number, a *key*: the score in its order-preserving form above the inverted node
//! number, so that the greater key is the better one and ties go to the smaller node.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::kernel::Dots;
use crate::sealed::SealedCodes;

/// In place of a link that is not there.
pub(crate) const NO_LINK: u32 = u32::MAX;

/// Where the links of a graph are read from.
pub(crate) trait Links {
    /// Levels, the lowest included.
    fn levels(&self) -> usize;

    /// Shows the links of `node` on `level`, in any order.
    fn each(&self, level: usize, node: u32, visit: impl FnMut(u32));

    /// The next node with the same code, which has no links of its own; [`NO_LINK`] at the end.
    fn twin(&self, node: u32) -> u32;
}

/// How far a walk goes.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    /// Nodes kept.
    pub ef: usize,
    /// Nodes looked at before it gives up.
    pub budget: usize,
}

/// The code that others are compared with.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub codes: &'a SealedCodes,
    pub dots: Dots,
    pub values: &'a [i8],
    pub scale: f32,
}

pub(crate) fn key(score: f32, node: u32) -> u64 {
    let bits = score.to_bits();
    // Negative floats sort backwards, positive ones above them (IEEE 754 total order).
    let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    u64::from(ordered) << 32 | u64::from(!node)
}

pub(crate) fn node_of(key: u64) -> u32 {
    !(key as u32)
}

/// Order-preserving form of the score of a key.
pub(crate) fn score_of(key: u64) -> u32 {
    (key >> 32) as u32
}

/// Buffers of one walk, kept between walks.
#[derive(Default)]
pub(crate) struct Scratch {
    /// One bit a node.
    seen: Vec<u64>,
    /// Nodes whose bit is set.
    touched: Vec<u32>,
    fresh: Vec<u32>,
    products: Vec<i32>,
    /// Keys of `fresh`.
    keys: Vec<u64>,
    ahead: BinaryHeap<u64>,
    best: BinaryHeap<Reverse<u64>>,
}

impl Scratch {
    fn begin(&mut self, nodes: usize) {
        for node in self.touched.drain(..) {
            self.seen[node as usize / 64] = 0;
        }
        self.seen.resize(nodes.div_ceil(64), 0);
        self.ahead.clear();
        self.best.clear();
    }

    fn see(&mut self, node: u32) -> bool {
        let (word, bit) = (node as usize / 64, 1 << (node % 64));
        let new = self.seen[word] & bit == 0;
        if new {
            self.seen[word] |= bit;
            self.touched.push(node);
        }
        new
    }

    /// The worst of the best `ef`, once there are so many.
    fn worst(&self, ef: usize) -> Option<u64> {
        self.best.peek().filter(|_| self.best.len() >= ef).map(|worst| worst.0)
    }

    /// Takes a node and its twins among the best if they pass and are good enough; gives the nodes looked at.
    fn offer(
        &mut self,
        links: &impl Links,
        found: u64,
        bounds: Bounds,
        passes: &(impl Fn(u32) -> bool + ?Sized),
    ) -> usize {
        let (mut node, mut looked_at) = (node_of(found), 0);
        // The bound also ends a chain that a bug had made a ring.
        while node != NO_LINK && looked_at <= bounds.budget {
            looked_at += 1;
            let twin = found | u64::from(u32::MAX);
            let candidate = twin ^ u64::from(node);
            let worst = self.worst(bounds.ef);
            if worst.is_some_and(|worst| score_of(candidate) < score_of(worst)) {
                break;
            }
            if worst.is_none_or(|worst| candidate > worst) && passes(node) {
                if worst.is_some() {
                    self.best.pop();
                }
                self.best.push(Reverse(candidate));
            }
            node = links.twin(node);
        }
        looked_at
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        8 * (self.seen.capacity() + self.keys.capacity() + self.ahead.capacity() + self.best.capacity())
            + 4 * (self.touched.capacity() + self.fresh.capacity() + self.products.capacity())
    }

    /// The keys of `fresh`, in its order.
    fn score_fresh(&mut self, target: &Target) {
        self.products.resize(self.fresh.len(), 0);
        let codes = target.codes.codes();
        target.dots.gather(target.values, codes, &self.fresh, &mut self.products);
        let scales = target.codes.scales();
        self.keys.clear();
        self.keys.extend(
            self.fresh
                .iter()
                .zip(&self.products)
                .map(|(node, product)| key(*product as f32 * scales[*node as usize] * target.scale, *node)),
        );
    }
}

impl Target<'_> {
    pub fn key(&self, node: u32) -> Option<u64> {
        let (values, scale) = self.codes.code(node)?;
        Some(key(self.dots.pair(self.values, values) as f32 * scale * self.scale, node))
    }
}

/// From `entry` on each level above `down_to`, to the node that none of its neighbours beats.
pub(crate) fn descend(
    links: &impl Links,
    target: &Target,
    mut entry: u64,
    down_to: usize,
    scratch: &mut Scratch,
) -> u64 {
    let nodes = target.codes.nodes() as u32;
    for level in (down_to + 1..links.levels()).rev() {
        loop {
            scratch.fresh.clear();
            let fresh = &mut scratch.fresh;
            links.each(level, node_of(entry), |node| {
                if node < nodes {
                    fresh.push(node);
                }
            });
            scratch.score_fresh(target);
            match scratch.keys.iter().max() {
                Some(best) if *best > entry => entry = *best,
                _ => break,
            }
        }
    }
    entry
}

/// The best `ef` nodes of `level` that pass, best first, reached from `entries`; none when more than `budget` nodes
/// were looked at.
pub(crate) fn walk(
    links: &impl Links,
    target: &Target,
    entries: &[u64],
    level: usize,
    bounds: Bounds,
    passes: &(impl Fn(u32) -> bool + ?Sized),
    scratch: &mut Scratch,
) -> Option<Vec<u64>> {
    let nodes = target.codes.nodes();
    scratch.begin(nodes);
    let mut looked_at = 0;
    for entry in entries {
        if scratch.see(node_of(*entry)) {
            scratch.ahead.push(*entry);
            looked_at += scratch.offer(links, *entry, bounds, passes);
        }
    }
    while let Some(next) = scratch.ahead.pop() {
        if scratch.worst(bounds.ef).is_some_and(|worst| next < worst) {
            break;
        }
        let mut fresh = std::mem::take(&mut scratch.fresh);
        fresh.clear();
        links.each(level, node_of(next), |node| {
            if (node as usize) < nodes && scratch.see(node) {
                fresh.push(node);
            }
        });
        scratch.fresh = fresh;
        scratch.score_fresh(target);
        for at in 0..scratch.keys.len() {
            let found = scratch.keys[at];
            if scratch.worst(bounds.ef).is_none_or(|worst| found > worst) {
                scratch.ahead.push(found);
                looked_at += scratch.offer(links, found, bounds, passes);
            } else {
                looked_at += 1;
            }
        }
        if looked_at > bounds.budget {
            return None;
        }
    }
    let mut found: Vec<u64> = scratch.best.drain().map(|key| key.0).collect();
    found.sort_unstable_by_key(|key| Reverse(*key));
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_order_by_score_then_by_the_smaller_node() {
        let mut keys = [key(0.5, 3), key(-0.5, 1), key(0.5, 2), key(-0.0, 9), key(0.75, 8), key(-0.25, 0)];
        keys.sort_unstable_by_key(|key| Reverse(*key));
        assert_eq!(keys.map(node_of), [8, 2, 3, 9, 0, 1]);
        assert!(score_of(keys[0]) > score_of(keys[1]) && score_of(keys[1]) == score_of(keys[2]));
    }
}
