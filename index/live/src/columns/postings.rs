//! From a name to the ordinals that have it, shared with readers without copying.
//!
//! Names are spread over shards that double in number as names arrive, so that a change copies few of them. Most
//! names of a platform (authors, tags, attribute values) occur once; those take no bitmap.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use roaring::RoaringBitmap;

/// Names of a shard, on average, before the shards are doubled.
const NAMES_PER_SHARD: usize = 64;
const MAX_SHARDS: usize = 4096;

type Shard = HashMap<Arc<str>, Posting>;

#[derive(Clone, Debug)]
enum Posting {
    One(u32),
    Many(Arc<RoaringBitmap>),
}

impl Posting {
    fn all_in(&self, live: &RoaringBitmap) -> bool {
        match self {
            Self::One(ordinal) => live.contains(*ordinal),
            Self::Many(ordinals) => ordinals.is_subset(live),
        }
    }

    /// Takes out what is not in `live`; false when nothing is left.
    fn keep(&mut self, live: &RoaringBitmap) -> bool {
        match self {
            Self::One(ordinal) => live.contains(*ordinal),
            Self::Many(ordinals) => {
                let kept = ordinals.as_ref() & live;
                match (kept.len(), kept.min()) {
                    (1, Some(ordinal)) => *self = Self::One(ordinal),
                    (0, _) => return false,
                    _ => *ordinals = Arc::new(kept),
                }
                true
            }
        }
    }
}

/// Name to ordinals.
#[derive(Clone, Debug)]
pub(crate) struct Postings {
    /// A power of two of them.
    shards: Arc<Vec<Arc<Shard>>>,
    names: usize,
    spread: RandomState,
    /// The shard that [`sweep`](Self::sweep) looks at next.
    next_swept: usize,
}

impl Default for Postings {
    fn default() -> Self {
        Self { shards: Arc::new(vec![Arc::default()]), names: 0, spread: RandomState::new(), next_swept: 0 }
    }
}

impl Postings {
    pub fn is_empty(&self) -> bool {
        self.names == 0
    }

    /// Number of names, those included that only dead posts have.
    #[cfg(test)]
    pub fn names(&self) -> usize {
        self.names
    }

    /// The ordinals of a name.
    pub fn get(&self, name: &str) -> RoaringBitmap {
        match self.find(name) {
            None => RoaringBitmap::new(),
            Some(Posting::One(ordinal)) => RoaringBitmap::from([*ordinal]),
            Some(Posting::Many(ordinals)) => RoaringBitmap::clone(ordinals),
        }
    }

    /// Adds the ordinals of a name to `set`.
    pub fn add_to(&self, name: &str, set: &mut RoaringBitmap) {
        match self.find(name) {
            None => {}
            Some(Posting::One(ordinal)) => {
                set.insert(*ordinal);
            }
            Some(Posting::Many(ordinals)) => *set |= ordinals.as_ref(),
        }
    }

    pub fn insert(&mut self, name: &str, ordinal: u32) {
        if self.names >= self.shards.len() * NAMES_PER_SHARD && self.shards.len() < MAX_SHARDS {
            self.double();
        }
        let at = self.shard_of(name);
        let shard = Arc::make_mut(&mut Arc::make_mut(&mut self.shards)[at]);
        match shard.get_mut(name) {
            None => {
                shard.insert(Arc::from(name), Posting::One(ordinal));
                self.names += 1;
            }
            Some(Posting::Many(ordinals)) => {
                Arc::make_mut(ordinals).insert(ordinal);
            }
            Some(posting) => {
                if let Posting::One(first) = *posting
                    && first != ordinal
                {
                    *posting = Posting::Many(Arc::new(RoaringBitmap::from([first, ordinal])));
                }
            }
        }
    }

    /// Takes ordinals that are not in `live` out of one shard, the next in turn, and names that have none left; true
    /// when that was the last shard of a round.
    pub fn sweep(&mut self, live: &RoaringBitmap) -> bool {
        let at = self.next_swept & (self.shards.len() - 1);
        self.next_swept = (at + 1) & (self.shards.len() - 1);
        if !self.shards[at].values().all(|posting| posting.all_in(live)) {
            let shard = Arc::make_mut(&mut Arc::make_mut(&mut self.shards)[at]);
            let before = shard.len();
            shard.retain(|_, posting| posting.keep(live));
            shard.shrink_to(shard.len() * 2);
            self.names -= before - shard.len();
        }
        self.next_swept == 0
    }

    /// How many of `within` have each name; names without any are left out, in no order.
    pub fn counts<'a>(&'a self, within: &RoaringBitmap) -> impl Iterator<Item = (&'a str, u64)> {
        self.shards.iter().flat_map(|shard| shard.iter()).filter_map(move |(name, posting)| {
            let count = match posting {
                Posting::One(ordinal) => u64::from(within.contains(*ordinal)),
                Posting::Many(ordinals) => ordinals.intersection_len(within),
            };
            (count > 0).then_some((name.as_ref(), count))
        })
    }

    fn find(&self, name: &str) -> Option<&Posting> {
        self.shards[self.shard_of(name)].get(name)
    }

    fn shard_of(&self, name: &str) -> usize {
        self.spread.hash_one(name) as usize & (self.shards.len() - 1)
    }

    fn double(&mut self) {
        let mut shards = vec![Shard::new(); self.shards.len() * 2];
        for (name, posting) in self.shards.iter().flat_map(|shard| shard.iter()) {
            let at = self.spread.hash_one(name.as_ref()) as usize & (shards.len() - 1);
            shards[at].insert(Arc::clone(name), posting.clone());
        }
        self.shards = Arc::new(shards.into_iter().map(Arc::new).collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeping_takes_out_the_dead_and_names_nobody_has() {
        let mut postings = Postings::default();
        for ordinal in 0..5000u32 {
            postings.insert(&format!("name{}", ordinal % 1700), ordinal);
        }
        let before = postings.clone();
        let live: RoaringBitmap = (0..5000).filter(|ordinal| ordinal % 1700 < 10).collect();
        for _ in 0..postings.shards.len() {
            postings.sweep(&live);
        }
        assert_eq!(postings.names, 10);
        assert_eq!(postings.shards.iter().map(|shard| shard.len()).sum::<usize>(), 10);
        assert_eq!(postings.get("name3").into_iter().collect::<Vec<_>>(), [3, 1703, 3403]);
        assert!(postings.get("name10").is_empty());
        assert_eq!(before.get("name10").len(), 3, "a clone keeps what it saw");
        postings.insert("name10", 6000);
        assert_eq!(postings.get("name10").into_iter().collect::<Vec<_>>(), [6000]);
    }

    #[test]
    fn postings_survive_doubling_and_a_clone_keeps_what_it_saw() {
        let mut postings = Postings::default();
        for ordinal in 0..5000u32 {
            postings.insert(&format!("name{}", ordinal % 1700), ordinal);
        }
        let before = postings.clone();
        postings.insert("name0", 9000);
        postings.insert("name0", 9000);
        assert_eq!(before.get("name0").into_iter().collect::<Vec<_>>(), [0, 1700, 3400]);
        assert_eq!(postings.get("name0").into_iter().collect::<Vec<_>>(), [0, 1700, 3400, 9000]);
        assert!(postings.get("name").is_empty());
        let within: RoaringBitmap = (0..1700).collect();
        assert_eq!(before.counts(&within).count(), 1700);
        assert!(before.counts(&within).all(|(_, count)| count == 1));
        let mut set = RoaringBitmap::from([7]);
        before.add_to("name1699", &mut set);
        before.add_to("name1", &mut set);
        assert_eq!(set.into_iter().collect::<Vec<_>>(), [1, 7, 1699, 1701, 3399, 3401]);
    }
}
