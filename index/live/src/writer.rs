//! The thread that makes changes durable: several callers' changes in one transaction of the post store, then the
//! columns, then the snapshot, then the answers, and last the work for the indexes.

use std::sync::Arc;

use bowerbird_lexical::language_of;
use bowerbird_posts::{Applied, Op, Ordinal, Outcome, Post};
use crossbeam_channel::Sender;
use roaring::RoaringBitmap;

use crate::LiveError;
use crate::columns::ColumnsWriter;
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
    pub progress: Arc<Progress>,
    pub lexical: Sender<LexicalWork>,
    pub group_ops: usize,
}

impl Writer {
    /// Runs until the queue is closed and empty.
    pub fn run(mut self) {
        while let Some(group) = self.queue.pop_group(self.group_ops) {
            self.commit(group);
        }
    }

    fn commit(&mut self, group: Vec<Request>) {
        let started = std::time::Instant::now();
        let mut ops = Vec::with_capacity(group.iter().map(|request| request.ops.len()).sum());
        let mut callers = Vec::with_capacity(group.len());
        for request in group {
            callers.push((request.ops.len(), request.reply));
            ops.extend(request.ops);
        }
        match self.stores.posts.apply(&ops) {
            Ok(applied) => {
                metrics::histogram!("bowerbird_write_commit_seconds").record(started.elapsed().as_secs_f64());
                metrics::counter!("bowerbird_write_ops_total").increment(ops.len() as u64);
                let outcomes = applied.outcomes.clone();
                let work = self.take_in(ops, applied);
                let mut outcomes = outcomes.into_iter();
                for (count, reply) in callers {
                    reply.send(Ok(outcomes.by_ref().take(count).collect()));
                }
                if self.lexical.send(work).is_err() {
                    tracing::error!(
                        "the lexical thread has ended; posts are stored but not searchable by words"
                    );
                }
            }
            Err(error) if callers.len() == 1 => {
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
                    self.commit(vec![Request::new(own, reply)]);
                }
            }
        }
    }

    /// Brings the columns, the snapshot and the progress to what a transaction did; gives what the indexes must do.
    fn take_in(&mut self, ops: Vec<Op>, applied: Applied) -> LexicalWork {
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
        self.progress.update(|state| {
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

impl Drop for Writer {
    fn drop(&mut self) {
        // Also when the thread panics: nobody must wait for an answer that never comes.
        self.queue.abandon();
    }
}
