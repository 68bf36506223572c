//! What a caller asks for.

use std::time::Duration;

use bowerbird_lexical::{FeedbackOptions, MAX_QUERY_TERMS};

use crate::arrange::{MAX_COLLAPSED, Rules};
use crate::config::SearchConfig;
use crate::error::SearchError;
use crate::features::Recency;
use crate::fuse::Fusion;
use crate::plan::ParsedQuery;

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

/// What happens to posts that say the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Collapse {
    /// Each is a hit.
    None,
    /// They fold into the best of them; see [`crate::similar`].
    #[default]
    NearDuplicates,
}

/// How the cross-encoder is used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RerankOptions {
    /// Most candidates scored by the cross-encoder; 0 turns the stage off.
    pub depth: usize,
    /// Share of the cross-encoder in the score of a reranked candidate, 0 to 1, where no gate chooses it.
    pub blend: f32,
    /// Whether [`crate::SearchConfig::gate`], if there is one, chooses depth and share for the query.
    pub gated: bool,
    /// Most time the stage may take; what does not fit stays in fused order.
    pub budget: Option<Duration>,
}

/// One search.
#[derive(Clone, Debug)]
pub struct SearchRequest {
    /// What the person typed, in the query language of [`crate::parse`].
    pub text: String,
    /// Takes `text` as plain words, whatever it holds: for judged queries and questions.
    pub plain: bool,
    /// The person is still typing: the last plain word also stands for the words that start with it.
    pub prefix_last: bool,
    /// Restrictions in the same language; every part of it restricts.
    pub filter: Option<String>,
    /// Hits on the page, 1 to 100.
    pub limit: usize,
    /// Where an earlier page ended. With a cursor, `text`, `filter`, `mode` and `sort` must be what they were; what
    /// else shapes a list is as the first page had it.
    pub cursor: Option<String>,
    /// Which legs retrieve.
    pub mode: Mode,
    /// How hits are ordered.
    pub sort: Sort,
    /// How the two legs are joined; the configured one when `None`.
    pub fusion: Option<Fusion>,
    /// Freshness in the score; the configured one when `None`, off with weight 0.
    pub recency: Option<Recency>,
    /// Share of engagement in the score, 0 to 1; the configured one when `None`.
    pub engagement: Option<f32>,
    /// What happens to near-duplicates; when `None`, as configured in a list by relevance, and nothing in others.
    pub collapse: Option<Collapse>,
    /// Most hits of one author, from 1; the configured number when `None`.
    pub max_per_author: Option<usize>,
    /// Unlikeness of the first hits, 0 to 1; the configured one when `None`.
    pub diversity: Option<f32>,
    /// Words of the first posts beside those of the query; none when `None`, for it can hurt: see
    /// [`bowerbird_lexical::LexicalSearcher::expand`].
    pub feedback: Option<FeedbackOptions>,
    /// The moment from which ages count, in seconds since 1970; that of the call when `None`.
    pub now: Option<i64>,
    /// Whether hits and page say how they arose.
    pub explain: bool,
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
            prefix_last: false,
            filter: None,
            limit: 10,
            cursor: None,
            mode: Mode::Auto,
            sort: Sort::Relevance,
            fusion: None,
            recency: None,
            engagement: None,
            collapse: None,
            max_per_author: None,
            diversity: None,
            feedback: None,
            now: None,
            explain: false,
            facets: Vec::new(),
            rerank: None,
            timeout: None,
        }
    }
}

/// How one list is made: the request, with what it leaves open filled from the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ranking {
    pub mode: Mode,
    pub sort: Sort,
    pub fusion: Fusion,
    pub rerank: RerankOptions,
    pub recency: Option<Recency>,
    pub engagement: f32,
    pub rules: Rules,
    pub diversity: f32,
    pub feedback: Option<FeedbackOptions>,
    /// Most hits of the list.
    pub most: usize,
    pub now: i64,
    pub explain: bool,
}

impl Ranking {
    /// What `request` asks for `query`, checked.
    pub fn new(
        request: &SearchRequest,
        query: &ParsedQuery,
        config: &SearchConfig,
    ) -> Result<Self, SearchError> {
        let relevance = request.sort == Sort::Relevance && !query.bag.is_empty();
        let usual = if relevance { config.collapse } else { Collapse::None };
        let rules = Rules {
            collapse: request.collapse.unwrap_or(usual),
            max_per_author: request.max_per_author.or(config.max_per_author),
        };
        let ranking = Self {
            mode: request.mode,
            sort: request.sort,
            fusion: request.fusion.unwrap_or(config.fusion),
            rerank: request.rerank.unwrap_or(config.rerank),
            recency: request.recency.or(config.recency),
            engagement: request.engagement.unwrap_or(config.engagement),
            rules,
            diversity: request.diversity.unwrap_or(config.diversity),
            feedback: request.feedback,
            most: match rules.collapse {
                Collapse::None => config.max_hits,
                Collapse::NearDuplicates => config.max_hits.min(MAX_COLLAPSED),
            },
            now: request.now.unwrap_or_else(|| jiff::Timestamp::now().as_second()),
            explain: request.explain,
        };
        ranking.check()?;
        Ok(ranking)
    }

    fn check(&self) -> Result<(), SearchError> {
        let refuse = |name, found: String, expected| Err(SearchError::Option { name, found, expected });
        let share = |value: f32| (0.0..=1.0).contains(&value);
        let (weight, k) = match self.fusion {
            Fusion::Normalized { weight } | Fusion::Dbsf { weight } => (weight, 60.0),
            Fusion::Rrf { k, weight } => (weight, k),
        };
        if !share(weight) {
            return refuse("fusion.weight", weight.to_string(), "0 to 1");
        }
        if !(1.0..=1000.0).contains(&k) {
            return refuse("fusion.k", k.to_string(), "1 to 1000");
        }
        let recency = self.recency.map_or(0.0, |recency| recency.weight);
        if !share(recency) {
            return refuse("recency.weight", recency.to_string(), "0 to 1");
        }
        if !share(self.engagement) {
            return refuse("engagement.weight", self.engagement.to_string(), "0 to 1");
        }
        if recency + self.engagement > 1.0 {
            let sum = (recency + self.engagement).to_string();
            return refuse("recency.weight", sum, "at most 1 together with engagement.weight");
        }
        if let Some(recency) =
            self.recency.filter(|recency| !HALF_LIVES.contains(&recency.half_life.as_secs()))
        {
            let found = format!("{} s", recency.half_life.as_secs_f64());
            return refuse("recency.half_life", found, "1s to 100 years");
        }
        if !share(self.diversity) {
            return refuse("diversity", self.diversity.to_string(), "0 to 1");
        }
        if let Some(feedback) = self.feedback {
            if !(1..=MAX_FEEDBACK_POSTS).contains(&feedback.posts) {
                return refuse("feedback.posts", feedback.posts.to_string(), "1 to 50");
            }
            if !(1..=MAX_QUERY_TERMS).contains(&feedback.terms) {
                return refuse("feedback.terms", feedback.terms.to_string(), "1 to 64");
            }
            if !(feedback.original > 0.0 && feedback.original <= 1.0) {
                return refuse("feedback.original", feedback.original.to_string(), "more than 0, at most 1");
            }
        }
        if self.rules.max_per_author == Some(0) {
            return refuse("max_per_author", "0".into(), "1 or more");
        }
        Ok(())
    }
}

/// Most posts that words are taken from.
const MAX_FEEDBACK_POSTS: usize = 50;

/// Half-lives that can be asked for, seconds.
const HALF_LIVES: std::ops::RangeInclusive<u64> = 1..=3_155_760_000;

/// Refuses a page or facets out of range.
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
        "{}\n{}\n{}\n{:?}\n{:?}\n{:?}",
        request.text, request.plain, request.prefix_last, request.filter, request.mode, request.sort
    )
}
