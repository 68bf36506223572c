//! The reserve that the bids of others suggest.
//!
//! Myerson's reserve solves `r − (1 − F(r))/f(r) = 0`: it is the price that earns most from a single bidder drawn from
//! `F`. On a sample no density is needed: among the bids themselves, the one with the largest `r · #{b ≥ r}`. A
//! reserve that followed a bidder's own bids would teach it to bid less today and pay less tomorrow, so its own are
//! left out (Lahaie, Muñoz Medina, Sivan and Vassilvitskii 2018 on incentives over time).

use crate::{AuctionError, MAX_BID, Micros};

/// Most bids of a sample.
pub const MAX_SAMPLE: usize = 1_000_000;

/// How far a sample is trusted.
#[derive(Clone, Debug, PartialEq)]
pub struct ReserveRules {
    /// With fewer bids of others than this, the reserve is `floor`: a handful says little.
    pub least_bids: usize,
    /// Share of the largest bids that cannot set the reserve, 0 to 1: a single very large bid would otherwise
    /// (Dhangwatnotai, Roughgarden and Yan 2015).
    pub guard: f64,
    /// Least reserve.
    pub floor: Micros,
    /// Largest reserve.
    pub ceiling: Micros,
}

impl Default for ReserveRules {
    fn default() -> Self {
        Self { least_bids: 30, guard: 0.05, floor: Micros::ZERO, ceiling: MAX_BID }
    }
}

/// The reserve for `bidder`: the most lucrative single price against `bids` of all others, between floor and ceiling.
///
/// `bids` are pairs of bidder and bid, all per click or all per thousand, of one kind of place (a topic and country);
/// several of one bidder count each. The order does not matter, and of two prices that earn the same the lower one is
/// taken, which sells more. Time `n log n`.
///
/// Errors: more than [`MAX_SAMPLE`] bids, a bid that is not over 0 and at most [`MAX_BID`], a guard outside 0 to 1, or
/// a floor over the ceiling.
pub fn from_others<Id: AsRef<[u8]>>(
    bidder: &[u8],
    bids: &[(Id, Micros)],
    rules: &ReserveRules,
) -> Result<Micros, AuctionError> {
    rules.validate()?;
    if bids.len() > MAX_SAMPLE {
        return Err(AuctionError::TooManyBids { found: bids.len(), limit: MAX_SAMPLE });
    }
    if let Some((id, bid)) = bids.iter().find(|(_, bid)| *bid <= Micros::ZERO || *bid > MAX_BID) {
        let candidate = String::from_utf8_lossy(id.as_ref()).into_owned();
        return Err(AuctionError::Bid { candidate, found: *bid });
    }
    let mut others: Vec<i64> =
        bids.iter().filter(|(id, _)| id.as_ref() != bidder).map(|(_, bid)| bid.0).collect();
    if others.len() < rules.least_bids.max(1) {
        return Ok(rules.floor);
    }
    others.sort_unstable_by(|a, b| b.cmp(a));
    let guarded = ((others.len() as f64 * rules.guard) as usize).min(others.len() - 1);
    let earns = |(at, price): &(usize, &i64)| i128::from(**price) * (*at as i128 + 1);
    let best = others.iter().enumerate().skip(guarded).max_by_key(earns);
    let (_, price) = best.expect("at least one bid is not guarded");
    Ok(Micros(*price).clamp(rules.floor, rules.ceiling))
}

impl ReserveRules {
    fn validate(&self) -> Result<(), AuctionError> {
        if !(0.0..=1.0).contains(&self.guard) {
            return Err(AuctionError::Range { field: "guard", found: self.guard, expected: "0 to 1" });
        }
        for reserve in [self.floor, self.ceiling] {
            if reserve < Micros::ZERO || reserve > MAX_BID {
                return Err(AuctionError::Reserve { found: reserve });
            }
        }
        if self.floor > self.ceiling {
            let found = self.floor.0 as f64;
            return Err(AuctionError::Range { field: "floor", found, expected: "at most the ceiling" });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(bids: impl IntoIterator<Item = i64>) -> Vec<(String, Micros)> {
        bids.into_iter().enumerate().map(|(i, bid)| (format!("b{i}"), Micros(bid))).collect()
    }

    /// Bids spread evenly over 0 to 1: one half, as for the distribution.
    #[test]
    fn one_half_for_even_bids() {
        let bids = sample((1..=1000).map(|i| i * 1000));
        assert_eq!(from_others(b"x", &bids, &ReserveRules::default()), Ok(Micros(500_000)));
    }

    /// 30 bids of 1 and 70 of 0.2: 1 · 30 earns more than 0.2 · 100, and with 15 of 1 it does not.
    #[test]
    fn the_price_that_earns_most() {
        for (large, expected) in [(30, 1_000_000), (15, 200_000), (20, 200_000)] {
            let bids = sample((0..100).map(|i| if i < large { 1_000_000 } else { 200_000 }));
            assert_eq!(from_others(b"x", &bids, &ReserveRules::default()), Ok(Micros(expected)), "{large}");
        }
    }

    #[test]
    fn own_bids_never_move_the_own_reserve() {
        let mut bids = sample((1..=200).map(|i| i * 7_000));
        let rules = ReserveRules::default();
        let before = from_others(b"me", &bids, &rules);
        let others_before = from_others(b"b1", &bids, &rules);
        bids.extend((0..300).map(|i| ("me".to_owned(), Micros(5_000_000 + i))));
        assert_eq!(from_others(b"me", &bids, &rules), before);
        assert_ne!(from_others(b"b1", &bids, &rules), others_before, "but they move that of others");
    }

    #[test]
    fn one_huge_bid_is_guarded_and_a_small_sample_is_not_trusted() {
        let mut bids = sample((1..=99).map(|i| i * 10_000));
        bids.push(("huge".into(), Micros(900_000_000)));
        assert_eq!(from_others(b"x", &bids, &ReserveRules::default()), Ok(Micros(500_000)));
        let rules = ReserveRules { floor: Micros(50_000), ..ReserveRules::default() };
        assert_eq!(from_others(b"x", &bids[..29], &rules), Ok(Micros(50_000)));
        assert_eq!(
            from_others::<String>(b"x", &[], &ReserveRules { least_bids: 0, ..rules }),
            Ok(Micros(50_000))
        );
    }

    #[test]
    fn bad_samples_are_refused() {
        let good = ReserveRules::default();
        assert!(from_others(b"x", &sample([0]), &good).is_err());
        assert!(from_others(b"x", &sample([1]), &ReserveRules { guard: f64::NAN, ..good.clone() }).is_err());
        let upside_down = ReserveRules { floor: Micros(2), ceiling: Micros(1), ..good };
        assert!(from_others(b"x", &sample([1]), &upside_down).is_err());
    }
}
