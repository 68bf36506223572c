//! A directory of verified files, `ROOT/<entry>/<file>`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Problem;
use crate::fetch::Fetcher;
use crate::manifest::{Entry, FileSpec, current_platform};
use crate::pip::Pip;
use crate::progress::{Progress, Silent, Stretch};
use crate::record::Record;
use crate::{CatalogError, unpack};

/// Files on disk, verified against a manifest.
///
/// Several processes may use one store at a time: fetching is done under a lock file, and files appear under their
/// names only when they are complete and verified.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    platform: String,
    /// `None` for a directory that is used as it is.
    pip: Option<Pip>,
    /// Where verified files are remembered between runs.
    record_path: Option<PathBuf>,
    record: Mutex<Record>,
}

/// What a check found at a path.
enum State {
    Good,
    Bad(Problem),
}

impl Store {
    /// The cache at `root`: created when absent, and filled by [`Store::ensure`].
    pub fn new(root: PathBuf) -> Self {
        let record_path = root.join("verified.json");
        Self {
            record: Mutex::new(Record::load(&record_path)),
            record_path: Some(record_path),
            pip: Some(Pip::default()),
            platform: current_platform(),
            root,
        }
    }

    /// A directory that the user filled: never written to. Each process hashes each file once.
    pub fn given(root: PathBuf) -> Self {
        Self { root, platform: current_platform(), pip: None, record_path: None, record: Mutex::default() }
    }

    /// Calls this command instead of looking for pip, such as `/venv/bin/python -m pip`, one word each.
    #[must_use]
    pub fn with_pip(mut self, command: Vec<String>) -> Self {
        if self.pip.is_some() {
            self.pip = Some(Pip::command(command));
        }
        self
    }

    /// The directory of the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a file of an entry is, or would be.
    pub fn path(&self, entry: &Entry, file: &str) -> PathBuf {
        self.root.join(&entry.name).join(file)
    }

    /// Hashes every file of the entry; [`CatalogError::Bad`] names each wrong one with what to do.
    pub fn verify(&self, entry: &Entry) -> Result<(), CatalogError> {
        self.verify_with(entry, &Silent)
    }

    /// [`Store::verify`] that tells how far it is.
    pub fn verify_with(&self, entry: &Entry, progress: &dyn Progress) -> Result<(), CatalogError> {
        let mut problems = Vec::new();
        for spec in entry.files_for(&self.platform)? {
            if let State::Bad(problem) = self.check(entry, spec, false, progress)? {
                problems.push(problem);
            }
        }
        self.save_record();
        if problems.is_empty() { Ok(()) } else { Err(CatalogError::Bad { problems }) }
    }

    /// The directory of the entry with every file in it verified; what is missing or wrong is fetched.
    ///
    /// A file that was hashed before and has kept its size and time of change is not hashed again. A directory
    /// given by the user is only checked.
    pub fn ensure(&self, entry: &Entry, progress: &dyn Progress) -> Result<PathBuf, CatalogError> {
        let dir = self.root.join(&entry.name);
        let bad = self.not_good(entry, progress)?;
        if bad.is_empty() {
            self.save_record();
            return Ok(dir);
        }
        let Some(pip) = &self.pip else {
            return Err(CatalogError::Bad {
                problems: bad.into_iter().map(|(_, problem)| problem).collect(),
            });
        };
        std::fs::create_dir_all(&dir).map_err(CatalogError::io("create", &dir))?;
        let lock = self.lock()?;
        let fetcher = Fetcher { root: &self.root, pip, progress };
        fetcher.sweep(&dir)?;
        // Another process may have fetched the files while this one waited for the lock.
        let bad: Vec<&FileSpec> = self.not_good(entry, progress)?.into_iter().map(|(spec, _)| spec).collect();
        for spec in &bad {
            let target = self.path(entry, &spec.name);
            fetcher.fetch(entry, spec, &target)?;
            let metadata = std::fs::metadata(&target).map_err(CatalogError::io("read", &target))?;
            self.record().note(&key(entry, spec), &metadata, &spec.sha256);
            self.save_record();
        }
        fetcher.drop_used_wheels(&bad)?;
        drop(lock);
        Ok(dir)
    }

    fn not_good<'e>(
        &self,
        entry: &'e Entry,
        progress: &dyn Progress,
    ) -> Result<Vec<(&'e FileSpec, Problem)>, CatalogError> {
        let mut bad = Vec::new();
        for spec in entry.files_for(&self.platform)? {
            if let State::Bad(problem) = self.check(entry, spec, true, progress)? {
                bad.push((spec, problem));
            }
        }
        Ok(bad)
    }

    /// Compares one file with the manifest. With `trust_record`, a file verified earlier and unchanged is not read.
    fn check(
        &self,
        entry: &Entry,
        spec: &FileSpec,
        trust_record: bool,
        progress: &dyn Progress,
    ) -> Result<State, CatalogError> {
        let path = self.path(entry, &spec.name);
        let key = key(entry, spec);
        let bad = |expected: String, found: String| {
            let remedy = self.remedy(entry, spec);
            State::Bad(Problem { path: path.clone(), expected, found, remedy })
        };
        let metadata = match std::fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(bad(format!("a file of {} bytes", spec.size), "nothing".into()));
            }
            Err(error) => return Err(CatalogError::io("read", &path)(error)),
        };
        if !metadata.is_file() {
            return Ok(bad(format!("a file of {} bytes", spec.size), "something that is not a file".into()));
        }
        if metadata.len() != spec.size {
            self.record().forget(&key);
            return Ok(bad(format!("{} bytes", spec.size), format!("{} bytes", metadata.len())));
        }
        if trust_record && self.record().vouches(&key, &metadata, &spec.sha256) {
            return Ok(State::Good);
        }
        let mut stretch = Stretch::begin(progress, format!("check {key}"), spec.size);
        let found = unpack::hash_file(&path, &mut stretch)?;
        if found != spec.sha256 {
            self.record().forget(&key);
            return Ok(bad(format!("sha256 {}", spec.sha256), format!("sha256 {found}")));
        }
        self.record().note(&key, &metadata, &spec.sha256);
        Ok(State::Good)
    }

    fn remedy(&self, entry: &Entry, spec: &FileSpec) -> String {
        if self.pip.is_some() {
            "run `bowerbird models fetch`".into()
        } else {
            let Entry { name, .. } = entry;
            format!(
                "put the right file there, or start without `--models-dir` to have {name}/{} fetched",
                spec.name
            )
        }
    }

    /// Waits for other processes that are fetching into this store.
    fn lock(&self) -> Result<File, CatalogError> {
        let path = self.root.join(".lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(CatalogError::io("open", &path))?;
        if let Err(std::fs::TryLockError::WouldBlock) = file.try_lock() {
            tracing::info!(lock = %path.display(), "another process is fetching models, waiting for it");
            file.lock().map_err(CatalogError::io("lock", &path))?;
        }
        Ok(file)
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        // The record is only a cache of hashes: one whose writer panicked is at worst incomplete.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the record when it changed. A cache that cannot be written is still a usable cache of files.
    fn save_record(&self) {
        let Some(path) = &self.record_path else { return };
        let record = self.record().clone();
        if !self.root.is_dir() || Record::load(path) == record {
            return;
        }
        if let Err(error) = record.save(path) {
            tracing::warn!(%error, "verified files are not remembered: the next start hashes them again");
        }
    }
}

fn key(entry: &Entry, spec: &FileSpec) -> String {
    format!("{}/{}", entry.name, spec.name)
}
