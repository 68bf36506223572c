//! What happened so far: by campaign, search term, slot, ad, hour, and reason.

use std::collections::BTreeMap;

use bowerbird_auction::Micros;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use sqlx::AnyConnection;

use crate::AdsError;
use crate::engine::Engine;
use crate::time::{day, millis};

/// Rows of one report.
const MAX_ROWS: i64 = 1000;
/// Hours of one report: of the 32 days that are asked for at most, and of the 31 that a link may live after them.
const MAX_HOURS: i64 = 64 * 24;
const HOUR_MS: i64 = 3_600_000;

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
    /// Held today for events that may still come: their expected cost.
    pub reserved: Micros,
    /// Charged since the beginning.
    pub spent_total: Micros,
    /// Valid impressions since the beginning.
    pub impressions: i64,
    /// Valid clicks since the beginning, free ones included.
    pub clicks: i64,
}

/// What a report has a row for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportBy {
    /// Each campaign and day.
    Campaign,
    /// Each search as it was typed, with the keyword that matched it.
    SearchTerm,
    /// Each slot.
    Slot,
    /// Each ad.
    Ad,
    /// Each hour, by when it happened.
    Hour,
}

impl ReportBy {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Campaign, Self::SearchTerm, Self::Slot, Self::Ad, Self::Hour];

    /// `campaign`, `search_term`, `slot`, `ad` or `hour`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Campaign => "campaign",
            Self::SearchTerm => "search_term",
            Self::Slot => "slot",
            Self::Ad => "ad",
            Self::Hour => "hour",
        }
    }

    /// The report of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }

    /// Key and detail, where a row tells of slots alike; `None` where it tells of events at one time.
    fn columns(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Campaign => Some(("s.campaign", "s.day")),
            Self::SearchTerm => Some(("s.query", "s.keyword")),
            Self::Slot => Some(("CAST(s.slot AS TEXT)", "''")),
            Self::Ad => Some(("s.ad", "''")),
            Self::Hour => None,
        }
    }
}

/// Figures of one row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReportRow {
    /// Campaign, search term, slot, ad, or hour such as `2026-01-31T09` (UTC).
    pub key: String,
    /// Day of a campaign, keyword of a search term; else empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Slots given out.
    pub served: i64,
    /// Valid impressions.
    pub impressions: i64,
    /// Valid clicks.
    pub clicks: i64,
    /// Charged.
    pub spent: Micros,
    /// Clicks predicted for the valid impressions; beside `clicks` it says how far the estimate can be trusted.
    pub predicted_clicks: f64,
    /// Conversions put down to it.
    pub conversions: i64,
}

/// Events by kind, status and reason: gross and net at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrafficRow {
    /// `impression` or `click`.
    pub kind: String,
    /// What became of them.
    pub status: String,
    /// Why they are not valid; empty when they are.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// How many.
    pub events: i64,
    /// Charged for them.
    pub charged: Micros,
    /// Not charged of their prices.
    pub not_charged: Micros,
}

type CampaignRow = (String, String, String, String, String, i64, i64, i64, i64, i64, i64);
type Row = (String, String, i64, i64, i64, i64, f64, i64);
type HourRow = (i64, i64, i64, i64, i64, f64, i64);

impl Engine {
    pub(crate) async fn campaigns(&self, now: Timestamp) -> Result<Vec<CampaignReport>, AdsError> {
        let rows: Vec<CampaignRow> = sqlx::query_as(
            "SELECT c.id, c.name, a.name, c.status, c.currency, c.daily_budget_micros, \
             COALESCE((SELECT s.settled_micros FROM scopes s WHERE s.scope = 'day/' || $1 || '/' || c.id), 0), \
             CAST(COALESCE((SELECT SUM(h.held_micros) FROM holds h \
                WHERE h.campaign = c.id AND h.day = $2 AND h.expires_at > $3), 0) AS BIGINT), \
             COALESCE((SELECT s.settled_micros FROM scopes s WHERE s.scope = 'life/' || c.id), 0), \
             (SELECT COUNT(*) FROM events e WHERE e.campaign = c.id AND e.kind = 'impression' \
                AND e.status <> 'invalid'), \
             (SELECT COUNT(*) FROM events e WHERE e.campaign = c.id AND e.kind = 'click' \
                AND e.status NOT IN ('orphan', 'invalid')) \
             FROM campaigns c JOIN advertisers a ON a.id = c.advertiser \
             WHERE CAST(c.removed AS INTEGER) = 0 ORDER BY c.id",
        )
        .bind(day(now))
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

    /// The report by `by` over the UTC days `from` to `to`, both inclusive, of one campaign or all; most spent first, at
    /// most a thousand rows. Hours come in their order, those without events left out.
    pub(crate) async fn report(
        &self,
        by: ReportBy,
        campaign: Option<&str>,
        from: &str,
        to: &str,
    ) -> Result<Vec<ReportRow>, AdsError> {
        let Some((key, detail)) = by.columns() else { return self.hours(campaign, from, to).await };
        let statement = format!(
            "SELECT {key}, {detail}, COUNT(*), \
             CAST(COALESCE(SUM(CASE WHEN i.status <> 'invalid' THEN 1 ELSE 0 END), 0) AS BIGINT), \
             CAST(COALESCE(SUM(CASE WHEN k.status NOT IN ('orphan', 'invalid') THEN 1 ELSE 0 END), 0) AS BIGINT), \
             CAST(COALESCE(SUM(COALESCE(i.amount_micros, 0) + COALESCE(k.amount_micros, 0)), 0) AS BIGINT), \
             CAST(COALESCE(SUM(CASE WHEN i.status <> 'invalid' THEN s.probability ELSE 0.0 END), 0.0) AS DOUBLE PRECISION), \
             CAST(COALESCE(SUM((SELECT COUNT(*) FROM conversions v WHERE v.nonce = s.nonce)), 0) AS BIGINT) \
             FROM served s LEFT JOIN events i ON i.nonce = s.nonce AND i.kind = 'impression' \
             LEFT JOIN events k ON k.nonce = s.nonce AND k.kind = 'click' \
             WHERE s.day >= $1 AND s.day <= $2 AND ($3 = '' OR s.campaign = $4) \
             GROUP BY 1, 2 ORDER BY 6 DESC, 3 DESC, 1, 2 LIMIT {MAX_ROWS}"
        );
        let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(statement))
            .bind(from.to_owned())
            .bind(to.to_owned())
            .bind(campaign.unwrap_or_default().to_owned())
            .bind(campaign.unwrap_or_default().to_owned())
            .fetch_all(&self.store.reader)
            .await?;
        let row = |(key, detail, served, impressions, clicks, spent, predicted_clicks, conversions): Row| {
            ReportRow {
                key,
                detail,
                served,
                impressions,
                clicks,
                spent: Micros(spent),
                predicted_clicks,
                conversions,
            }
        };
        Ok(rows.into_iter().map(row).collect())
    }

    /// What happened to the slots of the UTC days `from` to `to`, by the hour in which it did. A day is of whose budget
    /// paid, as in every report: what is settled after midnight stands in its own hour, which is past `to`.
    async fn hours(&self, campaign: Option<&str>, from: &str, to: &str) -> Result<Vec<ReportRow>, AdsError> {
        let slots = "s.day >= $1 AND s.day <= $2 AND ($3 = '' OR s.campaign = $3)";
        let statement = format!(
            "SELECT h.hour, CAST(SUM(h.served) AS BIGINT), CAST(SUM(h.seen) AS BIGINT), \
             CAST(SUM(h.clicked) AS BIGINT), CAST(SUM(h.spent) AS BIGINT), \
             CAST(SUM(h.predicted) AS DOUBLE PRECISION), CAST(SUM(h.converted) AS BIGINT) FROM (\
             SELECT s.at / {HOUR_MS} AS hour, 1 AS served, 0 AS seen, 0 AS clicked, 0 AS spent, 0.0 AS predicted, \
             0 AS converted FROM served s WHERE {slots} \
             UNION ALL SELECT e.at / {HOUR_MS}, 0, \
             CASE WHEN e.kind = 'impression' AND e.status <> 'invalid' THEN 1 ELSE 0 END, \
             CASE WHEN e.kind = 'click' AND e.status NOT IN ('orphan', 'invalid') THEN 1 ELSE 0 END, \
             e.amount_micros, \
             CASE WHEN e.kind = 'impression' AND e.status <> 'invalid' THEN s.probability ELSE 0.0 END, 0 \
             FROM served s JOIN events e ON e.nonce = s.nonce WHERE {slots} \
             UNION ALL SELECT v.at / {HOUR_MS}, 0, 0, 0, 0, 0.0, 1 \
             FROM served s JOIN conversions v ON v.nonce = s.nonce WHERE {slots}) h \
             GROUP BY h.hour ORDER BY h.hour LIMIT {MAX_HOURS}"
        );
        let rows: Vec<HourRow> = sqlx::query_as(sqlx::AssertSqlSafe(statement))
            .bind(from.to_owned())
            .bind(to.to_owned())
            .bind(campaign.unwrap_or_default().to_owned())
            .fetch_all(&self.store.reader)
            .await?;
        let row = |(hour, served, impressions, clicks, spent, predicted_clicks, conversions): HourRow| {
            Ok(ReportRow {
                key: hour_key(hour)?,
                detail: String::new(),
                served,
                impressions,
                clicks,
                spent: Micros(spent),
                predicted_clicks,
                conversions,
            })
        };
        rows.into_iter().map(row).collect()
    }

    /// Events of the UTC days `from` to `to` by what became of them.
    pub(crate) async fn traffic_report(&self, from: &str, to: &str) -> Result<Vec<TrafficRow>, AdsError> {
        let rows: Vec<(String, String, String, i64, i64, i64)> = sqlx::query_as(
            "SELECT kind, status, reason, COUNT(*), CAST(COALESCE(SUM(amount_micros), 0) AS BIGINT), \
             CAST(COALESCE(SUM(price_micros - amount_micros), 0) AS BIGINT) FROM events \
             WHERE day >= $1 AND day <= $2 GROUP BY kind, status, reason ORDER BY kind, status, reason",
        )
        .bind(from.to_owned())
        .bind(to.to_owned())
        .fetch_all(&self.store.reader)
        .await?;
        let row = |(kind, status, reason, events, charged, not_charged)| TrafficRow {
            kind,
            status,
            reason,
            events,
            charged: Micros(charged),
            not_charged: Micros(not_charged),
        };
        Ok(rows.into_iter().map(row).collect())
    }

    /// Why decisions of the UTC days `from` to `to` ended without an ad, most frequent first.
    pub(crate) async fn no_fill(&self, from: &str, to: &str) -> Result<Vec<(String, i64)>, AdsError> {
        Ok(sqlx::query_as(
            "SELECT reason, CAST(SUM(decisions) AS BIGINT) FROM no_fill WHERE day >= $1 AND day <= $2 \
             GROUP BY reason ORDER BY 2 DESC, 1",
        )
        .bind(from.to_owned())
        .bind(to.to_owned())
        .fetch_all(&self.store.reader)
        .await?)
    }
}

/// `YYYY-MM-DDTHH` in UTC of an hour counted from 1970.
fn hour_key(hour: i64) -> Result<String, AdsError> {
    let begins = Timestamp::from_second(hour.saturating_mul(HOUR_MS / 1000));
    let begins =
        begins.map_err(|_| AdsError::Damaged { what: format!("an event of hour {hour} after 1970") })?;
    Ok(begins.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H").to_string())
}

/// Adds decisions without an ad, counted by day and reason.
pub(crate) async fn add_no_fill(
    db: &mut AnyConnection,
    counts: &BTreeMap<(String, String), i64>,
) -> Result<(), AdsError> {
    for ((day, reason), count) in counts {
        sqlx::query(
            "INSERT INTO no_fill (day, reason, decisions) VALUES ($1, $2, $3) \
             ON CONFLICT (day, reason) DO UPDATE SET decisions = no_fill.decisions + excluded.decisions",
        )
        .bind(day.clone())
        .bind(reason.clone())
        .bind(*count)
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}
