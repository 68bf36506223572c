//! From a connection to a consumer that begins where the data directory ends.

use std::path::Path;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind};
use async_nats::jetstream::stream::{ConsumerError, ConsumerErrorKind, Info, RetentionPolicy, Stream};
use async_nats::jetstream::{Context, ErrorCode};
use async_nats::{Client, ConnectOptions};
use jiff::Timestamp;

use crate::batch::Reader;
use crate::{FILE, Followed, IngestConfig, IngestError, Position};

/// How long the server waits for an acknowledgement before it delivers again. What comes again is left out, so this
/// costs traffic only; it is above the time a batch waits for the disk.
const ACK_WAIT: Duration = Duration::from_mins(2);
/// Silence after which a consumer is taken for gone: twice this.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long one request for messages is good.
const PULL_EXPIRES: Duration = Duration::from_secs(30);
/// What a message takes in a request beside payload and headers: its subjects.
const SUBJECT_BYTES: usize = 16 << 10;

/// A client that connects in the background, and again whenever the connection is lost.
pub(crate) async fn connect(
    config: &IngestConfig,
    name: &str,
    told: impl Fn(async_nats::Event) + Send + Sync + 'static,
) -> Result<Client, IngestError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| IngestError::Connect {
        url: config.shown_url(),
        source,
    };
    let mut options = ConnectOptions::new()
        .name(name)
        .retry_on_initial_connect()
        .reconnect_delay_callback(|attempts| Duration::from_millis((attempts as u64 * 100).min(2000)))
        .event_callback(move |event| {
            told(event);
            std::future::ready(())
        });
    if let Some(file) = &config.credentials {
        options = options.credentials_file(file).await.map_err(|error| failed(error.into()))?;
    }
    if let Some(token) = &config.token {
        options = options.token(token.clone());
    }
    let addresses = config
        .addresses()
        .map(str::parse)
        .collect::<Result<Vec<async_nats::ServerAddr>, _>>()
        .map_err(|error| failed(error.into()))?;
    options.connect(addresses).await.map_err(|error| failed(error.into()))
}

/// What a look at the stream found.
pub(crate) struct Found {
    stream: Stream,
    /// The position to go on from.
    pub followed: Followed,
    /// Messages that were dropped before they were read, found just now.
    pub missed: u64,
}

/// Finds the stream, and makes sure that it is the one that `position` speaks of.
pub(crate) async fn find(
    context: &Context,
    config: &IngestConfig,
    data_dir: &Path,
    position: &Position,
) -> Result<Found, IngestError> {
    let stream = context.get_stream(&config.stream).await.map_err(|error| no_stream(config, error))?;
    let info = stream.cached_info();
    if info.config.retention != RetentionPolicy::Limits {
        let found = format!("{:?}", info.config.retention).to_lowercase();
        return Err(IngestError::Retention { stream: config.stream.clone(), found });
    }
    let created = created(info)?;
    let (followed, missed) = match &position.followed {
        None => (Followed { stream: config.stream.clone(), created, applied: 0, missed: 0 }, 0),
        Some(known) => go_on(config, data_dir, known, created, info)?,
    };
    Ok(Found { stream, followed, missed })
}

/// Where to go on in a stream that was followed before, and how many messages it has dropped since.
fn go_on(
    config: &IngestConfig,
    data_dir: &Path,
    known: &Followed,
    created: Timestamp,
    info: &Info,
) -> Result<(Followed, u64), IngestError> {
    let path = || data_dir.join(FILE);
    if known.stream != config.stream || known.created != created {
        return Err(IngestError::OtherStream {
            stream: config.stream.clone(),
            found: created,
            known_stream: known.stream.clone(),
            known: known.created,
            applied: known.applied,
            path: path(),
        });
    }
    let (first, last) = (info.state.first_sequence, info.state.last_sequence);
    if last < known.applied {
        let stream = config.stream.clone();
        return Err(IngestError::Behind { stream, last, applied: known.applied, path: path() });
    }
    let missed = first.saturating_sub(known.applied + 1);
    let mut followed = known.clone();
    followed.applied += missed;
    followed.missed += missed;
    Ok((followed, missed))
}

impl Found {
    /// A consumer that delivers what comes after the position, in order, and a reader over it.
    ///
    /// One that is there from before is deleted: what it has delivered and not heard of would come late, and out of
    /// order. The stream keeps its messages all the same.
    pub async fn follow(
        &self,
        client: &Client,
        config: &IngestConfig,
        name: &str,
    ) -> Result<(PullConsumer, Reader), IngestError> {
        match self.stream.delete_consumer(name).await {
            Ok(_) => {}
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(IngestError::server("make the consumer anew")(error)),
        }
        let consumer = pull::Config {
            durable_name: Some(name.to_owned()),
            description: Some("a node of Bowerbird; it makes this anew at each start".to_owned()),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: self.followed.applied + 1 },
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            max_deliver: -1,
            // Two requests under way and a batch in hand.
            max_ack_pending: i64::try_from(config.batch * 4).unwrap_or(i64::MAX).max(1000),
            filter_subject: config.subject.clone().unwrap_or_default(),
            ..pull::Config::default()
        };
        let consumer: PullConsumer =
            self.stream.create_consumer(consumer).await.map_err(IngestError::server("make the consumer"))?;
        // A request that is too small for a message never gets it.
        let largest = client.server_info().max_payload + SUBJECT_BYTES;
        let bytes = usize::try_from(config.batch_bytes.as_u64()).unwrap_or(usize::MAX);
        let messages = consumer
            .stream()
            .max_messages_per_batch(config.batch)
            .max_bytes_per_batch(bytes.max(largest))
            .heartbeat(HEARTBEAT)
            .expires(PULL_EXPIRES)
            .messages()
            .await
            .map_err(IngestError::server("ask for messages"))?;
        let reader = Reader::new(messages, name.to_owned(), self.followed.applied, config.batch, bytes);
        Ok((consumer, reader))
    }
}

fn created(info: &Info) -> Result<Timestamp, IngestError> {
    Timestamp::from_nanosecond(info.created.unix_timestamp_nanos())
        .map_err(IngestError::server("read when the stream was made"))
}

fn no_stream(config: &IngestConfig, error: GetStreamError) -> IngestError {
    match error.kind() {
        GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
            IngestError::NoStream { stream: config.stream.clone() }
        }
        _ => IngestError::server(format!("look at stream {:?}", config.stream))(error),
    }
}

fn is_missing(error: &ConsumerError) -> bool {
    matches!(error.kind(), ConsumerErrorKind::JetStream(error) if error.error_code() == ErrorCode::CONSUMER_NOT_FOUND)
}
