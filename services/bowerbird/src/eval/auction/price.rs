//! Prices that can be worked out by hand.

use bowerbird_auction::{Billing, Candidate, Mechanism, Micros, Rules, run};

use super::Check;
use super::market::{probability, rules};

pub(super) fn checks() -> anyhow::Result<Vec<Check>> {
    let mut checks = vec![golden()?];
    let revenue = |mechanism| -> anyhow::Result<f64> {
        let awards = run(&ten_four_two(10_000_000), &rules(mechanism, 0, &[1.0, 0.5]), [0; 16])?;
        Ok(awards.iter().zip([200, 100]).map(|(award, clicks)| (award.price.0 * clicks) as f64 / 1e6).sum())
    };
    // Edelman, Ostrovsky and Schwarz (2007).
    for (name, mechanism, expected) in
        [("prices.edelman.gsp", Mechanism::Gsp, 1000.0), ("prices.edelman.vcg", Mechanism::Vcg, 800.0)]
    {
        let found = revenue(mechanism)?;
        checks.push(Check::at_most(
            name,
            (found - expected).abs(),
            0.0,
            format!("distance of the revenue {found} from {expected}"),
        ));
    }
    let utility = |mechanism, bid: i64| -> anyhow::Result<f64> {
        let awards = run(&ten_four_two(bid), &rules(mechanism, 0, &[1.0, 0.995]), [0; 16])?;
        let own = awards.iter().find(|award| award.id == "ten");
        Ok(own.map_or(0.0, |award| {
            f64::from([200, 199][award.slot - 1]) * (10_000_000 - award.price.0) as f64 / 1e6
        }))
    };
    let (truth, shaded) = (utility(Mechanism::Gsp, 10_000_000)?, utility(Mechanism::Gsp, 3_000_000)?);
    checks.push(Check::at_least(
        "prices.gsp_is_not_truthful",
        shaded - truth,
        392.0,
        format!("gain of bidding 3 for a value of 10: {shaded} over {truth}"),
    ));
    let truth = utility(Mechanism::Vcg, 10_000_000)?;
    let mut best = f64::NEG_INFINITY;
    for bid in (50_000..=20_000_000).step_by(50_000) {
        best = best.max(utility(Mechanism::Vcg, bid)?);
    }
    checks.push(Check::at_most(
        "prices.vcg_is_truthful",
        best - truth,
        0.0,
        format!("gain of the best of 400 bids over the truth, which earns {truth}"),
    ));
    Ok(checks)
}

/// Values 10, 4 and 2, the first of which bids `bid`.
fn ten_four_two(bid: i64) -> Vec<Candidate<&'static str>> {
    [("ten", bid), ("four", 4_000_000), ("two", 2_000_000)]
        .into_iter()
        .map(|(id, bid)| Candidate::new(id, Billing::PerClick, Micros(bid), probability(1.0)))
        .collect()
}

/// Four ads on slots 1, .6 and .4, under both mechanisms and three squashings.
fn golden() -> anyhow::Result<Check> {
    use Mechanism::{Gsp, Vcg};
    let ads: Vec<_> =
        [("A", 2_000_000, 0.010), ("B", 1_200_000, 0.030), ("C", 3_000_000, 0.005), ("D", 800_000, 0.020)]
            .into_iter()
            .map(|(id, bid, ctr)| Candidate::new(id, Billing::PerClick, Micros(bid), probability(ctr)))
            .collect();
    let expected = [
        (Gsp, 1.0, 0, [("B", 666_667), ("A", 1_600_000), ("D", 750_000)]),
        (Vcg, 1.0, 0, [("B", 573_333), ("A", 1_533_333), ("D", 750_000)]),
        (Gsp, 0.5, 0, [("C", 2_939_388), ("B", 1_154_701), ("A", 1_131_371)]),
        (Vcg, 0.5, 0, [("C", 2_381_441), ("B", 820_365), ("A", 1_131_371)]),
        (Gsp, 0.0, 0, [("C", 2_000_000), ("A", 1_200_000), ("B", 800_000)]),
        (Vcg, 0.0, 0, [("C", 1_360_000), ("A", 933_333), ("B", 800_000)]),
        (Vcg, 1.0, 1_000_000, [("B", 1_000_000), ("A", 1_166_667), ("C", 1_000_000)]),
    ];
    let mut farthest = 0.0_f64;
    for (mechanism, gamma, reserve, prices) in expected {
        let rules = Rules { squash_gamma: gamma, ..rules(mechanism, reserve, &[1.0, 0.6, 0.4]) };
        let awards = run(&ads, &rules, [7; 16])?;
        for (at, (id, price)) in prices.into_iter().enumerate() {
            let off = match awards.get(at) {
                Some(award) if award.id == id => (award.price.0 - price).abs() as f64,
                _ => f64::from(u32::MAX),
            };
            farthest = farthest.max(off);
        }
    }
    Ok(Check::at_most("prices.golden", farthest, 1.0, "micros from 21 prices worked out by hand, farthest"))
}
