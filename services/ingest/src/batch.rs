//! Messages that are applied together.

use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::pull::{MessagesError, Stream};
use bowerbird_posts::{LineError, Op, parse_op_line};
use futures::{FutureExt, StreamExt};

use crate::IngestError;

/// What a message says about itself.
struct Place {
    /// In the stream.
    sequence: u64,
    /// Among the deliveries of the consumer, from 1 and without gaps.
    delivery: u64,
    /// Messages of the stream after it when it was delivered.
    pending: u64,
}

/// A message to apply.
pub(crate) struct Due {
    pub sequence: u64,
    pub message: Message,
}

/// Messages in the order of the stream, without one that was applied before.
#[derive(Default)]
pub(crate) struct Batch {
    pub due: Vec<Due>,
    /// Messages that are applied already; they only need their acknowledgement.
    pub again: Vec<Message>,
    /// Messages of the stream after the last one.
    pub pending: u64,
    /// Whether sequences are left out between its messages: of other subjects, deleted, or another reader's.
    pub jumps: bool,
    /// Why nothing comes after it.
    pub end: Option<IngestError>,
    bytes: usize,
}

/// Reads batches from one consumer that was made for this.
///
/// The deliveries of a consumer are numbered. As long as no number is missing, no message is: then a sequence that is
/// not larger than the last one is a repetition, and every other one is the next of the stream. A missing number ends
/// the reader, and a new consumer begins after the last message that was applied. Numbers say nothing when another node
/// has made a consumer of the same name meanwhile; where sequences are left out, [`Batch::jumps`] asks to look.
pub(crate) struct Reader {
    messages: Stream,
    consumer: String,
    /// Number of the delivery that is due.
    delivery: u64,
    /// Sequence of the last message that was read or is applied.
    last: u64,
    most: usize,
    most_bytes: usize,
}

impl Reader {
    pub fn new(messages: Stream, consumer: String, applied: u64, most: usize, most_bytes: usize) -> Self {
        Self { messages, consumer, delivery: 1, last: applied, most, most_bytes }
    }

    /// Waits for a message and takes those that have come with it. Nothing is lost when the caller stops waiting.
    pub async fn next(&mut self) -> Batch {
        let mut batch = Batch::default();
        let mut next = self.messages.next().await;
        loop {
            self.take(next, &mut batch);
            let full = batch.due.len() + batch.again.len() >= self.most || batch.bytes >= self.most_bytes;
            if full || batch.end.is_some() {
                return batch;
            }
            // Unconstrained: the runtime makes a channel look empty to a task that has read from it for a while.
            match tokio::task::unconstrained(self.messages.next()).now_or_never() {
                Some(more) => next = more,
                None => return batch,
            }
        }
    }

    fn take(&mut self, next: Option<Result<Message, MessagesError>>, batch: &mut Batch) {
        let message = match next {
            Some(Ok(message)) => message,
            Some(Err(error)) => {
                batch.end = Some(self.ended(error));
                return;
            }
            None => {
                batch.end = Some(IngestError::ConsumerGone { consumer: self.consumer.clone() });
                return;
            }
        };
        let place = match place(&message) {
            Ok(place) => place,
            Err(error) => {
                batch.end = Some(error);
                return;
            }
        };
        if place.delivery != self.delivery {
            batch.end = Some(IngestError::Skipped { expected: self.delivery, found: place.delivery });
            return;
        }
        self.delivery += 1;
        batch.bytes += message.payload.len();
        batch.pending = place.pending;
        if place.sequence <= self.last {
            batch.again.push(message);
        } else {
            batch.jumps |= place.sequence != self.last + 1;
            self.last = place.sequence;
            batch.due.push(Due { sequence: place.sequence, message });
        }
    }

    fn ended(&self, error: MessagesError) -> IngestError {
        use async_nats::jetstream::consumer::pull::MessagesErrorKind as Kind;
        match error.kind() {
            Kind::ConsumerDeleted | Kind::NoResponders => {
                IngestError::ConsumerGone { consumer: self.consumer.clone() }
            }
            _ => IngestError::server("read messages")(error),
        }
    }
}

fn place(message: &Message) -> Result<Place, IngestError> {
    let info = message.info().map_err(IngestError::server("read the place of a message"))?;
    Ok(Place { sequence: info.stream_sequence, delivery: info.consumer_sequence, pending: info.pending })
}

impl Batch {
    /// The change each message asks for. Languages are detected on the way: not for a task that others wait behind.
    pub async fn decode(&self) -> Vec<Result<Op, LineError>> {
        let payloads: Vec<_> = self.due.iter().map(|due| due.message.payload.clone()).collect();
        let decoded = tokio::task::spawn_blocking(move || {
            payloads.iter().map(|payload| parse_op_line(payload.trim_ascii())).collect()
        });
        match decoded.await {
            Ok(ops) => ops,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is ending, and this task with it.
            Err(_) => std::future::pending().await,
        }
    }
}
