//! What other rules for the places below answers would have brought, from the log of those that were in force.
//!
//! Every draw is logged with its exact probability, so each logged answer can be weighted by how likely the other rules
//! were to draw the same ([`offpolicy`](crate::offpolicy)). Rewards are clicks, and clicks by the bid of each: what
//! advertisers got out of it. Money is not estimated, because other rules would have charged other prices.

use std::collections::HashMap;
use std::ops::Add;

use bowerbird_auction::segment::{self, SegmentRules};
use bowerbird_auction::{Candidate, Micros};
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::AdsError;
use crate::auction::Auction;
use crate::decision_log::{self, Decision, LoggedRules, LoggedSegment, Unread};
use crate::engine::Engine;
use crate::offpolicy::{self, Evaluation, Interval};
use crate::time::millis;

/// Decisions that are read, newest first.
const MAX_DECISIONS: usize = 100_000;
/// An answer that is younger may still be clicked.
const PATIENCE_MS: i64 = 600_000;
/// Clicks are rare, so that intervals are not symmetric.
const INTERVAL: Interval = Interval::Bootstrap { resamples: 1_000, seed: 1 };

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
    /// Clicks for each, every click by the bid of its ad, in micros.
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
    logged: &LoggedSegment,
    other: &OtherRules,
    clicks: &[String],
) -> Result<[offpolicy::Decision; 2], AdsError> {
    let Auction::Segment(rules) = Auction::from(&LoggedRules::Segment(logged.clone())) else {
        unreachable!("rules of a segment are rules of a segment");
    };
    let target = other.instead_of(&rules)?;
    let contenders = decision.log.contenders()?;
    let drawn: Vec<String> = decision.log.awards.iter().map(|award| award.ad.clone()).collect();
    let propensity = segment::propensity(&contenders, &target, &drawn)?;
    // Without noise the log could have done nothing but what it did.
    let supported = if rules.temperature > 0.0 { 1.0 } else { propensity };
    let shares = segment::shown_shares(&contenders, &target)?;
    let of = |ad: &str| contenders.iter().find(|candidate| candidate.id == ad);
    let decide = |worth: &dyn Fn(&Candidate<String>) -> f64| {
        let one = |ad: &String| of(ad).map_or(0.0, worth);
        let expected = |ad: &String| of(ad).map_or(0.0, |c| c.ctr.get() * worth(c));
        offpolicy::Decision {
            // A sum of nothing is -0 for floats.
            reward: clicks.iter().map(one).fold(0.0, f64::add),
            logged: decision.log.propensity,
            target: propensity,
            predicted: drawn.iter().map(expected).fold(0.0, f64::add),
            predicted_target: shares.iter().map(|share| share.probability * expected(&share.id)).sum(),
            supported,
        }
    };
    Ok([decide(&|_| 1.0), decide(&|candidate| candidate.bid.0 as f64)])
}

/// Judges `other` by `decisions`; `clicks` has the ads that were clicked by auction.
fn judge(
    decisions: &[Decision],
    clicks: &HashMap<Uuid, Vec<String>>,
    other: &OtherRules,
) -> Result<Judged, AdsError> {
    let (mut by_clicks, mut by_value) = (Vec::new(), Vec::new());
    for decision in decisions {
        let LoggedRules::Segment(logged) = &decision.log.rules else { continue };
        let clicked = clicks.get(&decision.auction_id).map_or(&[][..], Vec::as_slice);
        let [one, worth] = weighed(decision, logged, other, clicked)?;
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
        let decisions = decision_log::since(&mut reader, since_ms, MAX_DECISIONS).await?;
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT s.auction_id, s.ad FROM served s JOIN events e ON e.nonce = s.nonce AND e.kind = 'click' \
             AND e.status IN ('billed', 'free_overdelivery') WHERE s.at >= $1",
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
        let work = move || {
            let decisions = decisions.into_iter().map(Unread::read).collect::<Result<Vec<_>, _>>()?;
            let decisions = decisions.into_iter().filter(|d| d.at.as_millisecond() <= settled);
            judge(&decisions.collect::<Vec<_>>(), &clicks, &other)
        };
        tokio::task::spawn_blocking(work).await?
    }
}
