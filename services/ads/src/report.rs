//! What happened so far, and whether the books agree with it.

use std::collections::{BTreeMap, BTreeSet};

use bowerbird_auction::Micros;
use jiff::Timestamp;
use serde::Serialize;

use crate::AdsError;
use crate::engine::Engine;
use crate::time::{day, millis};

/// One campaign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CampaignReport {
    /// Id of the campaign.
    pub campaign: String,
    /// Its name.
    pub name: String,
    /// Name of its advertiser.
    pub advertiser: String,
    /// `enabled` or `paused`.
    pub status: String,
    /// ISO 4217 code.
    pub currency: String,
    /// Most that is charged in a UTC day.
    pub daily_budget: Micros,
    /// Charged today.
    pub spent_today: Micros,
    /// Held today for clicks that may still come.
    pub reserved: Micros,
    /// Charged since the beginning.
    pub spent_total: Micros,
    /// Valid impressions since the beginning.
    pub impressions: i64,
    /// Valid clicks since the beginning, free ones included, orphans not.
    pub clicks: i64,
}

/// Result of replaying the events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Campaign-days compared; an audit of none says nothing.
    pub compared: usize,
    /// Events replayed.
    pub events: usize,
    /// Where books and events differ.
    pub differences: Vec<Difference>,
}

/// Books and events differ, for one campaign and day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Id of the campaign.
    pub campaign: String,
    /// UTC day.
    pub day: String,
    /// `settled` or `reserved`.
    pub what: &'static str,
    /// What the books say.
    pub booked: Micros,
    /// What the events or reservations add up to.
    pub replayed: Micros,
}

type CampaignRow = (String, String, String, String, String, i64, i64, i64, i64, i64, i64);

impl Engine {
    pub(crate) async fn campaigns(&self, now: Timestamp) -> Result<Vec<CampaignReport>, AdsError> {
        let rows: Vec<CampaignRow> = sqlx::query_as(
            "SELECT c.id, c.name, a.name, c.status, c.currency, c.daily_budget_micros, \
             COALESCE((SELECT s.settled_micros FROM daily_spend s WHERE s.campaign = c.id AND s.day = $1), 0), \
             CAST(COALESCE((SELECT SUM(r.amount_micros) FROM reservations r \
                WHERE r.campaign = c.id AND r.day = $1 AND r.expires_at > $2), 0) AS BIGINT), \
             CAST(COALESCE((SELECT SUM(s.settled_micros) FROM daily_spend s WHERE s.campaign = c.id), 0) AS BIGINT), \
             (SELECT COUNT(*) FROM events e WHERE e.campaign = c.id AND e.kind = 'impression'), \
             (SELECT COUNT(*) FROM events e WHERE e.campaign = c.id AND e.kind = 'click' AND e.status <> 'orphan') \
             FROM campaigns c JOIN advertisers a ON a.id = c.advertiser ORDER BY c.id",
        )
        .bind(day(now))
        .bind(millis(now))
        .fetch_all(&self.store.reader)
        .await?;
        let report =
            |(campaign, name, advertiser, status, currency, budget, spent, reserved, total, seen, clicks)| {
                CampaignReport {
                    campaign,
                    name,
                    advertiser,
                    status,
                    currency,
                    daily_budget: Micros(budget),
                    spent_today: Micros(spent),
                    reserved: Micros(reserved),
                    spent_total: Micros(total),
                    impressions: seen,
                    clicks,
                }
            };
        Ok(rows.into_iter().map(report).collect())
    }

    pub(crate) async fn audit(&self) -> Result<Audit, AdsError> {
        let mut snapshot = self.store.begin_read().await?;
        let booked: Vec<(String, String, i64, i64)> =
            sqlx::query_as("SELECT campaign, day, settled_micros, reserved_micros FROM daily_spend")
                .fetch_all(&mut *snapshot)
                .await?;
        let events: Vec<(String, String, i64)> =
            sqlx::query_as("SELECT campaign, day, amount_micros FROM events")
                .fetch_all(&mut *snapshot)
                .await?;
        let holds: Vec<(String, String, i64)> =
            sqlx::query_as("SELECT campaign, day, amount_micros FROM reservations")
                .fetch_all(&mut *snapshot)
                .await?;
        snapshot.rollback().await?;

        let mut audit = Audit { events: events.len(), ..Audit::default() };
        let settled = by_campaign_day(events)?;
        let reserved = by_campaign_day(holds)?;
        let booked: BTreeMap<_, _> = booked.into_iter().map(|(c, d, s, r)| ((c, d), (s, r))).collect();
        // A day that is in the events but not in the books counts as booked with nothing.
        let days: BTreeSet<_> = booked.keys().chain(settled.keys()).chain(reserved.keys()).cloned().collect();
        for key in days {
            audit.compared += 1;
            let (books_settled, books_reserved) = booked.get(&key).copied().unwrap_or_default();
            let replayed = |sums: &BTreeMap<_, i64>| sums.get(&key).copied().unwrap_or_default();
            for (what, books, replayed) in [
                ("settled", books_settled, replayed(&settled)),
                ("reserved", books_reserved, replayed(&reserved)),
            ] {
                if books != replayed {
                    let (campaign, day) = key.clone();
                    let (booked, replayed) = (Micros(books), Micros(replayed));
                    audit.differences.push(Difference { campaign, day, what, booked, replayed });
                }
            }
        }
        Ok(audit)
    }
}

fn by_campaign_day(rows: Vec<(String, String, i64)>) -> Result<BTreeMap<(String, String), i64>, AdsError> {
    let mut sums: BTreeMap<(String, String), i64> = BTreeMap::new();
    for (campaign, day, amount) in rows {
        let sum = sums.entry((campaign, day)).or_default();
        *sum = sum.checked_add(amount).ok_or_else(|| AdsError::Damaged {
            what: "amounts in events add up to more than an i64".into(),
        })?;
    }
    Ok(sums)
}
