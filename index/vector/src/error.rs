//! What can go wrong in the vector index.

use std::path::{Path, PathBuf};

/// Why the vector index refused or failed.
///
/// [`SpaceMismatch`](Self::SpaceMismatch) to [`NotUnit`](Self::NotUnit) and [`Config`](Self::Config) are mistakes of
/// the caller; the others are faults of the files or of the machine.
#[derive(Debug, thiserror::Error)]
pub enum VectorError {
    /// The files hold vectors of another embedding space.
    #[error(
        "vectors belong to space {found}, expected {expected}: reindex, or start with the model they were made with"
    )]
    SpaceMismatch {
        /// Fingerprint the caller opened with.
        expected: String,
        /// Fingerprint in the file.
        found: String,
    },
    /// A vector, or the file, has another number of components.
    #[error("vector has {found} dimensions, expected {expected}")]
    DimensionMismatch {
        /// Dimensions of this index.
        expected: usize,
        /// Dimensions found.
        found: usize,
    },
    /// A component is NaN or infinite.
    #[error("component {component} of the vector is not finite")]
    NotFinite {
        /// Position of the first such component.
        component: usize,
    },
    /// The vector is not of unit length.
    #[error("vector has length {found}, expected 1 within 0.001: normalise it first")]
    NotUnit {
        /// Euclidean length found.
        found: f32,
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
    /// The index holds as many records as it can address.
    #[error(
        "vector log holds {limit} records, which is the most it can: run compaction, or split the collection"
    )]
    Full {
        /// Most records of one log.
        limit: u64,
    },
    /// A file fails its checksum.
    #[error("{} is damaged{}: {detail}: run `bowerbird doctor --repair`", path.display(), at_record(*record))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which record, counted from 0; none when the header is damaged.
        record: Option<u64>,
        /// What was expected and what was found.
        detail: String,
    },
    /// The file was written by another version of Bowerbird.
    #[error("{} has format version {found}, expected {expected}: use the version that wrote it, or reindex", path.display())]
    UnsupportedVersion {
        /// The file.
        path: PathBuf,
        /// Version this code writes.
        expected: u32,
        /// Version in the file.
        found: u32,
    },
    /// The graph library failed to write or read its dump.
    #[error("graph segment in {} failed: {message}", path.display())]
    Graph {
        /// Directory of the segment.
        path: PathBuf,
        /// What the library said.
        message: String,
    },
    /// The configured engine is not in this build.
    #[error("engine {engine:?} is not in this build: build with its cargo feature, or choose another")]
    Engine {
        /// The engine asked for.
        engine: crate::Engine,
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

impl VectorError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn damaged(path: &Path, record: Option<u64>, detail: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_path_buf(), record, detail: detail.into() }
    }
}

fn at_record(record: Option<u64>) -> String {
    record.map_or_else(String::new, |record| format!(" at record {record}"))
}
