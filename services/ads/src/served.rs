//! What was shown: the row that the events of a slot are judged, learnt and reported by.

use bowerbird_auction::Micros;
use sqlx::{AnyConnection, AssertSqlSafe};

use crate::AdsError;
use crate::sql;
use crate::token::Billed;

/// Longest query that is kept, in characters.
pub(crate) const MAX_QUERY: usize = 200;

/// A shown slot.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub nonce: String,
    pub auction_id: String,
    pub ad: String,
    pub campaign: String,
    pub advertiser: String,
    pub day: String,
    pub at_ms: i64,
    pub slot: usize,
    pub billed: Billed,
    /// Most the advertiser bid for the billed event.
    pub bid: Micros,
    pub price: Micros,
    /// Estimated probability of a click in the first slot.
    pub probability: f64,
    /// Probability that the ad was drawn for the slot; 1 where nothing is drawn.
    pub propensity: f64,
    pub match_type: &'static str,
    pub keyword: String,
    /// As kept; see [`kept_query`].
    pub query: String,
    /// Keyed hash of the reader, empty when unknown.
    pub person: String,
    /// What the click model reads, base64.
    pub features: String,
    /// Log-odds of the relevance gate.
    pub log_odds: f64,
    /// Id of the text that a model wrote, empty where the advertiser's own was shown.
    pub wording: String,
}

/// A query as it is kept: lower case, spaces folded, cut; nothing when queries are not kept.
pub(crate) fn kept_query(query: &str, keep: bool) -> String {
    if !keep {
        return String::new();
    }
    let words: Vec<String> = query.split_whitespace().map(str::to_lowercase).collect();
    words.join(" ").chars().take(MAX_QUERY).collect()
}

/// Writes the slots of a slate. Where the same auction is held again, the text that it shows now counts.
pub(crate) async fn insert(db: &mut AnyConnection, slots: &[Served]) -> Result<(), AdsError> {
    if slots.is_empty() {
        return Ok(());
    }
    let statement = format!(
        "INSERT INTO served (nonce, auction_id, ad, campaign, advertiser, day, at, slot, billing, bid_micros, \
         price_micros, probability, propensity, match_type, keyword, query, person, features, log_odds, \
         wording) VALUES {} ON CONFLICT (nonce) DO UPDATE SET wording = excluded.wording",
        sql::rows(slots.len(), 20)
    );
    let mut query = sqlx::query(AssertSqlSafe(statement));
    for slot in slots {
        query = query
            .bind(slot.nonce.clone())
            .bind(slot.auction_id.clone())
            .bind(slot.ad.clone())
            .bind(slot.campaign.clone())
            .bind(slot.advertiser.clone())
            .bind(slot.day.clone())
            .bind(slot.at_ms)
            .bind(i64::try_from(slot.slot).unwrap_or_default())
            .bind(slot.billed.as_str())
            .bind(slot.bid.0)
            .bind(slot.price.0)
            .bind(slot.probability)
            .bind(slot.propensity)
            .bind(slot.match_type)
            .bind(slot.keyword.clone())
            .bind(slot.query.clone())
            .bind(slot.person.clone())
            .bind(slot.features.clone())
            .bind(slot.log_odds)
            .bind(slot.wording.clone());
    }
    query.execute(db).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_kept_alike_or_not_at_all() {
        assert_eq!(kept_query("  Running\tSHOES ", true), "running shoes");
        assert_eq!(kept_query(&"x".repeat(300), true).len(), 200);
        assert_eq!(kept_query("running shoes", false), "");
    }
}
