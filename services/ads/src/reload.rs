//! Changes of what is booked, taken into memory: many changes, one reading.
//!
//! A change notes itself in the database with the rest of it. Within this process it also wakes the watcher, which waits
//! a little for more and then reads everything once; in every other process that shares the database the watcher sees
//! the count of changes rise within a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::AdsError;
use crate::engine::Engine;
use crate::stored;

/// How long further changes are waited for: reading a hundred thousand ads takes longer.
const GATHER: Duration = Duration::from_millis(200);
/// How often other processes' changes are looked for.
const LOOK: Duration = Duration::from_secs(1);

/// What is in memory, and that it is behind.
pub(crate) struct Reloads {
    changed: Arc<Notify>,
    /// Count of changes that are in memory.
    loaded: watch::Sender<i64>,
    stopped: Arc<AtomicBool>,
    failures: AtomicI64,
    /// Held while everything is read: what was read later is not replaced by what was read before.
    pub one_at_a_time: tokio::sync::Mutex<()>,
}

impl Default for Reloads {
    fn default() -> Self {
        Self {
            changed: Arc::default(),
            loaded: watch::Sender::new(-1),
            stopped: Arc::default(),
            failures: AtomicI64::new(0),
            one_at_a_time: tokio::sync::Mutex::default(),
        }
    }
}

impl Reloads {
    /// Something has changed in the database.
    pub fn wake(&self) {
        self.changed.notify_one();
    }

    /// What was booked after `changes` changes is in memory.
    pub fn done(&self, changes: i64) {
        self.loaded.send_replace(changes);
    }

    /// Ends the watcher.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.changed.notify_one();
    }
}

impl Engine {
    /// Reads everything if the database has moved on.
    async fn catch_up(&self) -> Result<(), AdsError> {
        let mut reader = self.store.reader.acquire().await?;
        let changes = stored::changes(&mut reader).await?;
        drop(reader);
        if changes == *self.reloads.loaded.borrow() { Ok(()) } else { self.reload().await }
    }

    /// Waits until what is booked now is in memory.
    pub(crate) async fn in_force(&self) -> Result<(), AdsError> {
        let mut reader = self.store.reader.acquire().await?;
        let changes = stored::changes(&mut reader).await?;
        drop(reader);
        let mut loaded = self.reloads.loaded.subscribe();
        // The sender lives as long as the engine.
        drop(loaded.wait_for(|loaded| *loaded >= changes).await);
        Ok(())
    }
}

/// Starts the watcher; it ends with the engine.
pub(crate) fn watch(engine: &Arc<Engine>) {
    let (weak, changed) = (Arc::downgrade(engine), engine.reloads.changed.clone());
    let stopped = engine.reloads.stopped.clone();
    tokio::spawn(async move {
        loop {
            let told = tokio::time::timeout(LOOK, changed.notified()).await.is_ok();
            if told && !stopped.load(Ordering::Relaxed) {
                tokio::time::sleep(GATHER).await;
            }
            let Some(engine) = weak.upgrade().filter(|_| !stopped.load(Ordering::Relaxed)) else { return };
            if let Err(error) = engine.catch_up().await {
                // The ads in memory go on being served; the next look tries again.
                let failures = engine.reloads.failures.fetch_add(1, Ordering::Relaxed);
                if failures == 0 {
                    tracing::error!(%error, "changes of ads cannot be read");
                }
            } else {
                engine.reloads.failures.store(0, Ordering::Relaxed);
            }
        }
    });
}
