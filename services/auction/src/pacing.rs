//! Spreading a budget over a day, and holding the cost of a conversion.
//!
//! [`Pacer`] is a dual ascent in the logarithm: bids are multiplied by `e^{−ℓ}`, and after every tick `ℓ` moves by
//! what was spent against what should have been, `ℓ += η·(z/ρ − 1)`. The target `ρ` is solved again each time from
//! the money and the traffic that are left, so an error is spread over the rest of the day instead of being made up
//! for at once. (Balseiro and Gur 2019 give the additive rule; with a small budget its first step is so large that
//! the budget is gone by noon, which the logarithm and the quotient avoid.)
//!
//! There is no clock here: the caller counts ticks and says how much of the day's traffic each is expected to bring.
//! A pacer shades bids and promises nothing; that no budget is exceeded is for the ledger.

use crate::{MAX_BID, Micros};

/// Most ticks of a forecast.
pub const MAX_TICKS: usize = 1_000_000;
/// The farthest that a dual moves in one tick: bids change by a factor of `e` at most.
const MOST_MOVE: f64 = 1.0;

/// Why a pacer cannot be started or moved on. All are mistakes of the caller.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PacingError {
    /// An amount of money is out of range.
    #[error("{field} is {found}, expected more than 0 and at most {MAX_BID}")]
    Amount {
        /// Which amount.
        field: &'static str,
        /// Its value.
        found: Micros,
    },
    /// Spend of a tick is negative.
    #[error("spend of a tick is {found}, expected 0 or more: corrections belong to the ledger")]
    Spend {
        /// The spend given.
        found: Micros,
    },
    /// A forecast without a tick, or with too many.
    #[error("forecast has {found} ticks, expected {expected}")]
    ForecastLength {
        /// Ticks given.
        found: usize,
        /// Ticks that fit, in words.
        expected: String,
    },
    /// A share of traffic is negative or not finite, or all are 0.
    #[error("traffic share of tick {tick} is {found}, expected 0 or more, and more than 0 in sum")]
    Forecast {
        /// Tick, counted from 0.
        tick: usize,
        /// The share given.
        found: f64,
    },
    /// A tick that is over, or after the last.
    #[error("tick is {found}, expected {next} to {last}: each is reported once, in order")]
    Tick {
        /// The tick given.
        found: usize,
        /// The first that was not reported.
        next: usize,
        /// The last of the forecast.
        last: usize,
    },
    /// A number is out of range.
    #[error("{field} is {found}, expected {expected}")]
    Range {
        /// Which number.
        field: &'static str,
        /// Its value.
        found: f64,
        /// The range in words.
        expected: &'static str,
    },
}

/// How fast and how far a dual moves.
#[derive(Clone, Debug, PartialEq)]
pub struct PacingRules {
    /// Step `η` of a tick with an average share of traffic, over 0, at most 1.
    pub step: f64,
    /// Least `ℓ`; 0 never bids more than was booked, a negative one may (see [`crate::bidding::Strategy::TargetCpa`]).
    pub least: f64,
    /// Largest `ℓ`: bids never fall under `e^{−most}` of what was booked, so that they can come back.
    pub most: f64,
}

impl PacingRules {
    /// For ticks that are single opportunities: `η = 1/√n`, slow enough for the noise of one purchase.
    pub fn for_opportunities(n: usize) -> Self {
        Self { step: 1.0 / (n.max(1) as f64).sqrt(), least: 0.0, most: 8.0 }
    }

    /// For ticks that gather many opportunities: `η = 3/√n`, at most a quarter.
    pub fn for_ticks(n: usize) -> Self {
        Self { step: (3.0 / (n.max(1) as f64).sqrt()).min(0.25), least: 0.0, most: 8.0 }
    }

    fn validate(&self) -> Result<(), PacingError> {
        if !(self.step > 0.0 && self.step <= 1.0) {
            return Err(PacingError::Range {
                field: "step",
                found: self.step,
                expected: "more than 0, at most 1",
            });
        }
        for (field, found) in [("least", self.least), ("most", self.most)] {
            if !(-20.0..=20.0).contains(&found) {
                return Err(PacingError::Range { field, found, expected: "-20 to 20" });
            }
        }
        if self.least > self.most {
            return Err(PacingError::Range {
                field: "least",
                found: self.least,
                expected: "at most the value of most",
            });
        }
        Ok(())
    }

    /// `from` after an error of `error`, which counts `weight` times.
    fn moved(&self, from: f64, error: f64, weight: f64) -> f64 {
        let by = (self.step * weight * error).clamp(-MOST_MOVE, MOST_MOVE);
        (from + by).clamp(self.least, self.most)
    }
}

/// Paces one budget over one day.
#[derive(Clone, Debug, PartialEq)]
pub struct Pacer {
    budget: Micros,
    spent: Micros,
    /// Traffic from tick `i` to the end; one more than ticks, the last 0.
    left: Vec<f64>,
    next: usize,
    dual: f64,
    rules: PacingRules,
}

impl Pacer {
    /// A day with `budget` to spend and `forecast`, one relative amount of traffic for each tick; any scale.
    ///
    /// `warm` is the dual to begin with: best that of the same hour yesterday. Without one, bidding begins at what was
    /// booked, which in a busy first hour costs a small budget much of its money.
    ///
    /// Errors: see [`PacingError`].
    pub fn start(
        budget: Micros,
        forecast: &[f64],
        rules: PacingRules,
        warm: Option<f64>,
    ) -> Result<Self, PacingError> {
        rules.validate()?;
        if budget <= Micros::ZERO || budget > MAX_BID {
            return Err(PacingError::Amount { field: "budget", found: budget });
        }
        let warm = warm.unwrap_or(0.0);
        if warm.is_nan() {
            return Err(PacingError::Range { field: "warm", found: warm, expected: "a number" });
        }
        let left = traffic_left(forecast)?;
        let dual = warm.clamp(rules.least, rules.most);
        Ok(Self { budget, spent: Micros::ZERO, left, next: 0, dual, rules })
    }

    /// Reports that `spend` was spent from the last reported tick up to and with `tick`, and moves the dual.
    ///
    /// A tick counts by its share of traffic: a quiet hour says less than a busy one. Ticks that were skipped are
    /// taken together with `tick`. Once the budget is spent, or where no traffic was expected, the dual stays.
    ///
    /// Errors: a tick that was reported before or is not in the forecast, or a negative spend; nothing changes then.
    pub fn tick(&mut self, tick: usize, spend: Micros) -> Result<(), PacingError> {
        let last = self.left.len() - 2;
        if tick < self.next || tick > last {
            return Err(PacingError::Tick { found: tick, next: self.next, last });
        }
        if spend < Micros::ZERO {
            return Err(PacingError::Spend { found: spend });
        }
        let target = self.target_until(tick);
        if target > 0.0 {
            let traffic = self.left[self.next] - self.left[tick + 1];
            let average = self.left[0] / (last + 1) as f64;
            let error = spend.0 as f64 / target - 1.0;
            self.dual = self.rules.moved(self.dual, error, traffic / average);
        }
        self.spent = Micros(self.spent.0.saturating_add(spend.0));
        self.next = tick + 1;
        Ok(())
    }

    /// Replaces what is expected of the ticks that were not reported yet: `forecast` begins with the next one and is
    /// on a scale of its own.
    ///
    /// Errors: a forecast of another length than the ticks that are left, or see [`PacingError`].
    pub fn forecast(&mut self, forecast: &[f64]) -> Result<(), PacingError> {
        let ticks = self.left.len() - 1 - self.next;
        if forecast.len() != ticks {
            let expected = format!("{ticks}, those that are left");
            return Err(PacingError::ForecastLength { found: forecast.len(), expected });
        }
        let fresh = traffic_left(forecast)?;
        // The past keeps its weight against the new total, so that an average tick stays what it was.
        let scale = if fresh[0] > 0.0 { self.left[self.next] / fresh[0] } else { 1.0 };
        self.left.splice(self.next.., fresh.into_iter().map(|traffic| traffic * scale));
        Ok(())
    }

    /// `e^{−ℓ}`, what bids are multiplied by: [`crate::Candidate::pacing`] where `ℓ` is never under 0.
    pub fn multiplier(&self) -> f64 {
        libm::exp(-self.dual)
    }

    /// `ℓ`; to be kept by the hour as a warm start for tomorrow.
    pub fn dual(&self) -> f64 {
        self.dual
    }

    /// What was reported as spent.
    pub fn spent(&self) -> Micros {
        self.spent
    }

    /// What the next tick should spend, in micros.
    pub fn target(&self) -> f64 {
        self.target_until(self.next)
    }

    /// What the ticks from the next to `tick` should spend together, in micros: the money that is left, by traffic.
    fn target_until(&self, tick: usize) -> f64 {
        let money = self.budget.0.saturating_sub(self.spent.0).max(0) as f64;
        let left = self.left.get(self.next).copied().unwrap_or(0.0);
        let after = self.left.get(tick + 1).copied().unwrap_or(0.0);
        if left > 0.0 { money * (left - after) / left } else { 0.0 }
    }
}

/// Sums of `forecast` from each tick to the end.
fn traffic_left(forecast: &[f64]) -> Result<Vec<f64>, PacingError> {
    if forecast.is_empty() || forecast.len() > MAX_TICKS {
        let expected = format!("1 to {MAX_TICKS}");
        return Err(PacingError::ForecastLength { found: forecast.len(), expected });
    }
    let bad = |share: &f64| !(share.is_finite() && *share >= 0.0);
    if let Some(tick) = forecast.iter().position(bad) {
        return Err(PacingError::Forecast { tick, found: forecast[tick] });
    }
    let mut left = vec![0.0; forecast.len() + 1];
    for (tick, share) in forecast.iter().enumerate().rev() {
        left[tick] = left[tick + 1] + share;
    }
    if left[0] > 0.0 && left[0].is_finite() {
        Ok(left)
    } else {
        Err(PacingError::Forecast { tick: 0, found: forecast[0] })
    }
}

/// Holds the average cost of a conversion at a target.
///
/// After each tick `ℓ += η·(spend − target·conversions)/scale`. The quotient `spend/(target·conversions) − 1`, which
/// is also in use, has no value in a tick without conversions, and by Jensen's inequality its mean is over 0 when the
/// cost is on target, so that it would bid too little; a difference is 0 on average exactly there.
#[derive(Clone, Debug, PartialEq)]
pub struct CpaDual {
    target: Micros,
    scale: Micros,
    dual: f64,
    rules: PacingRules,
}

impl CpaDual {
    /// `target` is the cost of a conversion, `scale` what a tick spends as a rule, `warm` the dual to begin with.
    ///
    /// Errors: see [`PacingError`].
    pub fn start(
        target: Micros,
        scale: Micros,
        rules: PacingRules,
        warm: Option<f64>,
    ) -> Result<Self, PacingError> {
        rules.validate()?;
        for (field, found) in [("target", target), ("scale", scale)] {
            if found <= Micros::ZERO || found > MAX_BID {
                return Err(PacingError::Amount { field, found });
            }
        }
        let warm = warm.unwrap_or(0.0);
        if warm.is_nan() {
            return Err(PacingError::Range { field: "warm", found: warm, expected: "a number" });
        }
        let dual = warm.clamp(rules.least, rules.most);
        Ok(Self { target, scale, dual, rules })
    }

    /// Reports what a tick spent, and its conversions: those seen, or the sum of the probabilities of the clicks that
    /// were bought, which is the same on average, comes without delay and varies less.
    ///
    /// Errors: a negative spend, or conversions that are negative or not finite; nothing changes then.
    pub fn tick(&mut self, spend: Micros, conversions: f64) -> Result<(), PacingError> {
        if spend < Micros::ZERO {
            return Err(PacingError::Spend { found: spend });
        }
        if !(conversions.is_finite() && conversions >= 0.0) {
            let expected = "a finite number, 0 or more";
            return Err(PacingError::Range { field: "conversions", found: conversions, expected });
        }
        let error = (spend.0 as f64 - self.target.0 as f64 * conversions) / self.scale.0 as f64;
        self.dual = self.rules.moved(self.dual, error, 1.0);
        Ok(())
    }

    /// `ℓ`; under 0 the cost lies under the target, and bids may rise.
    pub fn dual(&self) -> f64 {
        self.dual
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> PacingRules {
        PacingRules { step: 0.1, least: 0.0, most: 8.0 }
    }

    fn pacer(forecast: &[f64]) -> Pacer {
        Pacer::start(Micros(1_000), forecast, rules(), Some(1.0)).expect("valid")
    }

    #[test]
    fn the_target_is_solved_again_from_what_is_left() {
        let mut pacer = pacer(&[1.0, 3.0, 0.0, 4.0]);
        assert!((pacer.target() - 125.0).abs() < 1e-9);
        pacer.tick(0, Micros(300)).expect("in order");
        // 700 left, for 3 of 7 parts of the traffic.
        assert!((pacer.target() - 300.0).abs() < 1e-9);
        pacer.tick(2, Micros(300)).expect("skipping one");
        assert!((pacer.target() - 400.0).abs() < 1e-9);
        assert_eq!(pacer.spent(), Micros(600));
    }

    #[test]
    fn spending_too_much_bids_less_by_the_share_of_traffic() {
        let moved = |forecast: &[f64], spend| {
            let mut pacer = pacer(forecast);
            pacer.tick(0, Micros(spend)).expect("in order");
            pacer.dual() - 1.0
        };
        assert!((moved(&[1.0; 10], 100) - 0.0).abs() < 1e-12, "on target");
        assert!((moved(&[1.0; 10], 200) - 0.1).abs() < 1e-12);
        assert!((moved(&[1.0; 10], 0) + 0.1).abs() < 1e-12);
        // Half the average traffic: half the step.
        assert!((moved(&[0.5, 1.5], 500) - 0.05).abs() < 1e-12);
        assert!(
            (moved(&[1.0; 10], 1_000_000) - 1.0).abs() < 1e-12,
            "one tick changes bids by a factor e at most"
        );
        assert!(moved(&[0.0, 1.0], 500).abs() < 1e-12, "no traffic expected");
    }

    #[test]
    fn a_new_forecast_keeps_the_past() {
        let mut pacer = pacer(&[1.0; 4]);
        pacer.tick(0, Micros(250)).expect("in order");
        assert!(pacer.forecast(&[1.0; 4]).is_err(), "three are left");
        pacer.forecast(&[20.0, 10.0, 0.0]).expect("valid");
        assert!((pacer.target() - 500.0).abs() < 1e-9);
        pacer.tick(1, Micros(500)).expect("in order");
        assert!((pacer.target() - 250.0).abs() < 1e-9);
    }

    #[test]
    fn after_the_money_is_gone_nothing_moves() {
        let mut pacer = pacer(&[1.0; 4]);
        pacer.tick(0, Micros(1_200)).expect("in order");
        let dual = pacer.dual();
        pacer.tick(1, Micros(0)).expect("in order");
        assert!((pacer.dual() - dual).abs() < 1e-12 && pacer.target() <= 0.0);
    }

    #[test]
    fn bad_input_is_refused_and_changes_nothing() {
        let start = |budget, forecast: &[f64]| Pacer::start(Micros(budget), forecast, rules(), None);
        assert!(matches!(start(0, &[1.0]), Err(PacingError::Amount { .. })));
        assert!(matches!(start(1, &[]), Err(PacingError::ForecastLength { .. })));
        assert!(matches!(start(1, &[0.0, 0.0]), Err(PacingError::Forecast { .. })));
        assert!(matches!(start(1, &[1.0, f64::NAN]), Err(PacingError::Forecast { tick: 1, .. })));
        assert!(matches!(start(1, &[f64::MAX, f64::MAX]), Err(PacingError::Forecast { .. })));
        for bad in [
            PacingRules { step: 0.0, ..rules() },
            PacingRules { most: f64::NAN, ..rules() },
            PacingRules { least: 9.0, ..rules() },
        ] {
            assert!(Pacer::start(Micros(1), &[1.0], bad, None).is_err());
        }
        let mut pacer = pacer(&[1.0; 3]);
        pacer.tick(1, Micros(5)).expect("in order");
        let before = pacer.clone();
        assert!(matches!(pacer.tick(1, Micros(5)), Err(PacingError::Tick { next: 2, last: 2, .. })));
        assert!(matches!(pacer.tick(3, Micros(5)), Err(PacingError::Tick { .. })));
        assert!(matches!(pacer.tick(2, Micros(-5)), Err(PacingError::Spend { .. })));
        assert_eq!(pacer, before);
        let mut dual = CpaDual::start(Micros(10), Micros(10), rules(), None).expect("valid");
        assert!(dual.tick(Micros(1), f64::NAN).is_err() && dual.tick(Micros(-1), 0.0).is_err());
        assert!(dual.dual().abs() < 1e-12);
    }
}
