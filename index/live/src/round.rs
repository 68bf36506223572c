//! One round of giving posts their vectors: read the texts, embed them, insert what came back.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use bowerbird_posts::{Ordinal, StoreError};
use bowerbird_vector::{PointId, VectorError, VectorIndex};
use roaring::RoaringBitmap;

use crate::VectorSource;
use crate::snapshot::Stores;

/// Texts that fail alone in a row, with none that succeeds, after which the source counts as away.
const AWAY_AFTER: usize = 3;

/// Texts of the post store to vectors of one index.
pub(crate) struct Rounds {
    pub vectors: Arc<VectorIndex>,
    pub source: Arc<dyn VectorSource>,
    pub stores: Arc<Stores>,
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
pub(crate) struct Round {
    pub embedded: RoaringBitmap,
    pub refused: RoaringBitmap,
    pub later: RoaringBitmap,
    pub message: Option<String>,
}

impl Rounds {
    /// Embeds what is alive of `ordinals` and inserts it. A batch that fails is tried text by text, until `stopping`.
    pub fn run(&self, ordinals: &[u32], stopping: &dyn Fn() -> bool) -> Round {
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
            Err(_) => self.one_by_one(&ordinals, &texts, &mut round, stopping),
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

    fn one_by_one(&self, ordinals: &[u32], texts: &[String], round: &mut Round, stopping: &dyn Fn() -> bool) {
        let mut failures = 0;
        for (at, (ordinal, text)) in ordinals.iter().zip(texts).enumerate() {
            if stopping() {
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
        let inserted = self.vectors.insert(&batch).and_then(|()| self.vectors.sync());
        inserted.map_err(|error| match error {
            VectorError::NotFinite { .. } | VectorError::NotUnit { .. } => {
                Failure::Refused(error.to_string())
            }
            error => Failure::Later(error.to_string()),
        })
    }
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
