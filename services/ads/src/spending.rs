//! What every scope has settled and holds, as of the last commit: read by decisions without asking the database.
//!
//! It is a copy. Whether money is really there is decided by the writer (`money`), so an old copy costs a second
//! auction and never a micro.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::{Mutex, RwLock};
use sqlx::AnyConnection;

use bowerbird_auction::Micros;

use crate::AdsError;
use crate::money::{Balance, Budget, Liability, scopes_of};

/// Balances by scope, and when the next hold runs out.
pub(crate) struct Spending {
    balances: RwLock<HashMap<String, Balance>>,
    next_expiry_ms: AtomicI64,
    changed: Mutex<Changed>,
}

/// What has changed since a decision looked.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    /// Everything may have: bookings, or the day.
    pub all: bool,
    /// Scopes.
    pub scopes: HashSet<String>,
    /// Day that the last decision was for.
    day: String,
}

impl Default for Spending {
    fn default() -> Self {
        Self {
            balances: RwLock::default(),
            // The first decision looks.
            next_expiry_ms: AtomicI64::new(i64::MIN),
            changed: Mutex::default(),
        }
    }
}

impl Spending {
    /// Reads all balances.
    pub async fn load(&self, db: &mut AnyConnection) -> Result<(), AdsError> {
        let rows: Vec<(String, i64, i64, i64, i64)> = sqlx::query_as(
            "SELECT scope, settled_micros, reserved_micros, variance, limit_micros FROM scopes",
        )
        .fetch_all(db)
        .await?;
        let balance = |(scope, settled, reserved, variance, limit)| {
            let balance = Balance {
                settled: Micros(settled),
                reserved: Micros(reserved),
                variance,
                limit: Micros(limit),
            };
            (scope, balance)
        };
        *self.balances.write() = rows.into_iter().map(balance).collect();
        Ok(())
    }

    /// Takes over what was committed.
    pub fn set(&self, changes: Vec<(String, Balance)>) {
        if !changes.is_empty() {
            let names: Vec<String> = changes.iter().map(|(scope, _)| scope.clone()).collect();
            self.balances.write().extend(changes);
            self.changed.lock().scopes.extend(names);
        }
    }

    /// The bookings have changed, and with them what fits.
    pub fn all_changed(&self) {
        self.changed.lock().all = true;
    }

    /// What has changed since the last call; everything on another day. None when nothing has.
    pub fn take_changed(&self, day: &str) -> Option<Changed> {
        let mut changed = self.changed.lock();
        let all = changed.all || changed.day != day;
        if !all && changed.scopes.is_empty() {
            return None;
        }
        if changed.day != day {
            day.clone_into(&mut changed.day);
            self.balances.write().retain(|scope, balance| {
                !scope.starts_with("day/") || scope[4..].starts_with(day) || balance.reserved > Micros::ZERO
            });
        }
        changed.all = false;
        Some(Changed { all, scopes: std::mem::take(&mut changed.scopes), day: String::new() })
    }

    /// Every scope that has something settled or held.
    pub fn scopes(&self) -> Vec<String> {
        self.balances.read().keys().cloned().collect()
    }

    /// The next hold runs out at `ms`.
    pub fn expires_at(&self, ms: i64) {
        self.next_expiry_ms.store(ms, Ordering::Release);
    }

    /// A hold was made that runs out at `ms`.
    pub fn held_until(&self, ms: i64) {
        self.next_expiry_ms.fetch_min(ms, Ordering::AcqRel);
    }

    /// Whether a hold has run out by `now_ms` and was not ended yet.
    pub fn holds_expired(&self, now_ms: i64) -> bool {
        self.next_expiry_ms.load(Ordering::Acquire) <= now_ms
    }

    /// Settled for a campaign on `day`.
    pub fn settled(&self, campaign: &str, day: &str) -> Micros {
        self.balances
            .read()
            .get(&format!("day/{day}/{campaign}"))
            .map_or(Micros::ZERO, |balance| balance.settled)
    }

    /// Whether a click of `price` still fits into every scope.
    pub fn has_room(
        &self,
        campaign: &str,
        advertiser: &str,
        day: &str,
        budget: &Budget,
        price: Micros,
    ) -> bool {
        let balances = self.balances.read();
        let certain = Liability::certain(price);
        scopes_of(campaign, advertiser, day)
            .iter()
            .zip(budget.limits())
            .all(|(scope, limit)| certain.fits(&balances.get(scope).copied().unwrap_or_default(), limit))
    }
}
