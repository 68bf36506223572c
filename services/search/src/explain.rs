//! How a hit came to its score and place, so that a reader can compute the score again.
//!
//! ```text
//! lexical    = sum of the terms' scores
//! fused      = shares.lexical · scaled.lexical + shares.vector · scaled.vector
//! blended    = (1 - share) · rerank.fused + share · rerank.logit                     of the reranked head
//! relevance  = (1 + blended) / 2  in the head,  fused / 2  behind it,  fused  when nothing was reranked
//! relevance  = that of the place a post was raised to, when it holds every rare word
//! final      = (1 - w_r - w_e) · relevance + w_r · recency.value + w_e · engagement.value
//! ```
//!
//! Hits that only BM25 found, behind the candidates, have `final = -1 / (1 + lexical)`; in a list sorted by time or
//! engagement `final` is the second or the count. Diversity moves a hit without changing its score.

use bowerbird_lexical::TermScore;
use bowerbird_posts::PostId;

use crate::features::Feature;
use crate::fuse::{Blended, Fusion, Scaled, Shares};
use crate::gate::Gating;

/// Which part of a list a hit belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// Read by the cross-encoder.
    Head,
    /// A candidate of fusion, behind the head if there is one.
    #[default]
    Candidate,
    /// Found by BM25 alone, behind the candidates.
    Tail,
    /// In the order of time or engagement.
    Sorted,
}

impl Part {
    /// Name in responses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Candidate => "candidate",
            Self::Tail => "tail",
            Self::Sorted => "sorted",
        }
    }
}

/// Places of a hit, from 1, after each step that orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ranks {
    /// In the lexical list, when it was there.
    pub lexical: Option<u32>,
    /// In the dense list, when it was there.
    pub vector: Option<u32>,
    /// After fusion.
    pub fused: usize,
    /// After reranking and raising.
    pub relevance: usize,
    /// After recency and engagement.
    pub weighed: usize,
    /// After near-duplicates and authors.
    pub collapsed: usize,
    /// After diversity.
    pub diverse: usize,
}

/// What a list remembers of a hit when it was asked to explain.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parts {
    /// Part of the list.
    pub part: Part,
    /// Scores of the legs on the scale of fusion.
    pub scaled: Scaled,
    /// What the legs weighed.
    pub shares: Shares,
    /// What the cross-encoder did.
    pub rerank: Option<Blended>,
    /// Relevance after reranking and raising.
    pub relevance: f32,
    /// Relevance before it was raised for holding every rare word.
    pub raised_from: Option<f32>,
    /// Freshness.
    pub recency: Option<Feature>,
    /// Engagement.
    pub engagement: Option<Feature>,
    /// Places on the way.
    pub ranks: Ranks,
}

/// One hit explained.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// What each word, tag, mention and phrase adds to the lexical score.
    pub terms: Vec<TermScore>,
    /// The rest; absent when the first page of the list was not asked to explain.
    pub parts: Option<Parts>,
}

/// Why a post is not in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The post.
    pub id: PostId,
    /// What removed it.
    pub why: RemovedFor,
}

/// What removes a post from a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemovedFor {
    /// It says what this hit says.
    NearDuplicateOf(PostId),
    /// Its author has as many hits as one may have.
    AuthorLimit,
}

/// The search explained.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SearchExplanation {
    /// The moment from which ages count, in seconds since 1970.
    pub now: i64,
    /// Candidates asked of each leg.
    pub depth: usize,
    /// Hits of the lexical list that became candidates.
    pub lexical: usize,
    /// Hits of the dense list that became candidates.
    pub vector: usize,
    /// Candidates in all.
    pub candidates: usize,
    /// Candidates read by the cross-encoder.
    pub reranked: usize,
    /// Why as many.
    pub gating: Gating,
    /// How the legs were joined; absent in a list that was sorted.
    pub fusion: Option<Fusion>,
    /// What the legs weighed.
    pub shares: Shares,
    /// What BM25 gives a post with every word of the query.
    pub ideal: f32,
    /// Posts that hold every rare word of the query; 0 when it has none.
    pub exact: usize,
    /// Near-duplicates folded into better hits.
    pub near_duplicates: usize,
    /// Posts left out because their author had enough.
    pub author_limit: usize,
    /// The first of those, at most [`MAX_REMOVED`].
    pub removed: Vec<Removed>,
}

/// Most removed posts that are named.
pub const MAX_REMOVED: usize = 50;
