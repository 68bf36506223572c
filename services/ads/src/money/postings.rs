//! The double-entry ledger.
//!
//! One entry for each charged event, its rows adding up to nothing. With price `p`, charge `c ≤ p`, publisher's share
//! `s = ⌊c · permille / 1000⌋`:
//!
//! | account | amount |
//! |---|---|
//! | `advertiser/<id>` | `+p` |
//! | `credit/<id>` | `−(p − c)`: shown or clicked beyond the budget, a gift |
//! | `publisher` | `−s` |
//! | `revenue` | `−(c − s)` |
//!
//! So charges to advertisers = revenue + publisher's share + credits, to the micro. Rows of nothing are left out.

use bowerbird_auction::Micros;
use sqlx::{AnyConnection, AssertSqlSafe};

use super::holds::Charge;
use crate::AdsError;
use crate::sql;

/// The rows of an entry.
pub(super) fn rows(advertiser: &str, price: Micros, charged: Micros, permille: u16) -> Vec<(String, i64)> {
    let share = (i128::from(charged.0) * i128::from(permille.min(1000)) / 1000) as i64;
    let mut rows = vec![
        (format!("advertiser/{advertiser}"), price.0),
        (format!("credit/{advertiser}"), charged.0 - price.0),
        ("publisher".to_owned(), -share),
        ("revenue".to_owned(), share - charged.0),
    ];
    rows.retain(|(_, amount)| *amount != 0);
    rows
}

/// Writes the entry of a charge and moves the balances.
pub(super) async fn post(
    db: &mut AnyConnection,
    charge: &Charge<'_>,
    charged: Micros,
) -> Result<(), AdsError> {
    let rows = rows(charge.advertiser, charge.price, charged, charge.publisher_permille);
    if rows.is_empty() {
        return Ok(());
    }
    let entry = format!("{}/{}", charge.nonce, charge.kind);
    let values = sql::rows(rows.len(), 5);
    let insert = format!("INSERT INTO postings (entry, account, amount_micros, day, at) VALUES {values}");
    let mut query = sqlx::query(AssertSqlSafe(insert));
    for (account, amount) in &rows {
        query = query
            .bind(entry.clone())
            .bind(account.clone())
            .bind(*amount)
            .bind(charge.day.to_owned())
            .bind(charge.now_ms);
    }
    query.execute(&mut *db).await?;
    let values = sql::rows(rows.len(), 2);
    let upsert = format!(
        "INSERT INTO balances (account, amount_micros) VALUES {values} ON CONFLICT (account) DO UPDATE SET \
         amount_micros = balances.amount_micros + excluded.amount_micros"
    );
    let mut query = sqlx::query(AssertSqlSafe(upsert));
    for (account, amount) in &rows {
        query = query.bind(account.clone()).bind(*amount);
    }
    query.execute(db).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_adds_up_to_nothing() {
        let check = |price, charged, permille, expected: &[(&str, i64)]| {
            let rows = rows("acme", Micros(price), Micros(charged), permille);
            assert_eq!(rows.iter().map(|(_, amount)| amount).sum::<i64>(), 0);
            let shown: Vec<(&str, i64)> =
                rows.iter().map(|(account, amount)| (account.as_str(), *amount)).collect();
            assert_eq!(shown, expected);
        };
        check(1_000, 1_000, 0, &[("advertiser/acme", 1_000), ("revenue", -1_000)]);
        check(999, 999, 700, &[("advertiser/acme", 999), ("publisher", -699), ("revenue", -300)]);
        check(
            1_000,
            400,
            500,
            &[("advertiser/acme", 1_000), ("credit/acme", -600), ("publisher", -200), ("revenue", -200)],
        );
        check(1_000, 0, 500, &[("advertiser/acme", 1_000), ("credit/acme", -1_000)]);
        check(0, 0, 500, &[]);
    }
}
