//! Why a runtime or a model cannot be loaded, with the remedy.

use std::path::PathBuf;

/// Failures of loading. Failures of running a loaded model are [`bowerbird_models_api::ModelError`].
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// The shared library is missing, damaged, too old or not ONNX Runtime.
    #[error(
        "cannot load ONNX Runtime from {}: {message}: fetch it with `bowerbird models fetch`, or give the path of a \
         libonnxruntime of version 1.24 or later", path.display()
    )]
    Library {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A process can hold one ONNX Runtime.
    #[error(
        "ONNX Runtime is already loaded from {}, cannot also load {}: restart with one of them",
        loaded.display(), asked.display()
    )]
    AlreadyLoaded {
        /// The library in use.
        loaded: PathBuf,
        /// The one asked for.
        asked: PathBuf,
    },
    /// The graph does not load or is not the kind of model expected.
    #[error("model file {} is not usable: {message}: check it with `bowerbird models verify`", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The tokenizer does not load or lacks a special token.
    #[error("tokenizer file {} is not usable: {message}: check it with `bowerbird models verify`", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The vectors of the graph have another length than configured.
    #[error("model file {} gives vectors of {found} dimensions, expected {expected}: it is not the model configured", path.display())]
    Dimensions {
        /// The file.
        path: PathBuf,
        /// Dimensions configured.
        expected: usize,
        /// Dimensions of the graph's output.
        found: usize,
    },
    /// A GPU is required and cannot be used.
    #[error(
        "a GPU is required and cannot be used: {message}: put libonnxruntime of the onnxruntime-gpu package, its \
         provider libraries and the CUDA libraries in place, or unset `require_gpu`"
    )]
    GpuUnavailable {
        /// What the runtime said, such as the library that is missing.
        message: String,
    },
    /// Numbers that contradict each other.
    #[error("settings of model {model} cannot be used: {message}")]
    Spec {
        /// The model.
        model: String,
        /// The contradiction.
        message: String,
    },
}
