//! What an operator may choose about click estimates.

use serde::{Deserialize, Serialize};

/// Settings of a [`super::ClickModel`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClickConfig {
    /// Features fall into `2^bits` buckets of 12 bytes.
    pub bits: u32,
    /// Step size. Of .05, .07, .1 and .2 in the measured worlds: .07 left neither slots nor losers biased.
    pub alpha: f64,
    /// Softens the first steps.
    pub beta: f64,
    /// Evidence (sum of gradients) below which a weight stays 0. The table has its size anyhow, and new ads do better
    /// without.
    pub l1: f64,
    /// Pull of every weight towards 0.
    pub l2: f64,
    /// Precision of a weight nothing is known of. An ad has some 30 features, most of them shared; the dozen that are
    /// its own leave a new ad unsure by `√(12/30)`, about .6 of a logit.
    pub prior_precision: f64,
    /// Subtracted from a logit for each unit of its variance, against the winner's curse: an auction picks those whose
    /// error is upward (doi:10.48550/arXiv.2205.09809). Calibration on winners does that work already: with .5 nothing
    /// was gained in the measured worlds, and estimates were 4 % high while the model was young.
    pub variance_penalty: f64,
    /// Share of auctions in which estimates are drawn instead of taken, to learn about ads that seldom win.
    pub explore_share: f64,
    /// Served impressions that calibration looks back on, 16 bytes each.
    pub calibration_window: usize,
}

impl Default for ClickConfig {
    fn default() -> Self {
        Self {
            bits: 22,
            alpha: 0.07,
            beta: 1.0,
            l1: 0.0,
            l2: 1.0,
            prior_precision: 30.0,
            variance_penalty: 0.0,
            explore_share: 0.02,
            calibration_window: 200_000,
        }
    }
}

impl ClickConfig {
    /// What is wrong, one line each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut range = |name: &str, value: f64, from: f64, to: f64| {
            if !(from..=to).contains(&value) {
                problems.push(format!("clicks.{name} is {value}, expected {from} to {to}"));
            }
        };
        range("bits", f64::from(self.bits), 8.0, 26.0);
        range("alpha", self.alpha, 1e-4, 10.0);
        range("beta", self.beta, 1e-3, 1e3);
        range("l1", self.l1, 0.0, 1e3);
        range("l2", self.l2, 0.0, 1e3);
        range("prior_precision", self.prior_precision, 1e-3, 1e6);
        range("variance_penalty", self.variance_penalty, 0.0, 10.0);
        range("explore_share", self.explore_share, 0.0, 1.0);
        range("calibration_window", self.calibration_window as f64, 1000.0, 1e7);
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_told() {
        assert_eq!(ClickConfig::default().problems(), Vec::<String>::new());
        let wrong =
            ClickConfig { bits: 40, alpha: f64::NAN, calibration_window: 0, ..ClickConfig::default() };
        assert_eq!(wrong.problems().len(), 3);
    }
}
