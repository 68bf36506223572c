//! Any number of texts through the queue of the models, a few at a time.
//!
//! What waits in the queue is bounded twice: by the window of one call, a few items for each worker, which is enough
//! to keep them busy; and by the places of all calls together, a quarter of the queue, so that a page of results
//! finds room however many callers come with however many texts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use bowerbird_models_api::ModelError;
use bowerbird_scheduler::{Encoders, Job, Priority, SchedulerError};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::App;
use crate::http::problem::Problem;

/// Calls of at most so many texts go before the work of rebuilds: somebody may wait for a page made from them.
const SMALL: usize = 64;
/// Items of one call in the queue for each worker: one that runs, one that is next, and as many again so that no
/// worker waits while results are taken.
const ITEMS_PER_WORKER: usize = 4;
/// How long an item waits before it asks a full queue again.
const PAUSE: Duration = Duration::from_millis(20);
/// Longest `timeout_ms`.
const MAX_TIMEOUT_MS: u64 = 600_000;

/// Places for the texts of all calls together.
pub(in crate::http) fn places(encoders: &Encoders) -> Arc<Semaphore> {
    let places = (encoders.status().limit / 4).clamp(1, Semaphore::MAX_PERMITS);
    Arc::new(Semaphore::new(places))
}

/// One call's right to so many items in the queue, and its deadline. Dropping it gives the places back.
pub(super) struct Run {
    job: Job,
    timeout: Duration,
    items: usize,
    window: usize,
    _places: OwnedSemaphorePermit,
}

impl Run {
    /// For a call with `items` texts; 429 when other calls have all places.
    pub(super) fn start(app: &App, items: usize, timeout_ms: Option<u64>) -> Result<Self, Problem> {
        let timeout = match timeout_ms {
            None => app.stack.config.server.models_timeout,
            Some(ms @ 1..=MAX_TIMEOUT_MS) => Duration::from_millis(ms),
            Some(ms) => {
                let message = format!("timeout_ms is {ms}, expected 1 to {MAX_TIMEOUT_MS}");
                return Err(Problem::invalid("timeout_out_of_range", "timeout_ms", message));
            }
        };
        let status = app.stack.encoders.status();
        // Where calls take many items, fewer than a batch would never be one.
        let wanted = (ITEMS_PER_WORKER * status.workers).max(status.at_once).min(items).max(1);
        // Where others have most places, a smaller window is slower but no refusal.
        let take = |window: usize| {
            let permits = u32::try_from(window).ok()?;
            Some((window, app.model_places.clone().try_acquire_many_owned(permits).ok()?))
        };
        let free = app.model_places.available_permits();
        let (window, places) = take(wanted.min(free).max(1)).or_else(|| take(1)).ok_or_else(|| {
            Problem::overloaded("the models have as many texts of other calls as they take: try again later")
        })?;
        let priority = if items <= SMALL { Priority::AnswerCheck } else { Priority::Bulk };
        let job = Job { priority, deadline: Some(Instant::now() + timeout) };
        Ok(Self { job, timeout, items, window, _places: places })
    }

    /// Runs `work` for every item, in the order of the items. The first failure ends the others; so does dropping the
    /// future, which takes what waits out of the queue.
    ///
    /// A full queue refuses the first items. Once something is done, the rest waits for room instead: throwing
    /// finished work away would only bring it back.
    pub(super) async fn each<T, F>(&self, work: impl Fn(usize, Job) -> F) -> Result<Vec<T>, Failed>
    where
        F: Future<Output = Result<T, SchedulerError>>,
    {
        let begun = AtomicBool::new(false);
        let (begun, work) = (&begun, &work);
        let one = |item: usize| async move {
            loop {
                match work(item, self.job).await {
                    Ok(value) => {
                        begun.store(true, Ordering::Relaxed);
                        return Ok(value);
                    }
                    Err(SchedulerError::Overloaded { .. }) if begun.load(Ordering::Relaxed) => {
                        tokio::time::sleep(PAUSE).await;
                    }
                    Err(error) => return Err(Failed { item, error }),
                }
            }
        };
        futures::stream::iter((0..self.items).map(one)).buffered(self.window).try_collect().await
    }

    /// What a failed item means for the client; `place` names the item.
    pub(super) fn problem(&self, failed: Failed, place: &str) -> Problem {
        let Failed { item, error } = failed;
        match error {
            SchedulerError::Model(ModelError::EmptyText) => empty_text(place),
            SchedulerError::Model(ModelError::TextTooLong { .. }) => {
                Problem::invalid("text_too_long", place, format!("{place}: {error}"))
            }
            SchedulerError::DeadlineExceeded => {
                let (items, timeout) = (self.items, self.timeout);
                let message = format!(
                    "the first {item} of {items} texts were done within {timeout:?}: send fewer at once, or give a longer \
                     timeout_ms"
                );
                Problem::new(StatusCode::GATEWAY_TIMEOUT, "timeout", "timeout", message)
            }
            error => error.into(),
        }
    }

    /// The job of a further item of this call.
    pub(super) fn job(&self) -> Job {
        self.job
    }
}

/// The item at which a call ended.
pub(super) struct Failed {
    /// Its place, from 0.
    pub(super) item: usize,
    /// What happened.
    pub(super) error: SchedulerError,
}

/// The text at `place` has nothing to read.
pub(super) fn empty_text(place: &str) -> Problem {
    Problem::invalid("empty_text", place, format!("{place} is empty: give at least one visible character"))
}
