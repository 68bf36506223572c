//! The thread that brings the lexical index up to the post store, in commits with a pause between them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bowerbird_lexical::{Checkpoint, LexicalError, LexicalIndex};
use bowerbird_posts::{Ordinal, Post};
use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::LiveConfig;
use crate::progress::Progress;
use crate::snapshot::Published;

/// Posts of one commit, at most about.
const COMMIT_POSTS: usize = 20_000;

/// A commit of few posts that takes longer delays what is written meanwhile by more than is promised.
const SLOW: Duration = Duration::from_secs(1);
/// More posts than this are a bulk load, where a commit takes what it takes.
const FEW_POSTS: usize = 500;

/// What one transaction of the post store means for the index.
pub(crate) struct LexicalWork {
    pub adds: Vec<(Ordinal, Box<Post>)>,
    pub deletes: Vec<Ordinal>,
    pub next_ordinal: u32,
    pub sequence: u64,
}

/// What became of a batch.
enum Indexed {
    /// It is searchable; committing took this long.
    Committed(Duration),
    /// It held nothing that the index keeps.
    Nothing,
    /// The index refused it until the generation closed.
    GivenUp,
}

/// What the lexical thread owns.
pub(crate) struct LexicalThread {
    pub generation: u32,
    pub index: LexicalIndex,
    pub work: Receiver<LexicalWork>,
    pub published: Arc<Published>,
    pub progress: Arc<Progress>,
    pub config: LiveConfig,
}

impl LexicalThread {
    /// Runs until the writer is gone and everything it sent is committed.
    pub fn run(self) {
        let mut due = Instant::now();
        while let Ok(first) = self.work.recv() {
            let batch = self.collect(first, due);
            match self.index_batch(&batch) {
                // A later commit would claim the posts of this batch too, so there must be none.
                Indexed::GivenUp => return,
                // A pause of twice the time it took: committing takes a third of the time at most, and on a quiet
                // machine posts are found well before the longest pause is over.
                Indexed::Committed(took) => {
                    due = Instant::now() + (took * 2).min(self.config.lexical_interval);
                }
                Indexed::Nothing => {}
            }
        }
    }

    /// Takes work until the next commit is due.
    fn collect(&self, first: LexicalWork, due: Instant) -> Vec<LexicalWork> {
        let mut posts = first.adds.len();
        let mut batch = vec![first];
        while posts < COMMIT_POSTS {
            match self.work.recv_deadline(due) {
                Ok(work) => {
                    posts += work.adds.len();
                    batch.push(work);
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        batch
    }

    /// Indexes a batch, trying until it succeeds or the generation is closing.
    fn index_batch(&self, batch: &[LexicalWork]) -> Indexed {
        let Some(last) = batch.last() else { return Indexed::Nothing };
        let (sequence, next_ordinal) = (last.sequence, last.next_ordinal);
        // Counters live in the columns: a batch of nothing else needs no commit.
        let commits = batch.iter().any(|work| !work.adds.is_empty() || !work.deletes.is_empty());
        let started = Instant::now();
        if commits && !self.commit_until_done(batch) {
            return Indexed::GivenUp;
        }
        self.progress.update(|state| {
            state.lexical_sequence = sequence;
            state.lexical_next = next_ordinal;
            state.lexical_error = None;
            state.steps += 1;
        });
        if commits { Indexed::Committed(started.elapsed()) } else { Indexed::Nothing }
    }

    /// Commits a batch and publishes it; false when the generation closed before that worked.
    fn commit_until_done(&self, batch: &[LexicalWork]) -> bool {
        let mut attempt = 0;
        loop {
            let started = Instant::now();
            let Err(error) = self.commit(batch, attempt > 0) else {
                let took = started.elapsed();
                metrics::histogram!("bowerbird_lexical_commit_seconds").record(took.as_secs_f64());
                let posts: usize = batch.iter().map(|work| work.adds.len()).sum();
                if took > SLOW && posts <= FEW_POSTS {
                    tracing::warn!(?took, posts, "a lexical commit was slow: look at the disk");
                }
                let searcher = self.index.searcher();
                self.published.change(|parts| {
                    if parts.generation == self.generation {
                        parts.lexical = searcher;
                    }
                });
                return true;
            };
            if attempt == 0 {
                tracing::error!(%error, "the lexical index refused a commit; trying again");
            }
            self.progress.update(|state| state.lexical_error = Some(error.to_string()));
            // After an I/O error the old writer takes nothing any more.
            if let Err(error) = self.index.roll_back() {
                tracing::error!(%error, "the writer of the lexical index cannot be started again; trying again");
            }
            let pause = self.config.pause(attempt);
            attempt = attempt.saturating_add(1);
            if self.wait_or_stopping(pause) {
                tracing::error!(%error, "closing with posts the lexical index lacks; the next start adds them");
                return false;
            }
        }
    }

    /// One attempt. A repeated one takes out first what the attempt before may have put in.
    fn commit(&self, batch: &[LexicalWork], again: bool) -> Result<(), LexicalError> {
        for work in batch {
            for (ordinal, post) in &work.adds {
                if again {
                    self.index.delete(*ordinal)?;
                }
                self.index.add(*ordinal, post)?;
            }
            for ordinal in &work.deletes {
                self.index.delete(*ordinal)?;
            }
        }
        match batch.last() {
            Some(last) => {
                self.index.commit(Checkpoint { next_ordinal: last.next_ordinal, sequence: last.sequence })
            }
            None => Ok(()),
        }
    }

    fn wait_or_stopping(&self, pause: Duration) -> bool {
        self.progress.wait(Some(pause), |state| state.stopping.then_some(())).is_some()
    }
}

impl Drop for LexicalThread {
    fn drop(&mut self) {
        self.progress.update(|state| state.lexical_ended = true);
    }
}
