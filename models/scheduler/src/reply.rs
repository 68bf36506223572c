//! The way back to the caller: one future, or one place in a batch that a thread waits for.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::SchedulerError;

/// Where the result of one item goes. Dropped without a result, it tells the caller that the workers stopped.
pub(crate) enum Reply<T> {
    /// An async caller; it may go away.
    One(oneshot::Sender<Result<T, SchedulerError>>),
    /// A thread that waits for a whole batch.
    Slot(Slot<T>),
}

impl<T> Reply<T> {
    /// Whether nobody waits any more.
    pub(crate) fn is_gone(&self) -> bool {
        match self {
            Self::One(sender) => sender.is_closed(),
            Self::Slot(_) => false,
        }
    }

    pub(crate) fn send(self, result: Result<T, SchedulerError>) {
        match self {
            // A caller that has gone in the meantime needs no result.
            Self::One(sender) => drop(sender.send(result)),
            Self::Slot(mut slot) => slot.fill(result),
        }
    }
}

/// Results of a batch, in the order of its items.
pub(crate) struct Batch<T> {
    state: Mutex<BatchState<T>>,
    done: Condvar,
}

struct BatchState<T> {
    results: Vec<Option<Result<T, SchedulerError>>>,
    missing: usize,
}

/// One place in a batch.
pub(crate) struct Slot<T> {
    batch: Option<Arc<Batch<T>>>,
    index: usize,
}

impl<T> Batch<T> {
    /// A batch of `len` items, and one place for each.
    pub(crate) fn new(len: usize) -> (Arc<Self>, impl Iterator<Item = Slot<T>>) {
        let state = BatchState { results: (0..len).map(|_| None).collect(), missing: len };
        let batch = Arc::new(Self { state: Mutex::new(state), done: Condvar::new() });
        let slots = {
            let batch = Arc::clone(&batch);
            (0..len).map(move |index| Slot { batch: Some(Arc::clone(&batch)), index })
        };
        (batch, slots)
    }

    /// Blocks until every place is filled.
    pub(crate) fn wait(&self) -> Vec<Result<T, SchedulerError>> {
        let mut state = self.state.lock();
        self.done.wait_while(&mut state, |state| state.missing > 0);
        std::mem::take(&mut state.results)
            .into_iter()
            .map(|result| result.unwrap_or(Err(SchedulerError::Stopped)))
            .collect()
    }
}

impl<T> Slot<T> {
    fn fill(&mut self, result: Result<T, SchedulerError>) {
        let Some(batch) = self.batch.take() else { return };
        let mut state = batch.state.lock();
        if let Some(place) = state.results.get_mut(self.index) {
            *place = Some(result);
        }
        state.missing -= 1;
        if state.missing == 0 {
            batch.done.notify_all();
        }
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        self.fill(Err(SchedulerError::Stopped));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_keeps_its_order_and_a_dropped_place_is_an_error() {
        let (batch, slots) = Batch::new(3);
        let mut slots: Vec<Slot<u32>> = slots.collect();
        let last = slots.pop().expect("three");
        Reply::Slot(last).send(Ok(30));
        drop(slots.pop());
        Reply::Slot(slots.pop().expect("one left")).send(Ok(10));
        let results = batch.wait();
        assert!(matches!(results.as_slice(), [Ok(10), Err(SchedulerError::Stopped), Ok(30)]), "{results:?}");
        assert!(Batch::<u32>::new(0).0.wait().is_empty());
    }

    #[test]
    fn a_caller_that_left_is_noticed() {
        let (sender, receiver) = oneshot::channel::<Result<(), SchedulerError>>();
        let reply = Reply::One(sender);
        assert!(!reply.is_gone());
        drop(receiver);
        assert!(reply.is_gone());
        reply.send(Ok(()));
    }
}
