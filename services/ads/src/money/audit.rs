//! Whether the books agree with what happened, from nothing.

use std::collections::{BTreeMap, BTreeSet};

use bowerbird_auction::Micros;
use serde::Serialize;

use super::scopes::scopes_of;
use crate::AdsError;
use crate::engine::Engine;

/// Result of replaying the events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Scopes and accounts compared; an audit of none says nothing and fails.
    pub compared: usize,
    /// Events replayed.
    pub events: usize,
    /// Ledger entries added up.
    pub entries: usize,
    /// Open holds added up.
    pub holds: usize,
    /// What does not hold, at most 100.
    pub differences: Vec<Difference>,
}

impl Audit {
    /// Whether something was compared and everything agreed.
    pub fn passed(&self) -> bool {
        self.compared > 0 && self.differences.is_empty()
    }
}

/// One place where the books are wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The invariant: `I1` to `I7`.
    pub invariant: &'static str,
    /// Scope, account, entry or event.
    pub of: String,
    /// What the books say.
    pub booked: Micros,
    /// What it must be, or the bound it must not pass.
    pub expected: Micros,
}

/// Differences listed.
const MAX_DIFFERENCES: usize = 100;

type EventRow = (String, String, String, String, i64, i64, String, i64);

#[derive(Default)]
struct Findings(Vec<Difference>);

impl Findings {
    fn same(&mut self, invariant: &'static str, of: &str, booked: i64, expected: i64) {
        self.when(booked != expected, invariant, of, booked, expected);
    }

    fn at_most(&mut self, invariant: &'static str, of: &str, booked: i64, bound: i64) {
        self.when(booked > bound, invariant, of, booked, bound);
    }

    fn when(&mut self, wrong: bool, invariant: &'static str, of: &str, booked: i64, expected: i64) {
        if wrong && self.0.len() < MAX_DIFFERENCES {
            let (booked, expected) = (Micros(booked), Micros(expected));
            self.0.push(Difference { invariant, of: of.to_owned(), booked, expected });
        }
    }
}

impl Engine {
    /// Reads everything in one snapshot, so that it can run while the engine works.
    pub(crate) async fn audit(&self) -> Result<Audit, AdsError> {
        let mut snapshot = self.store.begin_read().await?;
        let scopes: Vec<(String, i64, i64, i64, i64)> = sqlx::query_as(
            "SELECT scope, settled_micros, reserved_micros, variance, limit_micros FROM scopes",
        )
        .fetch_all(&mut *snapshot)
        .await?;
        let events: Vec<EventRow> = sqlx::query_as(
            "SELECT e.nonce, e.kind, e.campaign, c.advertiser, e.amount_micros, e.price_micros, e.day, \
             COALESCE(s.bid_micros, -1) \
             FROM events e JOIN campaigns c ON c.id = e.campaign LEFT JOIN served s ON s.nonce = e.nonce",
        )
        .fetch_all(&mut *snapshot)
        .await?;
        let holds: Vec<(String, String, String, i64, i64)> =
            sqlx::query_as("SELECT campaign, advertiser, day, held_micros, variance FROM holds")
                .fetch_all(&mut *snapshot)
                .await?;
        let posted: Vec<(String, String, i64)> =
            sqlx::query_as("SELECT entry, account, amount_micros FROM postings")
                .fetch_all(&mut *snapshot)
                .await?;
        let balances: Vec<(String, i64)> =
            sqlx::query_as("SELECT account, amount_micros FROM balances").fetch_all(&mut *snapshot).await?;
        snapshot.rollback().await?;

        let mut found = Findings::default();
        let mut compared = 0;

        // I6: settled money of each scope, replayed from the events; I4 and I7 on the way.
        let mut settled: BTreeMap<String, i64> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for (nonce, kind, campaign, advertiser, amount, price, day, bid) in &events {
            let name = format!("{nonce}/{kind}");
            found.when(!seen.insert((nonce, kind)), "I4", &name, *amount, 0);
            found.at_most("I7", &name, *amount, *price);
            if *bid >= 0 {
                found.at_most("I7", &name, *price, *bid);
            }
            if *amount > 0 {
                for scope in scopes_of(campaign, advertiser, day) {
                    add(settled.entry(scope).or_default(), *amount)?;
                }
            }
        }
        // I3: what is held, from the open holds.
        let mut reserved: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        for (campaign, advertiser, day, held, variance) in &holds {
            for scope in scopes_of(campaign, advertiser, day) {
                let sum = reserved.entry(scope).or_default();
                add(&mut sum.0, *held)?;
                add(&mut sum.1, *variance)?;
            }
        }
        let booked: BTreeMap<&str, (i64, i64, i64, i64)> =
            scopes.iter().map(|(scope, s, r, v, limit)| (scope.as_str(), (*s, *r, *v, *limit))).collect();
        let known: BTreeSet<&str> =
            booked.keys().copied().chain(settled.keys().chain(reserved.keys()).map(String::as_str)).collect();
        for scope in known {
            compared += 1;
            let (settled_there, reserved_there, variance_there, limit) =
                booked.get(scope).copied().unwrap_or_default();
            let replayed = settled.get(scope).copied().unwrap_or_default();
            let (held, variance) = reserved.get(scope).copied().unwrap_or_default();
            found.same("I6", scope, settled_there, replayed);
            found.same("I3", scope, reserved_there, held);
            found.same("I3", scope, variance_there, variance);
            found.at_most("I2", scope, settled_there, limit);
        }

        // I1, I5 and I6 of the ledger.
        let mut entries: BTreeMap<&str, i64> = BTreeMap::new();
        let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
        for (entry, account, amount) in &posted {
            add(entries.entry(entry).or_default(), *amount)?;
            add(sums.entry(account).or_default(), *amount)?;
        }
        for (entry, sum) in &entries {
            found.same("I1", entry, *sum, 0);
        }
        let balances: BTreeMap<&str, i64> = balances.iter().map(|(a, b)| (a.as_str(), *b)).collect();
        for account in balances.keys().chain(sums.keys()).copied().collect::<BTreeSet<_>>() {
            compared += 1;
            let of = |map: &BTreeMap<&str, i64>| map.get(account).copied().unwrap_or_default();
            found.same("I6", account, of(&balances), of(&sums));
        }
        let total = |prefix: &str| -> i64 {
            balances
                .iter()
                .filter(|(a, _)| a.starts_with(prefix))
                .fold(0, |sum: i64, (_, b)| sum.saturating_add(*b))
        };
        let others = total("revenue").saturating_add(total("publisher")).saturating_add(total("credit/"));
        found.same("I5", "advertisers", total("advertiser/"), others.saturating_neg());
        // Every charge has its entry, and every entry its charge.
        for (nonce, kind, _, _, amount, ..) in &events {
            if *amount > 0 {
                let entry = format!("{nonce}/{kind}");
                found.when(!entries.contains_key(entry.as_str()), "I6", &entry, 0, *amount);
            }
        }
        let charged: i64 = events.iter().fold(0, |sum: i64, event| sum.saturating_add(event.4));
        let net = total("advertiser/").saturating_add(total("credit/"));
        found.same("I6", "charges", net, charged);
        Ok(Audit {
            compared,
            events: events.len(),
            entries: entries.len(),
            holds: holds.len(),
            differences: found.0,
        })
    }
}

fn add(sum: &mut i64, amount: i64) -> Result<(), AdsError> {
    *sum = sum
        .checked_add(amount)
        .ok_or_else(|| AdsError::Damaged { what: "amounts add up to more than an i64".into() })?;
    Ok(())
}
