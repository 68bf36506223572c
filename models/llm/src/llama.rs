//! The forward pass of a llama model: tokens in, the logits of the next token out.
//!
//! Weights come from a GGUF file of any quantisation and are held in 8 bits. The state of a conversation is a
//! [`KvCache`] that can be cut back to any length, so that a prompt that begins like the one before is not read
//! again. Results are the same bit for bit whatever was reused, however the prompt was cut, and on any number of
//! threads. Work is spread over the current rayon pool.
//!
//! Architecture: arXiv:2302.13971, with grouped-query attention (arXiv:2305.13245).

use rayon::prelude::*;

use crate::LlmError;
use crate::gguf::GgufFile;
use crate::kernel::{Attended, Kernel};
use crate::matrix::{Matrix, Quantized};
use crate::sizes::Sizes;

struct Layer {
    attention_norm: Vec<f32>,
    /// Rows of the query, then of the key, then of the value projection.
    query_key_value: Matrix,
    attention_output: Matrix,
    feed_forward_norm: Vec<f32>,
    /// Rows of the gate, then of the up projection.
    gate_up: Matrix,
    down: Matrix,
}

/// A model in memory.
pub(crate) struct Llama {
    pub(crate) sizes: Sizes,
    kernel: Kernel,
    embeddings: Matrix,
    layers: Vec<Layer>,
    final_norm: Vec<f32>,
    /// Absent when the embeddings serve as the output matrix too.
    output: Option<Matrix>,
}

/// Keys and values of the tokens read so far, in f32: `layers * 2 * kv_heads * head_dim` numbers a token.
#[derive(Default)]
pub(crate) struct KvCache {
    tokens: Vec<u32>,
    layers: Vec<(Vec<f32>, Vec<f32>)>,
}

impl KvCache {
    /// How many tokens of `prompt` are already here, after forgetting everything that does not begin it. At least
    /// one token is left to read, since its logits are wanted.
    pub(crate) fn keep_prefix(&mut self, prompt: &[u32], sizes: &Sizes) -> usize {
        let common = self.tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        let keep = common.min(prompt.len().saturating_sub(1));
        self.tokens.truncate(keep);
        let width = sizes.kv_heads * sizes.head_dim;
        for (keys, values) in &mut self.layers {
            keys.truncate(keep * width);
            values.truncate(keep * width);
        }
        keep
    }

    /// Number of tokens read.
    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }
}

impl Llama {
    /// Reads all weights.
    pub(crate) fn from_gguf(gguf: &mut GgufFile) -> Result<Self, LlmError> {
        let sizes = Sizes::from_gguf(gguf)?;
        let (dim, feed_forward) = (sizes.dim, sizes.feed_forward);
        let kv_dim = sizes.kv_heads * sizes.head_dim;
        let mut layers = Vec::with_capacity(sizes.layers);
        for i in 0..sizes.layers {
            let name = |part: &str| format!("blk.{i}.{part}.weight");
            layers.push(Layer {
                attention_norm: gguf.vector(&name("attn_norm"), dim)?,
                query_key_value: stacked(
                    gguf,
                    dim,
                    &[(name("attn_q"), dim), (name("attn_k"), kv_dim), (name("attn_v"), kv_dim)],
                )?,
                attention_output: stacked(gguf, dim, &[(name("attn_output"), dim)])?,
                feed_forward_norm: gguf.vector(&name("ffn_norm"), dim)?,
                gate_up: stacked(
                    gguf,
                    dim,
                    &[(name("ffn_gate"), feed_forward), (name("ffn_up"), feed_forward)],
                )?,
                down: stacked(gguf, feed_forward, &[(name("ffn_down"), dim)])?,
            });
        }
        let output = if gguf.content.tensor_infos.contains_key("output.weight") {
            Some(stacked(gguf, dim, &[("output.weight".to_owned(), sizes.vocabulary)])?)
        } else {
            None
        };
        Ok(Self {
            sizes,
            kernel: Kernel::detect(),
            embeddings: stacked(gguf, dim, &[("token_embd.weight".to_owned(), sizes.vocabulary)])?,
            layers,
            final_norm: gguf.vector("output_norm.weight", dim)?,
            output,
        })
    }

    /// Name of the instruction set in use, for reports.
    pub(crate) fn kernel_name(&self) -> &'static str {
        self.kernel.name()
    }

    /// Reads `tokens` after those in `cache`. Returns the logits of the token that follows, `[vocabulary]`.
    ///
    /// Every token must be in the vocabulary; memory grows with `tokens.len()`, so long prompts are read in parts.
    pub(crate) fn read(&self, tokens: &[u32], cache: &mut KvCache) -> Vec<f32> {
        let Sizes { dim, head_dim, heads, kv_heads, feed_forward, .. } = self.sizes;
        let kv_dim = kv_heads * head_dim;
        let first = cache.len();
        cache.layers.resize_with(self.layers.len(), Default::default);
        let angles = self.angles(first, tokens.len());
        let mut state = vec![0.0; tokens.len() * dim];
        for (&token, row) in tokens.iter().zip(state.chunks_exact_mut(dim)) {
            self.embeddings.row(token as usize, row);
        }
        let (mut normed, mut quantized) = (Vec::new(), Quantized::default());
        let (mut wide, mut narrow) = (Vec::new(), Vec::new());
        let mut attended = vec![0.0; state.len()];
        let mut activated = vec![0.0; tokens.len() * feed_forward];
        for (layer, (keys, values)) in self.layers.iter().zip(&mut cache.layers) {
            self.rms_norm(&state, &layer.attention_norm, &mut normed);
            quantized.set(&normed);
            layer.query_key_value.product(self.kernel, &quantized, &mut wide);
            for (row, angles) in
                wide.chunks_exact_mut(dim + 2 * kv_dim).zip(angles.chunks_exact(head_dim / 2))
            {
                rotate(&mut row[..dim + kv_dim], angles);
                keys.extend_from_slice(&row[dim..dim + kv_dim]);
                values.extend_from_slice(&row[dim + kv_dim..]);
            }
            let (keys, values) = (keys.as_slice(), values.as_slice());
            attended
                .par_chunks_mut(head_dim)
                .with_min_len((50_000 / ((first + tokens.len()) * head_dim)).max(1))
                .enumerate()
                .for_each_init(Vec::new, |scores, (i, out)| {
                    let (row, head) = (i / heads, i % heads);
                    let begin = row * (dim + 2 * kv_dim) + head * head_dim;
                    let seen = Attended {
                        keys,
                        values,
                        stride: kv_dim,
                        offset: head / (heads / kv_heads) * head_dim,
                        positions: first + row + 1,
                        scale: 1.0 / (head_dim as f32).sqrt(),
                    };
                    self.kernel.attend(&wide[begin..begin + head_dim], seen, scores, out);
                });
            quantized.set(&attended);
            layer.attention_output.product(self.kernel, &quantized, &mut narrow);
            add(&mut state, &narrow);

            self.rms_norm(&state, &layer.feed_forward_norm, &mut normed);
            quantized.set(&normed);
            layer.gate_up.product(self.kernel, &quantized, &mut wide);
            activated.par_chunks_mut(feed_forward).zip(wide.par_chunks(2 * feed_forward)).for_each(
                |(out, wide)| {
                    let (gate, up) = wide.split_at(feed_forward);
                    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                        *out = gate / (1.0 + (-gate).exp()) * up;
                    }
                },
            );
            quantized.set(&activated);
            layer.down.product(self.kernel, &quantized, &mut narrow);
            add(&mut state, &narrow);
        }
        cache.tokens.extend_from_slice(tokens);
        let last = &state[state.len().saturating_sub(dim)..];
        self.rms_norm(last, &self.final_norm, &mut normed);
        quantized.set(&normed);
        let mut logits = Vec::new();
        self.output.as_ref().unwrap_or(&self.embeddings).product(self.kernel, &quantized, &mut logits);
        logits
    }

    /// `x / sqrt(mean(x^2) + epsilon) * weight`, row by row. Source: arXiv:1910.07467.
    fn rms_norm(&self, rows: &[f32], weight: &[f32], out: &mut Vec<f32>) {
        out.clear();
        for row in rows.chunks_exact(weight.len()) {
            let square: f32 = row.iter().map(|v| v * v).sum();
            let factor = 1.0 / (square / row.len() as f32 + self.sizes.rms_epsilon).sqrt();
            out.extend(row.iter().zip(weight).map(|(v, w)| v * factor * w));
        }
    }

    /// Sine and cosine of each rotation of `count` positions from `first`: `position * base^(-2i / head_dim)`.
    /// Source: arXiv:2104.09864.
    fn angles(&self, first: usize, count: usize) -> Vec<(f32, f32)> {
        let half = self.sizes.head_dim / 2;
        (first..first + count)
            .flat_map(|position| (0..half).map(move |i| (position, i)))
            .map(|(position, i)| {
                let frequency = f64::from(self.sizes.rope_base).powf(-(i as f64) / half as f64);
                let (sin, cos) = (position as f64 * frequency).sin_cos();
                (sin as f32, cos as f32)
            })
            .collect()
    }
}

/// Rotates each head of `row` by `angles`. GGUF stores llama weights so that neighbouring values are a pair.
fn rotate(row: &mut [f32], angles: &[(f32, f32)]) {
    for head in row.chunks_exact_mut(2 * angles.len()) {
        for (pair, (sin, cos)) in head.as_chunks_mut::<2>().0.iter_mut().zip(angles) {
            let [a, b] = *pair;
            *pair = [a * cos - b * sin, a * sin + b * cos];
        }
    }
}

fn add(state: &mut [f32], change: &[f32]) {
    for (state, change) in state.iter_mut().zip(change) {
        *state += change;
    }
}

/// Tensors of `cols` columns, one below the other.
fn stacked(gguf: &mut GgufFile, cols: usize, parts: &[(String, usize)]) -> Result<Matrix, LlmError> {
    let mut matrix = Matrix::with_capacity(parts.iter().map(|(_, rows)| rows).sum(), cols);
    for (name, rows) in parts {
        gguf.each_rows(name, (*rows, cols), |values| matrix.extend(values))?;
    }
    Ok(matrix)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use candle_core::quantized::gguf_file::{self, Content, Value};
    use candle_core::quantized::{GgmlDType, QTensor};
    use candle_core::{Device, Tensor};
    use candle_transformers::models::quantized_llama::ModelWeights;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::real_model;
    use crate::tokenizer::ChatTokenizer;

    fn model() -> Option<Llama> {
        let mut gguf = GgufFile::open(&real_model::path()?).expect("opens");
        Some(Llama::from_gguf(&mut gguf).expect("loads"))
    }

    fn prompt(n: u32) -> Vec<u32> {
        (0..n).map(|i| 20 + i * 7919 % 40_000).collect()
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    /// A llama of random weights with two layers, four heads and two key-value heads, every tensor in f32.
    fn random_model(path: &Path) {
        let mut rng = StdRng::seed_from_u64(5);
        let mut tensors = Vec::new();
        let mut tensor = |name: String, rows: usize, cols: usize, around: f32| {
            // Multiples of 2^-9 up to 127 of them, which are exact in 8 bits.
            let mut value = |i: usize| if i.is_multiple_of(32) { 127 } else { rng.random_range(-127..=127) };
            let values: Vec<f32> = (0..rows * cols).map(|i| around + value(i) as f32 / 512.0).collect();
            let shape = if rows == 1 { vec![cols] } else { vec![rows, cols] };
            let values = Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor");
            tensors.push((name, QTensor::quantize(&values, GgmlDType::F32).expect("kept as it is")));
        };
        tensor("token_embd.weight".into(), 100, 64, 0.0);
        tensor("output.weight".into(), 100, 64, 0.0);
        tensor("output_norm.weight".into(), 1, 64, 1.0);
        for layer in 0..2 {
            for (name, rows, cols, around) in [
                ("attn_norm", 1, 64, 1.0),
                ("attn_q", 64, 64, 0.0),
                ("attn_k", 32, 64, 0.0),
                ("attn_v", 32, 64, 0.0),
                ("attn_output", 64, 64, 0.0),
                ("ffn_norm", 1, 64, 1.0),
                ("ffn_gate", 96, 64, 0.0),
                ("ffn_up", 96, 64, 0.0),
                ("ffn_down", 64, 96, 0.0),
            ] {
                tensor(format!("blk.{layer}.{name}.weight"), rows, cols, around);
            }
        }
        let number = |n: u32| Value::U32(n);
        let metadata = [
            ("general.architecture", Value::String("llama".into())),
            ("llama.block_count", number(2)),
            ("llama.context_length", number(128)),
            ("llama.embedding_length", number(64)),
            ("llama.feed_forward_length", number(96)),
            ("llama.attention.head_count", number(4)),
            ("llama.attention.head_count_kv", number(2)),
            ("llama.rope.dimension_count", number(16)),
            ("llama.rope.freq_base", Value::F32(500.0)),
            ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ];
        let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
        let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, t)| (name.as_str(), t)).collect();
        let mut file = std::fs::File::create(path).expect("created");
        gguf_file::write(&mut file, &metadata, &tensors).expect("written");
    }

    fn other(path: &Path) -> ModelWeights {
        let mut file = std::fs::File::open(path).expect("opens");
        let content = Content::read(&mut file).expect("a header");
        ModelWeights::from_gguf(content, &mut file, &Device::Cpu).expect("loads")
    }

    fn other_logits(model: &mut ModelWeights, tokens: &[u32], position: usize) -> Vec<f32> {
        let input = Tensor::new(tokens, &Device::Cpu).and_then(|t| t.unsqueeze(0)).expect("a tensor");
        model.forward(&input, position).and_then(|t| t.squeeze(0)?.to_vec1::<f32>()).expect("runs")
    }

    /// The other implementation computes in f32; the activations have 8 bits here.
    #[test]
    fn a_random_model_agrees_with_an_independent_implementation() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("random.gguf");
        random_model(&path);
        let model = Llama::from_gguf(&mut GgufFile::open(&path).expect("opens")).expect("loads");
        let mut other = other(&path);
        let tokens: Vec<u32> = (0..30).map(|i| i * 37 % 100).collect();
        let mut cache = KvCache::default();
        for part in [&tokens[..20], &tokens[20..21], &tokens[21..]] {
            let expected = other_logits(&mut other, part, cache.len());
            let found = model.read(part, &mut cache);
            let square = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>();
            let error = square(&mut expected.iter().zip(&found).map(|(a, b)| a - b))
                / square(&mut expected.iter().copied());
            assert!(error < 1.5e-3, "relative squared error {error} after {} tokens", cache.len());
        }
    }

    #[test]
    fn logits_agree_with_an_independent_implementation() {
        let Some(path) = real_model::path() else { return };
        let cache = tempfile::tempdir().expect("a directory");
        // Both read the same 8-bit weights, so that only the arithmetic differs. Against f32 arithmetic the mean
        // divergence over this text is 0.0032 nats here and 0.0064 there.
        let path = crate::ensure_q8_0(&path, cache.path()).expect("converts");
        let mut gguf = GgufFile::open(&path).expect("opens");
        let tokenizer = ChatTokenizer::from_gguf(&gguf).expect("builds");
        let model = Llama::from_gguf(&mut gguf).expect("loads");
        let mut other = other(&path);
        let text = "The old bridge across the river was closed in March, and the new one opens on Monday at";
        let tokens = tokenizer.encode(text).expect("encodes");
        let mut cache = KvCache::default();
        let mut position = 0;
        for part in [&tokens[..12], &tokens[12..13], &tokens[13..]] {
            let expected = other_logits(&mut other, part, position);
            position += part.len();
            let found = model.read(part, &mut cache);
            assert_eq!(cache.len(), position);
            let (p, q) = (softmax(&expected), softmax(&found));
            let divergence: f64 = p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum();
            assert!(divergence.abs() < 0.05, "{divergence} nats after {position} tokens");
        }
    }

    fn softmax(logits: &[f32]) -> Vec<f64> {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights: Vec<f64> = logits.iter().map(|l| f64::from(l - largest).exp()).collect();
        let total: f64 = weights.iter().sum();
        weights.iter().map(|w| w / total).collect()
    }

    #[test]
    fn a_reused_prefix_changes_no_bit() {
        let Some(model) = model() else { return };
        let tokens = prompt(24);
        let mut fresh = KvCache::default();
        let expected = model.read(&tokens, &mut fresh);
        let mut reused = KvCache::default();
        model.read(&tokens[..10], &mut reused);
        for &token in &tokens[10..15] {
            model.read(&[token], &mut reused);
        }
        model.read(&[5, 6, 7], &mut reused);
        let kept = reused.keep_prefix(&tokens, &model.sizes);
        assert_eq!(kept, 15, "three tokens differ");
        assert_eq!(bits(&model.read(&tokens[kept..], &mut reused)), bits(&expected));
        assert_eq!(reused.keep_prefix(&tokens, &model.sizes), 23, "the last token is read again");
        assert_eq!(bits(&model.read(&tokens[23..], &mut reused)), bits(&expected));
        assert_eq!(reused.keep_prefix(&[], &model.sizes), 0);
    }
}
