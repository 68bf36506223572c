//! What a search gives back.

use std::ops::Range;
use std::time::Duration;

use bowerbird_posts::{Post, PostId};

use crate::explain::{Explanation, SearchExplanation};
use crate::plan::ParsedQuery;
use crate::trace::Stage;

/// Scores of one hit; absent where the stage did not run for it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scores {
    /// BM25.
    pub lexical: Option<f32>,
    /// Cosine.
    pub vector: Option<f32>,
    /// Fused score of the two legs.
    pub fused: Option<f32>,
    /// Cross-encoder logit.
    pub rerank: Option<f32>,
    /// What the page is ordered by.
    pub r#final: f32,
}

/// Near-duplicates that a hit stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collapsed {
    /// How many of the first list (the candidates of both legs), those that died since not counted; at most 100.
    pub count: usize,
    /// The best of them, at most 10.
    pub ids: Vec<PostId>,
}

/// One result.
#[derive(Clone, Debug)]
pub struct Hit {
    /// Place in the whole list, from 1.
    pub rank: usize,
    /// Its scores.
    pub scores: Scores,
    /// The post.
    pub post: Post,
    /// Whether its vector is still being computed.
    pub vector_pending: bool,
    /// Matching words as ranges of Unicode code points in `post.text`, ascending, not overlapping.
    pub highlights: Vec<Range<usize>>,
    /// Near-duplicates that were folded into it.
    pub collapsed: Collapsed,
    /// How it came to its place, when that was asked for.
    pub explanation: Option<Box<Explanation>>,
}

/// How many posts match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    /// Posts that hold at least one word of the query, or that pass the filter when there is no word. Near-duplicates
    /// count each.
    pub value: u64,
    /// Whether `value` is exact, or a lower bound because hits were also found by meaning.
    pub exact: bool,
}

/// One page.
#[derive(Clone, Debug)]
pub struct ResultPage {
    /// Hits, best first.
    pub hits: Vec<Hit>,
    /// How many posts match.
    pub total: Total,
    /// Counts by facet field: `(field, [(value, posts)])`, over the posts that `total` counts.
    pub facets: Vec<(String, Vec<(String, u64)>)>,
    /// Where the next page begins, if there is one.
    pub next_cursor: Option<String>,
    /// Whether this is the last page although more posts match: [`crate::SearchConfig::max_hits`] was reached.
    pub truncated: bool,
    /// Stages that were skipped.
    pub degraded: Vec<Stage>,
    /// How the query was understood.
    pub query: ParsedQuery,
    /// Time in all.
    pub took: Duration,
    /// Time by stage.
    pub stages: Vec<(Stage, Duration)>,
    /// How the list was made, when its first page was asked to explain.
    pub explanation: Option<Box<SearchExplanation>>,
}
