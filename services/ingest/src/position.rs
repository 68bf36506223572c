//! How far a data directory has applied a stream: the file `ingest.json` in it.
//!
//! It is written after the posts it speaks of are durable, to a temporary file that is synced and renamed, so it is
//! there whole or as it was before, and never ahead of the posts.
//!
//! ```text
//! {"version": 1, "node": "3f9c…", "followed": {"stream": "POSTS", "created": "2026-…Z", "applied": 1234, "missed": 0}}
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::IngestError;

/// Name of the file in the data directory.
pub const FILE: &str = "ingest.json";
const VERSION: u32 = 1;

/// What `ingest.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    version: u32,
    /// Names this node among those that follow the stream; made up once.
    pub node: String,
    /// The stream, once it was seen.
    pub followed: Option<Followed>,
}

/// A stream, and how far it is applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Followed {
    /// Name of the stream.
    pub stream: String,
    /// When it was made: a stream that was deleted and made again under its name is another one.
    pub created: Timestamp,
    /// Sequence of the last message that is applied and durable; 0 before the first.
    pub applied: u64,
    /// Messages the stream had dropped before they were read.
    pub missed: u64,
}

impl Position {
    /// Reads the file; a new node when there is none.
    pub fn read(data_dir: &Path) -> Result<Self, IngestError> {
        let path = data_dir.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut node = Uuid::new_v4().simple().to_string();
                node.truncate(12);
                return Ok(Self { version: VERSION, node, followed: None });
            }
            Err(source) => return Err(IngestError::Io { action: "read", path, source }),
        };
        let damaged = |message: String| IngestError::Damaged { path: path.clone(), message };
        let position: Self = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if position.version != VERSION {
            return Err(damaged(format!("version {}, expected {VERSION}", position.version)));
        }
        Ok(position)
    }

    /// Makes the file durable.
    pub fn write(&self, data_dir: &Path) -> Result<(), IngestError> {
        let failed = |action: &'static str, path: &Path| {
            let path: PathBuf = path.to_path_buf();
            move |source: io::Error| IngestError::Io { action, path, source }
        };
        let path = data_dir.join(FILE);
        let temporary = data_dir.join(format!("{FILE}.tmp"));
        let mut bytes = serde_json::to_vec(self).map_err(|error| failed("write", &path)(error.into()))?;
        bytes.push(b'\n');
        File::create(&temporary)
            .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
            .map_err(failed("write", &temporary))?;
        fs::rename(&temporary, &path).map_err(failed("rename", &temporary))?;
        if cfg!(unix) {
            File::open(data_dir).and_then(|dir| dir.sync_all()).map_err(failed("sync", data_dir))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nonsense_is_named() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut position = Position::read(dir.path()).expect("new");
        assert_ne!(position.node, Position::read(dir.path()).expect("new").node);
        position.followed = Some(Followed {
            stream: "POSTS".into(),
            created: "2026-01-02T03:04:05.678901234Z".parse().expect("a time"),
            applied: u64::MAX,
            missed: 3,
        });
        position.write(dir.path()).expect("written");
        assert_eq!(Position::read(dir.path()).expect("read"), position);
        for (text, part) in [("{", "EOF"), (r#"{"version":2,"node":"a","followed":null}"#, "version 2")] {
            fs::write(dir.path().join(FILE), text).expect("written");
            let error = Position::read(dir.path()).expect_err("damaged").to_string();
            assert!(error.contains(part) && error.contains("remove the file"), "{error}");
        }
        let nowhere = dir.path().join("none");
        assert!(matches!(position.write(&nowhere), Err(IngestError::Io { action: "write", .. })));
    }
}
