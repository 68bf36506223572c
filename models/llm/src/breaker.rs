//! A circuit breaker: after several failures in a row a server is left alone for a while, so that its callers
//! fall back at once instead of waiting for another timeout.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Closed below `threshold` failures in a row; then open for `cooldown`; then one request may try.
pub(crate) struct Breaker {
    threshold: u32,
    cooldown: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    failures: u32,
    open_until: Option<Instant>,
    trial: bool,
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
    pub(crate) fn enter(&self, now: Instant) -> Result<Permit<'_>, Duration> {
        let mut state = self.lock();
        let Some(until) = state.open_until else { return Ok(Permit { breaker: self, trial: false }) };
        if now < until {
            return Err(until - now);
        }
        if state.trial {
            return Err(self.cooldown);
        }
        state.trial = true;
        Ok(Permit { breaker: self, trial: true })
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
        }
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

    #[test]
    fn opens_after_failures_in_a_row_and_tries_once_after_the_cooldown() {
        let breaker = Breaker::new(2, Duration::from_secs(10));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        breaker.enter(at(0)).expect("closed").failed(at(0));
        breaker.enter(at(0)).expect("closed").succeeded();
        breaker.enter(at(0)).expect("closed").failed(at(0));
        breaker.enter(at(1)).expect("one failure in a row").failed(at(1));
        assert_eq!(breaker.enter(at(4)).err(), Some(Duration::from_secs(7)));

        let trial = breaker.enter(at(11)).expect("a trial");
        assert!(breaker.enter(at(11)).is_err(), "only one at a time");
        trial.failed(at(12));
        assert_eq!(breaker.enter(at(12)).err(), Some(Duration::from_secs(10)), "open again");

        drop(breaker.enter(at(22)).expect("a trial whose caller leaves"));
        breaker.enter(at(22)).expect("the next trial").succeeded();
        breaker.enter(at(22)).expect("closed").failed(at(22));
        assert!(breaker.enter(at(22)).is_ok());
    }
}
