//! What the worker threads share with the callers, and what each of them does.

use std::num::NonZeroUsize;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Instant;

use bowerbird_models_api::{
    Embedder, Embedding, EmbeddingSpace, ModelError, Pair, PairRead, RerankLogit, Reranker, TextRead,
    TextRole,
};
use parking_lot::{Condvar, Mutex};

use crate::cache::{Caches, Key};
use crate::former::{BatchFormer, Formed, Shape};
use crate::queue::{Popped, Queue};
use crate::reply::Reply;
use crate::{Priority, SchedulerError, metrics};

/// One call of a model.
pub(crate) enum Work {
    Embed {
        text: Arc<str>,
        role: TextRole,
        /// Another embedder than the worker's own.
        with: Option<Arc<Beside>>,
        keep: Option<Key>,
        reply: Reply<(Embedding, TextRead)>,
    },
    Score {
        query: Arc<str>,
        passage: Arc<str>,
        passage_tokens: Option<NonZeroUsize>,
        keep: Option<Key>,
        reply: Reply<(RerankLogit, PairRead)>,
    },
}

/// An embedder beside the first: one instance for each worker, whose thread alone uses it.
pub(crate) struct Beside {
    /// 1 for the first that was added, and so on.
    pub(crate) number: usize,
    pub(crate) space: EmbeddingSpace,
    pub(crate) instances: Vec<Mutex<Box<dyn Embedder>>>,
}

impl Work {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Embed { .. } => "embed",
            Self::Score { .. } => "score",
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        match self {
            Self::Embed { reply, .. } => reply.is_gone(),
            Self::Score { reply, .. } => reply.is_gone(),
        }
    }

    /// What it asks of a device, by the bytes of its texts: the tokens are known only once the model has cut them.
    pub(crate) fn shape(&self) -> Shape {
        /// Bytes of a token, English; other scripts have fewer, and are then padded further than needed.
        const TOKEN_BYTES: usize = 4;
        /// Tokens of a passage in one row, and rows of a pair: what rerankers are made with.
        const WINDOW: usize = 160;
        const WINDOWS: usize = 3;
        let tokens = |text: &str| text.len() / TOKEN_BYTES + 1;
        match self {
            Self::Embed { text, with, .. } => {
                let model = with.as_ref().map_or(0, |beside| 1 + beside.number);
                Shape { model, tokens: tokens(text) + 2, rows: 1 }
            }
            Self::Score { query, passage, passage_tokens, .. } => {
                let looked_at = passage_tokens.map_or(usize::MAX, NonZeroUsize::get);
                let passage = tokens(passage).min(looked_at);
                let rows = passage.div_ceil(WINDOW).min(WINDOWS);
                let tokens = tokens(query).min(128) + passage.min(WINDOW) + 3;
                Shape { model: 1, tokens, rows }
            }
        }
    }

    /// Answers without having run.
    pub(crate) fn refuse(self, error: SchedulerError, outcome: &'static str) {
        metrics::item(self.kind(), outcome);
        match self {
            Self::Embed { reply, .. } => reply.send(Err(error)),
            Self::Score { reply, .. } => reply.send(Err(error)),
        }
    }
}

/// Answers an item that the queue handed back; an item to start is returned.
pub(crate) fn settle(popped: Popped<Work>) -> Option<Work> {
    match popped {
        Popped::Start { item, priority, waited } => {
            metrics::waited(item.kind(), priority, waited);
            return Some(item);
        }
        Popped::Expired(work) => work.refuse(SchedulerError::DeadlineExceeded, "expired"),
        Popped::Late(work) => work.refuse(SchedulerError::DeadlineExceeded, "late"),
        Popped::Gone(work) => work.refuse(SchedulerError::Stopped, "gone"), // nobody reads it
    }
    None
}

/// Between callers and workers.
pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    /// Something was queued, or the workers shall stop.
    pub(crate) work: Condvar,
    /// Something left the queue, or the workers stopped.
    pub(crate) room: Condvar,
    pub(crate) caches: Caches,
}

pub(crate) struct State {
    pub(crate) queue: Queue<Work>,
    /// Forms batches for the one worker there is then; without it each worker takes one item at a time.
    pub(crate) former: Option<BatchFormer>,
    pub(crate) stopped: bool,
}

impl State {
    /// Whether the device is busy for so long that the item could not be done in time.
    pub(crate) fn is_hopeless(&self, work: &Work, deadline: Option<Instant>, now: Instant) -> bool {
        let (Some(former), Some(deadline)) = (&self.former, deadline) else { return false };
        former.is_hopeless(work.shape(), deadline, now)
    }
}

impl Shared {
    /// Waits for the next item to run; `None` when the workers shall stop.
    fn next(&self) -> Option<Work> {
        loop {
            let popped = {
                let mut state = self.state.lock();
                loop {
                    if state.stopped {
                        return None;
                    }
                    if let Some(popped) = state.queue.pop(Instant::now(), Work::is_gone) {
                        metrics::depths(&state.queue);
                        break popped;
                    }
                    self.work.wait(&mut state);
                }
            };
            // Callers that wait for room need different amounts of it: each looks for itself.
            self.room.notify_all();
            if let Some(work) = settle(popped) {
                return Some(work);
            }
        }
    }

    /// Ends the workers after the call each is in; what waits is answered with [`SchedulerError::Stopped`].
    pub(crate) fn stop(&self) {
        let left: Vec<Work> = {
            let mut state = self.state.lock();
            state.stopped = true;
            state.queue.drain().collect()
        };
        self.work.notify_all();
        self.room.notify_all();
        for work in left {
            work.refuse(SchedulerError::Stopped, "gone");
        }
    }

    /// Waits for the next batch to run; `None` when the worker shall stop.
    fn next_batch(&self) -> Option<Formed<Work>> {
        loop {
            let mut formed = {
                let mut state = self.state.lock();
                loop {
                    if state.stopped {
                        return None;
                    }
                    let State { queue, former: Some(former), .. } = &mut *state else { return None };
                    let formed = former.form(queue, Instant::now(), Work::shape, Work::is_gone);
                    if !formed.items.is_empty() || !formed.refused.is_empty() {
                        metrics::depths(queue);
                        break formed;
                    }
                    self.work.wait(&mut state);
                }
            };
            self.room.notify_all();
            for popped in formed.refused.drain(..) {
                settle(popped);
            }
            if !formed.items.is_empty() {
                return Some(formed);
            }
        }
    }

    /// The life of a worker thread, which owns its two models.
    pub(crate) fn serve(
        &self,
        number: usize,
        mut embedder: Box<dyn Embedder>,
        mut reranker: Box<dyn Reranker>,
    ) {
        while let Some(work) = self.next() {
            self.run_one(work, number, &mut *embedder, &mut *reranker);
        }
    }

    /// The same for a device that takes many items in one call.
    pub(crate) fn serve_batches(&self, mut embedder: Box<dyn Embedder>, mut reranker: Box<dyn Reranker>) {
        while let Some(formed) = self.next_batch() {
            let mut work = Vec::with_capacity(formed.items.len());
            for started in formed.items {
                metrics::waited(started.item.kind(), started.priority, started.waited);
                work.push(started.item);
            }
            let begun = Instant::now();
            let left = self.run_batch(work, &mut *embedder, &mut *reranker);
            if let Some(former) = &mut self.state.lock().former {
                former.ran(formed.model, formed.padded_tokens, begun.elapsed());
            }
            // The batch panicked: alone, each item that is sound still gets its result.
            for work in left {
                self.run_one(work, 0, &mut *embedder, &mut *reranker);
            }
        }
    }

    fn run_one(&self, work: Work, worker: usize, embedder: &mut dyn Embedder, reranker: &mut dyn Reranker) {
        match work {
            Work::Embed { text, role, with, keep, reply } => {
                let mut beside = with.as_ref().and_then(|with| with.instances.get(worker)).map(Mutex::lock);
                let embedder = beside.as_mut().map_or(embedder, |instance| &mut ***instance);
                let model = embedder.space().model.clone();
                let result = call("embed", &model, || embedder.embed_counted(&text, role));
                drop(beside);
                self.answer_embed(keep, reply, result);
            }
            Work::Score { query, passage, passage_tokens, keep, reply } => {
                let name = reranker.name().to_owned();
                let result =
                    call("score", &name, || reranker.score_counted(&query, &passage, passage_tokens));
                self.answer_score(keep, reply, result);
            }
        }
    }

    /// Runs items of one kind in one call and answers them. They come back when the call gives no results.
    fn run_batch(
        &self,
        work: Vec<Work>,
        embedder: &mut dyn Embedder,
        reranker: &mut dyn Reranker,
    ) -> Vec<Work> {
        let mut texts = Vec::new();
        let mut pairs = Vec::new();
        // Items of one batch are for one model.
        let with = work.iter().find_map(|work| match work {
            Work::Embed { with, .. } => with.clone(),
            Work::Score { .. } => None,
        });
        let mut beside = with.as_ref().and_then(|with| with.instances.first()).map(Mutex::lock);
        let embedder = beside.as_mut().map_or(embedder, |instance| &mut ***instance);
        for work in &work {
            match work {
                Work::Embed { text, role, .. } => texts.push((&**text, *role)),
                Work::Score { query, passage, passage_tokens, .. } => {
                    pairs.push(Pair { query, passage, passage_tokens: *passage_tokens });
                }
            }
        }
        let (Some(embedded), Some(scored)) = (
            batch_call("embed", texts.len(), || embedder.embed_batch(&texts)),
            batch_call("score", pairs.len(), || reranker.score_batch(&pairs)),
        ) else {
            return work;
        };
        let (mut embedded, mut scored) = (embedded.into_iter(), scored.into_iter());
        for work in work {
            let kind = work.kind();
            match work {
                Work::Embed { keep, reply, .. } => {
                    if let Some(result) = embedded.next() {
                        self.answer_embed(keep, reply, counted(kind, result));
                    }
                }
                Work::Score { keep, reply, .. } => {
                    if let Some(result) = scored.next() {
                        self.answer_score(keep, reply, counted(kind, result));
                    }
                }
            }
        }
        Vec::new()
    }

    fn answer_embed(
        &self,
        keep: Option<Key>,
        reply: Reply<(Embedding, TextRead)>,
        result: Result<(Embedding, TextRead), SchedulerError>,
    ) {
        if let (Ok((embedding, _)), Some(key)) = (&result, keep) {
            self.caches.keep_query(key, embedding);
        }
        reply.send(result);
    }

    fn answer_score(
        &self,
        keep: Option<Key>,
        reply: Reply<(RerankLogit, PairRead)>,
        result: Result<(RerankLogit, PairRead), SchedulerError>,
    ) {
        if let (Ok((logit, _)), Some(key)) = (&result, keep) {
            self.caches.keep_score(key, *logit);
        }
        reply.send(result);
    }

    /// How many items of this priority wait, and may wait.
    pub(crate) fn overloaded(state: &State, limit: usize, priority: Priority) -> SchedulerError {
        let queued = state.queue.len();
        tracing::debug!(priority = priority.name(), queued, limit, "model queue is full");
        SchedulerError::Overloaded { queued, limit }
    }
}

/// Runs a call for `items` items; nothing when it panicked or gave another number of results.
fn batch_call<T>(kind: &'static str, items: usize, run: impl FnOnce() -> Vec<T>) -> Option<Vec<T>> {
    if items == 0 {
        return Some(Vec::new());
    }
    let started = Instant::now();
    let results = panic::catch_unwind(AssertUnwindSafe(run));
    metrics::ran_batch(kind, items, started.elapsed());
    match results {
        Ok(results) if results.len() == items => Some(results),
        Ok(results) => {
            tracing::error!(kind, items, found = results.len(), "a batch gave another number of results");
            None
        }
        Err(_) => {
            tracing::error!(kind, items, "a batch panicked, its items are run alone");
            None
        }
    }
}

/// Counts a result of a batch.
fn counted<T>(kind: &'static str, result: Result<T, ModelError>) -> Result<T, SchedulerError> {
    metrics::item(kind, if result.is_ok() { "ok" } else { "error" });
    Ok(result?)
}

/// Runs one model call; a panic inside is the failure of this item only.
fn call<T>(
    kind: &'static str,
    model: &str,
    run: impl FnOnce() -> Result<T, ModelError>,
) -> Result<T, SchedulerError> {
    let started = Instant::now();
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    metrics::ran(kind, started.elapsed());
    match result {
        Ok(Ok(value)) => {
            metrics::item(kind, "ok");
            Ok(value)
        }
        Ok(Err(error)) => {
            metrics::item(kind, "error");
            Err(error.into())
        }
        Err(panic) => {
            metrics::item(kind, "panic");
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            tracing::error!(model, kind, panic = said, "a model call panicked");
            Err(ModelError::Failed { model: model.into(), message: format!("panicked: {said}") }.into())
        }
    }
}
