//! Candidates in the order of their scores.

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher24;

use crate::{AuctionError, MAX_BID, MAX_CANDIDATES, Micros, Probability, Rules};

/// What an advertiser pays for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Billing {
    /// A click. Bid, reserve and price are micros for one click.
    #[default]
    PerClick,
    /// An impression that was seen. Bid, reserve and price are micros for a thousand.
    PerMille,
}

/// An ad that may be shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate<Id> {
    /// Name of the candidate, unique in the auction.
    pub id: Id,
    /// Most that is paid for a click or for a thousand impressions, as `billing` says; over 0.
    pub bid: Micros,
    /// What is paid for.
    pub billing: Billing,
    /// Probability of a click when shown in the first slot; not used when impressions are paid for.
    pub ctr: Probability,
    /// Multiplier `h(s)` of the relevance `s`: [`Probability::ONE`] for whatever passed a relevance gate, so that
    /// no second multiplier hides behind the gate.
    pub relevance: Probability,
    /// Pacing multiplier `k`, over 0, at most 1: the candidate bids `k · bid`, and no price exceeds that. It must
    /// not depend on the bid in this auction.
    pub pacing: f64,
    /// Least price of this candidate, in the unit of its bid; 0 for none beside that of the rules. It must not
    /// depend on its own bids, see [`crate::reserve`].
    pub reserve: Micros,
}

impl<Id> Candidate<Id> {
    /// A candidate that is fully relevant, not paced and without a reserve of its own.
    pub fn new(id: Id, billing: Billing, bid: Micros, ctr: Probability) -> Self {
        Self { id, bid, billing, ctr, relevance: Probability::ONE, pacing: 1.0, reserve: Micros::ZERO }
    }
}

/// `pacing · bid`, rounded down to a whole micro; `pacing` within 0 to 1 and `bid` at most [`MAX_BID`].
pub fn paced_bid(bid: Micros, pacing: f64) -> Micros {
    // Bids are exact as f64, and so are those that are not paced.
    Micros((bid.0 as f64 * pacing).floor() as i64)
}

/// A candidate with its weight and score.
pub(crate) struct Ranked<Id> {
    pub id: Id,
    /// Effective bid, the most that is charged.
    pub bid: Micros,
    pub billing: Billing,
    /// The larger of the rules' reserve and its own.
    pub reserve: Micros,
    /// `ω`, over 0: micros for an impression of the first slot, by micro of the bid.
    pub weight: f64,
    /// `bid · ω`, in micros for one impression of the first slot.
    pub score: f64,
}

/// Refuses what no auction may be run with, drops bids under the reserve and weights of zero, and orders the
/// rest by score; equal scores by a keyed hash of the id, then by the id itself.
pub(crate) fn rank<Id: AsRef<[u8]> + Clone>(
    candidates: &[Candidate<Id>],
    rules: &Rules,
    tie_key: [u8; 16],
) -> Result<Vec<Ranked<Id>>, AuctionError> {
    check(candidates)?;
    let hasher = SipHasher24::new_with_key(&tie_key);
    let mut ranked: Vec<(u64, Ranked<Id>)> = candidates
        .iter()
        .filter_map(|c| {
            let bid = paced_bid(c.bid, c.pacing);
            let (everyone, weight) = match c.billing {
                Billing::PerClick => (rules.reserve, click_weight(c.ctr, rules) * c.relevance.get()),
                Billing::PerMille => (rules.reserve_per_mille, c.relevance.get() / 1000.0),
            };
            let reserve = everyone.max(c.reserve);
            let score = bid.0 as f64 * weight;
            (bid >= reserve && bid > Micros::ZERO && weight > 0.0).then(|| {
                let ranked = Ranked { id: c.id.clone(), bid, billing: c.billing, reserve, weight, score };
                (hasher.hash(c.id.as_ref()), ranked)
            })
        })
        .collect();
    ranked.sort_by(|(hash_a, a), (hash_b, b)| {
        b.score.total_cmp(&a.score).then(hash_a.cmp(hash_b)).then_with(|| a.id.as_ref().cmp(b.id.as_ref()))
    });
    Ok(ranked.into_iter().map(|(_, candidate)| candidate).collect())
}

/// `p0 · (ctr/p0)^γ`, written so that it is exactly the click probability at `γ = 1`.
fn click_weight(ctr: Probability, rules: &Rules) -> f64 {
    let gamma = rules.squash_gamma;
    libm::pow(rules.squash_pivot.get(), 1.0 - gamma) * libm::pow(ctr.get(), gamma)
}

/// Refuses too many candidates, amounts and multipliers out of range, and ids that occur twice.
pub(crate) fn check<Id: AsRef<[u8]>>(candidates: &[Candidate<Id>]) -> Result<(), AuctionError> {
    if candidates.len() > MAX_CANDIDATES {
        return Err(AuctionError::TooManyCandidates { found: candidates.len() });
    }
    let shown = |id: &[u8]| String::from_utf8_lossy(id).into_owned();
    let mut ids: Vec<&[u8]> = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let (id, found) = (candidate.id.as_ref(), candidate.bid);
        if found <= Micros::ZERO || found > MAX_BID {
            return Err(AuctionError::Bid { candidate: shown(id), found });
        }
        let found = candidate.pacing;
        if !(found > 0.0 && found <= 1.0) {
            return Err(AuctionError::Pacing { candidate: shown(id), found });
        }
        let found = candidate.reserve;
        if found < Micros::ZERO || found > MAX_BID {
            return Err(AuctionError::CandidateReserve { candidate: shown(id), found });
        }
        ids.push(id);
    }
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(AuctionError::DuplicateCandidate { candidate: shown(pair[0]) }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mechanism, SQUASH_PIVOT};

    fn candidate(id: &str, bid: i64, ctr: f64) -> Candidate<String> {
        let ctr = Probability::new(ctr).expect("within 0 to 1");
        Candidate::new(id.into(), Billing::PerClick, Micros(bid), ctr)
    }

    fn rules(reserve: i64) -> Rules {
        Rules {
            mechanism: Mechanism::Vcg,
            reserve: Micros(reserve),
            reserve_per_mille: Micros(10 * reserve),
            slot_multipliers: vec![1.0],
            squash_gamma: 1.0,
            squash_pivot: SQUASH_PIVOT,
        }
    }

    #[test]
    fn what_no_auction_may_be_run_with_is_refused() {
        for bid in [0, -1, i64::MIN, MAX_BID.0 + 1, i64::MAX] {
            let error = rank(&[candidate("a", bid, 0.1)], &rules(0), [0; 16]).err();
            assert_eq!(error, Some(AuctionError::Bid { candidate: "a".into(), found: Micros(bid) }));
        }
        let twice = [candidate("a", 1, 0.1), candidate("b", 1, 0.1), candidate("a", 2, 0.1)];
        let error = rank(&twice, &rules(0), [0; 16]).err();
        assert_eq!(error, Some(AuctionError::DuplicateCandidate { candidate: "a".into() }));
        for pacing in [0.0, -0.5, 1.1, f64::NAN] {
            let error = rank(&[Candidate { pacing, ..candidate("a", 1, 0.1) }], &rules(0), [0; 16]).err();
            assert!(matches!(error, Some(AuctionError::Pacing { .. })), "{pacing}");
        }
        let own = Candidate { reserve: Micros(-1), ..candidate("a", 1, 0.1) };
        let error = rank(&[own], &rules(0), [0; 16]).err();
        assert_eq!(error, Some(AuctionError::CandidateReserve { candidate: "a".into(), found: Micros(-1) }));
        let many: Vec<_> = (0..=MAX_CANDIDATES).map(|i| candidate(&i.to_string(), 1, 0.1)).collect();
        let error = rank(&many, &rules(0), [0; 16]).err();
        assert_eq!(error, Some(AuctionError::TooManyCandidates { found: MAX_CANDIDATES + 1 }));
        assert!(rank(&many[1..], &rules(0), [0; 16]).is_ok());
    }

    #[test]
    fn low_bids_and_certain_misses_take_no_part() {
        let per_mille = |id, bid| Candidate { billing: Billing::PerMille, ..candidate(id, bid, 0.0) };
        let ranked = rank(
            &[
                candidate("low", 9, 0.5),
                candidate("never", 99, 0.0),
                candidate("in", 10, 0.1),
                Candidate { pacing: 0.9, ..candidate("paced under", 11, 0.1) },
                Candidate { reserve: Micros(21), ..candidate("own reserve", 20, 0.1) },
                per_mille("seen", 100),
                per_mille("seen for less", 99),
            ],
            &rules(10),
            [0; 16],
        )
        .expect("valid");
        assert_eq!(ranked.iter().map(|r| r.id.as_str()).collect::<Vec<_>>(), ["in", "seen"]);
    }

    #[test]
    fn clicks_and_impressions_meet_in_one_unit() {
        // 0.50 a click at 2 % is 0.01 an impression, and so is 10.00 a thousand.
        let list = [
            candidate("click", 500_000, 0.02),
            Candidate { billing: Billing::PerMille, ..candidate("mille", 10_000_000, 0.9) },
            Candidate { pacing: 0.5, ..candidate("paced", 1_000_000, 0.02) },
        ];
        for gamma in [0.0, 0.5, 1.0] {
            let rules = Rules { squash_gamma: gamma, ..rules(0) };
            for ranked in rank(&list, &rules, [0; 16]).expect("valid") {
                assert!((ranked.score - 10_000.0).abs() < 1e-6, "{} {gamma}: {}", ranked.id, ranked.score);
            }
        }
    }

    #[test]
    fn ties_follow_the_key_and_not_the_order() {
        let mut tied: Vec<_> = (0..8).map(|i| candidate(&format!("ad-{i}"), 100, 0.1)).collect();
        let order = |list: &[Candidate<String>], key: u8| -> Vec<String> {
            rank(list, &rules(0), [key; 16]).expect("valid").into_iter().map(|r| r.id).collect()
        };
        let first = order(&tied, 1);
        tied.reverse();
        assert_eq!(order(&tied, 1), first, "the order of the list must not matter");
        let firsts: std::collections::BTreeSet<String> =
            (0..32).map(|key| order(&tied, key).swap_remove(0)).collect();
        assert!(firsts.len() > 3, "the key must move the winner among equals, saw {firsts:?}");
    }
}
