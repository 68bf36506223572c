//! `bowerbird eval clicks`: the click model against worlds whose truth is known.

#![expect(clippy::print_stdout, reason = "the output of a command line program")]

use bowerbird_ads::click::ClickConfig;
use bowerbird_ads::click::measure::{ClickFigures, Run, measure, winners_curse};
use serde::Serialize;

use crate::cli::EvalClicksArgs;

/// Bidders of the two worlds.
const BIDDERS: [usize; 2] = [5, 20];
/// Auctions for the winner's curse without a model.
const CURSE_AUCTIONS: usize = 200_000;

/// A figure and the bounds within which it must lie.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What is measured.
    pub name: String,
    /// What was found.
    pub figure: f64,
    /// Least.
    pub from: f64,
    /// Most.
    pub to: f64,
    /// Whether it lies between.
    pub pass: bool,
}

/// What `--json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether every check passed.
    pub pass: bool,
    /// One line each.
    pub checks: Vec<Check>,
    /// Everything that was measured, by number of bidders; then with the second slot looked at less than is believed.
    pub runs: Vec<ClickFigures>,
}

/// Runs `bowerbird eval clicks`; an error when a check fails.
pub fn run(args: &EvalClicksArgs) -> anyhow::Result<()> {
    let run = |bidders, auctions, second_slot| Run {
        auctions,
        bidders,
        seed: args.seed,
        config: ClickConfig::default(),
        second_slot,
        naive: false,
    };
    let auctions = args.auctions as usize;
    let mut report = Report { pass: true, checks: Vec::new(), runs: Vec::new() };
    for bidders in BIDDERS {
        let found = measure(&run(bidders, auctions, 0.6)).map_err(anyhow::Error::msg)?;
        checks(&mut report.checks, &found);
        report.runs.push(found);
    }
    let found = measure(&run(BIDDERS[0], auctions / 2, 0.4)).map_err(anyhow::Error::msg)?;
    let ratio = found.second_slot.0 / found.second_slot.1;
    check(&mut report.checks, "second slot believed .6, truly .4: found by true".into(), ratio, (0.9, 1.1));
    report.runs.push(found);
    for bidders in BIDDERS {
        let (naive, fixed) = winners_curse(CURSE_AUCTIONS, bidders, 0.3, args.seed);
        let name = format!("winner's curse, {bidders} bidders, noise .3");
        check(&mut report.checks, format!("{name}: as estimated"), naive, (1.08, 1.5));
        check(&mut report.checks, format!("{name}: calibrated on winners"), fixed, (0.95, 1.05));
    }
    report.pass = report.checks.iter().all(|check| check.pass);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    anyhow::ensure!(report.pass, "a check failed");
    Ok(())
}

fn check(checks: &mut Vec<Check>, name: String, figure: f64, (from, to): (f64, f64)) {
    checks.push(Check { name, figure, from, to, pass: (from..=to).contains(&figure) });
}

fn checks(checks: &mut Vec<Check>, found: &ClickFigures) {
    let mut add = |name: &str, figure: f64, bounds| {
        check(checks, format!("{} bidders: {name}", found.bidders), figure, bounds);
    };
    let score = |name: &str| found.scores[name];
    add("predicted by true clicks of winners", found.pcoc, (0.97, 1.03));
    for (at, pcoc) in found.pcoc_deciles.iter().enumerate() {
        add(&format!("the same, decile {}", at + 1), *pcoc, (0.9, 1.1));
    }
    add("normalised entropy", score("model").normalised_entropy, (0.0, 1.0));
    add(
        "log loss by that of shrunk counts",
        score("model").log_loss / score("counts").log_loss,
        (0.0, 0.999),
    );
    add("log loss by that of the prior", score("model").log_loss / score("prior").log_loss, (0.0, 0.999));
    add("AUC above that of shrunk counts", score("model").auc - score("counts").auc, (0.0, 0.5));
    add("AUC above that of the prior", score("model").auc - score("prior").auc, (0.0, 0.5));
    add(
        "cold start by that of a model blind to relevance",
        found.cold_start["model"] / found.cold_start["blind"],
        (0.0, 0.999),
    );
    add("second slot by true", found.second_slot.0 / found.second_slot.1, (0.9, 1.1));
    add("microseconds for 32 estimates", 32.0 * found.estimate_us, (0.0, 1000.0));
}

fn print(report: &Report) {
    for check in &report.checks {
        let mark = if check.pass { "ok  " } else { "FAIL" };
        println!("{mark} {:<66} {:>8.3}  within {} to {}", check.name, check.figure, check.from, check.to);
    }
    for run in &report.runs {
        println!(
            "{} bidders, {} auctions, {} impressions judged",
            run.bidders, run.auctions, run.impressions
        );
        for (name, score) in &run.scores {
            println!(
                "  {name:<8} AUC {:.4}  log loss {:.4}  normalised entropy {:.4}",
                score.auc, score.log_loss, score.normalised_entropy
            );
        }
        println!(
            "  predicted by true: in use {:.3}, raw {:.3}, shrunk counts {:.3}; raw on all who bid {:.3}",
            run.pcoc, run.pcoc_raw, run.pcoc_counts, run.pcoc_raw_candidates
        );
        let cold: Vec<String> = run.cold_start.iter().map(|(name, off)| format!("{name} {off:.2}")).collect();
        println!("  divergence over a new ad's first 100 impressions, 1/1000 nat: {}", cold.join(", "));
        println!(
            "  welfare {:.4} of the best; {:.2} standard errors off; {:.1} us an estimate, {:.1} us an example",
            run.welfare, run.standard_error, run.estimate_us, run.learn_us
        );
    }
}
