//! The books made again from the events, from nothing.

use std::collections::BTreeMap;

use bowerbird_auction::Micros;

use super::postings;
use super::scopes::{Balance, read, scopes_of, write};
use crate::AdsError;
use crate::engine::Engine;
use crate::writer::Work;

/// Scopes that one statement writes.
const TOGETHER: usize = 200;

/// Every scope and account with what it holds, rising: equal books are equal values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Settled, held, and the variance of what is held, by scope.
    pub scopes: BTreeMap<String, (i64, i64, i64)>,
    /// Balance by account.
    pub accounts: BTreeMap<String, i64>,
}

impl Engine {
    /// The books as they are.
    pub(crate) async fn books(&self) -> Result<Books, AdsError> {
        let mut snapshot = self.store.begin_read().await?;
        let scopes: Vec<(String, i64, i64, i64)> =
            sqlx::query_as("SELECT scope, settled_micros, reserved_micros, variance FROM scopes")
                .fetch_all(&mut *snapshot)
                .await?;
        let accounts: Vec<(String, i64)> =
            sqlx::query_as("SELECT account, amount_micros FROM balances").fetch_all(&mut *snapshot).await?;
        snapshot.rollback().await?;
        // An empty scope is the same as none.
        let kept = scopes.into_iter().filter(|(_, settled, held, _)| *settled != 0 || *held != 0);
        Ok(Books {
            scopes: kept.map(|(scope, settled, held, variance)| (scope, (settled, held, variance))).collect(),
            accounts: accounts.into_iter().collect(),
        })
    }

    /// Throws scopes, balances and postings away and makes them again from events and open holds.
    pub(crate) async fn rebuild_books(&self) -> Result<(), AdsError> {
        let permille = self.config.publisher_permille;
        self.writer.run(move |work| Box::pin(async move { rebuild(work, permille).await })).await
    }
}

/// Nonce, kind, campaign, advertiser, amount, price, day, time.
type EventRow = (String, String, String, String, i64, i64, String, i64);

async fn rebuild(work: &mut Work, permille: u16) -> Result<(), AdsError> {
    let limits: Vec<(String, i64)> =
        sqlx::query_as("SELECT scope, limit_micros FROM scopes").fetch_all(work.db()).await?;
    for table in ["DELETE FROM scopes", "DELETE FROM balances", "DELETE FROM postings"] {
        sqlx::query(table).execute(work.db()).await?;
    }
    let events: Vec<EventRow> = sqlx::query_as(
        "SELECT e.nonce, e.kind, e.campaign, c.advertiser, e.amount_micros, e.price_micros, e.day, e.at \
         FROM events e JOIN campaigns c ON c.id = e.campaign ORDER BY e.at, e.nonce, e.kind",
    )
    .fetch_all(work.db())
    .await?;
    let mut scopes: BTreeMap<String, Balance> = BTreeMap::new();
    for (nonce, kind, campaign, advertiser, amount, price, day, at) in events {
        for scope in scopes_of(&campaign, &advertiser, &day) {
            let balance = scopes.entry(scope).or_default();
            balance.settled = Micros(balance.settled.0.saturating_add(amount));
        }
        let kind = if kind == "click" { "click" } else { "impression" };
        let charge = super::Charge {
            nonce: &nonce,
            kind,
            campaign: &campaign,
            advertiser: &advertiser,
            day: &day,
            price: Micros(price),
            publisher_permille: permille,
            now_ms: at,
        };
        postings::post(work.db(), &charge, Micros(amount)).await?;
    }
    let holds: Vec<(String, String, String, i64, i64)> =
        sqlx::query_as("SELECT campaign, advertiser, day, held_micros, variance FROM holds")
            .fetch_all(work.db())
            .await?;
    for (campaign, advertiser, day, held, variance) in holds {
        for scope in scopes_of(&campaign, &advertiser, &day) {
            let balance = scopes.entry(scope).or_default();
            balance.reserved = Micros(balance.reserved.0.saturating_add(held));
            balance.variance = balance.variance.saturating_add(variance);
        }
    }
    for (scope, limit) in limits {
        if let Some(balance) = scopes.get_mut(&scope) {
            balance.limit = Micros(limit);
        }
    }
    let names: Vec<String> = scopes.keys().cloned().collect();
    for chunk in names.chunks(TOGETHER) {
        let balances: Vec<Balance> = chunk.iter().map(|name| scopes[name]).collect();
        write(work.db(), chunk, &balances).await?;
        let written = read(work.db(), chunk).await?;
        work.changed(chunk, &written);
    }
    Ok(())
}
