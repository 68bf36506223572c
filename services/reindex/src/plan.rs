//! What is to be built, under which conditions it serves, and how far that has come.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use bowerbird_lexical::Analyzer;
use bowerbird_live::{GenerationSpec, Live};
use bowerbird_vector::VectorConfig;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Comparison, ReindexError};

/// The file of a plan, beside the indexes of its generation.
const FILE: &str = "plan.json";
/// Most shadow queries of a plan.
pub const MAX_QUERIES: usize = 5000;
/// Longest shadow query, in bytes.
const MAX_QUERY_BYTES: usize = 2048;

/// A query that both generations answer before one takes over from the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShadowQuery {
    /// What a person typed.
    pub q: String,
    /// Grades of posts by id, from 1 on relevant; empty when nobody judged.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub relevant: BTreeMap<String, f64>,
}

/// Where the shadow queries come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShadowSource {
    /// They were given with the plan.
    Given,
    /// Past queries that several people asked.
    Log,
    /// The first words of posts: there were no past queries.
    Posts,
}

/// What must hold before the new generation serves, beside these, which always must: every shard agrees with the post
/// store, and no shadow query fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Require {
    /// Least mean share of the first ten hits that both generations have, 0 to 1.
    pub overlap: Option<f64>,
    /// Most that nDCG@10 may fall, where queries are judged.
    pub ndcg_drop: Option<f64>,
    /// Most that the 99th percentile of the latency may grow, as a ratio.
    pub p99_ratio: Option<f64>,
}

/// What happens when the new generation is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CutOver {
    /// It serves as soon as the conditions hold.
    #[default]
    Auto,
    /// It waits for somebody's word.
    Manual,
}

/// Where a rebuild stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Posts are being added, or the generations compared.
    Building,
    /// Somebody paused it.
    Paused,
    /// Compared, level, and waiting for somebody's word.
    Waiting,
    /// Compared; a condition does not hold.
    Refused,
    /// It serves, or did.
    Done,
    /// It served until somebody went back to the one before.
    RolledBack,
    /// It cannot go on; see the reasons.
    Failed,
}

impl State {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Paused => "paused",
            Self::Waiting => "waiting",
            Self::Refused => "refused",
            Self::Done => "done",
            Self::RolledBack => "rolled_back",
            Self::Failed => "failed",
        }
    }

    /// Whether its generation serves, or did.
    pub fn has_served(self) -> bool {
        matches!(self, Self::Done | Self::RolledBack)
    }

    /// Whether a new start goes on with it.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Building | Self::Paused | Self::Waiting)
    }
}

/// A rebuild.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The generation it builds; 0 until that is chosen.
    #[serde(default)]
    pub number: u32,
    /// Name of the embedder in the catalog of models.
    pub embedder: String,
    /// How words are reduced.
    #[serde(default)]
    pub analyzer: Analyzer,
    /// Settings of the vector index; those of the configuration when absent.
    #[serde(default)]
    pub vector: Option<VectorConfig>,
    /// Conditions.
    #[serde(default)]
    pub require: Require,
    /// What happens when it is ready.
    #[serde(default)]
    pub cut_over: CutOver,
    /// Share of the time in which the rebuild works, above 0 to 1; the rest it sleeps.
    #[serde(default = "whole")]
    pub share: f64,
    /// Queries for the comparison; past queries, else words of posts, when empty.
    #[serde(default)]
    pub queries: Vec<ShadowQuery>,
    /// A directory of part files whose vectors are taken where post and text are the same; the rest is embedded here.
    #[serde(default)]
    pub vectors: Option<PathBuf>,
    /// When it was begun.
    pub begun_at: Timestamp,
    /// Where it stands.
    pub state: State,
    /// Why it was refused or failed.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// The last comparison.
    #[serde(default)]
    pub comparison: Option<Comparison>,
    /// The generation it took over from.
    #[serde(default)]
    pub replaced: Option<u32>,
}

fn whole() -> f64 {
    1.0
}

impl Plan {
    /// A rebuild with `embedder` and every default.
    pub fn new(embedder: impl Into<String>) -> Self {
        Self {
            number: 0,
            embedder: embedder.into(),
            analyzer: Analyzer::default(),
            vector: None,
            require: Require::default(),
            cut_over: CutOver::default(),
            share: whole(),
            queries: Vec::new(),
            vectors: None,
            begun_at: Timestamp::now(),
            state: State::Building,
            reasons: Vec::new(),
            comparison: None,
            replaced: None,
        }
    }

    /// What it is called.
    pub fn id(&self) -> String {
        format!("reindex-{}", self.number)
    }

    /// What its generation is made with.
    pub fn spec(&self) -> GenerationSpec {
        GenerationSpec { analyzer: self.analyzer, vector: self.vector.clone() }
    }

    /// Whether another plan builds the same.
    pub(crate) fn builds_like(&self, other: &Self) -> bool {
        self.embedder == other.embedder && self.spec() == other.spec()
    }

    /// Refuses what has no meaning.
    pub(crate) fn check(&self) -> Result<(), ReindexError> {
        let field = |field, found: &dyn std::fmt::Display, expected: &str| {
            let found = found.to_string().chars().take(80).collect();
            Err(ReindexError::Field { field, found, expected: expected.into() })
        };
        if !(self.share > 0.0 && self.share <= 1.0) {
            return field("share", &self.share, "a number above 0, at most 1");
        }
        let Require { overlap, ndcg_drop, p99_ratio } = self.require;
        if let Some(overlap) = overlap.filter(|overlap| !(0.0..=1.0).contains(overlap)) {
            return field("require.overlap", &overlap, "a number from 0 to 1");
        }
        if let Some(drop) = ndcg_drop.filter(|drop| !(0.0..=1.0).contains(drop)) {
            return field("require.ndcg_drop", &drop, "a number from 0 to 1");
        }
        if let Some(ratio) = p99_ratio.filter(|ratio| !(*ratio > 0.0 && ratio.is_finite())) {
            return field("require.p99_ratio", &ratio, "a number above 0");
        }
        if ndcg_drop.is_some() && self.queries.iter().all(|query| query.relevant.is_empty()) {
            return field("require.ndcg_drop", &"given", "queries with relevant posts beside it");
        }
        if self.queries.len() > MAX_QUERIES {
            return field("queries", &self.queries.len(), "at most 5000 queries");
        }
        for query in &self.queries {
            if query.q.trim().is_empty() || query.q.len() > MAX_QUERY_BYTES {
                return field("queries.q", &query.q, "1 to 2048 bytes");
            }
            if let Some(grade) = query.relevant.values().find(|grade| !(0.0..=100.0).contains(*grade)) {
                return field("queries.relevant", grade, "grades from 0 to 100");
            }
        }
        if let Some(vector) = &self.vector
            && let Err(error) = vector.validate()
        {
            return field("vector", &error, "settings of a vector index");
        }
        Ok(())
    }

    /// Writes it beside its generation, durably.
    pub(crate) fn save(&self, live: &Live) -> Result<(), ReindexError> {
        let path = live.generation_dir(self.number).join(FILE);
        let json = serde_json::to_vec_pretty(self).map_err(|error| ReindexError::Io {
            action: "write",
            path,
            source: error.into(),
        })?;
        Ok(live.write_beside(self.number, FILE, &json)?)
    }

    /// Of a generation; none when it was not made by a plan.
    pub(crate) fn load(live: &Live, number: u32) -> Result<Option<Self>, ReindexError> {
        let path = live.generation_dir(number).join(FILE);
        let json = match fs::read(&path) {
            Ok(json) => json,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ReindexError::Io { action: "read", path, source }),
        };
        match serde_json::from_slice::<Self>(&json) {
            Ok(plan) if plan.number == number => Ok(Some(plan)),
            Ok(plan) => {
                let message = format!("it is of generation {}", plan.number);
                Err(ReindexError::Damaged { path, message })
            }
            Err(error) => Err(ReindexError::Damaged { path, message: error.to_string() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_without_meaning_is_named() {
        let plan = Plan::new("bge-small-en-v1.5");
        plan.check().expect("the defaults are sound");
        let require = |require| Plan { require, ..plan.clone() };
        let query =
            |q: &str, grade| ShadowQuery { q: q.into(), relevant: BTreeMap::from([("a".into(), grade)]) };
        for (bad, named) in [
            (Plan { share: 0.0, ..plan.clone() }, "share"),
            (Plan { share: f64::NAN, ..plan.clone() }, "share"),
            (require(Require { overlap: Some(1.5), ..Require::default() }), "require.overlap"),
            (require(Require { p99_ratio: Some(f64::INFINITY), ..Require::default() }), "require.p99_ratio"),
            (require(Require { ndcg_drop: Some(0.1), ..Require::default() }), "require.ndcg_drop"),
            (Plan { queries: vec![query(" ", 1.0)], ..plan.clone() }, "queries.q"),
            (Plan { queries: vec![query("x", -1.0)], ..plan.clone() }, "queries.relevant"),
            (Plan { queries: vec![query("x", 1.0); MAX_QUERIES + 1], ..plan.clone() }, "queries"),
            (
                Plan { vector: Some(VectorConfig { m: 1, ..VectorConfig::default() }), ..plan.clone() },
                "vector",
            ),
        ] {
            match bad.check() {
                Err(ReindexError::Field { field, .. }) => assert_eq!(field, named),
                other => panic!("{named}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_plan_reads_as_it_was_written() {
        let plan = Plan { number: 3, state: State::Waiting, ..Plan::new("e5-small-v2") };
        let json = serde_json::to_string(&plan).expect("written");
        assert_eq!(serde_json::from_str::<Plan>(&json).expect("read"), plan);
        assert!(serde_json::from_str::<Plan>(&json.replace("\"share\"", "\"shares\"")).is_err());
    }
}
