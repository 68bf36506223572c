//! The winner's curse: an estimate without bias over all candidates is too high where it wins.
//!
//! Click rates and bids are log-normal with standard deviations .36 and .5, estimates are off by log-normal noise of
//! .3 without bias. On winners, expected clicks by clicks are about 1.145 with five bidders and 1.26 with twenty. A rising
//! function of the estimate is fitted to the clicks of the winners of a period (pool adjacent violators), and the next
//! period's auctions are run on it. As that changes who wins, one fit leaves part of the curse with many bidders; the
//! second, on those who won after the first, takes it away.

use bowerbird_auction::{Billing, Candidate, Mechanism, Micros, run};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Check;
use super::market::{probability, rules, seed};

/// Auctions of each period.
const AUCTIONS: u64 = 20_000;
const NOISE: f64 = 0.3;

pub(super) fn checks() -> anyhow::Result<Vec<Check>> {
    let mut rng = StdRng::seed_from_u64(81);
    let mut checks = Vec::new();
    for (bidders, curse) in [(5, 1.145), (20, 1.26)] {
        let raw = period(&mut rng, bidders, &|estimate| estimate)?;
        let naive = ratio(&raw);
        checks.push(Check::at_most(
            &format!("winners.naive.n{bidders}"),
            (naive - curse).abs(),
            0.02,
            format!("distance of expected by real clicks on winners, {naive:.3}, from {curse}"),
        ));
        let once = isotonic(&raw);
        let after_one = period(&mut rng, bidders, &|estimate| once.at(estimate))?;
        let twice = isotonic(&after_one);
        let fixed = ratio(&period(&mut rng, bidders, &|estimate| twice.at(estimate))?);
        checks.push(Check::at_most(
            &format!("winners.calibrated.n{bidders}"),
            (fixed - 1.0).abs(),
            0.05,
            format!(
                "distance of expected by real clicks from 1, {fixed:.3}, fitted twice; {:.3} fitted once",
                ratio(&after_one)
            ),
        ));
    }
    Ok(checks)
}

/// A won impression.
struct Won {
    /// As estimated.
    raw: f64,
    /// As calibrated, with which the auction was run.
    estimate: f64,
    /// Click rate that nobody knows.
    truth: f64,
    clicked: bool,
}

/// Runs a period with `calibrate`d estimates.
fn period(rng: &mut StdRng, bidders: usize, calibrate: &dyn Fn(f64) -> f64) -> anyhow::Result<Vec<Won>> {
    let rules = rules(Mechanism::Vcg, 0, &[1.0]);
    let mut won = Vec::new();
    for n in 0..AUCTIONS {
        let mut hidden = Vec::with_capacity(bidders);
        let candidates: Vec<_> = (0..bidders)
            .map(|i| {
                let truth = (0.03 * (0.36 * normal(rng)).exp()).min(1.0);
                let noise = (NOISE * normal(rng) - NOISE * NOISE / 2.0).exp();
                let bid = (1e6 * (0.5 * normal(rng)).exp()) as i64;
                let raw = (truth * noise).min(1.0);
                hidden.push((raw, truth));
                Candidate::new([i as u8], Billing::PerClick, Micros(bid.max(1)), probability(calibrate(raw)))
            })
            .collect();
        for award in run(&candidates, &rules, seed(n))? {
            let at = usize::from(award.id[0]);
            let (raw, truth) = hidden[at];
            won.push(Won { raw, estimate: candidates[at].ctr.get(), truth, clicked: rng.random_bool(truth) });
        }
    }
    Ok(won)
}

/// Expected by real clicks; real ones in expectation, for less noise.
fn ratio(won: &[Won]) -> f64 {
    won.iter().map(|w| w.estimate).sum::<f64>() / won.iter().map(|w| w.truth).sum::<f64>()
}

/// A draw of the standard normal distribution (Box and Muller).
fn normal(rng: &mut StdRng) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// A rising function: blocks of estimates with their click rate, straight between the middles of blocks.
struct Steps(Vec<(f64, f64)>);

impl Steps {
    fn at(&self, estimate: f64) -> f64 {
        let after = self.0.partition_point(|(middle, _)| *middle <= estimate);
        match (after.checked_sub(1).map(|at| self.0[at]), self.0.get(after)) {
            (Some((from, low)), Some((to, high))) => low + (high - low) * (estimate - from) / (to - from),
            (Some((_, rate)), None) | (None, Some(&(_, rate))) => rate,
            (None, None) => estimate,
        }
    }
}

/// The rising function that fits the clicks of `won` best, by squares.
fn isotonic(won: &[Won]) -> Steps {
    let mut sorted: Vec<&Won> = won.iter().collect();
    sorted.sort_by(|a, b| a.raw.total_cmp(&b.raw));
    // Impressions, sum of estimates and clicks of each block.
    let mut blocks: Vec<(f64, f64, f64)> = Vec::new();
    // Groups to begin with: a single impression has no click rate worth the name.
    for group in sorted.chunks(50) {
        let n = group.len() as f64;
        let estimates = group.iter().map(|w| w.raw).sum();
        let clicks = group.iter().filter(|w| w.clicked).count() as f64;
        let mut block = (n, estimates, clicks);
        while let Some(below) = blocks.last()
            && below.2 / below.0 >= block.2 / block.0
        {
            block = (block.0 + below.0, block.1 + below.1, block.2 + below.2);
            blocks.pop();
        }
        blocks.push(block);
    }
    Steps(blocks.into_iter().map(|(n, estimates, clicks)| (estimates / n, clicks / n)).collect())
}
