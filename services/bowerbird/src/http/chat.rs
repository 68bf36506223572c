//! `POST /v1/chat/completions`: a conversation answered from posts, for clients that speak OpenAI's protocol.
//!
//! The conversation is the client's: each call brings it, and nothing of it is kept here. The last message is made
//! into a question that stands alone (`chat.rs`) and goes the way of `/v1/answer`, kept answers included. Sponsored
//! blocks are not served here: a message of an assistant has no place apart for them.

use std::convert::Infallible;
use std::time::Instant;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bowerbird_answer::{
    Answer, AnswerEvent, FinishReason, MAX_QUESTION_BYTES, Placer, Sentence, StillThere, Summary, collect,
    marks,
};
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::flow::{self, Question};
use crate::http::json::JsonBody;
use crate::http::problem::Problem;
use crate::http::streams::events;
use crate::http::{App, RequestId};
use crate::stack::Stack;
use crate::wire::answer::AnswerBody;
use crate::wire::chat::{
    Annotation, ChatBody, ChatChoice, ChatChunk, ChatCitation, ChatCompletion, ChatEnd, ChatReply, ChatRole,
    ChunkChoice, ChunkDelta, NearestPost, SearchResult, UrlCitation,
};
use crate::wire::error::ErrorBody;

/// Most messages of a conversation.
const MAX_MESSAGES: usize = 64;
/// What the assistant is called.
const MODEL: &str = "bowerbird";

/// Reply to a conversation from posts; every sentence is checked before it is sent.
#[utoipa::path(post, path = "/v1/chat/completions", request_body = ChatBody, responses(
    (status = 200, body = ChatCompletion, description = "or text/event-stream of `ChatChunk` with `stream: true`"),
    (status = 400, body = ErrorBody), (status = 404, body = ErrorBody), (status = 429, body = ErrorBody),
    (status = 503, body = ErrorBody),
))]
pub async fn completions(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    JsonBody(body): JsonBody<ChatBody>,
) -> Result<Response, Problem> {
    let answerer = flow::answerer(&app.stack)?.clone();
    let turns = turns(&app.stack, &body)?;
    let place = format!("messages[{}].content", body.messages.len() - 1);
    let begun = Instant::now();
    let timeout = flow::answer_time(&app.stack, body.timeout_ms);
    let q = crate::chat::rewrite(app.stack.rewriter.as_deref(), &turns, begun + timeout / 2).await;
    let asked = AnswerBody {
        q: q.clone(),
        stream: false,
        filter: body.filter.clone(),
        ads: false,
        beside_ads: Vec::new(),
        max_sentences: body.max_sentences,
        timeout_ms: body.timeout_ms,
    };
    let question = flow::question(&app.stack, &asked).await;
    let Question { found, request, key, .. } = question.map_err(|problem| problem.renamed("q", &place))?;
    let links = |n: usize| found.hits.get(n.wrapping_sub(1)).map_or(&[][..], |hit| &hit.post.links);
    let results: Vec<SearchResult> =
        request.sources.iter().map(|source| SearchResult::new(source, links(source.n))).collect();
    let still_there = request.still_there.clone();
    let written = app.stack.answers.stream(&answerer, request, key);
    let reply = Reply {
        id: format!("chatcmpl-{}", id.0),
        created: Timestamp::now().as_second(),
        query: q,
        results,
        still_there,
    };
    if body.stream != Some(true) {
        let answer = collect(written, &reply.still_there).await;
        return reply.whole(answer).map(IntoResponse::into_response);
    }
    let usage = body.stream_options.and_then(|options| options.include_usage) == Some(true);
    let (out, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        // Dropping the events stops the models.
        tokio::select! {
            () = out.closed() => {}
            () = reply.pieces(written, &out, usage, &id.0) => {}
        }
    });
    Ok(events(receiver))
}

/// What the user said, oldest first; the last is the question.
fn turns<'a>(stack: &Stack, body: &'a ChatBody) -> Result<Vec<&'a str>, Problem> {
    let generator = stack.models.generator.as_deref();
    if let Some(asked) = body.model.as_deref().filter(|asked| *asked != MODEL && Some(*asked) != generator) {
        let message = format!(
            "there is no model {asked:.100?}, this server replies as {MODEL:?}: give that name, or none"
        );
        return Err(Problem::new(StatusCode::NOT_FOUND, "not_found", "model_not_found", message).at("model"));
    }
    if let Some(n) = body.n.filter(|n| *n != 1) {
        let message = format!("n is {n}, expected 1: the same question has one answer, leave it out");
        return Err(Problem::invalid("out_of_range", "n", message));
    }
    let found = body.messages.len();
    if found > MAX_MESSAGES {
        let message =
            format!("messages has {found} entries, the limit is {MAX_MESSAGES}: leave out the oldest");
        return Err(Problem::invalid("too_many_messages", "messages", message));
    }
    let Some(last) = body.messages.last() else {
        let message = "messages is empty: give at least one message of the user";
        return Err(Problem::invalid("no_messages", "messages", message));
    };
    let place = format!("messages[{}]", found - 1);
    if last.role != ChatRole::User {
        let role = format!("{place}.role");
        let message =
            format!("{role} is {:?}, expected user: end with the question", last.role).to_lowercase();
        return Err(Problem::invalid("last_message_not_user", &role, message));
    }
    let question = last.content.as_ref().map_or("", |content| content.0.as_str());
    let place = format!("{place}.content");
    if question.trim().is_empty() {
        return Err(Problem::invalid("empty_query", &place, format!("{place} is empty: ask something")));
    }
    if question.len() > MAX_QUESTION_BYTES {
        let message = format!(
            "{place} has {} bytes, the limit is {MAX_QUESTION_BYTES}: ask the question alone",
            question.len()
        );
        return Err(Problem::invalid("query_too_long", &place, message));
    }
    let of_user = body.messages.iter().filter(|message| message.role == ChatRole::User);
    let texts = of_user.filter_map(|message| message.content.as_ref().map(|content| content.0.as_str()));
    Ok(texts.filter(|text| !text.trim().is_empty()).collect())
}

/// What all pieces of a reply share.
struct Reply {
    id: String,
    created: i64,
    query: String,
    results: Vec<SearchResult>,
    still_there: StillThere,
}

impl Reply {
    /// The posts that still stand.
    fn results(&self) -> Vec<SearchResult> {
        self.results.iter().filter(|result| (self.still_there.0)(result.n)).cloned().collect()
    }

    fn result(&self, n: usize) -> Option<&SearchResult> {
        self.results.iter().find(|result| result.n == n)
    }

    /// Citations and annotations of a sentence at `place`.
    fn cited(&self, sentence: &Sentence, place: (usize, usize)) -> (Vec<ChatCitation>, Vec<Annotation>) {
        let citations = sentence.citations.iter();
        let annotation = |result: &SearchResult| {
            let (start_index, end_index) = place;
            let (url, title) = (result.url.clone(), result.title.clone());
            Annotation {
                r#type: "url_citation",
                url_citation: UrlCitation { url, title, start_index, end_index },
            }
        };
        let annotations = citations.clone().filter_map(|c| self.result(c.n)).map(annotation).collect();
        (citations.map(|citation| ChatCitation::new(citation, place)).collect(), annotations)
    }

    fn end(&self, summary: Summary) -> ChatEnd {
        let Summary { finish_reason, reason, nearest, degraded, usage } = summary;
        let standing = nearest.into_iter().filter(|passage| (self.still_there.0)(passage.n));
        let nearest = standing
            .map(|passage| NearestPost {
                n: passage.n,
                url: self.result(passage.n).map_or_else(String::new, |result| result.url.clone()),
                post_id: passage.post_id,
                quote: passage.quote,
                relevance: passage.relevance,
            })
            .collect();
        ChatEnd { finish_reason, reason, nearest, degraded, usage }
    }

    fn whole(&self, mut answer: Answer) -> Result<Json<ChatCompletion>, Problem> {
        if let Some(error) = answer.error.take() {
            return Err(error.into());
        }
        let (mut citations, mut annotations) = (Vec::new(), Vec::new());
        for sentence in &answer.sentences {
            let (more, notes) = self.cited(sentence, (sentence.start, sentence.end));
            citations.extend(more);
            annotations.extend(notes);
        }
        let usage = answer.summary.usage.into();
        let content = refusal(&answer.summary).unwrap_or(answer.text);
        let finish_reason = finish(answer.summary.finish_reason);
        let message = ChatReply { role: "assistant", content, annotations, citations: citations.clone() };
        Ok(Json(ChatCompletion {
            id: self.id.clone(),
            object: "chat.completion",
            created: self.created,
            model: MODEL.into(),
            choices: vec![ChatChoice { index: 0, message, finish_reason }],
            usage,
            search_query: self.query.clone(),
            search_results: self.results(),
            citations,
            bowerbird: self.end(answer.summary),
        }))
    }

    fn chunk(&self, delta: ChunkDelta) -> ChatChunk {
        ChatChunk {
            id: self.id.clone(),
            object: "chat.completion.chunk",
            created: self.created,
            model: MODEL.into(),
            choices: vec![ChunkChoice { index: 0, delta, finish_reason: None }],
            usage: None,
            search_query: None,
            search_results: None,
            citations: Vec::new(),
            bowerbird: None,
        }
    }

    /// The reply in chunks, as it is written.
    async fn pieces(&self, mut events: mpsc::Receiver<AnswerEvent>, out: &Out, with_usage: bool, id: &str) {
        let delta =
            ChunkDelta { role: Some("assistant"), content: Some(String::new()), ..ChunkDelta::default() };
        let (search_query, search_results) = (Some(self.query.clone()), Some(self.results()));
        send(out, &ChatChunk { search_query, search_results, ..self.chunk(delta) }).await;
        let mut placer = Placer::default();
        let mut said = false;
        while let Some(event) = events.recv().await {
            match event {
                AnswerEvent::Sources(_) => {}
                // Its post may have gone while it waited for a slow reader.
                AnswerEvent::Sentence(sentence) if !self.still_there.holds(&sentence.citations) => {}
                AnswerEvent::Sentence(sentence) => {
                    let place = placer.place(&sentence.text, &sentence.citations);
                    let (citations, annotations) = self.cited(&sentence, place);
                    let space = if said { " " } else { "" };
                    let content = Some(format!("{space}{} {}", sentence.text, marks(&sentence.citations)));
                    let delta = ChunkDelta { content, annotations, ..ChunkDelta::default() };
                    send(out, &ChatChunk { citations, ..self.chunk(delta) }).await;
                    said = true;
                }
                AnswerEvent::Done(summary) => {
                    if let Some(content) = refusal(&summary).filter(|_| !said) {
                        let delta = ChunkDelta { content: Some(content), ..ChunkDelta::default() };
                        send(out, &self.chunk(delta)).await;
                    }
                    let (finish_reason, usage) = (finish(summary.finish_reason), summary.usage.into());
                    let mut last = self.chunk(ChunkDelta::default());
                    last.choices[0].finish_reason = Some(finish_reason);
                    last.bowerbird = Some(self.end(summary));
                    send(out, &last).await;
                    if with_usage {
                        let last = self.chunk(ChunkDelta::default());
                        send(out, &ChatChunk { choices: Vec::new(), usage: Some(usage), ..last }).await;
                    }
                }
                AnswerEvent::Error(error) => send(out, &Problem::from(error).body(id)).await,
            }
        }
        let _ = out.send(Ok(Event::default().data("[DONE]"))).await;
    }
}

/// The words of a refusal.
fn refusal(summary: &Summary) -> Option<String> {
    let refused = summary.finish_reason == FinishReason::RefusedNoEvidence;
    let reason = summary.reason.as_deref().unwrap_or("none says enough about this question");
    refused.then(|| format!("The posts do not answer this: {reason}."))
}

/// The reason in the words of OpenAI, whose clients know no other.
fn finish(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Deadline => "length",
        FinishReason::Stop | FinishReason::RefusedNoEvidence | FinishReason::Error => "stop",
    }
}

type Out = mpsc::Sender<Result<Event, Infallible>>;

async fn send(out: &Out, data: &impl Serialize) {
    match Event::default().json_data(data) {
        // The reader may have left; whoever waits for that sees the closed channel.
        Ok(event) => drop(out.send(Ok(event)).await),
        Err(error) => tracing::error!(%error, "chunk not sent"),
    }
}
