//! `GET /v1/ingest/status`, and what `/readyz` says of it

use bowerbird_ingest::{IngestStatus, Rejected, State};
use serde::Serialize;
use utoipa::ToSchema;

/// How far the stream of posts is applied. Counts are since the start of the process.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct IngestPage {
    /// `connecting`, `following`, `waiting` (posts cannot be written at the moment), `halted` (`last_error` says what to
    /// do) or `stopped`.
    pub state: &'static str,
    /// Whether there is a connection to a server.
    pub connected: bool,
    /// The servers.
    pub url: String,
    /// The stream.
    pub stream: String,
    /// This node's consumer.
    pub consumer: String,
    /// Sequence of the last message that is applied and durable.
    pub applied_sequence: u64,
    /// Messages that the stream has and that are not applied.
    pub lag: Option<u64>,
    /// Messages applied.
    pub messages_applied: u64,
    /// Messages refused for good.
    pub messages_refused: u64,
    /// Messages that came again and were left out.
    pub messages_redelivered: u64,
    /// Messages the stream had dropped before they were read, over the life of the data directory.
    pub messages_missed: u64,
    /// Times the stream was found to be another than the one applied here.
    pub streams_recreated: u64,
    /// Times reading began again from the last recorded message.
    pub restarts: u64,
    /// The last messages refused, oldest first.
    pub rejected: Vec<RejectedBody>,
    /// What does not work, while it does not.
    pub last_error: Option<String>,
    /// Names this call in the log.
    pub request_id: String,
}

/// A message that is no change of a post.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RejectedBody {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// Its subject.
    pub subject: String,
    /// Why it was refused.
    pub reason: String,
    /// Its beginning.
    pub excerpt: String,
}

/// What everybody may know.
#[derive(Clone, Debug, Serialize)]
pub struct ReadyIngest {
    state: &'static str,
    connected: bool,
    applied_sequence: u64,
    lag: Option<u64>,
}

fn word(state: State) -> &'static str {
    match state {
        State::Connecting => "connecting",
        State::Following => "following",
        State::Waiting => "waiting",
        State::Halted => "halted",
        State::Stopped => "stopped",
    }
}

impl From<IngestStatus> for ReadyIngest {
    fn from(status: IngestStatus) -> Self {
        Self {
            state: word(status.state),
            connected: status.connected,
            applied_sequence: status.applied_sequence,
            lag: status.lag,
        }
    }
}

impl From<Rejected> for RejectedBody {
    fn from(rejected: Rejected) -> Self {
        let Rejected { sequence, subject, reason, excerpt } = rejected;
        Self { sequence, subject, reason, excerpt }
    }
}

/// The status as JSON.
pub fn page(status: IngestStatus, request_id: String) -> IngestPage {
    IngestPage {
        state: word(status.state),
        connected: status.connected,
        url: status.url,
        stream: status.stream,
        consumer: status.consumer,
        applied_sequence: status.applied_sequence,
        lag: status.lag,
        messages_applied: status.messages_applied,
        messages_refused: status.messages_refused,
        messages_redelivered: status.messages_redelivered,
        messages_missed: status.messages_missed,
        streams_recreated: status.streams_recreated,
        restarts: status.restarts,
        rejected: status.rejected.into_iter().map(Into::into).collect(),
        last_error: status.last_error,
        request_id,
    }
}
