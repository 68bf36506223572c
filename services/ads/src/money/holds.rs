//! Holds: made with a slate, ended by a click, a billed impression, or time.

use std::collections::BTreeMap;

use bowerbird_auction::Micros;
use sqlx::{AnyConnection, AssertSqlSafe};

use super::scopes::{Balance, Budget, read, scopes_of, write};
use super::{Liability, postings};
use crate::AdsError;
use crate::sql;
use crate::writer::Work;

/// Most holds that one call of [`expire`] ends, so that a writer with a backlog still serves.
const EXPIRE_AT_ONCE: i64 = 500;

/// After so long holds that ran out are looked for even if none is known to.
const LOOK_AGAIN_MS: i64 = 10_000;

/// What a shown slot may cost.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    pub nonce: String,
    pub campaign: String,
    pub advertiser: String,
    pub liability: Liability,
}

type BudgetRow = (String, i64, Option<i64>, Option<i64>);
type HoldRow = (String, String, String, i64, i64);

/// Holds every liability of a slate, or names the position of the first that does not fit any more; nothing is written
/// then. A hold of the same nonce is replaced.
pub(crate) async fn reserve(
    work: &mut Work,
    holds: &[Hold],
    day: &str,
    expires_ms: i64,
) -> Result<Result<(), usize>, AdsError> {
    if holds.is_empty() {
        return Ok(Ok(()));
    }
    let nonces = sql::places(1, holds.len());
    let statement = format!("SELECT COUNT(*) FROM holds WHERE nonce IN ({nonces})");
    let query = sqlx::query_scalar(AssertSqlSafe(statement));
    let query = holds.iter().fold(query, |query, hold| query.bind(hold.nonce.clone()));
    let held_before: i64 = query.fetch_one(work.db()).await?;
    if held_before > 0 {
        for hold in holds {
            release(work, &hold.nonce).await?;
        }
    }
    let campaigns: Vec<&str> = holds.iter().map(|hold| hold.campaign.as_str()).collect();
    let budgets = budgets(work.db(), &campaigns).await?;
    let mut scopes: Vec<String> =
        holds.iter().flat_map(|hold| scopes_of(&hold.campaign, &hold.advertiser, day)).collect();
    scopes.sort();
    scopes.dedup();
    let mut balances = read(work.db(), &scopes).await?;
    let at = |scope: &String| scopes.binary_search(scope).unwrap_or_default();
    let mut held = Vec::with_capacity(holds.len());
    for (position, hold) in holds.iter().enumerate() {
        let Some(budget) = budgets.get(&hold.campaign) else { return Ok(Err(position)) };
        let own = scopes_of(&hold.campaign, &hold.advertiser, day);
        let limits = budget.limits();
        let last =
            own.iter().zip(limits).any(|(scope, limit)| hold.liability.is_last(&balances[at(scope)], limit));
        let liability = if last { hold.liability.in_full() } else { hold.liability };
        if !own.iter().zip(limits).all(|(scope, limit)| liability.fits(&balances[at(scope)], limit)) {
            return Ok(Err(position));
        }
        for scope in &own {
            let balance = &mut balances[at(scope)];
            balance.reserved = sum(balance.reserved, liability.expected)?;
            balance.variance = balance.variance.saturating_add(liability.variance);
        }
        held.push(liability);
    }
    write(work.db(), &scopes, &balances).await?;
    let values = sql::rows(holds.len(), 7);
    let insert = format!(
        "INSERT INTO holds (nonce, campaign, advertiser, day, held_micros, variance, expires_at) VALUES {values}"
    );
    let mut query = sqlx::query(AssertSqlSafe(insert));
    for (hold, liability) in holds.iter().zip(&held) {
        query = query
            .bind(hold.nonce.clone())
            .bind(hold.campaign.clone())
            .bind(hold.advertiser.clone())
            .bind(day.to_owned())
            .bind(liability.expected.0)
            .bind(liability.variance)
            .bind(expires_ms);
    }
    query.execute(work.db()).await?;
    work.changed(&scopes, &balances);
    work.held_until(expires_ms);
    Ok(Ok(()))
}

/// Ends the hold of `nonce`, if there is one, without a charge.
pub(crate) async fn release(work: &mut Work, nonce: &str) -> Result<bool, AdsError> {
    let row: Option<HoldRow> = sqlx::query_as(
        "DELETE FROM holds WHERE nonce = $1 RETURNING campaign, advertiser, day, held_micros, variance",
    )
    .bind(nonce)
    .fetch_optional(work.db())
    .await?;
    let Some((campaign, advertiser, day, held, variance)) = row else { return Ok(false) };
    let mut scopes = scopes_of(&campaign, &advertiser, &day);
    scopes.sort();
    let mut balances = read(work.db(), &scopes).await?;
    for (scope, balance) in scopes.iter().zip(&mut balances) {
        give_back(scope, balance, held, variance)?;
    }
    write(work.db(), &scopes, &balances).await?;
    work.changed(&scopes, &balances);
    Ok(true)
}

/// Ends holds that expired by `now_ms`, a bounded number of them; returns how many.
pub(crate) async fn expire(work: &mut Work, now_ms: i64) -> Result<usize, AdsError> {
    let rows: Vec<(String, String, String, i64, i64)> = sqlx::query_as(
        "DELETE FROM holds WHERE nonce IN (SELECT nonce FROM holds WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2) \
         RETURNING campaign, advertiser, day, held_micros, variance",
    )
    .bind(now_ms)
    .bind(EXPIRE_AT_ONCE)
    .fetch_all(work.db())
    .await?;
    let next: Option<i64> =
        sqlx::query_scalar("SELECT MIN(expires_at) FROM holds").fetch_one(work.db()).await?;
    // Another server's holds are seen by looking now and then: it may have ended without giving them back.
    work.next_expiry(next.unwrap_or(i64::MAX).min(now_ms.saturating_add(LOOK_AGAIN_MS)));
    if rows.is_empty() {
        return Ok(0);
    }
    let mut back: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for (campaign, advertiser, day, held, variance) in &rows {
        for scope in scopes_of(campaign, advertiser, day) {
            let sum = back.entry(scope).or_default();
            *sum = (sum.0.saturating_add(*held), sum.1.saturating_add(*variance));
        }
    }
    let scopes: Vec<String> = back.keys().cloned().collect();
    // A statement takes so many parameters and no more.
    for chunk in scopes.chunks(200) {
        let mut balances = read(work.db(), chunk).await?;
        for (scope, balance) in chunk.iter().zip(&mut balances) {
            let (held, variance) = back[scope];
            give_back(scope, balance, held, variance)?;
        }
        write(work.db(), chunk, &balances).await?;
        work.changed(chunk, &balances);
    }
    Ok(rows.len())
}

/// What a charge is for.
pub(crate) struct Charge<'a> {
    pub nonce: &'a str,
    /// `click` or `impression`.
    pub kind: &'static str,
    pub campaign: &'a str,
    pub advertiser: &'a str,
    /// UTC day of the decision, whose budget pays.
    pub day: &'a str,
    pub price: Micros,
    /// Share of the publisher, in thousandths.
    pub publisher_permille: u16,
    pub now_ms: i64,
}

/// Charges at most the price and returns what was charged: as much as every scope has left, and of a late event, whose
/// hold is gone, only what the holds of others do not need.
pub(crate) async fn settle(work: &mut Work, charge: &Charge<'_>) -> Result<Micros, AdsError> {
    let in_time = release(work, charge.nonce).await?;
    let budgets = budgets(work.db(), &[charge.campaign]).await?;
    // A campaign that was paused since pays all the same for what was shown.
    let limits = budgets.get(charge.campaign).map_or([Micros::ZERO; 3], Budget::limits);
    let own = scopes_of(charge.campaign, charge.advertiser, charge.day);
    let mut scopes = own.clone();
    scopes.sort();
    let mut balances = read(work.db(), &scopes).await?;
    let mut amount = charge.price;
    for (scope, limit) in own.iter().zip(limits) {
        let balance = balances[scopes.binary_search(scope).unwrap_or_default()];
        let taken = if in_time { balance.settled } else { sum(balance.settled, balance.reserved)? };
        amount = amount.min(Micros(limit.0.saturating_sub(taken.0)));
    }
    let amount = amount.max(Micros::ZERO);
    if amount > Micros::ZERO {
        for (scope, limit) in own.iter().zip(limits) {
            let balance = &mut balances[scopes.binary_search(scope).unwrap_or_default()];
            balance.settled = sum(balance.settled, amount)?;
            balance.limit = limit;
        }
        write(work.db(), &scopes, &balances).await?;
        work.changed(&scopes, &balances);
    }
    postings::post(work.db(), charge, amount).await?;
    Ok(amount)
}

/// The budgets of `campaigns`, paused ones too: whether a campaign may be shown is decided before.
async fn budgets(db: &mut AnyConnection, campaigns: &[&str]) -> Result<BTreeMap<String, Budget>, AdsError> {
    let select = format!(
        "SELECT c.id, c.daily_budget_micros, c.lifetime_budget_micros, a.balance_micros FROM campaigns c \
         JOIN advertisers a ON a.id = c.advertiser WHERE c.id IN ({})",
        sql::places(1, campaigns.len())
    );
    let mut query = sqlx::query_as(AssertSqlSafe(select));
    for campaign in campaigns {
        query = query.bind((*campaign).to_owned());
    }
    let rows: Vec<BudgetRow> = query.fetch_all(db).await?;
    let budget = |(id, day, life, account): BudgetRow| {
        (id, Budget { day: Micros(day), life: life.map(Micros), account: account.map(Micros) })
    };
    Ok(rows.into_iter().map(budget).collect())
}

fn sum(a: Micros, b: Micros) -> Result<Micros, AdsError> {
    a.checked_add(b).ok_or_else(|| AdsError::Damaged { what: "a scope holds more than an i64".into() })
}

fn give_back(scope: &str, balance: &mut Balance, held: i64, variance: i64) -> Result<(), AdsError> {
    let (reserved, left) = (balance.reserved.0 - held, balance.variance - variance);
    if reserved < 0 || left < 0 {
        return Err(AdsError::Damaged { what: format!("scope {scope} holds less than one of its holds") });
    }
    (balance.reserved, balance.variance) = (Micros(reserved), left);
    Ok(())
}
