//! What another policy would have earned, from the log of this one.
//!
//! Every decision was logged with the probability with which it was taken, so decisions can be weighted by how likely
//! the other policy would have taken them. The estimators are inverse propensity scores (IPS), their self-normalised
//! form (SNIPS; Swaminathan and Joachims 2015) and the doubly robust form, which adds a model and corrects it (DR;
//! Dudík, Langford and Li 2011). Where the two policies have too little in common the numbers are told, and a verdict
//! is refused ([`Refusal`]): a comparison that looks exact and is not costs more than none.
//!
//! Plain functions: no clock, no database, no model.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

/// Least effective sample size of a verdict.
pub const LEAST_EFFECTIVE_SAMPLE: f64 = 1_000.0;
/// Least share of what the other policy does that the log must cover.
pub const LEAST_SUPPORT: f64 = 0.95;
/// Largest weight of a decision, in any log; `√n` in a shorter one.
pub const MOST_WEIGHT: f64 = 100.0;
/// Most resamples of a bootstrap.
pub const MAX_RESAMPLES: usize = 10_000;

/// One decision, as it was logged and as the other policy sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// What came of it: 1 for a click and 0 for none, or money.
    pub reward: f64,
    /// Probability with which it was taken, over 0, at most 1; of a segment auction the exact `propensity`.
    pub logged: f64,
    /// Probability with which the other policy would have taken it here, 0 to 1.
    pub target: f64,
    /// What a model expects of it. The model must not have seen this decision: fit it on one half of the log to
    /// predict the other.
    pub predicted: f64,
    /// What the same model expects under the other policy here: the mean over its choices.
    pub predicted_target: f64,
    /// Share of the other policy's choices here that the log could have taken, 0 to 1; 1 where every candidate had a
    /// chance.
    pub supported: f64,
}

/// How intervals are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interval {
    /// From the standard error, 1.96 to each side.
    #[default]
    Normal,
    /// Percentiles of the estimate over resampled logs: better where rewards are rare. Takes `resamples` times longer.
    Bootstrap {
        /// Number of resampled logs, 100 to [`MAX_RESAMPLES`].
        resamples: usize,
        /// The same seed draws the same logs.
        seed: u64,
    },
}

/// An estimate and its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Mean reward of a decision under the other policy.
    pub value: f64,
    /// Of `value`.
    pub standard_error: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Estimate {
    /// Whether `truth` lies in the interval.
    pub fn covers(&self, truth: f64) -> bool {
        (self.low..=self.high).contains(&truth)
    }
}

/// Why no verdict is given.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Refusal {
    /// The log says too little about the other policy.
    #[error(
        "the log is worth {found:.0} decisions of the other policy, a verdict needs {least:.0}: log more, or explore more"
    )]
    EffectiveSample {
        /// Effective sample size.
        found: f64,
        /// Least that is asked for.
        least: f64,
    },
    /// The other policy does what the log could hardly have done.
    #[error(
        "the log covers {found:.3} of what the other policy does, a verdict needs {least}: explore what it would choose"
    )]
    Support {
        /// Share that is covered.
        found: f64,
        /// Least that is asked for.
        least: f64,
    },
}

/// What the log says about the other policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Decisions in the log.
    pub decisions: usize,
    /// Mean reward of the policy that was logged.
    pub logged: f64,
    /// Inverse propensity scores: `1/n Σ w r`.
    pub ips: Estimate,
    /// Self-normalised: `Σ w r / Σ w`.
    pub snips: Estimate,
    /// Doubly robust: `1/n Σ [r̂(π) + w (r − r̂)]`.
    pub dr: Estimate,
    /// `(Σ w)² / Σ w²`: as many decisions of the other policy are worth as much as the log.
    pub effective_sample: f64,
    /// Largest weight before clipping.
    pub max_weight: f64,
    /// Mean weight before clipping; 1 on average when propensities are right and everything is covered.
    pub mean_weight: f64,
    /// Weights are clipped here.
    pub clipped_at: f64,
    /// Decisions whose weight was clipped.
    pub clipped: usize,
    /// Share of decisions that the other policy would have taken as well, on average over its choices.
    pub match_rate: f64,
    /// Share of what the other policy does that the log could have taken, times the share of weight that clipping
    /// left: a clipped weight leaves out a part of the other policy just as a missing one does.
    pub support: f64,
    /// Why this is no basis for a verdict; empty if it is one.
    pub refusals: Vec<Refusal>,
}

impl Evaluation {
    /// Whether the estimates are a basis for a verdict.
    pub fn judges(&self) -> bool {
        self.refusals.is_empty()
    }
}

/// Why a log cannot be evaluated at all.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OffPolicyError {
    /// There is nothing to compare. An empty comparison is never a good one.
    #[error("log has {found} decisions, expected at least 2")]
    TooShort {
        /// Decisions given.
        found: usize,
    },
    /// A value of a decision is out of range.
    #[error("{field} of decision {at} is {found}, expected {expected}")]
    Decision {
        /// Which decision, counted from 0.
        at: usize,
        /// Name of the value.
        field: &'static str,
        /// The value.
        found: f64,
        /// Range in words.
        expected: &'static str,
    },
    /// Too few or too many resamples.
    #[error("resamples is {found}, expected 100 to {MAX_RESAMPLES}")]
    Resamples {
        /// Number given.
        found: usize,
    },
}

/// Estimates the mean reward of the other policy from `log`.
///
/// Weights `target / logged` are clipped at `min(100, √n)` (Ionides 2008), which trades a little bias for much less
/// variance. SNIPS has its standard error by the delta method; resampling repeats the estimator as it is.
///
/// Errors: see [`OffPolicyError`]. Too little overlap is not an error but a [`Refusal`].
pub fn evaluate(log: &[Decision], interval: Interval) -> Result<Evaluation, OffPolicyError> {
    check(log, interval)?;
    let n = log.len() as f64;
    let clipped_at = MOST_WEIGHT.min(n.sqrt());
    let raw: Vec<f64> = log.iter().map(|d| d.target / d.logged).collect();
    let terms: Vec<Terms> = log
        .iter()
        .zip(&raw)
        .map(|(d, weight)| {
            let weight = weight.min(clipped_at);
            Terms {
                weight,
                ips: weight * d.reward,
                dr: d.predicted_target + weight * (d.reward - d.predicted),
            }
        })
        .collect();
    let sums = terms.iter().fold(Sums::default(), Sums::plus);
    let squares: f64 = terms.iter().map(|t| t.weight * t.weight).sum();
    let unclipped: f64 = raw.iter().sum();

    let errors = standard_errors(log, &terms, &sums);
    let values = sums.estimates();
    let intervals = match interval {
        Interval::Normal => {
            std::array::from_fn(|i| (values[i] - 1.96 * errors[i], values[i] + 1.96 * errors[i]))
        }
        Interval::Bootstrap { resamples, seed } => bootstrap(&terms, resamples, seed),
    };
    let estimate = |i: usize| Estimate {
        value: values[i],
        standard_error: errors[i],
        low: intervals[i].0,
        high: intervals[i].1,
    };

    let effective_sample = if squares > 0.0 { sums.weight * sums.weight / squares } else { 0.0 };
    let kept = if unclipped > 0.0 { sums.weight / unclipped } else { 0.0 };
    let support = kept * log.iter().map(|d| d.supported).sum::<f64>() / n;
    let mut refusals = Vec::new();
    if effective_sample < LEAST_EFFECTIVE_SAMPLE {
        let (found, least) = (effective_sample, LEAST_EFFECTIVE_SAMPLE);
        refusals.push(Refusal::EffectiveSample { found, least });
    }
    if support < LEAST_SUPPORT {
        refusals.push(Refusal::Support { found: support, least: LEAST_SUPPORT });
    }
    Ok(Evaluation {
        decisions: log.len(),
        logged: log.iter().map(|d| d.reward).sum::<f64>() / n,
        ips: estimate(0),
        snips: estimate(1),
        dr: estimate(2),
        effective_sample,
        max_weight: raw.iter().copied().fold(0.0, f64::max),
        mean_weight: unclipped / n,
        clipped_at,
        clipped: raw.iter().filter(|weight| **weight > clipped_at).count(),
        match_rate: log.iter().map(|d| d.target).sum::<f64>() / n,
        support,
        refusals,
    })
}

fn check(log: &[Decision], interval: Interval) -> Result<(), OffPolicyError> {
    if log.len() < 2 {
        return Err(OffPolicyError::TooShort { found: log.len() });
    }
    if let Interval::Bootstrap { resamples: found, .. } = interval
        && !(100..=MAX_RESAMPLES).contains(&found)
    {
        return Err(OffPolicyError::Resamples { found });
    }
    for (at, d) in log.iter().enumerate() {
        let share = "0 to 1";
        let amount = "a finite number";
        let values = [
            ("logged", d.logged, d.logged > 0.0 && d.logged <= 1.0, "more than 0, at most 1"),
            ("target", d.target, (0.0..=1.0).contains(&d.target), share),
            ("supported", d.supported, (0.0..=1.0).contains(&d.supported), share),
            ("reward", d.reward, d.reward.is_finite(), amount),
            ("predicted", d.predicted, d.predicted.is_finite(), amount),
            ("predicted_target", d.predicted_target, d.predicted_target.is_finite(), amount),
            (
                "weight",
                d.target / d.logged,
                (d.target / d.logged).is_finite(),
                "a propensity that is not tiny",
            ),
        ];
        if let Some((field, found, _, expected)) = values.into_iter().find(|(_, _, fits, _)| !fits) {
            return Err(OffPolicyError::Decision { at, field, found, expected });
        }
    }
    Ok(())
}

/// What one decision adds to the estimates.
struct Terms {
    weight: f64,
    ips: f64,
    dr: f64,
}

#[derive(Clone, Copy, Default)]
struct Sums {
    decisions: f64,
    weight: f64,
    ips: f64,
    dr: f64,
}

impl Sums {
    fn plus(self, term: &Terms) -> Self {
        Self {
            decisions: self.decisions + 1.0,
            weight: self.weight + term.weight,
            ips: self.ips + term.ips,
            dr: self.dr + term.dr,
        }
    }

    /// IPS, SNIPS and DR; without any weight SNIPS is 0.
    fn estimates(&self) -> [f64; 3] {
        let snips = if self.weight > 0.0 { self.ips / self.weight } else { 0.0 };
        [self.ips / self.decisions, snips, self.dr / self.decisions]
    }
}

fn standard_errors(log: &[Decision], terms: &[Terms], sums: &Sums) -> [f64; 3] {
    let n = sums.decisions;
    let [ips, snips, dr] = sums.estimates();
    let of_mean = |squares: f64| (squares / (n * (n - 1.0))).sqrt();
    let around = |mean: f64, term: fn(&Terms) -> f64| -> f64 {
        terms.iter().map(|t| (term(t) - mean) * (term(t) - mean)).sum()
    };
    let residuals: f64 = log.iter().zip(terms).map(|(d, t)| (t.weight * (d.reward - snips)).powi(2)).sum();
    let snips_error = if sums.weight > 0.0 { residuals.sqrt() / sums.weight } else { 0.0 };
    [of_mean(around(ips, |t| t.ips)), snips_error, of_mean(around(dr, |t| t.dr))]
}

/// The 2.5th and 97.5th percentile of each estimator over resampled logs.
fn bootstrap(terms: &[Terms], resamples: usize, seed: u64) -> [(f64, f64); 3] {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut drawn: [Vec<f64>; 3] = std::array::from_fn(|_| Vec::with_capacity(resamples));
    for _ in 0..resamples {
        let sums = (0..terms.len())
            .fold(Sums::default(), |sums, _| sums.plus(&terms[rng.random_range(0..terms.len())]));
        for (all, value) in drawn.iter_mut().zip(sums.estimates()) {
            all.push(value);
        }
    }
    drawn.map(|mut values| {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values[((resamples - 1) as f64 * share).round() as usize];
        (at(0.025), at(0.975))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(reward: f64, logged: f64, target: f64) -> Decision {
        Decision { reward, logged, target, predicted: 0.0, predicted_target: 0.0, supported: 1.0 }
    }

    /// Ads 0 to 3 with click rates 2, 4, 6 and 8 %, logged evenly. The other policy prefers the last.
    fn log(n: usize, target: [f64; 4], seed: u64) -> (Vec<Decision>, f64) {
        let rates = [0.02, 0.04, 0.06, 0.08];
        let mut rng = StdRng::seed_from_u64(seed);
        let decisions = (0..n)
            .map(|_| {
                let ad = rng.random_range(0..4);
                let reward = f64::from(u8::from(rng.random_bool(rates[ad])));
                decision(reward, 0.25, target[ad])
            })
            .collect();
        (decisions, rates.iter().zip(target).map(|(rate, share)| rate * share).sum())
    }

    #[test]
    fn weights_worked_out_by_hand() {
        let list = [
            decision(1.0, 0.5, 0.25),
            decision(0.0, 0.5, 0.75),
            decision(1.0, 0.25, 0.25),
            decision(1.0, 0.25, 0.0),
        ];
        let found = evaluate(&list, Interval::Normal).expect("valid");
        // Weights .5, 1.5, 1, 0; clipped at 2.
        assert!((found.ips.value - 0.375).abs() < 1e-12);
        assert!((found.snips.value - 0.5).abs() < 1e-12);
        assert!((found.effective_sample - 9.0 / 3.5).abs() < 1e-12);
        assert!((found.match_rate - 0.3125).abs() < 1e-12 && (found.mean_weight - 0.75).abs() < 1e-12);
        assert!((found.logged - 0.75).abs() < 1e-12 && found.clipped == 0);
        let model = list.map(|d| Decision { predicted: 0.5, predicted_target: 0.6, ..d });
        let found = evaluate(&model, Interval::Normal).expect("valid");
        assert!((found.dr.value - (0.6 + (0.25 - 0.75 + 0.5) / 4.0)).abs() < 1e-12, "{}", found.dr.value);
    }

    #[test]
    fn estimates_find_the_truth_and_judge_when_they_may() {
        for interval in [Interval::Normal, Interval::Bootstrap { resamples: 300, seed: 4 }] {
            let (decisions, truth) = log(8_000, [0.1, 0.2, 0.3, 0.4], 1);
            let found = evaluate(&decisions, interval).expect("valid");
            for estimate in [found.ips, found.snips, found.dr] {
                assert!(estimate.covers(truth), "{estimate:?} {truth}");
                let width = estimate.high - estimate.low;
                assert!((width / (3.92 * estimate.standard_error) - 1.0).abs() < 0.2, "{estimate:?}");
            }
            assert!(found.judges(), "{:?}", found.refusals);
        }
    }

    #[test]
    fn no_verdict_without_overlap() {
        let (short, _) = log(1_500, [0.0, 0.0, 0.0, 1.0], 2);
        let refused = evaluate(&short, Interval::Normal).expect("valid").refusals;
        assert!(matches!(refused[..], [Refusal::EffectiveSample { least: LEAST_EFFECTIVE_SAMPLE, .. }]));
        let (decisions, _) = log(8_000, [0.1, 0.2, 0.3, 0.4], 3);
        let part: Vec<Decision> = decisions.into_iter().map(|d| Decision { supported: 0.9, ..d }).collect();
        let refused = evaluate(&part, Interval::Normal).expect("valid").refusals;
        assert!(matches!(refused[..], [Refusal::Support { .. }]), "{refused:?}");
        // Half of the weight lies on one decision in 4,000, clipped at 63.
        let mut heavy = vec![decision(0.0, 1.0, 1.0); 4_000];
        heavy[0] = decision(1.0, 0.0001, 0.4);
        let found = evaluate(&heavy, Interval::Normal).expect("valid");
        assert!(found.clipped == 1 && found.support < 0.55 && !found.judges(), "{found:?}");
    }

    #[test]
    fn logs_that_cannot_be_read_are_refused() {
        let good = decision(1.0, 0.5, 0.5);
        assert!(matches!(evaluate(&[], Interval::Normal), Err(OffPolicyError::TooShort { found: 0 })));
        for (bad, name) in [
            (Decision { logged: 0.0, ..good }, "logged"),
            (Decision { logged: f64::NAN, ..good }, "logged"),
            (Decision { target: 1.5, ..good }, "target"),
            (Decision { supported: -0.1, ..good }, "supported"),
            (Decision { reward: f64::INFINITY, ..good }, "reward"),
            (Decision { predicted: f64::NAN, ..good }, "predicted"),
            (Decision { logged: 5e-324, target: 1.0, ..good }, "weight"),
        ] {
            let error = evaluate(&[good, bad], Interval::Normal);
            assert!(
                matches!(error, Err(OffPolicyError::Decision { at: 1, field, .. }) if field == name),
                "{name}"
            );
        }
        let few = Interval::Bootstrap { resamples: 99, seed: 0 };
        assert!(matches!(evaluate(&[good, good], few), Err(OffPolicyError::Resamples { found: 99 })));
    }
}
