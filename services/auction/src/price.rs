//! Slots to the best candidates, and the price of each.

use crate::rank::{Ranked, rank};
use crate::{AuctionError, Billing, Candidate, Mechanism, Micros, Rules};

/// What keeps the price of an award from being lower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PriceSetBy<Id> {
    /// The next candidate below; with VCG also those further down, of which this one is the first.
    Competitor(Id),
    /// The reserve.
    Reserve,
    /// Showing no ad, which takes part in a [segment auction](crate::segment) alone.
    NoAd,
}

/// A slot that was won.
#[derive(Clone, Debug, PartialEq)]
pub struct Award<Id> {
    /// Who won it.
    pub id: Id,
    /// Which one, counted from 1 at the top.
    pub slot: usize,
    /// What is paid for.
    pub billing: Billing,
    /// Price of a click or of a thousand impressions, as `billing` says: at least the reserve, at most the effective
    /// bid.
    pub price: Micros,
    /// Ranking score: micros for one impression of the first slot.
    pub score: f64,
    /// What keeps the price from being lower.
    pub price_set_by: PriceSetBy<Id>,
}

impl<Id> Award<Id> {
    /// What one billed event costs: a click, or an impression that was seen, which is a thousandth of the price
    /// rounded down to a whole micro.
    pub fn price_of_event(&self) -> Micros {
        match self.billing {
            Billing::PerClick => self.price,
            Billing::PerMille => Micros(self.price.0 / 1000),
        }
    }
}

/// Runs one auction: at most one award a slot, in the order of the slots.
///
/// A candidate bids `b = pacing · bid`. Its weight `ω` is `p0 · (ctr/p0)^γ · h(s)` if it pays for clicks, and
/// `h(s) / 1000` if it pays for impressions, so that `score = b · ω` is money for an impression of the first slot in
/// both cases. Candidates are ordered by score, and the price of rank `k`, for a click or a thousand impressions, is
///
/// - GSP: `max(r, score[k+1] / ω[k])`;
/// - VCG: `(1/α[k]) · Σ over slots j ≥ k of (α[j] − α[j+1]) · max(r, score[j+1] / ω[k])`, with `α` of the slot
///   after the last 0 (Aggarwal, Goel and Motwani 2006: the laddered price that makes truth a best response).
///
/// What VCG makes truthful, and on what conditions:
/// - who pays for clicks has a value per click, and clicks of a slot are in proportion to `α`;
/// - who pays for impressions has a value per impression *that is seen*, is charged for no other, and the chance of
///   being seen is in proportion to the same `α`. Charged for every impression alike, it would gain by bidding for a
///   lower, cheaper slot;
/// - a paced candidate is truthful for the value `pacing · v`, what a click is worth next to the other uses of its
///   budget (Balseiro and Gur 2019); `pacing` and both reserves must come from before the auction;
/// - the reserve takes out low bids first and then prices the rest, so that no reserve of one moves the rank of
///   another.
///
/// A price is rounded down to a whole micro and then held between the reserve and `b`. Equal scores are
/// ordered by a hash of the id keyed with `tie_key`: random to those who do not hold the key, the same for all who
/// do. A candidate that pays for clicks and is certain never to be clicked (and `γ` over 0) wins nothing.
///
/// Errors: see [`AuctionError`]; nothing is awarded then.
pub fn run<Id: AsRef<[u8]> + Clone>(
    candidates: &[Candidate<Id>],
    rules: &Rules,
    tie_key: [u8; 16],
) -> Result<Vec<Award<Id>>, AuctionError> {
    rules.validate()?;
    let ranked = rank(candidates, rules, tie_key)?;
    let awards = ranked.iter().take(rules.slot_multipliers.len()).enumerate();
    Ok(awards
        .map(|(k, winner)| {
            let exact = match rules.mechanism {
                Mechanism::Gsp => threshold(&ranked, k, k),
                Mechanism::Vcg => vcg_price(&ranked, k, rules),
            };
            Award {
                id: winner.id.clone(),
                slot: k + 1,
                billing: winner.billing,
                price: charge(exact, winner.bid, winner.reserve),
                score: winner.score,
                price_set_by: price_set_by(&ranked, k),
            }
        })
        .collect())
}

/// The least bid, in micros, with which the candidate of rank `k` would hold slot `slot` (both counted from 0).
fn threshold<Id>(ranked: &[Ranked<Id>], k: usize, slot: usize) -> f64 {
    let next = ranked.get(slot + 1).map_or(0.0, |below| below.score / ranked[k].weight);
    next.max(ranked[k].reserve.0 as f64)
}

fn vcg_price<Id>(ranked: &[Ranked<Id>], k: usize, rules: &Rules) -> f64 {
    let alphas = &rules.slot_multipliers;
    let ladder: f64 = (k..alphas.len())
        .map(|slot| {
            let step = alphas[slot] - alphas.get(slot + 1).copied().unwrap_or(0.0);
            step * threshold(ranked, k, slot)
        })
        .sum();
    ladder / alphas[k]
}

/// Rounds down to a micro, held between reserve and bid.
///
/// A few units in the last place are given back first: an exact price such as 3 must not become 2.999999 because
/// a division fell short by one bit.
pub(crate) fn charge(exact: f64, bid: Micros, reserve: Micros) -> Micros {
    let whole = (exact * (1.0 + 8.0 * f64::EPSILON)).floor();
    // Only an overflow to infinity can leave the range of i64, and then the bid is the price.
    let price = if whole < bid.0 as f64 { Micros(whole as i64) } else { bid };
    price.max(reserve)
}

fn price_set_by<Id: Clone>(ranked: &[Ranked<Id>], k: usize) -> PriceSetBy<Id> {
    match ranked.get(k + 1) {
        Some(below) if threshold(ranked, k, k) > ranked[k].reserve.0 as f64 => {
            PriceSetBy::Competitor(below.id.clone())
        }
        _ => PriceSetBy::Reserve,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Probability, SQUASH_PIVOT};

    fn candidate(id: &'static str, bid: i64, ctr: f64) -> Candidate<&'static str> {
        let ctr = Probability::new(ctr).expect("within 0 to 1");
        Candidate::new(id, Billing::PerClick, Micros(bid), ctr)
    }

    fn rules(mechanism: Mechanism, reserve: i64, slots: &[f64], gamma: f64) -> Rules {
        Rules {
            mechanism,
            reserve: Micros(reserve),
            reserve_per_mille: Micros::ZERO,
            slot_multipliers: slots.to_vec(),
            squash_gamma: gamma,
            squash_pivot: SQUASH_PIVOT,
        }
    }

    /// Prices worked out by hand from the formulas, four ads, slots (1, .6, .4); at most a micro off.
    #[test]
    fn reference_vectors() {
        use Mechanism::{Gsp, Vcg};
        let ads = [
            candidate("A", 2_000_000, 0.010),
            candidate("B", 1_200_000, 0.030),
            candidate("C", 3_000_000, 0.005),
            candidate("D", 800_000, 0.020),
        ];
        let check = |mechanism, gamma, reserve, expected: [(&str, f64); 3]| {
            let awards =
                run(&ads, &rules(mechanism, reserve, &[1.0, 0.6, 0.4], gamma), [7; 16]).expect("valid");
            assert_eq!(awards.len(), 3);
            for (award, (id, price)) in awards.iter().zip(expected) {
                assert_eq!(award.id, id, "{mechanism:?} gamma {gamma} reserve {reserve}");
                let off = award.price.0 as f64 - price * 1e6;
                assert!(off.abs() <= 1.0, "{id}: {} expected {price}", award.price);
            }
        };
        check(Gsp, 1.0, 0, [("B", 0.666667), ("A", 1.6), ("D", 0.75)]);
        check(Vcg, 1.0, 0, [("B", 0.573333), ("A", 1.533333), ("D", 0.75)]);
        check(Gsp, 0.5, 0, [("C", 2.939388), ("B", 1.154701), ("A", 1.131371)]);
        check(Vcg, 0.5, 0, [("C", 2.381441), ("B", 0.820365), ("A", 1.131371)]);
        check(Gsp, 0.0, 0, [("C", 2.0), ("A", 1.2), ("B", 0.8)]);
        check(Vcg, 0.0, 0, [("C", 1.36), ("A", 0.933333), ("B", 0.8)]);
        check(Vcg, 1.0, 1_000_000, [("B", 1.0), ("A", 1.166667), ("C", 1.0)]);
    }

    /// Edelman, Ostrovsky and Schwarz: 200 and 100 clicks, values 10, 4 and 2.
    #[test]
    fn the_position_auction_example() {
        let ads = [
            candidate("ten", 10_000_000, 1.0),
            candidate("four", 4_000_000, 1.0),
            candidate("two", 2_000_000, 1.0),
        ];
        let revenue = |mechanism| -> i64 {
            let awards = run(&ads, &rules(mechanism, 0, &[1.0, 0.5], 1.0), [0; 16]).expect("valid");
            awards.iter().zip([200, 100]).map(|(award, clicks)| award.price.0 * clicks).sum()
        };
        assert_eq!(revenue(Mechanism::Gsp), 1_000_000_000);
        assert_eq!(revenue(Mechanism::Vcg), 800_000_000);
    }

    /// 200 and 199 clicks: with GSP the highest bidder gains by bidding 3 instead of 10, with VCG truth is best.
    #[test]
    fn shading_pays_under_gsp_and_not_under_vcg() {
        let utility = |mechanism, bid| -> i64 {
            let ads = [
                candidate("ten", bid, 1.0),
                candidate("four", 4_000_000, 1.0),
                candidate("two", 2_000_000, 1.0),
            ];
            let awards = run(&ads, &rules(mechanism, 0, &[1.0, 0.995], 1.0), [0; 16]).expect("valid");
            let own = awards.iter().find(|award| award.id == "ten");
            own.map_or(0, |award| [200, 199][award.slot - 1] * (10_000_000 - award.price.0))
        };
        assert_eq!(utility(Mechanism::Gsp, 10_000_000), 1_200_000_000);
        assert_eq!(utility(Mechanism::Gsp, 3_000_000), 1_592_000_000);
        let truth = utility(Mechanism::Vcg, 10_000_000);
        assert_eq!(truth, 1_598_000_000);
        for bid in (100_000..=20_000_000).step_by(100_000) {
            assert!(utility(Mechanism::Vcg, bid) <= truth, "bid {bid} beats the truth");
        }
    }

    #[test]
    fn the_reserve_wins_over_rounding_and_the_bid_over_everything() {
        assert_eq!(charge(2.999_999_999, Micros(10), Micros(3)), Micros(3));
        assert_eq!(charge(3.7, Micros(10), Micros(3)), Micros(3));
        assert_eq!(charge(11.2, Micros(10), Micros(3)), Micros(10));
        assert_eq!(charge(f64::INFINITY, Micros(10), Micros(3)), Micros(10));
        assert_eq!(
            charge(3_000_000.0 * (1.0 - f64::EPSILON), Micros(4_000_000), Micros(0)),
            Micros(3_000_000)
        );
    }

    #[test]
    fn who_set_the_price_is_named() {
        let ads =
            [candidate("a", 3_000_000, 0.1), candidate("b", 2_000_000, 0.1), candidate("c", 400_000, 0.1)];
        let awards = run(&ads, &rules(Mechanism::Vcg, 500_000, &[1.0, 0.6], 1.0), [0; 16]).expect("valid");
        assert_eq!(awards[0].price_set_by, PriceSetBy::Competitor("b"));
        assert_eq!(awards[1].price_set_by, PriceSetBy::Reserve);
        assert_eq!(awards[1].price, Micros(500_000));
    }

    #[test]
    fn a_single_bidder_pays_the_reserve_and_none_pays_nothing() {
        let only = [candidate("a", 3_000_000, 0.1)];
        for mechanism in [Mechanism::Vcg, Mechanism::Gsp] {
            let awards = run(&only, &rules(mechanism, 250_000, &[1.0, 0.6], 1.0), [0; 16]).expect("valid");
            assert_eq!(awards.len(), 1);
            assert_eq!(awards[0].price, Micros(250_000));
            let none = run::<&str>(&[], &rules(mechanism, 0, &[1.0], 1.0), [0; 16]).expect("valid");
            assert!(none.is_empty());
        }
    }

    /// A click at 0.60 and 2 % is worth as much as 12.00 for a thousand impressions.
    #[test]
    fn clicks_and_impressions_price_each_other() {
        let click = candidate("click", 600_000, 0.02);
        let mille = Candidate { billing: Billing::PerMille, ..candidate("mille", 15_000_000, 0.0) };
        for mechanism in [Mechanism::Gsp, Mechanism::Vcg] {
            let rules = rules(mechanism, 0, &[1.0], 1.0);
            let awards = run(&[click.clone(), mille.clone()], &rules, [0; 16]).expect("valid");
            assert_eq!(
                (awards[0].id, awards[0].billing, awards[0].price),
                ("mille", Billing::PerMille, Micros(12_000_000))
            );
            assert_eq!(awards[0].price_of_event(), Micros(12_000));
            let paced = Candidate { pacing: 0.5, ..mille.clone() };
            let awards = run(&[click.clone(), paced], &rules, [0; 16]).expect("valid");
            assert_eq!((awards[0].id, awards[0].price), ("click", Micros(375_000)));
        }
    }

    #[test]
    fn a_paced_bid_is_the_most_that_is_charged() {
        let reserved = Candidate { pacing: 0.7, reserve: Micros(699_999), ..candidate("a", 1_000_001, 0.1) };
        let awards = run(&[reserved], &rules(Mechanism::Vcg, 500_000, &[1.0], 1.0), [0; 16]).expect("valid");
        assert_eq!(awards[0].price, Micros(699_999));
        let close =
            [Candidate { pacing: 0.5, ..candidate("a", 1_000_001, 0.1) }, candidate("b", 499_999, 0.1)];
        let awards = run(&close, &rules(Mechanism::Gsp, 0, &[1.0], 1.0), [0; 16]).expect("valid");
        assert_eq!((awards[0].id, awards[0].price), ("a", Micros(499_999)));
    }

    #[test]
    fn weights_near_zero_stay_finite() {
        let ads = [
            candidate("a", 1, f64::MIN_POSITIVE),
            candidate("b", 1, 5e-324),
            candidate("c", 1_000_000_000_000_000, 1.0),
        ];
        let awards = run(&ads, &rules(Mechanism::Vcg, 0, &[1.0, 0.5, 0.25], 1.0), [0; 16]).expect("valid");
        assert_eq!(awards.len(), 3);
        for award in awards {
            assert!(award.score.is_finite() && award.price >= Micros::ZERO);
        }
    }
}
