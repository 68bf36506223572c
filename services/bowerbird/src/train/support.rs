//! `bowerbird train support`: judged pairs to the weights of the support check.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, ensure};
use bowerbird_answer::support::{FEATURES, SupportModel};
use serde::Serialize;
use serde_json::json;

use super::logistic::{Example, fit, platt};
use crate::cli::TrainSupportArgs;
use crate::config::Config;
use crate::eval::answers::{Seen, SetReport, print, report, see};
use crate::eval::binary::{Judged, at_threshold, auroc};
use crate::eval::pairs::{FOLDS, PairSet, Part, read_sets};
use crate::eval::scored::Scorer;
use crate::progress::Bars;
use crate::stack::{Parts, load_models};

/// Penalties tried; the one with the greatest mean AUROC over the sets on the folds not learnt from is taken.
const PENALTIES: [f64; 4] = [10.0, 30.0, 100.0, 300.0];
/// Precision that `supported_from` aims at, on folds not learnt from.
const PRECISION: f64 = 0.95;
/// The set whose pairs are most like a sentence restated from a post: both sides are one or two sentences. Probabilities
/// are calibrated and the threshold is chosen on its folds.
const LIKE_POSTS: &str = "begin-wow";

/// What is written beside the weights.
#[derive(Debug, Serialize)]
struct TrainingReport<'a> {
    /// How to do it again.
    command: &'static str,
    /// Models that scored the pairs.
    embedder: String,
    reranker: String,
    /// Half the weight of the squared weights.
    penalty: f64,
    /// Mean AUROC over the sets on folds not learnt from, by penalty.
    auroc_by_penalty: BTreeMap<String, f64>,
    /// Pairs learnt from, and those that are supported, by set.
    learnt_from: BTreeMap<String, Learnt>,
    /// Least probability at which precision on the folds of the set most like posts reaches the aim.
    threshold: f32,
    /// The set, the aim.
    threshold_from: String,
    /// On groups that nothing was learnt from or chosen by.
    held_out: &'a BTreeMap<String, SetReport>,
    /// Mean over the sets.
    held_out_auroc: f64,
}

#[derive(Debug, Serialize)]
struct Learnt {
    pairs: usize,
    supported: usize,
    auroc_on_folds: f64,
}

/// Runs `bowerbird train support`.
pub async fn run(config: &Config, args: TrainSupportArgs) -> anyhow::Result<()> {
    let sets = read_sets(&args.data)?;
    let models = load_models(config, Parts::SEARCH, &Bars::default())?;
    let (embedder, reranker) = (models.report.embedder.clone(), models.report.reranker.clone());
    let scorer = Scorer::new(models.encoders, args.scores.as_deref())?;
    let mut seen = Vec::with_capacity(sets.len());
    for set in &sets {
        seen.push(see(&scorer, set).await?);
    }
    if let Some(path) = &args.features {
        dump(path, &sets, &seen)?;
    }

    let mut by_penalty = BTreeMap::new();
    let mut best: Option<(f64, f64, Vec<Vec<Judged>>)> = None;
    for penalty in PENALTIES {
        let raw = on_folds(&seen, penalty)?;
        let mean = raw.iter().filter_map(|set| auroc(set)).sum::<f64>() / raw.len() as f64;
        by_penalty.insert(penalty.to_string(), rounded(mean));
        if best.as_ref().is_none_or(|(_, found, _)| mean > *found) {
            best = Some((penalty, mean, raw));
        }
    }
    let (penalty, _, raw) = best.context("no penalty was tried")?;
    let like_posts = sets.iter().position(|set| set.name == LIKE_POSTS).unwrap_or(0);
    let (slope, offset) = platt(&raw[like_posts])?;
    let model = fit(&examples(&seen, |_| true), seen.len(), penalty)?;
    let model = SupportModel { slope, offset, ..model }.checked()?;

    let probability = |z: f64| 1.0 / (1.0 + (-(f64::from(slope) * z + f64::from(offset))).exp());
    let folded: Vec<Judged> = raw[like_posts].iter().map(|(z, yes)| (probability(*z), *yes)).collect();
    let threshold = threshold(&folded, PRECISION);

    let held_out: Vec<Vec<Seen>> =
        seen.iter().map(|set| set.iter().filter(|s| s.part == Part::HeldOut).cloned().collect()).collect();
    let figures = report(&sets, &held_out, &model, threshold)?;
    print(&figures);
    println!(
        "penalty {penalty}, threshold for precision {PRECISION} on the folds of {}: {threshold:.3}",
        sets[like_posts].name
    );
    if let Some(out) = &args.out {
        let learnt_from = sets.iter().zip(&raw).map(|(set, raw)| {
            let supported = raw.iter().filter(|(_, yes)| *yes).count();
            let auroc_on_folds = rounded(auroc(raw).unwrap_or(f64::NAN));
            (set.name.clone(), Learnt { pairs: raw.len(), supported, auroc_on_folds })
        });
        let report = TrainingReport {
            command: "bowerbird train support --data DIR --out support.json",
            embedder,
            reranker,
            penalty,
            auroc_by_penalty: by_penalty,
            learnt_from: learnt_from.collect(),
            threshold,
            threshold_from: format!("precision {PRECISION} on the folds of {}", sets[like_posts].name),
            held_out: &figures.sets,
            held_out_auroc: figures.auroc,
        };
        write_json(out, &model)?;
        write_json(&out.with_file_name(report_name(out)), &report)?;
    }
    Ok(())
}

/// `support.json` to `support_report.json`.
pub(super) fn report_name(out: &Path) -> String {
    format!("{}_report.json", out.file_stem().unwrap_or_default().to_string_lossy())
}

pub(super) fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let mut json = serde_json::to_string_pretty(value)?;
    json.push('\n');
    std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))
}

fn rounded(x: f64) -> f64 {
    (x * 1e4).round() / 1e4
}

/// The pairs that are learnt from and whose fold is wanted.
fn examples(seen: &[Vec<Seen>], wanted: impl Fn(usize) -> bool) -> Vec<Example> {
    let mut found = Vec::new();
    for (set, seen) in seen.iter().enumerate() {
        let inside = seen.iter().filter(|s| learnt(s).is_some_and(&wanted));
        found.extend(inside.map(|s| Example { features: s.features, supported: s.supported, set }));
    }
    found
}

/// The fold of a pair that is learnt from.
fn learnt(seen: &Seen) -> Option<usize> {
    match seen.part {
        Part::Train(fold) => Some(fold),
        Part::HeldOut => None,
    }
}

/// For each set the weighted sums of its pairs that are learnt from, each by weights that have not seen its fold.
fn on_folds(seen: &[Vec<Seen>], penalty: f64) -> anyhow::Result<Vec<Vec<Judged>>> {
    let mut raw: Vec<Vec<Judged>> = vec![Vec::new(); seen.len()];
    for fold in 0..FOLDS {
        let model = fit(&examples(seen, |other| other != fold), seen.len(), penalty)?;
        for (set, raw) in seen.iter().zip(&mut raw) {
            let inside = set.iter().filter(|s| learnt(s) == Some(fold));
            raw.extend(inside.map(|s| (f64::from(model.raw(&s.features)), s.supported)));
        }
    }
    ensure!(raw.iter().all(|set| !set.is_empty()), "a set has no pair to learn from: give more data");
    Ok(raw)
}

/// Least of the probabilities at and above which precision is at least `aim` whatever higher one is taken, so that a
/// lucky dip further down does not count; the greatest of all when none reaches it. Rounded up to a hundredth.
fn threshold(judged: &[Judged], aim: f64) -> f32 {
    let mut found = 1.0;
    for hundredth in (50..100).rev() {
        let at = f64::from(hundredth) / 100.0;
        match at_threshold(judged, at).precision {
            Some(precision) if precision < aim => break,
            Some(_) => found = at,
            None => {}
        }
    }
    found as f32
}

fn dump(path: &Path, sets: &[PairSet], seen: &[Vec<Seen>]) -> anyhow::Result<()> {
    let place = || format!("cannot write {}", path.display());
    let mut out = BufWriter::new(File::create(path).with_context(place)?);
    for (set, seen) in sets.iter().zip(seen) {
        for (pair, seen) in set.pairs.iter().zip(seen) {
            let named: BTreeMap<&str, f32> = FEATURES.iter().copied().zip(seen.features).collect();
            let line = json!({
                "set": set.name, "fold": learnt(seen), "label": u8::from(pair.supported),
                "vetoed": seen.vetoed, "claim": pair.claim, "features": named,
            });
            writeln!(out, "{line}").with_context(place)?;
        }
    }
    out.flush().with_context(place)
}
