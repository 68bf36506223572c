//! Auctions to check, drawn at random.

use bowerbird_auction::segment::SegmentRules;
use bowerbird_auction::{Billing, Candidate, Mechanism, Micros, Probability, Rules, SQUASH_PIVOT};
use rand::Rng;
use rand::rngs::StdRng;

/// A number as a probability; outside 0 to 1 it is an error of the battery.
pub(super) fn probability(value: f64) -> Probability {
    Probability::new(value).expect("the battery draws within 0 to 1")
}

/// One slot for each multiplier, VCG or GSP, nothing squashed.
pub(super) fn rules(mechanism: Mechanism, reserve: i64, slot_multipliers: &[f64]) -> Rules {
    Rules {
        mechanism,
        reserve: Micros(reserve),
        reserve_per_mille: Micros(reserve * 20),
        slot_multipliers: slot_multipliers.to_vec(),
        squash_gamma: 1.0,
        squash_pivot: SQUASH_PIVOT,
    }
}

/// An auction with 2 to 10 candidates, a third of which pay for impressions, one to four slots, and often a reserve.
pub(super) fn auction(rng: &mut StdRng, mechanism: Mechanism) -> (Vec<Candidate<String>>, Rules) {
    let n = rng.random_range(2..=10);
    let candidates = (0..n).map(|i| {
        let per_mille = rng.random_bool(1.0 / 3.0);
        // A thousand impressions are worth about as much as twenty clicks.
        let (billing, unit) = if per_mille { (Billing::PerMille, 20) } else { (Billing::PerClick, 1) };
        Candidate {
            relevance: probability(f64::from(rng.random_range(1..=4)) / 4.0),
            pacing: if rng.random_bool(0.5) { 1.0 } else { rng.random_range(0.2..1.0) },
            reserve: Micros(if rng.random_bool(0.2) { rng.random_range(0..1_500_000) * unit } else { 0 }),
            ..Candidate::new(
                format!("ad-{i}"),
                billing,
                Micros(rng.random_range(1_000_000..6_000_000) * unit),
                probability(rng.random_range(0.001..0.08)),
            )
        }
    });
    let candidates = candidates.collect();
    let mut slots: Vec<f64> = (0..rng.random_range(1..=4)).map(|_| rng.random_range(0.1..1.0)).collect();
    slots.sort_by(|a, b| b.total_cmp(a));
    let reserve = if rng.random_bool(0.5) { rng.random_range(0..2_000_000) } else { 0 };
    let mut rules = rules(mechanism, reserve, &slots);
    rules.squash_gamma = [1.0, 1.0, 0.5, 0.0][rng.random_range(0..4)];
    (candidates, rules)
}

/// A segment auction with 2 to 8 candidates and one to three winners.
pub(super) fn segment(rng: &mut StdRng) -> (Vec<Candidate<String>>, SegmentRules) {
    let n = rng.random_range(2..=8);
    let candidates = (0..n).map(|i| {
        let bid = rng.random_range(1_000_000..6_000_000);
        // A thousand impressions are worth as much as four hundred clicks.
        let (billing, bid) =
            if rng.random_bool(0.3) { (Billing::PerMille, bid * 400) } else { (Billing::PerClick, bid) };
        let ctr = probability(rng.random_range(0.05..0.9));
        let pacing = if rng.random_bool(0.5) { 1.0 } else { rng.random_range(0.2..1.0) };
        Candidate { pacing, ..Candidate::new(format!("ad-{i}"), billing, Micros(bid), ctr) }
    });
    let candidates = candidates.collect();
    let rules = SegmentRules {
        winners: rng.random_range(1..=3),
        null_weight: if rng.random_bool(0.5) { rng.random_range(0.0..2_000_000.0) } else { 0.0 },
        reserve: Micros(if rng.random_bool(0.5) { rng.random_range(0..1_500_000) } else { 0 }),
        reserve_per_mille: Micros(if rng.random_bool(0.5) { rng.random_range(0..600_000_000) } else { 0 }),
        temperature: [1.0, 1.0, 0.5, 2.0][rng.random_range(0..4)],
    };
    (candidates, rules)
}

/// The four books of the published scenarios: click probabilities, and bids in whole units.
pub(super) fn books(bids: [i64; 4]) -> Vec<Candidate<String>> {
    ["a", "b", "c", "d"]
        .into_iter()
        .zip(bids)
        .zip([0.36, 0.87, 0.31, 0.26])
        .map(|((id, bid), ctr)| {
            let bid = Micros(bid * Micros::PER_UNIT);
            Candidate::new(id.to_owned(), Billing::PerClick, bid, probability(ctr))
        })
        .collect()
}

/// The seed of simulated auction `n`.
pub(super) fn seed(n: u64) -> [u8; 16] {
    (u128::from(n) ^ 0x0062_6f77_6572_6269_7264_0000_0000_0000).to_le_bytes()
}
