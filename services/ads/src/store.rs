//! The database: opening, migrating, signing keys, and who may write when.
//!
//! Statements keep to what SQLite and PostgreSQL share (`$1` parameters, `ON CONFLICT`, text keys), and run through
//! the `Any` driver of sqlx, which asks for three things: a boolean is read as `CAST(… AS INTEGER)`, since SQLite's
//! has no type of its own there; a sum as `CAST(… AS BIGINT)`; and parameters are numbered by hand. What the two do
//! not share is in this file.
//!
//! | | SQLite | PostgreSQL |
//! |---|---|---|
//! | who writes | one connection, `BEGIN IMMEDIATE` | whoever holds the advisory lock of the transaction |
//! | what a writer sees | the last commit, until its own | the same: the lock is taken before the first statement |
//! | what a reader sees | one snapshot a transaction | the same: `REPEATABLE READ` |
//! | a commit is on the disk | `synchronous = FULL` | `synchronous_commit = on` |

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use rand::TryRngCore;
use rand::rngs::OsRng;
use sqlx::ConnectOptions;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions, install_default_drivers};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{Any, AnyConnection, AnyPool, Connection as _, Executor, SqlSafeStr, Transaction};
use url::Url;

use crate::config::MAX_TTL;
use crate::time::millis;
use crate::token::Keys;
use crate::{AdsError, DatabaseAddress};

/// Longest wait for a connection, and for a lock of another process.
const WAIT: Duration = Duration::from_secs(5);

/// The advisory lock of whoever writes: the letters of "bowerads". Locks are kept by database, so others on the same
/// server are not in the way.
const WRITER_LOCK: i64 = i64::from_be_bytes(*b"bowerads");

/// A connection to either database.
pub(crate) type Connection = AnyConnection;
/// A transaction on either database.
pub(crate) type Tx<'c> = Transaction<'c, Any>;

/// Connections that write and connections that read.
///
/// One transaction writes at a time. SQLite knows nothing else, and on one connection writers queue first come first
/// served, which is fairer and faster than polling its lock. PostgreSQL could do more, but then every statement
/// would have to hold against every other at `READ COMMITTED`; with one lock for the whole transaction they are
/// exact as they stand, for any number of processes, and nothing can deadlock. Readers see the last commit and are
/// never blocked.
pub(crate) struct Store {
    pub reader: AnyPool,
    writer: AnyPool,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sqlite,
    Postgres,
}

impl Store {
    /// Opens the database, creating a file readable by its owner only when there is none, and migrates it.
    pub async fn open(address: &DatabaseAddress, readers: u32) -> Result<Self, AdsError> {
        install_default_drivers();
        let (kind, url) = match address {
            DatabaseAddress::File(path) => (Kind::Sqlite, file_url(path)?),
            DatabaseAddress::Postgres(url) => (Kind::Postgres, url.clone()),
        };
        let options = AnyConnectOptions::from_url(&url)?;
        if kind == Kind::Postgres {
            // A pool would try again until it gives up, and not say why.
            options.connect().await?.close().await?;
        }
        let pool = |size: u32, settings: &'static str| {
            AnyPoolOptions::new().max_connections(size).acquire_timeout(WAIT).after_connect(
                move |connection, _| async move { connection.execute(settings).await.map(drop) }.boxed(),
            )
        };
        // sqlx itself turns foreign keys of SQLite on and waits five seconds for its lock. A commit is on the disk
        // before the link it pays for is given out.
        let (write, read) = match kind {
            Kind::Sqlite => {
                ("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL", "PRAGMA query_only = TRUE")
            }
            Kind::Postgres => (
                "SET lock_timeout = '5s'; SET synchronous_commit = on",
                "SET default_transaction_read_only = on",
            ),
        };
        // Writers of PostgreSQL queue for its lock, so that another process gets its turn.
        let writer =
            pool(if kind == Kind::Sqlite { 1 } else { 4 }, write).connect_with(options.clone()).await?;
        match kind {
            Kind::Sqlite => {
                // Under the lock of a writer: sqlx has none here, and another process may be opening the same file.
                let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
                migrations().run_direct(None, &mut *tx, false).await?;
                tx.commit().await?;
            }
            Kind::Postgres => migrations().run(&writer).await?,
        }
        let reader = pool(readers, read).connect_with(options).await?;
        Ok(Self { reader, writer, kind })
    }

    /// A transaction that may write. It waits for the writer before it, so that what it reads is what it changes.
    pub async fn begin_write(&self) -> Result<Tx<'static>, AdsError> {
        match self.kind {
            Kind::Sqlite => Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?),
            Kind::Postgres => {
                let mut tx = self.writer.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
                sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(WRITER_LOCK).execute(&mut *tx).await?;
                Ok(tx)
            }
        }
    }

    /// A transaction that reads one state from beginning to end.
    pub async fn begin_read(&self) -> Result<Tx<'static>, AdsError> {
        Ok(self
            .reader
            .begin_with(match self.kind {
                Kind::Sqlite => "BEGIN",
                Kind::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            })
            .await?)
    }

    /// The signing keys; the first is made and stored at the first open.
    pub async fn keys(&self) -> Result<Keys, AdsError> {
        let mut tx = self.begin_write().await?;
        let mut keys = read_keys(&mut tx).await?;
        if keys.is_empty() {
            let key = store_key(&mut tx, 1, Timestamp::now()).await?;
            keys.insert(1, key);
        }
        tx.commit().await?;
        Keys::new(keys).ok_or_else(|| AdsError::Damaged { what: "secrets is empty".into() })
    }

    /// The secret for hashing what names a person; made at the first open and never replaced, so that frequency caps
    /// outlive a rotation of the signing keys.
    pub async fn user_secret(&self) -> Result<[u8; 32], AdsError> {
        let mut tx = self.begin_write().await?;
        let known: Option<String> = sqlx::query_scalar("SELECT hmac_key FROM secrets WHERE kid = $1")
            .bind(USER_SECRET)
            .fetch_optional(&mut *tx)
            .await?;
        let secret = match known {
            Some(key) => decode_key(USER_SECRET, &key)?,
            None => store_key(&mut tx, USER_SECRET, Timestamp::now()).await?,
        };
        tx.commit().await?;
        Ok(secret)
    }

    /// Makes the next signing key and returns its number with all keys. Keys that were replaced longer ago than any link
    /// lives are forgotten.
    pub async fn rotate_key(&self, now: Timestamp) -> Result<(u16, Keys), AdsError> {
        let mut tx = self.begin_write().await?;
        let known = read_keys(&mut tx).await?;
        let last = known.last_key_value().map_or(0, |(kid, _)| *kid);
        let kid = last
            .checked_add(1)
            .ok_or_else(|| AdsError::Damaged { what: "secrets has used up its numbers".into() })?;
        store_key(&mut tx, i64::from(kid), now).await?;
        // A key signs until the next is made, and what it signed lives no longer than MAX_TTL.
        sqlx::query("DELETE FROM secrets WHERE kid < (SELECT MAX(kid) FROM secrets WHERE created_at <= $1)")
            .bind(millis(now).saturating_sub(i64::try_from(MAX_TTL.as_millis()).unwrap_or(i64::MAX)))
            .execute(&mut *tx)
            .await?;
        let keys = read_keys(&mut tx).await?;
        tx.commit().await?;
        Ok((kid, Keys::new(keys).ok_or_else(|| AdsError::Damaged { what: "secrets is empty".into() })?))
    }

    /// Waits for running statements and closes every connection.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }
}

/// Number of the row that holds the secret for hashing people; signing keys are numbered from 1.
const USER_SECRET: i64 = 0;

async fn read_keys(db: &mut Connection) -> Result<BTreeMap<u16, [u8; 32]>, AdsError> {
    let rows: Vec<(i64, String)> =
        sqlx::query_as("SELECT kid, hmac_key FROM secrets WHERE kid > 0 ORDER BY kid").fetch_all(db).await?;
    let mut keys = BTreeMap::new();
    for (kid, key) in rows {
        let number = u16::try_from(kid)
            .map_err(|_| AdsError::Damaged { what: format!("secrets row {kid} has no usable number") })?;
        keys.insert(number, decode_key(kid, &key)?);
    }
    Ok(keys)
}

fn decode_key(kid: i64, key: &str) -> Result<[u8; 32], AdsError> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(key, &mut bytes)
        .map_err(|_| AdsError::Damaged { what: format!("secrets row {kid} is not a 32-byte key") })?;
    Ok(bytes)
}

async fn store_key(db: &mut Connection, kid: i64, now: Timestamp) -> Result<[u8; 32], AdsError> {
    let mut key = [0; 32];
    OsRng.try_fill_bytes(&mut key).map_err(|error| AdsError::Randomness(error.to_string()))?;
    sqlx::query("INSERT INTO secrets (kid, hmac_key, created_at) VALUES ($1, $2, $3)")
        .bind(kid)
        .bind(hex::encode(key))
        .bind(millis(now))
        .execute(db)
        .await?;
    Ok(key)
}

fn migrations() -> Migrator {
    let step = |version, name: &'static str, sql: &'static str| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(vec![
        step(1, "catalog", include_str!("../migrations/0001_catalog.sql")),
        step(2, "money", include_str!("../migrations/0002_money.sql")),
        step(3, "campaigns", include_str!("../migrations/0003_campaigns.sql")),
        step(4, "ledger", include_str!("../migrations/0004_ledger.sql")),
        step(5, "reviews", include_str!("../migrations/0005_reviews.sql")),
        step(6, "wordings", include_str!("../migrations/0006_wordings.sql")),
        step(7, "costs", include_str!("../migrations/0007_costs.sql")),
        step(8, "persons", include_str!("../migrations/0008_persons.sql")),
    ])
}

/// The address of the file, which is created when absent.
fn file_url(path: &Path) -> Result<Url, AdsError> {
    let failed = |source| AdsError::File { path: path.display().to_string(), source };
    create_private(path).map_err(failed)?;
    let whole = path.canonicalize().map_err(failed)?;
    let name_problem = || failed(std::io::Error::new(std::io::ErrorKind::InvalidFilename, "not UTF-8"));
    // A path of its own kind of address: every character but the slash is written so that none separates.
    let mut url = Url::parse("sqlite:///").map_err(|error| AdsError::Database(sqlx::Error::config(error)))?;
    let escaped = whole.to_str().ok_or_else(name_problem)?.replace('%', "%25").replace('\\', "%5C");
    url.set_path(&escaped);
    Ok(url)
}

/// Makes folder and file when absent. The file holds the signing key, so others may not read it; SQLite gives its
/// side files the same permissions.
pub(crate) fn create_private(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_key_is_made_once_and_the_file_is_private() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("new %41?#\u{e4}").join("ads.sqlite");
        let at = DatabaseAddress::File(path.clone());
        let key = |store: Store| async move {
            store.keys().await.expect("keys");
            let key: String = sqlx::query_scalar("SELECT hmac_key FROM secrets")
                .fetch_one(&store.reader)
                .await
                .expect("one key");
            store.close().await;
            key
        };
        let first = key(Store::open(&at, 1).await.expect("opens")).await;
        let second = key(Store::open(&at, 1).await.expect("opens again")).await;
        assert_eq!(first.len(), 64);
        assert_eq!(first, second);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(&path).expect("exists").permissions().mode();
            assert_eq!(mode & 0o077, 0, "others may read the signing key: {mode:o}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_is_reported() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("ads.sqlite");
        std::fs::write(&path, "not a database, but long enough to be looked at as one".repeat(100))
            .expect("writes");
        assert!(Store::open(&DatabaseAddress::File(path), 1).await.is_err());
    }

    #[tokio::test]
    async fn a_damaged_key_is_reported() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let store =
            Store::open(&DatabaseAddress::File(folder.path().join("ads.sqlite")), 1).await.expect("opens");
        let mut tx = store.begin_write().await.expect("writes");
        sqlx::query("INSERT INTO secrets VALUES (1, 'short', 0)").execute(&mut *tx).await.expect("inserts");
        tx.commit().await.expect("commits");
        assert!(matches!(store.keys().await, Err(AdsError::Damaged { .. })));
    }
}
