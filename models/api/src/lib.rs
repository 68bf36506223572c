//! What a model is to the rest of Bowerbird: text and numbers in, numbers and text out.
//!
//! Three traits ([`Embedder`], [`Reranker`], [`Generator`]) and the plain values they exchange. Models know no
//! posts, no queries and no ads. An implementation is checked by the functions in [`contract`] (feature
//! `testing`), which every one of them runs.

mod embedding;
mod generate;
mod rerank;

use std::time::Duration;

#[cfg(any(test, feature = "testing"))]
pub mod contract;
#[cfg(any(test, feature = "testing"))]
pub mod stub;

pub use embedding::{Embedder, Embedding, EmbeddingSpace, TextRead, TextRole};
pub use generate::{
    Constraint, Finish, GenerateRequest, GenerationStream, Generator, Message, Piece, Role, Usage,
};
pub use rerank::{Pair, PairRead, RerankLogit, Reranker};

/// Lengths in tokens that the rows of a batch are padded to, rising. Few, so that a device meets each shape often.
pub const BATCH_LENGTHS: [usize; 7] = [16, 32, 64, 128, 192, 256, 512];
/// Most tokens of a batch, padding counted: 128 rows of 128, past which a GPU gains little.
pub const BATCH_TOKENS: usize = 16_384;
/// Most rows of a batch.
pub const BATCH_ROWS: usize = 256;

/// What can go wrong between a caller and a model.
///
/// The first two are mistakes of the caller, [`ModelError::Overloaded`] is a matter of time, the others are faults of
/// the model or of the machine.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The text is empty or only white space.
    #[error("text is empty: give at least one visible character")]
    EmptyText,
    /// The text is longer than a model accepts even after truncation rules were applied.
    #[error("text has {found} bytes, the limit is {limit}: shorten or split it")]
    TextTooLong {
        /// Largest accepted size in bytes.
        limit: usize,
        /// Size of the text in bytes.
        found: usize,
    },
    /// The model returned a vector of another length than it declares.
    #[error(
        "model returned {found} dimensions, expected {expected}: the model file is not the one configured"
    )]
    DimensionMismatch {
        /// Dimensions the embedding space declares.
        expected: usize,
        /// Dimensions of the vector that came out.
        found: usize,
    },
    /// The model returned NaN, an infinity, or a vector of length zero.
    #[error("model returned a value that is not finite: check the model file with `bowerbird models verify`")]
    NotFinite,
    /// Too much waits for the model already: try again later.
    #[error("model {model} is busy: {waiting} requests wait already, try again later")]
    Overloaded {
        /// Name of the model.
        model: String,
        /// Requests in progress or waiting.
        waiting: usize,
        /// When to try again, if the model knows.
        retry_after: Option<Duration>,
    },
    /// The model or its runtime failed.
    #[error("model {model} failed: {message}")]
    Failed {
        /// Name of the model.
        model: String,
        /// What the runtime said.
        message: String,
    },
    /// A remote model server could not be reached or refused.
    #[error("model server {url} is unavailable: {message}")]
    Unavailable {
        /// Address of the server, without credentials.
        url: String,
        /// What went wrong.
        message: String,
    },
}
