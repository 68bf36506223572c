//! Properties of every auction, and the revenue that theory predicts.

use bowerbird_auction::{
    Billing, Candidate, Mechanism, Micros, Probability, Rules, SQUASH_PIVOT, paced_bid, run,
};
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

fn candidates(most: usize) -> impl Strategy<Value = Vec<Candidate<String>>> {
    // Few distinct values, so that ties are common.
    let one = (1..=40_i64, 0..=20_u32, 1..=4_u32, 1..=4_u32, 0..=4_i64, any::<bool>());
    prop::collection::vec(one, 1..=most).prop_map(|list| {
        let number = |n: u32, of: f64| Probability::new(f64::from(n) / of).expect("within 0 to 1");
        let candidates =
            list.into_iter().enumerate().map(|(i, (bid, ctr, relevance, pacing, reserve, click))| {
                // A thousand impressions are worth about as much as twenty clicks.
                let (billing, unit) =
                    if click { (Billing::PerClick, 100_000) } else { (Billing::PerMille, 2_000_000) };
                Candidate {
                    id: format!("ad-{i}"),
                    bid: Micros(bid * unit),
                    billing,
                    ctr: number(ctr, 100.0),
                    relevance: number(relevance, 4.0),
                    pacing: f64::from(pacing) / 4.0,
                    reserve: Micros(reserve * unit / 2),
                }
            });
        candidates.collect()
    })
}

fn rules() -> impl Strategy<Value = Rules> {
    let slots = prop::collection::vec(0.05..=1.0_f64, 1..=4);
    let gamma = prop_oneof![Just(0.0), Just(0.5), Just(1.0), 0.0..=1.0_f64];
    (any::<bool>(), 0..=20_i64, slots, gamma).prop_map(|(vcg, reserve, mut slots, squash_gamma)| {
        slots.sort_by(|a, b| b.total_cmp(a));
        let mechanism = if vcg { Mechanism::Vcg } else { Mechanism::Gsp };
        Rules {
            mechanism,
            reserve: Micros(reserve * 100_000),
            reserve_per_mille: Micros(reserve * 2_000_000),
            slot_multipliers: slots,
            squash_gamma,
            squash_pivot: SQUASH_PIVOT,
        }
    })
}

fn reserve(candidate: &Candidate<String>, rules: &Rules) -> Micros {
    let all = match candidate.billing {
        Billing::PerClick => rules.reserve,
        Billing::PerMille => rules.reserve_per_mille,
    };
    all.max(candidate.reserve)
}

/// Slot and price of `id`.
fn outcome(list: &[Candidate<String>], rules: &Rules, id: &str) -> Option<(usize, Micros)> {
    let awards = run(list, rules, [3; 16]).expect("valid");
    awards.into_iter().find(|award| award.id == id).map(|award| (award.slot, award.price))
}

proptest! {
    #[test]
    fn prices_lie_between_reserve_and_bid(list in candidates(12), rules in rules()) {
        let awards = run(&list, &rules, [3; 16]).expect("valid");
        prop_assert!(awards.len() <= rules.slot_multipliers.len());
        for (at, award) in awards.iter().enumerate() {
            let own = list.iter().find(|c| c.id == award.id).expect("awards go to candidates");
            prop_assert_eq!((award.slot, award.billing), (at + 1, own.billing));
            prop_assert!(award.price <= paced_bid(own.bid, own.pacing));
            prop_assert!(award.price >= reserve(own, &rules));
        }
        let eligible = list.iter().filter(|c| {
            let clicked = c.billing == Billing::PerMille || c.ctr.get() > 0.0 || rules.squash_gamma <= 0.0;
            paced_bid(c.bid, c.pacing) >= reserve(c, &rules) && clicked
        });
        prop_assert_eq!(awards.len(), eligible.count().min(rules.slot_multipliers.len()));
    }

    #[test]
    fn raising_a_bid_never_loses_a_slot(
        mut list in candidates(10), rules in rules(), who in any::<prop::sample::Index>(), more in 1..5_000_000_i64,
    ) {
        let who = who.index(list.len());
        let id = list[who].id.clone();
        let before = outcome(&list, &rules, &id);
        list[who].bid = Micros(list[who].bid.0 + more);
        let after = outcome(&list, &rules, &id);
        if let Some((slot, _)) = before {
            prop_assert!(after.is_some_and(|(now, _)| now <= slot), "{before:?} became {after:?}");
        }
    }

    #[test]
    fn own_bid_does_not_move_own_price_while_the_outcome_stays(
        mut list in candidates(10), rules in rules(), who in any::<prop::sample::Index>(), bid in 1..5_000_000_i64,
    ) {
        let who = who.index(list.len());
        let id = list[who].id.clone();
        let before = outcome(&list, &rules, &id);
        list[who].bid = Micros(bid);
        let after = outcome(&list, &rules, &id);
        if let (Some((slot, price)), Some((slot_now, price_now))) = (before, after)
            && slot == slot_now
        {
            prop_assert_eq!(price, price_now);
        }
    }

    #[test]
    fn the_order_of_candidates_does_not_matter(list in candidates(12), rules in rules(), seed in any::<u64>()) {
        let mut shuffled = list.clone();
        let mut rng = StdRng::seed_from_u64(seed);
        for i in (1..shuffled.len()).rev() {
            shuffled.swap(i, rng.random_range(0..=i));
        }
        prop_assert_eq!(run(&list, &rules, [9; 16]), run(&shuffled, &rules, [9; 16]));
    }

    /// No other bid earns a VCG bidder more than a millionth of its value above what the truth earns.
    #[test]
    fn vcg_has_no_regret(
        mut list in candidates(8), mut rules in rules(), who in any::<prop::sample::Index>(),
        value in 2_000_000..8_000_000_i64, bids in prop::collection::vec(1..12_000_000_i64, 16),
    ) {
        rules.mechanism = Mechanism::Vcg;
        let who = who.index(list.len());
        let id = list[who].id.clone();
        list[who].pacing = 1.0;
        // Bids just around those of the others matter most.
        let mut tries = bids;
        for other in &list {
            tries.extend([other.bid.0 - 1, other.bid.0, other.bid.0 + 1]);
        }
        let mut utility = |bid: i64| -> f64 {
            list[who].bid = Micros(bid);
            let won = outcome(&list, &rules, &id);
            won.map_or(0.0, |(slot, price)| rules.slot_multipliers[slot - 1] * (value - price.0) as f64)
        };
        let truth = utility(value);
        for bid in tries {
            let regret = utility(bid) - truth;
            prop_assert!(regret <= 1e-6 * value as f64, "bid {bid} for value {value} gains {regret} micros");
        }
    }
}

/// Second price with n bids drawn from U[0,1]: revenue `(n-1)/(n+1)` without a reserve, and the published values
/// with the optimal reserve of one half (Myerson 1981); within three standard errors.
#[test]
fn revenue_is_what_theory_says() {
    const DRAWS: u32 = 40_000;
    let expected = [
        (1, 0.0, 0.25),
        (2, 1.0 / 3.0, 5.0 / 12.0),
        (3, 0.5, 17.0 / 32.0),
        (5, 2.0 / 3.0, 0.671_88),
        (10, 9.0 / 11.0, 0.818_27),
    ];
    let mut rng = StdRng::seed_from_u64(20_250_101);
    for (n, without, with) in expected {
        for (reserve, expected) in [(0, without), (500_000, with)] {
            for mechanism in [Mechanism::Vcg, Mechanism::Gsp] {
                let rules = Rules {
                    mechanism,
                    reserve: Micros(reserve),
                    reserve_per_mille: Micros::ZERO,
                    slot_multipliers: vec![1.0],
                    squash_gamma: 1.0,
                    squash_pivot: SQUASH_PIVOT,
                };
                let (mut sum, mut squares) = (0.0, 0.0);
                for _ in 0..DRAWS {
                    let list: Vec<_> = (0..n)
                        .map(|i| {
                            let bid = Micros(rng.random_range(1..=1_000_000));
                            Candidate::new([i], Billing::PerClick, bid, Probability::ONE)
                        })
                        .collect();
                    let awards = run(&list, &rules, [0; 16]).expect("valid");
                    let paid: f64 = awards.iter().map(|a| a.price.0 as f64 / 1e6).sum();
                    sum += paid;
                    squares += paid * paid;
                }
                let mean = sum / f64::from(DRAWS);
                let error = ((squares / f64::from(DRAWS) - mean * mean) / f64::from(DRAWS)).sqrt();
                // One micro a draw is rounding, not chance.
                let off = (mean - expected).abs();
                assert!(
                    off <= 3.0 * error + 2e-6,
                    "n {n} reserve {reserve} {mechanism:?}: {mean} vs {expected}"
                );
            }
        }
    }
}
