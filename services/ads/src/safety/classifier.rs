//! What hostile and grave texts look like, as directions in the space of the embedder.
//!
//! For each label one logistic regression over the vector of a text in the query role, which is the vector a decision has
//! anyway. `safety.json` beside this file holds the weights, `safety_report.json` what they were learnt from and how good
//! they are; `bowerbird train safety` makes both.

use bowerbird_models_api::Embedding;
use serde::{Deserialize, Serialize};

/// Version of the file.
pub const FORMAT: u32 = 1;
/// Most labels and components that are read.
const MAX_LABELS: usize = 16;
const MAX_DIM: usize = 4096;

/// Weights of every label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classifier {
    /// [`FORMAT`].
    pub format: u32,
    /// Catalog name of the embedder.
    pub model: String,
    /// Number of components.
    pub dim: usize,
    /// In the order in which they are asked.
    pub labels: Vec<Label>,
}

/// One direction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// What is found: `hate`, `offensive`, `toxic`, `grave`.
    pub name: String,
    /// A text this probable is unsafe, 0 to 1.
    pub threshold: f32,
    /// Constant term.
    pub bias: f32,
    /// `[dim] f32`.
    pub weights: Vec<f32>,
}

/// Weights that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClassifierError {
    /// Not the JSON that is expected.
    #[error("safety weights cannot be read")]
    Json(#[from] serde_json::Error),
    /// It can be read, but makes no sense.
    #[error("safety weights: {0}; make them again with `bowerbird train safety`")]
    Unsound(String),
}

impl Classifier {
    /// Reads and checks weights.
    pub fn from_json(json: &str) -> Result<Self, ClassifierError> {
        serde_json::from_str::<Self>(json)?.checked()
    }

    /// The classifier if its numbers make sense. Errors: another format, no label or more than 16, a name that is empty
    /// or used twice, weights that are not `dim` many, a number that is not finite, a threshold outside 0 to 1.
    pub fn checked(self) -> Result<Self, ClassifierError> {
        let wrong = |problem: String| Err(ClassifierError::Unsound(problem));
        if self.format != FORMAT {
            return wrong(format!("format is {}, expected {FORMAT}", self.format));
        }
        if self.labels.is_empty() || self.labels.len() > MAX_LABELS {
            return wrong(format!("{} labels, expected 1 to {MAX_LABELS}", self.labels.len()));
        }
        if self.dim == 0 || self.dim > MAX_DIM {
            return wrong(format!("dim is {}, expected 1 to {MAX_DIM}", self.dim));
        }
        for (at, label) in self.labels.iter().enumerate() {
            let name = &label.name;
            if name.is_empty() || self.labels[..at].iter().any(|other| other.name == *name) {
                return wrong(format!("label {name:?} is empty or there twice"));
            }
            if label.weights.len() != self.dim {
                return wrong(format!("{name} has {} weights, expected {}", label.weights.len(), self.dim));
            }
            if !label.weights.iter().chain([&label.bias]).all(|weight| weight.is_finite()) {
                return wrong(format!("a weight of {name} is not finite"));
            }
            if !(0.0..=1.0).contains(&label.threshold) {
                return wrong(format!("threshold of {name} is {}, expected 0 to 1", label.threshold));
            }
        }
        Ok(self)
    }

    /// The labels with their probabilities for a vector; `None` for one that is not of `dim` components.
    pub fn probabilities(&self, embedding: &Embedding) -> Option<impl Iterator<Item = (&Label, f32)>> {
        (embedding.dim() == self.dim).then(|| {
            let vector = embedding.as_slice().to_vec();
            self.labels.iter().map(move |label| (label, label.probability(&vector)))
        })
    }
}

impl Label {
    /// `σ(bias + weights · vector)`.
    pub fn probability(&self, vector: &[f32]) -> f32 {
        let raw: f32 = self.weights.iter().zip(vector).map(|(weight, x)| weight * x).sum();
        1.0 / (1.0 + (-(self.bias + raw)).exp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Classifier {
        let label = |name: &str, weights| Label { name: name.into(), threshold: 0.5, bias: -1.0, weights };
        Classifier {
            format: FORMAT,
            model: "stub".into(),
            dim: 2,
            labels: vec![label("a", vec![4.0, 0.0]), label("b", vec![0.0, 4.0])],
        }
    }

    #[test]
    fn a_direction_gives_a_probability() {
        let classifier = two().checked().expect("sound");
        let vector = Embedding::normalized(vec![1.0, 0.0]).expect("finite");
        let found: Vec<f32> = classifier.probabilities(&vector).expect("fits").map(|(_, p)| p).collect();
        assert!((found[0] - 0.952_574).abs() < 1e-5 && (found[1] - 0.268_941).abs() < 1e-5, "{found:?}");
        let long = Embedding::normalized(vec![1.0, 0.0, 0.0]).expect("finite");
        assert!(classifier.probabilities(&long).is_none());
    }

    #[test]
    fn weights_that_make_no_sense_are_refused() {
        let check = |change: &dyn Fn(&mut Classifier), expected: &str| {
            let mut classifier = two();
            change(&mut classifier);
            let told = classifier.checked().expect_err(expected).to_string();
            assert!(told.contains(expected), "{told}");
        };
        check(&|c| c.format = 9, "format is 9");
        check(&|c| c.labels.clear(), "0 labels");
        check(&|c| c.labels[1].name = "a".into(), "twice");
        check(&|c| c.labels[1].weights.push(0.0), "3 weights");
        check(&|c| c.labels[0].bias = f32::NAN, "not finite");
        check(&|c| c.labels[0].threshold = 1.5, "threshold of a");
        assert!(Classifier::from_json("{}").is_err());
    }
}
