//! Ranking: the exact best posts of an OR over terms, and how many match.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bowerbird_posts::Ordinal;
use roaring::RoaringBitmap;

use crate::bm25::{Bm25, Units};
use crate::bounds::RANGE;
use crate::error::guard;
use crate::lists::Lists;
use crate::plan::Plan;
use crate::snapshot::Snapshot;
use crate::sweep::{Allowed, Sink, sweep};
use crate::{BagQuery, LexicalError, LexicalSearcher};

/// Matches that are counted exactly; past it a count is a lower bound.
pub const COUNTED: u64 = 10_000;
/// Queries of fewer postings are added up whole, and of more when there are not many documents to go through:
/// bounds would cost more than they save.
const FEW_POSTINGS: u64 = 4096;
/// Most postings, with a quarter of the documents, of such a query.
const FEW_STEPS: u64 = 60_000;
/// Posts for each allowed one from which on only the ranges with an allowed post are looked at: then most have none.
const NARROW: u64 = 2 * RANGE as u64;

/// The best posts and how many there are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LexicalHits {
    /// Best first; equal scores by ordinal.
    pub hits: Vec<(Ordinal, Bm25)>,
    /// Allowed posts in which any term occurs, or a number that they exceed: see `exact`.
    pub total: u64,
    /// Whether `total` is their number. It always is up to [`COUNTED`].
    pub exact: bool,
    /// What a post of average length would score that holds every word, tag and mention of the query once, on the
    /// scale of `hits`; words that no post holds count with the idf of such a word. A best hit far below it means
    /// that the query was met in part.
    pub ideal: f32,
    /// Allowed posts that hold every rare term of the query, best first; empty when it has none. See
    /// [`crate::RARE_POSTS`].
    pub rare: Vec<Ordinal>,
}

impl LexicalSearcher {
    /// The `limit` best posts by BM25 among those in `allowed` (all when absent).
    ///
    /// `allowed` holds ordinals and is applied while ranking, so that a deleted or filtered post takes no place.
    /// A query without terms matches nothing.
    pub fn search(
        &self,
        query: &BagQuery,
        allowed: Option<&RoaringBitmap>,
        limit: usize,
    ) -> Result<LexicalHits, LexicalError> {
        let snapshot = &*self.snapshot;
        guard(&snapshot.dir, || {
            let plan = Plan::new(snapshot, query)?;
            let mut hits = plan.search(snapshot, allowed, limit)?;
            hits.rare = snapshot.rare(&plan, allowed)?;
            Ok(hits)
        })
    }

    /// [`Self::search`] with every post added up; for tests and measurements.
    #[doc(hidden)]
    pub fn search_exhaustively(
        &self,
        query: &BagQuery,
        allowed: Option<&RoaringBitmap>,
        limit: usize,
    ) -> Result<LexicalHits, LexicalError> {
        let snapshot = &*self.snapshot;
        guard(&snapshot.dir, || {
            let plan = Plan::new(snapshot, query)?;
            let mut best = Best { limit, heap: BinaryHeap::new(), found: 0 };
            plan.sweep(snapshot, allowed, true, &mut best)?;
            Ok(best.into_hits(&plan, None))
        })
    }

    /// The allowed posts that match the query at all, ranked or not: those that [`Self::search`] counts.
    pub fn matching_any(
        &self,
        query: &BagQuery,
        allowed: Option<&RoaringBitmap>,
    ) -> Result<RoaringBitmap, LexicalError> {
        let snapshot = &*self.snapshot;
        guard(&snapshot.dir, || {
            let plan = Plan::new(snapshot, query)?;
            let mut found = RoaringBitmap::new();
            for at in 0..snapshot.segments.len() {
                found |= plan.union(snapshot, at)?;
            }
            if let Some(allowed) = allowed {
                found &= allowed;
            }
            Ok(found)
        })
    }

    /// The allowed posts that score at least `share` of [`LexicalHits::ideal`]: those that hold most of the query by
    /// weight. Cheaper than ranking, because the threshold is known from the start.
    pub fn matching_most(
        &self,
        query: &BagQuery,
        allowed: Option<&RoaringBitmap>,
        share: f32,
    ) -> Result<RoaringBitmap, LexicalError> {
        let snapshot = &*self.snapshot;
        guard(&snapshot.dir, || {
            let plan = Plan::new(snapshot, query)?;
            let enough = plan.weights.at_least(share.max(0.0) * plan.ideal).max(1);
            let mut found = Enough { enough, found: Vec::new() };
            plan.sweep(snapshot, allowed, false, &mut found)?;
            Ok(found.found.into_iter().collect())
        })
    }
}

impl Plan {
    fn search(
        &self,
        snapshot: &Snapshot,
        allowed: Option<&RoaringBitmap>,
        limit: usize,
    ) -> Result<LexicalHits, LexicalError> {
        let mut best = Best { limit, heap: BinaryHeap::new(), found: 0 };
        let postings = self.postings();
        let few = postings <= FEW_POSTINGS || postings + snapshot.posts / 4 <= FEW_STEPS;
        if few || allowed.is_some_and(|allowed| allowed.len().saturating_mul(NARROW) < snapshot.posts) {
            self.sweep(snapshot, allowed, true, &mut best)?;
            return Ok(best.into_hits(self, None));
        }
        let counted = self.count(snapshot, allowed)?;
        if limit > 0 {
            self.sweep(snapshot, allowed, limit as u64 >= counted.0, &mut best)?;
        }
        Ok(best.into_hits(self, Some(counted)))
    }

    fn sweep(
        &self,
        snapshot: &Snapshot,
        allowed: Option<&RoaringBitmap>,
        every: bool,
        sink: &mut impl Sink,
    ) -> Result<(), LexicalError> {
        let narrow = allowed.filter(|allowed| allowed.len().saturating_mul(NARROW) < snapshot.posts);
        let mut ranges = narrow.map(|allowed| snapshot.ranges(allowed));
        for (at, segment) in snapshot.segments.iter().enumerate() {
            let lists = Lists::open(snapshot, self, at, every)?;
            let ranges = ranges.as_mut().map(|ranges| std::mem::take(&mut ranges[at]));
            if !lists.short.is_empty() || !lists.long.is_empty() {
                sweep(segment, lists, Allowed { posts: allowed, ranges }, every, sink);
            }
        }
        Ok(())
    }
}

/// The best so far: a heap with the worst of them on top. A key holds the sum above the ordinal, both so that
/// more is better.
struct Best {
    limit: usize,
    heap: BinaryHeap<Reverse<u64>>,
    found: u64,
}

fn key(units: Units, ordinal: u32) -> u64 {
    u64::from(units) << 32 | u64::from(u32::MAX - ordinal)
}

impl Sink for Best {
    #[inline]
    fn take(&mut self, units: Units, ordinal: u32) {
        self.found += 1;
        let key = key(units, ordinal);
        if self.heap.len() < self.limit {
            self.heap.push(Reverse(key));
        } else if let Some(mut worst) = self.heap.peek_mut()
            && key > worst.0
        {
            worst.0 = key;
        }
    }

    #[inline]
    fn wants(&self, units: Units, ordinal: u32) -> bool {
        self.heap.len() < self.limit || self.heap.peek().is_some_and(|worst| key(units, ordinal) > worst.0)
    }

    fn head(&self) -> usize {
        (self.limit / 2).max(16)
    }
}

impl Best {
    fn into_hits(self, plan: &Plan, counted: Option<(u64, bool)>) -> LexicalHits {
        let (total, exact) = counted.unwrap_or((self.found, true));
        let hits =
            self.heap.into_sorted_vec().into_iter().map(|Reverse(key)| {
                (Ordinal(u32::MAX - key as u32), plan.weights.score((key >> 32) as Units))
            });
        LexicalHits { hits: hits.collect(), total, exact, ideal: plan.ideal, rare: Vec::new() }
    }
}

/// Everything from a threshold on.
struct Enough {
    enough: Units,
    found: Vec<u32>,
}

impl Sink for Enough {
    fn take(&mut self, _: Units, ordinal: u32) {
        self.found.push(ordinal);
    }

    #[inline]
    fn wants(&self, units: Units, _: u32) -> bool {
        units >= self.enough
    }

    fn head(&self) -> usize {
        0
    }
}
