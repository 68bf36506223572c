//! One fixed state of the generation, for one request or for the pages of one search.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bowerbird_lexical::LexicalSearcher;
use bowerbird_posts::{Ordinal, PostStore, StoredPost};
use bowerbird_vector::VectorIndex;
use parking_lot::Mutex;
use roaring::RoaringBitmap;

use crate::layout::DataDir;
use crate::{Columns, Filter, LiveError, facets, filter};

/// The stores behind a generation. The lock on the data directory ends when the last user is gone.
pub(crate) struct Stores {
    pub posts: PostStore,
    pub vectors: VectorIndex,
    /// Last, so that the lock outlives the stores.
    pub dir: DataDir,
}

#[derive(Clone)]
pub(crate) struct Parts {
    pub stores: Arc<Stores>,
    pub lexical: LexicalSearcher,
    pub live: Arc<RoaringBitmap>,
    pub columns: Columns,
    pub sequence: u64,
}

/// The snapshot that new requests get; changed by the writer and by the lexical thread.
pub(crate) struct Published {
    current: ArcSwap<Parts>,
    changing: Mutex<()>,
}

impl Published {
    pub fn new(parts: Parts) -> Self {
        Self { current: ArcSwap::from_pointee(parts), changing: Mutex::new(()) }
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
    /// Lexical search as of the last lexical commit before this snapshot.
    pub fn lexical(&self) -> &LexicalSearcher {
        &self.0.lexical
    }

    /// The vector index; points are ordinals.
    pub fn vectors(&self) -> &VectorIndex {
        &self.0.stores.vectors
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
