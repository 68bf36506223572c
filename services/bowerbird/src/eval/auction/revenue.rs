//! Revenue that theory predicts: second prices and Myerson's reserve with bids drawn evenly from 0 to 1.

use bowerbird_auction::reserve::{ReserveRules, from_others};
use bowerbird_auction::{Billing, Candidate, Mechanism, Micros, run};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::market::{probability, rules};
use super::{Check, Mean, STANDARD_ERRORS};

const AUCTIONS: usize = 20_000;
const SAMPLES: usize = 20;

pub(super) fn checks() -> anyhow::Result<Vec<Check>> {
    let mut rng = StdRng::seed_from_u64(41);
    let mut checks = Vec::new();
    for reserve in [0.0, 0.5] {
        for n in [1, 2, 3, 5, 10] {
            let theory = uniform_revenue(f64::from(n), reserve);
            let rules = rules(Mechanism::Vcg, (reserve * 1e6) as i64, &[1.0]);
            let mut paid = Mean::default();
            for _ in 0..AUCTIONS {
                let bids: Vec<_> = (0..n)
                    .map(|i: u8| {
                        let bid = Micros(rng.random_range(1..=1_000_000));
                        Candidate::new([i], Billing::PerClick, bid, probability(1.0))
                    })
                    .collect();
                let awards = run(&bids, &rules, [0; 16])?;
                paid.add(awards.iter().map(|award| award.price.0 as f64 / 1e6).sum());
            }
            checks.push(Check::at_most(
                &format!("revenue.n{n}.reserve_{reserve}"),
                // One micro an auction is rounding, not chance.
                paid.off(theory, 2e-6),
                STANDARD_ERRORS,
                format!("standard errors of the mean {:.5} from {theory:.5}", paid.mean()),
            ));
        }
    }
    checks.extend(learnt(&mut rng)?);
    Ok(checks)
}

/// `2n/(n+1)·(1 − r^(n+1)) − (1 − r^n)`: the second price of `n` with reserve `r`, by integrating virtual values.
fn uniform_revenue(n: f64, r: f64) -> f64 {
    2.0 * n / (n + 1.0) * (1.0 - r.powf(n + 1.0)) - (1.0 - r.powf(n))
}

/// The reserve learnt from 5,000 bids of others earns nearly what one half earns, and own bids do not move it.
fn learnt(rng: &mut StdRng) -> anyhow::Result<Vec<Check>> {
    let rules = ReserveRules::default();
    let (mut earns, mut moved) = (f64::INFINITY, 0);

    for _ in 0..SAMPLES {
        let mut bids: Vec<(&str, Micros)> =
            (0..5_000).map(|_| ("other", Micros(rng.random_range(1..=1_000_000)))).collect();
        let before = from_others(b"me", &bids, &rules)?;
        let reserve = before.0 as f64 / 1e6;
        earns = earns.min(reserve * (1.0 - reserve) / 0.25);
        bids.extend((0..5_000).map(|_| ("me", Micros(rng.random_range(1..=50_000)))));
        moved += usize::from(from_others(b"me", &bids, &rules)? != before);
    }
    Ok(vec![
        Check::at_least(
            "reserve.learnt_revenue",
            earns,
            0.97,
            format!("revenue from one bidder by that of the best reserve, least of {SAMPLES} samples"),
        ),
        Check::none("reserve.own_bids", moved, SAMPLES, "reserves moved by one's own bids"),
    ])
}
