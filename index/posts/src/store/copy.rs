//! A copy of the whole store as of one transaction, while others are made.
//!
//! redb has no backup of an open file, and copying the file would catch pages of a commit under way. One read
//! transaction is copied table by table, in key order, into a fresh file.

use std::fs;
use std::path::Path;

use redb::{Builder, Durability, ReadOnlyTable, ReadableTableMetadata, TableDefinition, WriteTransaction};

use super::open::{FILE, MARKER, write_marker};
use super::{COUNTS, IDS, META, POSTS, PostStore, View, fault, guard};
use crate::{Ordinal, StoreError};

/// Memory of the new file's writer, in bytes.
const CACHE_BYTES: usize = 32 << 20;

/// What a copy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreCopy {
    /// Last transaction in it.
    pub sequence: u64,
    /// The ordinal that the next new text gets.
    pub next_ordinal: Ordinal,
    /// Live posts.
    pub posts: u64,
}

impl PostStore {
    /// Copies the store into `dir`, which must not hold one, as of one transaction; reads and writes go on. The
    /// copy is compact, durable at return, and opens as any store does.
    ///
    /// Records are copied as they are, damaged ones included: every one carries its checksum.
    pub fn copy_to(&self, dir: &Path) -> Result<StoreCopy, StoreError> {
        fs::create_dir_all(dir).map_err(|source| StoreError::Directory { path: dir.to_owned(), source })?;
        let target = dir.join(FILE);
        if target.try_exists().unwrap_or(true) {
            return Err(StoreError::NotAStore { path: target });
        }
        let view = self.guarded(|database| View::new(self, database))?;
        let copied = guard(&self.path, || self.copy_view(&view, &target))?;
        let marker = dir.join(MARKER);
        write_marker(dir, &marker).map_err(|source| StoreError::Io { path: marker, source })?;
        Ok(copied)
    }

    /// Size of the store's file, in bytes: a copy takes no more, by and large.
    pub fn file_bytes(&self) -> Result<u64, StoreError> {
        let io = |source| StoreError::Io { path: self.path.clone(), source };
        Ok(fs::metadata(&self.path).map_err(io)?.len())
    }

    fn copy_view(&self, view: &View, target: &Path) -> Result<StoreCopy, StoreError> {
        let failed = |error: redb::Error| fault(target, error);
        let database = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create(target)
            .map_err(|error| failed(error.into()))?;
        let mut transaction = database.begin_write().map_err(|error| failed(error.into()))?;
        transaction
            .set_durability(Durability::Immediate)
            .map_err(|error| StoreError::Database { path: target.to_owned(), message: error.to_string() })?;
        self.copy_table(&view.posts, &transaction, POSTS, target)?;
        self.copy_table(&view.ids, &transaction, IDS, target)?;
        self.copy_table(&view.counts, &transaction, COUNTS, target)?;
        self.copy_table(&view.meta, &transaction, META, target)?;
        transaction.commit().map_err(|error| failed(error.into()))?;
        database.close().map_err(|error| failed(error.into()))?;
        Ok(StoreCopy {
            sequence: view.meta(self, "sequence")?,
            next_ordinal: Ordinal(view.next_ordinal(self)?),
            posts: view.ids.len().map_err(|error| self.fault(error))?,
        })
    }

    fn copy_table<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        from: &ReadOnlyTable<K, V>,
        transaction: &WriteTransaction,
        definition: TableDefinition<K, V>,
        target: &Path,
    ) -> Result<(), StoreError> {
        let mut table = transaction.open_table(definition).map_err(|e| fault(target, e.into()))?;
        for entry in redb::ReadableTable::iter(from).map_err(|error| self.fault(error))? {
            let (key, value) = entry.map_err(|error| self.fault(error))?;
            table.insert(key.value(), value.value()).map_err(|error| fault(target, error.into()))?;
        }
        Ok(())
    }
}
