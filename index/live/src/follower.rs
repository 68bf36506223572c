//! The indexes of the generation that serves, and the two threads that keep them up with the post store.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

use bowerbird_lexical::LexicalIndex;
use bowerbird_vector::VectorIndex;
use crossbeam_channel::Sender;
use parking_lot::Mutex;

use crate::lexical_thread::{LexicalThread, LexicalWork};
use crate::progress::Progress;
use crate::round::Rounds;
use crate::snapshot::{Published, Stores};
use crate::vector_thread::VectorThread;
use crate::{LiveConfig, LiveError, VectorSource};

/// Transactions that may wait for the lexical thread before the writer waits for it.
const LEXICAL_BACKLOG: usize = 4;

/// What keeps one generation up with the post store.
pub(crate) struct Follower {
    pub vectors: Arc<VectorIndex>,
    pub progress: Arc<Progress>,
    lexical: Mutex<Option<JoinHandle<()>>>,
    vector: Mutex<Option<JoinHandle<()>>>,
}

/// Where the writer sends what it made durable. Held while a transaction is under way, so that whoever holds it finds
/// the post store at rest.
pub(crate) struct Target {
    pub follower: Arc<Follower>,
    /// None when the writer has ended.
    pub work: Option<Sender<LexicalWork>>,
}

/// The two indexes of a generation.
pub(crate) struct Indexes {
    pub generation: u32,
    pub lexical: LexicalIndex,
    pub vectors: Arc<VectorIndex>,
    pub source: Arc<dyn VectorSource>,
}

/// Starts the threads of a generation whose indexes are as far as `progress` says.
pub(crate) fn follow(
    indexes: Indexes,
    progress: Arc<Progress>,
    stores: &Arc<Stores>,
    published: &Arc<Published>,
    config: &LiveConfig,
) -> Result<Target, LiveError> {
    let Indexes { generation, lexical: index, vectors, source } = indexes;
    let (work, received) = crossbeam_channel::bounded(LEXICAL_BACKLOG);
    let follower = Follower {
        vectors: Arc::clone(&vectors),
        progress: Arc::clone(&progress),
        lexical: Mutex::default(),
        vector: Mutex::default(),
    };
    let lexical = LexicalThread {
        generation,
        index,
        work: received,
        published: Arc::clone(published),
        progress: Arc::clone(&progress),
        config: config.clone(),
    };
    let vector = VectorThread {
        rounds: Rounds { vectors, source, stores: Arc::clone(stores) },
        published: Arc::clone(published),
        progress,
        config: config.clone(),
        sealing: Arc::new(AtomicBool::new(false)),
    };
    *follower.lexical.lock() = Some(spawn("bowerbird-lexical", move || lexical.run())?);
    let spawned = spawn("bowerbird-vector", move || vector.run());
    match spawned {
        Ok(thread) => *follower.vector.lock() = Some(thread),
        Err(error) => {
            drop(work);
            follower.join_lexical();
            return Err(error);
        }
    }
    Ok(Target { follower: Arc::new(follower), work: Some(work) })
}

impl Follower {
    /// Waits for the lexical thread, which ends when nothing can send it work any more.
    pub fn join_lexical(&self) {
        join(self.lexical.lock().take());
    }

    /// Ends the vector thread after the batch it is in.
    pub fn stop_vectors(&self) {
        self.progress.update(|state| state.stopping = true);
        self.vectors.stop_sealing();
    }

    /// Waits for the vector thread.
    pub fn join_vectors(&self) {
        join(self.vector.lock().take());
    }
}

pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, LiveError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map_err(LiveError::io("start thread", Path::new(name)))
}

pub(crate) fn join(thread: Option<JoinHandle<()>>) {
    let Some(thread) = thread else { return };
    let name = thread.thread().name().unwrap_or_default().to_owned();
    if thread.join().is_err() {
        tracing::error!(name, "a thread of the index had panicked");
    }
}
