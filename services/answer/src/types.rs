//! The values that go in and out. Those that clients see derive `Serialize` in the shape clients read.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;

/// A post an answer may cite.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Source {
    /// Number it is cited by, from 1.
    pub n: usize,
    /// Id of the post.
    pub post_id: String,
    /// Account that wrote it.
    pub author: String,
    /// When it was written; RFC 3339 on the wire.
    pub created_at: Timestamp,
    /// What it says.
    pub text: String,
    /// Score of the search that found it; only for display.
    pub score: f32,
}

/// Says of the number of a source whether its post still stands as it was given: false as soon as its deletion or an
/// edit is acknowledged. Asked often, so it must be cheap.
#[derive(Clone)]
pub struct StillThere(pub Arc<dyn Fn(usize) -> bool + Send + Sync>);

impl StillThere {
    /// For posts that cannot change.
    pub fn always() -> Self {
        Self(Arc::new(|_| true))
    }

    /// Whether every post that a sentence cites still stands.
    pub fn holds(&self, citations: &[Citation]) -> bool {
        citations.iter().all(|citation| (self.0)(citation.n))
    }
}

impl fmt::Debug for StillThere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StillThere")
    }
}

/// A question and the posts it may be answered from.
#[derive(Clone, Debug)]
pub struct AnswerRequest {
    /// What was asked.
    pub question: String,
    /// Posts, best first. Numbers must differ.
    pub sources: Vec<Source>,
    /// No sentence is started after this moment.
    pub deadline: Instant,
    /// Most sentences to write; 0 means the configured number.
    pub max_sentences: usize,
    /// Seed handed to the generator.
    pub seed: u64,
    /// Whether a source still stands: a sentence that cites one which does not is not sent.
    pub still_there: StillThere,
}

/// Outcome of the support check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The cited post says it.
    Supported,
    /// The cited post says something near it.
    Partial,
    /// The cited post does not say it.
    Unsupported,
}

impl Verdict {
    /// The name on the wire and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::Partial => "partial",
            Self::Unsupported => "unsupported",
        }
    }
}

/// Who wrote a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The generator, and the check agreed.
    Generated,
    /// The author of the cited post: the text is an exact part of it.
    Extracted,
}

impl Origin {
    /// The name on the wire and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Generated => "generated",
            Self::Extracted => "extracted",
        }
    }
}

/// The passage of a post that supports a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Citation {
    /// Number of the source.
    pub n: usize,
    /// Id of the post.
    pub post_id: String,
    /// Account that wrote the post.
    pub author: String,
    /// When the post was written; RFC 3339 on the wire.
    pub created_at: Timestamp,
    /// Exact part of the text of the post.
    pub quote: String,
    /// First character of the quote in the text of the post, counted in characters (Unicode scalar values).
    pub start: usize,
    /// One past the last character of the quote.
    pub end: usize,
}

/// One checked sentence of an answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sentence {
    /// The sentence, without citation marks; it begins with `lead` when there is one.
    pub text: String,
    /// Words of ours before the claim where posts disagree: that they do, and when the cited one was written. The
    /// check is about what follows them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lead: Option<String>,
    /// Number of the disagreement that this sentence is a side of, from 1; its sides follow one another, newest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflict: Option<usize>,
    /// Its first character in [`Answer::text`], counted in characters (Unicode scalar values).
    pub start: usize,
    /// One past its last character.
    pub end: usize,
    /// What it cites; at least one, each checked.
    pub citations: Vec<Citation>,
    /// Outcome of the check; only supported sentences are sent.
    pub verdict: Verdict,
    /// Probability that the cited post supports the sentence, calibrated on judged pairs of like length; 1 for an
    /// unbroken part of the post.
    pub probability: f32,
    /// Who wrote it.
    pub origin: Origin,
}

impl Sentence {
    /// What the cited post says: the text without the lead.
    pub fn claim(&self) -> &str {
        self.lead.as_deref().and_then(|lead| self.text.strip_prefix(lead)).unwrap_or(&self.text)
    }
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// Everything worth saying was said.
    Stop,
    /// No post says enough about the question; `reason` and `nearest` tell more.
    RefusedNoEvidence,
    /// Time ran out.
    Deadline,
    /// It failed; see [`Answer::error`].
    Error,
}

/// A passage that came closest to the question when nothing came close enough.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Nearest {
    /// Number of the source.
    pub n: usize,
    /// Id of the post.
    pub post_id: String,
    /// Exact part of the text of the post.
    pub quote: String,
    /// Cross-encoder logit of question and quote; absent when the cross-encoder could not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relevance: Option<f32>,
}

/// What an answer cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Sentences sent as the generator wrote them at first.
    pub generated: usize,
    /// Sentences sent as the generator wrote them the second time, because the first failed the check.
    pub regenerated: usize,
    /// Generated sentences that failed the check and were replaced by a quotation.
    pub replaced: usize,
    /// Sentences dropped because they were said already or nothing supported them.
    pub dropped: usize,
    /// Sentences that show posts which disagree; each is a quotation.
    pub conflicting: usize,
    /// Tokens the generator read; estimated at four bytes a token where it was stopped at the end of a sentence.
    pub prompt_tokens: usize,
    /// Tokens the generator wrote; pieces received where it was stopped at the end of a sentence.
    pub generated_tokens: usize,
    /// Milliseconds from the request to the first sentence; absent when there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_sentence_ms: Option<u64>,
    /// Milliseconds from the request to the end.
    pub total_ms: u64,
    /// Whether the answer was written for an earlier call; the other numbers are those of that call.
    pub cached: bool,
}

/// The end of an answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// The same in words, for refusals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What came closest, best first; for refusals.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nearest: Vec<Nearest>,
    /// Stages that failed or were skipped for time: `evidence` (relevance judged by shared words), `generate`
    /// (quotations only), `check` (the cross-encoder gave no opinion, so generated text was not used).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<&'static str>,
    /// What it cost.
    pub usage: Usage,
}

/// What an answer is made of, in order: `Sources`, any number of `Sentence`, then `Done`; or `Error` at any point.
#[derive(Clone, Debug, PartialEq)]
pub enum AnswerEvent {
    /// The posts that may be cited.
    Sources(Vec<Source>),
    /// A checked sentence.
    Sentence(Sentence),
    /// The end.
    Done(Summary),
    /// The end, without an answer.
    Error(AnswerError),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The question is blank.
    #[error("question is blank: ask something")]
    BlankQuestion,
    /// The question is too long.
    #[error("question has {found} bytes, the limit is {limit}: shorten it")]
    QuestionTooLong {
        /// Most bytes.
        limit: usize,
        /// Bytes found.
        found: usize,
    },
    /// Two sources carry one number, so a citation would be ambiguous.
    #[error("source number {n} is given twice: number the sources from 1")]
    DuplicateSource {
        /// The number.
        n: usize,
    },
    /// The answer ended without saying why: the service is stopping.
    #[error("the answer was cut off because the service is stopping")]
    Stopped,
}

/// A whole answer, collected.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// The sentences as one text with citation marks, see [`crate::render()`].
    #[serde(rename = "answer")]
    pub text: String,
    /// The sentences.
    pub sentences: Vec<Sentence>,
    /// The posts that could be cited.
    pub sources: Vec<Source>,
    /// How and why it ended.
    #[serde(flatten)]
    pub summary: Summary,
    /// What went wrong when the finish reason is [`FinishReason::Error`]; callers map it to a status.
    #[serde(skip)]
    pub error: Option<AnswerError>,
}
