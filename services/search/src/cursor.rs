//! Pages that never overlap: the ranked list is kept, and a cursor is a place in it.
//!
//! A list belongs to the state of the index in which it was made. It holds ordinals, and an ordinal is one version of
//! one post, given once and in rising order; so the state needs no copy of the index to be pinned: what is alive now
//! and below the horizon is that state, less what was deleted or edited since. Later pages follow these rules:
//!
//! - A hit comes once, in one order, at one rank, with the scores it had.
//! - Posts written later are not part of the walk. A deleted post is skipped, and so is the old version of an edited
//!   one; the new version belongs to a new search. When the hit of a group of near-duplicates dies, the next of them
//!   takes its place (unless hits per author are limited).
//! - `total` and facets are those of the pinned state less what died since.
//!
//! A list goes on in the generation of the index it was made in, also when another has taken over since: generations
//! number the same versions of posts alike, but they may find others behind the list.
//!
//! The first list holds the candidates of both legs, or as many posts in the order of a column. When a page reaches
//! past it, the lexical hits or posts behind it are ranked once, as they are then, and kept with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bowerbird_lexical::BagQuery;
use bowerbird_live::{Allowed, Snapshot};
use moka::sync::Cache;
use roaring::RoaringBitmap;
use tokio::sync::OnceCell;

use crate::SearchError;
use crate::arrange::Rules;
use crate::explain::{Parts, SearchExplanation};
use crate::list::{Matching, Place};
use crate::page::Total;
use crate::request::Sort;

/// The posts a search could return when its list was made.
#[derive(Clone, Debug)]
pub(crate) struct Pinned {
    /// Ordinals from here on came later.
    horizon: u32,
    /// Those that passed the filter, when there is one.
    allowed: Option<Arc<RoaringBitmap>>,
}

impl Pinned {
    pub fn new(snapshot: &Snapshot, allowed: &Allowed, filtered: bool) -> Self {
        let horizon = snapshot.live().max().map_or(0, |largest| largest.saturating_add(1));
        Self { horizon, allowed: filtered.then(|| Arc::clone(&allowed.bitmap)) }
    }

    /// Those of them that are still there.
    pub fn now(&self, snapshot: &Snapshot) -> RoaringBitmap {
        if let Some(allowed) = &self.allowed {
            return &**allowed & snapshot.live();
        }
        let mut live = snapshot.live().clone();
        live.remove_range(self.horizon..);
        live
    }
}

/// The hits behind a first list.
#[derive(Debug)]
pub(crate) struct Tail {
    pub places: Vec<Place>,
    /// Whether there are more than a list may hold.
    pub more: bool,
}

/// One ranked list, frozen.
#[derive(Debug)]
pub(crate) struct Frozen {
    /// The query and filter it answers; a cursor used with others is refused.
    pub key: String,
    /// The generation in which it was made, and in which what stands behind it is looked for.
    pub generation: u32,
    /// What its lexical scores are of: the words of the query, and those that feedback added.
    pub bag: BagQuery,
    /// The hits, best first.
    pub first: Vec<Place>,
    /// The column they are in the order of; none in a list by relevance.
    pub sort: Option<Sort>,
    /// Whether others stand behind them.
    pub more: bool,
    /// Those, once they were asked for.
    pub tail: OnceCell<Tail>,
    /// Every post that has a place in `first`, or was taken out of it.
    pub taken: RoaringBitmap,
    /// The rules that hold for the whole list.
    pub rules: Rules,
    /// Most hits of the list.
    pub most: usize,
    /// How many posts match.
    pub total: Total,
    /// Which posts match.
    pub matching: Matching,
    /// The state it was made in.
    pub pinned: Pinned,
    /// Said to the person about how the list was made.
    pub note: Option<&'static str>,
    /// How the list was made, when that was asked for.
    pub explanation: Option<Box<SearchExplanation>>,
}

impl Frozen {
    /// Hits so far.
    pub fn len(&self) -> usize {
        self.first.len() + self.tail.get().map_or(0, |tail| tail.places.len())
    }

    /// Hits so far from `offset` on.
    pub fn from(&self, offset: usize) -> impl Iterator<Item = &Place> {
        let tail = self.tail.get().map_or(&[][..], |tail| &tail.places);
        self.first.iter().chain(tail).skip(offset)
    }

    /// Whether hits that are not ranked yet stand behind the list.
    pub fn is_open(&self) -> bool {
        self.more && self.tail.get().is_none()
    }

    /// Whether posts match that no page reaches.
    pub fn is_truncated(&self) -> bool {
        self.tail.get().is_some_and(|tail| tail.more)
    }

    /// Memory, in bytes.
    fn bytes(&self) -> usize {
        let place = |place: &Place| {
            let parts = if place.parts.is_some() { size_of::<Parts>() } else { 0 };
            (1 + place.folded.len()) * (size_of::<Place>() + parts)
        };
        let bitmaps = [
            Some(&self.taken),
            self.pinned.allowed.as_deref(),
            match &self.matching {
                Matching::These(posts) => Some(posts),
                Matching::Words { .. } | Matching::Allowed => None,
            },
        ];
        size_of::<Self>()
            + self.key.len()
            + self.from(0).map(place).sum::<usize>()
            + bitmaps.into_iter().flatten().map(RoaringBitmap::serialized_size).sum::<usize>()
    }
}

/// The lists that cursors point into, bounded in memory and age.
pub(crate) struct Cursors {
    lists: Cache<u64, Arc<Frozen>>,
    next: AtomicU64,
}

impl Cursors {
    /// Keeps lists of up to `bytes` in all, each for `ttl`.
    pub fn new(bytes: u64, ttl: Duration) -> Self {
        let lists = Cache::builder()
            .max_capacity(bytes)
            .weigher(|_, list: &Arc<Frozen>| list.bytes().try_into().unwrap_or(u32::MAX))
            .time_to_live(ttl)
            .build();
        // A random start keeps cursors of an earlier process from meaning something else in this one.
        let next = AtomicU64::new(uuid::Uuid::now_v7().as_u64_pair().1);
        Self { lists, next }
    }

    /// Keeps `list` under a new number.
    pub fn keep(&self, list: Arc<Frozen>) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.lists.insert(id, list);
        id
    }

    /// Weighs a list again that has grown.
    pub fn grown(&self, id: u64, list: Arc<Frozen>) {
        self.lists.insert(id, list);
    }

    /// The list and the offset that `cursor` names.
    pub fn find(&self, cursor: &str, key: &str) -> Result<(u64, Arc<Frozen>, usize), SearchError> {
        let (id, offset) = cursor
            .split_once('.')
            .and_then(|(id, offset)| Some((u64::from_str_radix(id, 16).ok()?, offset.parse::<usize>().ok()?)))
            .ok_or(SearchError::InvalidCursor)?;
        let list = self.lists.get(&id).ok_or(SearchError::ExpiredCursor)?;
        if list.key != key || offset > list.len() {
            return Err(SearchError::InvalidCursor);
        }
        Ok((id, list, offset))
    }

    /// The cursor of a kept list at `offset`.
    pub fn cursor(id: u64, offset: usize) -> String {
        format!("{id:016x}.{offset}")
    }
}
