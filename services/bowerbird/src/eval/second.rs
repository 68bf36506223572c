//! A second opinion on support, by a model that has no part in writing or checking answers.
//!
//! It is the cosine of claim and evidence in the space of e5-small-v2, another network than the embedder and the
//! cross-encoder of the check, from a threshold on that is learnt on pairs the check did not learn from either way. A
//! cosine sees whether two texts say something of the same, not whether a number was changed: its own error is
//! measured and told with every verdict.

use anyhow::{Context, ensure};
use bowerbird_models_api::{Embedder, Embedding, ModelError, TextRole};
use bowerbird_onnx::OnnxEmbedder;
use serde::Serialize;

use super::binary::{AtThreshold, Judged, at_threshold, auroc};
use super::pairs::{Pair, Part};
use crate::config::Config;
use crate::progress::{Bars, counting};
use crate::stack::load_embedder;

/// The model.
pub const MODEL: &str = "e5-small-v2";

/// The second check and how far it can be trusted.
pub struct Second {
    embedder: OnnxEmbedder,
    /// What is known of it.
    pub report: SecondReport,
}

/// How good the second check is.
#[derive(Clone, Debug, Serialize)]
pub struct SecondReport {
    /// The model whose cosine it is.
    pub model: &'static str,
    /// Cosine from which on a claim counts as supported: the best balanced accuracy on the pairs learnt from.
    pub threshold: f64,
    /// Pairs held out.
    pub pairs: usize,
    /// Area under the ROC curve on them.
    pub auroc: f64,
    /// Precision and recall on them.
    pub at_threshold: AtThreshold,
}

impl Second {
    /// Loads the model and learns the threshold from `pairs`.
    pub fn learn(config: &Config, pairs: &[Pair]) -> anyhow::Result<Self> {
        let mut embedder = load_embedder(config, MODEL, &Bars::default())?;
        let bar = counting(&format!("learning a second check over {MODEL}"), pairs.len() as u64);
        let (mut learnt, mut held): (Vec<Judged>, Vec<Judged>) = (Vec::new(), Vec::new());
        for pair in pairs {
            let side = if pair.part == Part::HeldOut { &mut held } else { &mut learnt };
            let evidence: Vec<&str> = pair.evidence.iter().map(String::as_str).collect();
            side.push((f64::from(nearest(&mut embedder, &pair.claim, &evidence)?), pair.supported));
            bar.inc(1);
        }
        bar.finish_and_clear();
        ensure!(
            !learnt.is_empty() && !held.is_empty(),
            "the pairs have no part to learn from and one held out"
        );
        let threshold = best_balanced(&learnt);
        let report = SecondReport {
            model: MODEL,
            threshold,
            pairs: held.len(),
            auroc: auroc(&held).context("the held-out pairs are all of one kind")?,
            at_threshold: at_threshold(&held, threshold),
        };
        Ok(Self { embedder, report })
    }

    /// Whether it holds `claim` for supported by one of `evidence`.
    pub fn supports(&mut self, claim: &str, evidence: &[&str]) -> anyhow::Result<bool> {
        Ok(f64::from(nearest(&mut self.embedder, claim, evidence)?) >= self.report.threshold)
    }
}

fn nearest(embedder: &mut OnnxEmbedder, claim: &str, evidence: &[&str]) -> anyhow::Result<f32> {
    let mut embed = |text: &str| -> Result<Option<Embedding>, ModelError> {
        match embedder.embed(text, TextRole::Query) {
            Ok(vector) => Ok(Some(vector)),
            Err(ModelError::EmptyText) => Ok(None),
            Err(error) => Err(error),
        }
    };
    let Some(claim) = embed(claim)? else { return Ok(-1.0) };
    let mut best = -1.0_f32;
    for text in evidence {
        if let Some(vector) = embed(text)? {
            best = best.max(claim.cosine(&vector)?);
        }
    }
    Ok(best)
}

/// The score from which on the mean of true positive and true negative rate is largest; the lowest of equals.
fn best_balanced(judged: &[Judged]) -> f64 {
    let mut order = judged.to_vec();
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    let yes = order.iter().filter(|(_, yes)| *yes).count().max(1) as f64;
    let no = order.iter().filter(|(_, yes)| !*yes).count().max(1) as f64;
    let (mut hits, mut alarms) = (0.0, 0.0);
    let mut best = (f64::NEG_INFINITY, f64::INFINITY);
    for alike in order.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
        let right = alike.iter().filter(|(_, yes)| *yes).count() as f64;
        hits += right;
        alarms += alike.len() as f64 - right;
        let balance = hits / yes - alarms / no;
        if balance >= best.0 {
            best = (balance, alike[0].0);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_parts_best() {
        let judged = [(0.9, true), (0.8, true), (0.7, false), (0.6, true), (0.2, false), (0.1, false)];
        assert!((best_balanced(&judged) - 0.6).abs() < 1e-12, "three of three and one of three");
        assert!((best_balanced(&judged[..3]) - 0.8).abs() < 1e-12);
    }
}
