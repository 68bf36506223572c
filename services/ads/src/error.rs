//! What can go wrong, from the caller's mistakes to our own faults.

use bowerbird_auction::{AuctionError, Micros};
use bowerbird_models_api::ModelError;
use bowerbird_scheduler::SchedulerError;

use crate::offpolicy::OffPolicyError;
use crate::{ConfigProblems, ImportProblems, PostbackError, TokenError};

/// Why the ad engine could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum AdsError {
    /// The configuration makes no sense. Ours to fix before start.
    #[error("ads configuration: {0}")]
    Config(ConfigProblems),
    /// A document was refused; nothing of it was taken over.
    #[error("{0}")]
    Import(ImportProblems),
    /// Nothing of that id is booked, or it was removed.
    #[error("there is no {level} {id}")]
    NotBooked {
        /// Which level was asked for, in words.
        level: &'static str,
        /// The id.
        id: String,
    },
    /// The id is in use, or was.
    #[error("there is a {level} {id} already, or there was: give another id, or change that one")]
    Taken {
        /// Which level, in words.
        level: &'static str,
        /// The id.
        id: String,
    },
    /// Somebody else changed it since the caller read it.
    #[error("it is at {what} {found}, not at {expected}: read it again")]
    Stale {
        /// `revision` or `version`.
        what: &'static str,
        /// The one that the caller knows.
        expected: i64,
        /// The one it has.
        found: i64,
    },
    /// An idempotency key came again with another body.
    #[error("this idempotency key came with another body before: use a new key for a new call")]
    KeyReused,
    /// The request text is longer than a page.
    #[error("text has {found} bytes, the limit is {limit}: send the query or a passage of the page")]
    TextTooLong {
        /// Largest accepted size in bytes.
        limit: usize,
        /// Size of the text in bytes.
        found: usize,
    },
    /// The key of a person is empty or too long.
    #[error("user has {found} bytes, expected 1 to {limit}: send an id or its hash, or leave it out")]
    UserKey {
        /// Largest accepted size in bytes.
        limit: usize,
        /// Size of the key in bytes.
        found: usize,
    },
    /// More topics than a text is about.
    #[error("topics has {found} ids, the limit is {limit}: send the nearest ones, or leave them out")]
    TooManyTopics {
        /// Most that are accepted.
        limit: usize,
        /// Ids in the request.
        found: usize,
    },
    /// More ads than a page has.
    #[error("beside_ads has {found} ids, the limit is {limit}: send those that stand nearest")]
    TooManyAds {
        /// Most that are accepted.
        limit: usize,
        /// Ids in the request.
        found: usize,
    },
    /// The embedding in the request is not of the space the ads are embedded in.
    #[error("request embedding does not fit the ads: {0}")]
    Embedding(ModelError),
    /// A token is not one of ours. The caller's mistake, or a forgery.
    #[error("event token: {0}")]
    Token(#[from] TokenError),
    /// What an advertiser told of a conversion is refused. The caller's mistake, or a forgery.
    #[error("conversion: {0}")]
    Postback(#[from] PostbackError),
    /// The models could not embed ads at start or during an import.
    #[error("embedding the ads failed: {0}")]
    Encoders(#[from] SchedulerError),
    /// The database did not answer in time.
    #[error("the ad database is busy: try again")]
    Busy,
    /// The database failed.
    #[error("ad database: {0}")]
    Database(#[source] sqlx::Error),
    /// The database could not be brought to this version's tables.
    #[error("migrating the ad database: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// A value in the database is not what the engine wrote.
    #[error("ad database is damaged: {what}")]
    Damaged {
        /// Table, row and what is wrong with it.
        what: String,
    },
    /// The file or folder of the database could not be made.
    #[error("cannot create {path}: {source}")]
    File {
        /// Path of the file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system gave no random numbers for a signing key.
    #[error("no random numbers for a signing key: {0}")]
    Randomness(String),
    /// Our own candidates were refused by the auction.
    #[error("auction: {0}")]
    Auction(#[from] AuctionError),
    /// Rules that are to be judged make no sense. The caller's mistake.
    #[error("rules to judge: {0}")]
    OtherRules(AuctionError),
    /// The log says nothing of who bid less than its reserve. The caller's mistake.
    #[error("reserve is {found}, the log begins at {logged}: who bid less took no part and cannot be judged")]
    ReserveNotLogged {
        /// The reserve asked for.
        found: Micros,
        /// The one that was in force.
        logged: Micros,
    },
    /// The log is no basis for an estimate.
    #[error("off-policy evaluation: {0}")]
    OffPolicy(#[from] OffPolicyError),
    /// The vectors of the ads could not be laid out for scanning.
    #[error("ad vectors: {0}")]
    Vectors(#[from] bowerbird_vector::VectorError),
    /// A background task of ours ended without a result.
    #[error("an internal task failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl From<sqlx::Error> for AdsError {
    fn from(error: sqlx::Error) -> Self {
        let busy = match &error {
            sqlx::Error::PoolTimedOut => true,
            sqlx::Error::Database(inner) => inner.code().is_some_and(|code| is_busy(&code)),
            _ => false,
        };
        if busy { Self::Busy } else { Self::Database(error) }
    }
}

/// Whether the same call may succeed in a moment.
fn is_busy(code: &str) -> bool {
    if code.len() == 5 {
        // PostgreSQL: serialization failure, deadlock, lock not available in time, too many connections, starting up.
        return matches!(code, "40001" | "40P01" | "55P03" | "53300" | "57P03");
    }
    // SQLITE_BUSY and SQLITE_LOCKED, with their extended codes.
    code.parse::<i32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6))
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_told_from_broken_on_both_databases() {
        for busy in ["5", "6", "261", "517", "40001", "40P01", "55P03"] {
            assert!(is_busy(busy), "{busy}");
        }
        for broken in ["1", "11", "14", "787", "23505", "42P01", "25006", ""] {
            assert!(!is_busy(broken), "{broken}");
        }
    }
}
