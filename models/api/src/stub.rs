//! Small deterministic models for fast routing tests. They rank by shared words and know nothing.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroUsize;

use tokio::sync::mpsc;

use crate::{
    Embedder, Embedding, EmbeddingSpace, Finish, GenerateRequest, GenerationStream, Generator, ModelError,
    PairRead, Piece, RerankLogit, Reranker, TextRead, TextRole, Usage,
};

/// Words that the stubs look at.
pub const STUB_WINDOW: usize = 400;

/// The first `window` words, and how many there are and were left out.
fn head(text: &str, window: usize) -> (String, usize, usize) {
    let all = text.split_whitespace().count();
    let seen = all.min(window);
    (text.split_whitespace().take(seen).collect::<Vec<_>>().join(" "), seen, all - seen)
}

fn words(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_lowercase).collect()
}

/// Feature-hashed bag of words; equal words give nearby vectors.
pub struct StubEmbedder {
    space: EmbeddingSpace,
}

impl StubEmbedder {
    /// Vectors of `dim` components.
    pub fn new(dim: usize) -> Self {
        let space =
            EmbeddingSpace { model: "stub".into(), checksum: "0".into(), dim, pooling: "mean".into() };
        Self { space }
    }
}

impl Embedder for StubEmbedder {
    fn space(&self) -> &EmbeddingSpace {
        &self.space
    }

    fn embed(&mut self, text: &str, _role: TextRole) -> Result<Embedding, ModelError> {
        if text.trim().is_empty() {
            return Err(ModelError::EmptyText);
        }
        let mut values = vec![1e-3; self.space.dim];
        for word in words(text) {
            let mut hasher = DefaultHasher::new();
            word.hash(&mut hasher);
            let hash = hasher.finish();
            let slot = (hash % self.space.dim as u64) as usize;
            values[slot] += if hash >> 63 == 0 { 1.0 } else { -1.0 };
        }
        Embedding::normalized(values)
    }

    fn embed_counted(&mut self, text: &str, role: TextRole) -> Result<(Embedding, TextRead), ModelError> {
        let (text, tokens, dropped) = head(text, STUB_WINDOW);
        Ok((self.embed(&text, role)?, TextRead { tokens, dropped }))
    }
}

/// Logit grows with the share of query words that the passage holds.
pub struct StubReranker;

impl Reranker for StubReranker {
    fn name(&self) -> &'static str {
        "stub"
    }

    fn score(&mut self, query: &str, passage: &str) -> Result<RerankLogit, ModelError> {
        if query.trim().is_empty() || passage.trim().is_empty() {
            return Err(ModelError::EmptyText);
        }
        let (query, passage) = (words(query), words(passage));
        let shared = query.intersection(&passage).count() as f32;
        RerankLogit::new(8.0 * shared / query.len().max(1) as f32 - 4.0)
    }

    fn score_counted(
        &mut self,
        query: &str,
        passage: &str,
        passage_tokens: Option<NonZeroUsize>,
    ) -> Result<(RerankLogit, PairRead), ModelError> {
        let window = passage_tokens.map_or(STUB_WINDOW, |limit| limit.get().min(STUB_WINDOW));
        let (query, query_tokens, query_dropped) = head(query, STUB_WINDOW);
        let (passage, tokens, passage_dropped) = head(passage, window);
        let read = PairRead { tokens: query_tokens + tokens, query_dropped, passage_dropped };
        Ok((self.score(&query, &passage)?, read))
    }
}

/// Says a fixed text, whatever it is asked.
pub struct StubGenerator {
    text: String,
}

impl StubGenerator {
    /// A generator that always says `text`, word by word.
    pub fn saying(text: &str) -> Self {
        Self { text: text.into() }
    }
}

impl Generator for StubGenerator {
    fn name(&self) -> &'static str {
        "stub"
    }

    fn generate(&self, request: GenerateRequest) -> GenerationStream {
        let (sender, receiver) = mpsc::channel(16);
        let pieces: Vec<String> =
            self.text.split_inclusive(' ').take(request.max_tokens).map(str::to_owned).collect();
        tokio::spawn(async move {
            let generated_tokens = pieces.len();
            for piece in pieces {
                if sender.send(Ok(Piece::Text(piece))).await.is_err() {
                    return;
                }
            }
            let usage = Usage { prompt_tokens: 0, generated_tokens, finish: Finish::Stop };
            let _ = sender.send(Ok(Piece::Done(usage))).await;
        });
        receiver
    }
}
