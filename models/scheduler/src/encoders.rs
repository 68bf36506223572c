//! The handle that the rest of the process holds.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use bowerbird_models_api::{
    Embedder, Embedding, EmbeddingSpace, ModelError, PairRead, RerankLogit, Reranker, TextRead, TextRole,
};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::cache::{CacheStatus, Caches};
use crate::former::{BatchFormer, BatchPolicy};
use crate::queue::{Patience, Priority, Queue};
use crate::reply::{Batch, Reply};
use crate::worker::{Beside, Shared, State, Work, settle};
use crate::{SchedulerError, metrics};

/// When an item should be done.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// Its lane in the queue.
    pub priority: Priority,
    /// It is not started after this moment, and the caller has its answer by then.
    pub deadline: Option<Instant>,
}

/// Sizes of the queue, the caches and the crew.
#[derive(Clone, Copy, Debug)]
pub struct EncodersConfig {
    /// Worker threads, each with its own models. Default: one per core, which with one thread per session was the
    /// fastest arrangement measured.
    pub workers: usize,
    /// Items that may wait. Default 512: 16 pages of 16 candidates beside as much background work; at 15 ms an item
    /// and two workers, four seconds of waiting, beyond every deadline of a person.
    pub queue_items: usize,
    /// Bytes of query vectors to keep; 0 keeps none. Default 16 MiB, about 10,000 queries.
    pub query_cache_bytes: u64,
    /// Bytes of pair scores to keep; 0 keeps none. Default 16 MiB, about 100,000 pairs.
    pub score_cache_bytes: u64,
    /// How long each lane lets others go first.
    pub patience: Patience,
    /// For a device that runs many items in one call: one worker, which takes batches. Only for models whose results
    /// do not depend on batch mates, so never for dynamically quantised ones. Default: one item a call.
    pub batching: Option<BatchPolicy>,
}

impl Default for EncodersConfig {
    fn default() -> Self {
        Self {
            workers: thread::available_parallelism().map_or(1, NonZeroUsize::get),
            queue_items: 512,
            query_cache_bytes: 16 << 20,
            score_cache_bytes: 16 << 20,
            patience: Patience::default(),
            batching: None,
        }
    }
}

/// How busy the encoders are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodersStatus {
    /// Worker threads.
    pub workers: usize,
    /// Items waiting.
    pub queued: usize,
    /// Items that may wait.
    pub limit: usize,
    /// Most items that run at one time: one for each worker, or those of a batch.
    pub at_once: usize,
}

/// The embedder and the reranker of a process, behind one queue. Cheap to clone; dropping the last clone stops the
/// threads after the call each is in.
///
/// A handle embeds with one embedder. [`Encoders::with_embedder`] makes a second handle on the same queue and threads.
#[derive(Clone)]
pub struct Encoders {
    crew: Arc<Crew>,
    /// The embedder of this handle, unless it is the workers' own.
    beside: Option<Arc<Beside>>,
}

struct Crew {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    limit: usize,
    at_once: usize,
    space: EmbeddingSpace,
    reranker_name: String,
    /// Embedders added so far.
    added: AtomicUsize,
}

impl Encoders {
    /// Calls `factory` once for each worker, on this thread, and starts the threads.
    ///
    /// Workers whose models differ are refused: which of them serves a request is chance.
    pub fn start<F>(config: EncodersConfig, factory: F) -> Result<Self, SchedulerError>
    where
        F: Fn(usize) -> Result<(Box<dyn Embedder>, Box<dyn Reranker>), ModelError>,
    {
        if config.workers == 0 || config.queue_items == 0 {
            return Err(SchedulerError::Config("workers and queue_items must be at least 1".into()));
        }
        if let Some(policy) = config.batching {
            if config.workers != 1 {
                let message = format!("batches are formed for one worker, {} are configured", config.workers);
                return Err(SchedulerError::Config(message));
            }
            if let Some(problem) = policy.problem() {
                return Err(SchedulerError::Config(problem));
            }
        }
        let pairs = (0..config.workers).map(factory).collect::<Result<Vec<_>, _>>()?;
        let identity = |(embedder, reranker): &(Box<dyn Embedder>, Box<dyn Reranker>)| {
            (embedder.space().clone(), reranker.name().to_owned())
        };
        let mut identities = pairs.iter().map(identity);
        let Some((space, reranker_name)) = identities.next() else {
            return Err(SchedulerError::Config("no worker".into()));
        };
        if let Some((other, name)) =
            identities.find(|(other, name)| *other != space || *name != reranker_name)
        {
            let (expected, found) = (space.fingerprint(), other.fingerprint());
            return Err(SchedulerError::Config(format!(
                "workers have different models: {expected} and {reranker_name}, {found} and {name}"
            )));
        }
        let state = State {
            queue: Queue::new(config.queue_items, config.patience),
            former: config.batching.map(BatchFormer::new),
            stopped: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            room: Condvar::new(),
            caches: Caches::new(config.query_cache_bytes, config.score_cache_bytes),
        });
        // Made before the threads: when one of them cannot start, dropping it stops the others.
        let (limit, at_once) =
            (config.queue_items, config.batching.map_or(config.workers, |policy| policy.items));
        let mut crew = Crew {
            shared,
            threads: Vec::new(),
            limit,
            at_once,
            space,
            reranker_name,
            added: AtomicUsize::new(0),
        };
        for (number, (embedder, reranker)) in pairs.into_iter().enumerate() {
            let shared = Arc::clone(&crew.shared);
            let thread =
                thread::Builder::new().name(format!("encoder-{number}")).spawn(move || {
                    match config.batching {
                        None => shared.serve(number, embedder, reranker),
                        Some(_) => shared.serve_batches(embedder, reranker),
                    }
                })?;
            crew.threads.push(thread);
        }
        Ok(Self { crew: Arc::new(crew), beside: None })
    }

    /// A handle that embeds with another model: same queue, threads and reranker, so that both embedders share the
    /// processors by the rules of the queue. Calls `factory` once for each worker, on this thread.
    ///
    /// The models are freed with the last handle that uses them. Refuses instances of different spaces.
    pub fn with_embedder<F>(&self, factory: F) -> Result<Self, SchedulerError>
    where
        F: Fn(usize) -> Result<Box<dyn Embedder>, ModelError>,
    {
        let instances = (0..self.crew.threads.len()).map(factory).collect::<Result<Vec<_>, _>>()?;
        let Some(space) = instances.first().map(|embedder| embedder.space().clone()) else {
            return Err(SchedulerError::Config("no worker".into()));
        };
        if let Some(other) = instances.iter().map(|embedder| embedder.space()).find(|other| **other != space)
        {
            let (expected, found) = (space.fingerprint(), other.fingerprint());
            return Err(SchedulerError::Config(format!(
                "workers have different models: {expected}, {found}"
            )));
        }
        let number = 1 + self.crew.added.fetch_add(1, Ordering::Relaxed);
        let instances = instances.into_iter().map(Mutex::new).collect();
        let beside = Some(Arc::new(Beside { number, space, instances }));
        Ok(Self { crew: Arc::clone(&self.crew), beside })
    }

    /// The space of every vector this handle gives.
    pub fn space(&self) -> &EmbeddingSpace {
        self.beside.as_ref().map_or(&self.crew.space, |beside| &beside.space)
    }

    /// The reranker behind [`Encoders::score`].
    pub fn reranker_name(&self) -> &str {
        &self.crew.reranker_name
    }

    /// The caches of query vectors and of pair scores. Calling it brings their sizes in the metrics up to date.
    pub fn caches(&self) -> [CacheStatus; 2] {
        self.crew.shared.caches.status()
    }

    /// How busy they are now.
    pub fn status(&self) -> EncodersStatus {
        let queued = self.crew.shared.state.lock().queue.len();
        let Crew { threads, limit, at_once, .. } = &*self.crew;
        EncodersStatus { workers: threads.len(), queued, limit: *limit, at_once: *at_once }
    }

    /// Embeds one text. Dropping the future takes the item out before it starts.
    ///
    /// Query vectors are remembered. Needs a tokio runtime with a timer when the job has a deadline.
    pub async fn embed(&self, text: &str, role: TextRole, job: Job) -> Result<Embedding, SchedulerError> {
        let shared = &self.crew.shared;
        let embedder = self.beside.as_ref().map_or(0, |beside| beside.number);
        let key = (role == TextRole::Query).then(|| shared.caches.key((embedder, text)));
        if let Some(found) = key.and_then(|key| shared.caches.query(&key)) {
            return Ok(found);
        }
        let (sender, receiver) = oneshot::channel();
        let work = Work::Embed {
            text: text.into(),
            role,
            with: self.beside.clone(),
            keep: key,
            reply: Reply::One(sender),
        };
        self.submit(vec![work], job);
        receive(receiver, job.deadline).await.map(|(embedding, _)| embedding)
    }

    /// Embeds one text and tells how far it was read. Dropping the future takes the item out before it starts.
    ///
    /// For texts of others: the cache of query vectors is neither asked nor filled, because one long list of theirs
    /// would drive out what searches need.
    pub async fn embed_counted(
        &self,
        text: &str,
        role: TextRole,
        job: Job,
    ) -> Result<(Embedding, TextRead), SchedulerError> {
        let (sender, receiver) = oneshot::channel();
        let (text, with, reply) = (text.into(), self.beside.clone(), Reply::One(sender));
        self.submit(vec![Work::Embed { text, role, with, keep: None, reply }], job);
        receive(receiver, job.deadline).await
    }

    /// Scores one passage, of which at most `passage_tokens` are looked at, and tells how far the pair was read.
    /// Dropping the future takes the item out before it starts. The cache of scores is left alone, as by
    /// [`Encoders::embed_counted`].
    pub async fn score_counted(
        &self,
        query: &Arc<str>,
        passage: &str,
        passage_tokens: Option<NonZeroUsize>,
        job: Job,
    ) -> Result<(RerankLogit, PairRead), SchedulerError> {
        let (sender, receiver) = oneshot::channel();
        let (query, passage) = (Arc::clone(query), passage.into());
        let work = Work::Score { query, passage, passage_tokens, keep: None, reply: Reply::One(sender) };
        self.submit(vec![work], job);
        receive(receiver, job.deadline).await
    }

    /// Scores passages for a query, one item each, spread over the workers; results in the order of the passages.
    ///
    /// The passages take turns with those of other requests, so a large request does not hold up a small one.
    /// When the queue is nearly full the first passages are scored and the others are refused, so put the best
    /// candidates first. Scores that are ready when the deadline passes are kept. Scores are remembered.
    pub async fn score(
        &self,
        query: &str,
        passages: &[Arc<str>],
        job: Job,
    ) -> Vec<Result<RerankLogit, SchedulerError>> {
        enum Place {
            Known(RerankLogit),
            Waits(oneshot::Receiver<Result<(RerankLogit, PairRead), SchedulerError>>),
        }
        let shared = &self.crew.shared;
        let query: Arc<str> = query.into();
        let mut places = Vec::with_capacity(passages.len());
        let mut work = Vec::new();
        for passage in passages {
            let key = shared.caches.key((&*query, &**passage));
            if let Some(found) = shared.caches.score(&key) {
                places.push(Place::Known(found));
                continue;
            }
            let (sender, receiver) = oneshot::channel();
            let (query, passage) = (Arc::clone(&query), Arc::clone(passage));
            let (keep, reply) = (Some(key), Reply::One(sender));
            work.push(Work::Score { query, passage, passage_tokens: None, keep, reply });
            places.push(Place::Waits(receiver));
        }
        self.submit(work, job);
        let mut results = Vec::with_capacity(places.len());
        for place in places {
            results.push(match place {
                Place::Known(logit) => Ok(logit),
                Place::Waits(receiver) => receive(receiver, job.deadline).await.map(|(logit, _)| logit),
            });
        }
        results
    }

    /// Embeds many texts, spread over the workers, in the order given; the first failure is the result.
    ///
    /// Blocks while the queue is full, so that whoever reads posts is slowed down to the speed of the model. Not to be
    /// called from async code.
    pub fn embed_blocking(
        &self,
        texts: &[String],
        role: TextRole,
        priority: Priority,
    ) -> Result<Vec<Embedding>, SchedulerError> {
        self.embed_each_blocking(texts, role, priority).into_iter().collect()
    }

    /// [`Encoders::embed_blocking`] with a result for each text: one that has nothing to embed spoils no other.
    pub fn embed_each_blocking(
        &self,
        texts: &[String],
        role: TextRole,
        priority: Priority,
    ) -> Vec<Result<Embedding, SchedulerError>> {
        let shared = &self.crew.shared;
        let (batch, slots) = Batch::new(texts.len());
        for (text, slot) in texts.iter().zip(slots) {
            let (text, with, reply) = (text.as_str().into(), self.beside.clone(), Reply::Slot(slot));
            let work = Work::Embed { text, role, with, keep: None, reply };
            let mut state = shared.state.lock();
            shared.room.wait_while(&mut state, |state| !state.stopped && state.queue.room(priority) == 0);
            if state.stopped {
                continue; // dropping the item answers it
            }
            let pushed = state.queue.push(work, priority, None, Instant::now());
            metrics::depth(&state.queue, priority);
            drop(state);
            match pushed {
                Ok(()) => {
                    shared.work.notify_one();
                }
                Err(work) => work.refuse(SchedulerError::Stopped, "overloaded"), // not after waiting for room
            }
        }
        batch.wait().into_iter().map(|result| result.map(|(embedding, _)| embedding)).collect()
    }

    /// Queues the items; those that cannot wait are answered at once.
    fn submit(&self, work: Vec<Work>, job: Job) {
        if work.is_empty() {
            return;
        }
        let shared = &self.crew.shared;
        let now = Instant::now();
        let expired = job.deadline.is_some_and(|deadline| deadline <= now);
        let mut refused = Vec::new();
        let mut dead = Vec::new();
        let mut queued = 0;
        {
            let mut state = shared.state.lock();
            if !expired && !state.stopped && state.queue.room(job.priority) < work.len() {
                dead = state.queue.sweep(now, Work::is_gone);
            }
            for (nth, work) in work.into_iter().enumerate() {
                if expired {
                    refused.push((work, SchedulerError::DeadlineExceeded, "expired"));
                } else if state.stopped {
                    refused.push((work, SchedulerError::Stopped, "gone"));
                } else if state.is_hopeless(&work, job.deadline, now) {
                    refused.push((work, SchedulerError::DeadlineExceeded, "late"));
                } else if let Err(work) = state.queue.push_nth(nth, work, job.priority, job.deadline, now) {
                    let error = Shared::overloaded(&state, self.crew.limit, job.priority);
                    refused.push((work, error, "overloaded"));
                } else {
                    queued += 1;
                }
            }
            metrics::depth(&state.queue, job.priority);
        }
        for _ in 0..queued {
            shared.work.notify_one();
        }
        if !dead.is_empty() {
            shared.room.notify_all();
        }
        for popped in dead {
            settle(popped);
        }
        for (work, error, outcome) in refused {
            work.refuse(error, outcome);
        }
    }
}

/// The result of one item, or [`SchedulerError::DeadlineExceeded`] at the deadline; then the item's reply is closed
/// and it is not started.
async fn receive<T>(
    receiver: oneshot::Receiver<Result<T, SchedulerError>>,
    deadline: Option<Instant>,
) -> Result<T, SchedulerError> {
    let answer = match deadline {
        None => receiver.await,
        Some(deadline) => match tokio::time::timeout_at(deadline.into(), receiver).await {
            Ok(answer) => answer,
            Err(_elapsed) => return Err(SchedulerError::DeadlineExceeded),
        },
    };
    answer.unwrap_or(Err(SchedulerError::Stopped))
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.shared.stop();
        for thread in self.threads.drain(..) {
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                tracing::error!("a model worker had panicked outside of a model call");
            }
        }
    }
}

impl fmt::Debug for Encoders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoders")
            .field("space", &self.space().fingerprint())
            .field("reranker", &self.crew.reranker_name)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
