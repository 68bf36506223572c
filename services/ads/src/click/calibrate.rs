//! From what the model says to the share that is clicked, fitted on what was served.
//!
//! An auction picks ads whose estimate errs upward, so an estimate that is right on average is too high for winners
//! (doi:10.48550/arXiv.2205.09809). A curve fitted on winners alone is right for winners, which are what is paid for.

use super::ftrl::{LOGIT_LIMIT, logit, sigmoid};

/// Clicks from which on the curve is free; with fewer it has two parameters.
pub(super) const FREE_FROM_CLICKS: usize = 1000;
/// Clicks a bin should hold.
const CLICKS_PER_BIN: usize = 100;
const MOST_BINS: usize = 100;
/// Exposures the two-parameter curve is worth in each bin.
const BETA_STRENGTH: f64 = 200.0;
/// Precision of the belief that the model is right: level within ±.5, exponent within ±.2.
const LEVEL_PRECISION: f64 = 4.0;
const EXPONENT_PRECISION: f64 = 25.0;

/// An ad that was served, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// What the auction ranked it by: the logit of a click in the first slot.
    pub logit: f32,
    /// Click probability in its slot, relative to the first slot: 1 for the first.
    pub exposure: f32,
    /// How much it counts; `1 / propensity` turns winners into all candidates, 1 leaves them winners.
    pub weight: f32,
    /// Whether it was clicked.
    pub clicked: bool,
}

/// A non-decreasing curve from logits to probabilities.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Calibration {
    /// The model is believed.
    #[default]
    None,
    /// `ln q = centre + level + exponent · (ln p - centre)`, which is `γ·p^κ` (doi:10.1145/2487575.2488200, §7).
    Power {
        /// Mean of `ln p` where it was fitted.
        centre: f64,
        /// Logarithm of the correction there.
        level: f64,
        /// `κ`.
        exponent: f64,
    },
    /// Points of (logit said, logit found), both strictly increasing; straight lines between them and a shift outside.
    Isotonic(Vec<(f64, f64)>),
}

impl Calibration {
    /// Fits a curve: [`Calibration::Power`] on fewer than 1,000 clicks, isotonic on more.
    ///
    /// Isotonic: up to 100 bins of equal weight, each with its clicks and expected exposures; a Beta prior worth 200
    /// exposures at the power curve; neighbours pooled until shares rise (PAVA, doi:10.1214/aoms/1177728423).
    /// Observations whose numbers are not finite, or whose weight or exposure is not positive, are left out.
    pub fn fit(observations: &[Observation]) -> Self {
        let mut rows: Vec<Observation> = observations.iter().copied().filter(sound).collect();
        if rows.is_empty() {
            return Self::None;
        }
        let power = power(&rows);
        let clicks = rows.iter().filter(|row| row.clicked).count();
        if clicks < FREE_FROM_CLICKS {
            return power;
        }
        rows.sort_by(|a, b| a.logit.total_cmp(&b.logit).then(a.clicked.cmp(&b.clicked)));
        isotonic(&rows, (clicks / CLICKS_PER_BIN).min(MOST_BINS), &power)
    }

    /// The probability that a logit stands for.
    pub fn probability(&self, said: f64) -> f64 {
        let said = if said.is_nan() { -LOGIT_LIMIT } else { said.clamp(-LOGIT_LIMIT, LOGIT_LIMIT) };
        match self {
            Self::None => sigmoid(said),
            Self::Power { centre, level, exponent } => {
                let x = sigmoid(said).ln() - centre;
                (centre + level + exponent * x).exp().min(1.0)
            }
            Self::Isotonic(points) => sigmoid(interpolated(points, said)),
        }
    }
}

fn sound(row: &Observation) -> bool {
    let positive = |x: f32| x.is_finite() && x > 0.0;
    row.logit.is_finite() && positive(row.exposure) && positive(row.weight)
}

fn interpolated(points: &[(f64, f64)], x: f64) -> f64 {
    let after = points.partition_point(|point| point.0 < x);
    let shifted = |point: &(f64, f64)| x + point.1 - point.0;
    match (after.checked_sub(1).and_then(|before| points.get(before)), points.get(after)) {
        (Some(left), Some(right)) => {
            let share = (x - left.0) / (right.0 - left.0);
            left.1 + share * (right.1 - left.1)
        }
        (Some(end), None) | (None, Some(end)) => shifted(end),
        (None, None) => x,
    }
}

/// Two parameters by Newton's method on the Poisson likelihood of clicks, pulled towards "the model is right".
fn power(rows: &[Observation]) -> Calibration {
    let said: Vec<f64> = rows.iter().map(|row| sigmoid(f64::from(row.logit)).ln()).collect();
    let weights: Vec<f64> = rows.iter().map(|row| f64::from(row.weight) * f64::from(row.exposure)).collect();
    let total: f64 = weights.iter().sum();
    let centre = said.iter().zip(&weights).map(|(x, w)| x * w).sum::<f64>() / total;
    let (mut level, mut exponent) = (0.0_f64, 1.0_f64);
    for _ in 0..30 {
        let (mut slope_level, mut slope_exponent) =
            (LEVEL_PRECISION * level, EXPONENT_PRECISION * (exponent - 1.0));
        let (mut a, mut b, mut c) = (LEVEL_PRECISION, 0.0, EXPONENT_PRECISION);
        for ((row, x), w) in rows.iter().zip(&said).zip(&weights) {
            let x = x - centre;
            let expected = w * (centre + level + exponent * x).min(0.0).exp();
            let error = expected - if row.clicked { f64::from(row.weight) } else { 0.0 };
            slope_level += error;
            slope_exponent += error * x;
            a += expected;
            b += expected * x;
            c += expected * x * x;
        }
        let determinant = a * c - b * b;
        let step = |x: f64| (x / determinant).clamp(-0.5, 0.5);
        let (by_level, by_exponent) =
            (step(c * slope_level - b * slope_exponent), step(a * slope_exponent - b * slope_level));
        level = (level - by_level).clamp(-3.0, 3.0);
        exponent = (exponent - by_exponent).clamp(0.2, 3.0);
        if by_level.abs().max(by_exponent.abs()) < 1e-9 {
            break;
        }
    }
    Calibration::Power { centre, level, exponent }
}

/// Neighbouring observations.
#[derive(Clone, Copy, Default)]
struct Block {
    clicks: f64,
    exposures: f64,
    /// Weighted sum of what was said, as probabilities.
    said: f64,
    weight: f64,
}

impl Block {
    fn share(&self) -> f64 {
        self.clicks / self.exposures
    }

    fn joined(self, other: Self) -> Self {
        Self {
            clicks: self.clicks + other.clicks,
            exposures: self.exposures + other.exposures,
            said: self.said + other.said,
            weight: self.weight + other.weight,
        }
    }
}

fn isotonic(rows: &[Observation], bins: usize, prior: &Calibration) -> Calibration {
    let weight = |row: &Observation| f64::from(row.weight) * f64::from(row.exposure);
    let aim = rows.iter().map(weight).sum::<f64>() / bins as f64;
    let mut pooled: Vec<Block> = Vec::with_capacity(bins + 1);
    let mut open = Block::default();
    for (at, row) in rows.iter().enumerate() {
        let w = weight(row);
        open = open.joined(Block {
            clicks: if row.clicked { f64::from(row.weight) } else { 0.0 },
            exposures: w,
            said: w * sigmoid(f64::from(row.logit)),
            weight: w,
        });
        let tied = rows.get(at + 1).is_some_and(|next| next.logit.total_cmp(&row.logit).is_eq());
        if (open.weight >= aim && !tied) || at + 1 == rows.len() {
            let prior = prior.probability(logit(open.said / open.weight));
            open.clicks += BETA_STRENGTH * prior;
            open.exposures += BETA_STRENGTH;
            pool(&mut pooled, std::mem::take(&mut open));
        }
    }
    let points = pooled.iter().map(|block| (logit(block.said / block.weight), logit(block.share().min(1.0))));
    let mut increasing: Vec<(f64, f64)> = Vec::with_capacity(pooled.len());
    for point in points {
        // Rounding, or shares at a bound, may make two alike.
        if increasing.last().is_none_or(|last| last.0 < point.0 && last.1 < point.1) {
            increasing.push(point);
        }
    }
    Calibration::Isotonic(increasing)
}

/// Adds a block, joined with those before it that have no smaller share.
fn pool(pooled: &mut Vec<Block>, mut block: Block) {
    while let Some(last) = pooled.pop_if(|last| last.share() >= block.share()) {
        block = last.joined(block);
    }
    pooled.push(block);
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// `count` ads that say logits between -4.5 and -1.5 and are clicked with `truth(said)`, half of them in a slot
    /// that is looked at half as often.
    fn observed(count: usize, truth: impl Fn(f64) -> f64) -> Vec<Observation> {
        let mut random = SmallRng::seed_from_u64(7);
        let mut one = |at: usize| {
            let said = random.random_range(-4.5..-1.5);
            let exposure = if at.is_multiple_of(2) { 1.0 } else { 0.5 };
            let clicked = random.random_bool(truth(said) * exposure);
            Observation { logit: said as f32, exposure: exposure as f32, weight: 1.0, clicked }
        };
        (0..count).map(&mut one).collect()
    }

    #[test]
    fn neighbours_are_pooled_until_shares_rise() {
        let block = |clicks, exposures| Block { clicks, exposures, said: 0.0, weight: exposures };
        let mut pooled = Vec::new();
        for (clicks, exposures) in [(1.0, 10.0), (3.0, 10.0), (2.0, 10.0), (1.0, 10.0), (4.0, 10.0)] {
            pool(&mut pooled, block(clicks, exposures));
        }
        let found: Vec<(f64, f64)> = pooled.iter().map(|b| (b.clicks, b.exposures)).collect();
        assert_eq!(found, [(1.0, 10.0), (6.0, 30.0), (4.0, 10.0)]);
    }

    #[test]
    fn a_curve_is_found() {
        // Too high above, too low below: no constant mends that.
        let truth = |said: f64| sigmoid(-2.8 + 0.6 * (said + 2.8) - 0.2);
        let fitted = Calibration::fit(&observed(100_000, truth));
        assert!(matches!(&fitted, Calibration::Isotonic(points) if points.len() > 5), "{fitted:?}");
        for said in [-4.2, -3.5, -2.8, -2.1, -1.7] {
            let ratio = fitted.probability(said) / truth(said);
            assert!((0.9..1.1).contains(&ratio), "{said}: {ratio}");
        }
    }

    #[test]
    fn few_clicks_move_two_parameters() {
        let half = |said: f64| sigmoid(said) / 2.0;
        let fitted = Calibration::fit(&observed(10_000, half));
        assert!(matches!(fitted, Calibration::Power { .. }), "{fitted:?}");
        for said in [-4.0, -3.0, -2.0] {
            let ratio = fitted.probability(said) / half(said);
            assert!((0.8..1.2).contains(&ratio), "{said}: {ratio}");
        }
        let three = Calibration::fit(&observed(3, |_| 1.0)).probability(-3.0) / sigmoid(-3.0);
        assert!((1.0..2.5).contains(&three), "three clicks in three are not believed: {three}");
        assert_eq!(Calibration::fit(&[]), Calibration::None);
    }

    #[test]
    fn what_is_said_higher_never_stands_for_less() {
        let clicks =
            Calibration::fit(&observed(60_000, |said| sigmoid(said) + 0.02 * (said * 9.0).sin().abs()));
        let few = Calibration::fit(&observed(500, sigmoid));
        for curve in [Calibration::None, few, clicks] {
            let mut last = 0.0;
            for step in -400..400 {
                let p = curve.probability(f64::from(step) / 10.0);
                assert!(p >= last && p <= 1.0, "{curve:?} at {step}");
                last = p;
            }
            assert!(curve.probability(f64::NAN) <= curve.probability(-30.0));
        }
    }

    #[test]
    fn weights_count_and_nonsense_does_not() {
        let base = observed(50_000, |_| 0.05);
        let heavy: Vec<Observation> = base
            .iter()
            .map(|row| Observation { weight: if row.clicked { 2.0 } else { 1.0 }, ..*row })
            .collect();
        let ratio = Calibration::fit(&heavy).probability(-3.0) / Calibration::fit(&base).probability(-3.0);
        assert!((1.8..2.0).contains(&ratio), "{ratio}");
        let odd = Observation { logit: f32::NAN, exposure: 1.0, weight: 1.0, clicked: true };
        let none = Observation { logit: 0.0, weight: 0.0, ..odd };
        assert_eq!(Calibration::fit(&[odd, none]), Calibration::None);
    }
}
