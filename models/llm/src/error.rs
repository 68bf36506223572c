use std::path::PathBuf;

/// What can go wrong while a generator is set up. Failures of one generation are `ModelError`s.
#[derive(Debug, thiserror::Error)]
pub enum LlmError {
    /// A model file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A model file could not be written.
    #[error("cannot write {}: {source}: the model cache needs a writable directory with room for it", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not a GGUF file, or its header contradicts its size.
    #[error("{} is not a readable GGUF model: {message}; fetch it again with `bowerbird models fetch`", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        message: String,
    },
    /// The header lacks a value that the model needs.
    #[error("{} has no usable metadata value {key}: {message}; use a GGUF file of a llama model", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// Name of the value.
        key: String,
        /// What was expected and what was found.
        message: String,
    },
    /// A tensor that the architecture needs is absent or has another shape.
    #[error("{} has no usable tensor {name}: {message}; fetch the model again with `bowerbird models fetch`", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
        /// What was expected and what was found.
        message: String,
    },
    /// The file holds a model of a kind that is not implemented.
    #[error("{} holds {what} {found}, supported is {expected}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What is not supported, such as `architecture`.
        what: &'static str,
        /// What is supported.
        expected: String,
        /// What the file holds.
        found: String,
    },
    /// The tokenizer inside the file cannot be built.
    #[error("{} has an unusable tokenizer: {message}; fetch the model again with `bowerbird models fetch`", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A configured value is out of range.
    #[error("{field} is {found}, expected {expected}")]
    Config {
        /// Name of the field.
        field: &'static str,
        /// What is accepted.
        expected: String,
        /// What was given; never a credential.
        found: String,
    },
    /// The generator's threads could not be started.
    #[error("cannot start {threads} generator threads: {message}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What the system said.
        message: String,
    },
    /// The HTTP client could not be built.
    #[error("cannot set up the HTTP client: {message}")]
    Client {
        /// What the client said.
        message: String,
    },
}
