//! Budget scopes: what is settled and held in each, and how they are read and written.

use std::collections::HashMap;

use bowerbird_auction::Micros;
use sqlx::{AnyConnection, AssertSqlSafe};

use crate::AdsError;
use crate::sql::{places, rows};

/// What a scope has settled and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Balance {
    pub settled: Micros,
    /// Sum of the open holds.
    pub reserved: Micros,
    /// Sum of their variances; see [`super::Liability::variance`].
    pub variance: i64,
    /// The budget when money was last settled.
    pub limit: Micros,
}

/// Most that may be settled in each scope of a campaign; none: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    pub day: Micros,
    pub life: Option<Micros>,
    pub account: Option<Micros>,
}

impl Budget {
    /// In the order of [`scopes_of`].
    pub fn limits(&self) -> [Micros; 3] {
        let unlimited = Micros(i64::MAX);
        [self.day, self.life.unwrap_or(unlimited), self.account.unwrap_or(unlimited)]
    }
}

/// The three scopes that one shown ad is counted in.
pub(crate) fn scopes_of(campaign: &str, advertiser: &str, day: &str) -> [String; 3] {
    [format!("day/{day}/{campaign}"), format!("life/{campaign}"), format!("account/{advertiser}")]
}

/// The balances of `scopes`; absent ones are empty. One transaction writes at a time, so what is read is what is changed.
pub(crate) async fn read(db: &mut AnyConnection, scopes: &[String]) -> Result<Vec<Balance>, AdsError> {
    let sql = format!(
        "SELECT scope, settled_micros, reserved_micros, variance, limit_micros FROM scopes WHERE scope IN ({})",
        places(1, scopes.len())
    );
    let mut query = sqlx::query_as(AssertSqlSafe(sql));
    for scope in scopes {
        query = query.bind(scope.clone());
    }
    let rows: Vec<(String, i64, i64, i64, i64)> = query.fetch_all(db).await?;
    let mut found = HashMap::with_capacity(rows.len());
    for (scope, settled, reserved, variance, limit) in rows {
        let balance =
            Balance { settled: Micros(settled), reserved: Micros(reserved), variance, limit: Micros(limit) };
        found.insert(scope, balance);
    }
    Ok(scopes.iter().map(|scope| found.get(scope).copied().unwrap_or_default()).collect())
}

/// Writes the balances of `scopes`.
pub(crate) async fn write(
    db: &mut AnyConnection,
    scopes: &[String],
    balances: &[Balance],
) -> Result<(), AdsError> {
    let sql = format!(
        "INSERT INTO scopes (scope, settled_micros, reserved_micros, variance, limit_micros) VALUES {} \
         ON CONFLICT (scope) DO UPDATE SET settled_micros = excluded.settled_micros, \
         reserved_micros = excluded.reserved_micros, variance = excluded.variance, limit_micros = excluded.limit_micros",
        rows(scopes.len(), 5)
    );
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for (scope, balance) in scopes.iter().zip(balances) {
        query = query
            .bind(scope.clone())
            .bind(balance.settled.0)
            .bind(balance.reserved.0)
            .bind(balance.variance)
            .bind(balance.limit.0);
    }
    query.execute(db).await?;
    Ok(())
}
