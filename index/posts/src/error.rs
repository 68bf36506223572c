//! What can go wrong between a caller and the post store.

use std::io;
use std::path::PathBuf;

/// Why the store could not be opened, read or written.
///
/// No variant is a mistake in a post: those are refused earlier, as [`crate::InvalidPost`].
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be created or read.
    #[error("cannot use directory {path}: {source}; check that it exists and that this user may write to it")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the store cannot be read or written.
    #[error("cannot read or write {path}: {source}; check free space and permissions")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is something else than a post store.
    #[error("{path} is not a post store: give another data directory, or move the file away")]
    NotAStore {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by another version.
    #[error(
        "{path} has format {found}, this build reads {expected}: use the build that wrote it, or export and load again"
    )]
    WrongFormat {
        /// The file.
        path: PathBuf,
        /// Format this build reads.
        expected: u64,
        /// Format found.
        found: u64,
    },
    /// Somebody else has the store open.
    #[error("{path} is open in another process: stop it, or give another data directory")]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged as a whole.
    #[error("{path} is damaged ({message}): restore it from a backup")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// An I/O error made the store close the file and open it again; what was under way was not done.
    #[error("{path} was opened again after an I/O error: try again")]
    Reopened {
        /// The file.
        path: PathBuf,
    },
    /// One record is damaged; the others can be read.
    #[error("{path}: the record of ordinal {ordinal} is damaged ({message}): load that post again")]
    DamagedRecord {
        /// The file.
        path: PathBuf,
        /// Ordinal of the record.
        ordinal: u32,
        /// What is wrong.
        message: String,
    },
    /// Every ordinal has been given out.
    #[error("{path} has used all {limit} ordinals: rebuild the store from an export")]
    Full {
        /// The file.
        path: PathBuf,
        /// How many there are.
        limit: u32,
    },
    /// The database refused for another reason.
    #[error("{path}: {message}")]
    Database {
        /// The file.
        path: PathBuf,
        /// What the database said.
        message: String,
    },
}
