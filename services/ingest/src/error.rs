//! What can go wrong between a stream and the posts.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use bowerbird_live::LiveError;
use jiff::Timestamp;

/// Why posts are not read from the stream. None loses or reorders a message: reading goes on from the last one that was
/// recorded.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// Settings out of range.
    #[error("{}", problems.join("; "))]
    Config {
        /// All of them.
        problems: Vec<String>,
    },
    /// No client could be made of the settings.
    #[error("cannot use NATS at {url}: {source}")]
    Connect {
        /// The servers, without secrets.
        url: String,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A request to the server failed.
    #[error("cannot {action}: {source}")]
    Server {
        /// What was tried.
        action: String,
        /// Why it failed.
        source: Box<dyn Error + Send + Sync>,
    },
    /// There is no stream of this name.
    #[error("there is no stream {stream:?}: make it, or set ingest.stream")]
    NoStream {
        /// The name.
        stream: String,
    },
    /// The stream forgets what one consumer has read.
    #[error(
        "stream {stream:?} has retention {found}, expected limits: only then can a node start again where it stopped, \
         and several follow"
    )]
    Retention {
        /// The stream.
        stream: String,
        /// Its policy.
        found: String,
    },
    /// The stream is not the one this data directory has applied.
    #[error(
        "stream {stream:?} of {found} is not the one applied here ({known_stream:?} of {known}, to sequence \
         {applied}): it was made again, or the setting changed. To apply it from its beginning over the posts that are here, \
         remove {}; to begin without them, give a new data directory", path.display()
    )]
    OtherStream {
        /// The name asked for.
        stream: String,
        /// When that one was made.
        found: Timestamp,
        /// The name that was followed.
        known_stream: String,
        /// When that one was made.
        known: Timestamp,
        /// How far it is applied.
        applied: u64,
        /// The file that says so.
        path: PathBuf,
    },
    /// The stream ends before what was applied of it.
    #[error(
        "stream {stream:?} ends at sequence {last}, but {applied} is applied here: the server has lost messages, or was \
         restored from a backup. Publish what is missing again, then remove {} to apply the stream from its beginning \
         over the posts that are here", path.display()
    )]
    Behind {
        /// The stream.
        stream: String,
        /// Its last sequence.
        last: u64,
        /// The last sequence applied here.
        applied: u64,
        /// The file that says so.
        path: PathBuf,
    },
    /// Deliveries were lost on the way, or came twice to two readers of one consumer.
    #[error("delivery {found} came where {expected} was due")]
    Skipped {
        /// Number of the delivery that was due.
        expected: u64,
        /// Number of the one that came.
        found: u64,
    },
    /// The server took the consumer away.
    #[error("consumer {consumer:?} is gone: somebody deleted it, or another node has the same ingest.name")]
    ConsumerGone {
        /// Its name.
        consumer: String,
    },
    /// `ingest.json` makes no sense.
    #[error(
        "{} is damaged ({message}): remove the file to apply the stream from its beginning over the posts that are here", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The posts could not be written, and trying again is no use.
    #[error("cannot write posts: {0}")]
    Live(#[from] LiveError),
}

impl IngestError {
    pub(crate) fn server<E>(action: impl Into<String>) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let action = action.into();
        move |source| Self::Server { action, source: source.into() }
    }

    /// Whether a person has to do something before reading goes on.
    pub(crate) fn is_for_people(&self) -> bool {
        matches!(
            self,
            Self::NoStream { .. }
                | Self::Retention { .. }
                | Self::OtherStream { .. }
                | Self::Behind { .. }
                | Self::Damaged { .. }
        )
    }
}
