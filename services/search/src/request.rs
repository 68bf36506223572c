//! What a caller asks for.

use std::time::Duration;

use crate::error::SearchError;
use crate::fuse::Fusion;

/// Largest page.
pub const MAX_LIMIT: usize = 100;
/// Most facet fields of one search.
const MAX_FACETS: usize = 8;

/// Which legs retrieve candidates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Both legs; one alone when the other is down.
    #[default]
    Auto,
    /// BM25 only.
    Lexical,
    /// Dense retrieval only.
    Vector,
    /// Both legs.
    Hybrid,
}

/// How hits are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// By fused and reranked score.
    #[default]
    Relevance,
    /// Newest first, among posts that hold most of the query; see [`crate::FULL_COVERAGE`].
    Recent,
    /// By `likes + 2·reposts + 2·replies`, among the same posts.
    Engagement,
}

/// How the cross-encoder is used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RerankOptions {
    /// Candidates scored by the cross-encoder; 0 turns the stage off.
    pub depth: usize,
    /// Share of the cross-encoder in the score of a reranked candidate, 0 to 1.
    pub blend: f32,
    /// Most time the stage may take; past it the fused order stands.
    pub budget: Option<Duration>,
}

/// One search.
#[derive(Clone, Debug)]
pub struct SearchRequest {
    /// What the person typed, in the query language of [`crate::parse`].
    pub text: String,
    /// Takes `text` as plain words, whatever it holds: for judged queries and questions.
    pub plain: bool,
    /// Restrictions in the same language; every part of it restricts.
    pub filter: Option<String>,
    /// Hits on the page, 1 to 100.
    pub limit: usize,
    /// Where an earlier page ended. With a cursor, `text` and `filter` must be what they were.
    pub cursor: Option<String>,
    /// Which legs retrieve.
    pub mode: Mode,
    /// How hits are ordered.
    pub sort: Sort,
    /// How the two legs are joined; the configured one when `None`.
    pub fusion: Option<Fusion>,
    /// Fields to count values of: `author`, `lang`, `tags`, `attributes.NAME`; at most 8.
    pub facets: Vec<String>,
    /// Reranking; the configured one when `None`.
    pub rerank: Option<RerankOptions>,
    /// Most time the whole search may take; optional stages give way first.
    pub timeout: Option<Duration>,
}

impl SearchRequest {
    /// A search for `text` with every default, ten hits.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            plain: false,
            filter: None,
            limit: 10,
            cursor: None,
            mode: Mode::Auto,
            sort: Sort::Relevance,
            fusion: None,
            facets: Vec::new(),
            rerank: None,
            timeout: None,
        }
    }
}

pub(crate) fn check(request: &SearchRequest) -> Result<(), SearchError> {
    if request.limit == 0 || request.limit > MAX_LIMIT {
        return Err(SearchError::Limit { limit: MAX_LIMIT, found: request.limit });
    }
    let known = |field: &str| {
        matches!(field, "author" | "lang" | "tags" | "mentions")
            || field.strip_prefix("attributes.").is_some_and(|name| !name.is_empty())
    };
    if let Some(found) = request.facets.iter().find(|field| !known(field)) {
        return Err(SearchError::Facet { found: found.clone() });
    }
    if request.facets.len() > MAX_FACETS {
        return Err(SearchError::Facet { found: format!("{} fields", request.facets.len()) });
    }
    Ok(())
}

/// What two pages must agree on.
pub(crate) fn key(request: &SearchRequest) -> String {
    format!(
        "{}\n{}\n{:?}\n{:?}\n{:?}",
        request.text, request.plain, request.filter, request.mode, request.sort
    )
}
