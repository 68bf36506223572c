//! `verified.json`: which files were hashed before, so that a start does not read 200 MB again.
//!
//! Format, version 1: `{"version":1,"files":{"<entry>/<file>":{"size":u64,"modified_ns":string,"sha256":hex}}}`. A
//! file counts as verified when its size and time of change are those of the record; anything else is hashed again.
//! The record saves time and guards against accidents; it is no defence against someone who can write the store.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::Write as _;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::CatalogError;

const VERSION: u32 = 1;
/// A record larger than this is not ours.
const MAX_BYTES: u64 = 1 << 20;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    files: BTreeMap<String, Stamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    size: u64,
    modified_ns: String,
    sha256: String,
}

impl Record {
    /// Reads the record; an absent, damaged or newer one is an empty record, and costs one hash of each file.
    pub(crate) fn load(path: &Path) -> Self {
        let empty = Self { version: VERSION, files: BTreeMap::new() };
        let text = match std::fs::metadata(path) {
            Ok(metadata) if metadata.len() <= MAX_BYTES => std::fs::read_to_string(path),
            Ok(metadata) => {
                tracing::warn!(path = %path.display(), bytes = metadata.len(), "ignoring an oversized record");
                return empty;
            }
            Err(_) => return empty,
        };
        match text
            .map_err(|e| e.to_string())
            .and_then(|t| serde_json::from_str(&t).map_err(|e| e.to_string()))
        {
            Ok(Self { version: VERSION, files }) => Self { version: VERSION, files },
            Ok(other) => {
                tracing::debug!(path = %path.display(), version = other.version, "ignoring a record of another version");
                empty
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "ignoring a damaged record of verified files");
                empty
            }
        }
    }

    /// Writes the record beside its final name and renames it.
    pub(crate) fn save(&self, path: &Path) -> Result<(), CatalogError> {
        let parent = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new()
            .prefix(".part-")
            .tempfile_in(parent)
            .map_err(CatalogError::io("create a file in", parent))?;
        serde_json::to_writer(&mut file, self)
            .map_err(|error| CatalogError::io("write", path)(error.into()))?;
        file.flush().map_err(CatalogError::io("write", path))?;
        file.persist(path).map_err(|error| CatalogError::io("write", path)(error.error))?;
        Ok(())
    }

    /// Whether the file was verified with this checksum and has not changed since.
    pub(crate) fn vouches(&self, key: &str, metadata: &Metadata, sha256: &str) -> bool {
        self.files.get(key).is_some_and(|stamp| {
            stamp.sha256 == sha256
                && stamp.size == metadata.len()
                && modified_ns(metadata).is_some_and(|ns| ns == stamp.modified_ns)
        })
    }

    /// Notes that the file has this checksum.
    pub(crate) fn note(&mut self, key: &str, metadata: &Metadata, sha256: &str) {
        if let Some(modified_ns) = modified_ns(metadata) {
            let stamp = Stamp { size: metadata.len(), modified_ns, sha256: sha256.into() };
            self.files.insert(key.into(), stamp);
        }
    }

    /// Forgets the file.
    pub(crate) fn forget(&mut self, key: &str) {
        self.files.remove(key);
    }
}

/// Nanoseconds since 1970; a string, because JSON numbers lose digits in other readers.
fn modified_ns(metadata: &Metadata) -> Option<String> {
    let since = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(since.as_nanos().to_string())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_changed_size_time_or_checksum_is_not_vouched_for() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("f");
        std::fs::write(&path, "abc").expect("writes");
        let metadata = std::fs::metadata(&path).expect("exists");
        let mut record = Record::load(&dir.path().join("absent.json"));
        assert!(!record.vouches("e/f", &metadata, "x"));
        record.note("e/f", &metadata, "x");
        assert!(record.vouches("e/f", &metadata, "x"));
        assert!(!record.vouches("e/f", &metadata, "y"));
        assert!(!record.vouches("e/g", &metadata, "x"));

        let saved = dir.path().join("verified.json");
        record.save(&saved).expect("saves");
        assert_eq!(Record::load(&saved), record);

        let file = std::fs::File::options().append(true).open(&path).expect("opens");
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).expect("sets the time");
        assert!(!record.vouches("e/f", &std::fs::metadata(&path).expect("exists"), "x"));
        std::fs::write(&path, "abcd").expect("writes");
        assert!(!record.vouches("e/f", &std::fs::metadata(&path).expect("exists"), "x"));
    }

    #[test]
    fn a_damaged_or_newer_record_is_empty() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("verified.json");
        for text in
            ["", "{", "[]", r#"{"version":2,"files":{"a/b":{"size":1,"modified_ns":"1","sha256":"x"}}}"#]
        {
            std::fs::write(&path, text).expect("writes");
            assert_eq!(Record::load(&path).files.len(), 0, "{text}");
        }
    }
}
