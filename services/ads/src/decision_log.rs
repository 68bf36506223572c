//! The log of decisions: what took part, by which rules, and what came out, so that anyone holding it can run the
//! auction again to the micro.
//!
//! One JSON text a decision, with a version. Reasons are kept for what was scored or stopped late; a campaign that fell
//! out earlier is asked again when somebody wants to know (`explained_again`).

use bowerbird_auction::segment::SegmentRules;
use bowerbird_auction::{Billing, Candidate, Mechanism, Micros, PriceSetBy, Probability, Rules};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;
use uuid::Uuid;

use crate::auction::{Auction, Outcome, Won};
use crate::time::{day, millis};
use crate::{AdsError, ShownWording};

/// Version of the text.
const VERSION: u32 = 1;
/// Decisions that one simulation or judgement looks at.
const READ_AT_ONCE: i64 = 20_000;
/// Rows that one call of [`prune`] takes away.
const PRUNE_AT_ONCE: i64 = 1000;

/// A decision as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionLog {
    /// Version of this form.
    pub version: u32,
    /// Language of the reader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lang: Option<String>,
    /// Country of the reader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// What the auction was run by.
    pub rules: LoggedRules,
    /// Probability of exactly these awards: 1 where nothing is drawn.
    #[serde(default = "certain")]
    pub propensity: f64,
    /// What took part, in the order of ids.
    pub candidates: Vec<LoggedCandidate>,
    /// What came out.
    pub awards: Vec<LoggedAward>,
    /// Campaigns that were scored and took no part, with their reason.
    pub stopped: Vec<Stopped>,
}

/// The rules of an auction as kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LoggedRules {
    /// Of a page.
    Slots(LoggedSlots),
    /// Of an answer.
    Segment(LoggedSegment),
}

/// [`Rules`] as kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoggedSlots {
    /// How a click is priced.
    pub mechanism: Mechanism,
    /// Least price of a click.
    pub reserve: Micros,
    /// Least price of a thousand impressions.
    pub reserve_per_mille: Micros,
    /// Slots from the top.
    pub slot_multipliers: Vec<f64>,
    /// Exponent of the click probability.
    pub squash_gamma: f64,
    /// Click probability that squashing leaves as it is.
    pub squash_pivot: f64,
}

/// [`SegmentRules`] as kept, with their name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoggedSegment {
    /// Always `segment`.
    pub mechanism: SegmentMechanism,
    /// The rules.
    #[serde(flatten)]
    pub rules: SegmentRules,
}

/// Tells the rules of an answer from those of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentMechanism {
    /// Ads were drawn.
    Segment,
}

impl From<&Auction> for LoggedRules {
    fn from(auction: &Auction) -> Self {
        match auction {
            Auction::Slots(rules) => Self::Slots(LoggedSlots {
                mechanism: rules.mechanism,
                reserve: rules.reserve,
                reserve_per_mille: rules.reserve_per_mille,
                slot_multipliers: rules.slot_multipliers.clone(),
                squash_gamma: rules.squash_gamma,
                squash_pivot: rules.squash_pivot.get(),
            }),
            Auction::Segment(rules) => {
                Self::Segment(LoggedSegment { mechanism: SegmentMechanism::Segment, rules: rules.clone() })
            }
        }
    }
}

impl From<&LoggedRules> for Auction {
    fn from(logged: &LoggedRules) -> Self {
        match logged {
            LoggedRules::Slots(logged) => Self::Slots(Rules {
                mechanism: logged.mechanism,
                reserve: logged.reserve,
                reserve_per_mille: logged.reserve_per_mille,
                slot_multipliers: logged.slot_multipliers.clone(),
                squash_gamma: logged.squash_gamma,
                // Written by us; a forged one gives another price, which the replay shows.
                squash_pivot: Probability::new(logged.squash_pivot)
                    .unwrap_or(bowerbird_auction::SQUASH_PIVOT),
            }),
            LoggedRules::Segment(logged) => Self::Segment(logged.rules.clone()),
        }
    }
}

fn certain() -> f64 {
    1.0
}

/// A candidate as kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoggedCandidate {
    /// Id of the ad.
    pub ad: String,
    /// Id of its campaign.
    pub campaign: String,
    /// Most that was bid.
    pub bid: Micros,
    /// Probability of a click in the first slot.
    pub click_probability: f64,
    /// Pacing multiplier.
    pub pacing: f64,
    /// Relevance of the gate.
    pub relevance: f64,
    /// Cosine of request and ad.
    pub cosine: f32,
    /// Logit of the cross-encoder.
    pub logit: f32,
    /// The keyword that called it up, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyword: Option<String>,
    /// Paid for a thousand impressions instead of a click.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub per_mille: bool,
}

/// An award as kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoggedAward {
    /// Id of the ad.
    pub ad: String,
    /// From 1 at the top.
    pub slot: usize,
    /// Price of the billed event.
    pub price: Micros,
    /// Id of the ad that keeps the price from being lower; none: the reserve, or showing no ad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_set_by: Option<String>,
    /// Showing no ad keeps the price from being lower.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub price_set_by_no_ad: bool,
    /// Probability of this ad in this slot, given those before.
    #[serde(default = "certain")]
    pub propensity: f64,
}

/// A campaign that was looked at and took no part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// Id of the campaign.
    pub campaign: String,
    /// Short code of the reason.
    pub reason: String,
}

/// A decision with the text of its request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// The auction.
    pub auction_id: Uuid,
    /// When.
    pub at: Timestamp,
    /// The query as kept; empty when queries are not.
    pub query: String,
    /// What was decided.
    #[serde(flatten)]
    pub log: DecisionLog,
    /// What running the auction again gives.
    pub replay: Replay,
    /// Texts in its slots that a model wrote; the others were the advertisers' own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub wordings: Vec<ShownWording>,
}

/// Whether a decision comes out again as it is in the log.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Replay {
    /// Winners and prices are the same.
    pub same: bool,
    /// What came out now.
    pub awards: Vec<LoggedAward>,
}

impl DecisionLog {
    /// The candidates and rules of an auction, with what came out.
    pub(crate) fn new(auction: &Auction, mut candidates: Vec<LoggedCandidate>, outcome: &Outcome) -> Self {
        candidates.sort_by(|a, b| a.ad.cmp(&b.ad));
        Self {
            version: VERSION,
            lang: None,
            country: None,
            rules: auction.into(),
            propensity: outcome.propensity,
            candidates,
            awards: outcome.won.iter().map(LoggedAward::from).collect(),
            stopped: Vec::new(),
        }
    }

    /// What took part.
    pub(crate) fn contenders(&self) -> Result<Vec<Candidate<String>>, AdsError> {
        self.candidates.iter().map(LoggedCandidate::candidate).collect()
    }

    /// Runs the auction of `auction_id` again.
    pub fn replay(&self, auction_id: Uuid) -> Result<Replay, AdsError> {
        let outcome = Auction::from(&self.rules).hold(&self.contenders()?, auction_id)?;
        let awards: Vec<LoggedAward> = outcome.won.iter().map(LoggedAward::from).collect();
        // The propensity of a page takes the click model of that moment, so it is told and not made again.
        let same = |(a, b): (&LoggedAward, &LoggedAward)| {
            let alike =
                (&a.ad, a.slot, a.price, &a.price_set_by) == (&b.ad, b.slot, b.price, &b.price_set_by);
            alike && a.price_set_by_no_ad == b.price_set_by_no_ad
        };
        let same = awards.len() == self.awards.len() && awards.iter().zip(&self.awards).all(same);
        Ok(Replay { same, awards })
    }
}

impl LoggedCandidate {
    /// As it went into the auction.
    pub(crate) fn candidate(&self) -> Result<Candidate<String>, AdsError> {
        let damaged = |_| AdsError::Damaged { what: format!("decision log: probability of {}", self.ad) };
        let billing = if self.per_mille { Billing::PerMille } else { Billing::PerClick };
        let ctr = Probability::new(self.click_probability).map_err(damaged)?;
        Ok(Candidate { pacing: self.pacing, ..Candidate::new(self.ad.clone(), billing, self.bid, ctr) })
    }
}

impl From<&Won> for LoggedAward {
    fn from(Won { award, propensity, .. }: &Won) -> Self {
        Self {
            ad: award.id.clone(),
            slot: award.slot,
            price: award.price_of_event(),
            price_set_by: match &award.price_set_by {
                PriceSetBy::Competitor(id) => Some(id.clone()),
                PriceSetBy::Reserve | PriceSetBy::NoAd => None,
            },
            price_set_by_no_ad: award.price_set_by == PriceSetBy::NoAd,
            propensity: *propensity,
        }
    }
}

/// Writes a decision; the same auction again replaces it.
pub(crate) async fn insert(
    db: &mut AnyConnection,
    auction_id: Uuid,
    now: Timestamp,
    query: &str,
    log: &DecisionLog,
) -> Result<(), AdsError> {
    let outcome = if log.awards.is_empty() { "unfilled" } else { "filled" };
    let text = serde_json::to_string(log)
        .map_err(|error| AdsError::Damaged { what: format!("a decision cannot be written: {error}") })?;
    sqlx::query(
        "INSERT INTO decisions (auction_id, at, day, query, outcome, log) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (auction_id) DO UPDATE SET at = excluded.at, day = excluded.day, query = excluded.query, \
         outcome = excluded.outcome, log = excluded.log",
    )
    .bind(auction_id.to_string())
    .bind(millis(now))
    .bind(day(now))
    .bind(query.to_owned())
    .bind(outcome)
    .bind(text)
    .execute(db)
    .await?;
    Ok(())
}

/// The decision of `auction_id`, run again.
pub(crate) async fn find(db: &mut AnyConnection, auction_id: Uuid) -> Result<Option<Decision>, AdsError> {
    let row: Option<(i64, String, String)> =
        sqlx::query_as("SELECT at, query, log FROM decisions WHERE auction_id = $1")
            .bind(auction_id.to_string())
            .fetch_optional(db)
            .await?;
    row.map(|(at, query, text)| read(auction_id, at, query, &text)).transpose()
}

/// A decision as it lies in the database. To read many takes time: not on an async thread.
pub(crate) struct Unread(String, i64, String, String);

impl Unread {
    /// Reads it and runs it again.
    pub fn read(self) -> Result<Decision, AdsError> {
        let Self(id, at, query, text) = self;
        let id = id.parse().map_err(|_| AdsError::Damaged { what: format!("decision {id} has no id") })?;
        read(id, at, query, &text)
    }
}

/// The newest decisions since `since_ms`, at most [`READ_AT_ONCE`].
pub(crate) async fn since(db: &mut AnyConnection, since_ms: i64) -> Result<Vec<Unread>, AdsError> {
    let rows: Vec<(String, i64, String, String)> = sqlx::query_as(
        "SELECT auction_id, at, query, log FROM decisions WHERE at >= $1 ORDER BY at DESC, auction_id LIMIT $2",
    )
    .bind(since_ms)
    .bind(READ_AT_ONCE)
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|(id, at, query, text)| Unread(id, at, query, text)).collect())
}

fn read(auction_id: Uuid, at: i64, query: String, text: &str) -> Result<Decision, AdsError> {
    let damaged = |what: String| AdsError::Damaged { what: format!("decision {auction_id}: {what}") };
    let log: DecisionLog = serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
    if log.version != VERSION {
        return Err(damaged(format!("version {}, expected {VERSION}", log.version)));
    }
    let at = Timestamp::from_millisecond(at).map_err(|error| damaged(error.to_string()))?;
    let replay = log.replay(auction_id)?;
    Ok(Decision { auction_id, at, query, log, replay, wordings: Vec::new() })
}

/// Takes away what is older than `before_ms`, a bounded number of rows of each table: decisions, and shown slots whose
/// events are past. Events, ledger and counts stay. Returns how many decisions went.
pub(crate) async fn prune(db: &mut AnyConnection, before_ms: i64) -> Result<u64, AdsError> {
    let gone = sqlx::query(
        "DELETE FROM decisions WHERE auction_id IN \
         (SELECT auction_id FROM decisions WHERE at < $1 ORDER BY at LIMIT $2)",
    )
    .bind(before_ms)
    .bind(PRUNE_AT_ONCE)
    .execute(&mut *db)
    .await?;
    Ok(gone.rows_affected())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(ad: &str, bid: i64, p: f64) -> LoggedCandidate {
        LoggedCandidate {
            ad: ad.into(),
            campaign: format!("{ad}-campaign"),
            bid: Micros(bid),
            click_probability: p,
            pacing: 1.0,
            relevance: 0.9,
            cosine: 0.7,
            logit: 3.0,
            keyword: None,
            per_mille: false,
        }
    }

    #[test]
    fn a_log_replays_to_the_micro_and_a_forged_one_does_not() {
        let slots = Auction::Slots(Rules {
            mechanism: Mechanism::Vcg,
            reserve: Micros(50_000),
            reserve_per_mille: Micros::ZERO,
            squash_pivot: bowerbird_auction::SQUASH_PIVOT,
            slot_multipliers: vec![1.0, 0.6],
            squash_gamma: 1.0,
        });
        let segment =
            Auction::Segment(SegmentRules { winners: 2, temperature: 1.3, ..SegmentRules::default() });
        let id = Uuid::from_u128(77);
        let logged = vec![
            candidate("c", 900_000, 0.021_234_567_891),
            candidate("a", 1_300_000, 0.017_1),
            candidate("b", 700_000, 0.03),
        ];
        let candidates: Vec<_> = logged.iter().map(|c| c.candidate().expect("valid")).collect();
        for auction in [slots, segment] {
            let outcome = auction.hold(&candidates, id).expect("valid");
            assert_eq!(outcome.won.len(), 2);
            let log = DecisionLog::new(&auction, logged.clone(), &outcome);
            let text = serde_json::to_string(&log).expect("writes");
            let mut again: DecisionLog = serde_json::from_str(&text).expect("reads");
            assert_eq!(again, log, "every float survives the text");
            assert_eq!(Auction::from(&again.rules), auction);
            assert!(again.replay(id).expect("runs").same);
            again.awards[0].price.0 += 1;
            assert!(!again.replay(id).expect("runs").same);
        }
    }

    /// As logs were written before propensities were.
    #[test]
    fn an_older_log_is_read() {
        let text = r#"{"version":1,"rules":{"mechanism":"vcg","reserve":50000,"reserve_per_mille":0,
            "slot_multipliers":[1.0],"squash_gamma":1.0,"squash_pivot":0.02},"candidates":[],
            "awards":[{"ad":"a","slot":1,"price":50000}],"stopped":[]}"#;
        let log: DecisionLog = serde_json::from_str(text).expect("reads");
        assert!(log.propensity >= 1.0 && log.awards[0].propensity >= 1.0);
        assert!(matches!(log.rules, LoggedRules::Slots(_)));
    }
}
