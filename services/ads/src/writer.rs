//! One writer for everything that moves money: what is asked for while it works is committed together.
//!
//! A commit waits for the disk, which takes longer than all statements of a decision. Each job runs in a savepoint of
//! the shared transaction, so that one that fails takes nothing with it, and is answered after the commit: what a
//! caller was told is on the disk. A job whose caller has gone is still done.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use sqlx::{Any, AnyConnection, Executor, Transaction};
use tokio::sync::{mpsc, oneshot};

use crate::AdsError;
use crate::money::Balance;
use crate::spending::Spending;
use crate::store::Store;

/// Jobs that may wait; more are refused.
const QUEUE: usize = 4096;
/// Jobs of one commit.
const TOGETHER: usize = 256;
/// For so long after a failed commit jobs are refused untried; twice as long after each further one.
const LEAST_REST: Duration = Duration::from_millis(250);
const MOST_REST: Duration = Duration::from_secs(10);

/// The transaction a job works in.
pub(crate) struct Work {
    tx: Transaction<'static, Any>,
    changes: Vec<(String, Balance)>,
    expiry: Option<Expiry>,
}

/// What a commit changes about when the next hold runs out.
#[derive(Clone, Copy)]
enum Expiry {
    /// At this time, or earlier as was known.
    AtLatest(i64),
    /// At this time: holds were ended.
    Exactly(i64),
}

impl Work {
    /// The connection.
    pub fn db(&mut self) -> &mut AnyConnection {
        &mut self.tx
    }

    /// A hold was made that runs out at `ms`.
    pub fn held_until(&mut self, ms: i64) {
        self.expiry = Some(match self.expiry {
            None => Expiry::AtLatest(ms),
            Some(Expiry::AtLatest(other)) => Expiry::AtLatest(ms.min(other)),
            Some(Expiry::Exactly(other)) => Expiry::Exactly(ms.min(other)),
        });
    }

    /// Holds were ended; the next one runs out at `ms`.
    pub fn next_expiry(&mut self, ms: i64) {
        self.expiry = Some(Expiry::Exactly(ms));
    }

    /// Makes balances known to decisions once they are committed.
    pub fn changed(&mut self, scopes: &[String], balances: &[Balance]) {
        self.changes.extend(scopes.iter().cloned().zip(balances.iter().copied()));
    }
}

/// Answers the caller of a job, after the commit.
type Reply = Box<dyn FnOnce() + Send>;
type Job = Box<dyn for<'w> FnOnce(&'w mut Work) -> BoxFuture<'w, (bool, Reply)> + Send>;

/// Hands jobs to the task that writes. Cheap to clone; the task ends with the last clone.
#[derive(Clone)]
pub(crate) struct Writer(mpsc::Sender<Job>);

impl Writer {
    /// Starts the task within a tokio runtime.
    pub fn start(store: Arc<Store>, spending: Arc<Spending>) -> Self {
        let (sender, jobs) = mpsc::channel(QUEUE);
        tokio::spawn(serve(store, spending, jobs));
        Self(sender)
    }

    /// Runs `job` and returns its result once it is on the disk. What a failed job wrote is taken back.
    ///
    /// Errors: those of the job; [`AdsError::Busy`] when too many wait, or the commit failed.
    pub async fn run<T, F>(&self, job: F) -> Result<T, AdsError>
    where
        T: Send + 'static,
        F: for<'w> FnOnce(&'w mut Work) -> BoxFuture<'w, Result<T, AdsError>> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |work| {
            Box::pin(async move {
                let result = job(work).await;
                let keep = result.is_ok();
                // A caller that has gone needs no answer.
                let reply: Reply = Box::new(move || drop(answer.send(result)));
                (keep, reply)
            })
        });
        self.0.try_send(job).map_err(|_| AdsError::Busy)?;
        answered.await.map_err(|_| AdsError::Busy)?
    }
}

async fn serve(store: Arc<Store>, spending: Arc<Spending>, mut jobs: mpsc::Receiver<Job>) {
    let (mut rest, mut until) = (LEAST_REST, Instant::now());
    while let Some(first) = jobs.recv().await {
        if Instant::now() < until {
            continue;
        }
        match together(&store, first, &mut jobs).await {
            Ok((replies, changes, expiry)) => {
                rest = LEAST_REST;
                spending.set(changes);
                match expiry {
                    None => {}
                    Some(Expiry::AtLatest(ms)) => spending.held_until(ms),
                    Some(Expiry::Exactly(ms)) => spending.expires_at(ms),
                }
                metrics::histogram!("bowerbird_ads_commit_jobs").record(replies.len() as f64);
                for reply in replies {
                    reply();
                }
            }
            // The callers hear that the database is busy, and may ask again: every job can be repeated. Those that wait
            // behind would wait as long for the same, and those to come do not try at once either: a page without an
            // ad is better than a page that waits.
            Err(error) => {
                while jobs.try_recv().is_ok() {}
                until = Instant::now() + rest;
                tracing::error!(error = %crate::error::chain(&error), ?rest, "a commit of the ad database failed");
                rest = (rest * 2).min(MOST_REST);
            }
        }
    }
}

/// Runs `first` and what waits behind it in one transaction.
async fn together(
    store: &Store,
    first: Job,
    jobs: &mut mpsc::Receiver<Job>,
) -> Result<(Vec<Reply>, Vec<(String, Balance)>, Option<Expiry>), AdsError> {
    let mut work = Work { tx: store.begin_write().await?, changes: Vec::new(), expiry: None };
    let mut replies = Vec::new();
    let mut next = Some(first);
    while let Some(job) = next {
        let before = work.changes.len();
        work.tx.execute("SAVEPOINT job").await?;
        let (keep, reply) = job(&mut work).await;
        if !keep {
            work.tx.execute("ROLLBACK TO SAVEPOINT job").await?;
            work.changes.truncate(before);
        }
        work.tx.execute("RELEASE SAVEPOINT job").await?;
        replies.push(reply);
        next = if replies.len() < TOGETHER { jobs.try_recv().ok() } else { None };
    }
    work.tx.commit().await?;
    Ok((replies, work.changes, work.expiry))
}
