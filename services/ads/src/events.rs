//! Impressions and clicks: each token counts once, and a repeat hears what the first one heard.

use jiff::Timestamp;
use serde::Serialize;

use bowerbird_auction::Micros;

use crate::engine::Engine;
use crate::store::Tx;
use crate::time::{day, millis};
use crate::token::{Kind, Payload, TokenError, destination_hash};
use crate::{AdsError, budget};

/// What became of an impression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventStatus {
    /// Counted.
    Recorded,
    /// Too late: not counted.
    Expired,
}

/// Answer to an impression.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventOutcome {
    /// Which ad was seen.
    pub ad_id: String,
    /// What became of it.
    pub status: EventStatus,
    /// It had been booked before; nothing was booked now.
    pub duplicate: bool,
}

/// What became of a click. The reader is sent on in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClickStatus {
    /// Charged.
    Billed,
    /// Counted; the day's budget could not pay it any more.
    FreeOverdelivery,
    /// Its impression was never reported: kept on record, not counted, not charged.
    Orphan,
    /// Too late: neither booked nor charged.
    Expired,
}

impl ClickStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::Billed => "billed",
            Self::FreeOverdelivery => "free_overdelivery",
            Self::Orphan => "orphan",
            Self::Expired => "expired",
        }
    }
}

/// Answer to a click.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClickOutcome {
    /// Landing page of the ad version that was shown; https.
    pub destination: String,
    /// What the first click with this token was charged; a repeat charges nothing more.
    pub charged: Micros,
    /// What became of the first click.
    pub status: ClickStatus,
    /// It had been booked before; nothing was booked now.
    pub duplicate: bool,
}

/// The ad a token speaks of.
struct Shown {
    destination: String,
    campaign: String,
    /// UTC day of the decision, whose budget pays.
    day: String,
}

impl Engine {
    pub(crate) async fn impression(&self, token: &str, now: Timestamp) -> Result<EventOutcome, AdsError> {
        let payload = self.keys.verify(token, Kind::Impression)?;
        let mut tx = self.store.begin_write().await?;
        let shown = shown(&mut tx, &payload).await?;
        let outcome = |status, duplicate| EventOutcome { ad_id: payload.ad_id.clone(), status, duplicate };
        if booked(&mut tx, &payload).await?.is_some() {
            return Ok(outcome(EventStatus::Recorded, true));
        }
        if millis(now) >= payload.expires_ms {
            count("impression", "expired");
            return Ok(outcome(EventStatus::Expired, false));
        }
        book(&mut tx, &payload, &shown, Micros::ZERO, "recorded", now).await?;
        bump(&mut tx, &payload.ad_id, 1, 0).await?;
        tx.commit().await?;
        count("impression", "recorded");
        Ok(outcome(EventStatus::Recorded, false))
    }

    pub(crate) async fn click(&self, token: &str, now: Timestamp) -> Result<ClickOutcome, AdsError> {
        let payload = self.keys.verify(token, Kind::Click)?;
        let mut tx = self.store.begin_write().await?;
        let shown = shown(&mut tx, &payload).await?;
        if let Some((status, amount)) = booked(&mut tx, &payload).await? {
            let known = [ClickStatus::Billed, ClickStatus::FreeOverdelivery, ClickStatus::Orphan];
            let status = known.into_iter().find(|known| known.as_str() == status).ok_or_else(|| {
                AdsError::Damaged { what: format!("event {} has the status {status}", payload.nonce()) }
            })?;
            let (destination, charged) = (shown.destination, Micros(amount));
            return Ok(ClickOutcome { destination, charged, status, duplicate: true });
        }
        let (status, charged) = if millis(now) >= payload.expires_ms {
            (ClickStatus::Expired, Micros::ZERO)
        } else {
            let (status, charged) = bill(&mut tx, &payload, &shown).await?;
            book(&mut tx, &payload, &shown, charged, status.as_str(), now).await?;
            tx.commit().await?;
            (status, charged)
        };
        count("click", status.as_str());
        Ok(ClickOutcome { destination: shown.destination, charged, status, duplicate: false })
    }
}

/// Charges a click that comes in time, if its impression was reported.
async fn bill(tx: &mut Tx<'_>, payload: &Payload, shown: &Shown) -> Result<(ClickStatus, Micros), AdsError> {
    let seen: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM events WHERE nonce = $1 AND kind = 'impression'")
            .bind(payload.nonce())
            .fetch_optional(&mut **tx)
            .await?;
    if seen.is_none() {
        // The token is used up, so nothing will ever be charged against the reservation.
        budget::release(tx, &payload.nonce()).await?;
        return Ok((ClickStatus::Orphan, Micros::ZERO));
    }
    bump(tx, &payload.ad_id, 0, 1).await?;
    let charged = budget::settle(tx, &payload.nonce(), &shown.campaign, &shown.day, payload.price).await?;
    let status = if charged > Micros::ZERO { ClickStatus::Billed } else { ClickStatus::FreeOverdelivery };
    Ok((status, charged))
}

/// Looks the ad version up and compares its landing page with the one that was signed.
async fn shown(tx: &mut Tx<'_>, payload: &Payload) -> Result<Shown, AdsError> {
    let row: Option<(String, String)> = sqlx::query_as(
        "SELECT v.landing_url, g.campaign FROM ad_versions v JOIN ads a ON a.id = v.ad \
         JOIN ad_groups g ON g.id = a.ad_group WHERE v.ad = $1 AND v.version = $2",
    )
    .bind(&payload.ad_id)
    .bind(i64::from(payload.ad_version))
    .fetch_optional(&mut **tx)
    .await?;
    let decided = Timestamp::from_millisecond(payload.decided_ms).map_err(|_| TokenError::Malformed)?;
    match row {
        Some((destination, campaign)) if destination_hash(&destination) == payload.destination => {
            Ok(Shown { destination, campaign, day: day(decided) })
        }
        _ => Err(TokenError::UnknownAd.into()),
    }
}

/// Status and amount of the event, if it is in the book.
async fn booked(tx: &mut Tx<'_>, payload: &Payload) -> Result<Option<(String, i64)>, AdsError> {
    Ok(sqlx::query_as("SELECT status, amount_micros FROM events WHERE nonce = $1 AND kind = $2")
        .bind(payload.nonce())
        .bind(payload.kind.as_str())
        .fetch_optional(&mut **tx)
        .await?)
}

async fn book(
    tx: &mut Tx<'_>,
    payload: &Payload,
    shown: &Shown,
    amount: Micros,
    status: &str,
    now: Timestamp,
) -> Result<(), AdsError> {
    sqlx::query(
        "INSERT INTO events (nonce, kind, auction_id, ad, campaign, day, amount_micros, at, status) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(payload.nonce())
    .bind(payload.kind.as_str())
    .bind(payload.auction_id.to_string())
    .bind(&payload.ad_id)
    .bind(&shown.campaign)
    .bind(&shown.day)
    .bind(amount.0)
    .bind(millis(now))
    .bind(status)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn bump(tx: &mut Tx<'_>, ad: &str, impressions: i64, clicks: i64) -> Result<(), AdsError> {
    sqlx::query(
        "INSERT INTO ad_counts (ad, impressions, clicks) VALUES ($1, $2, $3) ON CONFLICT (ad) DO UPDATE SET \
         impressions = ad_counts.impressions + excluded.impressions, clicks = ad_counts.clicks + excluded.clicks",
    )
    .bind(ad)
    .bind(impressions)
    .bind(clicks)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn count(kind: &'static str, status: &'static str) {
    metrics::counter!("bowerbird_ads_events_total", "kind" => kind, "status" => status).increment(1);
}
