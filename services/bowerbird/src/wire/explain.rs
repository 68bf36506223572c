//! How a hit came to its score and place, as JSON: what a reader needs to compute the score again.
//!
//! The formulas are in [`bowerbird_search::explain`].

use bowerbird_search::explain::{Explanation, RemovedFor, SearchExplanation};
use bowerbird_search::features::Feature;
use bowerbird_search::gate::{FEATURE_NAMES, Gating};
use bowerbird_search::{Fusion, Scores};
use serde::Serialize;
use utoipa::ToSchema;

/// One hit explained.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct HitExplained {
    /// What each word, tag, mention and phrase adds; together they are the lexical score.
    pub terms: Vec<TermBody>,
    /// `head` was read by the cross-encoder, a `candidate` stands behind it, `tail` was found by BM25 alone, `sorted`
    /// is in the order of time or engagement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<&'static str>,
    /// The lexical leg.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lexical: Option<LegBody>,
    /// The dense leg.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vector: Option<LegBody>,
    /// `lexical.share · lexical.scaled + vector.share · vector.scaled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fused: Option<f32>,
    /// The cross-encoder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rerank: Option<RerankBody>,
    /// `(1 + blended) / 2` in the head, `fused / 2` behind it, `fused` when nothing was reranked; or that of the
    /// place the post was raised to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relevance: Option<f32>,
    /// Relevance before the post was raised because it holds every rare word of the query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raised_from: Option<f32>,
    /// Freshness: `raw` is the age in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recency: Option<FeatureBody>,
    /// Engagement: `raw` is `likes + 2·reposts + 2·replies`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engagement: Option<FeatureBody>,
    /// `(1 - recency.weight - engagement.weight) · relevance + recency.weight · recency.value +
    /// engagement.weight · engagement.value`.
    pub r#final: f32,
    /// Places on the way, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ranks: Option<RanksBody>,
}

/// What one term adds to the lexical score.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TermBody {
    /// `word`, `tag`, `mention`, `phrase`, `near` or `prefix`.
    pub kind: &'static str,
    /// As it was looked up.
    pub text: String,
    /// Rarity.
    pub idf: f32,
    /// Occurrences in the post.
    pub tf: u32,
    /// What it adds.
    pub score: f32,
}

/// What one leg says of a hit.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct LegBody {
    /// BM25 or cosine; `null` when the leg says nothing, such as before the vector is there.
    pub score: Option<f32>,
    /// Place in the list of the leg; `null` when it was not in it and its score was filled in.
    pub rank: Option<u32>,
    /// On the scale of fusion, 0 to 1.
    pub scaled: Option<f32>,
    /// Share of the leg in the fused score.
    pub share: f32,
}

/// What the cross-encoder said.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct RerankBody {
    /// Its logit.
    pub logit: f32,
    /// The logit over the head, 0 to 1.
    pub logit_scaled: f32,
    /// The fused score over the head, 0 to 1.
    pub fused_scaled: f32,
    /// Share of the logit.
    pub share: f32,
    /// `(1 - share) · fused_scaled + share · logit_scaled`.
    pub blended: f32,
}

/// What a feature gave.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct FeatureBody {
    /// What was measured.
    pub raw: i64,
    /// On the scale 0 to 1.
    pub value: f32,
    /// Share of the final score.
    pub weight: f32,
}

/// Places after each step; 0 where the step does not order this part of the list.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct RanksBody {
    /// After fusion.
    pub fused: usize,
    /// After reranking and raising.
    pub relevance: usize,
    /// After recency and engagement.
    pub weighed: usize,
    /// After near-duplicates and author limit.
    pub collapsed: usize,
    /// After diversity: the place in the list.
    pub diverse: usize,
}

/// The search explained.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SearchExplained {
    /// The moment from which ages count; `now` of a request that is to give the same page.
    pub now: String,
    /// Candidates asked of each leg.
    pub depth: usize,
    /// Candidates from the lexical list.
    pub lexical: usize,
    /// Candidates from the dense list.
    pub vector: usize,
    /// Candidates in all.
    pub candidates: usize,
    /// Candidates read by the cross-encoder.
    pub reranked: usize,
    /// Why as many; `null` in a list that was sorted by time or engagement.
    pub gate: Option<GateBody>,
    /// `normalized`, `rrf` or `dbsf`; `null` in a list that was sorted by time or engagement.
    pub fusion: Option<&'static str>,
    /// Share of the lexical leg, after coverage.
    pub lexical_share: f32,
    /// Share of the dense leg.
    pub vector_share: f32,
    /// How far the best post covers the query, 0 to 1.
    pub coverage: f32,
    /// What BM25 gives a post with every word of the query.
    pub ideal: f32,
    /// Posts that hold every rare word of the query; 0 when it has none.
    pub exact_posts: usize,
    /// Candidates that were left out.
    pub removed: RemovedBody,
}

/// What decided how many candidates the cross-encoder read.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct GateBody {
    /// Profile of the gate; `null` when every query is read.
    pub profile: Option<String>,
    /// `useful`: more good than harm is expected; `confident`: the first stage is as good; `always`: there is no gate;
    /// `shortened`, `no_time`: time allowed fewer, or none; `off`.
    pub reason: &'static str,
    /// Probability that reading does more good than harm; `null` without a gate.
    pub probability: Option<f32>,
    /// Candidates to read with all the time of the world.
    pub wanted: usize,
    /// Candidates read.
    pub depth: usize,
    /// Share of the cross-encoder.
    pub blend: f32,
    /// What reading all wanted candidates was expected to take; `null` before the first measurement.
    pub predicted_ms: Option<f64>,
    /// What was left of the deadline or the budget.
    pub left_ms: f64,
    /// What the first stage said, by name; see `gap_next` and the others in `gate.rs` of the search.
    #[schema(value_type = Object)]
    pub features: serde_json::Map<String, serde_json::Value>,
}

impl GateBody {
    fn new(gating: Gating) -> Self {
        let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
        let features = FEATURE_NAMES.iter().zip(gating.features.values());
        Self {
            profile: gating.gate,
            reason: gating.reason.name(),
            probability: gating.probability,
            wanted: gating.wanted,
            depth: gating.depth,
            blend: gating.blend,
            predicted_ms: gating.predicted.map(ms),
            left_ms: ms(gating.left),
            features: features.map(|(name, value)| ((*name).to_owned(), value.into())).collect(),
        }
    }
}

/// Candidates that were left out.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RemovedBody {
    /// Near-duplicates folded into better hits.
    pub near_duplicates: usize,
    /// Posts of authors that had enough hits.
    pub author_limit: usize,
    /// The first of them, at most 50.
    pub named: Vec<RemovedPost>,
}

/// A candidate that was left out.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RemovedPost {
    /// The post.
    pub id: String,
    /// `near_duplicate` or `author_limit`.
    pub reason: &'static str,
    /// The hit it says the same as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
}

impl HitExplained {
    /// The explanation of a hit with these scores.
    pub fn new(explanation: Explanation, scores: Scores) -> Self {
        let terms = explanation.terms.into_iter().map(|term| TermBody {
            kind: match term.kind {
                bowerbird_search::TermKind::Word => "word",
                bowerbird_search::TermKind::Tag => "tag",
                bowerbird_search::TermKind::Mention => "mention",
                bowerbird_search::TermKind::Phrase => "phrase",
                bowerbird_search::TermKind::Near => "near",
                bowerbird_search::TermKind::Prefix => "prefix",
            },
            text: term.text,
            idf: term.idf,
            tf: term.tf,
            score: term.score,
        });
        let feature =
            |feature: Feature| FeatureBody { raw: feature.raw, value: feature.value, weight: feature.weight };
        let parts = explanation.parts.as_ref();
        let fused = parts.filter(|_| scores.fused.is_some());
        let leg = |score, rank, scaled, share| LegBody { score, rank, scaled, share };
        Self {
            terms: terms.collect(),
            part: parts.map(|p| p.part.name()),
            lexical: fused.map(|p| leg(scores.lexical, p.ranks.lexical, p.scaled.lexical, p.shares.lexical)),
            vector: fused.map(|p| leg(scores.vector, p.ranks.vector, p.scaled.vector, p.shares.vector)),
            fused: scores.fused,
            rerank: parts.and_then(|p| p.rerank).map(|blended| RerankBody {
                logit: blended.raw_logit,
                logit_scaled: blended.logit,
                fused_scaled: blended.fused,
                share: blended.share,
                blended: blended.score,
            }),
            relevance: parts.map(|p| p.relevance),
            raised_from: parts.and_then(|p| p.raised_from),
            recency: parts.and_then(|p| p.recency).map(feature),
            engagement: parts.and_then(|p| p.engagement).map(feature),
            r#final: scores.r#final,
            ranks: parts.map(|p| RanksBody {
                fused: p.ranks.fused,
                relevance: p.ranks.relevance,
                weighed: p.ranks.weighed,
                collapsed: p.ranks.collapsed,
                diverse: p.ranks.diverse,
            }),
        }
    }
}

impl SearchExplained {
    /// The explanation as JSON.
    pub fn new(explanation: SearchExplanation) -> Self {
        let removed = explanation.removed.into_iter().map(|removed| {
            let (reason, of) = match removed.why {
                RemovedFor::NearDuplicateOf(id) => ("near_duplicate", Some(id.to_string())),
                RemovedFor::AuthorLimit => ("author_limit", None),
            };
            RemovedPost { id: removed.id.to_string(), reason, of }
        });
        let now = jiff::Timestamp::from_second(explanation.now).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        Self {
            now: now.to_string(),
            depth: explanation.depth,
            lexical: explanation.lexical,
            vector: explanation.vector,
            candidates: explanation.candidates,
            reranked: explanation.reranked,
            gate: explanation.fusion.map(|_| GateBody::new(explanation.gating)),
            fusion: explanation.fusion.map(|fusion| match fusion {
                Fusion::Normalized { .. } => "normalized",
                Fusion::Rrf { .. } => "rrf",
                Fusion::Dbsf { .. } => "dbsf",
            }),
            lexical_share: explanation.shares.lexical,
            vector_share: explanation.shares.vector,
            coverage: explanation.shares.coverage,
            ideal: explanation.ideal,
            exact_posts: explanation.exact,
            removed: RemovedBody {
                near_duplicates: explanation.near_duplicates,
                author_limit: explanation.author_limit,
                named: removed.collect(),
            },
        }
    }
}
