//! One batch of ops as one transaction.

use redb::{Database, Durability, ReadableTable, Table};

use super::{COUNTS, CountsRow, IDS, META, POSTS, PostStore, counts_of, damaged, row_of};
use crate::{Applied, Counts, CountsPatch, Op, Ordinal, Outcome, Post, PostId, StoreError, record};

/// `unconfirmed` gets what the transaction does before it is committed, for the caller to look whether a commit that
/// failed has happened.
pub(super) fn apply(
    store: &PostStore,
    database: &Database,
    ops: &[Op],
    unconfirmed: &mut Option<Applied>,
) -> Result<Applied, StoreError> {
    let fault = |error: redb::Error| store.fault(error);
    let mut transaction = database.begin_write().map_err(|e| fault(e.into()))?;
    transaction.set_durability(Durability::Immediate).map_err(|e| store.database_error(&e.to_string()))?;
    transaction.set_two_phase_commit(true);
    let applied = {
        let mut meta = transaction.open_table(META).map_err(|e| fault(e.into()))?;
        let sequence = read_meta(store, &meta, "sequence")? + 1;
        let next = read_meta(store, &meta, "next_ordinal")?;
        let mut batch = Batch {
            store,
            posts: transaction.open_table(POSTS).map_err(|e| fault(e.into()))?,
            ids: transaction.open_table(IDS).map_err(|e| fault(e.into()))?,
            counts: transaction.open_table(COUNTS).map_err(|e| fault(e.into()))?,
            next: u32::try_from(next)
                .map_err(|_| damaged(&store.path, format!("meta.next_ordinal is {next}")))?,
        };
        let outcomes = ops.iter().map(|op| batch.one(op)).collect::<Result<Vec<_>, _>>()?;
        meta.insert("sequence", sequence).map_err(|e| fault(e.into()))?;
        meta.insert("next_ordinal", u64::from(batch.next)).map_err(|e| fault(e.into()))?;
        Applied { outcomes, sequence }
    };
    *unconfirmed = Some(applied.clone());
    transaction.commit().map_err(|e| fault(e.into()))?;
    Ok(applied)
}

fn read_meta(store: &PostStore, meta: &Table<&'static str, u64>, key: &str) -> Result<u64, StoreError> {
    let value = meta.get(key).map_err(|e| store.fault(e))?.map(|value| value.value());
    value.ok_or_else(|| damaged(&store.path, format!("meta.{key} is missing")))
}

/// The tables of a transaction under way.
struct Batch<'a> {
    store: &'a PostStore,
    posts: Table<'a, u32, &'static [u8]>,
    ids: Table<'a, &'static str, u32>,
    counts: Table<'a, u32, CountsRow>,
    next: u32,
}

impl Batch<'_> {
    fn one(&mut self, op: &Op) -> Result<Outcome, StoreError> {
        let found = self.ids.get(op.id().as_str()).map_err(|e| self.store.fault(e))?;
        let found = found.map(|ordinal| Ordinal(ordinal.value()));
        match (op, found) {
            (Op::Upsert(post), None) => {
                let payload = self.payload(post)?;
                Ok(Outcome::Created { ordinal: self.insert(post, payload)? })
            }
            (Op::Upsert(post), Some(old)) => self.upsert(post, old),
            (Op::SetCounts { counts, .. }, Some(ordinal)) => self.patch(ordinal, *counts),
            (Op::Delete(id), Some(ordinal)) => self.delete(id, ordinal),
            (Op::SetCounts { .. } | Op::Delete(_), None) => Ok(Outcome::NotFound),
        }
    }

    fn upsert(&mut self, post: &Post, old: Ordinal) -> Result<Outcome, StoreError> {
        let payload = self.payload(post)?;
        // A damaged record counts as different: loading the post again is how it is repaired.
        let same = self
            .posts
            .get(old.0)
            .map_err(|e| self.store.fault(e))?
            .is_some_and(|stored| record::open(old, stored.value()).is_ok_and(|found| found == payload));
        if same {
            return self.set_counts(old, post.counts);
        }
        self.forget(old)?;
        let ordinal = self.insert(post, payload)?;
        Ok(Outcome::Replaced { ordinal, old })
    }

    fn patch(&mut self, ordinal: Ordinal, patch: CountsPatch) -> Result<Outcome, StoreError> {
        let counts = self.counts_at(ordinal)?.unwrap_or_default();
        self.set_counts(ordinal, patch.apply(counts))
    }

    fn set_counts(&mut self, ordinal: Ordinal, counts: Counts) -> Result<Outcome, StoreError> {
        if self.counts_at(ordinal)? == Some(counts) {
            return Ok(Outcome::Unchanged { ordinal });
        }
        self.counts.insert(ordinal.0, row_of(counts)).map_err(|e| self.store.fault(e))?;
        Ok(Outcome::CountsChanged { ordinal, counts })
    }

    fn delete(&mut self, id: &PostId, ordinal: Ordinal) -> Result<Outcome, StoreError> {
        self.ids.remove(id.as_str()).map_err(|e| self.store.fault(e))?;
        self.forget(ordinal)?;
        Ok(Outcome::Deleted { ordinal })
    }

    fn insert(&mut self, post: &Post, payload: Vec<u8>) -> Result<Ordinal, StoreError> {
        let fault = |error: redb::StorageError| self.store.fault(error);
        let ordinal = Ordinal(self.next);
        self.next = self
            .next
            .checked_add(1)
            .ok_or_else(|| StoreError::Full { path: self.store.path.clone(), limit: u32::MAX })?;
        self.ids.insert(post.id.as_str(), ordinal.0).map_err(fault)?;
        self.posts.insert(ordinal.0, record::seal(ordinal, payload).as_slice()).map_err(fault)?;
        self.counts.insert(ordinal.0, row_of(post.counts)).map_err(fault)?;
        Ok(ordinal)
    }

    fn forget(&mut self, ordinal: Ordinal) -> Result<(), StoreError> {
        self.posts.remove(ordinal.0).map_err(|e| self.store.fault(e))?;
        self.counts.remove(ordinal.0).map_err(|e| self.store.fault(e))?;
        Ok(())
    }

    fn counts_at(&self, ordinal: Ordinal) -> Result<Option<Counts>, StoreError> {
        let row = self.counts.get(ordinal.0).map_err(|e| self.store.fault(e))?;
        Ok(row.map(|row| counts_of(row.value())))
    }

    fn payload(&self, post: &Post) -> Result<Vec<u8>, StoreError> {
        record::payload(post).map_err(|message| self.store.database_error(&message))
    }
}
