//! How searches are run.

use std::time::Duration;

use crate::features::Recency;
use crate::fuse::Fusion;
use crate::gate::Gate;
use crate::request::{Collapse, RerankOptions};

/// How searches are run.
#[derive(Clone, Debug)]
pub struct SearchConfig {
    /// Candidates each leg gives to fusion.
    pub depth: usize,
    /// Most hits that the pages of one search reach; with near-duplicates folded, 2,000 at most.
    pub max_hits: usize,
    /// How the legs are joined.
    pub fusion: Fusion,
    /// How the cross-encoder is used.
    pub rerank: RerankOptions,
    /// Decides query by query what `rerank` may do at most; every query is read without it.
    pub gate: Option<Gate>,
    /// Freshness in the score, of searches that state none.
    pub recency: Option<Recency>,
    /// Share of engagement in the score, of searches that state none; 0 to 1.
    pub engagement: f32,
    /// What happens to near-duplicates in searches that do not say, when they have words and are sorted by
    /// relevance; a listing by time, engagement or filters alone shows every post.
    pub collapse: Collapse,
    /// Most hits of one author, of searches that do not say.
    pub max_per_author: Option<usize>,
    /// Unlikeness of the first hits, of searches that do not say; 0 to 1, see [`crate::diversity`].
    pub diversity: f32,
    /// Bonus of neighbouring query words that stand side by side in a post, as a share of their idf; 0 gives none. Within
    /// noise on every judged set, see [`bowerbird_lexical::LexicalSearcher::with_proximity`].
    pub proximity: f32,
    /// Place, from 1, to which a post that holds every rare word of the query is raised; 0 raises none.
    pub exact_rank: usize,
    /// Most time of a search that states none.
    pub timeout: Duration,
    /// Threads for index work.
    pub threads: usize,
    /// Index work waiting or running before a search is refused.
    pub queue: usize,
    /// Memory for the lists behind cursors, bytes.
    pub cursor_bytes: u64,
    /// Age at which a cursor expires.
    pub cursor_ttl: Duration,
}

impl Default for SearchConfig {
    /// Depth 16 and blend .3: deeper reranking gained nothing measurable on five judged sets, and a larger share
    /// lost on most. Recency, engagement and diversity are off: no judged set of ours rewards them. Near-duplicates
    /// are folded, because on a platform of short posts the same headline is the rule and not the exception. A post
    /// with every rare word is raised to the end of the first ten: to the third place costs .0022 of the fused nDCG@10
    /// on Cranfield, to the tenth .0008.
    fn default() -> Self {
        Self {
            depth: 100,
            max_hits: 10_000,
            fusion: Fusion::default(),
            rerank: RerankOptions {
                depth: 16,
                blend: 0.3,
                gated: true,
                budget: Some(Duration::from_millis(400)),
            },
            gate: None,
            recency: None,
            engagement: 0.0,
            collapse: Collapse::NearDuplicates,
            max_per_author: None,
            diversity: 0.0,
            proximity: 0.0,
            exact_rank: 10,
            timeout: Duration::from_secs(5),
            threads: 2,
            queue: 256,
            cursor_bytes: 64 << 20,
            cursor_ttl: Duration::from_mins(10),
        }
    }
}
