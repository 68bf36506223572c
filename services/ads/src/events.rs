//! Impressions and clicks: each token counts once, and a repeat hears what the first one heard.

use bowerbird_auction::Micros;
use jiff::Timestamp;
use serde::Serialize;
use sqlx::AnyConnection;
use uuid::Uuid;

use crate::AdsError;
use crate::engine::Engine;
use crate::learning;
use crate::money::{self, Charge};
use crate::time::{day, millis};
use crate::token::{Billed, Kind, Payload, TokenError, destination_hash};
use crate::traffic::{EventContext, Invalid};
use crate::writer::Work;

/// What became of an impression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventStatus {
    /// Counted.
    Recorded,
    /// Counted and charged.
    Billed,
    /// Counted; no budget could pay it any more.
    FreeOverdelivery,
    /// No person saw it: kept with its reason, not counted, not charged.
    Invalid,
    /// A browser fetched it in advance: nothing is kept, the real one may still come.
    Prefetch,
    /// Too late: not counted.
    Expired,
}

impl EventStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::Billed => "billed",
            Self::FreeOverdelivery => "free_overdelivery",
            Self::Invalid => "invalid",
            Self::Prefetch => "prefetch",
            Self::Expired => "expired",
        }
    }
}

/// Answer to an impression.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventOutcome {
    /// Which ad was seen.
    pub ad_id: String,
    /// What became of it.
    pub status: EventStatus,
    /// Why it is not valid, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Invalid>,
    /// It had been booked before; nothing was booked now.
    pub duplicate: bool,
}

/// What became of a click. The reader is sent on in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClickStatus {
    /// Charged.
    Billed,
    /// Counted; its impression was paid for.
    Recorded,
    /// Counted; no budget could pay it any more.
    FreeOverdelivery,
    /// Its impression was never reported: kept on record, not counted, not charged.
    Orphan,
    /// No person made it: kept with its reason, not counted, not charged.
    Invalid,
    /// A browser fetched the page in advance: nothing is kept, the real click may still come.
    Prefetch,
    /// Too late: neither booked nor charged.
    Expired,
}

impl ClickStatus {
    const KEPT: [Self; 5] =
        [Self::Billed, Self::Recorded, Self::FreeOverdelivery, Self::Orphan, Self::Invalid];

    fn as_str(self) -> &'static str {
        match self {
            Self::Billed => "billed",
            Self::Recorded => "recorded",
            Self::FreeOverdelivery => "free_overdelivery",
            Self::Orphan => "orphan",
            Self::Invalid => "invalid",
            Self::Prefetch => "prefetch",
            Self::Expired => "expired",
        }
    }

    /// Whether it is in the book of events, so that a repeat hears the same.
    pub fn is_kept(self) -> bool {
        Self::KEPT.contains(&self)
    }

    /// Whether it counts as a click.
    pub(crate) fn counts(self) -> bool {
        matches!(self, Self::Billed | Self::Recorded | Self::FreeOverdelivery)
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
    advertiser: String,
    /// UTC day of the decision, whose budget pays.
    day: String,
}

/// What is written into the book of events.
struct Entry {
    status: &'static str,
    reason: Option<Invalid>,
    amount: Micros,
    price: Micros,
}

impl Engine {
    pub(crate) async fn impression(
        &self,
        token: &str,
        context: &EventContext,
        now: Timestamp,
    ) -> Result<EventOutcome, AdsError> {
        let payload = self.keys().verify(token, Kind::Impression)?;
        let ad_id = payload.ad_id.clone();
        if context.prefetch {
            count("impression", "prefetch");
            return Ok(EventOutcome { ad_id, status: EventStatus::Prefetch, reason: None, duplicate: false });
        }
        let (auction_id, slot) = (payload.auction_id, payload.slot);
        let invalid = self.traffic.impression(context, now);
        let permille = self.config.publisher_permille;
        let (status, reason, duplicate) = self
            .writer
            .run(move |work| Box::pin(async move { see(work, &payload, invalid, permille, now).await }))
            .await?;
        if !duplicate {
            count("impression", status.as_str());
            self.seen(auction_id, slot, status, now);
        }
        Ok(EventOutcome { ad_id, status, reason, duplicate })
    }

    /// Makes the place under frequency caps that the slot held a counted one, or gives it back.
    fn seen(&self, auction_id: Uuid, slot: u8, status: EventStatus, now: Timestamp) {
        if matches!(status, EventStatus::Expired | EventStatus::Prefetch) {
            return;
        }
        let Some(place) = self.holds.take(auction_id.as_u128(), slot) else { return };
        if status == EventStatus::Invalid {
            self.caps.release(&place);
        } else {
            self.caps.confirm(&place, now.as_second());
        }
    }

    pub(crate) async fn click(
        &self,
        token: &str,
        context: &EventContext,
        now: Timestamp,
    ) -> Result<ClickOutcome, AdsError> {
        let payload = self.keys().verify(token, Kind::Click)?;
        if context.prefetch {
            let mut reader = self.store.reader.acquire().await?;
            let shown = shown(&mut reader, &payload).await?;
            count("click", "prefetch");
            let (status, charged) = (ClickStatus::Prefetch, Micros::ZERO);
            return Ok(ClickOutcome { destination: shown.destination, charged, status, duplicate: false });
        }
        let traffic = self.traffic.clone();
        let permille = self.config.publisher_permille;
        let context = context.clone();
        let judge = move |seen_ms| traffic.click(&context, seen_ms, now);
        let outcome = self
            .writer
            .run(move |work| Box::pin(async move { follow(work, &payload, &judge, permille, now).await }))
            .await?;
        if !outcome.duplicate {
            count("click", outcome.status.as_str());
        }
        Ok(outcome)
    }
}

async fn see(
    work: &mut Work,
    payload: &Payload,
    invalid: Option<Invalid>,
    permille: u16,
    now: Timestamp,
) -> Result<(EventStatus, Option<Invalid>, bool), AdsError> {
    let shown = shown(work.db(), payload).await?;
    if let Some((status, reason, _, _)) = booked(work.db(), payload, Kind::Impression).await? {
        let known =
            [EventStatus::Recorded, EventStatus::Billed, EventStatus::FreeOverdelivery, EventStatus::Invalid];
        let status = known.into_iter().find(|known| known.as_str() == status);
        let status = status.ok_or_else(|| AdsError::Damaged {
            what: format!("event {} has an unknown status", payload.nonce()),
        })?;
        return Ok((status, reason, true));
    }
    if millis(now) >= payload.expires_ms {
        return Ok((EventStatus::Expired, None, false));
    }
    let billed = payload.billed == Billed::Impression;
    let (status, amount) = match invalid {
        Some(_) => {
            // The token is used up, so nothing will ever be charged against the hold.
            money::release(work, &payload.nonce()).await?;
            (EventStatus::Invalid, Micros::ZERO)
        }
        None if billed => {
            let charged = settle(work, payload, &shown, "impression", permille, now).await?;
            let free = charged == Micros::ZERO;
            (if free { EventStatus::FreeOverdelivery } else { EventStatus::Billed }, charged)
        }
        None => (EventStatus::Recorded, Micros::ZERO),
    };
    let price = if billed { payload.price } else { Micros::ZERO };
    let entry = Entry { status: status.as_str(), reason: invalid, amount, price };
    book(work.db(), payload, &shown, &entry, now).await?;
    if invalid.is_none() {
        bump(work.db(), &payload.ad_id, 1, 0).await?;
    }
    Ok((status, invalid, false))
}

async fn follow(
    work: &mut Work,
    payload: &Payload,
    judge: &(dyn Fn(i64) -> Option<Invalid> + Send + Sync),
    permille: u16,
    now: Timestamp,
) -> Result<ClickOutcome, AdsError> {
    let shown = shown(work.db(), payload).await?;
    if let Some((status, _, charged, _)) = booked(work.db(), payload, Kind::Click).await? {
        let known = ClickStatus::KEPT.into_iter().find(|known| known.as_str() == status);
        let status = known.ok_or_else(|| AdsError::Damaged {
            what: format!("event {} has the status {status}", payload.nonce()),
        })?;
        return Ok(ClickOutcome { destination: shown.destination, charged, status, duplicate: true });
    }
    let outcome =
        |destination, status, charged| ClickOutcome { destination, charged, status, duplicate: false };
    if millis(now) >= payload.expires_ms {
        return Ok(outcome(shown.destination, ClickStatus::Expired, Micros::ZERO));
    }
    let seen = booked(work.db(), payload, Kind::Impression).await?;
    let invalid = seen.as_ref().and_then(|(status, _, _, at)| {
        if status == "invalid" { Some(Invalid::InvalidImpression) } else { judge(*at) }
    });
    let (status, charged) = match (&seen, invalid) {
        (None, _) => (ClickStatus::Orphan, Micros::ZERO),
        (Some(_), Some(_)) => (ClickStatus::Invalid, Micros::ZERO),
        (Some(_), None) if payload.billed == Billed::Impression => (ClickStatus::Recorded, Micros::ZERO),
        (Some(_), None) => {
            let charged = settle(work, payload, &shown, "click", permille, now).await?;
            let free = charged == Micros::ZERO;
            (if free { ClickStatus::FreeOverdelivery } else { ClickStatus::Billed }, charged)
        }
    };
    let counts = status.counts();
    if !counts && payload.billed == Billed::Click {
        money::release(work, &payload.nonce()).await?;
    }
    let price = if counts && payload.billed == Billed::Click { payload.price } else { Micros::ZERO };
    let entry = Entry { status: status.as_str(), reason: invalid, amount: charged, price };
    book(work.db(), payload, &shown, &entry, now).await?;
    if counts {
        bump(work.db(), &payload.ad_id, 0, 1).await?;
        learning::clicked(work.db(), &payload.nonce()).await?;
    }
    Ok(outcome(shown.destination, status, charged))
}

async fn settle(
    work: &mut Work,
    payload: &Payload,
    shown: &Shown,
    kind: &'static str,
    publisher_permille: u16,
    now: Timestamp,
) -> Result<Micros, AdsError> {
    let charge = Charge {
        nonce: &payload.nonce(),
        kind,
        campaign: &shown.campaign,
        advertiser: &shown.advertiser,
        day: &shown.day,
        price: payload.price,
        publisher_permille,
        now_ms: millis(now),
    };
    money::settle(work, &charge).await
}

/// Looks the ad version up and compares its landing page with the one that was signed.
async fn shown(db: &mut AnyConnection, payload: &Payload) -> Result<Shown, AdsError> {
    let row: Option<(String, String, String)> = sqlx::query_as(
        "SELECT v.landing_url, g.campaign, c.advertiser FROM ad_versions v JOIN ads a ON a.id = v.ad \
         JOIN ad_groups g ON g.id = a.ad_group JOIN campaigns c ON c.id = g.campaign \
         WHERE v.ad = $1 AND v.version = $2",
    )
    .bind(payload.ad_id.clone())
    .bind(i64::from(payload.ad_version))
    .fetch_optional(db)
    .await?;
    let decided = Timestamp::from_millisecond(payload.decided_ms).map_err(|_| TokenError::Malformed)?;
    match row {
        Some((destination, campaign, advertiser))
            if destination_hash(&destination) == payload.destination =>
        {
            Ok(Shown { destination, campaign, advertiser, day: day(decided) })
        }
        _ => Err(TokenError::UnknownAd.into()),
    }
}

/// Status, reason, amount and time of the event of that kind, if it is in the book.
async fn booked(
    db: &mut AnyConnection,
    payload: &Payload,
    kind: Kind,
) -> Result<Option<(String, Option<Invalid>, Micros, i64)>, AdsError> {
    let row: Option<(String, String, i64, i64)> =
        sqlx::query_as("SELECT status, reason, amount_micros, at FROM events WHERE nonce = $1 AND kind = $2")
            .bind(payload.nonce())
            .bind(kind.as_str())
            .fetch_optional(db)
            .await?;
    Ok(row.map(|(status, reason, amount, at)| (status, Invalid::parse(&reason), Micros(amount), at)))
}

async fn book(
    db: &mut AnyConnection,
    payload: &Payload,
    shown: &Shown,
    entry: &Entry,
    now: Timestamp,
) -> Result<(), AdsError> {
    sqlx::query(
        "INSERT INTO events (nonce, kind, auction_id, ad, campaign, day, amount_micros, at, status, price_micros, reason) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(payload.nonce())
    .bind(payload.kind.as_str())
    .bind(payload.auction_id.to_string())
    .bind(payload.ad_id.clone())
    .bind(shown.campaign.clone())
    .bind(shown.day.clone())
    .bind(entry.amount.0)
    .bind(millis(now))
    .bind(entry.status)
    .bind(entry.price.0)
    .bind(entry.reason.map_or("", Invalid::as_str))
    .execute(db)
    .await?;
    Ok(())
}

async fn bump(db: &mut AnyConnection, ad: &str, impressions: i64, clicks: i64) -> Result<(), AdsError> {
    sqlx::query(
        "INSERT INTO ad_counts (ad, impressions, clicks) VALUES ($1, $2, $3) ON CONFLICT (ad) DO UPDATE SET \
         impressions = ad_counts.impressions + excluded.impressions, clicks = ad_counts.clicks + excluded.clicks",
    )
    .bind(ad.to_owned())
    .bind(impressions)
    .bind(clicks)
    .execute(db)
    .await?;
    Ok(())
}

fn count(kind: &'static str, status: &'static str) {
    metrics::counter!("bowerbird_ads_events_total", "kind" => kind, "status" => status).increment(1);
}
