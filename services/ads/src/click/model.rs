//! Estimates for many, learning by one.

use std::collections::VecDeque;

use arc_swap::ArcSwap;
use bowerbird_auction::Probability;
use parking_lot::Mutex;

use super::calibrate::{Calibration, Observation};
use super::config::ClickConfig;
use super::explore;
use super::features::ClickFeatures;
use super::ftrl::{Weights, sigmoid};
use super::shown::Shown;
use crate::{ClickPrior, ConfigProblems};

/// Greatest importance of an example.
const MAX_WEIGHT: f64 = 1e4;
/// Least chance of being looked at that is told from none.
const MIN_EXAMINATION: f64 = 1e-6;

/// How likely an ad is to be clicked in the first slot, if it is shown there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Calibrated on what was served: what the auction uses.
    pub probability: Probability,
    /// As the weights say, before anything is done against the winner's curse.
    pub raw: Probability,
    /// Log-odds of `raw`.
    pub logit: f64,
    /// Standard deviation of `logit`.
    pub sd: f64,
}

/// What became of an ad that was served.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Place in the log of outcomes, counted from 1; examples are learnt in this order.
    pub sequence: u64,
    /// As it was stored with the decision.
    pub shown: Shown,
    /// Whether it was clicked.
    pub clicked: bool,
    /// How many impressions it stands for: 1, or `1 / rate` when only a sample is learnt from. At most 10,000.
    pub weight: f64,
}

/// What [`ClickModel::learn`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learnt {
    /// The example is in the weights now.
    New,
    /// It was learnt before: a log may be replayed from any earlier place.
    Known,
}

/// An example that cannot be learnt from.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("example {sequence}: {field} is {found}, expected {expected}")]
pub struct BadExample {
    /// Its place in the log.
    pub sequence: u64,
    /// What is wrong.
    pub field: &'static str,
    /// The value.
    pub found: f64,
    /// What would be right.
    pub expected: &'static str,
}

/// What calibration was fitted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calibrated {
    /// Served impressions.
    pub impressions: usize,
    /// Clicks among them.
    pub clicks: usize,
}

/// The state only the learner touches.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Learner {
    /// Sequence number of the last example learnt.
    pub last: u64,
    /// Examples learnt.
    pub impressions: u64,
    /// Clicks among them.
    pub clicks: u64,
    /// The latest that were served, oldest first.
    pub window: VecDeque<Observation>,
}

/// A click model: hashed logistic regression over a prior from relevance, calibrated on what was served.
///
/// Reading waits for nobody; learning is one at a time. Memory: `12 · 2^bits` bytes of weights (48 MiB) and 16 for each
/// observation of the window (3 MiB), whatever it learns.
pub struct ClickModel {
    pub(super) config: ClickConfig,
    pub(super) prior: ClickPrior,
    pub(super) weights: Weights,
    pub(super) calibration: ArcSwap<Calibration>,
    pub(super) learner: Mutex<Learner>,
}

impl ClickModel {
    /// A model that has learnt nothing: it says what `prior` says.
    pub fn new(config: ClickConfig, prior: ClickPrior) -> Result<Self, ConfigProblems> {
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(ConfigProblems(problems));
        }
        Ok(Self {
            weights: Weights::new(&config),
            calibration: ArcSwap::default(),
            learner: Mutex::default(),
            config,
            prior,
        })
    }

    /// The estimate for an ad whose relevance gate says `log_odds`, in the first slot whatever `features.slot` is.
    pub fn estimate(&self, features: &ClickFeatures<'_>, log_odds: f64) -> Estimate {
        let features = ClickFeatures { slot: 0, ..*features };
        let sum = self.weights.sum(&features.hashed(log_odds));
        let logit = self.prior.logit(log_odds) + sum.logit;
        let sd = sum.variance.sqrt();
        Estimate {
            probability: probability(self.calibration.load().probability(self.ranked(logit, sd))),
            raw: probability(sigmoid(logit)),
            logit,
            sd,
        }
    }

    /// The probability to use instead of `estimate.probability` when the auction is one that explores: a draw from what
    /// it may be. `None` in all others. Log the served ad with calibration weight 0.
    pub fn explored(&self, estimate: &Estimate, auction_id: [u8; 16], ad: &str) -> Option<Probability> {
        explore::explores(auction_id, self.config.explore_share)
            .then(|| self.drawn(estimate, auction_id, ad, 0))
    }

    /// Share of auctions in which estimates are drawn.
    pub fn explore_share(&self) -> f64 {
        self.config.explore_share
    }

    /// Draw number `round` for an ad: 0 is that of [`Self::explored`], others serve to count how often an outcome comes
    /// about.
    pub fn drawn(&self, estimate: &Estimate, auction_id: [u8; 16], ad: &str, round: u32) -> Probability {
        let noise = estimate.sd * explore::normal(auction_id, ad, round);
        let logit = self.ranked(estimate.logit, estimate.sd) + noise;
        probability(self.calibration.load().probability(logit))
    }

    /// What to store of an ad that is served: `features.slot` is the slot it won, `examination` that slot's chance of
    /// being looked at (the multiplier of the auction).
    pub fn shown(&self, features: &ClickFeatures<'_>, log_odds: f64, examination: f64) -> Shown {
        let examination = if examination.is_nan() { 1.0 } else { examination.clamp(MIN_EXAMINATION, 1.0) };
        let hashed = features.hashed(log_odds);
        let first = self.estimate(features, log_odds);
        let prior = self.prior.logit(log_odds);
        let here = sigmoid(prior + examination.ln() + self.weights.sum(&hashed).logit);
        Shown {
            features: hashed,
            // A prior cuts off long before the bounds of f32.
            log_odds: if log_odds.is_nan() { -1e9 } else { log_odds.clamp(-1e9, 1e9) as f32 },
            examination: examination as f32,
            first: self.ranked(first.logit, first.sd) as f32,
            exposure: (here / first.raw.get().max(f64::MIN_POSITIVE)).clamp(1e-6, 1e3) as f32,
            calibration_weight: 1.0,
        }
    }

    /// Learns what became of a served ad. An example whose sequence number is not above the last one's is known.
    ///
    /// Errors: a weight that is not above 0 and at most 10,000, a number of `shown` that is out of range; nothing is
    /// learnt then.
    pub fn learn(&self, example: &Example) -> Result<Learnt, BadExample> {
        check(example)?;
        let mut learner = self.learner.lock();
        if example.sequence <= learner.last {
            return Ok(Learnt::Known);
        }
        let shown = &example.shown;
        let offset = self.prior.logit(f64::from(shown.log_odds)) + f64::from(shown.examination).ln();
        self.weights.learn(&shown.features, offset, example.clicked, example.weight);
        learner.last = example.sequence;
        learner.impressions += 1;
        learner.clicks += u64::from(example.clicked);
        let weight = shown.calibration_weight * example.weight as f32;
        if weight > 0.0 {
            while learner.window.len() >= self.config.calibration_window {
                learner.window.pop_front();
            }
            let (logit, exposure) = (shown.first, shown.exposure);
            learner.window.push_back(Observation { logit, exposure, weight, clicked: example.clicked });
        }
        Ok(Learnt::New)
    }

    /// Fits calibration to the window of served impressions and puts it to use: about a quarter of a second for 200,000.
    /// To be called every thousand impressions while there are few, then every hour; not from an async thread.
    pub fn refresh_calibration(&self) -> Calibrated {
        let window: Vec<Observation> = self.learner.lock().window.iter().copied().collect();
        self.calibration.store(Calibration::fit(&window).into());
        let clicks = window.iter().filter(|row| row.clicked).count();
        Calibrated { impressions: window.len(), clicks }
    }

    /// Sequence number of the last example learnt; 0 for none. Replay starts behind it.
    pub fn last_sequence(&self) -> u64 {
        self.learner.lock().last
    }

    /// The curve in use.
    pub fn calibration(&self) -> Calibration {
        (**self.calibration.load()).clone()
    }

    /// What the auction ranks by before calibration.
    fn ranked(&self, logit: f64, sd: f64) -> f64 {
        logit - self.config.variance_penalty * sd * sd
    }
}

/// `p` is within 0 to 1 but for rounding.
fn probability(p: f64) -> Probability {
    Probability::new(p.clamp(0.0, 1.0)).unwrap_or(Probability::ZERO)
}

fn check(example: &Example) -> Result<(), BadExample> {
    let within = |field, found: f64, from: f64, to: f64, expected| {
        let fine = (from..=to).contains(&found);
        if fine { Ok(()) } else { Err(BadExample { sequence: example.sequence, field, found, expected }) }
    };
    let Shown { log_odds, examination, first, exposure, calibration_weight, .. } = &example.shown;
    let tiny = f64::MIN_POSITIVE;
    within("weight", example.weight, tiny, MAX_WEIGHT, "above 0, at most 10,000")?;
    within("log_odds", f64::from(*log_odds), -1e9, 1e9, "a finite number")?;
    within("examination", f64::from(*examination), tiny, 1.0, "above 0, at most 1")?;
    within("first", f64::from(*first), -1e3, 1e3, "a logit within -1,000 to 1,000")?;
    within("exposure", f64::from(*exposure), tiny, 1e4, "above 0, at most 10,000")?;
    within("calibration_weight", f64::from(*calibration_weight), 0.0, MAX_WEIGHT, "0 to 10,000")
}

impl std::fmt::Debug for ClickModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClickModel").field("config", &self.config).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> ClickModel {
        let config = ClickConfig { bits: 14, ..ClickConfig::default() };
        ClickModel::new(config, ClickPrior::default()).expect("sound")
    }

    fn ad(id: &str) -> ClickFeatures<'_> {
        ClickFeatures { ad: id, advertiser: "v", ..ClickFeatures::default() }
    }

    fn example(model: &ClickModel, sequence: u64, id: &str, clicked: bool) -> Example {
        Example { sequence, shown: model.shown(&ad(id), 3.0, 1.0), clicked, weight: 1.0 }
    }

    #[test]
    fn without_examples_it_says_what_the_prior_says() {
        let model = model();
        for log_odds in [-5.0, 0.85, 8.0] {
            let estimate = model.estimate(&ad("a"), log_odds);
            assert!((estimate.logit - ClickPrior::default().logit(log_odds)).abs() < 1e-9);
            assert_eq!(estimate.probability, estimate.raw, "nothing to calibrate on");
            assert!((0.3..1.2).contains(&estimate.sd), "{estimate:?}");
        }
    }

    #[test]
    fn what_is_unsure_ranks_lower_if_asked() {
        let config = ClickConfig { bits: 10, variance_penalty: 0.5, ..ClickConfig::default() };
        let model = ClickModel::new(config, ClickPrior::default()).expect("sound");
        let estimate = model.estimate(&ad("a"), 3.0);
        let expected = sigmoid(estimate.logit - 0.5 * estimate.sd.powi(2));
        assert!((estimate.probability.get() - expected).abs() < 1e-12 && estimate.probability < estimate.raw);
    }

    #[test]
    fn clicks_raise_and_their_absence_lowers() {
        let model = model();
        for sequence in 1..4000 {
            let (id, one_in) = if sequence % 2 == 0 { ("good", 10) } else { ("bad", 100) };
            let example = example(&model, sequence, id, (sequence / 2) % one_in == 0);
            assert_eq!(model.learn(&example), Ok(Learnt::New));
            assert_eq!(model.learn(&example), Ok(Learnt::Known));
        }
        model.refresh_calibration();
        let [good, bad, new] = ["good", "bad", "new"].map(|id| model.estimate(&ad(id), 3.0));
        assert!((good.probability.get() - 0.1).abs() < 0.03, "{good:?}");
        assert!(bad.probability.get() < 0.03, "{bad:?}");
        assert!(good.probability > new.probability && new.probability > bad.probability);
        assert!(new.sd > 1.2 * good.sd, "{} {}", new.sd, good.sd);
    }

    #[test]
    fn bad_examples_are_refused_and_change_nothing() {
        let model = model();
        let good = example(&model, 1, "a", true);
        let check = |change: &dyn Fn(&mut Example), field: &str| {
            let mut bad = good.clone();
            change(&mut bad);
            assert_eq!(model.learn(&bad).expect_err(field).field, field);
        };
        check(&|e| e.weight = 0.0, "weight");
        check(&|e| e.weight = f64::NAN, "weight");
        check(&|e| e.shown.examination = 0.0, "examination");
        check(&|e| e.shown.log_odds = f32::INFINITY, "log_odds");
        check(&|e| e.shown.first = f32::NAN, "first");
        check(&|e| e.shown.exposure = -1.0, "exposure");
        check(&|e| e.shown.calibration_weight = f32::INFINITY, "calibration_weight");
        assert_eq!(model.last_sequence(), 0);
        for log_odds in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let shown = model.shown(&ad("a"), log_odds, f64::NAN);
            assert_eq!(Shown::from_bytes(&shown.to_bytes()).as_ref(), Ok(&shown));
            assert!(super::check(&Example { shown, ..good.clone() }).is_ok());
        }
    }

    #[test]
    fn draws_come_from_the_ids() {
        let config = ClickConfig { bits: 10, explore_share: 1.0, ..ClickConfig::default() };
        let model = ClickModel::new(config, ClickPrior::default()).expect("sound");
        let estimate = model.estimate(&ad("a"), 3.0);
        let draw = |n: u8, id: &str| model.explored(&estimate, [n; 16], id);
        assert_eq!(draw(1, "a"), draw(1, "a"));
        assert_ne!(draw(1, "a"), draw(2, "a"));
        assert_ne!(draw(1, "a"), draw(1, "b"));
        assert_eq!(self::model().explored(&estimate, [1; 16], "a"), None, "two in a hundred explore");
    }

    #[test]
    fn many_read_while_one_learns() {
        let model = model();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        assert!(model.estimate(&ad("good"), 3.0).logit.is_finite());
                    }
                });
            }
            for sequence in 1..2000 {
                model.learn(&example(&model, sequence, "good", sequence % 10 == 0)).expect("sound");
                if sequence % 500 == 0 {
                    model.refresh_calibration();
                }
            }
        });
        assert_eq!(model.last_sequence(), 1999);
    }
}
