//! `POST /v1/chat/completions`: the shape that clients of OpenAI speak.
//!
//! Fields beyond that shape: `filter`, `max_sentences` and `timeout_ms` in a call; `search_query`, `search_results`,
//! `citations`, `bowerbird` and `usage.cached` in a reply. Positions count characters (Unicode scalar values).

use std::fmt;

use bowerbird_answer::{Citation, FinishReason, Source, Usage};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// A conversation. Fields that are not listed are taken and not looked at: clients send many.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct ChatBody {
    /// `bowerbird` or the name of the generator, as `/readyz` tells it; another is refused with 404.
    #[serde(default)]
    pub model: Option<String>,
    /// 1 to 64 messages, oldest first; the last is of the user. Of the others only those of the user are read, to
    /// complete a follow-up: how an answer is written does not change with a system message.
    pub messages: Vec<ChatMessage>,
    /// `true` for events `chat.completion.chunk` and then `[DONE]`.
    #[serde(default)]
    pub stream: Option<bool>,
    /// What a stream tells besides.
    #[serde(default)]
    pub stream_options: Option<StreamOptions>,
    /// Replies; only 1 is possible.
    #[serde(default)]
    pub n: Option<u64>,
    /// Restrictions in the query language of search.
    #[serde(default)]
    pub filter: Option<String>,
    /// Most sentences, 1 to 10.
    #[serde(default)]
    pub max_sentences: Option<usize>,
    /// Most time, 1 to 120,000 milliseconds.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// What a stream tells besides.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
pub struct StreamOptions {
    /// Whether a last chunk without choices has the usage.
    #[serde(default)]
    pub include_usage: Option<bool>,
}

/// One message.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct ChatMessage {
    /// Who speaks.
    pub role: ChatRole,
    /// A string, or an array of parts `{"type": "text", "text": …}`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub content: Option<Content>,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChatRole {
    /// Instructions; not used.
    System,
    /// The same under its newer name.
    Developer,
    /// The person who asks.
    User,
    /// Earlier replies; not used.
    Assistant,
    /// Results of tools; not used.
    Tool,
    /// The same under its older name.
    Function,
}

/// The text of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content(pub String);

/// A part of a message.
#[derive(Deserialize)]
struct Part {
    r#type: String,
    #[serde(default)]
    text: Option<String>,
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrParts;
        impl<'de> Visitor<'de> for TextOrParts {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of text parts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Content, E> {
                Ok(Content(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Content, A::Error> {
                let mut texts = Vec::new();
                while let Some(Part { r#type: kind, text }) = parts.next_element()? {
                    match kind.as_str() {
                        "text" | "input_text" | "output_text" => texts.push(text.unwrap_or_default()),
                        "refusal" => {}
                        _ => {
                            let message = format!("a part of type {kind:.40?} is not taken: send text");
                            return Err(de::Error::custom(message));
                        }
                    }
                }
                Ok(Content(texts.join("\n")))
            }
        }
        deserializer.deserialize_any(TextOrParts)
    }
}

/// A reply.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChatCompletion {
    /// Names the reply.
    pub id: String,
    /// `chat.completion`
    pub object: &'static str,
    /// Seconds since 1970.
    pub created: i64,
    /// Who replied.
    pub model: String,
    /// One.
    pub choices: Vec<ChatChoice>,
    /// What it cost.
    pub usage: ChatUsage,
    /// The question as it was searched for: that of the user, completed where it leaned on an earlier one.
    pub search_query: String,
    /// The posts that could be cited.
    pub search_results: Vec<SearchResult>,
    /// What was cited.
    pub citations: Vec<ChatCitation>,
    /// How it ended, in full.
    pub bowerbird: ChatEnd,
}

/// The one choice.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChatChoice {
    /// 0
    pub index: usize,
    /// What was said.
    pub message: ChatReply,
    /// `stop`, also for a refusal (`bowerbird.finish_reason` tells which); `length` when time ran out.
    pub finish_reason: &'static str,
}

/// What was said.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChatReply {
    /// `assistant`
    pub role: &'static str,
    /// Sentences with citation marks, or why there is no answer.
    pub content: String,
    /// One for each citation.
    pub annotations: Vec<Annotation>,
    /// What was cited.
    pub citations: Vec<ChatCitation>,
}

/// Where a span of the reply comes from.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Annotation {
    /// `url_citation`
    pub r#type: &'static str,
    /// The place.
    pub url_citation: UrlCitation,
}

/// A web address for a span of the reply.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct UrlCitation {
    /// The first link of the post; the path of the post on this server when it has none.
    pub url: String,
    /// Author and day.
    pub title: String,
    /// First character of the sentence in the content.
    pub start_index: usize,
    /// One past its last character.
    pub end_index: usize,
}

/// A citation in full.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ChatCitation {
    /// Number of the post in `search_results`.
    pub n: usize,
    /// Id of the post.
    pub post_id: String,
    /// Account that wrote it.
    pub author: String,
    /// Day it was written.
    pub date: String,
    /// Exact part of its text.
    pub quote: String,
    /// First character of the quote in the text of the post.
    pub start: usize,
    /// One past its last character.
    pub end: usize,
    /// First character of the sentence in the content.
    pub answer_start: usize,
    /// One past its last character.
    pub answer_end: usize,
}

impl ChatCitation {
    /// A citation of the sentence at `place`.
    pub fn new(citation: &Citation, (answer_start, answer_end): (usize, usize)) -> Self {
        let Citation { n, post_id, author, created_at, quote, start, end } = citation.clone();
        let date = created_at.strftime("%Y-%m-%d").to_string();
        Self { n, post_id, author, date, quote, start, end, answer_start, answer_end }
    }
}

/// A post that could be cited.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SearchResult {
    /// Number it is cited by.
    pub n: usize,
    /// Id of the post.
    pub post_id: String,
    /// Author and day.
    pub title: String,
    /// The first link of the post; the path of the post on this server when it has none.
    pub url: String,
    /// Account that wrote it.
    pub author: String,
    /// Day it was written.
    pub date: String,
    /// What it says.
    pub text: String,
    /// Score of the search.
    pub score: f32,
}

impl SearchResult {
    /// `source` with the links of its post, which anybody may have written: only those of the web are used.
    pub fn new(source: &Source, links: &[String]) -> Self {
        let is_web = |link: &&String| link.starts_with("http://") || link.starts_with("https://");
        let date = source.created_at.strftime("%Y-%m-%d").to_string();
        Self {
            n: source.n,
            post_id: source.post_id.clone(),
            title: if source.author.is_empty() {
                date.clone()
            } else {
                format!("@{}, {date}", source.author)
            },
            url: links
                .iter()
                .find(is_web)
                .cloned()
                .unwrap_or_else(|| format!("/v1/posts/{}", in_path(&source.post_id))),
            author: source.author.clone(),
            date,
            text: source.text.clone(),
            score: source.score,
        }
    }
}

/// `text` as one segment of a path (RFC 3986, section 2.3).
fn in_path(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let one = |byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}

/// How a reply ended.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ChatEnd {
    /// `stop`, `refused_no_evidence` or `deadline`.
    #[schema(value_type = String)]
    pub finish_reason: FinishReason,
    /// Why there is no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The posts that came nearest, when there is no answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nearest: Vec<NearestPost>,
    /// Stages that failed or were skipped for time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<&'static str>,
    /// What it cost, in sentences and milliseconds.
    #[schema(value_type = Object)]
    pub usage: Usage,
}

/// A post that came near the question.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct NearestPost {
    /// Number of the post in `search_results`.
    pub n: usize,
    /// Id of the post.
    pub post_id: String,
    /// As in `search_results`.
    pub url: String,
    /// Exact part of its text.
    pub quote: String,
    /// Logit of the cross-encoder; absent when it could not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relevance: Option<f32>,
}

/// What a reply cost.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct ChatUsage {
    /// Tokens the generator read.
    pub prompt_tokens: usize,
    /// Tokens it wrote.
    pub completion_tokens: usize,
    /// Both.
    pub total_tokens: usize,
    /// Whether the answer was written for an earlier call: then the numbers are those of that call.
    pub cached: bool,
}

impl From<Usage> for ChatUsage {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.generated_tokens,
            total_tokens: usage.prompt_tokens + usage.generated_tokens,
            cached: usage.cached,
        }
    }
}

/// A piece of a reply.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ChatChunk {
    /// Names the reply.
    pub id: String,
    /// `chat.completion.chunk`
    pub object: &'static str,
    /// Seconds since 1970.
    pub created: i64,
    /// Who replies.
    pub model: String,
    /// One; none in the chunk of the usage.
    pub choices: Vec<ChunkChoice>,
    /// In the last chunk, when it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<ChatUsage>,
    /// In the first chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search_query: Option<String>,
    /// In the first chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search_results: Option<Vec<SearchResult>>,
    /// Those of the sentence in this chunk.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub citations: Vec<ChatCitation>,
    /// In the chunk with the finish reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bowerbird: Option<ChatEnd>,
}

/// The one choice.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ChunkChoice {
    /// 0
    pub index: usize,
    /// What is added.
    pub delta: ChunkDelta,
    /// In the last chunk with a choice.
    pub finish_reason: Option<&'static str>,
}

/// What is added to a reply.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct ChunkDelta {
    /// `assistant`, in the first chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    /// A sentence with its marks and the space before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// One for each citation of that sentence.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<Annotation>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_post_without_a_link_of_the_web_is_named_by_its_path() {
        let source = Source {
            n: 1,
            post_id: "a/b é".into(),
            author: "ann".into(),
            created_at: "2014-10-10T12:00:00Z".parse().expect("a time"),
            text: "text".into(),
            score: 1.0,
        };
        let links = ["javascript:alert(1)".to_owned()];
        let result = SearchResult::new(&source, &links);
        assert_eq!(
            (result.url.as_str(), result.title.as_str()),
            ("/v1/posts/a%2Fb%20%C3%A9", "@ann, 2014-10-10")
        );
        let links = [links[0].clone(), "https://example.org/a".to_owned()];
        assert_eq!(SearchResult::new(&source, &links).url, "https://example.org/a");
    }

    #[test]
    fn content_is_text_in_one_piece_or_several() {
        let read = |json: &str| serde_json::from_str::<ChatMessage>(json).map(|m| m.content.map(|c| c.0));
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(read(r#"{"role":"user","content":"a"}"#).expect("valid"), text("a"));
        assert_eq!(read(r#"{"role":"assistant","content":null,"tool_calls":[]}"#).expect("valid"), None);
        let parts = r#"{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}"#;
        assert_eq!(read(parts).expect("valid"), text("a\nb"));
        let image = r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}"#;
        assert!(read(image).expect_err("no text").to_string().contains("image_url"));
    }
}
