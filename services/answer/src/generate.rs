//! One sentence from the generator.

use std::time::Instant;

use bowerbird_models_api::{Constraint, Finish, GenerateRequest, Generator, Message, ModelError, Piece};
use tokio::time::timeout_at;

use crate::clean::{first_sentence, holds_a_sentence};

/// Most bytes read of one generation; a sentence is far shorter.
const MAX_BYTES: usize = 2_000;

/// What a generation gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Draft {
    /// The sentence, if there was one.
    pub sentence: Option<String>,
    /// Tokens read; an estimate when the generation was stopped early.
    pub prompt_tokens: usize,
    /// Tokens written; pieces received when the generation was stopped early.
    pub generated_tokens: usize,
}

/// Why there is no draft.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DraftError {
    /// The generator failed.
    #[error("generator failed: {0}")]
    Model(#[from] ModelError),
    /// The generator was not done in time.
    #[error("generation was not done in time")]
    Deadline,
    /// The stream ended without `Done` or an error.
    #[error("generation ended without saying so")]
    Incomplete,
}

/// How a sentence is asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wish {
    /// Most tokens.
    pub max_tokens: usize,
    /// 0 is greedy.
    pub temperature: f32,
    /// Seed of a draw.
    pub seed: u64,
    /// The words to use, for generators that can be held to them.
    pub constraint: Option<Constraint>,
}

/// Asks for one sentence and stops the generator as soon as it is whole. Dropping the future stops it as well.
pub(crate) async fn draft(
    generator: &dyn Generator,
    messages: Vec<Message>,
    wish: Wish,
    deadline: Instant,
) -> Result<Draft, DraftError> {
    let prompt_bytes: usize = messages.iter().map(|m| m.content.len()).sum();
    let mut stream = generator.generate(GenerateRequest {
        messages,
        max_tokens: wish.max_tokens,
        stop: vec!["\n".into()],
        temperature: wish.temperature,
        seed: wish.seed,
        deadline,
        constraint: wish.constraint,
    });
    let mut text = String::new();
    let mut pieces = 0;
    loop {
        let piece = timeout_at(deadline.into(), stream.recv()).await.map_err(|_| DraftError::Deadline)?;
        match piece.ok_or(DraftError::Incomplete)?? {
            Piece::Text(more) => {
                text.push_str(&more);
                pieces += 1;
                if holds_a_sentence(&text) || text.len() > MAX_BYTES {
                    let sentence = first_sentence(&text, true);
                    return Ok(Draft { sentence, prompt_tokens: prompt_bytes / 4, generated_tokens: pieces });
                }
            }
            Piece::Done(usage) => {
                if usage.finish == Finish::Deadline {
                    return Err(DraftError::Deadline);
                }
                return Ok(Draft {
                    sentence: first_sentence(&text, usage.finish == Finish::Length),
                    prompt_tokens: usage.prompt_tokens,
                    generated_tokens: usage.generated_tokens,
                });
            }
        }
    }
}
