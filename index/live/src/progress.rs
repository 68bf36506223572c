//! How far the threads have come: what `flush` waits on and `status` shows.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use roaring::RoaringBitmap;

use crate::LiveError;

/// What the threads share.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Last durable transaction of the post store.
    pub sequence: u64,
    /// The ordinal after the last one given out.
    pub next_ordinal: u32,
    /// Last transaction the lexical index has.
    pub lexical_sequence: u64,
    /// Ordinals below this are in the lexical index.
    pub lexical_next: u32,
    /// Live ordinals without a vector that are to be embedded next.
    pub pending: RoaringBitmap,
    /// Those whose embedding failed and is tried again later.
    pub postponed: RoaringBitmap,
    /// Texts the vector source refuses for good, in this run.
    pub refused: RoaringBitmap,
    /// Records of the post store that cannot be read.
    pub damaged: u64,
    /// The last error of a thread, until it succeeds again.
    pub lexical_error: Option<String>,
    pub vector_error: Option<String>,
    /// The vector thread is to end.
    pub stopping: bool,
    pub lexical_ended: bool,
    pub vector_ended: bool,
    /// Counts every step forward.
    pub steps: u64,
}

/// The state and who waits for it to change.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

impl Progress {
    /// Reads or changes the state and wakes everybody who waits.
    pub fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.lock());
        self.changed.notify_all();
        result
    }

    /// Reads the state.
    pub fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.lock())
    }

    /// Waits until `ready` gives something, or until `timeout` (none: for ever).
    pub fn wait<T>(
        &self,
        timeout: Option<Duration>,
        mut ready: impl FnMut(&mut State) -> Option<T>,
    ) -> Option<T> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut state = self.state.lock();
        loop {
            if let Some(result) = ready(&mut state) {
                return Some(result);
            }
            match deadline {
                None => self.changed.wait(&mut state),
                Some(deadline) => {
                    if self.changed.wait_until(&mut state, deadline).timed_out() {
                        return ready(&mut state);
                    }
                }
            }
        }
    }

    /// Waits until everything acknowledged by now is in both indexes.
    pub fn flushed(&self, stall_timeout: Duration) -> Result<(), LiveError> {
        let (sequence, horizon) = self.read(|state| (state.sequence, state.next_ordinal));
        let mut steps = None;
        loop {
            let waited = self.wait(Some(stall_timeout), |state| {
                let lexical = state.lexical_sequence >= sequence;
                let vector = [&state.pending, &state.postponed]
                    .iter()
                    .all(|set| set.min().is_none_or(|o| o >= horizon));
                if lexical && vector {
                    return Some(Ok(()));
                }
                if (!lexical && state.lexical_ended) || (!vector && state.vector_ended) {
                    return Some(Err(LiveError::Stopped));
                }
                None
            });
            if let Some(result) = waited {
                return result;
            }
            // Nothing moved for that long: give up if it is known why, else it is only slow.
            let stalled = self.read(|state| {
                let message = state.lexical_error.as_ref().or(state.vector_error.as_ref())?;
                (steps == Some(state.steps)).then(|| LiveError::Stalled {
                    waited: stall_timeout,
                    vectors_pending: state.pending.len() + state.postponed.len(),
                    lexical_behind: sequence.saturating_sub(state.lexical_sequence),
                    message: message.clone(),
                })
            });
            if let Some(stalled) = stalled {
                return Err(stalled);
            }
            steps = Some(self.read(|state| state.steps));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flushed_waits_for_both_indexes_and_names_what_holds_it_up() {
        let progress = Progress::default();
        let soon = Duration::from_millis(1);
        progress.flushed(soon).expect("nothing to do");
        progress.update(|state| {
            state.sequence = 3;
            state.next_ordinal = 2;
            state.lexical_sequence = 3;
            state.postponed.insert(1);
            state.pending.insert(5);
            state.vector_error = Some("model is away".into());
        });
        match progress.flushed(soon) {
            Err(LiveError::Stalled { vectors_pending: 2, lexical_behind: 0, message, .. }) => {
                assert_eq!(message, "model is away");
            }
            other => panic!("{other:?}"),
        }
        progress.update(|state| state.vector_ended = true);
        assert!(matches!(progress.flushed(soon), Err(LiveError::Stopped)));
        progress.update(|state| state.postponed.clear());
        progress.flushed(soon).expect("ordinal 5 came after the call");
        progress.update(|state| (state.sequence, state.lexical_ended) = (4, true));
        assert!(matches!(progress.flushed(soon), Err(LiveError::Stopped)));
    }
}
