//! A number that is certain to lie within 0 to 1.

use serde::{Deserialize, Serialize};

/// A probability: finite and within 0 to 1 from construction on. A number in JSON.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Probability(f64);

/// The number is NaN, infinite, or outside 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{found} is not a probability: expected a number within 0 to 1")]
pub struct NotAProbability {
    /// The number found.
    pub found: f64,
}

impl Probability {
    /// Certain.
    pub const ONE: Self = Self(1.0);
    /// Impossible.
    pub const ZERO: Self = Self(0.0);

    /// 0.02.
    pub(crate) const TWO_IN_A_HUNDRED: Self = Self(0.02);

    /// Wraps `value` when it is finite and within 0 to 1.
    pub fn new(value: f64) -> Result<Self, NotAProbability> {
        if (0.0..=1.0).contains(&value) { Ok(Self(value)) } else { Err(NotAProbability { found: value }) }
    }

    /// The logistic function of a log-odds value; NaN, which has no place on the scale, is refused.
    pub fn from_log_odds(value: f64) -> Result<Self, NotAProbability> {
        Self::new(1.0 / (1.0 + (-value).exp()))
    }

    /// The number, within 0 to 1.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Probability {
    type Error = NotAProbability;
    fn try_from(value: f64) -> Result<Self, NotAProbability> {
        Self::new(value)
    }
}

impl From<Probability> for f64 {
    fn from(value: Probability) -> Self {
        value.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_zero_to_one_gets_in() {
        for good in [0.0, 0.5, 1.0, f64::MIN_POSITIVE] {
            assert!(Probability::new(good).is_ok(), "{good}");
        }
        for bad in [-1e-9, 1.0 + 1e-9, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(Probability::new(bad).is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<Probability>("1.5").is_err());
    }

    #[test]
    fn log_odds_saturate_instead_of_overflowing() {
        assert_eq!(Probability::from_log_odds(f64::INFINITY), Ok(Probability::ONE));
        assert_eq!(Probability::from_log_odds(-1e6), Ok(Probability::ZERO));
        assert_eq!(Probability::from_log_odds(0.0), Probability::new(0.5));
        assert!(Probability::from_log_odds(f64::NAN).is_err());
    }
}
