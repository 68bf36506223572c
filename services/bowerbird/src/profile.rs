//! Profiles of the gate before the cross-encoder: what `bowerbird tune` writes and `[search] rerank_profile` names.
//!
//! A profile is one JSON file: the rule, what it was learned from, and what it was worth on queries it was not learned
//! from.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bowerbird_search::Gate;
use bowerbird_search::gate::{FEATURE_COUNT, FEATURE_NAMES, Step};
use serde::{Deserialize, Serialize};

/// Version of the file format.
const FORMAT: u32 = 1;
/// Largest file that is read, bytes.
const MAX_BYTES: u64 = 1 << 20;
/// Most steps.
const MAX_STEPS: usize = 16;
/// Deepest step.
const MAX_DEPTH: usize = 200;

/// Which profile is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum ProfileChoice {
    /// The one that comes with the program.
    #[default]
    Default,
    /// None: every query is read.
    None,
    /// A file.
    File(PathBuf),
}

impl From<String> for ProfileChoice {
    fn from(text: String) -> Self {
        match text.as_str() {
            "default" => Self::Default,
            "none" => Self::None,
            _ => Self::File(text.into()),
        }
    }
}

/// A profile file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Version of the format.
    pub format: u32,
    /// Name in explanations.
    pub name: String,
    /// What the rule was learned from.
    pub trained_on: Vec<TrainedOn>,
    /// `log-odds = intercept + weights · features`: that reading does more good than harm.
    pub intercept: f32,
    /// Log-odds for one unit of each feature.
    pub weights: Weights,
    /// What is done from a probability on, highest first; below the last step nothing is read.
    pub steps: Vec<StepRow>,
    /// What rules of this kind were worth on queries that they were not learned from.
    pub cross_validation: CrossValidation,
}

/// A judged set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainedOn {
    /// Name of its folder.
    pub dataset: String,
    /// Name of its qrels file.
    pub split: String,
    /// Judged queries.
    pub queries: usize,
}

/// A weight for each feature of [`bowerbird_search::gate::Features`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are those of the features")]
pub struct Weights {
    pub gap_next: f32,
    pub gap_depth: f32,
    pub entropy: f32,
    pub overlap: f32,
    pub coverage: f32,
    pub words: f32,
    pub length: f32,
}

impl Weights {
    /// In the order of [`FEATURE_NAMES`].
    pub fn values(self) -> [f32; FEATURE_COUNT] {
        let Self { gap_next, gap_depth, entropy, overlap, coverage, words, length } = self;
        [gap_next, gap_depth, entropy, overlap, coverage, words, length]
    }
}

impl From<[f32; FEATURE_COUNT]> for Weights {
    fn from(values: [f32; FEATURE_COUNT]) -> Self {
        let [gap_next, gap_depth, entropy, overlap, coverage, words, length] = values;
        Self { gap_next, gap_depth, entropy, overlap, coverage, words, length }
    }
}

/// What is done from a probability on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepRow {
    /// Least probability, 0 to 1.
    pub probability: f32,
    /// Candidates read, 2 to 200.
    pub depth: usize,
    /// Share of the cross-encoder, 0 to 1.
    pub blend: f32,
}

/// Figures from queries that a rule was not learned from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrossValidation {
    /// Learned on four fifths of the queries of all sets, measured on the rest, five times.
    pub folds: Vec<Figures>,
    /// Learned on the other sets, measured on this one; empty when there was only one.
    pub held_out: Vec<Figures>,
}

/// Means over the queries of a set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// The set.
    pub dataset: String,
    /// nDCG@10 of the fused list.
    pub fused: f64,
    /// With the cross-encoder blended in for every query.
    pub blended: f64,
    /// As the learned rule decides.
    pub gated: f64,
    /// Candidates that the rule reads, in the mean.
    pub depth: f64,
}

impl Profile {
    /// The profile that comes with the program.
    pub fn embedded() -> anyhow::Result<Self> {
        Self::parse(include_str!("../profiles/default.json"))
            .context("the profile of the program is not valid")
    }

    /// Reads and checks a file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let place = || format!("search.rerank_profile {}", path.display());
        let size = std::fs::metadata(path).with_context(place)?.len();
        if size > MAX_BYTES {
            bail!("{}: {size} bytes, at most {MAX_BYTES} are read", place());
        }
        Self::parse(&std::fs::read_to_string(path).with_context(place)?).with_context(place)
    }

    /// The profile in `text`. An error names the field.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let mut json = serde_json::Deserializer::from_str(text);
        let profile: Self = serde_path_to_error::deserialize(&mut json)
            .map_err(|error| anyhow::anyhow!("{}: {}", error.path(), error.inner()))?;
        json.end()?;
        profile.check()?;
        Ok(profile)
    }

    fn check(&self) -> anyhow::Result<()> {
        if self.format != FORMAT {
            bail!(
                "format is {}, this program reads {FORMAT}: write the profile again with `bowerbird tune`",
                self.format
            );
        }
        if self.name.is_empty() || self.name.len() > 100 {
            bail!("name has {} bytes, expected 1 to 100", self.name.len());
        }
        if !self.intercept.is_finite() {
            bail!("intercept is {}, expected a finite number", self.intercept);
        }
        for (name, weight) in FEATURE_NAMES.iter().zip(self.weights.values()) {
            if !weight.is_finite() {
                bail!("weights.{name} is {weight}, expected a finite number");
            }
        }
        if self.steps.len() > MAX_STEPS {
            bail!("steps has {} entries, expected at most {MAX_STEPS}", self.steps.len());
        }
        for (n, step) in self.steps.iter().enumerate() {
            if !(0.0..=1.0).contains(&step.probability) {
                bail!("steps[{n}].probability is {}, expected 0 to 1", step.probability);
            }
            if n > 0 && step.probability >= self.steps[n - 1].probability {
                bail!("steps[{n}].probability is {}, expected less than the step before", step.probability);
            }
            if !(2..=MAX_DEPTH).contains(&step.depth) {
                bail!("steps[{n}].depth is {}, expected 2 to {MAX_DEPTH}", step.depth);
            }
            if !(0.0..=1.0).contains(&step.blend) {
                bail!("steps[{n}].blend is {}, expected 0 to 1", step.blend);
            }
        }
        Ok(())
    }

    /// The rule.
    pub fn gate(&self) -> Gate {
        let step = |row: &StepRow| Step { probability: row.probability, depth: row.depth, blend: row.blend };
        Gate {
            name: self.name.clone(),
            intercept: self.intercept,
            weights: self.weights.values(),
            steps: self.steps.iter().map(step).collect(),
        }
    }

    /// A profile of `gate`.
    pub fn new(gate: &Gate, trained_on: Vec<TrainedOn>, cross_validation: CrossValidation) -> Self {
        let row =
            |step: &Step| StepRow { probability: step.probability, depth: step.depth, blend: step.blend };
        Self {
            format: FORMAT,
            name: gate.name.clone(),
            trained_on,
            intercept: gate.intercept,
            weights: gate.weights.into(),
            steps: gate.steps.iter().map(row).collect(),
            cross_validation,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn profile() -> Profile {
        let gate = Gate {
            name: "house".into(),
            intercept: 0.1,
            weights: [-1.0, 0.5, 0.0, 0.25, 1e-3, 2.0, -0.125],
            steps: vec![
                Step { probability: 0.7, depth: 16, blend: 0.4 },
                Step { probability: 0.3, depth: 8, blend: 0.2 },
            ],
        };
        let set = TrainedOn { dataset: "a".into(), split: "train".into(), queries: 9 };
        let row = Figures { dataset: "a".into(), fused: 0.5, blended: 0.51, gated: 0.52, depth: 7.5 };
        Profile::new(&gate, vec![set], CrossValidation { folds: vec![row], held_out: Vec::new() })
    }

    #[test]
    fn a_profile_reads_as_it_was_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("profile.json");
        let written = profile();
        std::fs::write(&file, serde_json::to_string_pretty(&written).expect("JSON")).expect("written");
        let read = Profile::read(&file).expect("valid");
        assert_eq!(read, written);
        assert_eq!(
            Profile::new(&read.gate(), read.trained_on.clone(), read.cross_validation.clone()),
            written
        );
        assert!(!Profile::embedded().expect("valid").steps.is_empty());
    }

    #[test]
    fn an_error_names_the_field() {
        let check = |path: &str, value: Value, parts: &[&str]| {
            let mut json = serde_json::to_value(profile()).expect("JSON");
            match json.pointer_mut(path) {
                Some(place) => *place = value,
                None => json[path.trim_start_matches('/')] = value,
            }
            let error = format!("{:#}", Profile::parse(&json.to_string()).expect_err(path));
            for part in parts {
                assert!(error.contains(part), "{path}: {error}");
            }
        };
        check("/format", json!(2), &["format is 2", "bowerbird tune"]);
        check("/name", json!(""), &["name"]);
        check("/weights/words", json!("many"), &["weights.words"]);
        check("/weights/words", json!(1e300), &["weights.words"]);
        check("/weights", json!({"gap_next": 1.0}), &["weights", "gap_depth"]);
        check("/steps/1/probability", json!(0.9), &["steps[1].probability", "0.9"]);
        check("/steps/0/probability", json!(1.5), &["steps[0].probability", "1.5"]);
        check("/steps/0/depth", json!(0), &["steps[0].depth is 0"]);
        check("/steps/1/blend", json!(-0.5), &["steps[1].blend"]);
        check("/stepz", json!([]), &["stepz"]);
        let missing = format!("{:#}", Profile::read(Path::new("/nowhere.json")).expect_err("missing"));
        assert!(missing.contains("/nowhere.json"), "{missing}");
        assert!(Profile::parse("[[[[").is_err());
    }

    #[test]
    fn a_choice_is_a_word_or_a_file() {
        let choice = |text: &str| ProfileChoice::from(text.to_owned());
        assert_eq!(choice("default"), ProfileChoice::Default);
        assert_eq!(choice("none"), ProfileChoice::None);
        assert_eq!(choice("house.json"), ProfileChoice::File("house.json".into()));
    }
}
