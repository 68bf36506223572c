//! The embedder and the reranker over ONNX Runtime.
//!
//! [`Runtime`] loads the shared library of ONNX Runtime once per process; [`OnnxEmbedder`] and [`OnnxReranker`] own
//! one session each and run one item per call, because the dynamically quantised graphs take one activation scale
//! over a whole batch: batched, a score would depend on its batch mates. One session per worker thread, with one
//! thread inside, was the fastest arrangement measured on CPU. Float graphs, which [`convert`] makes of the quantised
//! ones, run many items per call on a GPU.
//!
//! This crate knows no catalog, no queue and no post: paths and text in, vectors and logits out.

pub mod convert;
mod embedder;
mod error;
mod gpu;
mod graph;
mod library;
mod proto;
mod providers;
mod reranker;
mod rows;
mod runtime;
mod tokens;

#[cfg(test)]
mod testing;

pub use embedder::{EmbedderSpec, OnnxEmbedder, Pooling};
pub use error::OnnxError;
pub use providers::{Provider, ProviderRequest, Providers, SessionOptions};
pub use reranker::{OnnxReranker, RerankerSpec};
pub use runtime::Runtime;

use std::path::PathBuf;

/// Where a model lies on disk.
#[derive(Clone, Debug)]
pub struct ModelFiles {
    /// The ONNX graph.
    pub model: PathBuf,
    /// The `tokenizer.json` of the same model.
    pub tokenizer: PathBuf,
    /// SHA-256 of the graph, hexadecimal; it becomes part of the identity of the vector space. It is taken as given:
    /// whoever names the files has verified them.
    pub checksum: String,
}
