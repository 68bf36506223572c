//! What a snapshot says of itself.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use crate::LiveError;

pub(super) const MANIFEST: &str = "MANIFEST";
/// Version of the manifest and of the layout it describes.
pub(super) const FORMAT: u32 = 1;
/// A manifest names some dozens of files; a larger one is not ours.
const LIMIT_BYTES: u64 = 16 << 20;

/// One file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotFile {
    /// Path within the snapshot, with `/` between its parts.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// CRC-32 (IEEE) of the content.
    pub crc32: u32,
}

/// What a snapshot holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotManifest {
    /// 1.
    pub format: u32,
    /// Its name.
    pub name: String,
    /// When it was begun.
    pub created_at: jiff::Timestamp,
    /// Last transaction of the post store in it.
    pub sequence: u64,
    /// The ordinal that the next new text gets.
    pub next_ordinal: u32,
    /// Live posts.
    pub posts: u64,
    /// Size of all files together, links counted in full.
    pub bytes: u64,
    /// Every file but the manifest, by path.
    pub files: Vec<SnapshotFile>,
}

impl SnapshotManifest {
    pub(super) fn write(&self, dir: &Path) -> Result<(), LiveError> {
        let path = dir.join(MANIFEST);
        let json = serde_json::to_string_pretty(self)
            .map_err(|error| damaged(&path, format!("cannot be written as JSON: {error}")))?;
        let text = format!("{:08x}\n{json}", crc32fast::hash(json.as_bytes()));
        File::create_new(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
            .map_err(LiveError::io("write", &path))
    }
}

/// Reads and checks the manifest of the snapshot in `dir`; its files are not looked at.
pub fn read_manifest(dir: &Path) -> Result<SnapshotManifest, LiveError> {
    let path = dir.join(MANIFEST);
    let mut text = String::new();
    File::open(&path)
        .and_then(|file| file.take(LIMIT_BYTES).read_to_string(&mut text))
        .map_err(LiveError::io("read", &path))?;
    let Some((crc, json)) = text.split_once('\n') else {
        return Err(damaged(&path, "it has no checksum line"));
    };
    let found = format!("{:08x}", crc32fast::hash(json.as_bytes()));
    if found != crc {
        return Err(damaged(&path, format!("checksum is {found}, expected {crc}")));
    }
    let value: serde_json::Value =
        serde_json::from_str(json).map_err(|error| damaged(&path, error.to_string()))?;
    let format = value.get("format").and_then(serde_json::Value::as_u64);
    if format != Some(u64::from(FORMAT)) {
        return Err(LiveError::Format {
            path,
            expected: format!("snapshot format {FORMAT}"),
            found: format!("snapshot format {format:?}"),
        });
    }
    let manifest: SnapshotManifest =
        serde_json::from_value(value).map_err(|error| damaged(&path, error.to_string()))?;
    for file in &manifest.files {
        let relative = Path::new(&file.path);
        let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
        if !plain || file.path.is_empty() || file.path.contains('\\') || file.path == MANIFEST {
            return Err(damaged(
                &path,
                format!("it names {:?}, which is not inside the snapshot", file.path),
            ));
        }
    }
    if !manifest.files.is_sorted_by(|a, b| a.path < b.path) {
        return Err(damaged(&path, "its files are not in order, or one is named twice"));
    }
    Ok(manifest)
}

pub(super) fn damaged(path: &Path, message: impl Into<String>) -> LiveError {
    LiveError::SnapshotDamaged { path: path.to_path_buf(), message: message.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(paths: &[&str]) -> SnapshotManifest {
        let file = |path: &&str| SnapshotFile { path: (*path).to_owned(), bytes: 3, crc32: 7 };
        SnapshotManifest {
            format: FORMAT,
            name: "a".into(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            sequence: 4,
            next_ordinal: 2,
            posts: 1,
            bytes: 3,
            files: paths.iter().map(file).collect(),
        }
    }

    #[test]
    fn a_manifest_comes_back_and_every_changed_byte_is_noticed() {
        let dir = tempfile::tempdir().expect("a directory");
        let written = manifest(&["FORMAT", "posts/posts.redb"]);
        written.write(dir.path()).expect("written");
        assert_eq!(read_manifest(dir.path()).expect("read"), written);
        let path = dir.path().join(MANIFEST);
        let bytes = std::fs::read(&path).expect("read");
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            std::fs::write(&path, bad).expect("written");
            assert!(read_manifest(dir.path()).is_err(), "byte {at}");
        }
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for path in ["../x", "/etc/x", "a/../../x", "", "MANIFEST", "a\\b", "./a"] {
            let dir = tempfile::tempdir().expect("a directory");
            manifest(&[path]).write(dir.path()).expect("written");
            assert!(read_manifest(dir.path()).is_err(), "{path:?}");
        }
        let dir = tempfile::tempdir().expect("a directory");
        manifest(&["b", "a"]).write(dir.path()).expect("written");
        assert!(read_manifest(dir.path()).is_err(), "out of order");
    }
}
