//! Whether ads may stand beside a text: a list of words, and a classifier over its vector.
//!
//! The list ([`crate::sensitive_term`]) knows subjects: grief, harm, outbreaks, grave illness. The classifier knows tone,
//! hate and abuse in words nobody listed, and such subjects where none of their words is there. It adds refusals and
//! never lifts one. What cannot be judged is unsafe.
//!
//! ```ignore
//! let safety = Safety::shipped();
//! if let Verdict::Unsafe(cause) = safety.judge(&request.text, embedding.as_ref()) {
//!     tracing::debug!(%cause, "no ads"); // list:overdose, classifier:offensive 0.97, no_embedding, empty_text
//! }
//! ```

mod classifier;

use std::fmt;
use std::sync::LazyLock;

use bowerbird_models_api::Embedding;

pub use classifier::{Classifier, ClassifierError, FORMAT, Label};

use crate::sensitive::sensitive_term;

/// Whether ads may stand beside a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// They may.
    Safe,
    /// They may not.
    Unsafe(Cause),
}

/// Why not.
#[derive(Clone, Debug, PartialEq)]
pub enum Cause {
    /// There is no text.
    EmptyText,
    /// A word or phrase of the list occurs in it.
    List {
        /// As listed.
        term: &'static str,
    },
    /// The classifier finds something.
    Classifier {
        /// What.
        label: String,
        /// How surely, at least the label's threshold.
        probability: f32,
    },
    /// There is no vector, or one of another model, so that the classifier could not look.
    NoEmbedding,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyText => f.write_str("empty_text"),
            Self::List { term } => write!(f, "list:{term}"),
            Self::Classifier { label, probability } => write!(f, "classifier:{label} {probability:.2}"),
            Self::NoEmbedding => f.write_str("no_embedding"),
        }
    }
}

/// List and classifier.
#[derive(Clone, Debug)]
pub struct Safety {
    classifier: Classifier,
}

static SHIPPED: LazyLock<Safety> = LazyLock::new(|| Safety {
    classifier: Classifier::from_json(include_str!("safety.json"))
        .expect("a test reads the committed weights"),
});

impl Safety {
    /// With the weights of this program, for bge-small-en-v1.5.
    pub fn shipped() -> &'static Self {
        &SHIPPED
    }

    /// With weights of one's own.
    pub fn new(classifier: Classifier) -> Result<Self, ClassifierError> {
        Ok(Self { classifier: classifier.checked()? })
    }

    /// The weights in use.
    pub fn classifier(&self) -> &Classifier {
        &self.classifier
    }

    /// Judges `text`, whose vector in the query role is `embedding`. The list is asked first, so that its reasons need no
    /// model; takes microseconds.
    pub fn judge(&self, text: &str, embedding: Option<&Embedding>) -> Verdict {
        if text.trim().is_empty() {
            return Verdict::Unsafe(Cause::EmptyText);
        }
        if let Some(term) = sensitive_term(text) {
            return Verdict::Unsafe(Cause::List { term });
        }
        let Some(probabilities) = embedding.and_then(|vector| self.classifier.probabilities(vector)) else {
            return Verdict::Unsafe(Cause::NoEmbedding);
        };
        // Most certain first, relative to what each label asks; a NaN is above every threshold.
        let over = probabilities.filter(|(label, p)| p.is_nan() || *p >= label.threshold);
        match over.max_by(|a, b| a.1.total_cmp(&b.1)) {
            Some((label, probability)) => {
                Verdict::Unsafe(Cause::Classifier { label: label.name.clone(), probability })
            }
            None => Verdict::Safe,
        }
    }
}

/// A post whose verdict is known, written by hand in the manner of the demo's health news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JudgedPost {
    /// Whether it must stay free of ads.
    pub is_unsafe: bool,
    /// Written after the list had its words, so that they were not chosen by it.
    pub fresh: bool,
    /// What it is about.
    pub subject: &'static str,
    /// The post.
    pub text: &'static str,
}

/// Posts to measure the judge by: about self-harm, tragedy, outbreaks, grave disease, addiction, abuse, minds in
/// distress and hate on one side, about fitness, food, sleep, everyday health, family and mood on the other.
///
/// The first batch showed what the list lacked, and got its words. The second came after and tells what is still missed:
/// it says such things without the words that name them.
pub fn judged_posts() -> impl Iterator<Item = JudgedPost> {
    include_str!("judged.tsv").lines().filter_map(|line| {
        let (verdict, rest) = line.split_once('\t')?;
        let (batch, rest) = rest.split_once('\t')?;
        let (subject, text) = rest.split_once('\t')?;
        Some(JudgedPost { is_unsafe: verdict == "unsafe", fresh: batch == "second", subject, text })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embedding(dim: usize) -> Embedding {
        Embedding::normalized(vec![1.0; dim]).expect("finite")
    }

    fn safety(weight: f32) -> Safety {
        let label = |name: &str, threshold| Label {
            name: name.into(),
            threshold,
            bias: 0.0,
            weights: vec![weight; 4],
        };
        let labels = vec![label("hate", 0.9), label("offensive", 0.7)];
        Safety::new(Classifier { format: FORMAT, model: "stub".into(), dim: 4, labels }).expect("sound")
    }

    #[test]
    fn the_classifier_adds_and_never_lifts() {
        let told = |safety: &Safety, text: &str, embedding: Option<&Embedding>| match safety
            .judge(text, embedding)
        {
            Verdict::Safe => "safe".to_owned(),
            Verdict::Unsafe(cause) => cause.to_string(),
        };
        let vector = embedding(4);
        let (mild, strict) = (safety(-5.0), safety(0.5));
        assert_eq!(told(&mild, "running shoes", Some(&vector)), "safe");
        assert_eq!(told(&mild, "overdose deaths", Some(&vector)), "list:overdose");
        assert_eq!(told(&strict, "running shoes", Some(&vector)), "classifier:offensive 0.73");
        assert_eq!(told(&mild, "running shoes", None), "no_embedding");
        assert_eq!(told(&mild, "running shoes", Some(&embedding(5))), "no_embedding");
        assert_eq!(told(&mild, " \n", Some(&vector)), "empty_text");
    }

    #[test]
    fn the_shipped_weights_can_be_read() {
        let classifier = Safety::shipped().classifier();
        let names: Vec<&str> = classifier.labels.iter().map(|label| label.name.as_str()).collect();
        assert_eq!((classifier.dim, names), (384, vec!["hate", "offensive", "toxic", "grave"]));
    }

    #[test]
    fn the_list_knows_its_subjects_and_leaves_everyday_health_alone() {
        let flagged = |is_unsafe, fresh| {
            let posts = judged_posts().filter(|post| post.is_unsafe == is_unsafe && post.fresh == fresh);
            let found: Vec<bool> = posts.map(|post| sensitive_term(post.text).is_some()).collect();
            (found.iter().filter(|flagged| **flagged).count(), found.len())
        };
        let (found, of) = flagged(true, false);
        assert!(found >= 61 && of == 72, "{found} of {of}");
        assert_eq!(flagged(false, false), (0, 68));
        assert_eq!(flagged(false, true), (0, 30));
        // The list alone misses most of what is said without its words.
        assert_eq!(flagged(true, true).1, 30);
    }
}
