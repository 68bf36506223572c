//! How searches are run.

use std::time::Duration;

use crate::fuse::Fusion;
use crate::request::RerankOptions;

/// How searches are run.
#[derive(Clone, Debug)]
pub struct SearchConfig {
    /// Candidates each leg gives to fusion.
    pub depth: usize,
    /// Lexical hits kept behind the fused ones, so that later pages reach them.
    pub tail: usize,
    /// Most hits of a list sorted by time or engagement.
    pub sorted: usize,
    /// How the legs are joined.
    pub fusion: Fusion,
    /// How the cross-encoder is used.
    pub rerank: RerankOptions,
    /// Most time of a search that states none.
    pub timeout: Duration,
    /// Threads for index work.
    pub threads: usize,
    /// Index work waiting or running before a search is refused.
    pub queue: usize,
    /// Hits kept for cursors, over all lists.
    pub cursor_hits: u64,
    /// Age at which a cursor expires.
    pub cursor_ttl: Duration,
}

impl Default for SearchConfig {
    /// Depth 16 and blend .3: deeper reranking gained nothing measurable on five judged sets, and a larger share
    /// lost on most.
    fn default() -> Self {
        Self {
            depth: 100,
            tail: 1000,
            sorted: 10_000,
            fusion: Fusion::default(),
            rerank: RerankOptions { depth: 16, blend: 0.3, budget: Some(Duration::from_millis(400)) },
            timeout: Duration::from_secs(5),
            threads: 2,
            queue: 256,
            cursor_hits: 2_000_000,
            cursor_ttl: Duration::from_mins(10),
        }
    }
}
