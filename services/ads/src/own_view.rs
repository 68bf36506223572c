//! A decision as one advertiser may see it: its own part whole, and of others how many there were, never what they bid.

use std::collections::HashSet;

use bowerbird_auction::Micros;
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::AdsError;
use crate::decision_log::{Decision, LoggedAward, LoggedCandidate, LoggedRules, Stopped};
use crate::engine::Engine;

/// What one advertiser may know of a decision.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OwnDecision {
    /// The auction.
    pub auction_id: Uuid,
    /// When.
    pub at: Timestamp,
    /// The query as kept; left out of a decision that the advertiser had no part in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// What the auction was run by.
    pub rules: LoggedRules,
    /// Its own ads that took part, with all that is known of them.
    pub own: Vec<LoggedCandidate>,
    /// How many ads of others took part.
    pub others: usize,
    /// The slots.
    pub awards: Vec<OwnAward>,
    /// Its own campaigns that were scored and took no part, with their reason.
    pub stopped: Vec<Stopped>,
    /// Whether running the auction again gives the same winners and prices.
    pub replays: bool,
}

/// A slot, as far as an advertiser may know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OwnAward {
    /// From 1 at the top.
    pub slot: usize,
    /// Its own ad; none: somebody else's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ad: Option<String>,
    /// What a billed event costs, of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<Micros>,
    /// What keeps its price from being lower: `reserve`, `another_ad` or `no_ad`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_set_by: Option<&'static str>,
}

impl OwnDecision {
    /// What of `decision` an advertiser with these campaigns may see.
    fn new(decision: Decision, campaigns: &HashSet<String>) -> Self {
        let Decision { auction_id, at, query, log, replay, .. } = decision;
        let (own, others): (Vec<_>, Vec<_>) =
            log.candidates.into_iter().partition(|candidate| campaigns.contains(&candidate.campaign));
        let stopped: Vec<_> =
            log.stopped.into_iter().filter(|stopped| campaigns.contains(&stopped.campaign)).collect();
        let is_own = |ad: &String| own.iter().any(|candidate| candidate.ad == *ad);
        let awards = log.awards.into_iter().map(|award| {
            if !is_own(&award.ad) {
                return OwnAward { slot: award.slot, ad: None, price: None, price_set_by: None };
            }
            let by = set_by(&award);
            OwnAward {
                slot: award.slot,
                ad: Some(award.ad),
                price: Some(award.price),
                price_set_by: Some(by),
            }
        });
        Self {
            auction_id,
            at,
            rules: log.rules,
            others: others.len(),
            awards: awards.collect(),
            query: (!own.is_empty() || !stopped.is_empty()).then_some(query),
            own,
            stopped,
            replays: replay.same,
        }
    }
}

fn set_by(award: &LoggedAward) -> &'static str {
    match &award.price_set_by {
        Some(_) => "another_ad",
        None if award.price_set_by_no_ad => "no_ad",
        None => "reserve",
    }
}

impl Engine {
    /// `decision` as `advertiser` may see it; none when there is no such advertiser.
    pub(crate) async fn own_view(
        &self,
        decision: Decision,
        advertiser: &str,
    ) -> Result<Option<OwnDecision>, AdsError> {
        let mut reader = self.store.begin_read().await?;
        let known: Option<String> = sqlx::query_scalar("SELECT id FROM advertisers WHERE id = $1")
            .bind(advertiser.to_owned())
            .fetch_optional(&mut *reader)
            .await?;
        let campaigns: Vec<String> = sqlx::query_scalar("SELECT id FROM campaigns WHERE advertiser = $1")
            .bind(advertiser.to_owned())
            .fetch_all(&mut *reader)
            .await?;
        reader.rollback().await?;
        Ok(known.map(|_| OwnDecision::new(decision, &campaigns.into_iter().collect())))
    }
}
