//! Between async callers and the threads that own the models.
//!
//! [`Encoders`] is the only door to the embedder and the reranker of a process: a bounded queue with priorities and
//! deadlines in front of named worker threads, each of which owns its own pair of models. A request that finds the
//! queue full is refused at once, work whose caller has gone or whose deadline has passed is not started, and a model
//! that panics costs its caller an error and nobody else anything.
//!
//! The order of service is decided in [`queue`], and what runs together on a GPU in [`former`]: plain structures
//! without threads or a clock.

mod cache;
mod encoders;
pub mod former;
mod metrics;
pub mod queue;
mod reply;
mod worker;

pub use cache::CacheStatus;
pub use encoders::{Encoders, EncodersConfig, EncodersStatus, Job};
pub use former::BatchPolicy;
pub use metrics::describe_metrics;
pub use queue::{Patience, Priority};

use bowerbird_models_api::ModelError;

/// Why a request got no result.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
    /// The queue has no room: try again later, with less.
    #[error("model queue is full: {queued} items wait, the limit is {limit}")]
    Overloaded {
        /// Items waiting.
        queued: usize,
        /// Items that may wait.
        limit: usize,
    },
    /// The deadline passed before a result was there.
    #[error("deadline passed before the model was done")]
    DeadlineExceeded,
    /// The worker threads have ended.
    #[error("model workers have stopped")]
    Stopped,
    /// The model refused, failed or panicked.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The configuration cannot be used.
    #[error("scheduler settings cannot be used: {0}")]
    Config(String),
    /// The operating system gave no thread.
    #[error("cannot start a model worker: {0}")]
    Thread(#[from] std::io::Error),
}
