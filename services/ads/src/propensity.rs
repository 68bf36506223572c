//! How likely the slots of a page were to come out as they did.
//!
//! A share `ε` of auctions ranks ads by draws of their click probability ([`ClickModel::explored`]), the others by the
//! estimates, and prices decide nothing about who wins. So the probability of a list of winners is `1 − ε` where it is
//! the one by estimates, and `ε` times the share of repeated draws that lead to it. The draws are seeded by the
//! auction, round 0 being the one that was held, so that an outcome that came about is never told to be impossible.

use std::collections::HashSet;

use bowerbird_auction::Billing;

use crate::auction::Won;
use crate::award::Out;
use crate::click::{ClickModel, Estimate};
use crate::decide::Scored;
use crate::index::AdIndex;

/// Draws for an auction that was one of those drawn; their standard error is at most a thirtieth.
const ROUNDS_DRAWN: u32 = 200;
/// Draws for the others, where they count `ε` times as much.
const ROUNDS: u32 = 20;

/// What an ad is ranked by, and what is drawn of it.
struct Ranked<'a> {
    id: &'a str,
    advertiser: usize,
    /// Effective bid, for a click or an impression.
    bid: f64,
    /// None where impressions are paid for: no click is estimated then.
    estimate: Option<&'a Estimate>,
}

/// Sets the propensity of every place of `won`, given those before it, and returns that of all together.
pub(crate) fn of_slots(
    model: &ClickModel,
    index: &AdIndex,
    scored: &[Scored],
    out: &Out,
    gamma: f64,
    auction_id: [u8; 16],
    won: &mut [Won],
) -> f64 {
    let share = model.explore_share();
    if won.is_empty() || share <= 0.0 {
        return 1.0;
    }
    let contenders: Vec<Ranked<'_>> =
        scored.iter().filter(|scored| out.lets(index, scored)).map(|scored| ranked(index, scored)).collect();
    let drawn = scored.iter().any(|scored| scored.explored);
    let rounds = if drawn { ROUNDS_DRAWN } else { ROUNDS };
    // For each number of places: how often the first so many came out as they did.
    let mut drawn_alike = vec![0.0; won.len()];
    let first = u32::from(!drawn);
    for round in first..first + rounds {
        let probability = |estimate: &Estimate, id: &str| model.drawn(estimate, auction_id, id, round).get();
        let alike = alike(&contenders, won, gamma, probability);
        drawn_alike[..alike].iter_mut().for_each(|count| *count += 1.0 / f64::from(rounds));
    }
    let estimated = alike(&contenders, won, gamma, |estimate, _| estimate.probability.get());
    let mut before = 1.0;
    for (at, won) in won.iter_mut().enumerate() {
        let certain = if at < estimated { 1.0 - share } else { 0.0 };
        let all = (certain + share * drawn_alike[at]).min(before);
        won.propensity = all / before;
        before = all;
    }
    before
}

fn ranked<'a>(index: &'a AdIndex, scored: &'a Scored) -> Ranked<'a> {
    let group = index.ads[scored.ad].group;
    let (bid, clicks) = match index.billing(group) {
        Billing::PerClick => (scored.effective().0 as f64, true),
        Billing::PerMille => (scored.effective().0 as f64 / 1000.0, false),
    };
    Ranked {
        id: &index.ads[scored.ad].id,
        advertiser: index.campaigns[index.groups[group].campaign].advertiser,
        bid,
        estimate: clicks.then_some(&scored.estimate),
    }
}

/// How many of `won`, from the first, come out by these click probabilities.
fn alike(
    contenders: &[Ranked<'_>],
    won: &[Won],
    gamma: f64,
    probability: impl Fn(&Estimate, &str) -> f64,
) -> usize {
    let score = |ad: &Ranked<'_>| {
        let clicks = ad.estimate.map_or(1.0, |estimate| probability(estimate, ad.id));
        ad.bid * if gamma.to_bits() == 1.0_f64.to_bits() { clicks } else { clicks.powf(gamma) }
    };
    let mut scores: Vec<(f64, &Ranked<'_>)> = contenders.iter().map(|ad| (score(ad), ad)).collect();
    scores.sort_by(|(a, first), (b, second)| b.total_cmp(a).then_with(|| first.id.cmp(second.id)));
    let mut advertisers = HashSet::new();
    let best = scores.iter().filter(|(_, ad)| advertisers.insert(ad.advertiser));
    won.iter().zip(best).take_while(|(won, (_, ad))| won.award.id == ad.id).count()
}
