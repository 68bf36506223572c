//! Copying, linking, measuring and syncing files.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::LiveError;

const BUFFER_BYTES: usize = 1 << 20;
/// Deepest directory of a snapshot.
const MAX_DEPTH: usize = 8;
/// Kept free beside what a snapshot or a restore needs: directory entries, manifests, what is written meanwhile.
const MARGIN_BYTES: u64 = 16 << 20;

/// Size and CRC-32 of a file.
pub(super) fn measure(path: &Path) -> io::Result<(u64, u32)> {
    pump(&mut File::open(path)?, &mut io::sink())
}

/// Copies to a new file, durable at return; gives size and CRC-32.
pub(super) fn copy(from: &mut impl Read, to: &Path) -> io::Result<(u64, u32)> {
    let mut target = File::create_new(to)?;
    let measured = pump(from, &mut target)?;
    target.sync_all()?;
    Ok(measured)
}

fn pump(from: &mut impl Read, to: &mut impl Write) -> io::Result<(u64, u32)> {
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut bytes = 0;
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok((bytes, hasher.finalize()));
        }
        hasher.update(&buffer[..count]);
        to.write_all(&buffer[..count])?;
        bytes += count as u64;
    }
}

/// A second name for a file that is never changed, or a copy where the file system has no such names.
pub(super) fn link_or_copy(path: &Path, open: &mut File, to: &Path) -> io::Result<()> {
    match fs::hard_link(path, to) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // Also when the file lost its name meanwhile: the open one is still whole.
        Err(_) => copy(open, to).map(drop),
    }
}

/// Regular files below `dir` with their paths relative to it, sorted; other kinds are left out.
pub(super) fn walk(dir: &Path) -> Result<Vec<PathBuf>, LiveError> {
    let mut found = Vec::new();
    let mut open = vec![(PathBuf::new(), 0)];
    while let Some((relative, depth)) = open.pop() {
        let at = dir.join(&relative);
        for entry in fs::read_dir(&at).map_err(LiveError::io("read", &at))? {
            let entry = entry.map_err(LiveError::io("read", &at))?;
            let kind = entry.file_type().map_err(LiveError::io("read", &at))?;
            let path = relative.join(entry.file_name());
            if kind.is_file() {
                found.push(path);
            } else if kind.is_dir() && depth < MAX_DEPTH {
                open.push((path, depth + 1));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Makes names created, renamed or removed in `dir` and below it durable.
pub(super) fn sync_directories(dir: &Path) -> Result<(), LiveError> {
    let mut open = vec![(dir.to_path_buf(), 0)];
    while let Some((at, depth)) = open.pop() {
        sync_directory(&at)?;
        for entry in fs::read_dir(&at).map_err(LiveError::io("read", &at))? {
            let entry = entry.map_err(LiveError::io("read", &at))?;
            if depth < MAX_DEPTH && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push((entry.path(), depth + 1));
            }
        }
    }
    Ok(())
}

pub(super) fn sync_directory(dir: &Path) -> Result<(), LiveError> {
    if cfg!(unix) {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(LiveError::io("sync", dir))?;
    }
    Ok(())
}

/// Whether two places are on one file system, so that links between them are possible.
pub(super) fn same_device(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev());
        matches!((device(a), device(b)), (Ok(a), Ok(b)) if a == b)
    }
    #[cfg(not(unix))]
    {
        let _ = (a, b);
        false
    }
}

/// Bytes that may still be written at `path`, an existing file or directory; none when the system does not say.
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let stat = rustix::fs::statvfs(path).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

/// Refuses when fewer than `need_bytes` and a margin are free at `path`.
pub(super) fn require_room(path: &Path, need_bytes: u64) -> Result<(), LiveError> {
    let need_bytes = need_bytes.saturating_add(MARGIN_BYTES);
    match free_bytes(path) {
        Some(free_bytes) if free_bytes < need_bytes => {
            Err(LiveError::NoRoom { path: path.to_path_buf(), need_bytes, free_bytes })
        }
        _ => Ok(()),
    }
}
