//! Opening a data directory: columns from the post store, what the lexical index lacks, what has no vector, and the
//! repair of damaged caches.

use std::ops::ControlFlow;
use std::path::Path;

use bowerbird_lexical::{Checkpoint, LexicalError, LexicalIndex, language_of};
use bowerbird_posts::{Ordinal, PostStore, StoreError, StoredPost};
use bowerbird_vector::{VectorConfig, VectorIndex};
use roaring::RoaringBitmap;

use crate::check::{CheckReport, Part, check_open};
use crate::columns::ColumnsWriter;
use crate::layout::{self, DataDir};
use crate::{GenerationSpec, LiveError};

/// Posts added to the lexical index between two commits of a rebuild.
const REBUILD_COMMIT_POSTS: u32 = 50_000;
/// Dead records below this are left in the vector log.
const COMPACT_RECORDS: u64 = 10_000;

/// What was read from the post store.
pub(crate) struct Recovered {
    pub columns: ColumnsWriter,
    pub live: RoaringBitmap,
    /// Records that cannot be read; their posts are not served.
    pub damaged: RoaringBitmap,
    pub next_ordinal: u32,
    pub sequence: u64,
}

/// Reads every post once: fills the columns and adds to the lexical index what it lacks, with one commit at least
/// when anything differed.
pub(crate) fn replay(posts: &PostStore, lexical: &LexicalIndex) -> Result<Recovered, LiveError> {
    let checkpoint = lexical.checkpoint().unwrap_or(Checkpoint { next_ordinal: 0, sequence: 0 });
    let sequence = posts.sequence()?;
    let next_ordinal = posts.next_ordinal()?.0;
    let mut recovered = Recovered {
        columns: ColumnsWriter::default(),
        live: RoaringBitmap::new(),
        damaged: RoaringBitmap::new(),
        next_ordinal,
        sequence,
    };
    let mut added = 0;
    let mut failed: Option<LexicalError> = None;
    scan_readable(posts, 0, &mut recovered.damaged, &mut |StoredPost { ordinal, post }| {
        recovered.columns.insert(ordinal, &post, language_of(post.lang.as_deref(), &post.text).as_deref());
        recovered.live.insert(ordinal.0);
        if ordinal.0 >= checkpoint.next_ordinal {
            let step = lexical.add(ordinal, &post).and_then(|()| {
                added += 1;
                if added % REBUILD_COMMIT_POSTS == 0 {
                    // Deletions of earlier ordinals are not in yet, so the sequence stays behind.
                    let next_ordinal = ordinal.0 + 1;
                    return lexical.commit(Checkpoint { next_ordinal, sequence: checkpoint.sequence });
                }
                Ok(())
            });
            if let Err(error) = step {
                failed = Some(error);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    if checkpoint.sequence != sequence {
        let removed = delete_dead(lexical, checkpoint.next_ordinal, &recovered.live)?;
        tracing::info!(added, removed, sequence, "brought the lexical index up to the post store");
        lexical.commit(Checkpoint { next_ordinal, sequence })?;
    }
    Ok(recovered)
}

/// Deletes what the index may still have of ordinals below `next` that have died since its checkpoint.
pub(crate) fn delete_dead(lexical: &LexicalIndex, next: u32, live: &RoaringBitmap) -> Result<u64, LiveError> {
    let alive = live.range_cardinality(..next);
    if lexical.searcher().doc_count() <= alive {
        return Ok(0);
    }
    let mut dead = RoaringBitmap::new();
    dead.insert_range(..next);
    dead -= live;
    for ordinal in &dead {
        lexical.delete(Ordinal(ordinal))?;
    }
    Ok(dead.len())
}

/// Visits the live posts from ordinal `from` on, going on behind records that cannot be read.
pub(crate) fn scan_readable(
    posts: &PostStore,
    from: u32,
    damaged: &mut RoaringBitmap,
    visit: &mut dyn FnMut(StoredPost) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let mut from = from;
    loop {
        match posts.scan(Ordinal(from), visit) {
            Err(StoreError::DamagedRecord { path, ordinal, message }) => {
                // A scan reads ahead of its visitor: go on from the record itself, not from the last visit.
                tracing::error!(path = %path.display(), ordinal, message, "a post cannot be read and is not served");
                damaged.insert(ordinal);
                let Some(next) = ordinal.checked_add(1) else { return Ok(()) };
                from = next;
            }
            other => return other,
        }
    }
}

/// Opens the lexical index; one that is ahead of the post store belongs to other posts and is made again.
pub(crate) fn open_lexical(
    generation: &Path,
    spec: &GenerationSpec,
    posts: &PostStore,
) -> Result<LexicalIndex, LiveError> {
    let path = generation.join("lexical");
    let index = LexicalIndex::open_with(&path, spec.lexical())?;
    let Some(checkpoint) = index.checkpoint() else { return Ok(index) };
    if checkpoint.sequence <= posts.sequence()? && checkpoint.next_ordinal <= posts.next_ordinal()?.0 {
        return Ok(index);
    }
    tracing::warn!(?checkpoint, "the lexical index is ahead of the post store; making it again");
    drop(index);
    layout::remove(&path)?;
    Ok(LexicalIndex::open_with(&path, spec.lexical())?)
}

/// Opens the vector index; points of ordinals that were never given out belong to other posts, and all are dropped.
pub(crate) fn open_vectors(
    generation: &Path,
    posts: &PostStore,
    space: &str,
    dim: usize,
    config: VectorConfig,
) -> Result<VectorIndex, LiveError> {
    let index = VectorIndex::open(&generation.join("vector"), space, dim, config)?;
    if index.points().max().is_some_and(|max| max >= posts.next_ordinal().map_or(u32::MAX, |next| next.0)) {
        tracing::warn!("the vector index is ahead of the post store; making it again");
        index.retain(&RoaringBitmap::new())?;
    }
    Ok(index)
}

/// Forgets dead and superseded records when they are many; gives the live ordinals without a vector.
pub(crate) fn without_vector(
    vectors: &VectorIndex,
    live: &RoaringBitmap,
) -> Result<RoaringBitmap, LiveError> {
    let points = vectors.points();
    let records = vectors.records() as u64;
    let dead = records - points.intersection_len(live);
    if dead >= COMPACT_RECORDS && dead >= records / 4 {
        let forgotten = vectors.retain(live)?;
        tracing::info!(dead, forgotten, "compacted the vector log");
    }
    Ok(live - points)
}

/// What [`repair`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveRepair {
    /// The vector log.
    pub vectors: bowerbird_vector::RepairReport,
    /// Why the lexical index was made again, when it was.
    pub lexical_rebuilt: Option<String>,
    /// The file `FORMAT` was unreadable and was written again.
    pub format_rewritten: bool,
    /// Posts that cannot be read: load them again.
    pub damaged_posts: Vec<Ordinal>,
    /// The state afterwards.
    pub check: CheckReport,
}

/// Repairs the caches of a data directory that no process has open, and checks it again.
///
/// A lexical index that is damaged or disagrees with the post store is made again from it at once, a vector log keeps
/// its intact records; vectors that are lost are made at the next start, which has the model. Posts that cannot be
/// read are listed; only their owner has them. Fails when the post store itself cannot be opened.
pub fn repair(root: &Path) -> Result<LiveRepair, LiveError> {
    std::fs::metadata(root).map_err(LiveError::io("read", root))?;
    let format_rewritten = layout::mend_format(root)?;
    let dir = DataDir::open(root)?;
    let before = check_open(&dir);
    let vectors = VectorIndex::repair(&dir.vector())?;
    let posts = PostStore::open(&dir.posts())?;
    let generation = dir.generation(dir.current());
    let spec = GenerationSpec::read(&generation)?;
    let damaged_posts = posts.damaged_records()?;
    if let Some((space, dim)) = VectorIndex::stored_space(&dir.vector())? {
        drop(open_vectors(&generation, &posts, &space, dim, VectorConfig::default())?);
    }
    let wrong = before.problems.iter().filter(|problem| problem.part == Part::Lexical);
    let wrong: Vec<&str> = wrong.map(|problem| problem.message.as_str()).collect();
    let lexical_rebuilt = (!wrong.is_empty()).then(|| wrong.join("; "));
    if lexical_rebuilt.is_some() {
        layout::remove(&dir.lexical())?;
    }
    drop(replay(&posts, &open_lexical(&generation, &spec, &posts)?)?);
    drop(posts);
    let check = check_open(&dir);
    Ok(LiveRepair { vectors, lexical_rebuilt, format_rewritten, damaged_posts, check })
}
