//! How much too high the estimates of winners are, and after calibration.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::calibrate::{Calibration, Observation};
use super::figures::Ratio;
use super::ftrl::logit;
use super::synthetic::normal;

/// Predicted by true clicks of winners when every estimate is right on average and wrong by a factor whose logarithm has
/// standard deviation `noise`; as it is, and after a calibration on the winners of as many other auctions.
///
/// Bids and probabilities are lognormal with standard deviation .5, the mean probability is 4 %.
pub fn winners_curse(auctions: usize, bidders: usize, noise: f64, seed: u64) -> (f64, f64) {
    let mut random = SmallRng::seed_from_u64(seed);
    let winner = |random: &mut SmallRng| {
        let mut best = (f64::MIN, 0.0, 0.0);
        for _ in 0..bidders {
            let truth = (0.04 * (0.5 * normal(random) - 0.125).exp()).min(0.5);
            let said = (truth * (noise * normal(random) - noise * noise / 2.0).exp()).min(0.9);
            let score = said * (0.5 * normal(random)).exp();
            if score > best.0 {
                best = (score, truth, said);
            }
        }
        (best.1, best.2)
    };
    let mut fitted = Vec::with_capacity(auctions);
    for _ in 0..auctions {
        let (truth, said) = winner(&mut random);
        let clicked = random.random_bool(truth);
        fitted.push(Observation { logit: logit(said) as f32, exposure: 1.0, weight: 1.0, clicked });
    }
    let calibration = Calibration::fit(&fitted);
    let (mut naive, mut fixed) = (Ratio::default(), Ratio::default());
    for _ in 0..auctions {
        let (truth, said) = winner(&mut random);
        naive.add(said, truth);
        fixed.add(calibration.probability(logit(said)), truth);
    }
    (naive.get(), fixed.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curse_is_seen_and_lifted() {
        let (naive, fixed) = winners_curse(60_000, 5, 0.3, 1);
        assert!(naive > 1.08, "{naive}");
        assert!((0.95..1.05).contains(&fixed), "{fixed}");
    }
}
