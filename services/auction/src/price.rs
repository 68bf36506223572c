//! Slots to the best candidates, and the price of a click in each.

use crate::rank::{Ranked, rank};
use crate::{AuctionError, Candidate, Mechanism, Micros, Rules};

/// What keeps the price of an award from being lower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PriceSetBy<Id> {
    /// The next candidate below; with VCG also those further down, of which this one is the first.
    Competitor(Id),
    /// The reserve.
    Reserve,
}

/// A slot that was won.
#[derive(Clone, Debug, PartialEq)]
pub struct Award<Id> {
    /// Who won it.
    pub id: Id,
    /// Which one, counted from 1 at the top.
    pub slot: usize,
    /// Charge for a click: at least the reserve, at most the bid.
    pub price_per_click: Micros,
    /// Ranking score: micros for one impression of the first slot.
    pub score: f64,
    /// What keeps the price from being lower.
    pub price_set_by: PriceSetBy<Id>,
}

/// Runs one auction: at most one award a slot, in the order of the slots.
///
/// With `ω = ctr^γ · h(s)`, candidates are ordered by `score = bid · ω`, and the click price of rank `k` is
///
/// - GSP: `max(r, score[k+1] / ω[k])`;
/// - VCG: `(1/α[k]) · Σ over slots j ≥ k of (α[j] − α[j+1]) · max(r, score[j+1] / ω[k])`, with `α` of the slot
///   after the last 0 (Aggarwal, Goel and Motwani 2006: the laddered price that makes truth a best response).
///
/// A price is rounded down to a whole micro and then held between the reserve and the bid. Equal scores are
/// ordered by a hash of the id keyed with `tie_key`: random to those who do not hold the key, the same for all who
/// do. A candidate that is certain never to be clicked (and `γ` over 0) wins nothing.
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
                Mechanism::Gsp => threshold(&ranked, k, k, rules),
                Mechanism::Vcg => vcg_price(&ranked, k, rules),
            };
            Award {
                id: winner.id.clone(),
                slot: k + 1,
                price_per_click: charge(exact, winner.bid, rules.reserve),
                score: winner.score,
                price_set_by: price_set_by(&ranked, k, rules),
            }
        })
        .collect())
}

/// The least bid, in micros, with which the candidate of rank `k` would hold slot `slot` (both counted from 0).
fn threshold<Id>(ranked: &[Ranked<Id>], k: usize, slot: usize, rules: &Rules) -> f64 {
    let next = ranked.get(slot + 1).map_or(0.0, |below| below.score / ranked[k].weight);
    next.max(rules.reserve.0 as f64)
}

fn vcg_price<Id>(ranked: &[Ranked<Id>], k: usize, rules: &Rules) -> f64 {
    let alphas = &rules.slot_multipliers;
    let ladder: f64 = (k..alphas.len())
        .map(|slot| {
            let step = alphas[slot] - alphas.get(slot + 1).copied().unwrap_or(0.0);
            step * threshold(ranked, k, slot, rules)
        })
        .sum();
    ladder / alphas[k]
}

/// Rounds down to a micro, held between reserve and bid.
///
/// A few units in the last place are given back first: an exact price such as 3 must not become 2.999999 because
/// a division fell short by one bit.
fn charge(exact: f64, bid: Micros, reserve: Micros) -> Micros {
    let whole = (exact * (1.0 + 8.0 * f64::EPSILON)).floor();
    // Only an overflow to infinity can leave the range of i64, and then the bid is the price.
    let price = if whole < bid.0 as f64 { Micros(whole as i64) } else { bid };
    price.max(reserve)
}

fn price_set_by<Id: Clone>(ranked: &[Ranked<Id>], k: usize, rules: &Rules) -> PriceSetBy<Id> {
    match ranked.get(k + 1) {
        Some(below) if below.score / ranked[k].weight > rules.reserve.0 as f64 => {
            PriceSetBy::Competitor(below.id.clone())
        }
        _ => PriceSetBy::Reserve,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Probability;

    fn candidate(id: &'static str, bid: i64, ctr: f64) -> Candidate<&'static str> {
        let ctr = Probability::new(ctr).expect("within 0 to 1");
        Candidate { id, bid: Micros(bid), ctr, relevance: Probability::ONE }
    }

    fn rules(mechanism: Mechanism, reserve: i64, slots: &[f64], gamma: f64) -> Rules {
        Rules { mechanism, reserve: Micros(reserve), slot_multipliers: slots.to_vec(), squash_gamma: gamma }
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
                let off = award.price_per_click.0 as f64 - price * 1e6;
                assert!(off.abs() <= 1.0, "{id}: {} expected {price}", award.price_per_click);
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
            awards.iter().zip([200, 100]).map(|(award, clicks)| award.price_per_click.0 * clicks).sum()
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
            own.map_or(0, |award| [200, 199][award.slot - 1] * (10_000_000 - award.price_per_click.0))
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
        assert_eq!(awards[1].price_per_click, Micros(500_000));
    }

    #[test]
    fn a_single_bidder_pays_the_reserve_and_none_pays_nothing() {
        let only = [candidate("a", 3_000_000, 0.1)];
        for mechanism in [Mechanism::Vcg, Mechanism::Gsp] {
            let awards = run(&only, &rules(mechanism, 250_000, &[1.0, 0.6], 1.0), [0; 16]).expect("valid");
            assert_eq!(awards.len(), 1);
            assert_eq!(awards[0].price_per_click, Micros(250_000));
            let none = run::<&str>(&[], &rules(mechanism, 0, &[1.0], 1.0), [0; 16]).expect("valid");
            assert!(none.is_empty());
        }
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
            assert!(award.score.is_finite() && award.price_per_click >= Micros::ZERO);
        }
    }
}
