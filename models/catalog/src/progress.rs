//! How long work tells somebody that it goes on.

/// Receives what a fetch or a check is doing; the command line draws a bar, a server logs lines.
///
/// Calls nest never: every `begin` is followed by its `end` before the next `begin`.
pub trait Progress: Send + Sync {
    /// Work on `what` starts; `total_bytes` is 0 when it is not known.
    fn begin(&self, what: &str, total_bytes: u64);
    /// `bytes` more are done. The sum may stay below the total, and never exceeds a known one.
    fn advance(&self, bytes: u64);
    /// Work on `what` is over, successful or not.
    fn end(&self, what: &str);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _what: &str, _total_bytes: u64) {}
    fn advance(&self, _bytes: u64) {}
    fn end(&self, _what: &str) {}
}

/// One stretch of work: `end` is reported when it goes out of scope, and the total is never exceeded.
pub(crate) struct Stretch<'a> {
    progress: &'a dyn Progress,
    what: String,
    total: u64,
    done: u64,
}

impl<'a> Stretch<'a> {
    pub(crate) fn begin(progress: &'a dyn Progress, what: String, total: u64) -> Self {
        progress.begin(&what, total);
        Self { progress, what, total, done: 0 }
    }

    /// Reports that `done` bytes are finished in all; going back is ignored.
    pub(crate) fn reach(&mut self, done: u64) {
        let done = if self.total == 0 { done } else { done.min(self.total) };
        if done > self.done {
            self.progress.advance(done - self.done);
            self.done = done;
        }
    }

    pub(crate) fn advance(&mut self, bytes: u64) {
        self.reach(self.done.saturating_add(bytes));
    }
}

impl Drop for Stretch<'_> {
    fn drop(&mut self) {
        self.progress.end(&self.what);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Seen(Mutex<Vec<String>>);

    impl Progress for Seen {
        fn begin(&self, what: &str, total_bytes: u64) {
            self.0.lock().expect("not poisoned").push(format!("begin {what} {total_bytes}"));
        }
        fn advance(&self, bytes: u64) {
            self.0.lock().expect("not poisoned").push(format!("+{bytes}"));
        }
        fn end(&self, what: &str) {
            self.0.lock().expect("not poisoned").push(format!("end {what}"));
        }
    }

    #[test]
    fn a_stretch_never_passes_its_total_and_always_ends() {
        let seen = Seen::default();
        {
            let mut stretch = Stretch::begin(&seen, "x".into(), 10);
            stretch.reach(4);
            stretch.reach(3);
            stretch.advance(100);
        }
        assert_eq!(*seen.0.lock().expect("not poisoned"), ["begin x 10", "+4", "+6", "end x"]);
    }
}
