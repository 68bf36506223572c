//! Generators: a llama model embedded in the process, and any server that speaks OpenAI's chat completions.
//!
//! [`EmbeddedGenerator`] reads a GGUF file (SmolLM2 and its kin) and runs it on its own threads; candle parses the
//! file and decodes its quantisations. [`RemoteGenerator`] asks a server over HTTP. Both keep the rules of
//! [`Generator`](bowerbird_models_api::Generator): text in whole characters, stop strings never shown, deadlines
//! and dropped streams end the work. This crate knows no posts, no queries and no prompts.

mod assemble;
mod breaker;
mod constrain;
mod embedded;
mod error;
mod gguf;
mod kernel;
mod llama;
mod matrix;
mod metrics;
mod remote;
mod remote_config;
mod requantize;
mod sample;
mod sizes;
mod tokenizer;
mod wire;

#[cfg(test)]
mod real_model;

pub use embedded::{EmbeddedConfig, EmbeddedGenerator, EmbeddedStats};
pub use error::LlmError;
pub use metrics::describe_metrics;
pub use remote::RemoteGenerator;
pub use remote_config::RemoteConfig;
pub use requantize::{ensure_q8_0, requantize_q8_0};
