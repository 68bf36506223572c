//! What the worker threads share with the callers, and what each of them does.

use std::num::NonZeroUsize;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Instant;

use bowerbird_models_api::{
    Embedder, Embedding, ModelError, PairRead, RerankLogit, Reranker, TextRead, TextRole,
};
use parking_lot::{Condvar, Mutex};

use crate::cache::{Caches, Key};
use crate::queue::{Popped, Queue};
use crate::reply::Reply;
use crate::{Priority, SchedulerError, metrics};

/// One call of a model.
pub(crate) enum Work {
    Embed {
        text: Arc<str>,
        role: TextRole,
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
    pub(crate) stopped: bool,
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

    /// The life of a worker thread, which owns its two models.
    pub(crate) fn serve(&self, mut embedder: Box<dyn Embedder>, mut reranker: Box<dyn Reranker>) {
        let model = embedder.space().model.clone();
        while let Some(work) = self.next() {
            match work {
                Work::Embed { text, role, keep, reply } => {
                    let result = call("embed", &model, || embedder.embed_counted(&text, role));
                    if let (Ok((embedding, _)), Some(key)) = (&result, keep) {
                        self.caches.keep_query(key, embedding);
                    }
                    reply.send(result);
                }
                Work::Score { query, passage, passage_tokens, keep, reply } => {
                    let name = reranker.name().to_owned();
                    let result =
                        call("score", &name, || reranker.score_counted(&query, &passage, passage_tokens));
                    if let (Ok((logit, _)), Some(key)) = (&result, keep) {
                        self.caches.keep_score(key, *logit);
                    }
                    reply.send(result);
                }
            }
        }
    }

    /// How many items of this priority wait, and may wait.
    pub(crate) fn overloaded(state: &State, limit: usize, priority: Priority) -> SchedulerError {
        let queued = state.queue.len();
        tracing::debug!(priority = priority.name(), queued, limit, "model queue is full");
        SchedulerError::Overloaded { queued, limit }
    }
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
