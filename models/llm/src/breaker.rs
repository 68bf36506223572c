//! A circuit breaker: after several failures in a row a server is left alone for a while, so that its callers
//! fall back at once instead of waiting for another timeout. A server that asks for time gets it, too.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longest time that a server gets for the asking: a wrong answer must not end the work for good.
const LONGEST_REST: Duration = Duration::from_mins(1);

/// Closed below `threshold` failures in a row; then open for `cooldown`; then half open: one request may try, and its
/// outcome closes or opens. Time is passed in.
pub(crate) struct Breaker {
    threshold: u32,
    cooldown: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    failures: u32,
    open_until: Option<Instant>,
    asked: bool,
    trial: bool,
}

/// Why the server is not asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeftAlone {
    /// For how long, at least.
    pub(crate) left: Duration,
    /// Whether the server asked for it, rather than failed.
    pub(crate) asked: bool,
}

/// Leave to ask the server. Dropped without a verdict it counts neither way.
pub(crate) struct Permit<'a> {
    breaker: &'a Breaker,
    trial: bool,
}

impl Breaker {
    pub(crate) fn new(threshold: u32, cooldown: Duration) -> Self {
        Self { threshold, cooldown, state: Mutex::default() }
    }

    /// Leave to ask, or how long the server will still be left alone.
    pub(crate) fn enter(&self, now: Instant) -> Result<Permit<'_>, LeftAlone> {
        let mut state = self.lock();
        let Some(until) = state.open_until else { return Ok(Permit { breaker: self, trial: false }) };
        let asked = state.asked;
        if now < until {
            return Err(LeftAlone { left: until - now, asked });
        }
        if state.trial {
            return Err(LeftAlone { left: self.cooldown, asked });
        }
        state.trial = true;
        Ok(Permit { breaker: self, trial: true })
    }

    /// Whether the server is being left alone, or tried once after that.
    pub(crate) fn is_open(&self) -> bool {
        self.lock().open_until.is_some()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// The server answered, be it with a refusal.
    pub(crate) fn succeeded(self) {
        *self.breaker.lock() = State::default();
    }

    /// The server could not be reached or broke down.
    pub(crate) fn failed(self, now: Instant) {
        let mut state = self.breaker.lock();
        state.failures = state.failures.saturating_add(1);
        if state.failures >= self.breaker.threshold {
            state.open_until = Some(now + self.breaker.cooldown);
            state.asked = false;
        }
    }

    /// The server works and asked not to be asked for `rest`; a minute at most.
    pub(crate) fn rests(self, now: Instant, rest: Duration) {
        let open_until = Some(now + rest.min(LONGEST_REST));
        *self.breaker.lock() = State { open_until, asked: true, ..State::default() };
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.trial {
            self.breaker.lock().trial = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_alone(breaker: &Breaker, now: Instant) -> Option<(u64, bool)> {
        breaker.enter(now).err().map(|LeftAlone { left, asked }| (left.as_secs(), asked))
    }

    #[test]
    fn a_server_gets_the_time_it_asks_for_but_not_for_ever() {
        let breaker = Breaker::new(2, Duration::from_secs(10));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        breaker.enter(at(0)).expect("closed").rests(at(0), Duration::from_secs(3));
        assert_eq!(left_alone(&breaker, at(1)), Some((2, true)));
        assert!(breaker.is_open());
        let trial = breaker.enter(at(3)).expect("a trial");
        assert_eq!(left_alone(&breaker, at(3)), Some((10, true)), "one at a time");
        trial.rests(at(3), Duration::from_hours(9));
        assert_eq!(left_alone(&breaker, at(3)), Some((60, true)));
        breaker.enter(at(63)).expect("a trial").succeeded();
        assert!(!breaker.is_open() && breaker.enter(at(63)).is_ok());
    }

    #[test]
    fn opens_after_failures_in_a_row_and_tries_once_after_the_cooldown() {
        let breaker = Breaker::new(2, Duration::from_secs(10));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        breaker.enter(at(0)).expect("closed").failed(at(0));
        breaker.enter(at(0)).expect("closed").succeeded();
        breaker.enter(at(0)).expect("closed").failed(at(0));
        breaker.enter(at(1)).expect("one failure in a row").failed(at(1));
        assert_eq!(left_alone(&breaker, at(4)), Some((7, false)));

        let trial = breaker.enter(at(11)).expect("a trial");
        assert!(breaker.enter(at(11)).is_err(), "only one at a time");
        trial.failed(at(12));
        assert_eq!(left_alone(&breaker, at(12)), Some((10, false)), "open again");

        drop(breaker.enter(at(22)).expect("a trial whose caller leaves"));
        breaker.enter(at(22)).expect("the next trial").succeeded();
        breaker.enter(at(22)).expect("closed").failed(at(22));
        assert!(breaker.enter(at(22)).is_ok());
    }
}
