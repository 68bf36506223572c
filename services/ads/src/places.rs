//! Frequency caps in the transaction that gives a place out: exact for any number of servers over one database.
//!
//! The table in memory ([`crate::caps`]) keeps out at once who was shown enough by this server; whether there is room is
//! decided here, by what all of them have written down: impressions within the window, and places given out that were
//! not seen yet and have not run out.

use sqlx::{AnyConnection, AssertSqlSafe};

use crate::AdsError;
use crate::caps::{Scope, Scopes, UserHash};

/// One cap that a winner stands under.
pub(crate) struct Asked {
    /// Position of the winner.
    pub winner: usize,
    column: &'static str,
    id: String,
    impressions: i64,
    hours: i64,
}

/// The caps of the winner at `winner`.
pub(crate) fn asked(winner: usize, scopes: &Scopes<'_>) -> impl Iterator<Item = Asked> {
    scopes.iter().map(move |(scope, cap)| {
        let (column, id) = match scope {
            Scope::Ad(id) => ("ad", id),
            Scope::Campaign(id) => ("campaign", id),
            Scope::Account(id) => ("advertiser", id),
        };
        let (impressions, hours) = (i64::from(cap.impressions), i64::from(cap.hours));
        Asked { winner, column, id: (*id).to_owned(), impressions, hours }
    })
}

/// The first winner that stands under a cap without room for `person` at `now_ms`, Unix milliseconds; places run out
/// `hold_ms` after they were given. Those of the auction itself do not count: it comes in its own stead.
pub(crate) async fn without_room(
    db: &mut AnyConnection,
    person: UserHash,
    auction_id: &str,
    caps: &[Asked],
    now_ms: i64,
    hold_ms: i64,
) -> Result<Option<usize>, AdsError> {
    for cap in caps {
        // As in memory, the hour in which the window begins counts whole.
        let begins = (now_ms / 3_600_000 - cap.hours) * 3_600_000;
        let seen = "SELECT 1 FROM events e WHERE e.nonce = s.nonce AND e.kind = 'impression' \
                    AND e.status <> 'invalid'";
        let statement = format!(
            "SELECT COUNT(*) FROM served s WHERE s.person = $1 AND s.{} = $2 AND s.auction_id <> $3 \
             AND s.at >= $4 AND (EXISTS ({seen} AND e.at >= $5) OR (s.at > $6 AND NOT EXISTS ({seen})))",
            cap.column
        );
        let used: i64 = sqlx::query_scalar(AssertSqlSafe(statement))
            .bind(person.to_hex())
            .bind(cap.id.clone())
            .bind(auction_id.to_owned())
            .bind(begins - hold_ms)
            .bind(begins)
            .bind(now_ms - hold_ms)
            .fetch_one(&mut *db)
            .await?;
        if used >= cap.impressions {
            return Ok(Some(cap.winner));
        }
    }
    Ok(None)
}
