//! The file of proven past queries: `queries.redb` in the data directory.
//!
//! Tables: `queries` (text to last day shown, last day asked, weight) and `meta` (`format`). Nothing in it comes from
//! fewer people than `min_clients`, and nothing says who they were. It is written now and then, in one transaction:
//! after a crash the last half minute of counting may be missing, which costs nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Database, ReadableTable, TableDefinition};

use super::log::{Proof, QueryLogError};

/// Version of the tables.
const FORMAT: u64 = 1;
/// Memory for pages; the file is small.
const CACHE_BYTES: usize = 1 << 20;

const QUERIES: TableDefinition<&str, (u32, u32, f32)> = TableDefinition::new("queries");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

pub(super) struct QueryFile {
    path: PathBuf,
    database: Database,
}

impl QueryFile {
    /// Opens or makes the file; gives what it holds. One that is damaged, or that another version wrote, is renamed to
    /// `queries.redb.damaged` and a new one made.
    pub fn open(path: &Path) -> Result<(Self, Vec<(String, Proof)>), QueryLogError> {
        let first = Self::open_as_it_is(path);
        let broken = match first {
            Ok(opened) => return Ok(opened),
            Err(error) => error,
        };
        if !path.is_file() {
            return Err(broken);
        }
        let mut aside = path.as_os_str().to_owned();
        aside.push(".damaged");
        std::fs::rename(path, &aside).map_err(|error| failed(path, &error))?;
        tracing::warn!(error = %broken, aside = %Path::new(&aside).display(), "past queries start again");
        Self::open_as_it_is(path)
    }

    fn open_as_it_is(path: &Path) -> Result<(Self, Vec<(String, Proof)>), QueryLogError> {
        guard(path, || {
            let database = redb::Builder::new()
                .set_cache_size(CACHE_BYTES)
                .create(path)
                .map_err(|error| failed(path, &error))?;
            let file = Self { path: path.to_owned(), database };
            let stored = file.load()?;
            Ok((file, stored))
        })
    }

    fn load(&self) -> Result<Vec<(String, Proof)>, QueryLogError> {
        let fail = |error: redb::Error| failed(&self.path, &error);
        let transaction = self.database.begin_write().map_err(|e| fail(e.into()))?;
        let mut stored = Vec::new();
        {
            let mut meta = transaction.open_table(META).map_err(|e| fail(e.into()))?;
            let found = meta.get("format").map_err(|e| fail(e.into()))?.map(|format| format.value());
            match found {
                Some(FORMAT) => {}
                Some(found) => {
                    let path = self.path.clone();
                    return Err(QueryLogError::Format { path, expected: FORMAT, found });
                }
                None => {
                    meta.insert("format", FORMAT).map_err(|e| fail(e.into()))?;
                }
            }
            let queries = transaction.open_table(QUERIES).map_err(|e| fail(e.into()))?;
            for row in queries.iter().map_err(|e| fail(e.into()))? {
                let (text, proof) = row.map_err(|e| fail(e.into()))?;
                let (until, asked, weight) = proof.value();
                let weight = if weight.is_finite() { weight.max(0.0) } else { 0.0 };
                stored.push((text.value().to_owned(), Proof { until, asked, weight }));
            }
        }
        transaction.commit().map_err(|e| fail(e.into()))?;
        Ok(stored)
    }

    /// Stores proofs, and removes queries without one.
    pub fn write(&self, changes: &[(String, Option<Proof>)]) -> Result<(), QueryLogError> {
        let fail = |error: redb::Error| failed(&self.path, &error);
        guard(&self.path, || {
            let transaction = self.database.begin_write().map_err(|e| fail(e.into()))?;
            {
                let mut queries = transaction.open_table(QUERIES).map_err(|e| fail(e.into()))?;
                for (text, proof) in changes {
                    match proof {
                        Some(Proof { until, asked, weight }) => {
                            queries
                                .insert(text.as_str(), (*until, *asked, *weight))
                                .map_err(|e| fail(e.into()))?;
                        }
                        None => {
                            queries.remove(text.as_str()).map_err(|e| fail(e.into()))?;
                        }
                    }
                }
            }
            transaction.commit().map_err(|e| fail(e.into()))
        })
    }

    /// Everything that is stored, for tests.
    #[cfg(test)]
    pub fn stored(&self) -> Vec<String> {
        let transaction = redb::ReadableDatabase::begin_read(&self.database).expect("reads");
        let queries = transaction.open_table(QUERIES).expect("a table");
        queries.iter().expect("rows").map(|row| row.expect("a row").0.value().to_owned()).collect()
    }
}

fn failed(path: &Path, error: &dyn std::error::Error) -> QueryLogError {
    QueryLogError::File { path: path.to_owned(), message: error.to_string() }
}

/// Runs `work`; a panic of the library, which a damaged file can cause, is an error that names the file.
fn guard<T>(path: &Path, work: impl FnOnce() -> Result<T, QueryLogError>) -> Result<T, QueryLogError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(QueryLogError::File { path: path.to_owned(), message: "the file is damaged".to_owned() })
    })
}
