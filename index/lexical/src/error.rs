//! What can go wrong between a caller and the lexical index.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use tantivy::TantivyError;
use tantivy::directory::error::{LockError, OpenDirectoryError, OpenReadError, OpenWriteError};

use crate::files;

/// Why the index could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum LexicalError {
    /// The directory cannot be created or read.
    #[error("cannot use directory {path}: {source}; check that it exists and that this user may write to it")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is missing or damaged. Nothing is lost: the index is rebuilt from the post store.
    #[error("{path} is damaged ({message}): run `bowerbird doctor --repair` to rebuild the lexical index")]
    Damaged {
        /// The file, or the directory of the index when it is not known which.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The index was written by another version.
    #[error(
        "{path} has format {found}, this build reads {expected}: run `bowerbird doctor --repair` to rebuild it"
    )]
    WrongFormat {
        /// The file.
        path: PathBuf,
        /// Format this build reads.
        expected: String,
        /// Format found.
        found: String,
    },
    /// Another writer has the index open.
    #[error(
        "the lexical index in {path} is open in another process: stop it, or give another data directory"
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The system refused a read or a write.
    #[error("cannot read or write the lexical index in {path}: {source}; check free space and permissions")]
    Io {
        /// The directory or the file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A parameter has no meaning.
    #[error("{name} is {found}, expected {expected}")]
    Config {
        /// Name of the parameter.
        name: &'static str,
        /// The value.
        found: String,
        /// What is accepted.
        expected: &'static str,
    },
    /// The search library refused for another reason.
    #[error("lexical index in {path}: {message}")]
    Engine {
        /// The directory.
        path: PathBuf,
        /// What the library said.
        message: String,
    },
}

/// Runs `work`; a panic of the search library, which a damaged file can cause, becomes [`LexicalError::Damaged`].
pub(crate) fn guard<T>(
    dir: &Path,
    work: impl FnOnce() -> Result<T, LexicalError>,
) -> Result<T, LexicalError> {
    let result =
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(damaged(dir, panic_text(&*panic))));
    match result {
        // The library does not say which file it met; now it pays to read them all.
        Err(LexicalError::Damaged { path, message }) if path == dir => {
            Err(files::first_damaged(dir).unwrap_or(LexicalError::Damaged { path, message }))
        }
        other => other,
    }
}

pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown panic").to_owned()
}

pub(crate) fn damaged(path: &Path, message: impl Into<String>) -> LexicalError {
    LexicalError::Damaged { path: path.to_owned(), message: message.into() }
}

pub(crate) fn io_fault(dir: &Path, error: &io::Error) -> LexicalError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => damaged(dir, error.to_string()),
        kind => LexicalError::Io { path: dir.to_owned(), source: io::Error::new(kind, error.to_string()) },
    }
}

/// Says what an error of the search library means for the index in `dir`.
pub(crate) fn fault(dir: &Path, error: &TantivyError) -> LexicalError {
    match error {
        TantivyError::OpenReadError(OpenReadError::FileDoesNotExist(file)) => {
            damaged(&dir.join(file), "the file is missing")
        }
        TantivyError::OpenReadError(OpenReadError::IoError { io_error, filepath })
        | TantivyError::OpenWriteError(OpenWriteError::IoError { io_error, filepath }) => {
            io_fault(&dir.join(filepath), io_error)
        }
        TantivyError::OpenDirectoryError(OpenDirectoryError::IoError { io_error, directory_path }) => {
            LexicalError::Directory {
                path: directory_path.clone(),
                source: io::Error::new(io_error.kind(), io_error.to_string()),
            }
        }
        TantivyError::LockFailure(LockError::LockBusy, _) => LexicalError::Locked { path: dir.to_owned() },
        TantivyError::LockFailure(LockError::IoError(error), _) | TantivyError::IoError(error) => {
            io_fault(dir, error)
        }
        TantivyError::DataCorruption(corruption) => damaged(dir, format!("{corruption:?}")),
        TantivyError::IncompatibleIndex(mismatch)
        | TantivyError::OpenReadError(OpenReadError::IncompatibleIndex(mismatch)) => {
            LexicalError::WrongFormat {
                path: dir.to_owned(),
                expected: tantivy::version_string().to_owned(),
                found: format!("{mismatch:?}"),
            }
        }
        other => LexicalError::Engine { path: dir.to_owned(), message: other.to_string() },
    }
}
