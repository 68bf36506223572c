//! The snapshots of a data directory: taken one at a time while it is served, listed and deleted by name.
//!
//! Names come from the network and lead to one place only: below the home that the configuration gives.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bowerbird_ads::{AdsError, DatabaseAddress};
use bowerbird_live::{
    Live, LiveError, SnapshotContents, SnapshotDraft, SnapshotManifest, check_snapshot_name, read_manifest,
};
use jiff::Timestamp;
use tokio::sync::Semaphore;

/// The file of the ad database in a snapshot, and in a data directory unless the configuration says otherwise.
pub const ADS_FILE: &str = "ads.sqlite";
/// Where snapshots are kept in a data directory, unless the configuration says otherwise.
const HOME: &str = "snapshots";

/// Why a snapshot was not taken, listed or deleted.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// One is being taken.
    #[error("a snapshot is being taken: try again when it is done")]
    Running,
    /// There are as many as may be.
    #[error("there are {found} snapshots, the limit is {most}: delete one, or raise snapshots.most")]
    TooMany {
        /// How many there are.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// There is none of this name.
    #[error("there is no snapshot {name:?}")]
    NotFound {
        /// The name.
        name: String,
    },
    /// Posts or indexes could not be copied.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// The ad database could not be copied.
    #[error(transparent)]
    Ads(#[from] AdsError),
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The work ended without a result.
    #[error("the snapshot was cut off")]
    Stopped(#[source] tokio::task::JoinError),
}

/// A snapshot in the list.
#[derive(Debug)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// What it holds, or why that cannot be read.
    pub manifest: Result<SnapshotManifest, LiveError>,
}

/// The snapshots of one data directory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Snapshots(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    data_dir: PathBuf,
    home: PathBuf,
    most: usize,
    ads: DatabaseAddress,
    one_at_a_time: Arc<Semaphore>,
}

impl Snapshots {
    /// Snapshots of `data_dir` and of the ad database, kept in `home` (in the data directory itself when absent),
    /// `most` at the same time.
    pub fn new(data_dir: &Path, ads: DatabaseAddress, home: Option<&Path>, most: usize) -> Self {
        let home = home.map_or_else(|| data_dir.join(HOME), Path::to_path_buf);
        let one_at_a_time = Arc::new(Semaphore::new(1));
        Self(Arc::new(Inner { data_dir: data_dir.to_path_buf(), home, most, ads, one_at_a_time }))
    }

    /// Takes a snapshot; writes and searches go on. Its name is the time when none is given.
    ///
    /// It is finished also when the caller leaves.
    pub async fn take(&self, live: &Live, name: Option<String>) -> Result<SnapshotManifest, SnapshotError> {
        let name = name.unwrap_or_else(|| Timestamp::now().strftime("%Y%m%dT%H%M%S.%3fZ").to_string());
        check_snapshot_name(&name)?;
        let place =
            Arc::clone(&self.0.one_at_a_time).try_acquire_owned().map_err(|_| SnapshotError::Running)?;
        let (inner, live) = (Arc::clone(&self.0), live.clone());
        let taken = tokio::spawn(async move {
            let _place = place;
            inner.take(live, &name).await
        });
        taken.await.map_err(SnapshotError::Stopped)?
    }

    /// Every snapshot there is, by name.
    pub fn list(&self) -> Result<Vec<Listed>, SnapshotError> {
        let names = self.0.names()?;
        let listed = |name: String| Listed { manifest: read_manifest(&self.0.home.join(&name)), name };
        Ok(names.into_iter().map(listed).collect())
    }

    /// Deletes a snapshot: it is gone from the list at once and whole.
    pub fn delete(&self, name: &str) -> Result<(), SnapshotError> {
        check_snapshot_name(name)?;
        let (path, doomed) = (self.0.home.join(name), self.0.home.join(format!(".{name}.deleted")));
        if doomed.exists() {
            std::fs::remove_dir_all(&doomed).map_err(failed("remove", &doomed))?;
        }
        match std::fs::rename(&path, &doomed) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(SnapshotError::NotFound { name: name.to_owned() });
            }
            renamed => renamed.map_err(failed("remove", &path))?,
        }
        match std::fs::remove_dir_all(&doomed) {
            // A snapshot that begins meanwhile clears away what is left of others.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(failed("remove", &doomed)),
        }
    }
}

impl Inner {
    async fn take(&self, live: Live, name: &str) -> Result<SnapshotManifest, SnapshotError> {
        let found = self.names()?.len();
        if found >= self.most {
            return Err(SnapshotError::TooMany { found, most: self.most });
        }
        self.clear_unfinished();
        let target = self.home.join(name);
        take(&self.ads.under(&self.data_dir), &target, move |draft| live.copy_to(draft)).await
    }

    /// Names of the snapshots, in order; directories that are none of ours are left out.
    fn names(&self) -> Result<Vec<String>, SnapshotError> {
        let entries = match std::fs::read_dir(&self.home) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("read", &self.home)(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed("read", &self.home))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let ours = check_snapshot_name(&name).is_ok() && entry.path().join("MANIFEST").is_file();
            if ours {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Removes what a crash left of snapshots that were being taken or deleted. Called with the only place, so none
    /// is being taken.
    fn clear_unfinished(&self) {
        let entries = std::fs::read_dir(&self.home).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.')
                && (name.ends_with(".partial") || name.ends_with(".deleted"))
                && let Err(error) = std::fs::remove_dir_all(entry.path())
            {
                tracing::warn!(%error, name, "an unfinished snapshot stays behind");
            }
        }
    }
}

/// Takes the snapshot `target` of a data directory: posts and indexes through `copy`, then the ad database where it is
/// a file. A PostgreSQL server is backed up with its own means.
pub async fn take(
    ads: &DatabaseAddress,
    target: &Path,
    copy: impl FnOnce(&SnapshotDraft) -> Result<SnapshotContents, LiveError> + Send + 'static,
) -> Result<SnapshotManifest, SnapshotError> {
    let begun = std::time::Instant::now();
    let at = target.to_path_buf();
    let copied = tokio::task::spawn_blocking(move || {
        let draft = SnapshotDraft::begin(&at)?;
        let contents = copy(&draft)?;
        Ok::<_, LiveError>((draft, contents))
    });
    let (draft, contents) = copied.await.map_err(SnapshotError::Stopped)??;
    match ads.file() {
        Some(file) if file.is_file() => {
            bowerbird_ads::copy_database(file, &draft.dir().join(ADS_FILE)).await?;
        }
        Some(_) => {}
        None => tracing::warn!("the snapshot is without ads: back {ads} up with pg_dump"),
    }
    let finished = tokio::task::spawn_blocking(move || draft.finish(contents));
    let manifest = finished.await.map_err(SnapshotError::Stopped)??;
    metrics::histogram!("bowerbird_snapshot_seconds").record(begun.elapsed().as_secs_f64());
    tracing::info!(
        name = manifest.name,
        sequence = manifest.sequence,
        bytes = manifest.bytes,
        "took a snapshot"
    );
    Ok(manifest)
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_path_buf();
    move |source| SnapshotError::Io { action, path, source }
}
