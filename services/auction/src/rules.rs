//! What an auction is run by.

use serde::{Deserialize, Serialize};

use crate::{AuctionError, Micros};

/// Largest bid or reserve, one thousand million currency units: exactly representable as `f64`.
pub const MAX_BID: Micros = Micros(1_000_000_000_000_000);
/// Most candidates of one auction.
pub const MAX_CANDIDATES: usize = 10_000;
/// Most slots of one auction.
pub const MAX_SLOTS: usize = 64;

/// How a click is priced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mechanism {
    /// Laddered Vickrey–Clarke–Groves prices: bidding one's value is a best response.
    #[default]
    Vcg,
    /// Generalised second price: the lowest bid that keeps the slot. Not truthful with several slots.
    Gsp,
}

/// The rules of one auction.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// How a click is priced.
    pub mechanism: Mechanism,
    /// Least price of a click, in bid space: it is not weighted by quality, which earns more than a weighted
    /// one (Thompson and Leyton-Brown 2013). A lower bid takes no part.
    pub reserve: Micros,
    /// Chance that a slot is looked at, relative to the best; one number a slot, falling, over 0, at most 1.
    pub slot_multipliers: Vec<f64>,
    /// Exponent of the click probability in the ranking score, 0 to 1. At 1 the ranking maximises expected
    /// value; at 0 it is by bid alone; between, efficiency is traded for revenue.
    pub squash_gamma: f64,
}

impl Rules {
    /// Checks every rule; the first that does not hold is the error.
    pub fn validate(&self) -> Result<(), AuctionError> {
        if self.reserve < Micros::ZERO || self.reserve > MAX_BID {
            return Err(AuctionError::Reserve { found: self.reserve });
        }
        if !(0.0..=1.0).contains(&self.squash_gamma) {
            return Err(AuctionError::SquashGamma { found: self.squash_gamma });
        }
        let multipliers = &self.slot_multipliers;
        let number_fits = (1..=MAX_SLOTS).contains(&multipliers.len());
        let within = multipliers.iter().all(|m| *m > 0.0 && *m <= 1.0);
        let falling = multipliers.windows(2).all(|pair| pair[0] >= pair[1]);
        if number_fits && within && falling {
            Ok(())
        } else {
            Err(AuctionError::SlotMultipliers { found: multipliers.clone() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(reserve: i64, slot_multipliers: &[f64], squash_gamma: f64) -> Rules {
        Rules {
            mechanism: Mechanism::Vcg,
            reserve: Micros(reserve),
            slot_multipliers: slot_multipliers.to_vec(),
            squash_gamma,
        }
    }

    #[test]
    fn rules_that_make_no_sense_are_refused() {
        assert_eq!(rules(0, &[1.0, 0.6, 0.6], 1.0).validate(), Ok(()));
        assert!(matches!(rules(-1, &[1.0], 1.0).validate(), Err(AuctionError::Reserve { .. })));
        assert!(matches!(rules(MAX_BID.0 + 1, &[1.0], 1.0).validate(), Err(AuctionError::Reserve { .. })));
        for gamma in [-0.1, 1.1, f64::NAN] {
            assert!(matches!(rules(0, &[1.0], gamma).validate(), Err(AuctionError::SquashGamma { .. })));
        }
        for slots in [&[] as &[f64], &[0.0], &[1.1], &[0.5, 0.6], &[f64::NAN], &[1.0; MAX_SLOTS + 1]] {
            assert!(matches!(rules(0, slots, 1.0).validate(), Err(AuctionError::SlotMultipliers { .. })));
        }
    }
}
