//! The thread that gives every live post its vector, a batch at a time, never giving one up that the source may yet
//! embed.
//!
//! Three quarters of a batch are the newest posts, the rest the oldest: while a bulk load or a burst is worked off, a
//! post of now does not wait behind it, and no post waits for ever.
//!
//! A failure of the source is tried again after a growing pause. When a batch fails, its texts are tried one by one,
//! so that one text that fails does not hold up the others. A text the source refuses for good
//! ([`VectorSource::refuses`]) is remembered until the process ends.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bowerbird_posts::{Ordinal, StoreError};
use bowerbird_vector::{PointId, VectorError};
use roaring::RoaringBitmap;

use crate::progress::{Progress, State};
use crate::snapshot::{Published, Stores};
use crate::{LiveConfig, VectorSource};

/// Texts that fail alone in a row, with none that succeeds, after which the source counts as away.
const AWAY_AFTER: usize = 3;

/// What the vector thread owns.
pub(crate) struct VectorThread {
    pub stores: Arc<Stores>,
    pub published: Arc<Published>,
    pub source: Arc<dyn VectorSource>,
    pub progress: Arc<Progress>,
    pub config: LiveConfig,
    pub sealing: Arc<AtomicBool>,
}

/// Why a text has no vector.
enum Failure {
    /// The source refuses the text for good.
    Refused(String),
    /// It may work later.
    Later(String),
}

/// What became of the ordinals of one round.
#[derive(Default)]
struct Round {
    embedded: RoaringBitmap,
    refused: RoaringBitmap,
    later: RoaringBitmap,
    message: Option<String>,
}

impl VectorThread {
    /// Runs until the generation is closing.
    pub fn run(self) {
        let mut attempt: u32 = 0;
        let mut postponed_until: Option<Instant> = None;
        while let Some(ordinals) = self.next_batch(&mut postponed_until) {
            let round = self.round(&ordinals);
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

    fn round(&self, ordinals: &[u32]) -> Round {
        let mut round = Round::default();
        let (ordinals, texts) = match self.texts(ordinals, &mut round) {
            Ok(texts) => texts,
            Err(error) => {
                round.later.extend(ordinals);
                round.message = Some(error.to_string());
                return round;
            }
        };
        if texts.is_empty() {
            return round;
        }
        let started = Instant::now();
        match self.embed(&ordinals, &texts) {
            Ok(()) => {
                round.embedded.extend(&ordinals);
                metrics::histogram!("bowerbird_vector_batch_seconds").record(started.elapsed().as_secs_f64());
            }
            Err(failure) if texts.len() == 1 => round.note(ordinals[0], failure),
            Err(_) => self.one_by_one(&ordinals, &texts, &mut round),
        }
        round
    }

    /// The texts of what is still alive; unreadable records are refused.
    fn texts(&self, ordinals: &[u32], round: &mut Round) -> Result<(Vec<u32>, Vec<String>), StoreError> {
        let wanted: Vec<Ordinal> = ordinals.iter().copied().map(Ordinal).collect();
        let (mut alive, mut texts) = (Vec::new(), Vec::new());
        let posts = match self.stores.posts.get_many(&wanted) {
            Ok(posts) => posts,
            Err(StoreError::DamagedRecord { .. }) => {
                let mut posts = Vec::with_capacity(wanted.len());
                for ordinal in &wanted {
                    match self.stores.posts.get_many(&[*ordinal]) {
                        Ok(post) => posts.extend(post),
                        Err(error @ StoreError::DamagedRecord { .. }) => {
                            round.note(ordinal.0, Failure::Refused(error.to_string()));
                        }
                        Err(error) => return Err(error),
                    }
                }
                posts
            }
            Err(error) => return Err(error),
        };
        for stored in posts.into_iter().flatten() {
            alive.push(stored.ordinal.0);
            texts.push(stored.post.text);
        }
        Ok((alive, texts))
    }

    fn one_by_one(&self, ordinals: &[u32], texts: &[String], round: &mut Round) {
        let mut failures = 0;
        for (at, (ordinal, text)) in ordinals.iter().zip(texts).enumerate() {
            if self.progress.read(|state| state.stopping) {
                round.later.extend(&ordinals[at..]);
                return;
            }
            match self.embed(&[*ordinal], std::slice::from_ref(text)) {
                Ok(()) => {
                    round.embedded.insert(*ordinal);
                }
                Err(failure) => {
                    failures += usize::from(matches!(failure, Failure::Later(_)));
                    round.note(*ordinal, failure);
                    if failures >= AWAY_AFTER && round.embedded.is_empty() && round.refused.is_empty() {
                        round.later.extend(&ordinals[at..]);
                        return;
                    }
                }
            }
        }
    }

    /// Embeds texts and inserts their vectors, durable at return.
    fn embed(&self, ordinals: &[u32], texts: &[String]) -> Result<(), Failure> {
        let vectors = self.source.embed(texts).map_err(|error| {
            let message = chain(error.as_ref());
            if self.source.refuses(error.as_ref()) {
                Failure::Refused(message)
            } else {
                Failure::Later(message)
            }
        })?;
        if vectors.len() != texts.len() {
            let message = format!("vector source gave {} vectors for {} texts", vectors.len(), texts.len());
            return Err(Failure::Later(message));
        }
        let batch: Vec<(PointId, &[f32])> = ordinals
            .iter()
            .zip(&vectors)
            .map(|(ordinal, vector)| (PointId(*ordinal), vector.as_slice()))
            .collect();
        let inserted = self.stores.vectors.insert(&batch).and_then(|()| self.stores.vectors.sync());
        inserted.map_err(|error| match error {
            VectorError::NotFinite { .. } | VectorError::NotUnit { .. } => {
                Failure::Refused(error.to_string())
            }
            error => Failure::Later(error.to_string()),
        })
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
        if !self.stores.vectors.wants_seal(&dead) || self.sealing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (stores, sealing) = (Arc::clone(&self.stores), Arc::clone(&self.sealing));
        let spawned = std::thread::Builder::new().name("bowerbird-seal".into()).spawn(move || {
            match stores.vectors.seal(&dead) {
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
        let points = self.stores.vectors.points();
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

impl Round {
    fn note(&mut self, ordinal: u32, failure: Failure) {
        let message = match failure {
            Failure::Refused(message) => {
                self.refused.insert(ordinal);
                message
            }
            Failure::Later(message) => {
                self.later.insert(ordinal);
                message
            }
        };
        self.message = Some(message);
    }
}

impl Drop for VectorThread {
    fn drop(&mut self) {
        self.progress.update(|state| state.vector_ended = true);
    }
}

/// An error with its causes, in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
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
