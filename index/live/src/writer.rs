//! The thread that makes changes durable: several callers' changes in one transaction of the post store, then the
//! columns, then the snapshot, then the answers, and last the work for the indexes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bowerbird_lexical::language_of;
use bowerbird_posts::{Applied, Op, Ordinal, Outcome, Post, StoreError};
use parking_lot::Mutex;
use roaring::RoaringBitmap;

use crate::LiveError;
use crate::backup::free_bytes;
use crate::columns::ColumnsWriter;
use crate::follower::Target;
use crate::lexical_thread::LexicalWork;
use crate::progress::Progress;
use crate::queue::{Request, WriteQueue};
use crate::snapshot::{Published, Stores};

/// What the writer thread owns. Dropping it ends the lexical thread, after the work it has.
pub(crate) struct Writer {
    pub stores: Arc<Stores>,
    pub queue: Arc<WriteQueue>,
    pub columns: ColumnsWriter,
    pub live: Arc<RoaringBitmap>,
    pub next_ordinal: u32,
    pub published: Arc<Published>,
    pub target: Arc<Mutex<Target>>,
    pub group_ops: usize,
    /// Space that a write must leave free.
    pub reserve_bytes: u64,
}

/// A commit that takes longer is told: its callers wait for it.
const SLOW: Duration = Duration::from_secs(1);
/// How often the writer looks whether the lexical thread can take more.
const PLACE_CHECK: Duration = Duration::from_millis(1);
/// What a change may write beside its own bytes: a page in each table of the post store.
const OP_PAGES_BYTES: u64 = 3 * 4096;

impl Writer {
    /// Runs until the queue is closed and empty.
    pub fn run(mut self) {
        while let Some(group) = self.queue.pop_group(self.group_ops) {
            // Until it is released no generation takes over.
            let target = Arc::clone(&self.target);
            self.commit(group, &target.lock());
        }
    }

    fn commit(&mut self, group: Vec<Request>, target: &Target) {
        let started = std::time::Instant::now();
        let ready = self.require_room(&group).and_then(|()| self.require_place(&group, target));
        if let Err(error) = ready {
            tracing::error!(%error, "refused writes");
            for request in group {
                request.reply.send(Err(error.again()));
            }
            return;
        }
        let mut ops = Vec::with_capacity(group.iter().map(|request| request.ops.len()).sum());
        let mut callers = Vec::with_capacity(group.len());
        for request in group {
            callers.push((request.ops.len(), request.reply));
            ops.extend(request.ops);
        }
        match self.stores.posts.apply(&ops) {
            Ok(applied) => {
                let took = started.elapsed();
                metrics::histogram!("bowerbird_write_commit_seconds").record(took.as_secs_f64());
                if took > SLOW {
                    tracing::warn!(
                        ?took,
                        ops = ops.len(),
                        "a commit of the post store was slow: look at the disk"
                    );
                }
                metrics::counter!("bowerbird_write_ops_total").increment(ops.len() as u64);
                let outcomes = applied.outcomes.clone();
                let work = self.take_in(ops, applied, &target.follower.progress);
                let mut outcomes = outcomes.into_iter();
                for (count, reply) in callers {
                    reply.send(Ok(outcomes.by_ref().take(count).collect()));
                }
                if target.work.as_ref().is_none_or(|lexical| lexical.send(work).is_err()) {
                    tracing::error!(
                        "the lexical thread has ended; posts are stored but not searchable by words"
                    );
                }
            }
            // One caller's changes cannot be at fault when the disk is.
            Err(error) if callers.len() == 1 || matches!(error, StoreError::Io { .. }) => {
                tracing::error!(%error, "a write failed");
                let error = Arc::new(error);
                for (_, reply) in callers {
                    reply.send(Err(LiveError::Store(Arc::clone(&error))));
                }
            }
            Err(error) => {
                // One caller's changes may be at fault: give each a transaction of its own.
                tracing::warn!(%error, callers = callers.len(), "a shared write failed; writing one caller at a time");
                let mut ops = ops.into_iter();
                for (count, reply) in callers {
                    let own: Vec<Op> = ops.by_ref().take(count).collect();
                    self.commit(vec![Request::new(own, reply)], target);
                }
            }
        }
    }

    /// Refuses a group when the disk would be all but full after it: the store and the indexes should not meet a full
    /// disk in the middle of a commit.
    fn require_room(&self, group: &[Request]) -> Result<(), NoRoom> {
        let bytes: u64 = group.iter().map(|request| request.bytes as u64).sum();
        let ops: u64 = group.iter().map(|request| request.ops.len() as u64).sum();
        let need_bytes = self.reserve_bytes + 2 * bytes + OP_PAGES_BYTES * ops;
        let path = self.stores.dir.root();
        match free_bytes(path) {
            Some(free_bytes) if free_bytes < need_bytes => {
                Err(NoRoom { path: path.to_path_buf(), need_bytes, free_bytes })
            }
            _ => Ok(()),
        }
    }

    /// Waits until the lexical thread can take more work, so that a durable write is handed on at once. Where it cannot
    /// because the disk is full, the group is refused: waiting would leave its callers without an answer.
    fn require_place(&self, group: &[Request], target: &Target) -> Result<(), NoRoom> {
        let Some(work) = &target.work else { return Ok(()) };
        while work.is_full() {
            self.require_room(group)?;
            target.follower.progress.wait(Some(PLACE_CHECK), |_| (!work.is_full()).then_some(()));
        }
        Ok(())
    }

    /// Brings the columns, the snapshot and the progress to what a transaction did; gives what the indexes must do.
    fn take_in(&mut self, ops: Vec<Op>, applied: Applied, progress: &Progress) -> LexicalWork {
        let mut adds: Vec<(Ordinal, Box<Post>)> = Vec::new();
        let mut deletes = Vec::new();
        let live = Arc::make_mut(&mut self.live);
        for (op, outcome) in ops.into_iter().zip(&applied.outcomes) {
            match (op, *outcome) {
                (Op::Upsert(post), Outcome::Created { ordinal } | Outcome::Replaced { ordinal, .. }) => {
                    self.columns.insert(
                        ordinal,
                        &post,
                        language_of(post.lang.as_deref(), &post.text).as_deref(),
                    );
                    live.insert(ordinal.0);
                    self.next_ordinal = self.next_ordinal.max(ordinal.0 + 1);
                    adds.push((ordinal, post));
                }
                (_, Outcome::CountsChanged { ordinal, counts }) => self.columns.set_counts(ordinal, counts),
                _ => {}
            }
            if let Outcome::Deleted { ordinal } | Outcome::Replaced { old: ordinal, .. } = *outcome {
                live.remove(ordinal.0);
                self.columns.remove(ordinal, live);
                deletes.push(ordinal);
            }
        }
        adds.retain(|(ordinal, _)| live.contains(ordinal.0));
        let (columns, live) = (self.columns.published(), Arc::clone(&self.live));
        self.published.change(|parts| {
            parts.columns = columns;
            parts.live = live;
            parts.sequence = applied.sequence;
        });
        progress.update(|state| {
            state.sequence = applied.sequence;
            state.next_ordinal = self.next_ordinal;
            state.pending.extend(adds.iter().map(|(ordinal, _)| ordinal.0));
            for ordinal in &deletes {
                state.pending.remove(ordinal.0);
                state.postponed.remove(ordinal.0);
                state.refused.remove(ordinal.0);
            }
            metrics::gauge!("bowerbird_vectors_pending")
                .set((state.pending.len() + state.postponed.len()) as f64);
        });
        LexicalWork { adds, deletes, next_ordinal: self.next_ordinal, sequence: applied.sequence }
    }
}

/// The disk is all but full; told to each caller of a group.
#[derive(Debug, thiserror::Error)]
#[error("{} has {free_bytes} bytes free, writes need {need_bytes}", path.display())]
struct NoRoom {
    path: PathBuf,
    need_bytes: u64,
    free_bytes: u64,
}

impl NoRoom {
    fn again(&self) -> LiveError {
        let Self { path, need_bytes, free_bytes } = self;
        LiveError::NoRoom { path: path.clone(), need_bytes: *need_bytes, free_bytes: *free_bytes }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Also when the thread panics: nobody must wait for an answer that never comes.
        self.queue.abandon();
        self.target.lock().work = None;
    }
}
