//! The k best of a stream, ties by the smaller id.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// One scored record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scored {
    pub score: f32,
    pub id: u32,
    /// See `View`.
    pub place: u32,
}

impl Scored {
    /// Better first: the higher score, then the smaller id.
    pub fn rank(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.id.cmp(&other.id))
    }
}

impl PartialEq for Scored {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Scored {}
impl PartialOrd for Scored {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
/// The greatest is the worst, so that it sits on top of the heap.
impl Ord for Scored {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank(other)
    }
}

/// Keeps the best `limit` of what is offered.
pub(crate) struct TopK {
    heap: BinaryHeap<Scored>,
    limit: usize,
    /// Scores below this cannot enter; equal ones may, by id.
    pub threshold: f32,
}

impl TopK {
    pub fn new(limit: usize) -> Self {
        Self { heap: BinaryHeap::with_capacity(limit.min(65_536) + 1), limit, threshold: f32::NEG_INFINITY }
    }

    pub fn len(&self) -> usize {
        self.heap.len()
    }

    pub fn offer(&mut self, scored: Scored) {
        if self.heap.len() < self.limit {
            self.heap.push(scored);
        } else if let Some(mut worst) = self.heap.peek_mut()
            && scored.rank(&worst) == Ordering::Less
        {
            *worst = scored;
        }
        if self.heap.len() == self.limit {
            self.threshold = self.heap.peek().map_or(f32::INFINITY, |worst| worst.score);
        }
    }

    /// As [`offer`](Self::offer), for what may be offered twice: slow, for few.
    pub fn offer_once(&mut self, scored: Scored) {
        if self.heap.iter().all(|other| other.place != scored.place) {
            self.offer(scored);
        }
    }

    /// Best first.
    pub fn into_sorted(self) -> Vec<Scored> {
        self.heap.into_sorted_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_best_and_breaks_ties_by_id() {
        let mut top = TopK::new(3);
        for (id, score) in [(5, 1.0), (4, 2.0), (9, 2.0), (3, 2.0), (2, 0.5), (1, 2.0)] {
            top.offer(Scored { score, id, place: 0 });
        }
        assert!((top.threshold - 2.0).abs() < f32::EPSILON);
        assert_eq!(top.into_sorted().iter().map(|s| s.id).collect::<Vec<_>>(), [1, 3, 4]);
        let mut none = TopK::new(0);
        none.offer(Scored { score: 1.0, id: 1, place: 0 });
        assert_eq!(none.len(), 0);
    }
}
