//! What can go wrong in a live generation.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bowerbird_lexical::LexicalError;
use bowerbird_posts::StoreError;
use bowerbird_vector::VectorError;

/// Why a live generation refused or failed.
///
/// [`Overloaded`](Self::Overloaded) asks the caller to come back, [`Filter`](Self::Filter) and
/// [`Config`](Self::Config) are mistakes of the caller, the others faults of the files or of the machine.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// Another process, or another `Live` of this one, has the data directory open.
    #[error("{} is held by another process: stop it, or give another data directory", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The data directory was written by another version.
    #[error("{} says {found:?}, expected {expected:?}: use the version that wrote it, or load the posts again", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What this version writes.
        expected: String,
        /// What the file says, shortened.
        found: String,
    },
    /// The write queue is full.
    #[error(
        "{queued_ops} changes of {queued_bytes} bytes are waiting, the limit is {limit_ops} of {limit_bytes}: try again later"
    )]
    Overloaded {
        /// Changes waiting.
        queued_ops: usize,
        /// Their size.
        queued_bytes: usize,
        /// Most changes that may wait.
        limit_ops: usize,
        /// Most bytes that may wait.
        limit_bytes: usize,
    },
    /// The generation is closing, or one of its threads ended.
    #[error("the index is closed")]
    Stopped,
    /// What was acknowledged does not get into the indexes.
    #[error(
        "no progress for {waited:?} with {vectors_pending} vectors and {lexical_behind} commits to go: {message}"
    )]
    Stalled {
        /// How long nothing moved.
        waited: Duration,
        /// Posts without a vector.
        vectors_pending: u64,
        /// Transactions the lexical index lacks.
        lexical_behind: u64,
        /// The last error.
        message: String,
    },
    /// The filter is too deep or too large.
    #[error("filter {what} is {found}, the limit is {limit}")]
    Filter {
        /// Depth or size.
        what: &'static str,
        /// Largest accepted.
        limit: usize,
        /// Found.
        found: usize,
    },
    /// A setting is outside its range.
    #[error("{name} is {found}, expected {expected}")]
    Config {
        /// Name of the setting.
        name: &'static str,
        /// What is accepted.
        expected: &'static str,
        /// What was given.
        found: usize,
    },
    /// The post store failed; shared by all whose changes were in one transaction.
    #[error(transparent)]
    Store(#[from] Arc<StoreError>),
    /// The lexical index failed.
    #[error(transparent)]
    Lexical(#[from] LexicalError),
    /// The vector index failed.
    #[error(transparent)]
    Vector(#[from] VectorError),
    /// Too little space is left.
    #[error(
        "{} has {free_bytes} bytes free, {need_bytes} are needed: free space, or use another disk", path.display()
    )]
    NoRoom {
        /// Where it is needed.
        path: PathBuf,
        /// How much is needed, a margin included.
        need_bytes: u64,
        /// How much is free.
        free_bytes: u64,
    },
    /// The name of a snapshot is not accepted.
    #[error(
        "snapshot name {found:?} is not 1 to 64 of letters, digits, `.`, `_` and `-`, beginning with a letter or digit"
    )]
    SnapshotName {
        /// The name, shortened.
        found: String,
    },
    /// There is a snapshot of this name.
    #[error("{} is there already: give another name, or delete it", path.display())]
    SnapshotExists {
        /// Where.
        path: PathBuf,
    },
    /// A file of a snapshot is missing or not as it was written.
    #[error("{} is damaged ({message}): use another snapshot", path.display())]
    SnapshotDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A directory that must be empty is not.
    #[error("{} is not empty: give a directory that is absent or empty", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// A generation cannot be used so.
    #[error("generation {number}: {message}")]
    Generation {
        /// Its number.
        number: u32,
        /// Why not, and what helps.
        message: String,
    },
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl From<StoreError> for LiveError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl LiveError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }
}
