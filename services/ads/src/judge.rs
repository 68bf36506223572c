//! What other rules for the places below answers would have brought, from the log of those that were in force.
//!
//! Every draw is logged with its exact probability, so each logged answer can be weighted by how likely the other rules
//! were to draw the same ([`offpolicy`](crate::offpolicy)). Rewards are clicks, and what advertisers got out of it: a
//! click by the bid of its ad, an ad that pays for impressions by a thousandth of its bid. Money is not estimated, because other rules would have charged other prices.

use std::collections::HashMap;
use std::ops::Add;

use bowerbird_auction::segment::{self, SegmentRules};
use bowerbird_auction::{Billing, Candidate, Micros};
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::AdsError;
use crate::decision_log::{self, Decision, LoggedRules, Unread};
use crate::engine::Engine;
use crate::offpolicy::{self, Evaluation, Interval};
use crate::time::millis;

/// An answer that is younger may still be clicked.
const PATIENCE_MS: i64 = 600_000;
/// Clicks are rare, so that intervals are not symmetric.
const INTERVAL: Interval = Interval::Bootstrap { resamples: 1_000, seed: 1 };

/// What a click of an ad counts, and what showing it counts.
type Counts = fn(&Candidate<String>) -> (f64, f64);

/// Rules that differ from those that were in force; none: the same.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OtherRules {
    /// As [`SegmentConfig::no_ad_micros`](crate::SegmentConfig).
    pub no_ad_micros: Option<Micros>,
    /// As [`SegmentConfig::temperature`](crate::SegmentConfig).
    pub temperature: Option<f64>,
    /// As [`AdsConfig::reserve_micros`](crate::AdsConfig), not lower than it was: who bid less is not in the log.
    pub reserve_micros: Option<Micros>,
}

/// What the log says of other rules.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judged {
    /// Logged answers for which ads were drawn.
    pub answers: usize,
    /// Clicks for each of them.
    pub clicks: Evaluation,
    /// What each was worth to advertisers by their bids, in micros.
    pub value_micros: Evaluation,
    /// Why no verdict is given, in words; empty if one is.
    pub refused: Vec<String>,
}

impl OtherRules {
    fn instead_of(&self, logged: &SegmentRules) -> Result<SegmentRules, AdsError> {
        if let Some(reserve) = self.reserve_micros.filter(|reserve| *reserve < logged.reserve) {
            return Err(AdsError::ReserveNotLogged { found: reserve, logged: logged.reserve });
        }
        let rules = SegmentRules {
            null_weight: self.no_ad_micros.map_or(logged.null_weight, |micros| micros.0 as f64),
            temperature: self.temperature.unwrap_or(logged.temperature),
            reserve: self.reserve_micros.unwrap_or(logged.reserve),
            ..logged.clone()
        };
        rules.validate().map_err(AdsError::OtherRules)?;
        Ok(rules)
    }
}

/// One logged answer under other rules: as a decision about clicks, and about clicks by bid.
fn weighed(
    decision: &Decision,
    logged: &SegmentRules,
    other: &OtherRules,
    clicks: &[String],
) -> Result<[offpolicy::Decision; 2], AdsError> {
    let target = other.instead_of(logged)?;
    let contenders = decision.log.contenders()?;
    let drawn: Vec<String> = decision.log.awards.iter().map(|award| award.ad.clone()).collect();
    let propensity = segment::propensity(&contenders, &target, &drawn)?;
    // Without noise the log could have done nothing but what it did.
    let supported = if logged.temperature > 0.0 { 1.0 } else { propensity };
    let shares = segment::shown_shares(&contenders, &target)?;
    let of = |ad: &str| contenders.iter().find(|candidate| candidate.id == ad);
    let decide = |counts: Counts| {
        let clicked = |ad: &String| of(ad).map_or(0.0, |candidate| counts(candidate).0);
        let shown = |ad: &String| of(ad).map_or(0.0, |candidate| counts(candidate).1);
        let expected = |ad: &String| of(ad).map_or(0.0, |c| c.ctr.get() * counts(c).0 + counts(c).1);
        // A sum of nothing is -0 for floats.
        let sum = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::add);
        offpolicy::Decision {
            reward: sum(&mut clicks.iter().map(clicked).chain(drawn.iter().map(shown))),
            logged: decision.log.propensity,
            target: propensity,
            predicted: sum(&mut drawn.iter().map(expected)),
            predicted_target: sum(&mut shares.iter().map(|share| share.probability * expected(&share.id))),
            supported,
        }
    };
    let by_clicks = decide(|_| (1.0, 0.0));
    let by_value = decide(|candidate| match candidate.billing {
        Billing::PerClick => (candidate.bid.0 as f64, 0.0),
        Billing::PerMille => (0.0, candidate.bid.0 as f64 / 1000.0),
    });
    Ok([by_clicks, by_value])
}

/// Judges `other` by those of `decisions` that are older than `settled_ms`; `clicks` has the ads that were clicked by
/// auction.
fn judge(
    decisions: Vec<Unread>,
    settled_ms: i64,
    clicks: &HashMap<Uuid, Vec<String>>,
    other: &OtherRules,
) -> Result<Judged, AdsError> {
    let (mut by_clicks, mut by_value) = (Vec::new(), Vec::new());
    for unread in decisions {
        let decision = unread.read()?;
        let LoggedRules::Segment(logged) = &decision.log.rules else { continue };
        if decision.at.as_millisecond() > settled_ms {
            continue;
        }
        let clicked = clicks.get(&decision.auction_id).map_or(&[][..], Vec::as_slice);
        let [one, worth] = weighed(&decision, &logged.rules, other, clicked)?;
        by_clicks.push(one);
        by_value.push(worth);
    }
    let clicks = offpolicy::evaluate(&by_clicks, INTERVAL)?;
    let value_micros = offpolicy::evaluate(&by_value, INTERVAL)?;
    let refused = clicks.refusals.iter().map(ToString::to_string).collect();
    Ok(Judged { answers: by_clicks.len(), clicks, value_micros, refused })
}

impl Engine {
    /// Judges `other` by the answers since `since_ms` that have waited long enough for their clicks.
    pub(crate) async fn judge(
        &self,
        other: OtherRules,
        since_ms: i64,
        now: Timestamp,
    ) -> Result<Judged, AdsError> {
        let mut reader = self.store.begin_read().await?;
        let decisions = decision_log::since(&mut reader, since_ms).await?;
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT s.auction_id, s.ad FROM served s JOIN events e ON e.nonce = s.nonce AND e.kind = 'click' \
             AND e.status NOT IN ('orphan', 'invalid') WHERE s.at >= $1",
        )
        .bind(since_ms)
        .fetch_all(&mut *reader)
        .await?;
        reader.rollback().await?;
        let settled = millis(now).saturating_sub(PATIENCE_MS);
        let mut clicks: HashMap<Uuid, Vec<String>> = HashMap::new();
        for (auction, ad) in rows {
            if let Ok(id) = auction.parse() {
                clicks.entry(id).or_default().push(ad);
            }
        }
        tokio::task::spawn_blocking(move || judge(decisions, settled, &clicks, &other)).await?
    }
}

#[cfg(test)]
mod tests {
    use bowerbird_auction::Probability;

    use super::*;
    use crate::auction::Auction;
    use crate::decision_log::{DecisionLog, LoggedCandidate, Replay};

    /// One answer with an ad that pays 2 for a click of one in ten, and one that pays 300 for a thousand impressions.
    #[test]
    fn a_click_is_worth_its_bid_and_an_impression_a_thousandth() {
        let candidate = |ad: &str, bid, per_mille| LoggedCandidate {
            ad: ad.into(),
            campaign: ad.into(),
            bid: Micros(bid),
            click_probability: 0.1,
            pacing: 1.0,
            relevance: 0.9,
            cosine: 0.7,
            logit: 3.0,
            keyword: None,
            per_mille,
        };
        let candidates = vec![candidate("click", 2_000_000, false), candidate("mille", 300_000_000, true)];
        let contenders: Vec<_> = candidates.iter().map(|c| c.candidate().expect("valid")).collect();
        assert_eq!(contenders[0].ctr, Probability::new(0.1).expect("a probability"));
        let rules = SegmentRules { winners: 2, ..SegmentRules::default() };
        let auction = Auction::Segment(rules.clone());
        let outcome = auction.hold(&contenders, Uuid::from_u128(1)).expect("valid");
        let decision = Decision {
            auction_id: Uuid::from_u128(1),
            at: Timestamp::UNIX_EPOCH,
            query: String::new(),
            log: DecisionLog::new(&auction, candidates, &outcome),
            replay: Replay { same: true, awards: Vec::new() },
            wordings: Vec::new(),
        };
        let clicked = ["click".to_owned(), "mille".to_owned()];
        for (clicked, clicks, value) in
            [(&clicked[..], 2.0, 2_300_000.0), (&clicked[1..], 1.0, 300_000.0), (&[], 0.0, 300_000.0)]
        {
            let [by_clicks, by_value] =
                weighed(&decision, &rules, &OtherRules::default(), clicked).expect("weighs");
            assert!((by_clicks.reward - clicks).abs() < 1e-9 && (by_value.reward - value).abs() < 1e-6);
            // Both are always shown, and the same rules draw the same.
            for found in [by_clicks, by_value] {
                assert!((found.target - found.logged).abs() < 1e-12);
                assert!((found.predicted - found.predicted_target).abs() < 1e-6, "{found:?}");
            }
            assert!((by_clicks.predicted - 0.2).abs() < 1e-9);
            assert!((by_value.predicted - 500_000.0).abs() < 1e-3);
        }
    }
}
