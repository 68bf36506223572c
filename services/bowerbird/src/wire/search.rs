//! `POST /v1/search`

use std::time::Duration;

use bowerbird_posts::Post;
use bowerbird_search::{Fusion, Mode, RerankOptions, ResultPage, SearchConfig, SearchRequest, Sort};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::wire::ads::Sponsored;

/// A search.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchBody {
    /// What to search for: words, `"phrases"`, `-not`, `OR`, `( )`, `from:`, `#tag`, `since:` and so on.
    pub q: String,
    /// Hits on the page, 1 to 100.
    #[serde(default = "ten")]
    pub limit: usize,
    /// `next_cursor` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
    /// `auto`, `lexical`, `vector` or `hybrid`.
    #[serde(default)]
    pub mode: ModeName,
    /// Restrictions in the same language as `q`.
    #[serde(default)]
    pub filter: Option<String>,
    /// `relevance`, `recent` or `engagement`.
    #[serde(default)]
    pub sort: SortName,
    /// `normalized`, `rrf` or `dbsf`.
    #[serde(default)]
    pub fusion: Option<FusionName>,
    /// Fields to count values of: `author`, `lang`, `tags`, `mentions`, `attributes.NAME`.
    #[serde(default)]
    pub facets: Vec<String>,
    /// `false` turns the cross-encoder off.
    #[serde(default)]
    pub rerank: Option<bool>,
    /// Whether to add sponsored blocks, apart from the hits.
    #[serde(default)]
    pub ads: bool,
    /// Whether hits carry the score of each stage.
    #[serde(default)]
    pub explain: bool,
    /// Most time of the search, 1 to 60,000 milliseconds.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

fn ten() -> usize {
    10
}

/// Which legs retrieve.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModeName {
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
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SortName {
    /// By score.
    #[default]
    Relevance,
    /// Newest first.
    Recent,
    /// By likes + 2·reposts + 2·replies.
    Engagement,
}

/// How the legs are joined.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FusionName {
    /// Weighted sum of min-max-normalised scores.
    Normalized,
    /// Reciprocal rank fusion, k = 60.
    Rrf,
    /// Distribution-based score fusion.
    Dbsf,
}

impl SearchBody {
    /// The request for the engine; `config` fills what the body leaves open.
    pub fn request(&self, config: &SearchConfig) -> SearchRequest {
        let weight = match config.fusion {
            Fusion::Normalized { weight } | Fusion::Dbsf { weight } => weight,
            Fusion::Rrf { .. } => 0.5,
        };
        SearchRequest {
            text: self.q.clone(),
            plain: false,
            filter: self.filter.clone(),
            limit: self.limit,
            cursor: self.cursor.clone(),
            mode: match self.mode {
                ModeName::Auto => Mode::Auto,
                ModeName::Lexical => Mode::Lexical,
                ModeName::Vector => Mode::Vector,
                ModeName::Hybrid => Mode::Hybrid,
            },
            sort: match self.sort {
                SortName::Relevance => Sort::Relevance,
                SortName::Recent => Sort::Recent,
                SortName::Engagement => Sort::Engagement,
            },
            fusion: self.fusion.map(|name| match name {
                FusionName::Normalized => Fusion::Normalized { weight },
                FusionName::Rrf => Fusion::Rrf { k: 60.0 },
                FusionName::Dbsf => Fusion::Dbsf { weight },
            }),
            facets: self.facets.clone(),
            rerank: self
                .rerank
                .map(|on| if on { config.rerank } else { RerankOptions { depth: 0, ..config.rerank } }),
            timeout: self.timeout_ms.map(|ms| Duration::from_millis(ms.clamp(1, 60_000))),
        }
    }
}

/// One page.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SearchPage {
    /// Hits, best first.
    pub hits: Vec<HitBody>,
    /// How many posts match.
    pub total: TotalBody,
    /// Counts by facet field.
    #[schema(value_type = Object)]
    pub facets: Map<String, Value>,
    /// Where the next page begins.
    pub next_cursor: Option<String>,
    /// Stages that were skipped.
    pub degraded: Vec<String>,
    /// How the query was understood.
    pub query: QueryBody,
    /// Sponsored blocks, when asked for. They change no hit, score or order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ads: Option<Sponsored>,
    /// Time of the search, in milliseconds.
    pub took_ms: f64,
    /// Time by stage, in milliseconds.
    #[schema(value_type = Object)]
    pub stages_ms: Map<String, Value>,
    /// Names this call in the log.
    pub request_id: String,
}

/// One hit.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct HitBody {
    /// Id of the post.
    pub id: String,
    /// Place in the whole list, from 1.
    pub rank: usize,
    /// What the page is ordered by.
    pub score: f32,
    /// Score of each stage, with `explain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scores: Option<ScoresBody>,
    /// `pending` while the post is found by its words only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vector: Option<String>,
    /// The post.
    #[schema(value_type = Object)]
    pub post: Post,
    /// Matching words.
    pub highlights: Vec<Span>,
}

/// A range of Unicode code points in the text of the post.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Span {
    /// First code point.
    pub start: usize,
    /// One past the last.
    pub end: usize,
}

/// Score of each stage; `null` where the stage did not run for the hit.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct ScoresBody {
    /// BM25.
    pub lexical: Option<f32>,
    /// Cosine.
    pub vector: Option<f32>,
    /// Fused score.
    pub fused: Option<f32>,
    /// Cross-encoder logit.
    pub rerank: Option<f32>,
    /// What the page is ordered by.
    pub r#final: f32,
}

/// How many posts match.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct TotalBody {
    /// Posts.
    pub value: u64,
    /// `eq` when exact, `gte` when hits were also found by meaning.
    pub relation: &'static str,
}

/// How the query was understood.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct QueryBody {
    /// The query in its plainest form.
    pub parsed: String,
    /// Parts that were not understood.
    pub ignored: Vec<IgnoredBody>,
    /// Said to the person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A part that was not understood.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct IgnoredBody {
    /// As typed.
    pub part: String,
    /// What is wrong with it.
    pub reason: String,
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// The page as JSON.
pub fn page(page: ResultPage, explain: bool, ads: Option<Sponsored>, request_id: String) -> SearchPage {
    let facet = |counts: Vec<(String, u64)>| {
        counts.into_iter().map(|(value, count)| serde_json::json!({"value": value, "count": count})).collect()
    };
    SearchPage {
        hits: page
            .hits
            .into_iter()
            .map(|hit| HitBody {
                id: hit.post.id.to_string(),
                rank: hit.rank,
                score: hit.scores.r#final,
                scores: explain.then_some(ScoresBody {
                    lexical: hit.scores.lexical,
                    vector: hit.scores.vector,
                    fused: hit.scores.fused,
                    rerank: hit.scores.rerank,
                    r#final: hit.scores.r#final,
                }),
                vector: hit.vector_pending.then(|| "pending".into()),
                highlights: hit.highlights.iter().map(|r| Span { start: r.start, end: r.end }).collect(),
                post: hit.post,
            })
            .collect(),
        total: TotalBody { value: page.total.value, relation: if page.total.exact { "eq" } else { "gte" } },
        facets: page.facets.into_iter().map(|(field, counts)| (field, Value::Array(facet(counts)))).collect(),
        next_cursor: page.next_cursor,
        degraded: page.degraded.iter().map(|stage| stage.name().to_owned()).collect(),
        query: QueryBody {
            parsed: page.query.printed,
            ignored: page
                .query
                .ignored
                .into_iter()
                .map(|i| IgnoredBody { part: i.part, reason: i.reason })
                .collect(),
            note: page.query.note,
        },
        ads,
        took_ms: ms(page.took),
        stages_ms: page
            .stages
            .iter()
            .map(|(stage, time)| (stage.name().to_owned(), ms(*time).into()))
            .collect(),
        request_id,
    }
}
