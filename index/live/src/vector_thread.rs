//! The thread that gives every live post its vector, a batch at a time, never giving one up that the source may yet
//! embed.
//!
//! Three quarters of a batch are the newest posts, the rest the oldest: while a bulk load or a burst is worked off, a
//! post of now does not wait behind it, and no post waits for ever.
//!
//! A failure of the source is tried again after a growing pause. When a batch fails, its texts are tried one by one,
//! so that one text that fails does not hold up the others. A text the source refuses for good
//! ([`VectorSource::refuses`]) is remembered until the process ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use roaring::RoaringBitmap;

use crate::LiveConfig;
use crate::progress::{Progress, State};
use crate::round::{Round, Rounds};
use crate::snapshot::Published;

/// What the vector thread owns.
pub(crate) struct VectorThread {
    pub rounds: Rounds,
    pub published: Arc<Published>,
    pub progress: Arc<Progress>,
    pub config: LiveConfig,
    pub sealing: Arc<AtomicBool>,
}

impl VectorThread {
    /// Runs until the generation is closing.
    pub fn run(self) {
        let mut attempt: u32 = 0;
        let mut postponed_until: Option<Instant> = None;
        while let Some(ordinals) = self.next_batch(&mut postponed_until) {
            let stopping = || self.progress.read(|state| state.stopping);
            let round = self.rounds.run(&ordinals, &stopping);
            let failed = !round.later.is_empty();
            let away = failed && round.embedded.is_empty() && round.refused.is_empty();
            self.settle(&ordinals, round);
            if failed {
                let pause = self.config.pause(attempt);
                attempt = attempt.saturating_add(1);
                postponed_until = Some(Instant::now() + pause);
                if away && self.wait_or_stopping(pause) {
                    break;
                }
            } else if self.progress.read(|state| state.postponed.is_empty()) {
                attempt = 0;
            }
            self.seal_if_wanted();
        }
    }

    /// Waits for ordinals to embed; what was postponed comes back when its time has come. None when closing.
    fn next_batch(&self, postponed_until: &mut Option<Instant>) -> Option<Vec<u32>> {
        loop {
            let now = Instant::now();
            let due = postponed_until.is_some_and(|until| until <= now);
            let timeout = postponed_until.filter(|until| *until > now).map(|until| until - now);
            let batch_size = self.config.embed_batch;
            let next = self.progress.wait(timeout, |state| {
                if state.stopping {
                    return Some(None);
                }
                if due {
                    let postponed = std::mem::take(&mut state.postponed);
                    state.pending |= postponed;
                }
                let batch = newest_and_oldest(&state.pending, batch_size);
                // Nothing was postponed any more: sleep until something new comes.
                (due || !batch.is_empty()).then_some(Some(batch))
            });
            if due {
                *postponed_until = None;
            }
            match next {
                Some(None) => return None,
                Some(Some(batch)) if !batch.is_empty() => return Some(batch),
                _ => {}
            }
        }
    }

    /// Brings the shared state to what a round did.
    fn settle(&self, ordinals: &[u32], round: Round) {
        if let Some(error) = &round.message {
            tracing::warn!(
                error,
                later = round.later.len(),
                refused = round.refused.len(),
                "texts without a vector"
            );
        }
        self.progress.update(|state: &mut State| {
            for ordinal in ordinals {
                // One that was deleted meanwhile is not in `pending` any more and must not come back.
                if state.pending.remove(*ordinal) {
                    if round.later.contains(*ordinal) {
                        state.postponed.insert(*ordinal);
                    } else if round.refused.contains(*ordinal) {
                        state.refused.insert(*ordinal);
                    }
                }
            }
            if !round.embedded.is_empty() || !round.refused.is_empty() || round.later.is_empty() {
                state.steps += 1;
            }
            let behind = !round.later.is_empty() || !state.postponed.is_empty();
            state.vector_error = round.message.or(state.vector_error.take()).filter(|_| behind);
            metrics::gauge!("bowerbird_vectors_pending")
                .set((state.pending.len() + state.postponed.len()) as f64);
            metrics::gauge!("bowerbird_vectors_refused").set(state.refused.len() as f64);
        });
    }

    /// Builds the graph in a thread of its own when enough points are scanned flat or dead. The thread keeps the data
    /// directory open until it is done, which is soon after the generation closes.
    fn seal_if_wanted(&self) {
        let dead = self.dead();
        if !self.rounds.vectors.wants_seal(&dead) || self.sealing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (vectors, sealing) = (Arc::clone(&self.rounds.vectors), Arc::clone(&self.sealing));
        let stores = Arc::clone(&self.rounds.stores);
        let spawned = std::thread::Builder::new().name("bowerbird-seal".into()).spawn(move || {
            let _open = stores;
            match vectors.seal(&dead) {
                Ok(report) => {
                    tracing::info!(?report, "built the vector graph");
                    sealing.store(false, Ordering::Release);
                }
                // Stays set: the next start tries again.
                Err(error) => {
                    tracing::error!(%error, "cannot build the vector graph; points are scanned flat");
                }
            }
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "cannot start the thread that builds the vector graph");
        }
    }

    /// Points whose post is dead; ordinals do not come back. A post is published as alive before it gets a vector,
    /// so the points are read first.
    fn dead(&self) -> RoaringBitmap {
        let points = self.rounds.vectors.points();
        points - self.published.snapshot().live()
    }

    fn wait_or_stopping(&self, pause: Duration) -> bool {
        self.progress.wait(Some(pause), |state| state.stopping.then_some(())).is_some()
    }
}

/// At most `size` of `pending`: a quarter of them the smallest, the rest the largest; ascending.
fn newest_and_oldest(pending: &RoaringBitmap, size: usize) -> Vec<u32> {
    if pending.len() <= size as u64 {
        return pending.iter().collect();
    }
    let oldest = size / 4;
    let mut batch: Vec<u32> = pending.iter().take(oldest).collect();
    batch.extend(pending.iter().rev().take(size - oldest));
    batch[oldest..].reverse();
    batch
}

impl Drop for VectorThread {
    fn drop(&mut self) {
        self.progress.update(|state| state.vector_ended = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_takes_the_newest_and_some_of_the_oldest() {
        let pending: RoaringBitmap = (0..100).collect();
        assert_eq!(newest_and_oldest(&pending, 8), [0, 1, 94, 95, 96, 97, 98, 99]);
        assert_eq!(newest_and_oldest(&pending, 1), [99]);
        assert_eq!(newest_and_oldest(&pending, 100).len(), 100);
        assert_eq!(newest_and_oldest(&RoaringBitmap::from([7]), 8), [7]);
        let mut left = pending;
        while !left.is_empty() {
            let batch = newest_and_oldest(&left, 7);
            assert!(batch.iter().all(|ordinal| left.remove(*ordinal)), "each once: {batch:?}");
        }
    }
}
