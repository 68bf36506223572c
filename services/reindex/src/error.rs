//! What can go wrong with a rebuild.

use std::path::PathBuf;

use bowerbird_live::LiveError;
use bowerbird_parts::PartError;
use bowerbird_scheduler::SchedulerError;
use bowerbird_search::SearchError;

/// Why a rebuild was not begun, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ReindexError {
    /// One is under way.
    #[error("rebuild {id} is under way: wait for it, or cancel it")]
    Running {
        /// Its id.
        id: String,
    },
    /// There is none of this id.
    #[error("there is no rebuild {id:?}")]
    NotFound {
        /// The id.
        id: String,
    },
    /// What was asked does not fit the state the rebuild is in.
    #[error("rebuild {id} is {state}: {message}")]
    State {
        /// Its id.
        id: String,
        /// Its state.
        state: &'static str,
        /// What can be done.
        message: &'static str,
    },
    /// A field of the plan is not accepted.
    #[error("{field} is {found}, expected {expected}")]
    Field {
        /// The field.
        field: &'static str,
        /// What was given, shortened.
        found: String,
        /// What is accepted.
        expected: String,
    },
    /// The same generation would be built again.
    #[error(
        "the generation that serves has this embedder, analyser and vector settings already: change one of them"
    )]
    Nothing,
    /// There is no generation to go back to.
    #[error("there is no earlier generation: it was pruned, or none was ever replaced")]
    NoEarlier,
    /// The disk is too small.
    #[error(
        "the new generation needs about {need_bytes} bytes, {} has {free_bytes} free: free space, or prune an old generation",
        path.display()
    )]
    NoRoom {
        /// The data directory.
        path: PathBuf,
        /// Estimate, a margin included.
        need_bytes: u64,
        /// Free now.
        free_bytes: u64,
    },
    /// The embedder could not be loaded.
    #[error("embedder {name:?} cannot be loaded: {message}")]
    Embedder {
        /// Its name.
        name: String,
        /// Why.
        message: String,
    },
    /// The file of a plan is not what was written.
    #[error("{} is damaged ({message}): remove the generation with prune, and begin again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The process is closing; the next start goes on.
    #[error("stopped before the end: the next start goes on where it was")]
    Stopped,
    /// A part file with vectors cannot be used.
    #[error(transparent)]
    Part(#[from] PartError),
    /// The generation failed.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// A model failed.
    #[error(transparent)]
    Model(#[from] SchedulerError),
    /// A search failed.
    #[error(transparent)]
    Search(#[from] SearchError),
}
