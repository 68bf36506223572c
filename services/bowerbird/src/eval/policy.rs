//! Off-policy estimates against the truth, on logs of two policies that ran side by side.
//!
//! The data are laid out as the Open Bandit Dataset is (Saito, Aihara, Matsutani and Narita 2020, arXiv:2008.07146):
//! `POLICY/CAMPAIGN/CAMPAIGN.csv[.gz]`, one row an impression, with the columns `item_id`, `position`, `click` and
//! `propensity_score`. The click rate of each policy is estimated from the log of each other one and set beside the rate
//! that its own log shows.
//!
//! What another policy would have done is read from its own log: a single probability for all rows is an even choice;
//! otherwise the policy moved with time, and the shares of its choices at each position stand for it. Only choices are
//! taken from there, never clicks. The model of the doubly robust estimate is the click rate of an item, shrunk to the
//! mean, and fitted on the half of the log that it does not predict.
#![expect(clippy::print_stdout, reason = "the output of a command line program")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use bowerbird_ads::offpolicy::{Decision, Evaluation, Interval, evaluate};
use flate2::read::GzDecoder;
use serde::{Deserialize, Serialize};

use crate::cli::EvalPolicyArgs;

/// Impressions by which the click rate of an item is shrunk to the mean.
const SHRINKAGE: f64 = 200.0;
/// Clicks are rare, so that intervals are not symmetric.
const INTERVAL: Interval = Interval::Bootstrap { resamples: 1_000, seed: 1 };

/// One policy estimated from the log of another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Which campaign.
    pub campaign: String,
    /// The policy whose log is read.
    pub log: String,
    /// The policy that is estimated.
    pub policy: String,
    /// Click rate of `policy` in its own log.
    pub truth: f64,
    /// Of `truth`.
    pub truth_standard_error: f64,
    /// The estimates.
    pub estimates: Evaluation,
    /// Why no verdict is given, in words; empty if one is.
    pub refused: Vec<String>,
}

/// What `--json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Where the logs are.
    pub dataset: String,
    /// Every pair of policies of every campaign.
    pub comparisons: Vec<Comparison>,
}

/// Estimates every policy of the dataset from the log of every other.
pub fn run(args: &EvalPolicyArgs) -> anyhow::Result<()> {
    let report = report(&args.dataset)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    for found in &report.comparisons {
        let e = &found.estimates;
        println!(
            "{} · {} from the log of {}: {:.5} ± {:.5} in its own log",
            found.campaign, found.policy, found.log, found.truth, found.truth_standard_error
        );
        for (name, estimate) in [("IPS", e.ips), ("SNIPS", e.snips), ("DR", e.dr)] {
            println!(
                "  {name:<6} {:.5}  95 % interval {:.5} to {:.5}",
                estimate.value, estimate.low, estimate.high
            );
        }
        println!(
            "  {} decisions worth {:.0}, largest weight {:.1}, support {:.3}, match rate {:.4}",
            e.decisions, e.effective_sample, e.max_weight, e.support, e.match_rate
        );
        for reason in &found.refused {
            println!("  no verdict: {reason}");
        }
    }
    Ok(())
}

/// Reads the dataset in `dir` and compares.
pub fn report(dir: &Path) -> anyhow::Result<Report> {
    let policies = folders(dir)?;
    ensure!(policies.len() >= 2, "{}: expected a folder for each of two policies or more", dir.display());
    let mut logs: BTreeMap<String, BTreeMap<String, Vec<Row>>> = BTreeMap::new();
    for policy in &policies {
        for campaign in folders(&dir.join(policy))? {
            let rows = rows(&dir.join(policy).join(&campaign), &campaign)?;
            logs.entry(campaign).or_default().insert(policy.clone(), rows);
        }
    }
    let mut comparisons = Vec::new();
    for (campaign, logs) in &logs {
        for (log, rows) in logs {
            for (policy, own) in logs.iter().filter(|(policy, _)| *policy != log) {
                let estimates = evaluate(&decisions(rows, &Policy::of(own)), INTERVAL)
                    .with_context(|| format!("{campaign}: {policy} from the log of {log}"))?;
                let n = own.len() as f64;
                let truth = own.iter().filter(|row| row.click).count() as f64 / n;
                comparisons.push(Comparison {
                    campaign: campaign.clone(),
                    log: log.clone(),
                    policy: policy.clone(),
                    truth,
                    truth_standard_error: (truth * (1.0 - truth) / n).sqrt(),
                    refused: estimates.refusals.iter().map(ToString::to_string).collect(),
                    estimates,
                });
            }
        }
    }
    ensure!(!comparisons.is_empty(), "{}: no campaign has the logs of two policies", dir.display());
    Ok(Report { dataset: dir.display().to_string(), comparisons })
}

/// One impression.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Row {
    #[serde(rename = "item_id")]
    item: u32,
    position: u32,
    #[serde(deserialize_with = "zero_or_one")]
    click: bool,
    #[serde(rename = "propensity_score")]
    propensity: f64,
}

fn zero_or_one<'de, D: serde::Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    match u8::deserialize(from)? {
        0 => Ok(false),
        1 => Ok(true),
        found => Err(serde::de::Error::custom(format!("click is {found}, expected 0 or 1"))),
    }
}

fn folders(dir: &Path) -> anyhow::Result<Vec<String>> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("--dataset {}", dir.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir()
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn rows(dir: &Path, campaign: &str) -> anyhow::Result<Vec<Row>> {
    let plain = dir.join(format!("{campaign}.csv"));
    let packed = dir.join(format!("{campaign}.csv.gz"));
    let (path, reader): (PathBuf, Box<dyn Read>) = if plain.exists() {
        let file = File::open(&plain).with_context(|| plain.display().to_string())?;
        (plain, Box::new(file))
    } else {
        let file = File::open(&packed).with_context(|| packed.display().to_string())?;
        (packed, Box::new(GzDecoder::new(file)))
    };
    let mut rows = Vec::new();
    for (at, row) in csv::Reader::from_reader(reader).into_deserialize().enumerate() {
        let row: Row = row.with_context(|| format!("{} row {}", path.display(), at + 1))?;
        rows.push(row);
    }
    ensure!(rows.len() >= 2, "{}: expected at least 2 rows, found {}", path.display(), rows.len());
    Ok(rows)
}

/// What a policy chooses at each position, on average over its log.
enum Policy {
    /// Each item with this probability.
    Even(f64),
    /// Shares of the items by position.
    Shares(BTreeMap<u32, BTreeMap<u32, f64>>),
}

impl Policy {
    fn of(log: &[Row]) -> Self {
        let first = log[0].propensity;
        if log.iter().all(|row| (row.propensity - first).abs() < 1e-9) {
            return Self::Even(first);
        }
        let mut shares: BTreeMap<u32, BTreeMap<u32, f64>> = BTreeMap::new();
        for row in log {
            *shares.entry(row.position).or_default().entry(row.item).or_default() += 1.0;
        }
        for items in shares.values_mut() {
            let total: f64 = items.values().sum();
            for share in items.values_mut() {
                *share /= total;
            }
        }
        Self::Shares(shares)
    }

    fn chooses(&self, item: u32, position: u32) -> f64 {
        match self {
            Self::Even(share) => *share,
            Self::Shares(shares) => {
                shares.get(&position).and_then(|items| items.get(&item)).copied().unwrap_or(0.0)
            }
        }
    }
}

/// The log as `policy` sees it.
fn decisions(log: &[Row], policy: &Policy) -> Vec<Decision> {
    let items: BTreeSet<u32> = log.iter().map(|row| row.item).collect();
    let positions: BTreeSet<u32> = log.iter().map(|row| row.position).collect();
    // Rows in turn: even ones are predicted from odd ones, and the other way round.
    let models = [Model::fit(log, 1), Model::fit(log, 0)];
    let expected: Vec<BTreeMap<u32, f64>> = models
        .iter()
        .map(|model| {
            let expect = |position: &u32| -> f64 {
                items.iter().map(|item| policy.chooses(*item, *position) * model.rate(*item)).sum()
            };
            positions.iter().map(|position| (*position, expect(position))).collect()
        })
        .collect();
    // What the log never chose anywhere, it could not have chosen.
    let supported: BTreeMap<u32, f64> = positions
        .iter()
        .map(|position| {
            let share: f64 = items.iter().map(|item| policy.chooses(*item, *position)).sum();
            (*position, share.min(1.0))
        })
        .collect();
    log.iter()
        .enumerate()
        .map(|(at, row)| Decision {
            reward: f64::from(u8::from(row.click)),
            logged: row.propensity,
            target: policy.chooses(row.item, row.position),
            predicted: models[at % 2].rate(row.item),
            predicted_target: expected[at % 2][&row.position],
            supported: supported[&row.position],
        })
        .collect()
}

/// Click rates of items.
struct Model {
    mean: f64,
    /// Impressions and clicks.
    items: BTreeMap<u32, (f64, f64)>,
}

impl Model {
    /// From every second row of `log`, beginning with `from`.
    fn fit(log: &[Row], from: usize) -> Self {
        let mut items: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
        let (mut seen, mut clicks) = (0.0, 0.0);
        for row in log.iter().skip(from).step_by(2) {
            let item = items.entry(row.item).or_default();
            item.0 += 1.0;
            seen += 1.0;
            if row.click {
                item.1 += 1.0;
                clicks += 1.0;
            }
        }
        Self { mean: if seen > 0.0 { clicks / seen } else { 0.0 }, items }
    }

    fn rate(&self, item: u32) -> f64 {
        let (seen, clicks) = self.items.get(&item).copied().unwrap_or((0.0, 0.0));
        (clicks + SHRINKAGE * self.mean) / (seen + SHRINKAGE)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    /// Four items with click rates of 2, 4, 6 and 8 %, one log of an even choice and one that prefers the last.
    #[test]
    fn each_policy_is_found_in_the_log_of_the_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let clicks_of = [2, 4, 6, 8];
        for (policy, shares) in [("even", [25, 25, 25, 25]), ("fond", [10, 20, 30, 40])] {
            let mut text = "item_id,position,click,propensity_score\n".to_owned();
            // Every item with its share of 100 blocks, and in each block its clicks of 100.
            for (item, share) in shares.into_iter().enumerate() {
                for block in 0..share {
                    for n in 0..100 {
                        let click = u8::from(n < clicks_of[item]);
                        // The second policy's probability moves a little, as that of one that learns.
                        let wobble = if policy == "fond" { [0.999, 1.001][block % 2] } else { 1.0 };
                        let propensity = share as f64 / 100.0 * wobble;
                        writeln!(text, "{item},1,{click},{propensity}").expect("written");
                    }
                }
            }
            let folder = dir.path().join(policy).join("shop");
            std::fs::create_dir_all(&folder).expect("created");
            std::fs::write(folder.join("shop.csv"), text).expect("written");
        }
        let report = report(dir.path()).expect("reads");
        let pairs: Vec<_> = report.comparisons.iter().map(|c| (c.log.as_str(), c.policy.as_str())).collect();
        assert_eq!(pairs, [("even", "fond"), ("fond", "even")]);
        for found in &report.comparisons {
            let e = &found.estimates;
            for estimate in [e.ips, e.snips, e.dr] {
                assert!((estimate.value - found.truth).abs() < 3e-4, "{estimate:?} {}", found.truth);
                assert!(estimate.covers(found.truth));
            }
            assert!(found.refused.is_empty() && e.support > 0.99, "{e:?}");
        }
    }

    #[test]
    fn folders_without_two_policies_are_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(dir.path().join("only/shop")).expect("created");
        let error = report(dir.path()).expect_err("refused").to_string();
        assert!(error.contains("two policies"), "{error}");
        std::fs::create_dir_all(dir.path().join("other/shop")).expect("created");
        let rows = "item_id,position,click,propensity_score\n0,1,2,0.5\n";
        std::fs::write(dir.path().join("only/shop/shop.csv"), rows).expect("written");
        let error = format!("{:#}", report(dir.path()).expect_err("refused"));
        assert!(error.contains("row 1") && error.contains("expected 0 or 1"), "{error}");
    }

    /// On the published logs of two policies, 10,000 impressions each with about 45 clicks.
    #[test]
    #[expect(clippy::print_stderr, reason = "says that it was skipped")]
    fn published_logs() {
        let data =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/ads/open-bandit-dataset-small");
        if !data.exists() {
            eprintln!("skipped: {} is absent", data.display());
            return;
        }
        let report = report(&data).expect("reads");
        assert_eq!(report.comparisons.len(), 6);
        for found in &report.comparisons {
            let e = &found.estimates;
            assert_eq!(e.decisions, 10_000);
            // Wide intervals on both sides: the estimate and the truth may differ by both errors together.
            for estimate in [e.snips, e.dr] {
                let error = estimate.standard_error.hypot(found.truth_standard_error);
                assert!((estimate.value - found.truth).abs() < 3.0 * error, "{found:?}");
            }
            let overlap = e.effective_sample >= 1_000.0 && e.support >= 0.95;
            assert_eq!(found.refused.is_empty(), overlap);
        }
    }
}
