//! What readers of the status see, and the metrics made of it.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// Refused messages that are kept for inspection; the stream has them all.
const MAX_REJECTED: usize = 20;
/// Bytes of a refused message that are kept.
const EXCERPT_BYTES: usize = 200;

/// What reading is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// The server, the stream or the consumer is not there yet, or not any more; tried again by itself.
    #[default]
    Connecting,
    /// Messages are applied as they come.
    Following,
    /// Posts cannot be written at the moment; tried again by itself.
    Waiting,
    /// A person has to act: `last_error` says what to do. Looked at again by itself.
    Halted,
    /// Nothing is read any more.
    Stopped,
}

/// A message that is no change of a post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its sequence in the stream, where it can be looked at.
    pub sequence: u64,
    /// Its subject.
    pub subject: String,
    /// Why it was refused.
    pub reason: String,
    /// Its beginning, at most 200 bytes.
    pub excerpt: String,
}

/// How far the stream is applied. Counts are since the start of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IngestStatus {
    /// What reading is at.
    pub state: State,
    /// Whether there is a connection to a server.
    pub connected: bool,
    /// The servers, without secrets.
    pub url: String,
    /// The stream.
    pub stream: String,
    /// This node's consumer.
    pub consumer: String,
    /// Sequence of the last message that is applied and durable.
    pub applied_sequence: u64,
    /// Messages that the stream has and that are not applied; none before the first look at the stream, and while a
    /// person has to act.
    pub lag: Option<u64>,
    /// Messages applied, refused ones left out.
    pub messages_applied: u64,
    /// Messages refused for good.
    pub messages_refused: u64,
    /// Messages that came again after they were applied, and were left out.
    pub messages_redelivered: u64,
    /// Messages the stream had dropped before they were read, over the life of the data directory.
    pub messages_missed: u64,
    /// Times the stream was found to be another than the one applied here.
    pub streams_recreated: u64,
    /// Times reading began again from the last recorded message.
    pub restarts: u64,
    /// The last messages refused, oldest first.
    pub rejected: VecDeque<Rejected>,
    /// What does not work, while it does not.
    pub last_error: Option<String>,
}

impl Rejected {
    pub(crate) fn new(sequence: u64, subject: &str, payload: &[u8], reason: String) -> Self {
        let excerpt = &payload[..payload.len().min(EXCERPT_BYTES)];
        Self {
            sequence,
            subject: subject.to_owned(),
            reason,
            excerpt: String::from_utf8_lossy(excerpt).into_owned(),
        }
    }
}

/// The status that the reading task writes and everybody reads.
#[derive(Debug, Default)]
pub(crate) struct Board(Mutex<IngestStatus>);

impl Board {
    pub fn new(status: IngestStatus) -> Self {
        Self(Mutex::new(status))
    }

    pub fn read(&self) -> IngestStatus {
        self.0.lock().clone()
    }

    pub fn update<T>(&self, change: impl FnOnce(&mut IngestStatus) -> T) -> T {
        change(&mut self.0.lock())
    }

    /// Notes an error; true when it is news.
    pub fn fail(&self, state: State, error: &str) -> bool {
        self.update(|status| {
            status.state = state;
            if state == State::Halted {
                status.lag = None;
            }
            let news = status.last_error.as_deref() != Some(error);
            status.last_error = Some(error.to_owned());
            news
        })
    }

    pub fn reject(&self, rejected: Rejected) {
        self.update(|status| {
            status.messages_refused += 1;
            if status.rejected.len() == MAX_REJECTED {
                status.rejected.pop_front();
            }
            status.rejected.push_back(rejected);
        });
    }
}

impl IngestStatus {
    /// Brings the metrics up to date.
    pub fn record_metrics(&self) {
        metrics::counter!("bowerbird_ingest_applied_total").absolute(self.messages_applied);
        metrics::counter!("bowerbird_ingest_refused_total").absolute(self.messages_refused);
        metrics::counter!("bowerbird_ingest_redelivered_total").absolute(self.messages_redelivered);
        metrics::counter!("bowerbird_ingest_missed_total").absolute(self.messages_missed);
        metrics::counter!("bowerbird_ingest_recreated_total").absolute(self.streams_recreated);
        metrics::counter!("bowerbird_ingest_restarts_total").absolute(self.restarts);
        metrics::gauge!("bowerbird_ingest_applied_sequence").set(self.applied_sequence as f64);
        metrics::gauge!("bowerbird_ingest_connected").set(f64::from(u8::from(self.connected)));
        metrics::gauge!("bowerbird_ingest_halted").set(f64::from(u8::from(self.state == State::Halted)));
        metrics::gauge!("bowerbird_ingest_lag").set(self.lag.map_or(f64::NAN, |lag| lag as f64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_messages_are_kept_up_to_a_bound() {
        let board = Board::default();
        for sequence in 1..=50 {
            board.reject(Rejected::new(sequence, "posts", "é".repeat(4000).as_bytes(), "no post".into()));
        }
        let status = board.read();
        assert_eq!((status.messages_refused, status.rejected.len()), (50, MAX_REJECTED));
        assert_eq!(status.rejected.back().map(|last| last.sequence), Some(50));
        assert!(status.rejected.iter().all(|one| one.excerpt.len() <= EXCERPT_BYTES + 3));
        assert!(board.fail(State::Halted, "x") && !board.fail(State::Halted, "x"));
    }
}
