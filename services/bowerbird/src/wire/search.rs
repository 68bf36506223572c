//! `POST /v1/search`

use std::time::Duration;

use bowerbird_posts::Post;
use bowerbird_search::{
    Collapse, FeedbackOptions, Fusion, Mode, Recency, RerankOptions, ResultPage, SearchConfig, SearchRequest,
    Sort,
};
use clap::ValueEnum;
use jiff::Timestamp;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::http::problem::Problem;
use crate::wire::ads::Sponsored;
use crate::wire::explain::{HitExplained, SearchExplained};
use crate::wire::suggest::DidYouMean;

/// A search.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchBody {
    /// What to search for: words, `"phrases"`, `-not`, `OR`, `( )`, `from:`, `#tag`, `since:` and so on.
    pub q: String,
    /// The person is still typing: the last plain word, with nothing after it, also stands for words that start with
    /// it.
    #[serde(default)]
    pub prefix_last: bool,
    /// Hits on the page, 1 to 100.
    #[serde(default = "ten")]
    pub limit: usize,
    /// `next_cursor` of the page before. The pages of a walk hold each hit once, in one order, whatever is written
    /// meanwhile; `q`, `filter`, `mode` and `sort` must be what they were.
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
    /// `normalized`, `rrf` or `dbsf`, or one of them with its settings: `{"mode": "rrf", "k": 60, "weight": 0.5}`.
    #[serde(default, deserialize_with = "fusion")]
    #[schema(value_type = Option<FusionBody>)]
    pub fusion: Option<FusionBody>,
    /// Freshness as a feature of relevance: `final = (1 - w_r - w_e) · relevance + w_r · 2^(-age / half_life) + …`.
    #[serde(default)]
    pub recency: Option<RecencyBody>,
    /// Engagement as a feature of relevance: `… + w_e · ln(1 + e) / ln(1 + largest e)`, with
    /// `e = likes + 2·reposts + 2·replies`.
    #[serde(default)]
    pub engagement: Option<EngagementBody>,
    /// `near_duplicates` folds posts that say the same into the best of them, `none` shows each. Where it is not
    /// given, lists by relevance are folded and lists by time, engagement or filters alone are not.
    #[serde(default)]
    pub collapse: Option<CollapseName>,
    /// Most hits of one author over all pages, from 1.
    #[serde(default)]
    pub max_per_author: Option<usize>,
    /// 0 to 1: how much the first hits should differ in meaning, rather than be relevant (maximal marginal relevance
    /// with lambda = 1 - diversity over the best 100).
    #[serde(default)]
    pub diversity: Option<f32>,
    /// Adds words of the best posts to the query (RM3) before both legs are joined: `{}` with the usual settings. It
    /// finds more where texts are long and hurts where they are short, so it is never on by itself.
    #[serde(default)]
    pub feedback: Option<FeedbackBody>,
    /// The moment from which ages count, so that a page can be made again; now when absent.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub now: Option<Timestamp>,
    /// Fields to count values of: `author`, `lang`, `tags`, `mentions`, `attributes.NAME`.
    #[serde(default)]
    pub facets: Vec<String>,
    /// `false` turns the cross-encoder off.
    #[serde(default)]
    pub rerank: Option<bool>,
    /// Whether to add sponsored blocks, apart from the hits.
    #[serde(default)]
    pub ads: bool,
    /// Whether hits say how their score and place arose, and the page how its list was made.
    #[serde(default)]
    pub explain: bool,
    /// Most time of the search, 1 to 60,000 milliseconds.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

fn ten() -> usize {
    10
}

/// Words of the best posts beside those of the query.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FeedbackBody {
    /// Posts that are looked at, 1 to 50; 10 when absent.
    pub posts: Option<usize>,
    /// Words that are added, 1 to 64; 10 when absent.
    pub terms: Option<usize>,
    /// Share of the weight that stays with the words of the query, above 0 and at most 1; .9 when absent.
    pub original: Option<f32>,
}

impl From<FeedbackBody> for FeedbackOptions {
    fn from(body: FeedbackBody) -> Self {
        let usual = Self::default();
        Self {
            posts: body.posts.unwrap_or(usual.posts),
            terms: body.terms.unwrap_or(usual.terms),
            original: body.original.unwrap_or(usual.original),
        }
    }
}

/// Which legs retrieve.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema, ValueEnum)]
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
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema, ValueEnum)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum FusionName {
    /// Weighted sum of min-max-normalised scores.
    Normalized,
    /// Reciprocal rank fusion.
    Rrf,
    /// Distribution-based score fusion.
    Dbsf,
}

/// How the legs are joined, with settings.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FusionBody {
    /// `normalized`, `rrf` or `dbsf`.
    pub mode: FusionName,
    /// Share of the dense leg, 0 to 1; as configured when absent, and .5 for `rrf`.
    #[serde(default)]
    pub weight: Option<f32>,
    /// Of `rrf`: flattens the influence of the top ranks, 1 to 1000; 60 when absent.
    #[serde(default)]
    pub k: Option<f32>,
}

/// A fusion by its name, or with settings.
fn fusion<'de, D: Deserializer<'de>>(from: D) -> Result<Option<FusionBody>, D::Error> {
    struct Either;
    impl<'de> Visitor<'de> for Either {
        type Value = Option<FusionBody>;
        fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
            f.write_str("normalized, rrf or dbsf, or an object with mode, weight and k")
        }
        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
            let mode = FusionName::deserialize(de::value::StrDeserializer::new(name))?;
            Ok(Some(FusionBody { mode, weight: None, k: None }))
        }
        fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            FusionBody::deserialize(de::value::MapAccessDeserializer::new(map)).map(Some)
        }
    }
    from.deserialize_any(Either)
}

/// Freshness as a feature.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecencyBody {
    /// Age at which freshness has fallen to one half, such as `"7d"`.
    #[serde(with = "humantime_serde")]
    #[schema(value_type = String)]
    pub half_life: Duration,
    /// Share of the final score, 0 to 1.
    pub weight: f32,
}

/// Engagement as a feature.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EngagementBody {
    /// Share of the final score, 0 to 1.
    pub weight: f32,
}

/// What happens to posts that say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum CollapseName {
    /// Each is a hit.
    None,
    /// They fold into the best of them.
    NearDuplicates,
}

impl From<CollapseName> for Collapse {
    fn from(name: CollapseName) -> Self {
        match name {
            CollapseName::None => Self::None,
            CollapseName::NearDuplicates => Self::NearDuplicates,
        }
    }
}

impl SearchBody {
    /// The request for the engine; `config` fills what the body leaves open. A value that the engine does not see as
    /// it was given is checked here, the others by the engine.
    pub fn request(&self, config: &SearchConfig) -> Result<SearchRequest, Problem> {
        if let Some(found) = self.timeout_ms.filter(|ms| !(1..=60_000).contains(ms)) {
            let message = format!("timeout_ms is {found}, expected 1 to 60000");
            return Err(Problem::invalid("timeout_out_of_range", "timeout_ms", message));
        }
        if self.fusion.is_some_and(|fusion| fusion.k.is_some() && fusion.mode != FusionName::Rrf) {
            let message = "fusion.k belongs to mode rrf: leave it out";
            return Err(Problem::invalid("option_out_of_range", "fusion.k", message));
        }
        let usual = match config.fusion {
            Fusion::Normalized { weight } | Fusion::Dbsf { weight } => weight,
            Fusion::Rrf { .. } => 0.5,
        };
        Ok(SearchRequest {
            text: self.q.clone(),
            plain: false,
            prefix_last: self.prefix_last,
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
            fusion: self.fusion.map(|FusionBody { mode, weight, k }| match mode {
                FusionName::Normalized => Fusion::Normalized { weight: weight.unwrap_or(usual) },
                FusionName::Rrf => Fusion::Rrf { k: k.unwrap_or(60.0), weight: weight.unwrap_or(0.5) },
                FusionName::Dbsf => Fusion::Dbsf { weight: weight.unwrap_or(usual) },
            }),
            recency: self.recency.map(|RecencyBody { half_life, weight }| Recency { half_life, weight }),
            engagement: self.engagement.map(|engagement| engagement.weight),
            collapse: self.collapse.map(Collapse::from),
            max_per_author: self.max_per_author,
            diversity: self.diversity,
            feedback: self.feedback.map(FeedbackOptions::from),
            now: self.now.map(Timestamp::as_second),
            explain: self.explain,
            facets: self.facets.clone(),
            rerank: self
                .rerank
                .map(|on| if on { config.rerank } else { RerankOptions { depth: 0, ..config.rerank } }),
            timeout: self.timeout_ms.map(Duration::from_millis),
        })
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
    /// Whether this is the last page although more posts match: `search.max_hits` was reached.
    pub truncated: bool,
    /// Stages that were skipped.
    pub degraded: Vec<String>,
    /// How the query was understood.
    pub query: QueryBody,
    /// What was probably meant, when a word looks mistyped; on the first page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub did_you_mean: Option<DidYouMean>,
    /// Sponsored blocks, when asked for. They change no hit, score or order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ads: Option<Sponsored>,
    /// Time of the search, in milliseconds.
    pub took_ms: f64,
    /// Time by stage, in milliseconds.
    #[schema(value_type = Object)]
    pub stages_ms: Map<String, Value>,
    /// How the list was made, with `explain` on its first page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explain: Option<SearchExplained>,
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
    /// Score of each stage, with `explain`; `explain` of the hit says how they arose.
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
    /// Near-duplicates that the hit stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collapsed: Option<CollapsedBody>,
    /// How its score and place arose, with `explain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explain: Option<HitExplained>,
}

/// Near-duplicates of a hit.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CollapsedBody {
    /// How many among the candidates, at most 100.
    pub count: usize,
    /// The best of them, at most 10.
    pub ids: Vec<String>,
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
                collapsed: (hit.collapsed.count > 0).then(|| CollapsedBody {
                    count: hit.collapsed.count,
                    ids: hit.collapsed.ids.iter().map(ToString::to_string).collect(),
                }),
                explain: hit.explanation.map(|explanation| HitExplained::new(*explanation, hit.scores)),
                post: hit.post,
            })
            .collect(),
        total: TotalBody { value: page.total.value, relation: if page.total.exact { "eq" } else { "gte" } },
        facets: page.facets.into_iter().map(|(field, counts)| (field, Value::Array(facet(counts)))).collect(),
        next_cursor: page.next_cursor,
        truncated: page.truncated,
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
        did_you_mean: None,
        ads,
        took_ms: ms(page.took),
        stages_ms: page
            .stages
            .iter()
            .map(|(stage, time)| (stage.name().to_owned(), ms(*time).into()))
            .collect(),
        explain: page.explanation.map(|explanation| SearchExplained::new(*explanation)),
        request_id,
    }
}
