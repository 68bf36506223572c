//! Streams of answers whose readers may come back: what was sent, and what is needed to write the rest.
//!
//! The work for an answer stops when its reader leaves. What was sent until then is kept here for a while, within
//! bounds of number, bytes and age. A reader that comes back gets what it has missed; where the answer had not ended,
//! the rest is composed again from the same posts with the same seed, and what was sent already is skipped. So nobody
//! pays for a reader that never returns, and the price of returning is to compose a second time.
//!
//! A stream has one reader: with the next one the work for the one before ends.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use bowerbird_ads::Neighbour;
use bowerbird_answer::{AnswerRequest, Citation, Placer, Sentence, Summary, marks};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use crate::answers::Key;
use crate::config::AnswerSettings;

/// A reader that a proxy or a sleeping device may forget hears from us this often.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Kept streams. Cheap to clone.
#[derive(Clone)]
pub struct Streams(Arc<Inner>);

struct Inner {
    limits: Limits,
    /// Oldest first.
    kept: Mutex<VecDeque<Arc<Stream>>>,
}

/// How much is kept, and for how long.
#[derive(Clone, Copy)]
struct Limits {
    streams: usize,
    bytes: usize,
    age: Duration,
}

/// What an answer is written from.
pub struct Plan {
    /// The question and its posts.
    pub request: AnswerRequest,
    /// What a kept answer is found by.
    pub key: Option<Key>,
    /// Most time of each attempt.
    pub timeout: Duration,
    /// Whether sponsored blocks come at the end.
    pub ads: bool,
    /// What stands beside those.
    pub beside: Vec<Neighbour>,
    /// Ads that stand on the page already.
    pub beside_ads: Vec<String>,
}

/// One stream.
pub struct Stream {
    /// Its id.
    pub id: String,
    /// What it is written from.
    pub plan: Plan,
    begun: Instant,
    sent: Mutex<Sent>,
    /// Number of the reader it belongs to.
    reader: watch::Sender<u64>,
}

/// What was sent. Event `n` is at `n - 1`.
#[derive(Default)]
struct Sent {
    events: Vec<Event>,
    sentences: Vec<Placed>,
    placer: Placer,
    bytes: usize,
    ended: bool,
}

/// A sentence with its place in what the reader has.
struct Placed {
    sentence: Sentence,
    /// None when it was left out for the present reader, because a post it cites has gone.
    place: Option<(usize, usize)>,
}

/// An event in the form from which it is sent again: posts may have gone in between.
enum Event {
    Fixed(&'static str, String),
    Sources,
    Delta(usize),
    Citation(usize, usize),
    Done(Summary),
}

/// What is sent: id, name and data of an event.
pub type Line = (String, &'static str, String);

impl Streams {
    /// Bounds from the configuration.
    pub fn new(settings: &AnswerSettings) -> Self {
        let limits = Limits {
            streams: settings.resume_streams,
            bytes: usize::try_from(settings.resume_memory.as_u64()).unwrap_or(usize::MAX),
            age: settings.resume_ttl,
        };
        Self(Arc::new(Inner { limits, kept: Mutex::default() }))
    }

    /// A new stream, and the number of its reader.
    pub fn begin(&self, id: &str, plan: Plan) -> (Arc<Stream>, u64) {
        let texts: usize = plan.request.sources.iter().map(|s| 128 + s.text.len() + s.author.len()).sum();
        let sent = Sent { bytes: 512 + texts + plan.request.question.len(), ..Sent::default() };
        let stream = Arc::new(Stream {
            id: id.to_owned(),
            plan,
            begun: Instant::now(),
            sent: Mutex::new(sent),
            reader: watch::Sender::new(1),
        });
        self.0.kept.lock().push_back(Arc::clone(&stream));
        self.trim();
        (stream, 1)
    }

    /// Forgets streams until what is kept is within bounds. To be called when one has grown.
    pub fn trim(&self) {
        let Limits { streams, bytes, age } = self.0.limits;
        let mut kept = self.0.kept.lock();
        let mut held: usize = kept.iter().map(|stream| stream.sent.lock().bytes).sum();
        while let Some(oldest) = kept.front() {
            if kept.len() <= streams && held <= bytes && oldest.begun.elapsed() < age {
                break;
            }
            held -= oldest.sent.lock().bytes;
            kept.pop_front();
        }
    }

    /// The stream of this id, unless it was forgotten.
    pub fn find(&self, id: &str) -> Option<Arc<Stream>> {
        self.trim();
        self.0.kept.lock().iter().find(|stream| stream.id == id).cloned()
    }

    /// How long a stream is kept at most.
    pub fn age(&self) -> Duration {
        self.0.limits.age
    }
}

impl Stream {
    /// Waits until another reader has come.
    pub async fn left_by(&self, reader: u64) {
        let mut now = self.reader.subscribe();
        // The sender lives as long as the stream.
        let _ = now.wait_for(|current| *current != reader).await;
    }

    /// Takes the stream over for a reader that has the first `after` events: its number, what it has missed, and
    /// whether that is all. None when fewer events were sent.
    pub fn resume(&self, after: usize) -> Option<(u64, Vec<Line>, bool)> {
        let mut sent = self.sent.lock();
        if after > sent.events.len() {
            return None;
        }
        let mut reader = 0;
        self.reader.send_modify(|current| {
            *current += 1;
            reader = *current;
        });
        let Sent { events, sentences, placer, ended, .. } = &mut *sent;
        *placer = Placer::default();
        let mut lines = Vec::new();
        for (at, event) in events.iter().enumerate() {
            if let Event::Delta(k) = event
                && let Some(placed) = sentences.get_mut(*k)
            {
                let citations = &placed.sentence.citations;
                let has = at < after || self.plan.request.still_there.holds(citations);
                placed.place = has.then(|| placer.place(&placed.sentence.text, citations));
            }
            if at >= after
                && let Some((name, data)) = self.data(event, sentences)
            {
                lines.push((self.event_id(at), name, data));
            }
        }
        Some((reader, lines, *ended))
    }

    /// Whether anything of this name was sent.
    pub fn has(&self, name: &str) -> bool {
        let sent = self.sent.lock();
        sent.events.iter().any(|event| match event {
            Event::Fixed(sent, _) => *sent == name,
            Event::Sources => name == "sources",
            Event::Delta(_) => name == "delta",
            Event::Citation(..) => name == "citation",
            Event::Done(_) => name == "done",
        })
    }

    /// Keeps an event that ends nothing and returns it; none when another reader has come, here and below.
    pub fn fixed(&self, reader: u64, name: &'static str, data: Value) -> Option<Line> {
        self.keep(reader, Event::Fixed(name, data.to_string()), false)
    }

    /// The posts that may be cited and still stand.
    pub fn sources(&self, reader: u64) -> Option<Line> {
        self.keep(reader, Event::Sources, false)
    }

    /// A sentence with its citations; nothing when it was sent before.
    pub fn sentence(&self, reader: u64, sentence: Sentence) -> Vec<Line> {
        let citations = sentence.citations.len();
        let k = {
            let mut sent = self.sent.lock();
            let told = |placed: &Placed| {
                placed.sentence.text == sentence.text && placed.sentence.citations == sentence.citations
            };
            if *self.reader.borrow() != reader || sent.sentences.iter().any(told) {
                return Vec::new();
            }
            let place = Some(sent.placer.place(&sentence.text, &sentence.citations));
            sent.bytes += 256 + sentence.text.len();
            sent.bytes += sentence.citations.iter().map(|c| 96 + c.quote.len()).sum::<usize>();
            sent.sentences.push(Placed { sentence, place });
            sent.sentences.len() - 1
        };
        let events = std::iter::once(Event::Delta(k)).chain((0..citations).map(|c| Event::Citation(k, c)));
        events.filter_map(|event| self.keep(reader, event, false)).collect()
    }

    /// The end of an answer.
    pub fn done(&self, reader: u64, summary: Summary) -> Option<Line> {
        self.keep(reader, Event::Done(summary), true)
    }

    /// The end without an answer.
    pub fn failed(&self, reader: u64, data: Value) -> Option<Line> {
        self.keep(reader, Event::Fixed("error", data.to_string()), true)
    }

    fn keep(&self, reader: u64, event: Event, ends: bool) -> Option<Line> {
        let mut sent = self.sent.lock();
        if *self.reader.borrow() != reader || sent.ended {
            return None;
        }
        let (name, data) = self.data(&event, &sent.sentences)?;
        let id = self.event_id(sent.events.len());
        sent.bytes += 64 + if matches!(event, Event::Fixed(..) | Event::Done(_)) { data.len() } else { 0 };
        sent.events.push(event);
        sent.ended = ends;
        Some((id, name, data))
    }

    fn event_id(&self, at: usize) -> String {
        format!("{}:{}", self.id, at + 1)
    }

    /// Name and data of an event as posts stand now; none when what it tells of has gone.
    fn data(&self, event: &Event, sentences: &[Placed]) -> Option<(&'static str, String)> {
        let still_there = &self.plan.request.still_there;
        Some(match event {
            Event::Fixed(name, data) => (*name, data.clone()),
            Event::Sources => {
                let sources = self.plan.request.sources.iter().filter(|source| (still_there.0)(source.n));
                ("sources", serde_json::to_string(&sources.collect::<Vec<_>>()).ok()?)
            }
            Event::Delta(k) => {
                let placed = sentences.get(*k)?;
                ("delta", delta(&placed.sentence, placed.place?).to_string())
            }
            Event::Citation(k, c) => {
                let placed = sentences.get(*k)?;
                ("citation", cited(placed.sentence.citations.get(*c)?, placed.place?).to_string())
            }
            Event::Done(summary) => {
                let mut summary = summary.clone();
                summary.nearest.retain(|passage| (still_there.0)(passage.n));
                ("done", serde_json::to_string(&summary).ok()?)
            }
        })
    }
}

/// A response of server-sent events, with a sign of life where nothing happens.
pub fn events(receiver: mpsc::Receiver<Result<SseEvent, Infallible>>) -> Response {
    let alive = KeepAlive::new().interval(HEARTBEAT).text("alive");
    Sse::new(ReceiverStream::new(receiver)).keep_alive(alive).into_response()
}

/// `delta`: a sentence with its span in the answer, in characters.
fn delta(sentence: &Sentence, (start, end): (usize, usize)) -> Value {
    json!({
        "text": sentence.text,
        "marks": marks(&sentence.citations),
        "start": start,
        "end": end,
        "origin": sentence.origin,
        "verdict": sentence.verdict,
        "probability": sentence.probability,
        "lead": sentence.lead,
        "conflict": sentence.conflict,
    })
}

/// `citation`: the span of the quote in the post, and that of the sentence in the answer, in characters.
fn cited(citation: &Citation, (start, end): (usize, usize)) -> Value {
    json!({
        "n": citation.n,
        "post_id": citation.post_id,
        "author": citation.author,
        "created_at": citation.created_at,
        "quote": citation.quote,
        "start": citation.start,
        "end": citation.end,
        "answer_start": start,
        "answer_end": end,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowerbird_answer::{Origin, StillThere, Verdict};
    use bytesize::ByteSize;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn plan(still_there: StillThere) -> Plan {
        let request = AnswerRequest {
            question: "coffee?".into(),
            sources: Vec::new(),
            deadline: Instant::now(),
            max_sentences: 3,
            seed: 0,
            still_there,
        };
        let (timeout, beside, beside_ads) = (Duration::from_secs(1), Vec::new(), Vec::new());
        Plan { request, key: None, timeout, ads: false, beside, beside_ads }
    }

    fn sentence(n: usize, text: &str) -> Sentence {
        Sentence {
            text: text.into(),
            lead: None,
            conflict: None,
            start: 0,
            end: 0,
            citations: vec![Citation {
                n,
                post_id: format!("p{n}"),
                author: "a".into(),
                created_at: jiff::Timestamp::UNIX_EPOCH,
                quote: "q".into(),
                start: 0,
                end: 1,
            }],
            verdict: Verdict::Supported,
            probability: 1.0,
            origin: Origin::Extracted,
        }
    }

    fn settings(streams: usize, bytes: u64, age: Duration) -> AnswerSettings {
        AnswerSettings {
            resume_streams: streams,
            resume_memory: ByteSize(bytes),
            resume_ttl: age,
            ..AnswerSettings::default()
        }
    }

    #[test]
    fn what_is_kept_is_bounded_in_number_bytes_and_age() {
        let begin = |streams: &Streams, ids: &[&str]| {
            for id in ids {
                streams.begin(id, plan(StillThere::always()));
            }
            ids.iter().map(|id| streams.find(id).is_some()).collect::<Vec<_>>()
        };
        let minute = Duration::from_mins(1);
        assert_eq!(
            begin(&Streams::new(&settings(2, 1 << 20, minute)), &["a", "b", "c"]),
            [false, true, true]
        );
        assert_eq!(begin(&Streams::new(&settings(9, 1200, minute)), &["a", "b", "c"]), [false, true, true]);
        assert_eq!(begin(&Streams::new(&settings(0, 1 << 20, minute)), &["a"]), [false]);
        assert_eq!(begin(&Streams::new(&settings(9, 1 << 20, Duration::ZERO)), &["a"]), [false]);
        let streams = Streams::new(&settings(9, 2000, minute));
        let (stream, reader) = streams.begin("a", plan(StillThere::always()));
        assert!(stream.fixed(reader, "meta", json!("x".repeat(3000))).is_some());
        streams.trim();
        assert!(streams.find("a").is_none(), "it has grown past the bound");
    }

    #[test]
    fn a_reader_that_comes_back_gets_the_rest_and_the_one_before_writes_no_more() {
        let streams = Streams::new(&settings(9, 1 << 20, Duration::from_mins(1)));
        let (stream, first) = streams.begin("a", plan(StillThere::always()));
        stream.fixed(first, "meta", json!({})).expect("sent");
        assert_eq!(stream.sentence(first, sentence(1, "One.")).len(), 2);
        let (second, missed, ended) = stream.resume(1).expect("one event was sent");
        assert_eq!(
            missed.iter().map(|l| (l.0.as_str(), l.1)).collect::<Vec<_>>(),
            [("a:2", "delta"), ("a:3", "citation")]
        );
        assert!(!ended && stream.resume(4).is_none());
        assert!(stream.sentence(first, sentence(2, "Two.")).is_empty());
        assert!(stream.sentence(second, sentence(1, "One.")).is_empty(), "it was sent before");
        let two = stream.sentence(second, sentence(2, "Two."));
        // "One. [1] Two. [2]"
        assert!(two[0].2.contains(r#""start":9,"end":13"#), "{two:?}");
        assert!(two[1].2.contains(r#""answer_start":9,"answer_end":13"#), "{two:?}");
        assert!(stream.failed(second, json!({})).is_some());
        assert_eq!(stream.resume(5).map(|(_, missed, ended)| (missed.len(), ended)), Some((1, true)));
    }

    #[test]
    fn what_cites_a_deleted_post_is_not_sent_again_and_the_rest_moves_up() {
        let gone = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&gone);
        let still_there = StillThere(Arc::new(move |n| n != 1 || !seen.load(Ordering::Relaxed)));
        let streams = Streams::new(&settings(9, 1 << 20, Duration::from_mins(1)));
        let (stream, reader) = streams.begin("a", plan(still_there));
        stream.sentence(reader, sentence(1, "One."));
        stream.sentence(reader, sentence(2, "Two."));
        gone.store(true, Ordering::Relaxed);
        let (_, missed, _) = stream.resume(0).expect("from the start");
        assert_eq!(missed.iter().map(|l| l.0.as_str()).collect::<Vec<_>>(), ["a:3", "a:4"]);
        assert!(missed[0].2.contains(r#""start":0,"end":4"#), "{missed:?}");
        // Who has the sentence already keeps its place.
        let (_, missed, _) = stream.resume(1).expect("one event was sent");
        assert!(missed.iter().any(|l| l.2.contains(r#""start":9,"end":13"#)), "{missed:?}");
    }
}
