//! The gate between waiting and computing: a bounded pool of named threads.

use std::sync::Arc;

use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::{Semaphore, oneshot};

use crate::SearchError;

/// Runs index work off the async threads. Cheap to clone.
#[derive(Clone)]
pub struct ComputePool {
    pool: Arc<ThreadPool>,
    places: Arc<Semaphore>,
}

impl ComputePool {
    /// `threads` workers, and at most `queue` pieces of work waiting or running; one more is refused.
    ///
    /// Fails when the threads cannot be started.
    pub fn new(threads: usize, queue: usize) -> Result<Self, SearchError> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads.max(1))
            .thread_name(|n| format!("compute-{n}"))
            .build()
            .map_err(|error| SearchError::Unavailable { reason: format!("compute threads: {error}") })?;
        Ok(Self { pool: Arc::new(pool), places: Arc::new(Semaphore::new(queue.max(1))) })
    }

    /// Runs `work` on the pool. Work whose caller has gone is not started.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, SearchError> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| SearchError::Overloaded)?;
        let (reply, result) = oneshot::channel();
        self.pool.spawn(move || {
            let _place = place;
            if reply.is_closed() {
                return;
            }
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            // The caller may have gone meanwhile; there is nobody left to tell.
            let _ = reply.send(outcome);
        });
        match result.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_)) | Err(_) => {
                Err(SearchError::Unavailable { reason: "index work stopped unexpectedly".into() })
            }
        }
    }
}
