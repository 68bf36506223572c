//! Whether the tables of the store agree with each other.

use redb::ReadableTableMetadata;
use roaring::RoaringBitmap;

use super::{PostStore, View};
use crate::{Ordinal, StoreError};

/// Problems that are told one by one.
const TOLD: usize = 100;

/// What [`PostStore::check`] found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoreCheck {
    /// Last transaction.
    pub sequence: u64,
    /// The ordinal that the next new text gets.
    pub next_ordinal: u32,
    /// Ordinals of live posts.
    pub live: RoaringBitmap,
    /// Those of them whose records cannot be read.
    pub damaged: RoaringBitmap,
    /// What is wrong, the first hundred.
    pub problems: Vec<String>,
    /// How many more there are.
    pub more_problems: u64,
}

impl StoreCheck {
    fn note(&mut self, problem: String) {
        if self.problems.len() < TOLD {
            self.problems.push(problem);
        } else {
            self.more_problems += 1;
        }
    }
}

impl PostStore {
    /// Reads everything once, as of one transaction: every record has its checksum, counters and an id that leads
    /// back to it and to no other, and no ordinal is in use that was never given out.
    pub fn check(&self) -> Result<StoreCheck, StoreError> {
        let view = self.guarded(|database| View::new(self, database))?;
        self.guarded(|_| self.check_view(&view))
    }

    fn check_view(&self, view: &View) -> Result<StoreCheck, StoreError> {
        let mut check = StoreCheck {
            sequence: view.meta(self, "sequence")?,
            next_ordinal: view.next_ordinal(self)?,
            ..StoreCheck::default()
        };
        let fault = |error: redb::StorageError| self.fault(error);
        for entry in view.posts.range::<u32>(..).map_err(fault)? {
            let (ordinal, stored) = entry.map_err(fault)?;
            let ordinal = ordinal.value();
            check.live.insert(ordinal);
            if ordinal >= check.next_ordinal {
                check.note(format!(
                    "ordinal {ordinal} was never given out, the next is {}",
                    check.next_ordinal
                ));
            }
            match view.decode(self, Ordinal(ordinal), stored.value()) {
                Ok(stored) => {
                    let id = stored.post.id.as_str();
                    let found = view.ids.get(id).map_err(fault)?.map(|found| found.value());
                    if found != Some(ordinal) {
                        check.note(format!("id {id:?} of ordinal {ordinal} leads to {found:?}"));
                    }
                }
                Err(error @ StoreError::DamagedRecord { .. }) => {
                    check.damaged.insert(ordinal);
                    check.note(error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        // Every record has its id and its counters by now; what is left over belongs to no record.
        let records = check.live.len();
        for (table, found) in [("ids", view.ids.len()), ("counts", view.counts.len())] {
            let found = found.map_err(fault)?;
            if found != records {
                check.note(format!(
                    "table {table} has {found} entries, expected one for each of {records} posts"
                ));
            }
        }
        Ok(check)
    }
}
