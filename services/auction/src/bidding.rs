//! From a bid strategy to what is bid in one auction.
//!
//! The multipliers come from [`crate::pacing`]: `ℓ_B` holds the budget and `ℓ_C` the cost of a conversion. Both are
//! logarithms, 0 for "as the advertiser said", and a positive one bids less.

use crate::{AuctionError, MAX_BID, Micros, Probability};

/// The farthest that [`Strategy::TargetCpa`] bids over `target · pCVR`: its logarithm is 1.1. Where prices lie far
/// under bids the average stays at the target with bids over it; where they do not, the dual takes it back.
pub const MOST_OVER_TARGET: f64 = 3.0;

/// What an advertiser wants for its money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Clicks that are worth `bid` each.
    ManualCpc {
        /// Value of a click.
        bid: Micros,
    },
    /// As many clicks as the budget buys, none for more than `most`.
    MaximiseClicks {
        /// The most for one click.
        most: Micros,
    },
    /// As many conversions as the budget buys, at `target` each on average, and no click for more than `most`.
    TargetCpa {
        /// Cost of a conversion, on average.
        target: Micros,
        /// The most for one click.
        most: Micros,
    },
}

/// Prices of an advertiser's limits, in logarithms.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Duals {
    /// `ℓ_B` of the budget, see [`crate::pacing::Pacer`]; for [`Strategy::TargetCpa`] it may be under 0.
    pub budget: f64,
    /// `ℓ_C` of the cost of a conversion, see [`crate::pacing::CpaDual`]; under 0 bids over `target · pCVR`.
    pub cpa: f64,
}

/// What `strategy` bids for a click, rounded down to a micro; `None` for less than a micro, which takes no part.
///
/// - Manual: `bid · e^{−ℓ_B}`.
/// - Most clicks under a budget bids the same for every click, `1/μ_B`; with `1/μ_B = most · e^{−ℓ_B}` it is the same
///   formula, from the most downwards.
/// - Target cost: `target · pCVR · min(e^{−ℓ_C}, e^{−ℓ_B})`, at most `most` and [`MOST_OVER_TARGET`] times
///   `target · pCVR`. Whichever limit binds sets the bid, and neither controller knows of the other.
///
/// Errors: an amount that is not over 0 and at most [`MAX_BID`], or a dual that is not a number.
pub fn effective_bid(
    strategy: Strategy,
    conversion: Probability,
    duals: Duals,
) -> Result<Option<Micros>, AuctionError> {
    for (field, found) in [("budget dual", duals.budget), ("cpa dual", duals.cpa)] {
        if found.is_nan() {
            return Err(AuctionError::Range { field, found, expected: "a number" });
        }
    }
    let amount = |field: &str, amount: Micros| {
        let fits = amount > Micros::ZERO && amount <= MAX_BID;
        let error = || AuctionError::Bid { candidate: field.to_owned(), found: amount };
        fits.then_some(amount.0 as f64).ok_or_else(error)
    };
    let exact = match strategy {
        Strategy::ManualCpc { bid } => amount("bid", bid)? * at_most_one(duals.budget),
        Strategy::MaximiseClicks { most } => amount("most", most)? * at_most_one(duals.budget),
        Strategy::TargetCpa { target, most } => {
            let multiplier = libm::exp(-duals.cpa.max(duals.budget)).min(MOST_OVER_TARGET);
            let wanted = amount("target", target)? * conversion.get() * multiplier;
            wanted.min(amount("most", most)?)
        }
    };
    let bid = Micros(exact.floor() as i64);
    Ok((bid > Micros::ZERO).then_some(bid))
}

/// `e^{−ℓ}`, at most 1.
fn at_most_one(dual: f64) -> f64 {
    libm::exp(-dual).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_strategy_bids_by_its_formula() {
        let half = std::f64::consts::LN_2;
        let manual = Strategy::ManualCpc { bid: Micros(2_000_000) };
        let clicks = Strategy::MaximiseClicks { most: Micros(3_000_000) };
        let target = Strategy::TargetCpa { target: Micros(20_000_000), most: Micros(1_500_000) };
        for (strategy, conversion, budget, cpa, expected) in [
            (manual, 0.0, 0.0, 0.0, Some(2_000_000)),
            (manual, 0.0, half, 9.0, Some(1_000_000)),
            (manual, 0.0, -half, 0.0, Some(2_000_000)),
            (manual, 0.0, 60.0, 0.0, None),
            (clicks, 0.0, half, 0.0, Some(1_500_000)),
            (target, 0.05, 0.0, 0.0, Some(1_000_000)),
            (target, 0.05, 0.0, half, Some(500_000)),
            (target, 0.05, half, 0.0, Some(500_000)),
            // Under target on both counts: more than target · pCVR, up to the most.
            (target, 0.05, -half, -half, Some(1_500_000)),
            (target, 0.01, -9.0, -9.0, Some(600_000)),
            (target, 0.0, 0.0, 0.0, None),
        ] {
            let conversion = Probability::new(conversion).expect("within 0 to 1");
            let found = effective_bid(strategy, conversion, Duals { budget, cpa }).expect("valid");
            // A micro off where a power of e is rounded.
            let off = found.map_or(0, |bid| bid.0) - expected.unwrap_or(0);
            assert!(off.abs() <= 1, "{strategy:?} {budget} {cpa}: {found:?} expected {expected:?}");
        }
    }

    #[test]
    fn amounts_and_duals_out_of_range_are_refused() {
        let bid = |strategy, budget| effective_bid(strategy, Probability::ONE, Duals { budget, cpa: 0.0 });
        assert!(bid(Strategy::ManualCpc { bid: Micros(0) }, 0.0).is_err());
        assert!(bid(Strategy::MaximiseClicks { most: Micros(MAX_BID.0 + 1) }, 0.0).is_err());
        assert!(bid(Strategy::ManualCpc { bid: Micros(1) }, f64::NAN).is_err());
    }
}
