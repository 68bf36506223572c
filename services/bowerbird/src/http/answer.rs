//! `POST /v1/answer`: one JSON body, or server-sent events `meta, sources, delta, citation, ad, done, error`; and the
//! rest of a stream whose reader was cut off. `bowerbird_answer_resumed_total{result}` counts who came back: `resumed`,
//! or `gone` when the stream was forgotten.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bowerbird_answer::{AnswerEvent, Answerer, collect};
use metrics::counter;
use serde_json::json;
use tokio::sync::{Notify, mpsc};

use crate::flow::{self, Question};
use crate::http::problem::Problem;
use crate::http::streams::{Line, Plan, Stream, events};
use crate::http::{App, RequestId, json};
use crate::wire::answer::{AnswerBody, AnswerPage};
use crate::wire::error::ErrorBody;

/// Answer a question from posts; every sentence is checked before it is sent. With the header `Last-Event-ID` (and
/// then no body is needed) the rest of an earlier stream is sent instead.
#[utoipa::path(post, path = "/v1/answer", request_body = AnswerBody,
    params(("last-event-id" = Option<String>, Header, description = "id of the last event that arrived")),
    responses(
    (status = 200, body = AnswerPage, description = "or text/event-stream with `stream: true`"),
    (status = 400, body = ErrorBody), (status = 410, body = ErrorBody), (status = 429, body = ErrorBody),
    (status = 503, body = ErrorBody),
))]
pub async fn answer(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    request: Request,
) -> Result<Response, Problem> {
    if let Some((stream, after)) = last_event(request.headers())? {
        let Some(stream) = stream else { return Err(bad_event_id("a number alone")) };
        return rest(&app, &stream, after);
    }
    let body: AnswerBody = json::parse(&json::read(request, &app).await?)?;
    let answerer = flow::answerer(&app.stack)?.clone();
    let Question { found, request, key, timeout } = flow::question(&app.stack, &body).await?;
    let beside = flow::beside(&found.hits);
    if !body.stream {
        let still_there = request.still_there.clone();
        let wanted = body.ads.then(|| flow::answer_ads(&app.stack, &request, beside, body.beside_ads));
        let writing = collect(app.stack.answers.stream(&answerer, request, key), &still_there);
        let (mut answer, looked) = flow::with_ads(&app.stack, wanted, std::future::ready(()), writing).await;
        if let Some(error) = answer.error.take() {
            return Err(error.into());
        }
        let ads = flow::below(&app.stack, looked, &answer.text).await;
        let answer = serde_json::to_value(&answer).map_err(|error| Problem::internal(&error))?;
        return Ok(Json(AnswerPage { answer, ads, request_id: id.0 }).into_response());
    }

    let meta = json!({
        "request_id": id.0, "stream": id.0, "query": found.query.printed, "sentences": request.max_sentences,
    });
    let (stream, reader) = app
        .streams
        .begin(&id.0, Plan { request, key, timeout, ads: body.ads, beside, beside_ads: body.beside_ads });
    let begin = stream.fixed(reader, "meta", meta).into_iter().collect();
    Ok(respond(&app, answerer, stream, reader, begin, false))
}

/// The rest of a stream, for clients that reconnect with `GET`: after the event that `Last-Event-ID` names, or all.
#[utoipa::path(get, path = "/v1/answer/{stream}",
    params(("stream" = String, Path, description = "`stream` of the event `meta`"),
        ("last-event-id" = Option<String>, Header, description = "id of the last event that arrived")),
    responses((status = 200, description = "text/event-stream"), (status = 400, body = ErrorBody),
        (status = 410, body = ErrorBody)))]
pub async fn resume(
    State(app): State<App>,
    Path(stream): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    match last_event(&headers)? {
        None => rest(&app, &stream, 0),
        Some((None, after)) => rest(&app, &stream, after),
        Some((Some(named), after)) if named == stream => rest(&app, &stream, after),
        Some((Some(_), _)) => Err(bad_event_id("of another stream than the path")),
    }
}

/// The stream and the number in `Last-Event-ID`; none when there is no such header.
fn last_event(headers: &HeaderMap) -> Result<Option<(Option<String>, usize)>, Problem> {
    let Some(value) = headers.get("last-event-id").filter(|value| !value.is_empty()) else { return Ok(None) };
    let text = value.to_str().map_err(|_| bad_event_id("no text"))?;
    let (stream, number) = match text.rsplit_once(':') {
        Some((stream, number)) => (Some(stream.to_owned()), number),
        None => (None, text),
    };
    let number = number.parse().map_err(|_| bad_event_id(&format!("{text:.100?}")))?;
    Ok(Some((stream, number)))
}

fn bad_event_id(found: &str) -> Problem {
    let message =
        format!("last-event-id is {found}, expected the id of an event of this stream: STREAM:NUMBER");
    Problem::invalid("invalid_event_id", "last-event-id", message)
}

/// What the reader of a stream has missed, and what is still to come.
fn rest(app: &App, id: &str, after: usize) -> Result<Response, Problem> {
    let Some(stream) = app.streams.find(id) else {
        counter!("bowerbird_answer_resumed_total", "result" => "gone").increment(1);
        let message = format!(
            "there is no stream {id:.100?} to go on with: it began more than {:?} ago, newer ones took its place, or it \
             never was: ask again without Last-Event-ID",
            app.streams.age()
        );
        return Err(
            Problem::new(StatusCode::GONE, "invalid_request", "stream_gone", message).at("last-event-id")
        );
    };
    let answerer = flow::answerer(&app.stack)?.clone();
    let (reader, missed, ended) =
        stream.resume(after).ok_or_else(|| bad_event_id("past the last event sent"))?;
    counter!("bowerbird_answer_resumed_total", "result" => "resumed").increment(1);
    Ok(respond(app, answerer, stream, reader, missed, ended))
}

/// Sends `begin`, then composes what is missing.
fn respond(
    app: &App,
    answerer: Answerer,
    stream: Arc<Stream>,
    reader: u64,
    begin: Vec<Line>,
    ended: bool,
) -> Response {
    let (out, receiver) = mpsc::channel(16);
    let app = app.clone();
    tokio::spawn(async move {
        let out = Out(out);
        let work = async {
            out.send(begin).await;
            if !ended {
                compose(&app, &answerer, &stream, reader, &out).await;
            }
        };
        // Dropping `work` stops the models: when the reader has left, and when another has come in its place.
        tokio::select! {
            () = work => {}
            () = out.0.closed() => {}
            () = stream.left_by(reader) => {}
        }
        app.streams.trim();
    });
    events(receiver)
}

/// Writes the answer of a stream to its end, leaving out what was sent.
async fn compose(app: &App, answerer: &Answerer, stream: &Stream, reader: u64, out: &Out) {
    let plan = &stream.plan;
    let mut request = plan.request.clone();
    request.deadline = Instant::now() + plan.timeout;
    let still_there = request.still_there.clone();
    let wanted = (plan.ads && !stream.has("ad"))
        .then(|| flow::answer_ads(&app.stack, &request, plan.beside.clone(), plan.beside_ads.clone()));
    let mut events = app.stack.answers.stream(answerer, request, plan.key);
    let (began, mut text) = (Notify::new(), String::new());
    let telling = async {
        let mut done = None;
        while let Some(event) = events.recv().await {
            match event {
                AnswerEvent::Sources(_) if stream.has("sources") => {}
                AnswerEvent::Sources(_) => out.send(stream.sources(reader)).await,
                // Its post may have gone while it waited for a slow reader.
                AnswerEvent::Sentence(sentence) if !still_there.holds(&sentence.citations) => {}
                AnswerEvent::Sentence(sentence) => {
                    text.push_str(&sentence.text);
                    text.push('\n');
                    out.send(stream.sentence(reader, sentence)).await;
                    began.notify_one();
                }
                AnswerEvent::Done(summary) => done = Some(summary),
                AnswerEvent::Error(error) => {
                    let body = Problem::from(error).body(&stream.id);
                    out.send(stream.failed(reader, json!(body))).await;
                }
            }
        }
        began.notify_one();
        done
    };
    let (done, looked) = flow::with_ads(&app.stack, wanted, began.notified(), telling).await;
    let Some(summary) = done else { return };
    if let Some(ads) = flow::below(&app.stack, looked, &text).await {
        out.send(stream.fixed(reader, "ad", json!(ads))).await;
    }
    out.send(stream.done(reader, summary)).await;
}

/// Where a reader listens.
struct Out(mpsc::Sender<Result<Event, Infallible>>);

impl Out {
    async fn send(&self, lines: impl IntoIterator<Item = Line>) {
        for (id, name, data) in lines {
            let event = Event::default().id(id).event(name).data(data);
            // The reader may have left; whoever waits for that sees the closed channel.
            let _ = self.0.send(Ok(event)).await;
        }
    }
}
