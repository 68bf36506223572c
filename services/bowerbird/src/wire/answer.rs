//! `POST /v1/answer`

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::wire::ads::Sponsored;

/// A question.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerBody {
    /// The question, in the query language of search.
    pub q: String,
    /// `true` for server-sent events, `false` for one JSON body.
    #[serde(default)]
    pub stream: bool,
    /// Restrictions in the same language.
    #[serde(default)]
    pub filter: Option<String>,
    /// Whether to add a sponsored block, apart from the answer.
    #[serde(default)]
    pub ads: bool,
    /// Ids of ads that stand on the page already, at most 16: neither they nor others of their advertisers are drawn.
    #[serde(default)]
    pub beside_ads: Vec<String>,
    /// Most sentences, 1 to 10.
    #[serde(default)]
    pub max_sentences: Option<usize>,
    /// Most time, 1 to 120,000 milliseconds.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// The answer in one body.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AnswerPage {
    /// `{answer, sentences: [{text, lead, conflict, citations: [{n, post_id, author, created_at, quote, start, end}],
    /// verdict, probability, origin}], sources, finish_reason, usage: {generated, regenerated, replaced, dropped,
    /// conflicting, …}}`; `lead` and `conflict` where posts disagree.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub answer: Value,
    /// The sponsored part, when asked for. It changes no word of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ads: Option<Sponsored>,
    /// Names this call in the log.
    pub request_id: String,
}
