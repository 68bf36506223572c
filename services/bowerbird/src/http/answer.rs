//! `POST /v1/answer`: one JSON body, or server-sent events `meta, sources, delta, citation, ad, done, error`.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bowerbird_answer::AnswerEvent;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::flow;
use crate::http::json::JsonBody;
use crate::http::problem::Problem;
use crate::http::{App, RequestId};
use crate::wire::answer::{AnswerBody, AnswerPage};
use crate::wire::error::ErrorBody;

/// Answer a question from posts; every sentence is checked before it is sent.
#[utoipa::path(post, path = "/v1/answer", request_body = AnswerBody, responses(
    (status = 200, body = AnswerPage, description = "or text/event-stream with `stream: true`"),
    (status = 400, body = ErrorBody), (status = 429, body = ErrorBody), (status = 503, body = ErrorBody),
))]
pub async fn answer(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    JsonBody(body): JsonBody<AnswerBody>,
) -> Result<Response, Problem> {
    let answerer = flow::answerer(&app.stack)?.clone();
    let (found, request) = flow::question(&app.stack, &body).await?;
    let sensitive = flow::is_sensitive(&found.hits);
    let question = request.question.clone();
    if !body.stream {
        let mut answer = answerer.answer(request).await;
        if let Some(error) = answer.error.take() {
            return Err(error.into());
        }
        let ads =
            if body.ads { flow::sponsored(&app.stack, &question, sensitive, false).await } else { None };
        let answer = serde_json::to_value(&answer).map_err(|error| Problem::internal(&error))?;
        return Ok(Json(AnswerPage { answer, ads, request_id: id.0 }).into_response());
    }

    let (events, receiver) = mpsc::channel::<Result<Event, Infallible>>(16);
    tokio::spawn(async move {
        let mut out = Numbered { events, next: 1 };
        let meta = serde_json::json!({"request_id": id.0, "query": found.query.printed, "sentences": request.max_sentences});
        out.send("meta", &meta).await;
        let still_there = request.still_there.clone();
        let mut stream = answerer.stream(request);
        let mut done = None;
        // A closed channel means that the reader has left: dropping `stream` stops the models.
        while let Some(event) =
            tokio::select! { event = stream.recv() => event, () = out.events.closed() => None }
        {
            match event {
                AnswerEvent::Sources(mut sources) => {
                    sources.retain(|source| (still_there.0)(source.n));
                    out.send("sources", &sources).await;
                }
                // Its post may have gone while it waited for a slow reader.
                AnswerEvent::Sentence(sentence) if !still_there.holds(&sentence.citations) => {}
                AnswerEvent::Sentence(sentence) => {
                    out.send("delta", &delta(&sentence)).await;
                    for citation in &sentence.citations {
                        out.send("citation", citation).await;
                    }
                }
                AnswerEvent::Done(summary) => done = Some(summary),
                AnswerEvent::Error(error) => {
                    let problem = Problem::from(error);
                    out.send("error", &problem.body(&id.0)).await;
                }
            }
        }
        if body.ads
            && !out.events.is_closed()
            && let Some(ads) = flow::sponsored(&app.stack, &question, sensitive, false).await
        {
            out.send("ad", &ads).await;
        }
        if let Some(summary) = done {
            out.send("done", &summary).await;
        }
    });
    let alive = KeepAlive::new().interval(Duration::from_secs(10)).text("alive");
    Ok(Sse::new(ReceiverStream::new(receiver)).keep_alive(alive).into_response())
}

fn delta(sentence: &bowerbird_answer::Sentence) -> serde_json::Value {
    serde_json::json!({
        "text": sentence.text,
        "marks": bowerbird_answer::marks(&sentence.citations),
        "start": sentence.start,
        "end": sentence.end,
        "origin": sentence.origin,
        "verdict": sentence.verdict,
        "probability": sentence.probability,
    })
}

/// Events with ascending ids.
struct Numbered {
    events: mpsc::Sender<Result<Event, Infallible>>,
    next: u64,
}

impl Numbered {
    async fn send(&mut self, name: &str, data: &impl Serialize) {
        let event = Event::default().event(name).id(self.next.to_string());
        let event = match event.json_data(data) {
            Ok(event) => event,
            Err(error) => {
                tracing::error!(error = %error, name, "event not sent");
                return;
            }
        };
        self.next += 1;
        // The reader may have left; the caller sees the closed channel.
        let _ = self.events.send(Ok(event)).await;
    }
}
