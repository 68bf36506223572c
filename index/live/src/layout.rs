//! The files of a data directory.
//!
//! ```text
//! FORMAT               "bowerbird data 1\n"
//! LOCK                 empty; locked while a process uses the directory
//! posts/               the post store, the source of truth
//! generation/lexical/  lexical index   } caches: made again from the posts
//! generation/vector/   vector index    }
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::LiveError;

/// What the file `FORMAT` holds.
pub const FORMAT: &str = "bowerbird data 1\n";

/// A data directory this process has to itself until the value is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    root: PathBuf,
    /// The lock ends when the file is closed.
    _lock: File,
}

impl DataDir {
    /// Makes the directory when absent, locks it, and checks or writes its format.
    pub fn open(root: &Path) -> Result<Self, LiveError> {
        fs::create_dir_all(root).map_err(LiveError::io("create", root))?;
        let path = root.join("LOCK");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(LiveError::io("open", &path))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => LiveError::Locked { path: path.clone() },
            TryLockError::Error(source) => LiveError::Io { action: "lock", path: path.clone(), source },
        })?;
        check_format(root)?;
        let dir = Self { root: root.to_path_buf(), _lock: lock };
        let generation = root.join("generation");
        fs::create_dir_all(&generation).map_err(LiveError::io("create", &generation))?;
        Ok(dir)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn posts(&self) -> PathBuf {
        self.root.join("posts")
    }

    pub fn lexical(&self) -> PathBuf {
        self.root.join("generation").join("lexical")
    }

    pub fn vector(&self) -> PathBuf {
        self.root.join("generation").join("vector")
    }
}

fn check_format(root: &Path) -> Result<(), LiveError> {
    let path = root.join("FORMAT");
    match File::open(&path) {
        Ok(file) => {
            let mut found = Vec::new();
            file.take(64).read_to_end(&mut found).map_err(LiveError::io("read", &path))?;
            if found == FORMAT.as_bytes() {
                return Ok(());
            }
            let found = String::from_utf8_lossy(&found).into_owned();
            Err(LiveError::Format { path, expected: FORMAT.to_owned(), found })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let temporary = root.join("FORMAT.tmp");
            File::create(&temporary)
                .and_then(|mut file| file.write_all(FORMAT.as_bytes()).and_then(|()| file.sync_all()))
                .map_err(LiveError::io("write", &temporary))?;
            fs::rename(&temporary, &path).map_err(LiveError::io("rename", &temporary))?;
            if cfg!(unix) {
                File::open(root).and_then(|dir| dir.sync_all()).map_err(LiveError::io("sync", root))?;
            }
            Ok(())
        }
        Err(source) => Err(LiveError::Io { action: "open", path, source }),
    }
}

/// Removes a `FORMAT` that says nothing of a version, to be written again; one of another version stays.
pub(crate) fn mend_format(root: &Path) -> Result<bool, LiveError> {
    let path = root.join("FORMAT");
    let found = match fs::read(&path) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(LiveError::io("read", &path)(error)),
    };
    let text = String::from_utf8_lossy(&found);
    let version = text.strip_prefix("bowerbird data ").and_then(|rest| rest.strip_suffix('\n'));
    if version.is_some_and(|version| version.parse::<u32>().is_ok()) {
        return Ok(false);
    }
    fs::remove_file(&path).map_err(LiveError::io("remove", &path))?;
    Ok(true)
}

/// Removes a directory of the generation, to be made again.
pub(crate) fn remove(path: &Path) -> Result<(), LiveError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(LiveError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time_and_only_this_format() {
        let root = tempfile::tempdir().expect("temporary directory");
        let held = DataDir::open(root.path()).expect("opens");
        assert!(matches!(DataDir::open(root.path()), Err(LiveError::Locked { .. })));
        drop(held);
        drop(DataDir::open(root.path()).expect("free again"));
        fs::write(root.path().join("FORMAT"), "bowerbird data 2\n").expect("written");
        match DataDir::open(root.path()) {
            Err(LiveError::Format { found, .. }) => assert_eq!(found, "bowerbird data 2\n"),
            other => panic!("{other:?}"),
        }
    }
}
