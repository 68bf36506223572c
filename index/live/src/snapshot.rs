//! One fixed state of the generation, for one request or for the pages of one search.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bowerbird_lexical::LexicalSearcher;
use bowerbird_posts::{Ordinal, PostStore, StoredPost};
use bowerbird_vector::VectorIndex;
use parking_lot::Mutex;
use roaring::RoaringBitmap;

use crate::layout::DataDir;
use crate::{Columns, Filter, LiveError, facets, filter};

/// What all generations share. The lock on the data directory ends when the last user is gone.
pub(crate) struct Stores {
    pub posts: PostStore,
    /// Last, so that the lock outlives the store.
    pub dir: DataDir,
}

#[derive(Clone)]
pub(crate) struct Parts {
    pub generation: u32,
    pub lexical: LexicalSearcher,
    pub vectors: Arc<VectorIndex>,
    pub live: Arc<RoaringBitmap>,
    pub columns: Columns,
    pub sequence: u64,
    /// Last, so that the lock on the directory outlives the indexes.
    pub stores: Arc<Stores>,
}

/// The indexes of a generation that serves no more, for cursors that lead into it.
struct Retired {
    generation: u32,
    lexical: LexicalSearcher,
    vectors: Arc<VectorIndex>,
    until: Instant,
}

/// The snapshot that new requests get; changed by the writer and by the lexical thread.
pub(crate) struct Published {
    current: ArcSwap<Parts>,
    changing: Mutex<()>,
    retired: Mutex<Vec<Retired>>,
}

impl Published {
    pub fn new(parts: Parts) -> Self {
        Self { current: ArcSwap::from_pointee(parts), changing: Mutex::new(()), retired: Mutex::default() }
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.current.load_full())
    }

    pub fn change(&self, change: impl FnOnce(&mut Parts)) {
        let _changing = self.changing.lock();
        let mut parts = Parts::clone(&self.current.load());
        change(&mut parts);
        self.current.store(Arc::new(parts));
    }

    /// The present posts, as the indexes of `generation` find them; none when it is neither the one that serves nor
    /// one that did until lately.
    pub fn of_generation(&self, generation: u32) -> Option<Snapshot> {
        let current = self.snapshot();
        if current.0.generation == generation {
            return Some(current);
        }
        let mut retired = self.retired.lock();
        let now = Instant::now();
        retired.retain(|old| old.until > now);
        let old = retired.iter().find(|old| old.generation == generation)?;
        Some(current.with_indexes(generation, old.lexical.clone(), Arc::clone(&old.vectors)))
    }

    /// Keeps what served until now for `time`.
    pub fn retire(&self, old: &Snapshot, time: Duration) {
        let until = Instant::now() + time;
        let Parts { generation, lexical, vectors, .. } = &*old.0;
        let (lexical, vectors) = (lexical.clone(), Arc::clone(vectors));
        let mut retired = self.retired.lock();
        retired.retain(|old| old.generation != *generation);
        retired.push(Retired { generation: *generation, lexical, vectors, until });
    }

    /// Lets go of a generation that served.
    pub fn forget(&self, generation: u32) {
        self.retired.lock().retain(|old| old.generation != generation);
    }

    /// Lets go of those whose time is over.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.retired.lock().retain(|old| old.until > now);
    }
}

/// Posts that a query may return.
#[derive(Clone, Debug)]
pub struct Allowed {
    /// Their ordinals, all alive in the snapshot.
    pub bitmap: Arc<RoaringBitmap>,
    /// Whether that is every live post.
    pub all: bool,
}

/// One fixed state: which posts are alive, their columns and counters, and what lexical search finds.
///
/// Vectors are added to the one vector index while snapshots exist, and its answers must be limited to
/// [`allowed`](Self::allowed): a point that came after the snapshot, or whose post is dead, is not in it. The methods
/// compute; run them where computing is allowed. A snapshot keeps the data directory open.
#[derive(Clone)]
pub struct Snapshot(Arc<Parts>);

impl Snapshot {
    /// Number of the generation whose indexes it searches.
    pub fn generation(&self) -> u32 {
        self.0.generation
    }

    /// The same posts, searched by other indexes.
    pub(crate) fn with_indexes(
        &self,
        generation: u32,
        lexical: LexicalSearcher,
        vectors: Arc<VectorIndex>,
    ) -> Self {
        Self(Arc::new(Parts { generation, lexical, vectors, ..Parts::clone(&self.0) }))
    }

    /// Lexical search as of the last lexical commit before this snapshot.
    pub fn lexical(&self) -> &LexicalSearcher {
        &self.0.lexical
    }

    /// The vector index; points are ordinals.
    pub fn vectors(&self) -> &VectorIndex {
        &self.0.vectors
    }

    /// Ordinals of all live posts.
    pub fn live(&self) -> &RoaringBitmap {
        &self.0.live
    }

    /// The columns.
    pub fn columns(&self) -> &Columns {
        &self.0.columns
    }

    /// Last transaction of the post store that is in this snapshot.
    pub fn sequence(&self) -> u64 {
        self.0.sequence
    }

    /// The live posts that satisfy `filter`; all without one.
    pub fn allowed(&self, filter: Option<&Filter>) -> Result<Allowed, LiveError> {
        let Some(filter) = filter else {
            return Ok(Allowed { bitmap: Arc::clone(&self.0.live), all: true });
        };
        filter.check()?;
        let bitmap = filter::evaluate(filter, &self.0.live, self)?;
        Ok(Allowed { all: bitmap.len() == self.0.live.len(), bitmap: Arc::new(bitmap) })
    }

    /// The `limit` most frequent values of `field` over `allowed`, ties by value; exact. See
    /// [`is_facet`](crate::is_facet) for the fields; any other has no values.
    pub fn facets(&self, field: &str, allowed: &RoaringBitmap, limit: usize) -> Vec<(String, u64)> {
        facets::facets(&self.0.columns, field, allowed, limit)
    }

    /// The posts of `ordinals`, in their order; none for one that has died since the snapshot.
    pub fn posts(&self, ordinals: &[Ordinal]) -> Result<Vec<Option<StoredPost>>, LiveError> {
        Ok(self.0.stores.posts.get_many(ordinals)?)
    }

    pub(crate) fn store(&self) -> &PostStore {
        &self.0.stores.posts
    }
}
