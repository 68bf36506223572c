//! Texts in the database: what was written, from which fact, by what, and whether a reader saw it.

use hmac::{Hmac, Mac};
use serde::Serialize;
use sha2::Sha256;
use sqlx::AnyConnection;
use uuid::Uuid;

use super::{Draft, Key, Wording};
use crate::AdsError;
use crate::decision_log::LoggedAward;
use crate::token::nonce;

/// Bytes of an id.
const ID_BYTES: usize = 16;
/// Rows that one call of [`forget_queries`] changes.
const FORGET_AT_ONCE: i64 = 1000;

/// A text written by a model, as it stood in a slot.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShownWording {
    /// Slot of the block.
    pub slot: usize,
    /// Id of the ad.
    pub ad: String,
    /// Version of the ad.
    pub version: i64,
    /// Id of the text.
    pub id: String,
    /// Always `generated`.
    pub origin: &'static str,
    /// What a reader saw.
    pub text: String,
    /// Place of the fact among those of the ad, from 0.
    pub fact_index: i64,
    /// The part of the fact that supports the text.
    pub fact: String,
    /// Probability that it does.
    pub probability: f64,
    /// What wrote it.
    pub model: String,
    /// Version of what the model was asked with.
    pub prompt: String,
    /// When it was written, in Unix milliseconds.
    pub written_ms: i64,
}

/// Value of [`ShownWording::origin`].
pub(crate) const GENERATED: &str = "generated";

/// The id of a text: who has the database but not the secret cannot tell a query from it.
pub(super) fn id(secret: &[u8; 32], key: &Key, text: &str) -> Result<String, AdsError> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret)
        .map_err(|error| AdsError::Damaged { what: format!("the secret of the database: {error}") })?;
    for part in [&key.ad, &*key.version.to_string(), &*key.query, text] {
        mac.update(&(part.len() as u64).to_le_bytes());
        mac.update(part.as_bytes());
    }
    Ok(hex::encode(&mac.finalize().into_bytes()[..ID_BYTES]))
}

type Row = (String, String, i64, String, f64);

/// The newest text for `key` that `model` wrote when asked with `prompt`.
pub(super) async fn find(
    db: &mut AnyConnection,
    key: &Key,
    (model, prompt): (&str, &str),
    facts: &[String],
) -> Result<Option<Wording>, AdsError> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT id, text, fact, quote, probability FROM ad_wordings \
         WHERE ad = $1 AND version = $2 AND query = $3 AND model = $4 AND prompt = $5 ORDER BY at DESC, id LIMIT 1",
    )
    .bind(key.ad.clone())
    .bind(i64::from(key.version))
    .bind(key.query.to_string())
    .bind(model.to_owned())
    .bind(prompt.to_owned())
    .fetch_optional(db)
    .await?;
    Ok(row.and_then(|(id, text, fact, quote, probability)| {
        let at = usize::try_from(fact).ok()?;
        let draft = Draft { text, fact: at, quote, probability };
        let (model, prompt) = (model.to_owned(), prompt.to_owned());
        Some(Wording { id, draft, fact: facts.get(at)?.clone(), model, prompt })
    }))
}

/// Writes a text down; the same again is as new. `query` is empty when queries are not kept.
pub(super) async fn insert(
    db: &mut AnyConnection,
    (ad, version): (&str, u32),
    query: &str,
    wording: &Wording,
    at_ms: i64,
) -> Result<(), AdsError> {
    sqlx::query(
        "INSERT INTO ad_wordings (id, ad, version, query, text, fact, quote, probability, model, prompt, at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
         ON CONFLICT (id) DO UPDATE SET query = excluded.query, at = excluded.at",
    )
    .bind(wording.id.clone())
    .bind(ad.to_owned())
    .bind(i64::from(version))
    .bind(query.to_owned())
    .bind(wording.draft.text.clone())
    .bind(i64::try_from(wording.draft.fact).unwrap_or(i64::MAX))
    .bind(wording.draft.quote.clone())
    .bind(wording.draft.probability)
    .bind(wording.model.clone())
    .bind(wording.prompt.clone())
    .bind(at_ms)
    .execute(db)
    .await?;
    Ok(())
}

type ShownRow = (String, i64, String, i64, String, f64, String, String, i64);

/// The texts by models that stood in the slots of an auction.
pub(crate) async fn shown(
    db: &mut AnyConnection,
    auction_id: Uuid,
    awards: &[LoggedAward],
) -> Result<Vec<ShownWording>, AdsError> {
    let mut shown = Vec::new();
    for award in awards {
        let row: Option<ShownRow> = sqlx::query_as(
            "SELECT w.id, w.version, w.text, w.fact, w.quote, w.probability, w.model, w.prompt, w.at \
             FROM served s JOIN ad_wordings w ON w.id = s.wording WHERE s.nonce = $1",
        )
        .bind(nonce(auction_id, award.slot, &award.ad))
        .fetch_optional(&mut *db)
        .await?;
        if let Some((id, version, text, fact_index, fact, probability, model, prompt, written_ms)) = row {
            shown.push(ShownWording {
                slot: award.slot,
                ad: award.ad.clone(),
                version,
                id,
                origin: GENERATED,
                text,
                fact_index,
                fact,
                probability,
                model,
                prompt,
                written_ms,
            });
        }
    }
    Ok(shown)
}

/// Takes the words of searches out of texts that were written before `before_ms`, a bounded number of them.
pub(crate) async fn forget_queries(db: &mut AnyConnection, before_ms: i64) -> Result<(), AdsError> {
    sqlx::query(
        "UPDATE ad_wordings SET query = '' WHERE id IN \
         (SELECT id FROM ad_wordings WHERE at < $1 AND query <> '' ORDER BY at LIMIT $2)",
    )
    .bind(before_ms)
    .bind(FORGET_AT_ONCE)
    .execute(db)
    .await?;
    Ok(())
}
