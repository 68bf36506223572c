//! The parts of OpenAI's chat completions that are used, and the event stream they come in.
//!
//! Readers are lenient: servers leave out `choices`, send `null` for lists, and add fields.

use bowerbird_models_api::{GenerateRequest, Role};
use serde::{Deserialize, Serialize};

/// Most stop strings a server is asked to look for; the API allows no more. All are looked for here as well.
const MAX_STOPS: usize = 4;

#[derive(Serialize)]
pub(crate) struct ChatRequest<'a> {
    model: &'a str,
    messages: Vec<ChatMessage<'a>>,
    max_tokens: usize,
    temperature: f32,
    seed: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop: Vec<&'a str>,
    stream: bool,
    stream_options: StreamOptions,
}

#[derive(Serialize)]
struct ChatMessage<'a> {
    role: &'static str,
    content: &'a str,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

impl<'a> ChatRequest<'a> {
    pub(crate) fn new(model: &'a str, request: &'a GenerateRequest) -> Self {
        let messages = request
            .messages
            .iter()
            .map(|message| ChatMessage {
                role: match message.role {
                    Role::System => "system",
                    Role::User => "user",
                    Role::Assistant => "assistant",
                },
                content: &message.content,
            })
            .collect();
        let stop = request.stop.iter().filter(|stop| !stop.is_empty()).take(MAX_STOPS).map(String::as_str);
        Self {
            model,
            messages,
            max_tokens: request.max_tokens,
            temperature: request.temperature,
            // Servers read a signed number.
            seed: request.seed & i64::MAX as u64,
            stop: stop.collect(),
            stream: true,
            stream_options: StreamOptions { include_usage: true },
        }
    }
}

/// One event of a stream, or a whole answer of a server that does not stream.
#[derive(Debug, Deserialize)]
pub(crate) struct Chunk {
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    pub(crate) usage: Option<WireUsage>,
    #[serde(default)]
    pub(crate) error: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Option<Delta>,
    #[serde(default)]
    message: Option<Delta>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct WireUsage {
    #[serde(default)]
    pub(crate) prompt_tokens: Option<usize>,
    #[serde(default)]
    pub(crate) completion_tokens: Option<usize>,
}

impl Chunk {
    /// New text of the first choice; empty when there is none.
    pub(crate) fn text(&self) -> &str {
        self.first()
            .and_then(|choice| choice.delta.as_ref().or(choice.message.as_ref()))
            .and_then(|delta| delta.content.as_deref())
            .unwrap_or_default()
    }

    /// Why the first choice ended, once it has.
    pub(crate) fn finish_reason(&self) -> Option<&str> {
        self.first().and_then(|choice| choice.finish_reason.as_deref()).filter(|reason| !reason.is_empty())
    }

    fn first(&self) -> Option<&Choice> {
        self.choices.as_ref().and_then(|choices| choices.first())
    }
}

/// Refuses a body that is too long in all, or that has a line too long to be held.
pub(crate) struct Limits {
    bytes: usize,
    line: usize,
    max_bytes: usize,
    max_line: usize,
}

impl Limits {
    pub(crate) fn new(max_bytes: usize, max_line: usize) -> Self {
        Self { bytes: 0, line: 0, max_bytes, max_line }
    }

    /// Counts a part of the body.
    pub(crate) fn take(&mut self, part: &[u8]) -> Result<(), String> {
        self.bytes += part.len();
        if self.bytes > self.max_bytes {
            return Err(format!("its answer is longer than {} bytes", self.max_bytes));
        }
        for run in part.split_inclusive(|&byte| byte == b'\n' || byte == b'\r') {
            self.line += run.len();
            if self.line > self.max_line {
                return Err(format!("its answer has a line longer than {} bytes", self.max_line));
            }
            if run.ends_with(b"\n") || run.ends_with(b"\r") {
                self.line = 0;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_chunks_are_understood() {
        for (json, text, finish) in [
            (r#"{"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}"#, "hi", None),
            (r#"{"choices":[{"delta":{"role":"assistant","content":null}}]}"#, "", None),
            (r#"{"choices":[{"delta":{},"finish_reason":"length"}],"x":1}"#, "", Some("length")),
            (r#"{"choices":[],"usage":{"prompt_tokens":3}}"#, "", None),
            (r#"{"choices":null}"#, "", None),
            ("{}", "", None),
            (r#"{"choices":[{"message":{"content":"all"},"finish_reason":"stop"}]}"#, "all", Some("stop")),
        ] {
            let chunk: Chunk = serde_json::from_str(json).expect(json);
            assert_eq!((chunk.text(), chunk.finish_reason()), (text, finish), "{json}");
        }
    }

    #[test]
    fn lengths_are_bounded() {
        let mut limits = Limits::new(20, 6);
        assert!(limits.take(b"123\n12").is_ok());
        assert!(limits.take(b"3456\n").is_err(), "a line over two parts");
        let mut limits = Limits::new(8, 6);
        assert!(limits.take(b"12\r34\n").is_ok());
        assert!(limits.take(b"567").is_err(), "nine bytes in all");
    }
}
