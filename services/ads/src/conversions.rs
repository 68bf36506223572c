//! What happened after the click, told by the advertiser's server and signed with the advertiser's key.
//!
//! A conversion is put down to the last click within 30 days, else the last impression within a day (last touch); which
//! of them is meant is said by `click_id`, which the landing page was given, or by the hash of a reader. Raw rows are
//! kept, so that another rule can be tried later. The same order twice counts once.

use hmac::{Hmac, Mac};
use jiff::Timestamp;
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use sqlx::AnyConnection;

use crate::AdsError;
use crate::engine::Engine;
use crate::time::millis;

const DAY_MS: i64 = 86_400_000;
/// A click explains what happens in so many days.
const CLICK_DAYS: i64 = 30;
/// An impression explains what happens in so many days.
const VIEW_DAYS: i64 = 1;
/// Longest `order_id` and `click_id`, in bytes.
const MAX_ID: usize = 200;
/// Largest value of one order: a million units.
const MAX_VALUE_MICROS: i64 = 1_000_000_000_000;

/// What an advertiser posts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Postback {
    /// Id of the advertiser.
    pub advertiser: String,
    /// The advertiser's own number of the order: a repeat changes nothing.
    pub order_id: String,
    /// What the landing page was called with.
    #[serde(default)]
    pub click_id: Option<String>,
    /// What it was worth, in micros of the engine's currency.
    #[serde(default)]
    pub value_micros: i64,
}

/// What became of a postback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConversionOutcome {
    /// `click`, `view` or `none`.
    pub attribution: String,
    /// Campaign it is put down to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign: Option<String>,
    /// The order was known; nothing changed.
    pub duplicate: bool,
}

/// Why a postback is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostbackError {
    /// The signature does not fit, or the advertiser has no key.
    #[error(
        "signature does not verify: send the hexadecimal HMAC-SHA256 of the body with the advertiser's postback key"
    )]
    Signature,
    /// The body is not one.
    #[error("body is not a postback: {0}")]
    Body(String),
    /// A value out of range.
    #[error("{field} is {found}, expected {expected}")]
    Value {
        /// Name of the field.
        field: &'static str,
        /// What was found, shortened.
        found: String,
        /// What is accepted.
        expected: String,
    },
}

impl Postback {
    fn checked(self) -> Result<Self, PostbackError> {
        let short = |text: &str| text.chars().take(60).collect::<String>();
        for (field, id) in [("order_id", Some(&self.order_id)), ("click_id", self.click_id.as_ref())] {
            if let Some(id) = id.filter(|id| id.is_empty() || id.len() > MAX_ID) {
                let expected = format!("1 to {MAX_ID} bytes");
                return Err(PostbackError::Value { field, found: short(id), expected });
            }
        }
        if !(0..=MAX_VALUE_MICROS).contains(&self.value_micros) {
            let (found, expected) = (self.value_micros.to_string(), format!("0 to {MAX_VALUE_MICROS}"));
            return Err(PostbackError::Value { field: "value_micros", found, expected });
        }
        Ok(self)
    }
}

impl Engine {
    /// Makes a new key for the postbacks of `advertiser` and returns it in hexadecimal, this once; none when there is no
    /// such advertiser. The one before is void.
    pub(crate) async fn new_postback_key(&self, advertiser: &str) -> Result<Option<String>, AdsError> {
        let mut key = [0; 32];
        OsRng.try_fill_bytes(&mut key).map_err(|error| AdsError::Randomness(error.to_string()))?;
        let (key, id) = (hex::encode(key), advertiser.to_owned());
        let stored = key.clone();
        let found = self.writer.run(move |work| {
            Box::pin(async move {
                let updated = sqlx::query("UPDATE advertisers SET postback_key = $1 WHERE id = $2")
                    .bind(stored)
                    .bind(id)
                    .execute(work.db())
                    .await?;
                Ok(updated.rows_affected() == 1)
            })
        });
        Ok(found.await?.then_some(key))
    }

    /// Takes a postback with its `signature` over the exact bytes of `body`.
    pub(crate) async fn convert(
        &self,
        body: &[u8],
        signature: &str,
        now: Timestamp,
    ) -> Result<ConversionOutcome, AdsError> {
        let postback: Postback =
            serde_json::from_slice(body).map_err(|error| PostbackError::Body(error.to_string()))?;
        let key: Option<Option<String>> =
            sqlx::query_scalar("SELECT postback_key FROM advertisers WHERE id = $1")
                .bind(postback.advertiser.clone())
                .fetch_optional(&self.store.reader)
                .await?;
        let key = key.flatten().and_then(|key| hex::decode(key).ok()).ok_or(PostbackError::Signature)?;
        let given = hex::decode(signature).map_err(|_| PostbackError::Signature)?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes keys of any length");
        mac.update(body);
        mac.verify_slice(&given).map_err(|_| PostbackError::Signature)?;
        let postback = postback.checked()?;
        self.writer.run(move |work| Box::pin(async move { record(work.db(), &postback, now).await })).await
    }
}

async fn record(
    db: &mut AnyConnection,
    postback: &Postback,
    now: Timestamp,
) -> Result<ConversionOutcome, AdsError> {
    let known: Option<(String, String)> =
        sqlx::query_as("SELECT attribution, nonce FROM conversions WHERE advertiser = $1 AND order_id = $2")
            .bind(postback.advertiser.clone())
            .bind(postback.order_id.clone())
            .fetch_optional(&mut *db)
            .await?;
    if let Some((attribution, nonce)) = known {
        let campaign = campaign_of(db, &nonce).await?;
        return Ok(ConversionOutcome { attribution, campaign, duplicate: true });
    }
    let (attribution, nonce) = match &postback.click_id {
        Some(click_id) => touched(db, &postback.advertiser, click_id, millis(now)).await?,
        None => ("none", String::new()),
    };
    sqlx::query(
        "INSERT INTO conversions (advertiser, order_id, at, value_micros, nonce, attribution) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(postback.advertiser.clone())
    .bind(postback.order_id.clone())
    .bind(millis(now))
    .bind(postback.value_micros)
    .bind(nonce.clone())
    .bind(attribution)
    .execute(&mut *db)
    .await?;
    let campaign = campaign_of(db, &nonce).await?;
    Ok(ConversionOutcome { attribution: attribution.into(), campaign, duplicate: false })
}

/// The last touch of the reader of `click_id` with this advertiser: a click, else an impression. A reader who is not
/// known has only that one slot.
async fn touched(
    db: &mut AnyConnection,
    advertiser: &str,
    click_id: &str,
    now_ms: i64,
) -> Result<(&'static str, String), AdsError> {
    for (kind, name, days) in [("click", "click", CLICK_DAYS), ("impression", "view", VIEW_DAYS)] {
        let found: Option<String> = sqlx::query_scalar(
            "SELECT e.nonce FROM served asked \
             JOIN served s ON s.nonce = asked.nonce OR (asked.person <> '' AND s.person = asked.person) \
             JOIN events e ON e.nonce = s.nonce AND e.kind = $1 AND e.status NOT IN ('invalid', 'orphan') \
             WHERE asked.nonce = $2 AND s.advertiser = $3 AND asked.advertiser = $3 AND e.at >= $4 \
             ORDER BY e.at DESC, e.nonce LIMIT 1",
        )
        .bind(kind)
        .bind(click_id.to_owned())
        .bind(advertiser.to_owned())
        .bind(now_ms - days * DAY_MS)
        .fetch_optional(&mut *db)
        .await?;
        if let Some(nonce) = found {
            return Ok((name, nonce));
        }
    }
    Ok(("none", String::new()))
}

async fn campaign_of(db: &mut AnyConnection, nonce: &str) -> Result<Option<String>, AdsError> {
    Ok(sqlx::query_scalar("SELECT campaign FROM served WHERE nonce = $1")
        .bind(nonce.to_owned())
        .fetch_optional(db)
        .await?)
}
