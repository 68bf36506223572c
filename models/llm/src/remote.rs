//! A generator behind HTTP: any server that speaks OpenAI's `POST /chat/completions`.
//!
//! What comes back is not trusted: lines and answers are bounded, stop strings are looked for here too, and an
//! answer that breaks off is an error rather than a short answer. The key goes into one request header and
//! nowhere else. The protocol has no way to restrict the words, so a request's `constraint` is ignored: what comes back
//! may say anything.
//!
//! What is tried again: only connections that could not be made, with growing pauses and jitter, within the deadline.
//! A request that was sent may have been begun, and its answer cannot be taken back, so nothing is sent twice. A
//! server that says 429, or 503 with `Retry-After`, is overloaded: a retry would add to it, and callers can do without
//! an answer. They get [`ModelError::Overloaded`], and the server gets the time it asks for. It works, so the breaker
//! does not count it as a failure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable};
use bowerbird_models_api::{Finish, GenerateRequest, GenerationStream, Generator, ModelError, Piece, Usage};
use eventsource_stream::{EventStreamError, Eventsource};
use futures::StreamExt;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{timeout, timeout_at};

use crate::LlmError;
use crate::assemble::Assembler;
use crate::breaker::{Breaker, LeftAlone};
use crate::metrics;
use crate::remote_config::{RemoteConfig, shown};
use crate::wire::{ChatRequest, Chunk, Limits};

/// Longest line of an event stream.
const MAX_LINE_BYTES: usize = 1 << 20;
/// How much of an error body is read, and how much of it is quoted.
const MAX_ERROR_BYTES: usize = 16 << 10;
const QUOTED_CHARS: usize = 300;

type Sender = mpsc::Sender<Result<Piece, ModelError>>;

/// A model on a server.
pub struct RemoteGenerator {
    server: Arc<Server>,
}

struct Server {
    config: RemoteConfig,
    client: Client,
    endpoint: Url,
    /// The address without credentials and query, for messages.
    shown: String,
    breaker: Breaker,
    in_flight: Semaphore,
}

/// Why an exchange gave no answer.
enum Fault {
    /// The server is in trouble; counts for the breaker.
    Server(String),
    /// The server works and refused this request.
    Refused(String),
    /// The server works and has no room; it may say for how long.
    Overloaded(Option<Duration>),
}

/// What has come of an answer.
struct Answer {
    assembler: Assembler,
    usage: Usage,
    /// Pieces of text, each at least one token.
    pieces: usize,
    finished: bool,
}

impl RemoteGenerator {
    /// Checks the configuration; asks nothing of the server yet.
    pub fn new(config: RemoteConfig) -> Result<Self, LlmError> {
        let endpoint = config.endpoint()?;
        let mut headers = HeaderMap::new();
        if let Some(key) = &config.api_key {
            let mut bearer =
                HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| LlmError::Config {
                    field: "api_key",
                    expected: "visible ASCII characters".to_owned(),
                    found: "a key with other characters".to_owned(),
                })?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        let client_error = |error: reqwest::Error| LlmError::Client { message: chain(&error.without_url()) };
        let mut client = Client::builder()
            .default_headers(headers)
            .connect_timeout(config.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        if let Some(proxy) = &config.proxy {
            client = client.proxy(reqwest::Proxy::all(proxy).map_err(client_error)?);
        }
        let server = Server {
            client: client.build().map_err(client_error)?,
            shown: shown(&endpoint),
            endpoint,
            breaker: Breaker::new(config.breaker_failures.max(1), config.breaker_cooldown),
            in_flight: Semaphore::new(config.max_in_flight),
            config,
        };
        Ok(Self { server: Arc::new(server) })
    }
}

impl Generator for RemoteGenerator {
    fn name(&self) -> &str {
        &self.server.config.model
    }

    fn generate(&self, request: GenerateRequest) -> GenerationStream {
        let (sender, receiver) = mpsc::channel(64);
        let server = Arc::clone(&self.server);
        tokio::spawn(async move {
            // A caller who leaves drops the exchange, and with it the connection.
            let result = tokio::select! {
                biased;
                () = sender.closed() => return metrics::left(),
                result = server.generate(&request, &sender) => result,
            };
            metrics::generation(&result);
            metrics::breaker(server.breaker.is_open());
            // The only failure is a caller that has gone, who needs no answer.
            drop(sender.send(result.map(Piece::Done)).await);
        });
        receiver
    }
}

impl Server {
    async fn generate(&self, request: &GenerateRequest, sender: &Sender) -> Result<Usage, ModelError> {
        if request.messages.iter().all(|message| message.content.trim().is_empty()) {
            return Err(ModelError::EmptyText);
        }
        let assembler = Assembler::new(&request.stop)
            .map_err(|message| ModelError::Failed { model: self.config.model.clone(), message })?;
        let usage = Usage { prompt_tokens: 0, generated_tokens: 0, finish: Finish::Deadline };
        let mut answer = Answer { assembler, usage, pieces: 0, finished: false };
        let started = Instant::now();
        if started >= request.deadline {
            return Ok(answer.usage);
        }
        if request.max_tokens == 0 {
            return Ok(Usage { finish: Finish::Length, ..answer.usage });
        }
        let Ok(_slot) = self.in_flight.try_acquire() else {
            return Err(self.overloaded(self.config.max_in_flight, None));
        };
        let permit = self.breaker.enter(started).map_err(|LeftAlone { left, asked }| {
            if asked {
                return self.overloaded(self.waiting(), Some(left));
            }
            self.unavailable(format!(
                "its last requests failed, it is left alone for {:.1} s",
                left.as_secs_f32()
            ))
        })?;
        let end = request.deadline.min(started + self.config.request_timeout);
        match timeout_at(end.into(), self.exchange(request, sender, &mut answer)).await {
            Ok(Ok(())) => {
                permit.succeeded();
                Ok(answer.usage)
            }
            Ok(Err(Fault::Refused(message))) => {
                permit.succeeded();
                Err(self.unavailable(message))
            }
            Ok(Err(Fault::Overloaded(rest))) => {
                match rest {
                    Some(rest) => permit.rests(Instant::now(), rest),
                    None => permit.succeeded(),
                }
                Err(self.overloaded(self.waiting(), rest))
            }
            Ok(Err(Fault::Server(message))) => {
                permit.failed(Instant::now());
                Err(self.unavailable(message))
            }
            Err(_) if end < request.deadline => {
                permit.failed(Instant::now());
                Err(self.unavailable(format!("no whole answer within {:?}", self.config.request_timeout)))
            }
            Err(_) => {
                // A server that answers, only slowly, is no failure; one that said nothing is.
                if answer.pieces > 0 {
                    permit.succeeded();
                } else {
                    permit.failed(Instant::now());
                }
                // There is no time to wait for room.
                let held = answer.assembler.finish();
                if !held.is_empty() {
                    drop(sender.try_send(Ok(Piece::Text(held))));
                }
                answer.usage.finish = Finish::Deadline;
                Ok(answer.usage)
            }
        }
    }

    async fn exchange(
        &self,
        request: &GenerateRequest,
        sender: &Sender,
        answer: &mut Answer,
    ) -> Result<(), Fault> {
        let response = self.ask(request).await?;
        let status = response.status();
        let rest = retry_after(response.headers());
        if status == StatusCode::TOO_MANY_REQUESTS
            || (status == StatusCode::SERVICE_UNAVAILABLE && rest.is_some())
        {
            return Err(Fault::Overloaded(rest));
        }
        if !status.is_success() {
            let message = format!("status {}: {}", status.as_u16(), self.quoted_body(response).await);
            return Err(if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
                Fault::Server(message)
            } else {
                Fault::Refused(message)
            });
        }
        let kind =
            response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.starts_with("application/json") {
            let chunk = self.whole_body(response).await?;
            self.take(&chunk, request, sender, answer).await?;
            answer.finished = true;
        } else {
            self.stream(response, request, sender, answer).await?;
        }
        let held = answer.assembler.finish();
        deliver(sender, held).await;
        Ok(())
    }

    /// Sends the request; tries again only while no connection can be made.
    async fn ask(&self, request: &GenerateRequest) -> Result<Response, Fault> {
        let body = ChatRequest::new(&self.config.model, request);
        let send = || async {
            let sent = self.client.post(self.endpoint.clone()).json(&body).send();
            match timeout(self.config.connect_timeout + self.config.idle_timeout, sent).await {
                Ok(Ok(response)) => Ok(response),
                Ok(Err(error)) => Err((error.is_connect(), chain(&error.without_url()))),
                Err(_) => Err((false, format!("no answer for {:?}", self.config.idle_timeout))),
            }
        };
        send.retry(
            ExponentialBuilder::default()
                .with_jitter()
                .with_min_delay(Duration::from_millis(50))
                .with_max_delay(Duration::from_secs(1))
                .with_max_times(self.config.connect_retries),
        )
        .when(|(connect, _)| *connect)
        .notify(|_, _| metrics::retried())
        .await
        .map_err(|(_, message)| Fault::Server(message))
    }

    async fn stream(
        &self,
        response: Response,
        request: &GenerateRequest,
        sender: &Sender,
        answer: &mut Answer,
    ) -> Result<(), Fault> {
        let mut limits = Limits::new(self.config.max_response_bytes, MAX_LINE_BYTES);
        let body = response.bytes_stream().map(move |part| {
            let part = part.map_err(|error| chain(&error.without_url()))?;
            limits.take(&part).map(|()| part)
        });
        let mut events = std::pin::pin!(body.eventsource());
        loop {
            let event = timeout(self.config.idle_timeout, events.next()).await.map_err(|_| {
                Fault::Server(format!("its answer stalled for {:?}", self.config.idle_timeout))
            })?;
            let event = match event {
                Some(Ok(event)) => event,
                Some(Err(EventStreamError::Transport(message))) => return Err(Fault::Server(message)),
                Some(Err(error)) => {
                    return Err(Fault::Server(format!("its answer is no event stream: {error}")));
                }
                None if answer.finished => return Ok(()),
                None => return Err(Fault::Server("its answer broke off before the end".to_owned())),
            };
            let data = event.data.trim();
            if data == "[DONE]" {
                if !answer.finished {
                    answer.usage.finish = Finish::Stop;
                }
                return Ok(());
            }
            if data.is_empty() {
                continue;
            }
            let chunk: Chunk = serde_json::from_str(data)
                .map_err(|error| Fault::Server(format!("it sent {}: {error}", self.quoted(data))))?;
            if self.take(&chunk, request, sender, answer).await? {
                return Ok(());
            }
        }
    }

    /// Takes one event. Returns whether nothing more is wanted.
    async fn take(
        &self,
        chunk: &Chunk,
        request: &GenerateRequest,
        sender: &Sender,
        answer: &mut Answer,
    ) -> Result<bool, Fault> {
        if let Some(error) = chunk.error.as_ref().filter(|error| !error.is_null()) {
            return Err(Fault::Server(format!("it reported {}", self.quoted(&error.to_string()))));
        }
        if let Some(usage) = chunk.usage {
            answer.usage.prompt_tokens = usage.prompt_tokens.unwrap_or(answer.usage.prompt_tokens);
            answer.usage.generated_tokens = usage.completion_tokens.unwrap_or(answer.usage.generated_tokens);
        }
        let text = chunk.text();
        if !text.is_empty() && !answer.finished {
            if answer.pieces >= request.max_tokens {
                answer.usage.finish = Finish::Length;
                return Ok(true);
            }
            answer.pieces += 1;
            // Until the server counts, each piece counts as one token.
            answer.usage.generated_tokens = answer.usage.generated_tokens.max(answer.pieces);
            deliver(sender, answer.assembler.push(text.as_bytes())).await;
            if answer.assembler.stopped() {
                answer.usage.finish = Finish::Stop;
                return Ok(true);
            }
        }
        match chunk.finish_reason() {
            None => {}
            Some("content_filter") => {
                return Err(Fault::Refused("its content filter ended the answer".to_owned()));
            }
            Some(reason) => {
                answer.usage.finish = if reason == "length" { Finish::Length } else { Finish::Stop };
                answer.finished = true;
            }
        }
        Ok(false)
    }

    async fn whole_body(&self, response: Response) -> Result<Chunk, Fault> {
        let (body, whole) =
            self.body(response, self.config.max_response_bytes).await.map_err(Fault::Server)?;
        if !whole {
            return Err(Fault::Server(format!(
                "its answer is longer than {} bytes",
                self.config.max_response_bytes
            )));
        }
        serde_json::from_slice(&body).map_err(|error| {
            Fault::Server(format!("it sent {}: {error}", self.quoted(&String::from_utf8_lossy(&body))))
        })
    }

    async fn quoted_body(&self, response: Response) -> String {
        match self.body(response, MAX_ERROR_BYTES).await {
            Ok((body, _)) => self.quoted(&String::from_utf8_lossy(&body)),
            Err(message) => format!("(no body: {message})"),
        }
    }

    /// Up to `limit` bytes of a body, and whether that is all.
    async fn body(&self, response: Response, limit: usize) -> Result<(Vec<u8>, bool), String> {
        let mut body = Vec::new();
        let mut parts = response.bytes_stream();
        loop {
            let part = timeout(self.config.idle_timeout, parts.next())
                .await
                .map_err(|_| format!("its answer stalled for {:?}", self.config.idle_timeout))?;
            let Some(part) = part else { return Ok((body, true)) };
            let part = part.map_err(|error| chain(&error.without_url()))?;
            let room = limit - body.len();
            body.extend_from_slice(&part[..part.len().min(room)]);
            if part.len() > room {
                return Ok((body, false));
            }
        }
    }

    /// The beginning of what the server said, on one line and without the key.
    fn quoted(&self, text: &str) -> String {
        let text = match self.config.api_key.as_deref().filter(|key| !key.is_empty()) {
            Some(key) => text.replace(key, "[api key]"),
            None => text.to_owned(),
        };
        text.trim().chars().take(QUOTED_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
    }

    /// Generations in progress.
    fn waiting(&self) -> usize {
        self.config.max_in_flight - self.in_flight.available_permits()
    }

    fn overloaded(&self, waiting: usize, retry_after: Option<Duration>) -> ModelError {
        ModelError::Overloaded { model: self.config.model.clone(), waiting, retry_after }
    }

    fn unavailable(&self, message: String) -> ModelError {
        ModelError::Unavailable { url: self.shown.clone(), message }
    }
}

/// Hands text on. A caller that has gone is noticed by the task around the exchange.
async fn deliver(sender: &Sender, text: String) {
    if !text.is_empty() {
        drop(sender.send(Ok(Piece::Text(text))).await);
    }
}

/// The time a server asks for, in seconds; the form with a date is not read.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }
    text
}
