//! `/v1/reindex`, `/v1/tasks/{id}`

use bowerbird_lexical::Analyzer;
use bowerbird_live::GenerationInfo;
use bowerbird_reindex::{Comparison, CutOver, Plan, Progress, Rebuild, Require, ShadowQuery};
use bowerbird_vector::VectorConfig;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What to build.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReindexBody {
    /// Catalog name of the embedder, that of the present generation when absent.
    pub embedder: Option<String>,
    /// How words are reduced: `language`, by the language of a post, or `plain`, not at all.
    #[schema(value_type = Option<String>)]
    pub analyzer: Option<Analyzer>,
    /// Settings of the vector index, as `[index.vector]` of the configuration; those of the configuration when absent.
    #[schema(value_type = Option<Object>)]
    pub vector: Option<VectorConfig>,
    /// Conditions: `overlap`, `ndcg_drop`, `p99_ratio`.
    #[schema(value_type = Object)]
    pub require: Require,
    /// `auto`, as soon as the conditions hold, or `manual`.
    #[schema(value_type = String)]
    pub cut_over: CutOver,
    /// Share of the time in which the rebuild works, above 0 to 1.
    pub share: Option<f64>,
    /// Shadow queries, `{q, relevant: {post id: grade}}`; past queries when absent.
    #[schema(value_type = Vec<Object>)]
    pub queries: Vec<ShadowQuery>,
}

impl ReindexBody {
    /// The plan, where `present` is the embedder of the generation that serves.
    pub fn plan(self, present: &str) -> Plan {
        let plan = Plan::new(self.embedder.unwrap_or_else(|| present.to_owned()));
        Plan {
            analyzer: self.analyzer.unwrap_or_default(),
            vector: self.vector,
            require: self.require,
            cut_over: self.cut_over,
            share: self.share.unwrap_or(1.0),
            queries: self.queries,
            ..plan
        }
    }
}

/// A rebuild.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TaskInfo {
    /// Its id.
    pub id: String,
    /// `building`, `paused`, `waiting`, `refused`, `done`, `rolled_back` or `failed`.
    pub state: &'static str,
    /// Why it was refused or failed.
    pub reasons: Vec<String>,
    /// The generation it builds.
    pub generation: u32,
    /// Its embedder.
    pub embedder: String,
    /// How it reduces words.
    #[schema(value_type = String)]
    pub analyzer: Analyzer,
    /// When it was begun, RFC 3339.
    pub begun_at: String,
    /// `phase`, `posts`, `words_left`, `vectors_left`, `posts_per_second`, `seconds_left`, `error`.
    #[schema(value_type = Object)]
    pub progress: Progress,
    /// What the shadow queries and the counts said.
    #[schema(value_type = Option<Object>)]
    pub comparison: Option<Comparison>,
    /// The generation it took over from.
    pub replaced: Option<u32>,
}

impl From<Rebuild> for TaskInfo {
    fn from(rebuild: Rebuild) -> Self {
        let Rebuild { plan, progress } = rebuild;
        Self {
            id: plan.id(),
            state: plan.state.name(),
            reasons: plan.reasons,
            generation: plan.number,
            embedder: plan.embedder,
            analyzer: plan.analyzer,
            begun_at: plan.begun_at.to_string(),
            progress,
            comparison: plan.comparison,
            replaced: plan.replaced,
        }
    }
}

/// A generation on disk.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct GenerationPage {
    /// Its number.
    pub generation: u32,
    /// Whether it serves.
    pub current: bool,
    /// Fingerprint of its embedding space.
    pub space: Option<String>,
    /// How it reduces words.
    #[schema(value_type = String)]
    pub analyzer: Analyzer,
    /// Bytes of its files.
    pub bytes: u64,
}

impl From<GenerationInfo> for GenerationPage {
    fn from(info: GenerationInfo) -> Self {
        Self {
            generation: info.number,
            current: info.current,
            space: info.space.map(|(space, _)| space),
            analyzer: info.spec.analyzer,
            bytes: info.bytes,
        }
    }
}

/// One rebuild.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TaskPage {
    /// The rebuild.
    pub task: TaskInfo,
    /// Names this call in the log.
    pub request_id: String,
}

/// Rebuilds and generations.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ReindexPage {
    /// Rebuilds whose generations are there, by number.
    pub tasks: Vec<TaskInfo>,
    /// Generations on disk, by number.
    pub generations: Vec<GenerationPage>,
    /// Names this call in the log.
    pub request_id: String,
}

/// What a rollback did.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RollbackPage {
    /// The generation that serves now.
    pub generation: u32,
    /// Names this call in the log.
    pub request_id: String,
}

/// What a prune did.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PrunePage {
    /// Bytes freed.
    pub bytes: u64,
    /// Names this call in the log.
    pub request_id: String,
}
