//! What can go wrong between a manifest and a usable file, with the remedy.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

/// Everything this crate can fail with.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The manifest does not parse or contradicts itself; all contradictions are listed.
    #[error("catalog manifest is not usable: {}", problems.join("; "))]
    Manifest {
        /// One line for each contradiction.
        problems: Vec<String>,
    },
    /// No entry has that name.
    #[error("no catalog entry is named `{name}`, there are: {}", known.join(", "))]
    UnknownEntry {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// The entry has files for other platforms only.
    #[error("{entry} has no file for {platform}, only for {}: put a build for {platform} at \
             DIR/{entry}/ and pass `--models-dir DIR`", available.join(", "))]
    Platform {
        /// The entry.
        entry: String,
        /// This machine.
        platform: String,
        /// Platforms the manifest covers.
        available: Vec<String>,
    },
    /// Files are missing or are not what the manifest says.
    #[error("{}", lines(problems))]
    Bad {
        /// One for each wrong file.
        problems: Vec<Problem>,
    },
    /// No source gave the file.
    #[error("cannot fetch {what}:\n{}{remedy}", lines_indented(attempts))]
    Fetch {
        /// File and entry, with the size and checksum it must have.
        what: String,
        /// What was tried, in order.
        attempts: Vec<Attempt>,
        /// How to hand the file over without a network.
        remedy: String,
    },
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, such as `write`.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl CatalogError {
    /// Turns a system error into one that names the action and the path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }
}

/// One file that is not what the manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where the file should be.
    pub path: PathBuf,
    /// Size or checksum it should have.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: expected {}, found {}: {}",
            self.path.display(),
            self.expected,
            self.found,
            self.remedy
        )
    }
}

/// One source that did not give the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Which source, with version and place.
    pub source: String,
    /// Why it failed.
    pub message: String,
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn lines_indented(attempts: &[Attempt]) -> String {
    attempts.iter().fold(String::new(), |mut out, Attempt { source, message }| {
        let _ = writeln!(out, "  - {source}: {message}"); // writing to a String cannot fail
        out
    })
}
