//! `bowerbird eval answers --queries`: what readers get when they ask, and whether a second check agrees.

#![expect(clippy::print_stdout, reason = "the output of a command line program")]

use std::path::Path;

use anyhow::{Context, ensure};
use bowerbird_answer::{FinishReason, Origin};
use serde::Serialize;

use super::measure::{Latency, latency};
use super::pairs::read_sets;
use super::second::{Second, SecondReport};
use crate::commands::ask::ask;
use crate::config::Config;
use crate::progress::{Bars, counting};
use crate::stack::{Parts, Stack};

/// The set whose claims are as short as sentences about posts: a threshold learnt on long documents says nothing here.
const JUDGED: &str = "begin-wow";
/// Longest file of questions, in lines.
const MAX_QUESTIONS: usize = 100_000;

/// What `--json` prints.
#[derive(Debug, Serialize)]
pub struct WrittenReport {
    /// Questions asked.
    pub queries: usize,
    /// Questions that got a refusal instead of an answer.
    pub refused: usize,
    /// Sentences sent.
    pub sentences: usize,
    /// Share of them that cite a post; 1 by construction.
    pub cited: f64,
    /// Where they come from, as shares of those sent.
    pub shares: Shares,
    /// Sentences that were drafted and then neither sent nor replaced.
    pub dropped: usize,
    /// Tokens the generator wrote for each second of the answers.
    pub tokens_per_second: f64,
    /// Milliseconds to the first checked sentence, search not included.
    pub first_sentence_ms: Latency,
    /// Milliseconds to the end.
    pub answer_ms: Latency,
    /// The check that had no part in writing, with its own error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second_check: Option<SecondReport>,
    /// Share of all sentences that it holds for supported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supported: Option<f64>,
    /// The generator's part when only its sentences of at least this probability are sent and the others are quoted.
    pub curve: Vec<Point>,
}

/// Shares of the sentences sent.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Shares {
    /// As the generator wrote them at first.
    pub generated: f64,
    /// As the generator wrote them the second time.
    pub regenerated: f64,
    /// Quoted because what the generator wrote failed the check.
    pub replaced: f64,
    /// Quoted because posts disagree.
    pub conflicting: f64,
    /// Quoted for other reasons: no time, or no model.
    pub quoted: f64,
}

/// A point of the curve.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Point {
    /// Least probability of a generated sentence.
    pub threshold: f32,
    /// Share of all sentences that the generator wrote.
    pub generated: f64,
    /// Mean probability of those: the precision that the check itself expects.
    pub expected_precision: f64,
    /// Share of those that the second check holds for supported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supported: Option<f64>,
}

/// A sentence that was sent.
struct Sent {
    generated: bool,
    probability: f32,
    second: Option<bool>,
}

/// Asks the questions of `queries` and prints the report.
pub async fn run(
    config: &Config,
    queries: &Path,
    data_dir: &Path,
    judged: Option<&Path>,
    json: bool,
) -> anyhow::Result<()> {
    let text =
        std::fs::read_to_string(queries).with_context(|| format!("cannot read {}", queries.display()))?;
    let questions: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    ensure!(
        (1..=MAX_QUESTIONS).contains(&questions.len()),
        "{} has {} questions, expected 1 to {MAX_QUESTIONS}, one a line",
        queries.display(),
        questions.len()
    );
    let mut second = match judged {
        None => None,
        Some(dir) => {
            let sets = read_sets(dir)?;
            let set = sets.iter().find(|set| set.name == JUDGED);
            let set = set.with_context(|| format!("{} has no {JUDGED}", dir.display()))?;
            Some(Second::learn(config, &set.pairs)?)
        }
    };
    let stack = Stack::open(config, data_dir, Parts { answer: true, ads: false }, &Bars::default()).await?;
    let report = measure(&stack, &questions, second.as_mut()).await?;
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

async fn measure(
    stack: &Stack,
    questions: &[&str],
    mut second: Option<&mut Second>,
) -> anyhow::Result<WrittenReport> {
    let bar = counting("asking", questions.len() as u64);
    let (mut sent, mut first, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    let (mut refused, mut cited) = (0, 0);
    let (mut generated, mut regenerated, mut replaced, mut conflicting, mut dropped) = (0, 0, 0, 0, 0);
    let mut tokens = 0;
    for question in questions {
        let (answer, _) =
            ask(stack, question, false).await.with_context(|| format!("asking {question:?}"))?;
        if let Some(error) = answer.error {
            return Err(error).with_context(|| format!("answering {question:?}"));
        }
        let usage = answer.summary.usage;
        refused += usize::from(answer.summary.finish_reason == FinishReason::RefusedNoEvidence);
        first.extend(usage.first_sentence_ms.map(|ms| ms as f64));
        whole.push(usage.total_ms as f64);
        generated += usage.generated;
        regenerated += usage.regenerated;
        replaced += usage.replaced;
        conflicting += usage.conflicting;
        dropped += usage.dropped;
        tokens += usage.generated_tokens;
        for sentence in &answer.sentences {
            cited += usize::from(!sentence.citations.is_empty());
            let quotes: Vec<&str> =
                sentence.citations.iter().map(|citation| citation.quote.as_str()).collect();
            let agrees =
                second.as_mut().map(|second| second.supports(sentence.claim(), &quotes)).transpose()?;
            sent.push(Sent {
                generated: sentence.origin == Origin::Generated,
                probability: sentence.probability,
                second: agrees,
            });
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let share = |n: usize| n as f64 / sent.len().max(1) as f64;
    let seconds = whole.iter().sum::<f64>() / 1e3;
    let counted = generated + regenerated + replaced + conflicting;
    Ok(WrittenReport {
        queries: questions.len(),
        refused,
        sentences: sent.len(),
        cited: share(cited),
        shares: Shares {
            generated: share(generated),
            regenerated: share(regenerated),
            replaced: share(replaced),
            conflicting: share(conflicting),
            quoted: share(sent.len().saturating_sub(counted)),
        },
        dropped,
        tokens_per_second: if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 },
        first_sentence_ms: latency(first),
        answer_ms: latency(whole),
        supported: agreed(&sent, |_| true),
        second_check: second.map(|second| second.report.clone()),
        curve: [0.0, 0.8, 0.85, 0.9, 0.95, 0.98]
            .into_iter()
            .map(|threshold| point(&sent, threshold))
            .collect(),
    })
}

/// Share that the second check agrees with of the sentences that `of` chooses.
fn agreed(sent: &[Sent], of: impl Fn(&Sent) -> bool) -> Option<f64> {
    let asked: Vec<bool> = sent.iter().filter(|one| of(one)).filter_map(|one| one.second).collect();
    let yes = asked.iter().filter(|yes| **yes).count();
    (!asked.is_empty()).then(|| yes as f64 / asked.len() as f64)
}

fn point(sent: &[Sent], threshold: f32) -> Point {
    let kept = |one: &Sent| one.generated && one.probability >= threshold;
    let probabilities: Vec<f64> =
        sent.iter().filter(|one| kept(one)).map(|one| f64::from(one.probability)).collect();
    Point {
        threshold,
        generated: probabilities.len() as f64 / sent.len().max(1) as f64,
        expected_precision: probabilities.iter().sum::<f64>() / probabilities.len().max(1) as f64,
        supported: agreed(sent, kept),
    }
}

fn print(report: &WrittenReport) {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let WrittenReport { queries, refused, sentences, dropped, .. } = report;
    println!("{queries} questions, {refused} refused; {sentences} sentences, {dropped} dropped");
    println!("with a citation      {}", percent(report.cited));
    let shares = report.shares;
    println!(
        "generated {}, at the second try {}, replaced by a quotation {}, of posts that disagree {}, quoted {}",
        percent(shares.generated),
        percent(shares.regenerated),
        percent(shares.replaced),
        percent(shares.conflicting),
        percent(shares.quoted)
    );
    println!("tokens per second    {:.1}", report.tokens_per_second);
    for (name, ms) in [("first sentence", &report.first_sentence_ms), ("whole answer", &report.answer_ms)] {
        println!("{name:<20} p50 {:.0} ms, p95 {:.0} ms, p99 {:.0} ms", ms.p50, ms.p95, ms.p99);
    }
    if let (Some(second), Some(supported)) = (&report.second_check, report.supported) {
        println!(
            "supported            {} by the cosine of {} from {:.3} on, which had no part in the answers; itself: AUROC \
             {:.3}, precision {:.3}, recall {:.3} on {} held-out pairs",
            percent(supported),
            second.model,
            second.threshold,
            second.auroc,
            second.at_threshold.precision.unwrap_or(0.0),
            second.at_threshold.recall,
            second.pairs
        );
    }
    println!("{:>9} {:>11} {:>20} {:>22}", "from", "generated", "expected precision", "held by second check");
    for point in &report.curve {
        let held = point.supported.map_or_else(|| "-".to_owned(), percent);
        println!(
            "{:>9.2} {:>11} {:>20.3} {held:>22}",
            point.threshold,
            percent(point.generated),
            point.expected_precision
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_counts_what_is_left_to_the_generator() {
        let sent = |generated, probability, second| Sent { generated, probability, second: Some(second) };
        let all =
            [sent(true, 0.99, true), sent(true, 0.85, false), sent(false, 1.0, true), sent(false, 1.0, true)];
        let (low, high) = (point(&all, 0.8), point(&all, 0.9));
        assert!((low.generated - 0.5).abs() < 1e-9 && (high.generated - 0.25).abs() < 1e-9);
        assert_eq!((low.supported, high.supported), (Some(0.5), Some(1.0)));
        assert_eq!(agreed(&all, |_| true), Some(0.75));
        assert_eq!(point(&[], 0.8).supported, None);
    }
}
