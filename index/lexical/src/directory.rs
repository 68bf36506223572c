//! tantivy's directory, with the files of a commit made durable together.
//!
//! tantivy syncs every file when it is closed, and its list of files before every file: about sixteen waits for the
//! disk for a commit of one post. Here files are closed without a wait and synced right before `meta.json`, which
//! names them, is written; so a commit is as durable as before, and after a loss of power the last `meta.json` names
//! only files that are whole.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tantivy::Directory;
use tantivy::directory::error::{DeleteError, LockError, OpenDirectoryError, OpenReadError, OpenWriteError};
use tantivy::directory::{
    AntiCallToken, DirectoryLock, FileHandle, Lock, MmapDirectory, TerminatingWrite, WatchCallback,
    WatchHandle, WritePtr,
};

use crate::files::{MANAGED, MARKER};

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct BatchedDirectory {
    inner: MmapDirectory,
    root: PathBuf,
    unsynced: Unsynced,
}

/// Names of files that are complete and not synced.
#[derive(Clone, Debug, Default)]
struct Unsynced(Arc<Mutex<BTreeSet<PathBuf>>>);

impl Unsynced {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BatchedDirectory {
    pub(crate) fn open(root: &Path) -> Result<Self, OpenDirectoryError> {
        Ok(Self { inner: MmapDirectory::open(root)?, root: root.to_owned(), unsynced: Unsynced::default() })
    }

    fn sync_files(&self) -> io::Result<()> {
        let files = self.unsynced.lock().clone();
        for name in files {
            match File::open(self.root.join(&name)) {
                Ok(file) => file.sync_data()?,
                // Merged away and deleted before anything named it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            // Only now: after an error the next commit tries again.
            self.unsynced.lock().remove(&name);
        }
        Ok(())
    }
}

/// A file that is synced later.
struct LaterSynced {
    file: File,
    name: PathBuf,
    unsynced: Unsynced,
}

impl Write for LaterSynced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl TerminatingWrite for LaterSynced {
    fn terminate_ref(&mut self, _: AntiCallToken) -> io::Result<()> {
        self.file.flush()?;
        self.unsynced.lock().insert(self.name.clone());
        Ok(())
    }
}

impl Directory for BatchedDirectory {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        self.inner.get_file_handle(path)
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        // Snapshots of earlier versions told tantivy that our own file is one of its; it would clear it away.
        if path == Path::new(MARKER) {
            return Ok(());
        }
        self.inner.delete(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        self.inner.exists(path)
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        let opened = OpenOptions::new().write(true).create_new(true).open(self.root.join(path));
        let file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => OpenWriteError::FileAlreadyExists(path.to_owned()),
            _ => OpenWriteError::wrap_io_error(error, path.to_owned()),
        })?;
        let unsynced = self.unsynced.clone();
        Ok(BufWriter::new(Box::new(LaterSynced { file, name: path.to_owned(), unsynced })))
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        self.inner.atomic_read(path)
    }

    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        if path != Path::new(MANAGED) {
            return self.inner.atomic_write(path, data);
        }
        // tantivy writes this one under a lock, so that one temporary name is enough.
        let unfinished = self.root.join(".tmp.managed");
        fs::write(&unfinished, data)?;
        fs::rename(&unfinished, self.root.join(MANAGED))?;
        self.unsynced.lock().insert(path.to_owned());
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.sync_files()?;
        self.inner.sync_directory()
    }

    fn acquire_lock(&self, lock: &Lock) -> Result<DirectoryLock, LockError> {
        self.inner.acquire_lock(lock)
    }

    fn watch(&self, callback: WatchCallback) -> tantivy::Result<WatchHandle> {
        self.inner.watch(callback)
    }
}
