//! `bowerbird eval auction`: whether the auctions, the pacing and the estimators do what theory says.
//!
//! Nothing is read and no server is needed: markets with a known answer are simulated with fixed seeds, and every check
//! sets what the code did against that answer. One file a group of checks.
#![expect(clippy::print_stdout, reason = "the output of a command line program")]

mod market;
mod offpolicy;
mod pacing;
mod price;
mod replay;
mod revenue;
mod segment;
mod truth;
mod winners;

use serde::Serialize;

use crate::cli::EvalAuctionArgs;

/// Standard errors within which a simulated mean must meet its theory.
const STANDARD_ERRORS: f64 = 3.0;

/// One comparison of a figure with its bound.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// Group and subject.
    pub name: String,
    /// What was found.
    pub figure: f64,
    /// What it is compared with.
    pub bound: f64,
    /// How: `<=` or `>=`.
    pub relation: &'static str,
    /// Whether it holds.
    pub pass: bool,
    /// What the figure is, in words.
    pub what: String,
}

impl Check {
    /// `figure` must be at most `bound`.
    fn at_most(name: &str, figure: f64, bound: f64, what: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            figure,
            bound,
            relation: "<=",
            pass: figure <= bound,
            what: what.into(),
        }
    }

    /// `figure` must be at least `bound`.
    fn at_least(name: &str, figure: f64, bound: f64, what: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            figure,
            bound,
            relation: ">=",
            pass: figure >= bound,
            what: what.into(),
        }
    }

    /// There must be none of `found` among `of`, and `of` must not be empty: an empty comparison proves nothing.
    fn none(name: &str, found: usize, of: usize, what: &str) -> Self {
        let figure = if of == 0 { f64::from(u32::MAX) } else { found as f64 };
        Self::at_most(name, figure, 0.0, format!("{what}, of {of}"))
    }
}

/// What the whole battery found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Whether every check holds, and there is one.
    pub pass: bool,
    /// The checks.
    pub checks: Vec<Check>,
}

/// Runs every check; the same report each time.
pub fn battery() -> anyhow::Result<Report> {
    let mut checks = Vec::new();
    let groups: [fn() -> anyhow::Result<Vec<Check>>; 8] = [
        price::checks,
        truth::checks,
        revenue::checks,
        segment::checks,
        pacing::checks,
        winners::checks,
        offpolicy::checks,
        replay::checks,
    ];
    for group in groups {
        checks.extend(group()?);
    }
    Ok(Report { pass: !checks.is_empty() && checks.iter().all(|check| check.pass), checks })
}

/// Prints the report; an error when a check does not hold.
pub fn run(args: &EvalAuctionArgs) -> anyhow::Result<()> {
    let report = battery()?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        for Check { name, figure, bound, relation, pass, what } in &report.checks {
            let verdict = if *pass { "ok  " } else { "FAIL" };
            println!("{verdict} {name:<34} {figure:>12.6} {relation} {bound:<12} {what}");
        }
    }
    let failed = report.checks.iter().filter(|check| !check.pass).count();
    anyhow::ensure!(report.pass, "{failed} of {} checks of the auction failed", report.checks.len());
    Ok(())
}

/// Mean of simulated values, and how far it is from theory.
#[derive(Clone, Copy, Default)]
struct Mean {
    values: f64,
    sum: f64,
    squares: f64,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.values += 1.0;
        self.sum += value;
        self.squares += value * value;
    }

    fn mean(&self) -> f64 {
        self.sum / self.values
    }

    /// Distance from `theory` in standard errors, after `rounding` that is not chance.
    fn off(&self, theory: f64, rounding: f64) -> f64 {
        let variance = (self.squares / self.values - self.mean().powi(2)).max(0.0);
        let distance = ((self.mean() - theory).abs() - rounding).max(0.0);
        if distance > 0.0 { distance / (variance / self.values).sqrt() } else { 0.0 }
    }
}

/// Pearson's `χ²` of counts against probabilities.
fn chi_squared(counts: &[f64], probabilities: &[f64]) -> f64 {
    let draws: f64 = counts.iter().sum();
    counts.iter().zip(probabilities).map(|(count, p)| (count - draws * p).powi(2) / (draws * p)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_of_the_battery_holds() {
        let report = battery().expect("runs");
        assert!(report.checks.len() >= 30, "{} checks", report.checks.len());
        for check in &report.checks {
            assert!(check.figure.is_finite() && check.pass, "{check:?}");
        }
        assert!(report.pass);
    }

    #[test]
    fn a_check_of_nothing_fails() {
        assert!(!Check::none("x", 0, 0, "differences").pass);
        assert!(Check::none("x", 0, 1, "differences").pass && !Check::none("x", 1, 2, "differences").pass);
        assert!(
            !Check::at_most("x", f64::NAN, 1.0, "").pass && !Check::at_least("x", f64::NAN, 1.0, "").pass
        );
    }
}
