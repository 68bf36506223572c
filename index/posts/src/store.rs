//! The durable post store: one redb file, one write transaction per batch.
//!
//! Tables: `posts` (ordinal to record, see `record.rs`), `ids` (id to ordinal), `counts` (ordinal to likes,
//! reposts, replies, views) and `meta` (`format`, `next_ordinal`, `sequence`). `posts` and `counts` hold live
//! ordinals only. Invariants: every id points at a record that carries it, ordinals below `next_ordinal` were
//! given out once, `sequence` counts the transactions.
//!
//! Commits are immediate and in two phases: with one phase, redb answers a damaged newest commit by going back
//! to the one before, which would lose acknowledged posts without a word. A panic inside redb, which a damaged
//! file can cause, is caught and reported as damage. After an I/O error (a full disk, say) redb answers nothing
//! until the file is opened again, so it is opened again at once and reads go on.

mod check;
mod copy;
mod open;
mod write;

pub use check::StoreCheck;
pub use copy::StoreCopy;

use std::any::Any;
use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTableMetadata, TableDefinition,
};
use roaring::RoaringBitmap;

use crate::{Applied, Counts, Op, Ordinal, PostId, StoreError, StoredPost, record};

type CountsRow = (u64, u64, u64, u64);

const POSTS: TableDefinition<u32, &[u8]> = TableDefinition::new("posts");
const IDS: TableDefinition<&str, u32> = TableDefinition::new("ids");
const COUNTS: TableDefinition<u32, CountsRow> = TableDefinition::new("counts");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// Posts read by [`PostStore::scan`] before they are handed on.
const SCAN_CHUNK: usize = 256;

/// How a store uses the machine.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// Pages kept in memory, in bytes. The page cache of the system serves the rest.
    pub cache_bytes: usize,
    /// Files up to this size are read and checked whole at open (about 1 GB/s); larger ones only after a crash.
    /// Every record carries a checksum of its own besides.
    pub verify_bytes: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { cache_bytes: 64 << 20, verify_bytes: 2 << 30 }
    }
}

/// The durable store of posts: the source of truth that indexes are rebuilt from.
///
/// Reads see the last committed batch and never wait for a writer; writers take turns. One process at a time.
#[derive(Debug)]
pub struct PostStore {
    path: PathBuf,
    options: StoreOptions,
    /// Absent while dropping, and when it could not be opened again after an I/O error.
    database: RwLock<Option<Database>>,
    /// An I/O error was met: the database answers nothing until it is opened again.
    failed: AtomicBool,
}

impl PostStore {
    /// Opens the store in `dir` with [`StoreOptions::default`]; directory and store are created when absent.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(dir, StoreOptions::default())
    }

    /// Opens the store in `dir`; directory and store are created when absent.
    ///
    /// Fails with [`StoreError::Directory`], [`StoreError::NotAStore`], [`StoreError::WrongFormat`],
    /// [`StoreError::Locked`] or [`StoreError::Damaged`], each naming the file.
    pub fn open_with(dir: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        open::open(dir, options)
    }

    /// Applies `ops` in order, in one durable transaction: when this returns, all of them survive a crash; when
    /// it fails, none is seen.
    ///
    /// Several ops on one id act one after the other. An upsert of the same text and metadata keeps its ordinal.
    /// Without ops nothing is written and the sequence stays.
    pub fn apply(&self, ops: &[Op]) -> Result<Applied, StoreError> {
        if ops.is_empty() {
            return Ok(Applied { outcomes: Vec::new(), sequence: self.sequence()? });
        }
        let mut unconfirmed = None;
        for again in [true, false] {
            let result = self.guarded(|database| write::apply(self, database, ops, &mut unconfirmed));
            let Err(error) = result else { return result };
            // A commit that reported an error may have reached the file all the same: then it is applied.
            match unconfirmed.take() {
                Some(applied) if self.sequence()? == applied.sequence => return Ok(applied),
                _ if again && matches!(error, StoreError::Reopened { .. }) => {}
                _ => return Err(error),
            }
        }
        Err(StoreError::Reopened { path: self.path.clone() })
    }

    /// The post with this id.
    pub fn get(&self, id: &PostId) -> Result<Option<StoredPost>, StoreError> {
        self.read(|view| match view.ids.get(id.as_str()).map_err(|e| self.fault(e))? {
            Some(ordinal) => view.post(self, Ordinal(ordinal.value())),
            None => Ok(None),
        })
    }

    /// The posts with these ordinals, in the same order, all from one snapshot; `None` where the ordinal is dead.
    pub fn get_many(&self, ordinals: &[Ordinal]) -> Result<Vec<Option<StoredPost>>, StoreError> {
        self.read(|view| ordinals.iter().map(|&ordinal| view.post(self, ordinal)).collect())
    }

    /// The ordinal of a post.
    pub fn ordinal(&self, id: &PostId) -> Result<Option<Ordinal>, StoreError> {
        self.read(|view| {
            Ok(view.ids.get(id.as_str()).map_err(|e| self.fault(e))?.map(|found| Ordinal(found.value())))
        })
    }

    /// Number of live posts.
    pub fn len(&self) -> Result<u64, StoreError> {
        self.read(|view| view.ids.len().map_err(|e| self.fault(e)))
    }

    /// Whether no post is alive.
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(self.len()? == 0)
    }

    /// The ordinal that the next new text gets.
    pub fn next_ordinal(&self) -> Result<Ordinal, StoreError> {
        self.read(|view| Ok(Ordinal(view.next_ordinal(self)?)))
    }

    /// Number of the last transaction; 0 in a new store.
    pub fn sequence(&self) -> Result<u64, StoreError> {
        self.read(|view| view.meta(self, "sequence"))
    }

    /// Visits the live posts from ordinal `from` on, ascending, all from one snapshot, until `visit` breaks.
    ///
    /// Holds a few hundred posts at a time.
    pub fn scan(
        &self,
        from: Ordinal,
        visit: &mut dyn FnMut(StoredPost) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.scan_results(from, &mut |_, post| match post {
            Ok(post) => Ok(visit(post)),
            Err(error) => Err(error),
        })
    }

    /// The ordinals whose records cannot be read, ascending: what a repair must load again.
    pub fn damaged_records(&self) -> Result<Vec<Ordinal>, StoreError> {
        let mut damaged = Vec::new();
        self.scan_results(Ordinal(0), &mut |ordinal, post| {
            match post {
                Ok(_) => {}
                Err(StoreError::DamagedRecord { .. }) => damaged.push(ordinal),
                Err(other) => return Err(other),
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(damaged)
    }

    /// The ordinals of all live posts.
    pub fn live_ordinals(&self) -> Result<RoaringBitmap, StoreError> {
        self.read(|view| {
            let mut live = RoaringBitmap::new();
            for entry in view.counts.range::<u32>(..).map_err(|e| self.fault(e))? {
                live.insert(entry.map_err(|e| self.fault(e))?.0.value());
            }
            Ok(live)
        })
    }

    fn scan_results(
        &self,
        from: Ordinal,
        visit: &mut dyn FnMut(Ordinal, Result<StoredPost, StoreError>) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        let view = self.guarded(|database| View::new(self, database))?;
        let mut next = Some(from.0);
        while let Some(start) = next {
            // Read inside the guard, visit outside: a panic of the visitor is not damage.
            let chunk = self.guarded(|_| {
                let mut chunk = Vec::with_capacity(SCAN_CHUNK);
                for entry in view.posts.range(start..).map_err(|e| self.fault(e))?.take(SCAN_CHUNK) {
                    let (ordinal, stored) = entry.map_err(|e| self.fault(e))?;
                    let ordinal = Ordinal(ordinal.value());
                    chunk.push((ordinal, view.decode(self, ordinal, stored.value())));
                }
                Ok(chunk)
            })?;
            next = match chunk.last() {
                Some((last, _)) if chunk.len() == SCAN_CHUNK => last.0.checked_add(1),
                _ => None,
            };
            for (ordinal, post) in chunk {
                if visit(ordinal, post)?.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn read<T>(&self, read: impl Fn(&View) -> Result<T, StoreError>) -> Result<T, StoreError> {
        match self.guarded(|database| read(&View::new(self, database)?)) {
            Err(StoreError::Reopened { .. }) => self.guarded(|database| read(&View::new(self, database)?)),
            result => result,
        }
    }

    /// Runs `work`, turning a panic of the database into [`StoreError::Damaged`]; after an I/O error the database
    /// is opened again.
    fn guarded<T>(&self, work: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.reopen_if_failed()?;
        let result = {
            let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
            let Some(database) = &*database else {
                return Err(self.database_error("the store is closed"));
            };
            guard(&self.path, || work(database))
        };
        if result.is_err()
            && let Err(error) = self.reopen_if_failed()
        {
            tracing::error!(%error, "the post store could not be opened again; the next use tries");
        }
        result
    }

    /// Closes and opens the database when it met an I/O error. Reads of before fail with
    /// [`StoreError::Reopened`].
    fn reopen_if_failed(&self) -> Result<(), StoreError> {
        if !self.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut place = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if !self.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        let old = place.take();
        drop(catch_unwind(AssertUnwindSafe(|| drop(old))));
        *place = Some(open::existing(&self.path, self.options)?);
        self.failed.store(false, Ordering::Release);
        tracing::warn!(path = %self.path.display(), "opened the post store again after an I/O error");
        Ok(())
    }

    fn fault(&self, error: impl Into<redb::Error>) -> StoreError {
        let error = error.into();
        if matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo) {
            self.failed.store(true, Ordering::Release);
        }
        fault(&self.path, error)
    }

    fn database_error(&self, message: &str) -> StoreError {
        StoreError::Database { path: self.path.clone(), message: message.to_owned() }
    }
}

impl Drop for PostStore {
    fn drop(&mut self) {
        // Closing writes; after damage it may panic like any other access.
        let database = self.database.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if catch_unwind(AssertUnwindSafe(|| drop(database))).is_err() {
            tracing::error!(path = %self.path.display(), "closing the damaged post store failed");
        }
    }
}

/// One read transaction with its tables open.
struct View {
    posts: ReadOnlyTable<u32, &'static [u8]>,
    ids: ReadOnlyTable<&'static str, u32>,
    counts: ReadOnlyTable<u32, CountsRow>,
    meta: ReadOnlyTable<&'static str, u64>,
    /// Keeps the snapshot.
    _transaction: ReadTransaction,
}

impl View {
    fn new(store: &PostStore, database: &Database) -> Result<Self, StoreError> {
        let transaction = database.begin_read().map_err(|e| store.fault(e))?;
        Ok(Self {
            posts: transaction.open_table(POSTS).map_err(|e| store.fault(e))?,
            ids: transaction.open_table(IDS).map_err(|e| store.fault(e))?,
            counts: transaction.open_table(COUNTS).map_err(|e| store.fault(e))?,
            meta: transaction.open_table(META).map_err(|e| store.fault(e))?,
            _transaction: transaction,
        })
    }

    fn meta(&self, store: &PostStore, key: &str) -> Result<u64, StoreError> {
        match self.meta.get(key).map_err(|e| store.fault(e))? {
            Some(value) => Ok(value.value()),
            None => Err(damaged(&store.path, format!("meta.{key} is missing"))),
        }
    }

    fn next_ordinal(&self, store: &PostStore) -> Result<u32, StoreError> {
        let next = self.meta(store, "next_ordinal")?;
        u32::try_from(next).map_err(|_| damaged(&store.path, format!("meta.next_ordinal is {next}")))
    }

    fn post(&self, store: &PostStore, ordinal: Ordinal) -> Result<Option<StoredPost>, StoreError> {
        match self.posts.get(ordinal.0).map_err(|e| store.fault(e))? {
            Some(stored) => self.decode(store, ordinal, stored.value()).map(Some),
            None => Ok(None),
        }
    }

    fn decode(&self, store: &PostStore, ordinal: Ordinal, stored: &[u8]) -> Result<StoredPost, StoreError> {
        let damaged =
            |message| StoreError::DamagedRecord { path: store.path.clone(), ordinal: ordinal.0, message };
        let counts = self.counts.get(ordinal.0).map_err(|e| store.fault(e))?;
        let counts = counts.ok_or_else(|| damaged("its counters are missing".to_owned()))?;
        let post = record::decode(ordinal, stored, counts_of(counts.value())).map_err(damaged)?;
        Ok(StoredPost { ordinal, post })
    }
}

fn counts_of((likes, reposts, replies, views): CountsRow) -> Counts {
    Counts { likes, reposts, replies, views }
}

fn row_of(counts: Counts) -> CountsRow {
    (counts.likes, counts.reposts, counts.replies, counts.views)
}

fn damaged(path: &Path, message: impl Into<String>) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), message: message.into() }
}

fn guard<T>(path: &Path, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(damaged(path, panic_text(&*panic))))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown panic").to_owned()
}

fn fault(path: &Path, error: redb::Error) -> StoreError {
    match error {
        redb::Error::Corrupted(message) => damaged(path, message),
        redb::Error::Io(source) if cut_short(&source) => damaged(path, source.to_string()),
        redb::Error::Io(source) => StoreError::Io { path: path.to_owned(), source },
        redb::Error::PreviousIo | redb::Error::DatabaseClosed => {
            StoreError::Reopened { path: path.to_owned() }
        }
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
            StoreError::Locked { path: path.to_owned() }
        }
        error @ (redb::Error::TableDoesNotExist(_)
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TypeDefinitionChanged { .. }) => damaged(path, error.to_string()),
        other => StoreError::Database { path: path.to_owned(), message: other.to_string() },
    }
}

fn cut_short(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput)
}

#[cfg(test)]
mod tests;
