//! How likely the slots of a page were to come out as they did.
//!
//! A share `ε` of auctions ranks ads by draws of their click probability ([`ClickModel::explored`]), the others by the
//! estimates, and prices decide nothing about who wins. So the probability of a list of winners is `1 − ε` where it is
//! the one by estimates, and `ε` times the share of repeated draws that lead to it. The draws are seeded by the
//! auction, round 0 being the one that was held, so that an outcome that came about is never told to be impossible.

use std::collections::HashSet;

use crate::auction::Won;
use crate::award::{Out, in_order};
use crate::click::ClickModel;
use crate::decide::Scored;
use crate::index::AdIndex;

/// Draws for an auction that was one of those drawn; their standard error is at most a thirtieth.
const ROUNDS_DRAWN: u32 = 200;
/// Draws for the others, where they count `ε` times as much.
const ROUNDS: u32 = 20;

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
    let contenders: Vec<&Scored> = scored.iter().filter(|scored| out.lets(index, scored)).collect();
    // How many of the places, from the first, come out with these click probabilities.
    let alike = |won: &[Won], clicks: &dyn Fn(&Scored) -> f64| {
        let mut advertisers = HashSet::new();
        let ranked = in_order(&contenders, |scored| scored.worth(index, clicks(scored), gamma));
        let best = ranked.into_iter().filter(|scored| advertisers.insert(&index.advertiser_of(scored.ad).id));
        won.iter().zip(best).take_while(|(won, best)| won.award.id == index.ads[best.ad].id).count()
    };
    let drawn = scored.iter().any(|scored| scored.explored);
    let rounds = if drawn { ROUNDS_DRAWN } else { ROUNDS };
    // For each number of places: how often the first so many came out as they did.
    let mut drawn_alike = vec![0.0; won.len()];
    let first = u32::from(!drawn);
    for round in first..first + rounds {
        let clicks = |scored: &Scored| {
            model.drawn(&scored.estimate, auction_id, &index.ads[scored.ad].id, round).get()
        };
        let alike = alike(won, &clicks);
        drawn_alike[..alike].iter_mut().for_each(|count| *count += 1.0 / f64::from(rounds));
    }
    let estimated = alike(won, &|scored| scored.estimate.probability.get());
    let mut before = 1.0;
    for (at, won) in won.iter_mut().enumerate() {
        let certain = if at < estimated { 1.0 - share } else { 0.0 };
        let all = (certain + share * drawn_alike[at]).min(before);
        won.propensity = all / before;
        before = all;
    }
    before
}
