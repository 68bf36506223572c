//! Off-policy estimates from logs of the segment auction, whose propensities are exact, against the truth.

use bowerbird_ads::offpolicy::{Decision, Estimate, Evaluation, Interval, evaluate};
use bowerbird_auction::segment::{SegmentRules, run};
use bowerbird_auction::{Billing, Candidate, Micros};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Check;
use super::market::probability;

const LOGS: u64 = 200;
const DECISIONS: usize = 3_000;
const ADS: usize = 4;

pub(super) fn checks() -> anyhow::Result<Vec<Check>> {
    let logging = policy(1.5, 60_000.0);
    // The policy in question shows the large weights more often, and less often nothing.
    let target = policy(0.8, 30_000.0);
    let mut covered = [0.0; 3];
    let mut squares = [0.0; 3];
    let mut refused = 0;
    for log in 0..LOGS {
        let mut rng = StdRng::seed_from_u64(900 + log);
        let (found, truth) = logged(&mut rng, &logging, &target)?;
        for (i, estimate) in estimates(&found).into_iter().enumerate() {
            covered[i] += f64::from(u8::from(estimate.covers(truth))) / LOGS as f64;
            squares[i] += (estimate.value - truth).powi(2) / LOGS as f64;
        }
        refused += usize::from(!found.judges());
    }
    let mut checks: Vec<Check> = ["ips", "snips", "dr"]
        .into_iter()
        .zip(covered)
        .map(|(name, covered)| {
            let what = format!("part of {LOGS} logs whose 95 % interval holds the truth");
            Check::at_least(&format!("offpolicy.coverage.{name}"), covered, 0.9, what)
        })
        .collect();
    checks.push(Check::at_most(
        "offpolicy.dr_error",
        (squares[2] / squares[0]).sqrt(),
        1.0,
        format!("error of DR by that of IPS; SNIPS by IPS {:.3}", (squares[1] / squares[0]).sqrt()),
    ));
    checks.push(Check::none(
        "offpolicy.judged",
        refused,
        LOGS as usize,
        "refused verdicts where policies overlap",
    ));
    let mut judged = 0;
    for log in 0..20 {
        let mut rng = StdRng::seed_from_u64(1_200 + log);
        judged += usize::from(logged(&mut rng, &policy(0.15, 60_000.0), &policy(8.0, 60_000.0))?.0.judges());
    }
    checks.push(Check::none("offpolicy.refused", judged, 20, "verdicts on policies with little in common"));
    Ok(checks)
}

fn estimates(found: &Evaluation) -> [Estimate; 3] {
    [found.ips, found.snips, found.dr]
}

fn policy(temperature: f64, null_weight: f64) -> SegmentRules {
    SegmentRules { null_weight, temperature, ..SegmentRules::default() }
}

/// One log of `logging`, evaluated for `target`, and the real click rate of `target` over the same requests.
fn logged(
    rng: &mut StdRng,
    logging: &SegmentRules,
    target: &SegmentRules,
) -> anyhow::Result<(Evaluation, f64)> {
    let mut decisions = Vec::with_capacity(DECISIONS);
    let mut truth = 0.0;
    for _ in 0..DECISIONS {
        let ads: Vec<Candidate<[u8; 1]>> = (0..ADS as u8)
            .map(|i| {
                let bid = Micros(rng.random_range(500_000..2_000_000));
                Candidate::new([i], Billing::PerClick, bid, probability(rng.random_range(0.02..0.2)))
            })
            .collect();
        // The model of the estimator is off from the truth by up to a third.
        let real: Vec<f64> = ads.iter().map(|ad| ad.ctr.get() * rng.random_range(0.75..1.25)).collect();
        let model: Vec<f64> = real.iter().map(|rate| rate * rng.random_range(0.67..1.33)).collect();
        let seed: [u8; 16] = rng.random();
        let outcome = run(&ads, logging, seed, 0)?;
        let other = run(&ads, target, seed, 0)?;
        let expected = |rates: &[f64]| -> f64 {
            other.shares.iter().map(|share| share.probability * rates[usize::from(share.id[0])]).sum()
        };
        truth += expected(&real) / DECISIONS as f64;
        let (shown, probability) = match outcome.awards.first() {
            Some(drawn) => {
                let at = usize::from(drawn.award.id[0]);
                (Some(at), other.shares[at].probability)
            }
            None => (None, other.no_ad),
        };
        let clicked = shown.is_some_and(|at| rng.random_bool(real[at]));
        decisions.push(Decision {
            reward: f64::from(u8::from(clicked)),
            logged: outcome.propensity,
            target: probability,
            predicted: shown.map_or(0.0, |at| model[at]),
            predicted_target: expected(&model),
            supported: 1.0,
        });
    }
    Ok((evaluate(&decisions, Interval::Normal)?, truth))
}
