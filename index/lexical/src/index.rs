//! The writing side: open, add, delete, commit.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bowerbird_posts::{Ordinal, Post};
use serde::{Deserialize, Serialize};
use tantivy::index::IndexSettings;
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy};
use tantivy::store::Compressor;
use tantivy::{Index, IndexReader, IndexWriter, ReloadPolicy, TantivyDocument, Term};

use crate::directory::BatchedDirectory;
use crate::error::{damaged, fault, guard};
use crate::language::Family;
use crate::query::plain_name;
use crate::schema::{Fields, register_tokenizers, schema};
use crate::snapshot::{ColumnsCache, Snapshot};
use crate::{LexicalConfig, LexicalError, LexicalSearcher, files};

/// How far the index has come: stored with every commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Every ordinal below is indexed or was deleted.
    pub next_ordinal: u32,
    /// Last transaction of the post store that is in the index.
    pub sequence: u64,
}

impl Checkpoint {
    /// The commit payload; `meta.json` has no checksum, so this brings its own.
    fn to_payload(self) -> String {
        let Self { next_ordinal, sequence } = self;
        format!("{next_ordinal} {sequence} {:08x}", self.checksum())
    }

    fn from_payload(payload: &str) -> Option<Self> {
        let mut parts = payload.split(' ');
        let checkpoint =
            Self { next_ordinal: parts.next()?.parse().ok()?, sequence: parts.next()?.parse().ok()? };
        let checksum = u32::from_str_radix(parts.next()?, 16).ok()?;
        (parts.next().is_none() && checksum == checkpoint.checksum()).then_some(checkpoint)
    }

    fn checksum(self) -> u32 {
        crc32fast::hash(format!("{} {}", self.next_ordinal, self.sequence).as_bytes())
    }
}

/// The lexical index of one generation: a cache of the post store that can be rebuilt from it.
///
/// `add` and `delete` may be called from several threads; what they did is found after the next `commit`. One
/// process at a time.
pub struct LexicalIndex {
    dir: PathBuf,
    config: LexicalConfig,
    fields: Fields,
    index: Index,
    reader: IndexReader,
    /// Read-locked to add, write-locked to commit; empty only while dropping.
    writer: RwLock<Option<IndexWriter>>,
    /// Ordinals from here on were never added: adding them needs no delete before.
    unseen: AtomicU64,
    columns: Mutex<ColumnsCache>,
    state: RwLock<State>,
}

struct State {
    snapshot: Arc<Snapshot>,
    checkpoint: Option<Checkpoint>,
}

impl LexicalIndex {
    /// Opens the index in `dir` with [`LexicalConfig::default`]; it is created when absent.
    pub fn open(dir: &Path) -> Result<Self, LexicalError> {
        Self::open_with(dir, LexicalConfig::default())
    }

    /// Opens the index in `dir`; it is created when absent.
    ///
    /// Fails with [`LexicalError::Damaged`] when a file is missing, cut short or does not have its checksum (see
    /// [`LexicalConfig::verify_bytes`]), [`LexicalError::WrongFormat`] or [`LexicalError::Locked`].
    pub fn open_with(dir: &Path, config: LexicalConfig) -> Result<Self, LexicalError> {
        config.check()?;
        guard(dir, || Self::open_unguarded(dir, config))
    }

    fn open_unguarded(dir: &Path, config: LexicalConfig) -> Result<Self, LexicalError> {
        let fail = |error| fault(dir, &error);
        let existed = files::exists(dir)?;
        if !existed {
            files::write_marker(dir)?;
        }
        let directory = BatchedDirectory::open(dir).map_err(|error| fault(dir, &error.into()))?;
        let (schema, fields) = schema();
        let index = if existed {
            Index::open(directory).map_err(fail)?
        } else {
            let settings = IndexSettings {
                // Nothing is stored, so there is nothing to compress.
                docstore_compression: Compressor::None,
                docstore_compress_dedicated_thread: false,
                ..IndexSettings::default()
            };
            Index::builder()
                .schema(schema.clone())
                .settings(settings)
                .open_or_create(directory)
                .map_err(fail)?
        };
        let meta = index.load_metas().map_err(fail)?;
        if index.schema() != schema {
            return Err(damaged(&dir.join("meta.json"), "it describes other fields"));
        }
        let checkpoint = match &meta.payload {
            None => None,
            Some(payload) => Some(Checkpoint::from_payload(payload).ok_or_else(|| {
                damaged(&dir.join("meta.json"), format!("its checkpoint {payload:?} has another checksum"))
            })?),
        };
        let segment_files = files::committed(dir, &meta);
        let whole = files::total_bytes(&segment_files)? <= config.verify_bytes;
        for file in &segment_files {
            files::check(file, whole)?;
        }
        register_tokenizers(&index);
        let writer = new_writer(&index, &config).map_err(fail)?;
        let reader: IndexReader =
            index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into().map_err(fail)?;
        let mut columns = ColumnsCache::new();
        let snapshot = Snapshot::new(dir, config, &fields, reader.searcher(), &mut columns)?;
        let largest = snapshot.segments.iter().filter_map(|segment| segment.columns.largest()).max();
        let unseen = AtomicU64::new(largest.map_or(0, |ordinal| u64::from(ordinal) + 1));
        Ok(Self {
            dir: dir.to_owned(),
            config,
            fields,
            index,
            reader,
            writer: RwLock::new(Some(writer)),
            unseen,
            columns: Mutex::new(columns),
            state: RwLock::new(State { snapshot: Arc::new(snapshot), checkpoint }),
        })
    }

    /// The checkpoint of the last commit; `None` before the first.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).checkpoint
    }

    /// Adds a post; one that is there already under the same ordinal is replaced.
    ///
    /// Waits while the writer is behind by more than its queue.
    pub fn add(&self, ordinal: Ordinal, post: &Post) -> Result<(), LexicalError> {
        let family = Family::of(self.config.analyzer, post.lang.as_deref(), &post.text);
        let mut document = TantivyDocument::new();
        document.add_u64(self.fields.ordinal, u64::from(ordinal.0));
        document.add_text(self.fields.body(family), &post.text);
        document.add_text(self.fields.surface, &post.text);
        for tag in &post.tags {
            document.add_text(self.fields.tags, plain_name(tag, ['#', '＃']));
        }
        for mention in &post.mentions {
            document.add_text(self.fields.mentions, plain_name(mention, ['@', '＠']));
        }
        self.write(|writer| {
            // A new ordinal cannot be in the index; looking for it in every segment would cost most of the load.
            if self.unseen.fetch_max(u64::from(ordinal.0) + 1, Ordering::Relaxed) > u64::from(ordinal.0) {
                writer.delete_term(self.ordinal_term(ordinal));
            }
            writer.add_document(document).map_err(|error| fault(&self.dir, &error))?;
            Ok(())
        })
    }

    /// Removes a post; one that is not there is no error.
    pub fn delete(&self, ordinal: Ordinal) -> Result<(), LexicalError> {
        self.write(|writer| {
            writer.delete_term(self.ordinal_term(ordinal));
            Ok(())
        })
    }

    /// Makes everything added and deleted so far durable and searchable, together with `checkpoint`.
    pub fn commit(&self, checkpoint: Checkpoint) -> Result<(), LexicalError> {
        guard(&self.dir, || {
            let fail = |error| fault(&self.dir, &error);
            let mut writer = self.writer.write().unwrap_or_else(PoisonError::into_inner);
            let writer = writer.as_mut().ok_or_else(|| self.closed())?;
            let mut commit = writer.prepare_commit().map_err(fail)?;
            commit.set_payload(&checkpoint.to_payload());
            commit.commit().map_err(fail)?;
            self.reader.reload().map_err(fail)?;
            let mut columns = self.columns();
            let searcher = self.reader.searcher();
            let snapshot = Snapshot::new(&self.dir, self.config, &self.fields, searcher, &mut columns)?;
            let state = State { snapshot: Arc::new(snapshot), checkpoint: Some(checkpoint) };
            *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
            Ok(())
        })
    }

    /// Forgets what was added and deleted since the last commit and starts a new writer: after an I/O error the old
    /// one takes nothing any more. When this fails too, it can be called again.
    pub fn roll_back(&self) -> Result<(), LexicalError> {
        guard(&self.dir, || {
            let mut writer = self.writer.write().unwrap_or_else(PoisonError::into_inner);
            // The lock on the directory ends with the old writer.
            drop(writer.take());
            *writer = Some(new_writer(&self.index, &self.config).map_err(|error| fault(&self.dir, &error))?);
            Ok(())
        })
    }

    /// The snapshot of the last commit.
    pub fn searcher(&self) -> LexicalSearcher {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        LexicalSearcher { snapshot: Arc::clone(&state.snapshot) }
    }

    /// Reads every committed file and checks its checksum; the first that is damaged is the error.
    pub fn verify(&self) -> Result<(), LexicalError> {
        guard(&self.dir, || {
            let mut files = self.committed_files()?;
            loop {
                let checked = files.iter().try_for_each(|file| files::check(file, true));
                // A commit or a merge may delete a file that is being read; then look at the new ones.
                let now = self.committed_files()?;
                if checked.is_ok() || now == files {
                    return checked;
                }
                files = now;
            }
        })
    }

    fn committed_files(&self) -> Result<Vec<PathBuf>, LexicalError> {
        let meta = self.index.load_metas().map_err(|error| fault(&self.dir, &error))?;
        Ok(files::committed(&self.dir, &meta))
    }

    fn write(&self, work: impl FnOnce(&IndexWriter) -> Result<(), LexicalError>) -> Result<(), LexicalError> {
        guard(&self.dir, || {
            let writer = self.writer.read().unwrap_or_else(PoisonError::into_inner);
            work(writer.as_ref().ok_or_else(|| self.closed())?)
        })
    }

    fn ordinal_term(&self, ordinal: Ordinal) -> Term {
        Term::from_field_u64(self.fields.ordinal, u64::from(ordinal.0))
    }

    fn columns(&self) -> MutexGuard<'_, ColumnsCache> {
        self.columns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn closed(&self) -> LexicalError {
        LexicalError::Engine { path: self.dir.clone(), message: "the index is closed".to_owned() }
    }
}

fn new_writer(index: &Index, config: &LexicalConfig) -> tantivy::Result<IndexWriter> {
    let options = IndexWriterOptions::builder()
        .memory_budget_per_thread(config.writer_memory_bytes)
        .num_worker_threads(config.writer_threads)
        .num_merge_threads(config.merge_threads)
        .build();
    let writer: IndexWriter = index.writer_with_options(options)?;
    let mut merging = LogMergePolicy::default();
    // Deleted posts count in df and N until they are merged away.
    merging.set_del_docs_ratio_before_merge(0.3);
    writer.set_merge_policy(Box::new(merging));
    Ok(writer)
}

impl Drop for LexicalIndex {
    fn drop(&mut self) {
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // Without this, a merge may still be writing when the next process opens the index.
        let ended = guard(&self.dir, || match writer {
            Some(writer) => writer.wait_merging_threads().map_err(|error| fault(&self.dir, &error)),
            None => Ok(()),
        });
        if let Err(error) = ended {
            tracing::warn!(%error, "closing the lexical index");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_comes_back_and_a_changed_one_does_not() {
        let checkpoint = Checkpoint { next_ordinal: 12, sequence: u64::MAX };
        let payload = checkpoint.to_payload();
        assert_eq!(Checkpoint::from_payload(&payload), Some(checkpoint));
        for bad in ["", "12 5", "12 5 zz", &payload.replace("12", "13"), &format!("{payload} 1")] {
            assert_eq!(Checkpoint::from_payload(bad), None, "{bad}");
        }
    }
}
