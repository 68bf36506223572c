//! Candidates in the order of their scores.

use siphasher::sip::SipHasher24;

use crate::{AuctionError, MAX_BID, MAX_CANDIDATES, Micros, Probability, Rules};

/// An ad that may be shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate<Id> {
    /// Name of the candidate, unique in the auction.
    pub id: Id,
    /// Most that is paid for a click; over 0.
    pub bid: Micros,
    /// Probability of a click when shown in the first slot.
    pub ctr: Probability,
    /// Multiplier `h(s)` of the relevance `s`: [`Probability::ONE`] for whatever passed a relevance gate, so that
    /// no second multiplier hides behind the gate.
    pub relevance: Probability,
}

/// A candidate with its weight and score.
pub(crate) struct Ranked<Id> {
    pub id: Id,
    pub bid: Micros,
    /// `ω = ctr^γ · h(s)`, over 0.
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
        .filter(|c| c.bid >= rules.reserve)
        .filter_map(|c| {
            let weight = c.ctr.get().powf(rules.squash_gamma) * c.relevance.get();
            let score = c.bid.0 as f64 * weight;
            (weight > 0.0)
                .then(|| (hasher.hash(c.id.as_ref()), Ranked { id: c.id.clone(), bid: c.bid, weight, score }))
        })
        .collect();
    ranked.sort_by(|(hash_a, a), (hash_b, b)| {
        b.score.total_cmp(&a.score).then(hash_a.cmp(hash_b)).then_with(|| a.id.as_ref().cmp(b.id.as_ref()))
    });
    Ok(ranked.into_iter().map(|(_, candidate)| candidate).collect())
}

fn check<Id: AsRef<[u8]>>(candidates: &[Candidate<Id>]) -> Result<(), AuctionError> {
    if candidates.len() > MAX_CANDIDATES {
        return Err(AuctionError::TooManyCandidates { found: candidates.len() });
    }
    let shown = |id: &Id| String::from_utf8_lossy(id.as_ref()).into_owned();
    if let Some(bad) = candidates.iter().find(|c| c.bid <= Micros::ZERO || c.bid > MAX_BID) {
        return Err(AuctionError::Bid { candidate: shown(&bad.id), found: bad.bid });
    }
    let mut ids: Vec<&Id> = candidates.iter().map(|c| &c.id).collect();
    ids.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
    match ids.windows(2).find(|pair| pair[0].as_ref() == pair[1].as_ref()) {
        Some(pair) => Err(AuctionError::DuplicateCandidate { candidate: shown(pair[0]) }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mechanism;

    fn candidate(id: &str, bid: i64, ctr: f64) -> Candidate<String> {
        Candidate {
            id: id.into(),
            bid: Micros(bid),
            ctr: Probability::new(ctr).expect("within 0 to 1"),
            relevance: Probability::ONE,
        }
    }

    fn rules(reserve: i64) -> Rules {
        Rules {
            mechanism: Mechanism::Vcg,
            reserve: Micros(reserve),
            slot_multipliers: vec![1.0],
            squash_gamma: 1.0,
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
        let many: Vec<_> = (0..=MAX_CANDIDATES).map(|i| candidate(&i.to_string(), 1, 0.1)).collect();
        let error = rank(&many, &rules(0), [0; 16]).err();
        assert_eq!(error, Some(AuctionError::TooManyCandidates { found: MAX_CANDIDATES + 1 }));
        assert!(rank(&many[1..], &rules(0), [0; 16]).is_ok());
    }

    #[test]
    fn low_bids_and_certain_misses_take_no_part() {
        let ranked = rank(
            &[candidate("low", 9, 0.5), candidate("never", 99, 0.0), candidate("in", 10, 0.1)],
            &rules(10),
            [0; 16],
        )
        .expect("valid");
        assert_eq!(ranked.iter().map(|r| r.id.as_str()).collect::<Vec<_>>(), ["in"]);
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
