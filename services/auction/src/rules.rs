//! What an auction is run by.

use serde::{Deserialize, Serialize};

use crate::{AuctionError, Micros, Probability};

/// Largest bid or reserve, one thousand million currency units: exactly representable as `f64`.
pub const MAX_BID: Micros = Micros(1_000_000_000_000_000);
/// Most candidates of one auction.
pub const MAX_CANDIDATES: usize = 10_000;
/// Most slots of one auction.
pub const MAX_SLOTS: usize = 64;

/// A usual click rate, where nothing better is known of the place; see [`Rules::squash_pivot`].
pub const SQUASH_PIVOT: Probability = Probability::TWO_IN_A_HUNDRED;

/// How an award is priced.
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
    /// How an award is priced.
    pub mechanism: Mechanism,
    /// Least price of a click, in bid space: it is not weighted by quality, which earns more than a weighted
    /// one (Thompson and Leyton-Brown 2013). A lower bid takes no part.
    pub reserve: Micros,
    /// Least price of a thousand impressions, for those who pay for impressions. A lower bid takes no part.
    pub reserve_per_mille: Micros,
    /// Chance that a slot is looked at, relative to the best; one number a slot, falling, over 0, at most 1.
    pub slot_multipliers: Vec<f64>,
    /// Exponent of the click probability in the ranking score, 0 to 1. At 1 the ranking maximises expected
    /// value; at 0 it is by bid alone; between, efficiency is traded for revenue.
    pub squash_gamma: f64,
    /// Click probability `p0` that squashing leaves as it is, over 0: the factor of a click is `p0 · (ctr/p0)^γ`, so
    /// that with `γ` under 1 clicks and impressions still meet in the same unit. Without bidders per impression it
    /// moves neither order nor price.
    pub squash_pivot: Probability,
}

impl Rules {
    /// Checks every rule; the first that does not hold is the error.
    pub fn validate(&self) -> Result<(), AuctionError> {
        for reserve in [self.reserve, self.reserve_per_mille] {
            if reserve < Micros::ZERO || reserve > MAX_BID {
                return Err(AuctionError::Reserve { found: reserve });
            }
        }
        if !(0.0..=1.0).contains(&self.squash_gamma) {
            return Err(AuctionError::SquashGamma { found: self.squash_gamma });
        }
        if self.squash_pivot.get() <= 0.0 {
            return Err(AuctionError::SquashPivot);
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
            reserve_per_mille: Micros::ZERO,
            slot_multipliers: slot_multipliers.to_vec(),
            squash_gamma,
            squash_pivot: SQUASH_PIVOT,
        }
    }

    #[test]
    fn rules_that_make_no_sense_are_refused() {
        assert_eq!(rules(0, &[1.0, 0.6, 0.6], 1.0).validate(), Ok(()));
        assert!(matches!(rules(-1, &[1.0], 1.0).validate(), Err(AuctionError::Reserve { .. })));
        assert!(matches!(rules(MAX_BID.0 + 1, &[1.0], 1.0).validate(), Err(AuctionError::Reserve { .. })));
        let per_mille = Rules { reserve_per_mille: Micros(-1), ..rules(0, &[1.0], 1.0) };
        assert!(matches!(per_mille.validate(), Err(AuctionError::Reserve { .. })));
        let pivot = Rules { squash_pivot: Probability::ZERO, ..rules(0, &[1.0], 1.0) };
        assert_eq!(pivot.validate(), Err(AuctionError::SquashPivot));
        for gamma in [-0.1, 1.1, f64::NAN] {
            assert!(matches!(rules(0, &[1.0], gamma).validate(), Err(AuctionError::SquashGamma { .. })));
        }
        for slots in [&[] as &[f64], &[0.0], &[1.1], &[0.5, 0.6], &[f64::NAN], &[1.0; MAX_SLOTS + 1]] {
            assert!(matches!(rules(0, slots, 1.0).validate(), Err(AuctionError::SlotMultipliers { .. })));
        }
    }
}
