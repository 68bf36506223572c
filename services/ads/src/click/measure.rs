//! A click model against a world whose truth is known: `bowerbird eval clicks`.
//!
//! Ads compete with `bid · estimate` for two slots, winners are clicked by the truth's chance, and the model learns from
//! them alone, a hundred auctions late. Figures are of the second half. Where a predicted number of clicks is compared
//! with one that came about (PCOC), the latter is the truth's expectation, which has no noise of its own.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::config::ClickConfig;
use super::counts::Counts;
pub use super::curse::winners_curse;
use super::explore;
use super::features::ClickFeatures;
pub use super::figures::{ClickFigures, Score};
use super::figures::{Ratio, Rest, Served, divergence, figures};
use super::ftrl::{logit, sigmoid};
use super::model::{ClickModel, Example};
use super::synthetic::World;
use crate::{ClickPrior, ConfigProblems};

/// Auctions between a decision and the moment its fate is learnt.
const DELAY: usize = 100;
/// Auctions between two fits of calibration.
const REFRESH: usize = 5000;
/// Impressions of a new ad that count as cold start.
const COLD: usize = 100;

/// What is run.
#[derive(Clone, Debug)]
pub struct Run {
    /// How many auctions.
    pub auctions: usize,
    /// Bidders in each.
    pub bidders: usize,
    /// Of the world.
    pub seed: u64,
    /// Settings of the model.
    pub config: ClickConfig,
    /// True chance that the second slot is looked at; the model is told .6.
    pub second_slot: f64,
    /// Rank by the uncalibrated estimate, without anything against the winner's curse and without exploration.
    pub naive: bool,
}

/// Runs one world with one model.
pub fn measure(run: &Run) -> Result<ClickFigures, ConfigProblems> {
    let prior = ClickPrior::default();
    let model = ClickModel::new(run.config.clone(), prior)?;
    let blind_prior = ClickPrior { intercept: logit(0.04), slope: 0.0, ..prior };
    let blind = ClickModel::new(run.config.clone(), blind_prior)?;
    let mut world = World::new(run.auctions, run.seed);
    let told = [1.0, 0.6];
    let examination = [1.0, run.second_slot];
    let mut counts = vec![(Counts::default(), 0.0); world.ads.len()];
    let mut pending: VecDeque<(usize, Example, Example)> = VecDeque::new();
    let mut served: Vec<Served> = Vec::new();
    let mut candidates = Ratio::default();
    let mut cold: Vec<[f64; 5]> = Vec::new();
    let mut impressions = vec![0; world.ads.len()];
    let (mut slots, mut squares, mut welfare) = (Ratio::default(), Ratio::default(), Ratio::default());
    let (mut estimating, mut estimates) = (Duration::ZERO, 0_u32);
    let (mut learning, mut learnt) = (Duration::ZERO, 0_u32);
    let mut sequence = 0;
    for at in 0..run.auctions {
        let second_half = at >= run.auctions / 2;
        let auction = world.auction(at, run.bidders);
        let explored = !run.naive && explore::explores(auction.id, run.config.explore_share);
        let begun = Instant::now();
        let mut ranked: Vec<(f64, usize, f64, super::Estimate)> = Vec::with_capacity(run.bidders);
        for (ad, log_odds) in &auction.bidders {
            let estimate = model.estimate(&world.features(&auction, *ad), *log_odds);
            let ctr = if run.naive {
                estimate.raw
            } else {
                let drawn = model.explored(&estimate, auction.id, &world.ads[*ad].id);
                drawn.unwrap_or(estimate.probability)
            };
            ranked.push((world.ads[*ad].bid * ctr.get(), *ad, *log_odds, estimate));
        }
        estimating += begun.elapsed();
        estimates += auction.bidders.len() as u32;
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        if second_half && at % 20 == 0 {
            let mut values = Vec::with_capacity(ranked.len());
            for (_, ad, log_odds, estimate) in &ranked {
                let truth = world.truth(&auction, *ad, *log_odds);
                candidates.add(estimate.raw.get(), truth);
                squares.add(((estimate.logit - logit(truth)) / estimate.sd).powi(2), 1.0);
                values.push(world.ads[*ad].bid * truth);
            }
            let worth =
                |values: &[f64]| values.iter().zip(examination).map(|(value, seen)| value * seen).sum();
            let reached = worth(&values);
            values.sort_by(|a, b| b.total_cmp(a));
            welfare.add(reached, worth(&values));
        }
        for (slot, (_, ad, log_odds, estimate)) in ranked.into_iter().take(2).enumerate() {
            let features = ClickFeatures { slot, ..world.features(&auction, ad) };
            let mut shown = model.shown(&features, log_odds, told[slot]);
            let mut blind_shown = blind.shown(&features, 0.0, told[slot]);
            shown.calibration_weight = if explored { 0.0 } else { 1.0 };
            blind_shown.calibration_weight = shown.calibration_weight;
            let first = world.truth(&auction, ad, log_odds);
            let (exposure, blind_exposure) = (f64::from(shown.exposure), f64::from(blind_shown.exposure));
            if second_half {
                let of_counts = prior.estimate(log_odds, counts[ad].0).get() * told[slot];
                let in_use = if run.naive { estimate.raw } else { estimate.probability };
                let of_prior = sigmoid(prior.logit(log_odds)) * told[slot];
                let truth = first * examination[slot];
                let of_model = (in_use.get() * exposure).min(1.0);
                if slot == 1 {
                    slots.add(exposure * estimate.raw.get(), estimate.raw.get());
                }
                if world.ads[ad].starts > 0 && impressions[ad] < COLD {
                    let of_blind = blind.estimate(&features, 0.0).probability.get() * blind_exposure;
                    let share = 0.04 * told[slot];
                    cold.push([of_model, of_blind, of_counts, of_prior, share].map(|p| divergence(truth, p)));
                }
                served.push(Served {
                    slot,
                    clicked: false,
                    explored,
                    truth,
                    model: of_model,
                    raw: (estimate.raw.get() * exposure).min(1.0),
                    counts: of_counts,
                    prior: of_prior,
                });
            }
            impressions[ad] += 1;
            let clicked = world.happens(first * examination[slot]);
            if let Some(last) = served.last_mut().filter(|_| second_half) {
                last.clicked = clicked;
            }
            counts[ad].0.impressions += 1;
            counts[ad].0.clicks += i64::from(clicked);
            sequence += 1;
            let example = |shown| Example { sequence, shown, clicked, weight: 1.0 };
            pending.push_back((at, example(shown), example(blind_shown)));
        }
        while let Some((_, example, blind_example)) = pending.pop_front_if(|one| one.0 + DELAY <= at) {
            let begun = Instant::now();
            let done = model.learn(&example);
            learning += begun.elapsed();
            // What `shown` says is always sound; a figure of too few examples would show if not.
            learnt += u32::from(done.is_ok() && blind.learn(&blind_example).is_ok());
        }
        if at % REFRESH == REFRESH - 1 || at == REFRESH / 5 {
            model.refresh_calibration();
            blind.refresh_calibration();
        }
    }
    Ok(figures(
        run,
        &served,
        &cold,
        Rest { candidates, slots, squares, welfare, estimating, estimates, learning, learnt },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(auctions: usize, bidders: usize) -> Run {
        let config = ClickConfig { bits: 18, ..ClickConfig::default() };
        Run { auctions, bidders, seed: 3, config, second_slot: 0.6, naive: false }
    }

    #[test]
    fn better_than_counts_and_right_on_winners() {
        let found = measure(&run(40_000, 5)).expect("sound");
        let scores = |name: &str| found.scores[name];
        assert!(scores("model").normalised_entropy < 1.0, "{found:#?}");
        assert!(scores("model").log_loss < scores("counts").log_loss, "{found:#?}");
        assert!(scores("model").auc > scores("counts").auc && scores("counts").auc > scores("prior").auc);
        assert!((0.95..1.05).contains(&found.pcoc), "{found:#?}");
        assert!(found.cold_start["model"] < found.cold_start["blind"], "{found:#?}");
    }

    #[test]
    fn a_wrong_examination_is_mended() {
        let found = measure(&Run { second_slot: 0.4, ..run(40_000, 5) }).expect("sound");
        assert!((0.36..0.48).contains(&found.second_slot.0), "{found:#?}");
        assert!(found.pcoc_slots.iter().all(|pcoc| (0.9..1.1).contains(pcoc)), "{found:#?}");
    }
}
