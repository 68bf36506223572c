//! The sizes of a llama model and what is accepted of them.

use crate::LlmError;
use crate::gguf::GgufFile;
use crate::kernel::BLOCK;

/// Sizes of a model, as its GGUF header states them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) dim: usize,
    pub(crate) feed_forward: usize,
    pub(crate) vocabulary: usize,
    /// Longest sequence the model was trained for, in tokens.
    pub(crate) context: usize,
    pub(crate) rms_epsilon: f32,
    pub(crate) rope_base: f32,
}

impl Sizes {
    /// Reads and checks the sizes of `gguf`.
    pub(crate) fn from_gguf(gguf: &GgufFile) -> Result<Self, LlmError> {
        let architecture = gguf.text("general.architecture")?;
        if architecture != "llama" {
            return Err(LlmError::Unsupported {
                path: gguf.path.clone(),
                what: "architecture",
                expected: "llama".to_owned(),
                found: architecture.to_owned(),
            });
        }
        let bounded = |key: &str, limit: usize| {
            let found = gguf.integer(key)?;
            if (1..=limit).contains(&found) {
                return Ok(found);
            }
            Err(gguf.metadata_error(key, &format!("it is {found}, expected 1 to {limit}")))
        };
        let heads = bounded("llama.attention.head_count", 256)?;
        let dim = bounded("llama.embedding_length", 1 << 14)?;
        let sizes = Self {
            layers: bounded("llama.block_count", 256)?,
            heads,
            kv_heads: bounded("llama.attention.head_count_kv", heads)?,
            head_dim: dim / heads,
            dim,
            feed_forward: bounded("llama.feed_forward_length", 1 << 17)?,
            vocabulary: gguf.shape("token_embd.weight")?.0,
            context: bounded("llama.context_length", 1 << 24)?,
            rms_epsilon: gguf.number("llama.attention.layer_norm_rms_epsilon")?,
            rope_base: if gguf.has("llama.rope.freq_base") {
                gguf.number("llama.rope.freq_base")?
            } else {
                1e4
            },
        };
        let rotated = bounded("llama.rope.dimension_count", 1 << 14)?;
        let fits = dim.is_multiple_of(heads)
            && heads.is_multiple_of(sizes.kv_heads)
            && rotated == sizes.head_dim
            && sizes.head_dim.is_multiple_of(2)
            && dim.is_multiple_of(BLOCK)
            && sizes.feed_forward.is_multiple_of(BLOCK)
            && sizes.rms_epsilon >= 0.0
            && sizes.rope_base > 0.0;
        if !fits {
            return Err(LlmError::Unsupported {
                path: gguf.path.clone(),
                what: "a combination of sizes",
                expected: format!(
                    "heads that divide the dimension, whole-head rotation and multiples of {BLOCK}"
                ),
                found: format!("{sizes:?} with {rotated} rotated dimensions"),
            });
        }
        if gguf.has("llama.expert_count") && gguf.integer("llama.expert_count")? > 1 {
            return Err(LlmError::Unsupported {
                path: gguf.path.clone(),
                what: "layers",
                expected: "dense".to_owned(),
                found: "mixture of experts".to_owned(),
            });
        }
        Ok(sizes)
    }
}
