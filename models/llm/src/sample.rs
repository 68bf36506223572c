//! Choosing the next token from the model's logits.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Greedy or seeded choice.
pub(crate) enum Sampler {
    /// The largest logit; of equal ones the lowest token.
    Greedy,
    /// Drawn from the softmax of `logits / temperature`.
    Softmax { temperature: f32, rng: Box<StdRng> },
}

impl Sampler {
    /// Greedy when `temperature` is 0; anything else must be positive and finite.
    pub(crate) fn new(temperature: f32, seed: u64) -> Result<Self, String> {
        if !temperature.is_finite() || temperature < 0.0 {
            return Err(format!("temperature is {temperature}, expected 0 or a positive number"));
        }
        // Below this, dividing the logits would overflow, and the draw is greedy anyway.
        if temperature < 1e-4 {
            return Ok(Self::Greedy);
        }
        Ok(Self::Softmax { temperature, rng: Box::new(StdRng::seed_from_u64(seed)) })
    }

    /// The next token, or nothing when a logit is not finite.
    pub(crate) fn next(&mut self, logits: &[f32]) -> Option<u32> {
        if logits.is_empty() || logits.iter().any(|v| !v.is_finite()) {
            return None;
        }
        let mut best = 0;
        for (id, logit) in logits.iter().enumerate() {
            if *logit > logits[best] {
                best = id;
            }
        }
        match self {
            Self::Greedy => Some(best as u32),
            Self::Softmax { temperature, rng } => {
                let weight = |logit: f32| f64::from((logit - logits[best]) / *temperature).exp();
                let total: f64 = logits.iter().map(|&logit| weight(logit)).sum();
                let mut left = rng.random::<f64>() * total;
                for (id, &logit) in logits.iter().enumerate() {
                    left -= weight(logit);
                    if left < 0.0 {
                        return Some(id as u32);
                    }
                }
                Some(best as u32) // rounding left a remainder of about 1e-12
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_takes_the_first_largest() {
        let mut greedy = Sampler::new(0.0, 1).expect("valid");
        assert_eq!(greedy.next(&[0.0, 3.0, 3.0, -1.0]), Some(1));
        assert_eq!(greedy.next(&[0.0, f32::NAN]), None);
        assert_eq!(greedy.next(&[]), None);
    }

    #[test]
    fn draws_follow_the_softmax_and_the_seed() {
        let draw = |seed, n| {
            let mut sampler = Sampler::new(0.5, seed).expect("valid");
            (0..n).map(|_| sampler.next(&[0.0, 0.5, -30.0]).expect("finite")).collect::<Vec<_>>()
        };
        assert_eq!(draw(7, 50), draw(7, 50));
        assert_ne!(draw(7, 50), draw(8, 50));
        let ones = draw(3, 20_000).iter().filter(|&&id| id == 1).count() as f64 / 20_000.0;
        let expected = 1.0f64.exp() / (1.0 + 1.0f64.exp());
        assert!((ones - expected).abs() < 0.02, "{ones} against {expected}");
        assert!(draw(3, 20_000).iter().all(|&id| id != 2), "probability 6e-27");
    }

    #[test]
    fn impossible_temperatures_are_refused() {
        for temperature in [-0.1, f32::NAN, f32::INFINITY] {
            assert!(Sampler::new(temperature, 0).is_err());
        }
    }
}
