//! Pages that never overlap: the ranked list is kept, and a cursor is a place in it.
//!
//! The list holds ordinals, so an edit that lands between two pages does not move anything: the old text is gone
//! from later pages like a deleted post, and the new one belongs to a new search.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::sync::Cache;

use crate::SearchError;
use crate::list::Reranked;
use crate::page::Total;

/// One ranked list, frozen.
#[derive(Debug)]
pub struct Frozen {
    /// The query and filter it answers; a cursor used with others is refused.
    pub key: String,
    /// Every hit, best first.
    pub ranked: Vec<Reranked>,
    /// How many posts match.
    pub total: Total,
    /// Said to the person about how the list was made.
    pub note: Option<&'static str>,
}

/// The lists that cursors point into, bounded in number, weight and age.
pub struct Cursors {
    lists: Cache<u64, Arc<Frozen>>,
    next: AtomicU64,
}

impl Cursors {
    /// Keeps lists of up to `hits` hits in all, each for `ttl`.
    pub fn new(hits: u64, ttl: Duration) -> Self {
        let lists = Cache::builder()
            .max_capacity(hits)
            .weigher(|_, list: &Arc<Frozen>| list.ranked.len().try_into().unwrap_or(u32::MAX))
            .time_to_live(ttl)
            .build();
        // A random start keeps cursors of an earlier process from meaning something else in this one.
        let next = AtomicU64::new(uuid::Uuid::now_v7().as_u64_pair().1);
        Self { lists, next }
    }

    /// Keeps `list` and gives the cursor that continues at `offset`.
    pub fn keep(&self, list: Arc<Frozen>, offset: usize) -> String {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.lists.insert(id, list);
        Self::cursor(id, offset)
    }

    /// The list and the offset that `cursor` names.
    pub fn find(&self, cursor: &str, key: &str) -> Result<(u64, Arc<Frozen>, usize), SearchError> {
        let (id, offset) = cursor
            .split_once('.')
            .and_then(|(id, offset)| Some((u64::from_str_radix(id, 16).ok()?, offset.parse::<usize>().ok()?)))
            .ok_or(SearchError::InvalidCursor)?;
        let list = self.lists.get(&id).ok_or(SearchError::ExpiredCursor)?;
        if list.key != key || offset > list.ranked.len() {
            return Err(SearchError::InvalidCursor);
        }
        Ok((id, list, offset))
    }

    /// The cursor of a kept list at `offset`.
    pub fn cursor(id: u64, offset: usize) -> String {
        format!("{id:016x}.{offset}")
    }
}
