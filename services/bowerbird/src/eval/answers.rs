//! `bowerbird eval answers`: how well the support check tells what evidence supports from what it does not.

#![expect(clippy::print_stdout, reason = "the output of a command line program")]

use std::collections::BTreeMap;

use anyhow::Context;
use bowerbird_answer::support::{FEATURES, Scores, SupportModel, features};
use bowerbird_answer::{AnswerConfig, Limits, Verdict, check};
use serde::{Deserialize, Serialize};

use super::binary::{
    AtThreshold, Judged, RiskCoverage, at_threshold, auroc, brier, calibration_error, risk_coverage,
};
use super::pairs::{Pair, PairSet, Part, read_file, read_sets};
use super::scored::Scorer;
use super::written;
use crate::cli::EvalAnswersArgs;
use crate::config::Config;
use crate::progress::Bars;
use crate::stack::{Parts, load_models};

/// A judged pair as the check sees it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What the classifier reads.
    pub features: [f32; FEATURES.len()],
    /// What the models say.
    pub scores: Scores,
    /// Whether a hard rule speaks against it.
    pub vetoed: bool,
    /// Whether the evidence supports it.
    pub supported: bool,
    /// What it may be used for.
    pub part: Part,
}

/// Figures of one set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SetReport {
    /// Pairs measured.
    pub pairs: usize,
    /// Those that their evidence supports.
    pub supported: usize,
    /// SHA-256 of the data files.
    pub sha256: String,
    /// Area under the ROC curve of the probability without vetoes.
    pub auroc: f64,
    /// The probability alone at the threshold.
    pub probability: AtThreshold,
    /// The verdict of the check: the same threshold, and no hard rule broken.
    pub verdict: AtThreshold,
    /// Mean squared error of the probability.
    pub brier: f64,
    /// Mean distance of probability and outcome over ten bands.
    pub calibration_error: f64,
    /// What simpler scores reach.
    pub baselines: Baselines,
    /// Precision when only the most probable are taken.
    pub risk_coverage: Vec<RiskCoverage>,
}

/// Areas under the ROC curve of one score alone.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Baselines {
    /// Cosine of claim and evidence; the better of whole window and nearest sentences.
    pub embedding: Baseline,
    /// Cross-encoder logit, claim as query; the better of whole window and nearest sentences.
    pub cross_encoder: Baseline,
}

/// One baseline.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Baseline {
    /// Area under the ROC curve.
    pub auroc: f64,
}

/// What `--json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Pairs measured.
    pub pairs: usize,
    /// Mean over the sets.
    pub auroc: f64,
    /// Least probability of a supported sentence.
    pub threshold: f32,
    /// Of the verdict, over all pairs; absent when nothing is supported.
    pub precision: Option<f64>,
    /// Of the verdict, over all pairs.
    pub recall: f64,
    /// Means over the sets.
    pub baselines: Baselines,
    /// Each set.
    pub sets: BTreeMap<String, SetReport>,
}

/// Runs `bowerbird eval answers`.
pub async fn run(config: &Config, args: EvalAnswersArgs) -> anyhow::Result<()> {
    if let (Some(queries), Some(data_dir)) = (&args.queries, &args.data_dir) {
        return written::run(config, queries, data_dir, args.data.as_deref(), args.json).await;
    }
    let mut sets = match (&args.data, &args.dataset) {
        (Some(dir), _) => read_sets(dir)?,
        (None, Some(file)) => vec![read_file(file)?],
        (None, None) => anyhow::bail!("name the data: --data DIR or --dataset FILE"),
    };
    for set in &mut sets {
        set.pairs.retain(|pair| pair.part == Part::HeldOut);
    }
    let models = load_models(config, Parts::SEARCH, &Bars::default())?;
    let scorer = Scorer::new(models.encoders, args.scores.as_deref())?;
    let mut seen = Vec::with_capacity(sets.len());
    for set in &sets {
        seen.push(see(&scorer, set).await?);
    }
    let report = report(&sets, &seen, SupportModel::shipped(), config.answer.compose.supported_from)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

/// Every pair of a set as the check sees it.
pub async fn see(scorer: &Scorer, set: &PairSet) -> anyhow::Result<Vec<Seen>> {
    let scored = scorer.score(&set.name, &set.pairs).await?;
    let one = |(pair, (alignment, scores)): (&Pair, &(_, Scores))| Seen {
        features: features(alignment, scores),
        scores: *scores,
        vetoed: vetoed(pair, scores),
        supported: pair.supported,
        part: pair.part,
    };
    Ok(set.pairs.iter().zip(&scored).map(one).collect())
}

/// Whether a hard rule speaks against a pair, whatever its probability.
fn vetoed(pair: &Pair, scores: &Scores) -> bool {
    let evidence: Vec<&str> = pair.evidence.iter().map(String::as_str).collect();
    let limits = Limits { supported_from: 0.0, partial_from: 0.0, ..Limits::from(&AnswerConfig::default()) };
    check(&pair.claim, &evidence, Some(scores), &limits).verdict != Verdict::Supported
}

/// Figures of `seen` (one list a set) with these weights at this threshold.
pub fn report(
    sets: &[PairSet],
    seen: &[Vec<Seen>],
    model: &SupportModel,
    threshold: f32,
) -> anyhow::Result<Report> {
    let mut reports = BTreeMap::new();
    let mut verdicts: Vec<Judged> = Vec::new();
    for (set, seen) in sets.iter().zip(seen) {
        let report = set_report(set, seen, model, threshold)
            .with_context(|| format!("{} has nothing held out, or only one label in it", set.name))?;
        reports.insert(set.name.clone(), report);
        verdicts.extend(seen.iter().map(|s| judged_verdict(s, model)));
    }
    let mean = |figure: fn(&SetReport) -> f64| {
        reports.values().map(figure).sum::<f64>() / reports.len().max(1) as f64
    };
    let at = at_threshold(&verdicts, f64::from(threshold));
    Ok(Report {
        pairs: verdicts.len(),
        auroc: mean(|r| r.auroc),
        threshold,
        precision: at.precision,
        recall: at.recall,
        baselines: Baselines {
            embedding: Baseline { auroc: mean(|r| r.baselines.embedding.auroc) },
            cross_encoder: Baseline { auroc: mean(|r| r.baselines.cross_encoder.auroc) },
        },
        sets: reports,
    })
}

fn judged_verdict(seen: &Seen, model: &SupportModel) -> Judged {
    let probability = if seen.vetoed { -1.0 } else { f64::from(model.probability(&seen.features)) };
    (probability, seen.supported)
}

fn set_report(set: &PairSet, seen: &[Seen], model: &SupportModel, threshold: f32) -> Option<SetReport> {
    let judged = |score: &dyn Fn(&Seen) -> f32| -> Vec<Judged> {
        seen.iter().map(|s| (f64::from(score(s)), s.supported)).collect()
    };
    let better = |a: Vec<Judged>, b: Vec<Judged>| Some(Baseline { auroc: auroc(&a)?.max(auroc(&b)?) });
    let probabilities = judged(&|s| model.probability(&s.features));
    let verdicts: Vec<Judged> = seen.iter().map(|s| judged_verdict(s, model)).collect();
    Some(SetReport {
        pairs: seen.len(),
        supported: seen.iter().filter(|s| s.supported).count(),
        sha256: set.sha256.clone(),
        auroc: auroc(&probabilities)?,
        probability: at_threshold(&probabilities, f64::from(threshold)),
        verdict: at_threshold(&verdicts, f64::from(threshold)),
        brier: brier(&probabilities),
        calibration_error: calibration_error(&probabilities),
        baselines: Baselines {
            embedding: better(judged(&|s| s.scores.cosine), judged(&|s| s.scores.cosine_near))?,
            cross_encoder: better(judged(&|s| s.scores.whole), judged(&|s| s.scores.forward))?,
        },
        risk_coverage: risk_coverage(&probabilities),
    })
}

/// The report as a table.
pub fn print(report: &Report) {
    println!(
        "{:<20} {:>6} {:>6} {:>6} {:>9} {:>9} {:>15} {:>15} {:>6} {:>6}",
        "set", "pairs", "yes", "AUROC", "embedding", "cross-enc", "P / R", "P / R, vetoes", "Brier", "ECE"
    );
    let share = |x: Option<f64>| x.map_or_else(|| "-".to_owned(), |x| format!("{x:.3}"));
    for (name, set) in &report.sets {
        let both = |at: &AtThreshold| format!("{} / {:.3}", share(at.precision), at.recall);
        println!(
            "{name:<20} {:>6} {:>6} {:>6.3} {:>9.3} {:>9.3} {:>15} {:>15} {:>6.3} {:>6.3}",
            set.pairs,
            set.supported,
            set.auroc,
            set.baselines.embedding.auroc,
            set.baselines.cross_encoder.auroc,
            both(&set.probability),
            both(&set.verdict),
            set.brier,
            set.calibration_error,
        );
    }
    println!(
        "{:<20} {:>6} {:>6} {:>6.3} {:>9.3} {:>9.3} {:>15} {:>15}",
        "all (means of AUROC)",
        report.pairs,
        report.sets.values().map(|set| set.supported).sum::<usize>(),
        report.auroc,
        report.baselines.embedding.auroc,
        report.baselines.cross_encoder.auroc,
        "",
        format!("{} / {:.3}", share(report.precision), report.recall),
    );
    println!(
        "threshold {}; P precision, R recall at it; ECE calibration error over ten bands",
        report.threshold
    );
    println!("precision when only the most probable share is taken:");
    for (name, set) in &report.sets {
        let points =
            set.risk_coverage.iter().map(|p| format!("{:.0} %: {:.3}", p.coverage * 100.0, p.precision));
        println!("{name:<20} {}", points.collect::<Vec<_>>().join("  "));
    }
}
