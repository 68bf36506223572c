//! `bowerbird train safety`: labelled texts to the weights of the safety classifier.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use bowerbird_ads::safety::{Classifier, FORMAT, Label, Safety};
use bowerbird_models_api::Embedding;
use serde::Serialize;

use super::support::{report_name, write_json};
use crate::cli::TrainSafetyArgs;
use crate::config::Config;
use crate::eval::binary::{Judged, auroc};
use crate::eval::fit::{Sample, logistic};
use crate::eval::labelled::{LABELS, Text, TextSet, Use, Vectors, demo_posts, read_sets};
use crate::eval::safety::{SetReport, judged_set};
use crate::progress::Bars;
use crate::stack::{Parts, load_models};

/// Penalties tried, on components in standard deviations; the one with the greatest AUC on the validation part is taken.
const PENALTIES: [f64; 2] = [100.0, 1000.0];
/// Components of a vector.
const DIM: usize = 384;
/// Share of the validation part's safe texts that a label may refuse.
const FALSE_POSITIVES: f64 = 0.01;
/// Least threshold: below it a text is more probably not what the label says.
const LEAST_THRESHOLD: f32 = 0.5;

/// What is written beside the weights.
#[derive(Debug, Serialize)]
struct TrainingReport {
    /// How to do it again.
    command: &'static str,
    /// Model that made the vectors, in the query role.
    embedder: String,
    /// How thresholds were chosen.
    threshold_from: String,
    /// Each label.
    labels: BTreeMap<&'static str, LabelTraining>,
    /// On texts that nothing was learnt from or chosen by.
    held_out: BTreeMap<&'static str, SetReport>,
}

#[derive(Debug, Serialize)]
struct LabelTraining {
    texts: usize,
    positive: usize,
    penalty: f64,
    /// On the validation part.
    auc_by_penalty: BTreeMap<String, f64>,
    threshold: f32,
}

/// Runs `bowerbird train safety`.
pub async fn run(config: &Config, args: TrainSafetyArgs) -> anyhow::Result<()> {
    let mut sets = read_sets(&args.data)?;
    if let Some(path) = &args.posts {
        sets.push(demo_posts(path)?);
    }
    let models = load_models(config, Parts::SEARCH, &Bars::default())?;
    let (embedder, space) = (models.report.embedder.clone(), models.encoders.space().clone());
    let vectors = Vectors::new(models.encoders, args.vectors.as_deref())?;
    let mut rows: Vec<(&Text, Embedding)> = Vec::new();
    let mut by_set: Vec<(&TextSet, Vec<&Text>, Vec<Embedding>)> = Vec::new();
    for set in &sets {
        let texts: Vec<&str> = set.texts.iter().map(|text| text.text.as_str()).collect();
        let found = vectors.of(set.name, &texts).await?;
        let held_out = set.texts.iter().zip(&found).filter(|(text, _)| text.part == Use::HeldOut);
        let (texts, vectors) = held_out.map(|(text, vector)| (text, vector.clone())).unzip();
        by_set.push((set, texts, vectors));
        rows.extend(set.texts.iter().zip(found));
    }
    let (mut labels, mut training) = (Vec::new(), BTreeMap::new());
    for (at, name) in LABELS.into_iter().enumerate() {
        if rows.iter().any(|(text, _)| text.labels[at].is_some()) {
            let (label, report) = learn(&rows, at, name).with_context(|| format!("label {name}"))?;
            labels.push(label);
            training.insert(name, report);
        }
    }
    let classifier = Classifier { format: FORMAT, model: space.model, dim: space.dim, labels };
    let safety = Safety::new(classifier.clone())?;
    let mut held_out = BTreeMap::new();
    for (set, texts, vectors) in &by_set {
        held_out.insert(set.name, judged_set(&safety, set, texts, vectors)?);
    }
    let report = TrainingReport {
        command: "bowerbird train safety --data DIR --posts healthtweets.zip --out safety.json",
        embedder,
        threshold_from: format!(
            "at most {FALSE_POSITIVES} of the safe texts of the validation part reach it; at least {LEAST_THRESHOLD}"
        ),
        labels: training,
        held_out,
    };
    println!("{}", serde_json::to_string_pretty(&report)?);
    if let Some(out) = &args.out {
        let mut json = serde_json::to_string(&classifier)?;
        json.push('\n');
        std::fs::write(out, json).with_context(|| format!("cannot write {}", out.display()))?;
        write_json(&out.with_file_name(report_name(out)), &report)?;
    }
    Ok(())
}

/// The weights of label `at`, and how they came about.
fn learn(rows: &[(&Text, Embedding)], at: usize, name: &str) -> anyhow::Result<(Label, LabelTraining)> {
    let known =
        |part: Use| rows.iter().filter(move |(text, _)| text.part == part && text.labels[at].is_some());
    let sample = |(text, vector): &(&Text, Embedding)| {
        let mut features = [0.0; DIM];
        ensure!(vector.dim() == DIM, "vectors have {} components, expected {DIM}", vector.dim());
        for (to, from) in features.iter_mut().zip(vector.as_slice()) {
            *to = f64::from(*from);
        }
        Ok(Sample { features, positive: text.labels[at] == Some(true), weight: 1.0 })
    };
    let samples: Vec<Sample<DIM>> = known(Use::Train).map(sample).collect::<anyhow::Result<_>>()?;
    let positive = samples.iter().filter(|sample| sample.positive).count();
    ensure!(positive > 0 && positive < samples.len(), "both kinds of texts are needed to learn from");
    let mut best: Option<(f64, f64, Label)> = None;
    let mut auc_by_penalty = BTreeMap::new();
    for penalty in PENALTIES {
        let fit = logistic(&samples, penalty)?;
        let weights = fit.weights.iter().map(|weight| rounded(*weight) as f32).collect();
        let bias = rounded(fit.intercept) as f32;
        let label = Label { name: name.to_owned(), threshold: 1.0, bias, weights };
        let judged: Vec<Judged> = known(Use::Validation)
            .map(|(text, vector)| {
                (f64::from(label.probability(vector.as_slice())), text.labels[at] == Some(true))
            })
            .collect();
        let auc = auroc(&judged).context("the validation part needs both kinds of texts")?;
        auc_by_penalty.insert(penalty.to_string(), rounded(auc));
        if best.as_ref().is_none_or(|(found, _, _)| auc > *found) {
            best = Some((auc, penalty, label));
        }
    }
    let (_, penalty, mut label) = best.context("no penalty was tried")?;
    let safe = rows.iter().filter(|(text, _)| text.part == Use::Validation && !text.is_unsafe());
    label.threshold = threshold(safe.map(|(_, vector)| label.probability(vector.as_slice())).collect());
    let threshold = label.threshold;
    Ok((label, LabelTraining { texts: samples.len(), positive, penalty, auc_by_penalty, threshold }))
}

/// Least hundredth that at most [`FALSE_POSITIVES`] of the probabilities of safe texts reach.
fn threshold(mut safe: Vec<f32>) -> f32 {
    safe.sort_by(|a, b| b.total_cmp(a));
    let allowed = (safe.len() as f64 * FALSE_POSITIVES) as usize;
    let first_kept = safe.get(allowed).copied().unwrap_or(0.0);
    let hundredth = ((f64::from(first_kept) * 100.0).floor() + 1.0) / 100.0;
    (hundredth as f32).clamp(LEAST_THRESHOLD, 1.0)
}

fn rounded(x: f64) -> f64 {
    (x * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_lets_one_in_a_hundred_through() {
        let safe: Vec<f32> = (0..1000_u16).map(|n| f32::from(n) / 1000.0).collect();
        let found = threshold(safe.clone());
        let over = safe.iter().filter(|p| **p >= found).count();
        assert!((0.98..=1.0).contains(&found) && over <= 10, "{found} {over}");
        assert!((threshold(vec![0.1; 50]) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn a_direction_is_learnt() {
        let text = |n: u16, part| Text {
            text: n.to_string(),
            labels: [Some(n.is_multiple_of(2)), None, None, None],
            part,
        };
        let texts: Vec<Text> =
            (0..200).map(|n| text(n, if n < 150 { Use::Train } else { Use::Validation })).collect();
        let vector = |n: usize| {
            let mut values = vec![0.0; DIM];
            values[0] = if n.is_multiple_of(2) { 1.0 } else { -1.0 };
            values[1] = 1.0 + n as f32 / 300.0;
            Embedding::normalized(values)
        };
        let rows: Vec<(&Text, Embedding)> =
            texts.iter().enumerate().map(|(n, text)| (text, vector(n).expect("finite"))).collect();
        let (label, report) = learn(&rows, 0, "hate").expect("learns");
        assert_eq!(report.positive, 75);
        let (even, odd) = (rows[0].1.as_slice(), rows[1].1.as_slice());
        assert!(label.weights[0] > 5.0 * label.weights[1].abs(), "{:?}", &label.weights[..2]);
        assert!(label.probability(even) > 0.6 && label.probability(odd) < 0.5);
        assert!((report.auc_by_penalty["100"] - 1.0).abs() < 1e-9);
    }
}
