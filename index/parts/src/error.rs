//! What can go wrong with a part file.

use std::io;
use std::path::{Path, PathBuf};

/// Why a part could not be read or written, or one of its rows was refused.
///
/// Rows are counted from 0, as Arrow and pandas do.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The file is no Parquet, or not all of it is there, or bytes have changed.
    #[error("{} is damaged, cut short or no Parquet file ({message}): make it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The file is packed in a way this build does not read.
    #[error("{}: column {column} is compressed with {codec}: write it with snappy, gzip or none", path.display())]
    Codec {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// How it is packed.
        codec: String,
    },
    /// A row group is too large to be read in bounded memory.
    #[error("{}: row group {group} has {found} bytes, the limit is {limit}: write smaller row groups", path.display())]
    RowGroup {
        /// The file.
        path: PathBuf,
        /// Which one, from 0.
        group: usize,
        /// Its bytes, unpacked.
        found: u64,
        /// Most bytes.
        limit: u64,
    },
    /// The part was written by another version.
    #[error("{} has part format {found}, this build reads {expected}: export and embed again with this version", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Format this build reads.
        expected: &'static str,
        /// Format found.
        found: String,
    },
    /// A column is missing, unknown or of another type.
    #[error("{}: column {column}: {message}", path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// What was found, what was expected, and the remedy.
        message: String,
    },
    /// The file holds posts without vectors.
    #[error("{} is no vector part: make one of it with `bowerbird embed`", path.display())]
    NoVectors {
        /// The file.
        path: PathBuf,
    },
    /// The vectors are of another embedding space.
    #[error("{} holds vectors of {found}, expected {expected}: embed its posts with that model", path.display())]
    Space {
        /// The file.
        path: PathBuf,
        /// Fingerprint asked for.
        expected: String,
        /// Fingerprint of the file.
        found: String,
    },
    /// One row is refused; the next can be read.
    #[error("{}, row {row}, column {column}: {message}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The row, from 0.
        row: u64,
        /// The column.
        column: String,
        /// What was found, what was expected, and the remedy.
        message: String,
    },
    /// A post or vector that was to be written does not fit the format.
    #[error("cannot write post {id} to {}: {message}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The post.
        id: String,
        /// What is wrong.
        message: String,
    },
}

impl PartError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn damaged(path: &Path, message: impl ToString) -> Self {
        Self::Damaged { path: path.to_path_buf(), message: message.to_string() }
    }

    pub(crate) fn column(path: &Path, column: &str, message: impl Into<String>) -> Self {
        Self::Column { path: path.to_path_buf(), column: column.to_owned(), message: message.into() }
    }

    /// Whether only one row is refused and the next can be read.
    pub fn is_row(&self) -> bool {
        matches!(self, Self::Row { .. })
    }
}
