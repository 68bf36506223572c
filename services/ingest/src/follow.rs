//! Batches from the stream into the posts: durable first, then recorded, then acknowledged.

use std::path::Path;
use std::time::Duration;

use async_nats::jetstream::AckKind;
use async_nats::jetstream::consumer::PullConsumer;
use backon::{BackoffBuilder, ExponentialBuilder};
use bowerbird_live::{Live, LiveError};
use bowerbird_posts::Op;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::batch::{Batch, Reader};
use crate::status::{Board, Rejected, State};
use crate::{IngestError, Position};

/// How often the server is asked how much is left, while batches do not say it.
const LOOK: Duration = Duration::from_secs(2);
/// How long acknowledgements may take at the end.
pub(crate) const FAREWELL: Duration = Duration::from_secs(2);

/// Pauses between tries of what has to succeed in the end.
pub(crate) fn pauses(least: Duration, most: Duration) -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(least)
        .with_max_delay(most)
        .without_max_times()
        .with_jitter()
        .build()
}

/// Resolves when reading should end: it was said, or nobody is left to say it.
pub(crate) async fn stopped(stop: &watch::Receiver<bool>) {
    let _ = stop.clone().wait_for(|stop| *stop).await;
}

/// What applies the batches of one consumer.
pub(crate) struct Follower<'a> {
    pub live: &'a Live,
    pub consumer: &'a PullConsumer,
    pub data_dir: &'a Path,
    pub board: &'a Board,
    pub stop: &'a watch::Receiver<bool>,
}

impl Follower<'_> {
    /// Applies what comes until it is told to stop, or an error. `position` is as durable as the posts.
    pub async fn run(&self, mut reader: Reader, position: &mut Position) -> Result<(), IngestError> {
        tokio::select! {
            done = self.apply_all(&mut reader, position) => done,
            () = self.look() => Ok(()),
        }
    }

    async fn apply_all(&self, reader: &mut Reader, position: &mut Position) -> Result<(), IngestError> {
        loop {
            let mut batch = tokio::select! {
                biased;
                () = stopped(self.stop) => return Ok(()),
                batch = reader.next() => batch,
            };
            if batch.jumps {
                self.check_consumer().await?;
            }
            let end = batch.end.take();
            if !self.apply(batch, position).await? {
                return Ok(());
            }
            if let Some(error) = end {
                return Err(error);
            }
        }
    }

    /// Applies one batch; false when it was told to stop before the posts were written.
    async fn apply(&self, batch: Batch, position: &mut Position) -> Result<bool, IngestError> {
        if batch.due.is_empty() && batch.again.is_empty() {
            return Ok(true);
        }
        let mut ops = Vec::with_capacity(batch.due.len());
        let mut refused = Vec::new();
        for (due, decoded) in batch.due.iter().zip(batch.decode().await) {
            match decoded {
                Ok(op) => ops.push(op),
                Err(error) => refused.push((due, error.to_string())),
            }
        }
        let applied = ops.len() as u64;
        if !self.write(ops).await? {
            return Ok(false);
        }
        for (due, reason) in &refused {
            let message = &due.message;
            tracing::warn!(sequence = due.sequence, subject = %message.subject, reason, "refused a message of the stream");
            self.board.reject(Rejected::new(
                due.sequence,
                &message.subject,
                &message.payload,
                reason.clone(),
            ));
        }
        if let (Some(last), Some(followed)) = (batch.due.last(), position.followed.as_mut()) {
            followed.applied = last.sequence;
            record(position, self.data_dir).await?;
        }
        self.board.update(|status| {
            status.state = State::Following;
            status.messages_applied += applied;
            status.messages_redelivered += batch.again.len() as u64;
            if let Some(last) = batch.due.last() {
                status.applied_sequence = last.sequence;
                status.lag = Some(batch.pending);
            }
            status.last_error = None;
        });
        let refused: Vec<u64> = refused.iter().map(|(due, _)| due.sequence).collect();
        tokio::select! {
            biased;
            () = acknowledge(&batch, &refused) => {}
            () = async { stopped(self.stop).await; sleep(FAREWELL).await } => {}
        }
        Ok(true)
    }

    /// Makes `ops` durable, waiting as long as there is no room for them; false when it was told to stop meanwhile.
    async fn write(&self, ops: Vec<Op>) -> Result<bool, IngestError> {
        for pause in pauses(Duration::from_millis(20), Duration::from_secs(5)) {
            let error = match self.live.write(ops.clone()).await {
                Ok(_) => return Ok(true),
                Err(LiveError::Stopped) => return Err(LiveError::Stopped.into()),
                Err(error) => error.to_string(),
            };
            if self.board.fail(State::Waiting, &error) {
                tracing::warn!(error, "posts of the stream wait to be written");
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = stopped(self.stop) => return Ok(false),
            }
        }
        Ok(false) // the pauses do not end
    }

    /// Makes sure that what was read came from the consumer that was made for it, and not from one that somebody has
    /// made under its name since: that one may leave messages out which are due here.
    async fn check_consumer(&self) -> Result<(), IngestError> {
        let known = self.consumer.cached_info();
        let found = self.consumer.get_info().await.map_err(IngestError::server("look at the consumer"))?;
        if found.created == known.created {
            Ok(())
        } else {
            Err(IngestError::ConsumerGone { consumer: known.name.clone() })
        }
    }

    /// Keeps lag and state true while nothing is applied. Never ends.
    async fn look(&self) {
        loop {
            sleep(LOOK).await;
            if let Ok(info) = self.consumer.get_info().await {
                let lag = info.num_pending + info.num_ack_pending as u64;
                self.board.update(|status| {
                    status.lag = Some(lag);
                    // The connection was lost and is there again.
                    if status.state == State::Connecting {
                        status.state = State::Following;
                        status.last_error = None;
                    }
                });
            }
        }
    }
}

/// Makes the position durable.
pub(crate) async fn record(position: &Position, data_dir: &Path) -> Result<(), IngestError> {
    let (position, dir) = (position.clone(), data_dir.to_path_buf());
    match tokio::task::spawn_blocking(move || position.write(&dir)).await {
        Ok(written) => written,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => std::future::pending().await,
    }
}

/// Waits while there is no connection. An acknowledgement that is lost makes the message come again, to be left out.
async fn acknowledge(batch: &Batch, refused: &[u64]) {
    let due = batch.due.iter().map(|due| {
        let term = refused.binary_search(&due.sequence).is_ok();
        (&due.message, if term { AckKind::Term } else { AckKind::Ack })
    });
    for (message, kind) in due.chain(batch.again.iter().map(|message| (message, AckKind::Ack))) {
        if let Err(error) = message.ack_with(kind).await {
            tracing::debug!(%error, "an acknowledgement was not sent");
        }
    }
}
