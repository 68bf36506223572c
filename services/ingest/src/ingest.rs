//! The task that reads the stream, and the handle to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State as Connection;
use async_nats::jetstream::Context;
use async_nats::{Client, Event, jetstream};
use bowerbird_live::{Live, LiveError};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::follow::{FAREWELL, Follower, pauses, record, stopped};
use crate::session::{connect, find};
use crate::status::{Board, State};
use crate::{IngestConfig, IngestError, IngestStatus, Position};

/// A reader that has gone on for so long begins again without a pause.
const STEADY: Duration = Duration::from_secs(10);

const DISCONNECTED: &str = "the connection to NATS is lost, and being made again";

/// Posts of a stream on their way into a [`Live`]. Cheap to clone; the last one that is dropped ends it, after the
/// batch in hand.
#[derive(Clone)]
pub struct Ingest(Arc<Handle>);

struct Handle {
    client: Client,
    board: Arc<Board>,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Ingest {
    /// Begins to read the stream of `config` into `live`, whose files are in `data_dir`.
    ///
    /// The server need not be there yet. Fails when the settings are wrong, the credentials cannot be read, or
    /// `ingest.json` is damaged; everything later is in the [`status`](Self::status), and tried again.
    pub async fn start(config: IngestConfig, data_dir: &Path, live: Live) -> Result<Self, IngestError> {
        config.validate()?;
        let position = Position::read(data_dir)?;
        let name = config.name.clone().unwrap_or_else(|| format!("bowerbird-{}", position.node));
        let board = Arc::new(Board::new(IngestStatus {
            url: config.shown_url(),
            stream: config.stream.clone(),
            consumer: name.clone(),
            applied_sequence: position.followed.as_ref().map_or(0, |followed| followed.applied),
            messages_missed: position.followed.as_ref().map_or(0, |followed| followed.missed),
            ..IngestStatus::default()
        }));
        let told = Arc::clone(&board);
        let client = connect(&config, &name, move |event| note(&told, &event)).await?;
        let (stop, stopping) = watch::channel(false);
        let task = Task {
            context: jetstream::new(client.clone()),
            client: client.clone(),
            config,
            data_dir: data_dir.to_path_buf(),
            name,
            node: position.node,
            live,
            board: Arc::clone(&board),
            stop: stopping,
        };
        let task = Mutex::new(Some(tokio::spawn(task.run())));
        Ok(Self(Arc::new(Handle { client, board, stop, task })))
    }

    /// How far it is.
    pub fn status(&self) -> IngestStatus {
        let connected = self.0.client.connection_state() == Connection::Connected;
        let mut status = IngestStatus { connected, ..self.0.board.read() };
        // What had come before the connection was lost is still applied.
        if !connected && status.state == State::Following {
            status.state = State::Connecting;
            status.last_error.get_or_insert_with(|| DISCONNECTED.to_owned());
        }
        let ended = self.0.task.lock().as_ref().is_some_and(JoinHandle::is_finished);
        if ended && status.state != State::Stopped {
            status.state = State::Stopped;
            status.last_error =
                Some("reading ended by itself: see the log, and start the server again".into());
        }
        status
    }

    /// Ends it and waits for the batch in hand. After that the [`Live`] is let go.
    pub async fn stop(&self) {
        self.0.stop.send_replace(true);
        let task = self.0.task.lock().take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "reading the stream had ended by itself");
        }
    }
}

fn note(board: &Board, event: &Event) {
    match event {
        Event::Connected => tracing::info!("connected to NATS"),
        Event::Disconnected => {
            board.fail(State::Connecting, DISCONNECTED);
            tracing::warn!("lost the connection to NATS");
        }
        Event::ServerError(error) => {
            board.update(|status| status.last_error = Some(format!("NATS: {error}")));
            tracing::warn!(%error, "NATS");
        }
        Event::ClientError(error) => {
            board.update(|status| status.last_error = Some(format!("NATS: {error}")));
            tracing::warn!(%error, "NATS");
        }
        event => tracing::info!(%event, "NATS"),
    }
}

/// Pauses before reading begins again.
fn between_sessions() -> impl Iterator<Item = Duration> {
    pauses(Duration::from_millis(50), Duration::from_secs(10))
}

struct Task {
    client: Client,
    context: Context,
    config: IngestConfig,
    data_dir: PathBuf,
    name: String,
    node: String,
    live: Live,
    board: Arc<Board>,
    stop: watch::Receiver<bool>,
}

impl Task {
    async fn run(self) {
        let mut pause = between_sessions();
        let mut other = None;
        loop {
            let begun = Instant::now();
            let Err(error) = self.session().await else { break };
            if let IngestError::Live(LiveError::Stopped) = error {
                self.board.fail(State::Stopped, &error.to_string());
                break;
            }
            let state = if error.is_for_people() { State::Halted } else { State::Connecting };
            if self.board.fail(state, &error.to_string()) {
                tracing::warn!(%error, "the stream is not read");
            }
            if let IngestError::OtherStream { found, .. } = error
                && other.replace(found) != Some(found)
            {
                self.board.update(|status| status.streams_recreated += 1);
            }
            if begun.elapsed() >= STEADY {
                pause = between_sessions();
            }
            tokio::select! {
                () = sleep(pause.next().unwrap_or(STEADY)) => {}
                () = stopped(&self.stop) => break,
            }
            self.board.update(|status| status.restarts += 1);
        }
        // Acknowledgements are on their way to the socket.
        let _ = tokio::time::timeout(FAREWELL, self.client.drain()).await;
        self.board.update(|status| status.state = State::Stopped);
    }

    /// Finds the stream and applies what comes, until it is told to stop.
    async fn session(&self) -> Result<(), IngestError> {
        // Read anew: a person may have removed the file, as an error had said.
        let mut position = Position::read(&self.data_dir)?;
        if position.followed.is_none() {
            position.node.clone_from(&self.node);
        }
        let prepared = tokio::select! {
            prepared = self.prepare(&mut position) => prepared?,
            () = stopped(&self.stop) => return Ok(()),
        };
        let (consumer, reader) = prepared;
        let Self { live, data_dir, board, stop, .. } = self;
        Follower { live, consumer: &consumer, data_dir, board, stop }.run(reader, &mut position).await
    }

    async fn prepare(
        &self,
        position: &mut Position,
    ) -> Result<(jetstream::consumer::PullConsumer, crate::batch::Reader), IngestError> {
        let found = find(&self.context, &self.config, &self.data_dir, position).await?;
        if found.missed > 0 {
            tracing::warn!(
                stream = self.config.stream,
                missed = found.missed,
                next = found.followed.applied + 1,
                "the stream has dropped messages before they were read: load the posts they changed with `bowerbird \
                 index`, or begin with a copy of a node that has them, and let the stream keep more"
            );
        }
        position.followed = Some(found.followed.clone());
        record(position, &self.data_dir).await?;
        let prepared = found.follow(&self.client, &self.config, &self.name).await?;
        self.board.update(|status| {
            status.state = State::Following;
            status.applied_sequence = found.followed.applied;
            status.messages_missed = found.followed.missed;
            status.lag = Some(prepared.0.cached_info().num_pending);
            status.last_error = None;
        });
        tracing::info!(stream = self.config.stream, after = found.followed.applied, "following the stream");
        Ok(prepared)
    }
}
