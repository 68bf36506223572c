//! The database file as a whole: a copy while it is used, and whether it is sound.
//!
//! For files only. A PostgreSQL server has its own means for both: `pg_dump`, and checksums of its pages.

use std::path::Path;
use std::time::Duration;

use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use crate::AdsError;
use crate::store::create_private;

/// Longest wait for a lock of another connection.
const WAIT: Duration = Duration::from_secs(5);

/// Copies the database at `from` to the new file `to`, readable by its owner only, as of one transaction. Whoever has
/// it open goes on reading and writing.
pub async fn copy_database(from: &Path, to: &Path) -> Result<(), AdsError> {
    let target = to.to_str().ok_or_else(|| AdsError::File {
        path: to.display().to_string(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidFilename, "the path is not UTF-8"),
    })?;
    // It holds the signing key; SQLite fills an empty file without changing its permissions.
    create_private(to).map_err(|source| AdsError::File { path: target.to_owned(), source })?;
    let mut connection = open(from).await?;
    sqlx::query("VACUUM INTO $1").bind(target).execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

/// What SQLite finds wrong with the database at `path`: nothing when it is sound, else its messages, at most 100.
pub async fn check_database(path: &Path) -> Result<Vec<String>, AdsError> {
    let mut connection = open(path).await?;
    let mut found: Vec<String> =
        sqlx::query_scalar("PRAGMA integrity_check").fetch_all(&mut connection).await?;
    let foreign: Vec<(String, Option<i64>, String, i64)> =
        sqlx::query_as("PRAGMA foreign_key_check").fetch_all(&mut connection).await?;
    connection.close().await?;
    found.retain(|message| message != "ok");
    found.extend(foreign.into_iter().map(|(table, row, parent, _)| match row {
        Some(row) => format!("row {row} of {table} names a row of {parent} that is not there"),
        None => format!("a row of {table} names a row of {parent} that is not there"),
    }));
    found.truncate(100);
    Ok(found)
}

async fn open(path: &Path) -> Result<SqliteConnection, AdsError> {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(false).busy_timeout(WAIT);
    Ok(SqliteConnection::connect_with(&options).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DatabaseAddress;
    use crate::store::Store;

    #[tokio::test]
    async fn a_copy_is_sound_private_and_whole_and_damage_is_told() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let (path, copy) = (folder.path().join("ads.sqlite"), folder.path().join("copy.sqlite"));
        let store = Store::open(&DatabaseAddress::File(path.clone()), 1).await.expect("opens");
        store.keys().await.expect("a key is made");
        copy_database(&path, &copy).await.expect("copies while it is open");
        assert!(copy_database(&path, &copy).await.is_err(), "it does not overwrite");
        let key = |store: Store| async move {
            let key: String = sqlx::query_scalar("SELECT hmac_key FROM secrets")
                .fetch_one(&store.reader)
                .await
                .expect("one key");
            store.close().await;
            key
        };
        let original = key(store).await;
        assert_eq!(
            key(Store::open(&DatabaseAddress::File(copy.clone()), 1).await.expect("opens")).await,
            original
        );
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(&copy).expect("exists").permissions().mode();
            assert_eq!(mode & 0o077, 0, "others may read the signing key: {mode:o}");
        }
        assert_eq!(check_database(&copy).await.expect("checks"), Vec::<String>::new());
        let mut bytes = std::fs::read(&copy).expect("reads");
        let middle = bytes.len() / 2;
        bytes[middle..].fill(0xa5);
        std::fs::write(&copy, bytes).expect("writes");
        assert!(check_database(&copy).await.map_or(true, |found| !found.is_empty()));
        assert!(check_database(&folder.path().join("absent.sqlite")).await.is_err());
    }
}
