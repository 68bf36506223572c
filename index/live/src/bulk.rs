//! Building a whole data directory from posts whose vectors are known: no model, no queue, bounded memory.

use std::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use bowerbird_lexical::{Checkpoint, LexicalIndex};
use bowerbird_posts::{Op, Ordinal, Outcome, Post, PostStore};
use bowerbird_vector::{PointId, VectorIndex};
use roaring::RoaringBitmap;

use crate::layout::{self, DataDir};
use crate::{LiveConfig, LiveError};

/// Posts made durable in one transaction.
const BATCH_POSTS: usize = 4096;
/// Bytes of text and vectors made durable in one transaction; one post may be more.
const BATCH_BYTES: usize = 16 << 20;

/// A post and its vector; none when the model refuses its text.
pub type WithVector = (Post, Option<Vec<f32>>);

/// Why a data directory was not built.
#[derive(Debug, thiserror::Error)]
pub enum BulkError {
    /// The target is there already.
    #[error("{} is there already: give a directory that does not exist", path.display())]
    Exists {
        /// The target.
        path: PathBuf,
    },
    /// The target has no name of its own, such as `/` or `..`.
    #[error("{} is no name for a new directory", path.display())]
    NoName {
        /// The target.
        path: PathBuf,
    },
    /// The posts could not be read.
    #[error(transparent)]
    Input(Box<dyn Error + Send + Sync>),
    /// A store or an index failed.
    #[error(transparent)]
    Live(#[from] LiveError),
}

/// What was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BulkReport {
    /// Posts read.
    pub read: u64,
    /// Posts in the directory.
    pub posts: u64,
    /// Posts read whose id came again later; the last one read is kept.
    pub duplicates: u64,
    /// Posts in the directory without a vector: the next start asks the model for them once more.
    pub without_vector: u64,
    /// Points served by a graph.
    pub sealed_points: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Builds the data directory `target`, which must not exist, of posts that are validated and of vectors of the space
/// `space`, each `dim` components of unit length.
///
/// `progress` is called with the number of posts read so far, about every 4,096. The directory is built beside
/// `target` under a name that begins with a dot, and renamed when it is whole and on the disk; what a build that was
/// killed left there is removed by the next one. Memory: one batch, the writers of the two indexes, and `dim` bytes
/// for each vector until the graph is built.
pub fn bulk_build(
    target: &Path,
    space: &str,
    dim: usize,
    config: &LiveConfig,
    posts: impl IntoIterator<Item = Result<WithVector, Box<dyn Error + Send + Sync>>>,
    progress: &mut dyn FnMut(u64),
) -> Result<BulkReport, BulkError> {
    config.validate()?;
    let exists = || fs::symlink_metadata(target).is_ok();
    if exists() {
        return Err(BulkError::Exists { path: target.to_path_buf() });
    }
    let name = target.file_name().ok_or_else(|| BulkError::NoName { path: target.to_path_buf() })?;
    let home = target.parent().filter(|home| !home.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(home).map_err(LiveError::io("create", home))?;
    let mut unfinished = Unfinished::begin(home.join(format!(".{}.building", name.to_string_lossy())))?;
    let report = fill(&unfinished, (space, dim), config, posts, progress)?;
    if exists() {
        return Err(BulkError::Exists { path: target.to_path_buf() });
    }
    sync(&unfinished.path)?;
    fs::rename(&unfinished.path, target).map_err(LiveError::io("rename", &unfinished.path))?;
    unfinished.renamed = true;
    sync(home)?;
    Ok(report)
}

fn fill(
    unfinished: &Unfinished,
    (space, dim): (&str, usize),
    config: &LiveConfig,
    posts: impl IntoIterator<Item = Result<WithVector, Box<dyn Error + Send + Sync>>>,
    progress: &mut dyn FnMut(u64),
) -> Result<BulkReport, BulkError> {
    let dir = &unfinished.dir;
    let vectors =
        VectorIndex::open(&dir.vector(), space, dim, config.vector.clone()).map_err(LiveError::from)?;
    let mut builder = Builder {
        posts: PostStore::open(&dir.posts()).map_err(LiveError::from)?,
        lexical: LexicalIndex::open(&dir.lexical()).map_err(LiveError::from)?,
        vectors,
        dead: RoaringBitmap::new(),
        report: BulkReport::default(),
    };
    let mut batch = Vec::new();
    let mut bytes = 0;
    for post in posts {
        let (post, vector) = post.map_err(BulkError::Input)?;
        bytes += post.text.len() + vector.as_ref().map_or(0, |vector| vector.len() * size_of::<f32>());
        batch.push((post, vector));
        if batch.len() >= BATCH_POSTS || bytes >= BATCH_BYTES {
            builder.write(std::mem::take(&mut batch))?;
            bytes = 0;
            progress(builder.report.read);
        }
    }
    builder.write(batch)?;
    progress(builder.report.read);
    let mut report = builder.finish()?;
    report.bytes = size_of_files(&unfinished.path)?;
    Ok(report)
}

/// Store and indexes under way.
struct Builder {
    posts: PostStore,
    lexical: LexicalIndex,
    vectors: VectorIndex,
    /// Ordinals whose post was read again with another text.
    dead: RoaringBitmap,
    report: BulkReport,
}

impl Builder {
    fn write(&mut self, batch: Vec<WithVector>) -> Result<(), LiveError> {
        if batch.is_empty() {
            return Ok(());
        }
        let (posts, vectors): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let ops: Vec<Op> = posts.into_iter().map(|post| Op::Upsert(Box::new(post))).collect();
        let outcomes = self.posts.apply(&ops)?.outcomes;
        self.report.read += ops.len() as u64;
        for outcome in &outcomes {
            if let Outcome::Replaced { old, .. } = outcome {
                self.dead.insert(old.0);
            }
        }
        let mut points: Vec<(PointId, &[f32])> = Vec::with_capacity(vectors.len());
        for ((op, outcome), vector) in ops.iter().zip(outcomes).zip(&vectors) {
            let (ordinal, new) = match outcome {
                Outcome::Created { ordinal } => (ordinal, true),
                Outcome::Replaced { ordinal, old } => {
                    self.report.duplicates += 1;
                    self.lexical.delete(old)?;
                    (ordinal, true)
                }
                // The same text: also the same vector.
                Outcome::CountsChanged { ordinal, .. } | Outcome::Unchanged { ordinal } => {
                    self.report.duplicates += 1;
                    (ordinal, false)
                }
                Outcome::Deleted { .. } | Outcome::NotFound => continue,
            };
            if self.dead.contains(ordinal.0) {
                continue;
            }
            if let (true, Op::Upsert(post)) = (new, op) {
                self.lexical.add(ordinal, post)?;
            }
            if let Some(vector) = vector.as_deref().filter(|_| new || !self.vectors.contains(point(ordinal)))
            {
                points.push((point(ordinal), vector));
            }
        }
        Ok(self.vectors.insert(&points)?)
    }

    fn finish(mut self) -> Result<BulkReport, LiveError> {
        let live = self.posts.live_ordinals()?;
        let checkpoint =
            Checkpoint { next_ordinal: self.posts.next_ordinal()?.0, sequence: self.posts.sequence()? };
        self.lexical.commit(checkpoint)?;
        self.vectors.sync()?;
        if self.vectors.wants_seal(&self.dead) {
            self.report.sealed_points = self.vectors.seal(&self.dead)?.sealed_points as u64;
        }
        self.report.posts = live.len();
        self.report.without_vector = live.difference_len(&self.vectors.points());
        Ok(self.report)
    }
}

fn point(ordinal: Ordinal) -> PointId {
    PointId(ordinal.0)
}

/// A directory under way, locked; it goes unless it was renamed.
struct Unfinished {
    path: PathBuf,
    dir: DataDir,
    renamed: bool,
}

impl Unfinished {
    /// Takes the directory, and removes what a build that was killed left in it. Fails with [`LiveError::Locked`]
    /// while another build is under way.
    fn begin(path: PathBuf) -> Result<Self, LiveError> {
        let dir = DataDir::open(&path)?;
        for part in [dir.posts(), dir.lexical(), dir.vector()] {
            layout::remove(&part)?;
        }
        Ok(Self { path, dir, renamed: false })
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.renamed {
            return;
        }
        if let Err(error) = layout::remove(&self.path) {
            tracing::warn!(%error, "an unfinished build stays behind; the next one removes it");
        }
    }
}

fn size_of_files(dir: &Path) -> Result<u64, LiveError> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir).map_err(LiveError::io("read", dir))? {
        let path = entry.map_err(LiveError::io("read", dir))?.path();
        let metadata = fs::symlink_metadata(&path).map_err(LiveError::io("read", &path))?;
        bytes += if metadata.is_dir() { size_of_files(&path)? } else { metadata.len() };
    }
    Ok(bytes)
}

fn sync(dir: &Path) -> Result<(), LiveError> {
    if cfg!(unix) {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(LiveError::io("sync", dir))?;
    }
    Ok(())
}
