//! The embedder as an index sees it.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};

use bowerbird_live::VectorSource;
use bowerbird_models_api::{ModelError, TextRole};
use bowerbird_scheduler::{Encoders, Priority, SchedulerError};

/// Vectors of posts from the encoders, as fresh posts or as a rebuild.
pub struct Passages {
    encoders: Encoders,
    /// Texts in the queue at a time while this is a rebuild; 0 once its index serves.
    at_once: AtomicUsize,
}

impl Passages {
    /// For the index that serves: posts before rebuilds.
    pub fn fresh(encoders: Encoders) -> Self {
        Self { encoders, at_once: AtomicUsize::new(0) }
    }

    /// For a rebuild: after everything else, and never more than so many texts in the queue.
    pub fn rebuild(encoders: Encoders, at_once: usize) -> Self {
        Self { encoders, at_once: AtomicUsize::new(at_once.max(1)) }
    }

    /// Changes how many texts of a rebuild are in the queue at a time.
    pub fn set_at_once(&self, at_once: usize) {
        if self.at_once.load(Ordering::Relaxed) > 0 {
            self.at_once.store(at_once.max(1), Ordering::Relaxed);
        }
    }

    /// From now on its index serves.
    pub fn serve(&self) {
        self.at_once.store(0, Ordering::Relaxed);
    }
}

impl VectorSource for Passages {
    fn space(&self) -> String {
        self.encoders.space().fingerprint()
    }

    fn dim(&self) -> usize {
        self.encoders.space().dim
    }

    fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Box<dyn Error + Send + Sync>> {
        let mut vectors = Vec::with_capacity(texts.len());
        let mut left = texts;
        while !left.is_empty() {
            let (size, priority) = match self.at_once.load(Ordering::Relaxed) {
                0 => (left.len(), Priority::Ingest),
                size => (size.min(left.len()), Priority::Bulk),
            };
            let (now, later) = left.split_at(size);
            let embedded = self.encoders.embed_blocking(now, TextRole::Passage, priority)?;
            vectors.extend(embedded.into_iter().map(|vector| vector.as_slice().to_vec()));
            left = later;
        }
        Ok(vectors)
    }

    fn refuses(&self, error: &(dyn Error + Send + Sync + 'static)) -> bool {
        matches!(
            error.downcast_ref::<SchedulerError>(),
            Some(SchedulerError::Model(ModelError::EmptyText | ModelError::TextTooLong { .. }))
        )
    }
}
