//! Calls that come twice: an idempotency key makes them one.

use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Booked;
use crate::booking::Level;
use crate::store::{Connection, Tx};
use crate::time::{millis, millis_after};
use crate::{AdsError, ImportProblems};

/// How long a key is remembered.
const KEY_TTL: std::time::Duration = std::time::Duration::from_hours(24);
/// Longest key, in bytes.
const MAX_KEY: usize = 200;

/// An idempotency key with the body it came with.
pub(super) struct Key {
    name: String,
    body_hash: String,
}

impl Key {
    pub fn new(level: Level, key: &str, body: &str) -> Result<Self, AdsError> {
        if !(1..=MAX_KEY).contains(&key.len()) || !key.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
            let mut problems = ImportProblems::default();
            let message = format!("expected 1 to {MAX_KEY} printable ASCII characters, such as a UUID");
            problems.push("Idempotency-Key", key, message);
            return Err(AdsError::Import(problems));
        }
        let name = format!("{}:{key}", level.as_str());
        Ok(Self { name, body_hash: hex::encode(Sha256::digest(body.as_bytes())) })
    }

    /// What the call was answered before.
    pub async fn answer(&self, db: &mut Connection, now_ms: i64) -> Result<Option<Booked>, AdsError> {
        let row: Option<(String, String)> = sqlx::query_as(
            "SELECT body_hash, answer FROM requests WHERE idempotency_key = $1 AND expires_at > $2",
        )
        .bind(self.name.clone())
        .bind(now_ms)
        .fetch_optional(db)
        .await?;
        let Some((hash, answer)) = row else { return Ok(None) };
        if hash != self.body_hash {
            return Err(AdsError::KeyReused);
        }
        let damaged = || AdsError::Damaged { what: format!("the kept answer of {}", self.name) };
        let json: Value = serde_json::from_str(&answer).map_err(|_| damaged())?;
        let id = json["id"].as_str().ok_or_else(damaged)?.to_owned();
        let revision = json["revision"].as_i64().ok_or_else(damaged)?;
        Ok(Some(Booked { id, revision, json }))
    }

    pub async fn keep(&self, tx: &mut Tx<'_>, booked: &Booked, now: Timestamp) -> Result<(), AdsError> {
        sqlx::query("DELETE FROM requests WHERE expires_at <= $1")
            .bind(millis(now))
            .execute(&mut **tx)
            .await?;
        sqlx::query(
            "INSERT INTO requests (idempotency_key, body_hash, answer, expires_at) VALUES ($1, $2, $3, $4)",
        )
        .bind(self.name.clone())
        .bind(self.body_hash.clone())
        .bind(booked.json.to_string())
        .bind(millis_after(now, KEY_TTL))
        .execute(&mut **tx)
        .await?;
        Ok(())
    }
}
