//! How likely a click is before the model has learnt anything: from relevance alone, shrunk towards an ad's counts.

use bowerbird_auction::Probability;

use crate::ClickPrior;

/// Greatest distance of log-odds from even that is told apart.
const LIMIT: f64 = 30.0;

/// Valid impressions and clicks of an ad so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub impressions: i64,
    pub clicks: i64,
}

impl ClickPrior {
    /// Log-odds of a click, `intercept + slope · log_odds`, for an ad nothing is known of but how well it fits.
    ///
    /// `log_odds` are those of the relevance gate; NaN counts as the worst fit. Within -30 to 30.
    pub fn logit(&self, log_odds: f64) -> f64 {
        let log_odds = if log_odds.is_nan() { -LIMIT } else { log_odds.clamp(-LIMIT, LIMIT) };
        (self.intercept + self.slope * log_odds).clamp(-LIMIT, LIMIT)
    }

    /// `(clicks + strength · p0) / (impressions + strength)` with `p0 = σ(intercept + slope · log_odds)`.
    ///
    /// `log_odds` are those of the relevance gate. More clicks than impressions, which events cannot produce, count
    /// as certain.
    pub(crate) fn estimate(&self, log_odds: f64, counts: Counts) -> Probability {
        let prior = 1.0 / (1.0 + (-self.logit(log_odds)).exp());
        let share =
            (counts.clicks as f64 + self.strength * prior) / (counts.impressions as f64 + self.strength);
        Probability::new(share.clamp(0.0, 1.0)).unwrap_or(Probability::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(log_odds: f64, impressions: i64, clicks: i64) -> f64 {
        ClickPrior::default().estimate(log_odds, Counts { impressions, clicks }).get()
    }

    #[test]
    fn the_prior_rises_with_relevance_and_fades_with_evidence() {
        assert!((estimate(0.85, 0, 0) - 0.0175).abs() < 0.001, "at the gate's threshold");
        assert!((estimate(8.0, 0, 0) - 0.0691).abs() < 0.001, "a plain match");
        assert!(estimate(8.0, 2000, 0) < 0.007, "two thousand impressions without a click");
        assert!((estimate(-3.0, 1_000_000, 100_000) - 0.1).abs() < 1e-4, "evidence decides in the end");
    }

    #[test]
    fn always_a_probability() {
        for log_odds in [f64::NEG_INFINITY, -1e9, 0.0, 1e9, f64::INFINITY, f64::NAN] {
            for (impressions, clicks) in [(0, 0), (0, 9_000), (i64::MAX, i64::MAX)] {
                let value = estimate(log_odds, impressions, clicks);
                assert!((0.0..=1.0).contains(&value), "{log_odds} {impressions} {clicks}: {value}");
            }
        }
    }
}
