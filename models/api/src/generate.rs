//! A conversation to text, piece by piece.

use std::time::Instant;

use tokio::sync::mpsc;

use crate::ModelError;

/// Who speaks in a [`Message`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions of the operator.
    System,
    /// The person, or text quoted on their behalf.
    User,
    /// The model's own earlier words.
    Assistant,
}

/// One turn of the conversation a generator continues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said. Control tokens of a chat template inside it are plain text to every generator.
    pub content: String,
}

/// The words that a generation may be made of.
///
/// The text is then a sequence of [`words`](Self::words), each exactly as it is spelled here, parted by one space; after
/// a word at most one of [`marks`](Self::marks) stands. A word is never put together from parts of others. A
/// generation that ends for its length may end inside a word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Constraint {
    /// Allowed words, without white space; blank ones are ignored. Order and repetition mean nothing.
    pub words: Vec<String>,
    /// Characters of which one may follow a word, such as `.,;:!?`.
    pub marks: String,
}

/// What to generate and when to stop.
#[derive(Clone, Debug)]
pub struct GenerateRequest {
    /// The conversation so far; the generator writes the next assistant turn.
    pub messages: Vec<Message>,
    /// Most tokens to generate.
    pub max_tokens: usize,
    /// Generation ends before the first of these strings; it is not part of the text.
    pub stop: Vec<String>,
    /// 0 is greedy; otherwise the softmax temperature.
    pub temperature: f32,
    /// Seed of every random choice.
    pub seed: u64,
    /// No token is started after this moment.
    pub deadline: Instant,
    /// Restricts the text to some words. A wish, not a promise: a generator that cannot look into its model, such as a
    /// server behind HTTP, ignores it, and whoever asks has to check the text all the same.
    pub constraint: Option<Constraint>,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended its turn, or a stop string came.
    Stop,
    /// `max_tokens` or the context window was reached.
    Length,
    /// The deadline passed.
    Deadline,
}

/// What a generation cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Tokens read.
    pub prompt_tokens: usize,
    /// Tokens written.
    pub generated_tokens: usize,
    /// Why it ended.
    pub finish: Finish,
}

/// One message of a [`GenerationStream`]: any number of `Text`, then one `Done`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text to append; whole characters only.
    Text(String),
    /// The end, with what it cost.
    Done(Usage),
}

/// Pieces as they are generated. An error is the last message. Dropping the stream stops the work within one
/// token.
pub type GenerationStream = mpsc::Receiver<Result<Piece, ModelError>>;

/// A model that continues a conversation.
pub trait Generator: Send + Sync {
    /// Name for reports, such as the catalog entry or the remote model.
    fn name(&self) -> &str;

    /// Starts a generation; returns at once. Must be called within a tokio runtime.
    fn generate(&self, request: GenerateRequest) -> GenerationStream;
}
