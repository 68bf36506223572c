//! `bowerbird eval safety`: how well list and classifier tell where no ad belongs.

#![expect(clippy::print_stdout, reason = "the output of a command line program")]

use std::collections::BTreeMap;

use anyhow::Context;
use bowerbird_ads::safety::{Cause, Classifier, Safety, Verdict, judged_posts};
use bowerbird_ads::sensitive_term;
use bowerbird_models_api::Embedding;
use serde::Serialize;

use super::binary::{Judged, at_threshold, auroc};
use super::labelled::{LABELS, Text, TextSet, Use, Vectors, demo_posts, read_sets};
use crate::cli::EvalSafetyArgs;
use crate::config::Config;
use crate::progress::Bars;
use crate::stack::{Parts, load_models};

/// How well a yes or no agrees with the labels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// Share of what is refused that is unsafe; absent when nothing is.
    pub precision: Option<f64>,
    /// Share of the unsafe that is refused.
    pub recall: f64,
    /// Harmonic mean of the two; 0 without precision.
    pub f1: f64,
    /// Share of the safe that is refused.
    pub false_positive_rate: f64,
}

/// One label on one set.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LabelReport {
    /// Area under the ROC curve.
    pub auc: f64,
    /// At the label's threshold.
    #[serde(flatten)]
    pub at_threshold: Agreement,
}

/// Figures of one set.
#[derive(Clone, Debug, Serialize)]
pub struct SetReport {
    /// Texts measured.
    pub texts: usize,
    /// Those with any label.
    pub r#unsafe: usize,
    /// SHA-256 of the data file.
    pub sha256: String,
    /// Each label the set knows.
    pub labels: BTreeMap<&'static str, LabelReport>,
    /// The word list alone, against any label.
    pub list: Agreement,
    /// The classifier alone, against any label.
    pub classifier: Agreement,
    /// Both, as they judge together.
    pub judge: Agreement,
}

/// Verdicts on posts written by hand.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PostsReport {
    /// Posts that must stay free of ads.
    pub r#unsafe: usize,
    /// Of those, what the list refuses.
    pub refused_by_list: usize,
    /// Of those, what list and classifier refuse.
    pub refused: usize,
    /// Those not seen when the list was written, and what is refused of them.
    pub fresh: usize,
    /// What is refused of these.
    pub fresh_refused: usize,
    /// Of all unsafe ones, what is not refused.
    pub missed: Vec<String>,
    /// Posts that may have ads.
    pub safe: usize,
    /// Of those, what is refused, with the cause.
    pub wrongly_refused: Vec<String>,
}

/// Verdicts on texts nobody labelled.
#[derive(Clone, Debug, Default, Serialize)]
pub struct UnlabelledReport {
    /// How many.
    pub texts: usize,
    /// Refused by the list.
    pub by_list: usize,
    /// Refused by the classifier alone.
    pub by_classifier: usize,
    /// The first of these, with the cause.
    pub examples: Vec<String>,
}

/// What `--json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Least probability of each label.
    pub thresholds: BTreeMap<String, f32>,
    /// Held-out part of each set.
    pub sets: BTreeMap<&'static str, SetReport>,
    /// Posts written by hand.
    pub posts: PostsReport,
    /// With `--texts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unlabelled: Option<UnlabelledReport>,
}

/// Runs `bowerbird eval safety`.
pub async fn run(config: &Config, args: EvalSafetyArgs) -> anyhow::Result<()> {
    let mut sets = read_sets(&args.data)?;
    if let Some(path) = &args.posts {
        sets.push(demo_posts(path)?);
    }
    let models = load_models(config, Parts::SEARCH, &Bars::default())?;
    let vectors = Vectors::new(models.encoders, args.vectors.as_deref())?;
    let own = match &args.weights {
        None => None,
        Some(path) => {
            let place = || format!("cannot use {}", path.display());
            let json = std::fs::read_to_string(path).with_context(place)?;
            Some(Classifier::from_json(&json).and_then(Safety::new).with_context(place)?)
        }
    };
    let safety = own.as_ref().unwrap_or(Safety::shipped());
    let mut report = Report {
        thresholds: safety
            .classifier()
            .labels
            .iter()
            .map(|label| (label.name.clone(), label.threshold))
            .collect(),
        sets: BTreeMap::new(),
        posts: posts(safety, &vectors).await?,
        unlabelled: None,
    };
    for set in &sets {
        let held_out: Vec<&Text> = set.texts.iter().filter(|text| text.part == Use::HeldOut).collect();
        let texts: Vec<&str> = held_out.iter().map(|text| text.text.as_str()).collect();
        let found = vectors.of(set.name, &texts).await?;
        report.sets.insert(set.name, judged_set(safety, set, &held_out, &found)?);
    }
    if let Some(path) = &args.texts {
        let all = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        report.unlabelled = Some(unlabelled(safety, &vectors, &all).await?);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

/// Figures of texts with their vectors.
pub fn judged_set(
    safety: &Safety,
    set: &TextSet,
    texts: &[&Text],
    vectors: &[Embedding],
) -> anyhow::Result<SetReport> {
    let mut labels = BTreeMap::new();
    for (at, name) in LABELS.into_iter().enumerate() {
        let Some(label) = safety.classifier().labels.iter().find(|label| label.name == name) else {
            continue;
        };
        let judged: Vec<Judged> = texts
            .iter()
            .zip(vectors)
            .filter_map(|(text, vector)| {
                Some((f64::from(label.probability(vector.as_slice())), text.labels[at]?))
            })
            .collect();
        if let Some(auc) = auroc(&judged) {
            let at_threshold = agreement(&judged, f64::from(label.threshold));
            labels.insert(name, LabelReport { auc, at_threshold });
        }
    }
    let by = |refused: &dyn Fn(&Text, &Embedding) -> bool| {
        let judged: Vec<Judged> = texts
            .iter()
            .zip(vectors)
            .map(|(text, vector)| (f64::from(u8::from(refused(text, vector))), text.is_unsafe()))
            .collect();
        agreement(&judged, 0.5)
    };
    Ok(SetReport {
        texts: texts.len(),
        r#unsafe: texts.iter().filter(|text| text.is_unsafe()).count(),
        sha256: set.sha256.clone(),
        labels,
        list: by(&|text, _| sensitive_term(&text.text).is_some()),
        // A text without words of the list leaves the classifier alone.
        classifier: by(&|_, vector| safety.judge("text", Some(vector)) != Verdict::Safe),
        judge: by(&|text, vector| safety.judge(&text.text, Some(vector)) != Verdict::Safe),
    })
}

/// Precision, recall, F1 and false positives of "at least `threshold`".
fn agreement(judged: &[Judged], threshold: f64) -> Agreement {
    let at = at_threshold(judged, threshold);
    let safe = judged.iter().filter(|(_, yes)| !yes).count();
    let wrong = judged.iter().filter(|(score, yes)| !yes && *score >= threshold).count();
    let precision = at.precision.unwrap_or(0.0);
    let sum = precision + at.recall;
    Agreement {
        precision: at.precision,
        recall: at.recall,
        f1: if sum > 0.0 { 2.0 * precision * at.recall / sum } else { 0.0 },
        false_positive_rate: wrong as f64 / safe.max(1) as f64,
    }
}

async fn posts(safety: &Safety, vectors: &Vectors) -> anyhow::Result<PostsReport> {
    let posts: Vec<_> = judged_posts().collect();
    let texts: Vec<&str> = posts.iter().map(|post| post.text).collect();
    let mut report = PostsReport::default();
    for (post, vector) in posts.iter().zip(vectors.of("posts written by hand", &texts).await?) {
        let verdict = safety.judge(post.text, Some(&vector));
        match (post.is_unsafe, verdict) {
            (true, verdict) => {
                report.r#unsafe += 1;
                report.fresh += usize::from(post.fresh);
                report.fresh_refused += usize::from(post.fresh && verdict != Verdict::Safe);
                report.refused_by_list += usize::from(sensitive_term(post.text).is_some());
                if verdict == Verdict::Safe {
                    report.missed.push(format!("{}: {}", post.subject, post.text));
                } else {
                    report.refused += 1;
                }
            }
            (false, verdict) => {
                report.safe += 1;
                if let Verdict::Unsafe(cause) = verdict {
                    report.wrongly_refused.push(format!("{cause}: {}", post.text));
                }
            }
        }
    }
    Ok(report)
}

/// One text a line.
async fn unlabelled(safety: &Safety, vectors: &Vectors, all: &str) -> anyhow::Result<UnlabelledReport> {
    let texts: Vec<&str> = all.lines().filter(|line| !line.trim().is_empty()).collect();
    let mut report = UnlabelledReport { texts: texts.len(), ..UnlabelledReport::default() };
    for (text, vector) in texts.iter().zip(vectors.of("texts", &texts).await?) {
        match safety.judge(text, Some(&vector)) {
            Verdict::Unsafe(Cause::List { .. }) => report.by_list += 1,
            Verdict::Unsafe(cause) => {
                report.by_classifier += 1;
                if report.examples.len() < 50 {
                    report.examples.push(format!("{cause}: {text}"));
                }
            }
            Verdict::Safe => {}
        }
    }
    Ok(report)
}

fn print(report: &Report) {
    let line = |name: &str, a: &Agreement| {
        let precision = a.precision.map_or("-".into(), |p| format!("{p:.3}"));
        println!(
            "  {name:<12} precision {precision}  recall {:.3}  F1 {:.3}  false positives {:.3}",
            a.recall, a.f1, a.false_positive_rate
        );
    };
    for (name, set) in &report.sets {
        println!("{name}: {} texts held out, {} unsafe", set.texts, set.r#unsafe);
        for (label, found) in &set.labels {
            line(label, &found.at_threshold);
            println!("  {:<12} AUC {:.3}, threshold {:.2}", "", found.auc, report.thresholds[*label]);
        }
        line("list", &set.list);
        line("classifier", &set.classifier);
        line("both", &set.judge);
    }
    let posts = &report.posts;
    println!(
        "posts written by hand: {} of {} unsafe refused ({} by the list; {} of {} fresh ones), {} of {} safe refused",
        posts.refused,
        posts.r#unsafe,
        posts.refused_by_list,
        posts.fresh_refused,
        posts.fresh,
        posts.wrongly_refused.len(),
        posts.safe
    );
    posts.missed.iter().for_each(|post| println!("  missed   {post}"));
    posts.wrongly_refused.iter().for_each(|post| println!("  refused  {post}"));
    if let Some(found) = &report.unlabelled {
        println!(
            "{} texts: {} refused by the list, {} by the classifier alone",
            found.texts, found.by_list, found.by_classifier
        );
        found.examples.iter().for_each(|text| println!("  {text}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_counts_both_kinds_of_error() {
        let judged = [(1.0, true), (0.0, true), (1.0, false), (0.0, false), (0.0, false), (0.0, false)];
        let found = agreement(&judged, 0.5);
        assert_eq!(found.precision, Some(0.5));
        assert!((found.recall - 0.5).abs() < 1e-12 && (found.f1 - 0.5).abs() < 1e-12);
        assert!((found.false_positive_rate - 0.25).abs() < 1e-12);
        assert!(agreement(&[(0.0, true)], 0.5).f1.abs() < 1e-12);
    }
}
