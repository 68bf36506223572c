//! Results that were computed before, bounded in bytes.
//!
//! Keys are keyed 128-bit hashes of the texts: no text is kept, so nothing of a deleted post lives on here, and the
//! keys are drawn for each process, so that nobody can aim for a collision.

use std::hash::{BuildHasher, Hash, RandomState};

use bowerbird_models_api::{Embedding, RerankLogit};
use moka::sync::Cache;

use crate::metrics;

/// What an entry costs beside its value: key, list links and counters of the cache.
const ENTRY_BYTES: usize = 160;

/// Hash of one text or of a pair of texts.
pub(crate) type Key = [u64; 2];

pub(crate) struct Caches {
    hashers: [RandomState; 2],
    queries: Option<Cache<Key, Embedding>>,
    scores: Option<Cache<Key, RerankLogit>>,
}

impl Caches {
    /// Caches of at most so many bytes; 0 keeps nothing.
    pub(crate) fn new(query_bytes: u64, score_bytes: u64) -> Self {
        let queries = (query_bytes > 0).then(|| {
            Cache::builder()
                .weigher(|_: &Key, value: &Embedding| weight(value.dim() * size_of::<f32>()))
                .max_capacity(query_bytes)
                .build()
        });
        let scores = (score_bytes > 0).then(|| {
            Cache::builder()
                .weigher(|_: &Key, _: &RerankLogit| weight(size_of::<RerankLogit>()))
                .max_capacity(score_bytes)
                .build()
        });
        Self { hashers: [RandomState::new(), RandomState::new()], queries, scores }
    }

    pub(crate) fn key(&self, texts: impl Hash) -> Key {
        [self.hashers[0].hash_one(&texts), self.hashers[1].hash_one(&texts)]
    }

    pub(crate) fn query(&self, key: &Key) -> Option<Embedding> {
        look_up("query", self.queries.as_ref()?, key)
    }

    pub(crate) fn score(&self, key: &Key) -> Option<RerankLogit> {
        look_up("score", self.scores.as_ref()?, key)
    }

    pub(crate) fn keep_query(&self, key: Key, value: &Embedding) {
        if let Some(cache) = &self.queries {
            cache.insert(key, value.clone());
        }
    }

    pub(crate) fn keep_score(&self, key: Key, value: RerankLogit) {
        if let Some(cache) = &self.scores {
            cache.insert(key, value);
        }
    }
}

fn look_up<V: Clone + Send + Sync + 'static>(
    name: &'static str,
    cache: &Cache<Key, V>,
    key: &Key,
) -> Option<V> {
    let found = cache.get(key);
    metrics::cache(name, found.is_some());
    found
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
        let cache = caches.queries.as_ref().expect("is on");
        cache.run_pending_tasks();
        assert!(cache.weighted_size() <= 10_000, "{}", cache.weighted_size());
        assert!(cache.entry_count() >= 1);
        caches.keep_score(caches.key("x"), RerankLogit::new(1.0).expect("finite"));
        assert_eq!(caches.score(&caches.key("x")), None, "0 bytes keep nothing");
    }
}
