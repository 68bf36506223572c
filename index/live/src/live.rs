//! The generation as its users see it, and the threads behind it.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use bowerbird_posts::{Op, Ordinal, Outcome, PostStore};
use parking_lot::Mutex;

use crate::follower::{Follower, Indexes, Target, follow, join, spawn};
use crate::layout::DataDir;
use crate::progress::{Progress, State};
use crate::queue::{Reply, Request, WriteQueue};
use crate::recover::{open_lexical, open_vectors, replay, without_vector};
use crate::snapshot::{Parts, Published, Stores};
use crate::writer::Writer;
use crate::{GenerationSpec, LiveConfig, LiveError, Snapshot};

/// Where vectors come from: a model behind a queue, or a stub.
pub trait VectorSource: Send + Sync {
    /// Fingerprint of the embedding space; vectors of another one are refused at open.
    fn space(&self) -> String;

    /// Components of a vector.
    fn dim(&self) -> usize;

    /// One unit-length vector for each text, in order. Blocks. All texts fail together; the caller finds out which
    /// by asking for them one at a time.
    fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Box<dyn Error + Send + Sync>>;

    /// Whether an error of [`embed`](Self::embed) for a single text means that this text never gets a vector (it is
    /// empty after tokenisation, say). Any other error is tried again.
    fn refuses(&self, _error: &(dyn Error + Send + Sync + 'static)) -> bool {
        false
    }
}

/// What is where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveStatus {
    /// Live posts.
    pub posts: u64,
    /// Last durable transaction.
    pub sequence: u64,
    /// The ordinal after the last one given out.
    pub next_ordinal: u32,
    /// Ordinals below this are searchable by words.
    pub lexical_next: u32,
    /// Last transaction the lexical index has.
    pub lexical_sequence: u64,
    /// Points in the vector index, dead ones included.
    pub vectors: usize,
    /// Live posts whose vector is to be made.
    pub vectors_pending: u64,
    /// Live posts whose text the vector source refuses.
    pub vectors_refused: u64,
    /// Posts whose record in the store cannot be read.
    pub posts_damaged: u64,
    /// Changes waiting to be made durable.
    pub queued_ops: usize,
    /// Their bytes.
    pub queued_bytes: usize,
    /// Why an index is behind, while it is.
    pub last_error: Option<String>,
}

/// One searchable generation: post store, lexical and vector index kept in step. Cheap to clone.
///
/// A write is acknowledged when it is durable in the post store, and snapshots taken after that show its deletions,
/// counters and filters; words are searchable within [`lexical_interval`](LiveConfig::lexical_interval) and one
/// commit, vectors when the source has made them. Dropping the last clone refuses new writes, finishes those that
/// wait, commits the lexical index and ends the threads, and blocks meanwhile; posts without a vector get it after the next start. The
/// data directory is free when the last [`Snapshot`] is gone too.
#[derive(Clone)]
pub struct Live(Arc<Handle>);

struct Handle {
    stores: Arc<Stores>,
    published: Arc<Published>,
    queue: Arc<WriteQueue>,
    target: Arc<Mutex<Target>>,
    /// The one in `target`, to be read while a transaction is under way.
    follower: ArcSwap<Follower>,
    config: LiveConfig,
    writer: Option<JoinHandle<()>>,
}

impl Live {
    /// Opens the data directory `dir`, making it when absent, and brings the lexical index up to the post store;
    /// missing vectors are made in the background.
    ///
    /// Fails with [`LiveError::Locked`] when another process has it, with [`LiveError::Format`] when another version
    /// wrote it, and with the error of the store or index whose files do not open.
    pub fn open(dir: &Path, config: LiveConfig, source: Arc<dyn VectorSource>) -> Result<Self, LiveError> {
        config.validate()?;
        let dir = DataDir::open(dir)?;
        let posts = PostStore::open(&dir.posts())?;
        let number = dir.current();
        let generation = dir.generation(number);
        let spec = GenerationSpec::read(&generation)?;
        let index = open_lexical(&generation, &spec, &posts)?;
        let vector = spec.vector.unwrap_or_else(|| config.vector.clone());
        let vectors = open_vectors(&generation, &posts, &source.space(), source.dim(), vector)?;
        let recovered = replay(&posts, &index)?;
        let pending = without_vector(&vectors, &recovered.live)?;
        let vectors = Arc::new(vectors);
        let progress = Arc::new(Progress::default());
        progress.update(|state| {
            *state = State {
                sequence: recovered.sequence,
                next_ordinal: recovered.next_ordinal,
                lexical_sequence: recovered.sequence,
                lexical_next: recovered.next_ordinal,
                pending,
                damaged: recovered.damaged.len(),
                ..State::default()
            };
        });
        let live = Arc::new(recovered.live);
        let stores = Arc::new(Stores { posts, dir });
        let published = Arc::new(Published::new(Parts {
            generation: number,
            lexical: index.searcher(),
            vectors: Arc::clone(&vectors),
            live: Arc::clone(&live),
            columns: recovered.columns.published(),
            sequence: recovered.sequence,
            stores: Arc::clone(&stores),
        }));
        let queue = Arc::new(WriteQueue::new(config.queue_ops, config.queue_bytes));
        let indexes = Indexes { generation: number, lexical: index, vectors, source };
        let target = follow(indexes, progress, &stores, &published, &config)?;
        let follower = ArcSwap::new(Arc::clone(&target.follower));
        let target = Arc::new(Mutex::new(target));
        let writer = Writer {
            stores: Arc::clone(&stores),
            queue: Arc::clone(&queue),
            columns: recovered.columns,
            live,
            next_ordinal: recovered.next_ordinal,
            published: Arc::clone(&published),
            target: Arc::clone(&target),
            group_ops: config.group_ops,
            reserve_bytes: config.reserve.as_u64(),
        };
        // From here on a failure drops the handle, which ends the threads that run.
        let mut handle = Handle { stores, published, queue, target, follower, config, writer: None };
        handle.writer = Some(spawn("bowerbird-write", move || writer.run())?);
        Ok(Self(Arc::new(handle)))
    }

    /// Makes `ops` durable in one transaction, shared with other callers; one outcome for each, in order.
    ///
    /// Fails at once with [`LiveError::Overloaded`] when too much waits. Posts must have passed
    /// [`Post::validated`](bowerbird_posts::Post::validated). A caller that stops waiting has still written.
    pub async fn write(&self, ops: Vec<Op>) -> Result<Vec<Outcome>, LiveError> {
        if ops.is_empty() {
            return Ok(Vec::new());
        }
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.0.queue.try_push(Request::new(ops, Reply::Async(reply)))?;
        answer.await.unwrap_or(Err(LiveError::Stopped))
    }

    /// As [`write`](Self::write), for threads: waits while the queue is full.
    pub fn write_blocking(&self, ops: Vec<Op>) -> Result<Vec<Outcome>, LiveError> {
        if ops.is_empty() {
            return Ok(Vec::new());
        }
        let (reply, answer) = crossbeam_channel::bounded(1);
        self.0.queue.push(Request::new(ops, Reply::Blocking(reply)))?;
        answer.recv().unwrap_or(Err(LiveError::Stopped))
    }

    /// The present state.
    pub fn snapshot(&self) -> Snapshot {
        self.0.published.snapshot()
    }

    /// The present posts, as the indexes of `generation` find them: the one that serves, or one that did until
    /// [`retired_for`](LiveConfig::retired_for) ago.
    pub fn snapshot_of(&self, generation: u32) -> Option<Snapshot> {
        self.0.published.of_generation(generation)
    }

    /// Waits until every post acknowledged by now is searchable by words and has its vector, both durable. Blocks.
    ///
    /// Texts that the vector source refuses for good are not waited for. Fails with [`LiveError::Stalled`] when
    /// nothing moved for [`stall_timeout`](LiveConfig::stall_timeout) and an error is known.
    pub fn flush(&self) -> Result<(), LiveError> {
        self.follower().progress.flushed(self.0.config.stall_timeout)
    }

    /// What is where.
    pub fn status(&self) -> LiveStatus {
        let posts = self.snapshot().live().len();
        let follower = self.follower();
        let vectors = follower.vectors.len();
        let (queued_ops, queued_bytes) = self.0.queue.waiting();
        follower.progress.read(|state| LiveStatus {
            posts,
            sequence: state.sequence,
            next_ordinal: state.next_ordinal,
            lexical_next: state.lexical_next,
            lexical_sequence: state.lexical_sequence,
            vectors,
            vectors_pending: state.pending.len() + state.postponed.len(),
            vectors_refused: state.refused.len(),
            posts_damaged: state.damaged,
            queued_ops,
            queued_bytes,
            last_error: state.lexical_error.clone().or_else(|| state.vector_error.clone()),
        })
    }

    /// Whether this version of a post is alive now: false as soon as its deletion or an edit is acknowledged.
    pub fn is_live(&self, ordinal: Ordinal) -> bool {
        self.snapshot().live().contains(ordinal.0)
    }

    pub(crate) fn stores(&self) -> &Arc<Stores> {
        &self.0.stores
    }

    pub(crate) fn published(&self) -> &Arc<Published> {
        &self.0.published
    }

    pub(crate) fn target(&self) -> &Mutex<Target> {
        &self.0.target
    }

    /// The settings in force.
    pub fn config(&self) -> &LiveConfig {
        &self.0.config
    }

    /// Lets go of the indexes that were retired now, once `time` has passed; the last handle may go before.
    pub(crate) fn sweep_after(&self, time: Duration) {
        let published = Arc::downgrade(&self.0.published);
        let sweep = move || {
            std::thread::sleep(time + Duration::from_secs(1));
            if let Some(published) = published.upgrade() {
                published.sweep();
            }
        };
        if let Err(error) = spawn("bowerbird-sweep", sweep) {
            tracing::warn!(%error, "the indexes of the old generation stay in memory until the next one");
        }
    }

    pub(crate) fn follower(&self) -> Arc<Follower> {
        self.0.follower.load_full()
    }

    /// Puts `next` in the place of `target`, which is the locked one of this generation; gives what followed until
    /// now, which can get no more work.
    pub(crate) fn replace_target(&self, target: &mut Target, next: Target) -> Arc<Follower> {
        self.0.follower.store(Arc::clone(&next.follower));
        std::mem::replace(target, next).follower
    }

    /// The post store.
    pub fn store(&self) -> &PostStore {
        &self.0.stores.posts
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let follower = Arc::clone(&self.target.lock().follower);
        follower.stop_vectors();
        // The writer ends when the queue is empty, which ends the lexical thread when its work is done.
        self.queue.close();
        if self.writer.is_none() {
            self.target.lock().work = None;
        }
        join(self.writer.take());
        follower.join_lexical();
        follower.join_vectors();
    }
}
