//! Evidence to a verified answer: select, restate, check, cite, refuse.
//!
//! An [`Answerer`] takes a question and the posts a search found for it. It cuts the posts into sentences, keeps the
//! few that have to do with the question, has a generator restate them one by one, and checks every sentence against
//! the post it cites *before* it is sent. A sentence that fails is asked for once more, then replaced by an exact
//! quotation. Posts that contradict each other are quoted side by side. When no post says enough about the question, the
//! answer is a refusal with the reason and what came nearest.
//!
//! Posts are untrusted text: they go to the generator as quoted data, and whatever an injected instruction makes it
//! write has to be supported by the cited post like any other sentence.
//!
//! The crate knows no index, no HTTP and no ads. It writes these metrics:
//! `bowerbird_answer_sentences_total{origin,verdict}` (sentences checked; only supported ones are sent),
//! `bowerbird_answer_outcomes_total{outcome}` (`generated`, `regenerated`, `replaced`, `conflicting`, `dropped`, as in
//! [`Usage`]), `bowerbird_answer_rejections_total{reason}`, `bowerbird_answer_refusals_total` and
//! `bowerbird_answer_first_sentence_seconds`.

mod check;
mod clean;
mod compose;
mod config;
mod conflict;
mod evidence;
mod facts;
mod generate;
mod injection;
mod markup;
mod progress;
mod prompt;
mod quantities;
mod render;
mod restate;
mod sentences;
pub mod support;
mod text;
mod types;
mod vocabulary;

pub use check::{Limits, Reason, Support, check};
pub use compose::{Answerer, MAX_QUESTION_BYTES, MAX_SENTENCES, collect};
pub use config::{AnswerConfig, InvalidConfig};
pub use prompt::PROMPT_VERSION;
pub use render::{Placer, marks, render};
pub use types::{
    Answer, AnswerError, AnswerEvent, AnswerRequest, Citation, FinishReason, Nearest, Origin, Sentence,
    Source, StillThere, Summary, Usage, Verdict,
};
