//! Daily budgets that cannot be overspent: every change is one guarded statement inside a transaction.
//!
//! For a campaign and UTC day, `settled` is what was charged and `reserved` the sum of the open reservations. A slot
//! is only given out while `settled + reserved + price <= budget`, so a click that comes in time can always be
//! paid. A click that comes after its reservation expired is paid from what is left, perhaps nothing.

use std::collections::HashMap;

use bowerbird_auction::Micros;

use crate::AdsError;
use crate::store::{Connection, Tx};

/// A day's spending of one campaign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spend {
    pub settled: Micros,
    pub reserved: Micros,
}

impl Spend {
    /// Whether a slot that may cost `price` still fits under `budget`.
    pub fn leaves_room_for(&self, price: Micros, budget: Micros) -> bool {
        Micros::checked_sum([self.settled, self.reserved, price]).is_some_and(|sum| sum <= budget)
    }
}

/// A price to hold.
pub(crate) struct Hold<'a> {
    pub nonce: String,
    pub campaign: &'a str,
    pub amount: Micros,
}

/// What every campaign has spent and reserved on `day`; campaigns without a row have spent nothing.
pub(crate) async fn spend_of_day(db: &mut Connection, day: &str) -> Result<HashMap<String, Spend>, AdsError> {
    let rows: Vec<(String, i64, i64)> =
        sqlx::query_as("SELECT campaign, settled_micros, reserved_micros FROM daily_spend WHERE day = $1")
            .bind(day)
            .fetch_all(db)
            .await?;
    let spend = |(campaign, settled, reserved)| {
        (campaign, Spend { settled: Micros(settled), reserved: Micros(reserved) })
    };
    Ok(rows.into_iter().map(spend).collect())
}

/// Whether any reservation has expired by `now_ms`.
pub(crate) async fn any_expired(db: &mut Connection, now_ms: i64) -> Result<bool, AdsError> {
    let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM reservations WHERE expires_at <= $1 LIMIT 1")
        .bind(now_ms)
        .fetch_optional(db)
        .await?;
    Ok(found.is_some())
}

/// Gives back what expired reservations held.
pub(crate) async fn release_expired(tx: &mut Tx<'_>, now_ms: i64) -> Result<(), AdsError> {
    let sums: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT campaign, day, CAST(SUM(amount_micros) AS BIGINT) FROM reservations WHERE expires_at <= $1 \
         GROUP BY campaign, day",
    )
    .bind(now_ms)
    .fetch_all(&mut **tx)
    .await?;
    for (campaign, day, amount) in sums {
        give_back(tx, &campaign, &day, amount).await?;
    }
    sqlx::query("DELETE FROM reservations WHERE expires_at <= $1").bind(now_ms).execute(&mut **tx).await?;
    Ok(())
}

/// Holds every price of a slate, or names the position of the first that does not fit any more; the caller then
/// rolls `tx` back. A hold of the same nonce is replaced.
pub(crate) async fn reserve(
    tx: &mut Tx<'_>,
    holds: &[Hold<'_>],
    day: &str,
    expires_ms: i64,
) -> Result<Result<(), usize>, AdsError> {
    for (at, hold) in holds.iter().enumerate() {
        release(tx, &hold.nonce).await?;
        sqlx::query(
            "INSERT INTO daily_spend (campaign, day, settled_micros, reserved_micros) VALUES ($1, $2, 0, 0) \
             ON CONFLICT (campaign, day) DO NOTHING",
        )
        .bind(hold.campaign)
        .bind(day)
        .execute(&mut **tx)
        .await?;
        let fits = sqlx::query(
            "UPDATE daily_spend SET reserved_micros = reserved_micros + $1 WHERE campaign = $2 AND day = $3 \
             AND settled_micros + reserved_micros + $1 <= \
             (SELECT daily_budget_micros FROM campaigns WHERE id = $2 AND status = 'enabled')",
        )
        .bind(hold.amount.0)
        .bind(hold.campaign)
        .bind(day)
        .execute(&mut **tx)
        .await?;
        if fits.rows_affected() != 1 {
            return Ok(Err(at));
        }
        sqlx::query(
            "INSERT INTO reservations (nonce, campaign, day, amount_micros, expires_at) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(&hold.nonce)
        .bind(hold.campaign)
        .bind(day)
        .bind(hold.amount.0)
        .bind(expires_ms)
        .execute(&mut **tx)
        .await?;
    }
    Ok(Ok(()))
}

/// Ends the reservation of `nonce`, if there is one, without a charge.
pub(crate) async fn release(tx: &mut Tx<'_>, nonce: &str) -> Result<(), AdsError> {
    let held: Option<(String, String, i64)> =
        sqlx::query_as("DELETE FROM reservations WHERE nonce = $1 RETURNING campaign, day, amount_micros")
            .bind(nonce)
            .fetch_optional(&mut **tx)
            .await?;
    match held {
        Some((campaign, day, amount)) => give_back(tx, &campaign, &day, amount).await,
        None => Ok(()),
    }
}

/// Charges at most `price` for a click and returns what was charged: the whole price while its reservation is open,
/// else as much as neither the day's settled money nor the reservations of others need.
pub(crate) async fn settle(
    tx: &mut Tx<'_>,
    nonce: &str,
    campaign: &str,
    day: &str,
    price: Micros,
) -> Result<Micros, AdsError> {
    release(tx, nonce).await?;
    // The budget may have been lowered since, so the own reservation is no proof that the price still fits.
    let room: Option<i64> = sqlx::query_scalar(
        "SELECT c.daily_budget_micros - COALESCE(s.settled_micros, 0) - COALESCE(s.reserved_micros, 0) \
         FROM campaigns c LEFT JOIN daily_spend s ON s.campaign = c.id AND s.day = $2 WHERE c.id = $1",
    )
    .bind(campaign)
    .bind(day)
    .fetch_optional(&mut **tx)
    .await?;
    let charge = price.min(Micros(room.unwrap_or(0))).max(Micros::ZERO);
    if charge == Micros::ZERO {
        return Ok(charge);
    }
    let settled = sqlx::query(
        "INSERT INTO daily_spend (campaign, day, settled_micros, reserved_micros) VALUES ($1, $2, $3, 0) \
         ON CONFLICT (campaign, day) DO UPDATE SET settled_micros = daily_spend.settled_micros + excluded.settled_micros \
         WHERE daily_spend.settled_micros + excluded.settled_micros <= \
         (SELECT daily_budget_micros FROM campaigns WHERE id = excluded.campaign)",
    )
    .bind(campaign)
    .bind(day)
    .bind(charge.0)
    .execute(&mut **tx)
    .await?;
    if settled.rows_affected() == 1 {
        Ok(charge)
    } else {
        Err(AdsError::Damaged {
            what: format!("spending of campaign {campaign} on {day} changed while it was locked"),
        })
    }
}

async fn give_back(tx: &mut Tx<'_>, campaign: &str, day: &str, amount: i64) -> Result<(), AdsError> {
    sqlx::query(
        "UPDATE daily_spend SET reserved_micros = reserved_micros - $1 WHERE campaign = $2 AND day = $3",
    )
    .bind(amount)
    .bind(campaign)
    .bind(day)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
