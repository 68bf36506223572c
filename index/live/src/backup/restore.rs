//! Checking a snapshot and making a data directory of it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::files::{copy, measure, require_room, sync_directories, sync_directory};
use super::manifest::{SnapshotFile, SnapshotManifest, damaged, read_manifest};
use crate::LiveError;
use crate::layout;

/// Reads every file of a snapshot and compares it with the manifest; the first that differs is the error.
pub fn verify(snapshot: &Path) -> Result<SnapshotManifest, LiveError> {
    let manifest = read_manifest(snapshot)?;
    for file in &manifest.files {
        let path = snapshot.join(&file.path);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if !metadata.is_file() => return Err(damaged(&path, "it is not a file")),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(damaged(&path, "the file is missing"));
            }
            Err(error) => return Err(LiveError::io("read", &path)(error)),
        }
        same(&path, file, measure(&path).map_err(LiveError::io("read", &path))?)?;
    }
    Ok(manifest)
}

/// Makes the data directory `target`, which must be absent or empty, of a snapshot.
///
/// The snapshot is verified before anything is written, the copy again while it is made, and `target` appears
/// whole or not at all.
pub fn restore(snapshot: &Path, target: &Path) -> Result<SnapshotManifest, LiveError> {
    let manifest = verify(snapshot)?;
    match fs::read_dir(target) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(LiveError::NotEmpty { path: target.to_path_buf() });
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(LiveError::io("read", target)(error)),
    }
    let Some(name) = target.file_name() else {
        return Err(LiveError::NotEmpty { path: target.to_path_buf() });
    };
    let home = target.parent().filter(|home| !home.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(home).map_err(LiveError::io("create", home))?;
    require_room(home, manifest.bytes)?;
    let unfinished = Unfinished(home.join(format!(".{}.restoring", name.to_string_lossy())));
    layout::remove(&unfinished.0)?;
    fs::create_dir(&unfinished.0).map_err(LiveError::io("create", &unfinished.0))?;
    for file in &manifest.files {
        let (from, to) = (snapshot.join(&file.path), unfinished.0.join(&file.path));
        if let Some(directory) = to.parent() {
            fs::create_dir_all(directory).map_err(LiveError::io("create", directory))?;
        }
        let copied = File::open(&from).and_then(|mut source| copy_like(&mut source, &to));
        same(&from, file, copied.map_err(LiveError::io("copy", &from))?)?;
    }
    sync_directories(&unfinished.0)?;
    // An empty directory gives way to the new one.
    fs::rename(&unfinished.0, target).map_err(LiveError::io("rename", &unfinished.0))?;
    sync_directory(home)?;
    Ok(manifest)
}

/// Copies content and permissions: the signing key of ads is its owner's only.
fn copy_like(source: &mut File, to: &Path) -> io::Result<(u64, u32)> {
    let copied = copy(source, to)?;
    fs::set_permissions(to, source.metadata()?.permissions())?;
    Ok(copied)
}

fn same(path: &Path, expected: &SnapshotFile, (bytes, crc32): (u64, u32)) -> Result<(), LiveError> {
    if (bytes, crc32) == (expected.bytes, expected.crc32) {
        return Ok(());
    }
    let SnapshotFile { bytes: want, crc32: checksum, .. } = expected;
    let message =
        format!("{bytes} bytes with checksum {crc32:08x}, expected {want} bytes with {checksum:08x}");
    Err(damaged(path, message))
}

/// A directory that goes unless it was renamed.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Err(error) = layout::remove(&self.0) {
            tracing::warn!(%error, "an unfinished restore stays behind");
        }
    }
}
