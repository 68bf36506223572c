//! Results that were computed before, bounded in bytes.
//!
//! Keys are keyed 128-bit hashes of the texts: no text is kept, so nothing of a deleted post lives on here, and the
//! keys are drawn for each process, so that nobody can aim for a collision.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use bowerbird_models_api::{Embedding, RerankLogit};
use moka::sync::Cache;

use crate::metrics;

/// What an entry costs beside its value: key, list links and counters of the cache.
const ENTRY_BYTES: usize = 160;

/// Hash of one text or of a pair of texts.
pub(crate) type Key = [u64; 2];

/// What a cache has done since the start, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatus {
    /// Look-ups that found a result.
    pub hits: u64,
    /// Look-ups that found none.
    pub misses: u64,
    /// Bytes held, about: entries on their way in or out are not counted yet.
    pub bytes: u64,
    /// Bytes it may hold; 0 for a cache that is off.
    pub limit_bytes: u64,
}

impl CacheStatus {
    /// Share of look-ups that found a result; 0 before the first.
    pub fn hit_rate(&self) -> f64 {
        self.hits as f64 / (self.hits + self.misses).max(1) as f64
    }
}

pub(crate) struct Caches {
    hashers: [RandomState; 2],
    queries: Option<Counted<Embedding>>,
    scores: Option<Counted<RerankLogit>>,
}

/// A cache that counts its look-ups.
struct Counted<V> {
    name: &'static str,
    cache: Cache<Key, V>,
    limit_bytes: u64,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl<V: Clone + Send + Sync + 'static> Counted<V> {
    /// `None` for a cache of no bytes; `bytes` tells what a value holds.
    fn new(name: &'static str, limit_bytes: u64, bytes: fn(&V) -> usize) -> Option<Self> {
        let cache = Cache::builder()
            .weigher(move |_: &Key, value: &V| weight(bytes(value)))
            .max_capacity(limit_bytes)
            .build();
        (limit_bytes > 0).then(|| Self {
            name,
            cache,
            limit_bytes,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        })
    }

    fn get(&self, key: &Key) -> Option<V> {
        let found = self.cache.get(key);
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        metrics::cache(self.name, found.is_some());
        found
    }

    fn status(&self) -> CacheStatus {
        CacheStatus {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            bytes: self.cache.weighted_size(),
            limit_bytes: self.limit_bytes,
        }
    }
}

impl Caches {
    /// Caches of at most so many bytes; 0 keeps nothing.
    pub(crate) fn new(query_bytes: u64, score_bytes: u64) -> Self {
        let queries = Counted::new("query", query_bytes, |value: &Embedding| value.dim() * size_of::<f32>());
        let scores = Counted::new("score", score_bytes, |_: &RerankLogit| size_of::<RerankLogit>());
        Self { hashers: [RandomState::new(), RandomState::new()], queries, scores }
    }

    pub(crate) fn key(&self, texts: impl Hash) -> Key {
        [self.hashers[0].hash_one(&texts), self.hashers[1].hash_one(&texts)]
    }

    pub(crate) fn query(&self, key: &Key) -> Option<Embedding> {
        self.queries.as_ref()?.get(key)
    }

    pub(crate) fn score(&self, key: &Key) -> Option<RerankLogit> {
        self.scores.as_ref()?.get(key)
    }

    pub(crate) fn keep_query(&self, key: Key, value: &Embedding) {
        if let Some(Counted { cache, .. }) = &self.queries {
            cache.insert(key, value.clone());
        }
    }

    pub(crate) fn keep_score(&self, key: Key, value: RerankLogit) {
        if let Some(Counted { cache, .. }) = &self.scores {
            cache.insert(key, value);
        }
    }

    /// Query vectors and pair scores. The metrics get the sizes.
    pub(crate) fn status(&self) -> [CacheStatus; 2] {
        let queries = self.queries.as_ref().map(Counted::status).unwrap_or_default();
        let scores = self.scores.as_ref().map(Counted::status).unwrap_or_default();
        metrics::cache_size("query", queries.bytes, queries.limit_bytes);
        metrics::cache_size("score", scores.bytes, scores.limit_bytes);
        [queries, scores]
    }
}

fn weight(value_bytes: usize) -> u32 {
    u32::try_from(value_bytes + ENTRY_BYTES).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_told_apart_where_their_texts_meet() {
        let caches = Caches::new(1, 1);
        assert_eq!(caches.key(("ab", "c")), caches.key(("ab", "c")));
        assert_ne!(caches.key(("ab", "c")), caches.key(("a", "bc")));
        assert_ne!(caches.key(("a", "b")), caches.key(("b", "a")));
        assert_ne!(caches.key("a"), Caches::new(1, 1).key("a"), "keys are drawn for each cache");
    }

    #[test]
    fn the_bound_is_in_bytes() {
        let caches = Caches::new(10_000, 0);
        let embedding = Embedding::normalized(vec![1.0; 384]).expect("finite");
        for i in 0..100u32 {
            caches.keep_query(caches.key(i), &embedding);
        }
        let cache = &caches.queries.as_ref().expect("is on").cache;
        cache.run_pending_tasks();
        assert!(cache.weighted_size() <= 10_000, "{}", cache.weighted_size());
        assert!(cache.entry_count() >= 1);
        caches.keep_score(caches.key("x"), RerankLogit::new(1.0).expect("finite"));
        assert_eq!(caches.score(&caches.key("x")), None, "0 bytes keep nothing");
    }

    #[test]
    fn look_ups_and_bytes_are_counted_for_each_cache() {
        let caches = Caches::new(10_000, 5_000);
        let embedding = Embedding::normalized(vec![1.0; 384]).expect("finite");
        let known = caches.key("known");
        assert_eq!(caches.query(&known), None);
        caches.keep_query(known, &embedding);
        for _ in 0..3 {
            assert_eq!(caches.query(&known).as_ref(), Some(&embedding));
        }
        assert_eq!(caches.score(&known), None, "another cache");
        caches.queries.as_ref().expect("is on").cache.run_pending_tasks();
        let [queries, scores] = caches.status();
        let bytes = 384 * 4 + ENTRY_BYTES as u64;
        assert_eq!(queries, CacheStatus { hits: 3, misses: 1, bytes, limit_bytes: 10_000 });
        assert!((queries.hit_rate() - 0.75).abs() < 1e-9);
        assert_eq!(scores, CacheStatus { hits: 0, misses: 1, bytes: 0, limit_bytes: 5_000 });
        assert_eq!(Caches::new(0, 0).status(), [CacheStatus::default(); 2]);
    }
}
