//! The database: opening, migrating, signing keys, and who may write when.
//!
//! Statements keep to what SQLite and PostgreSQL share (`$1` parameters, `ON CONFLICT`, text keys). What is
//! SQLite's own is in this file.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rand::TryRngCore;
use rand::rngs::OsRng;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{SqlSafeStr, Sqlite, SqliteConnection, SqlitePool, Transaction};

use crate::AdsError;
use crate::time::millis;
use crate::token::Keys;

/// Longest wait for a connection, and for a lock of another process.
const WAIT: Duration = Duration::from_secs(5);

/// A connection to the database.
pub(crate) type Connection = SqliteConnection;
/// A transaction on it.
pub(crate) type Tx<'c> = Transaction<'c, Sqlite>;

/// One connection that writes and several that read.
///
/// SQLite takes one writer at a time; making writers queue for a single connection, first come first served, is
/// fairer and faster than letting them poll its lock. Readers see the last commit and are never blocked (WAL).
pub(crate) struct Store {
    pub reader: SqlitePool,
    writer: SqlitePool,
}

impl Store {
    /// Opens the database file at `path`, creating it readable by its owner only, and migrates it.
    pub async fn open(path: &Path, readers: u32) -> Result<Self, AdsError> {
        create_private(path).map_err(|source| AdsError::File { path: path.display().to_string(), source })?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A commit is on the disk before the link it pays for is given out.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(WAIT);
        let pool = |size: u32| SqlitePoolOptions::new().max_connections(size).acquire_timeout(WAIT);
        let writer = pool(1).connect_with(options.clone()).await?;
        migrations().run(&writer).await?;
        let reader = pool(readers).connect_with(options).await?;
        Ok(Self { reader, writer })
    }

    /// A transaction that may write. It takes the lock at once, so that what it reads is what it changes.
    pub async fn begin_write(&self) -> Result<Tx<'static>, AdsError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// A transaction that reads one state from beginning to end.
    pub async fn begin_read(&self) -> Result<Tx<'static>, AdsError> {
        Ok(self.reader.begin().await?)
    }

    /// The signing keys; the first is made and stored at the first open.
    pub async fn keys(&self) -> Result<Keys, AdsError> {
        let mut tx = self.begin_write().await?;
        let rows: Vec<(i64, String)> =
            sqlx::query_as("SELECT kid, hmac_key FROM secrets ORDER BY kid").fetch_all(&mut *tx).await?;
        let mut keys = BTreeMap::new();
        for (kid, key) in rows {
            let damaged = || AdsError::Damaged { what: format!("secrets row {kid} is not a 32-byte key") };
            let mut bytes = [0; 32];
            hex::decode_to_slice(&key, &mut bytes).map_err(|_| damaged())?;
            keys.insert(u16::try_from(kid).map_err(|_| damaged())?, bytes);
        }
        if keys.is_empty() {
            let mut key = [0; 32];
            OsRng.try_fill_bytes(&mut key).map_err(|error| AdsError::Randomness(error.to_string()))?;
            sqlx::query("INSERT INTO secrets (kid, hmac_key, created_at) VALUES (1, $1, $2)")
                .bind(hex::encode(key))
                .bind(millis(Timestamp::now()))
                .execute(&mut *tx)
                .await?;
            keys.insert(1, key);
        }
        tx.commit().await?;
        Keys::new(keys).ok_or_else(|| AdsError::Damaged { what: "secrets is empty".into() })
    }

    /// Waits for running statements and closes every connection.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }
}

fn migrations() -> Migrator {
    let step = |version, name: &'static str, sql: &'static str| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(vec![
        step(1, "catalog", include_str!("../migrations/0001_catalog.sql")),
        step(2, "money", include_str!("../migrations/0002_money.sql")),
        step(3, "campaigns", include_str!("../migrations/0003_campaigns.sql")),
    ])
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
        let path = folder.path().join("new").join("ads.sqlite");
        let key = |store: Store| async move {
            store.keys().await.expect("keys");
            let key: String = sqlx::query_scalar("SELECT hmac_key FROM secrets")
                .fetch_one(&store.reader)
                .await
                .expect("one key");
            store.close().await;
            key
        };
        let first = key(Store::open(&path, 1).await.expect("opens")).await;
        let second = key(Store::open(&path, 1).await.expect("opens again")).await;
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
        assert!(Store::open(&path, 1).await.is_err());
    }

    #[tokio::test]
    async fn a_damaged_key_is_reported() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let store = Store::open(&folder.path().join("ads.sqlite"), 1).await.expect("opens");
        let mut tx = store.begin_write().await.expect("writes");
        sqlx::query("INSERT INTO secrets VALUES (1, 'short', 0)").execute(&mut *tx).await.expect("inserts");
        tx.commit().await.expect("commits");
        assert!(matches!(store.keys().await, Err(AdsError::Damaged { .. })));
    }
}
