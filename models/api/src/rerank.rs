//! A query and a passage to one number.

use std::num::NonZeroUsize;

use crate::ModelError;

/// Raw cross-encoder output: unbounded, finite, larger is more relevant.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct RerankLogit(f32);

impl RerankLogit {
    /// Wraps a finite logit; NaN and infinities are [`ModelError::NotFinite`].
    pub fn new(value: f32) -> Result<Self, ModelError> {
        if value.is_finite() { Ok(Self(value)) } else { Err(ModelError::NotFinite) }
    }

    /// The logit.
    pub fn get(self) -> f32 {
        self.0
    }

    /// The logistic function of the logit, within 0 to 1. A score of relevance, not a calibrated probability.
    pub fn sigmoid(self) -> f32 {
        1.0 / (1.0 + (-self.0).exp())
    }
}

/// How far a model read a pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PairRead {
    /// Tokens that went through the model over all windows, marks included.
    pub tokens: usize,
    /// Tokens of the query that did not fit; at least so many of a very long one.
    pub query_dropped: usize,
    /// Tokens of the passage that no window saw; at least so many of a very long one.
    pub passage_dropped: usize,
}

/// A query and a passage to be scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair<'a> {
    /// What was asked.
    pub query: &'a str,
    /// What may answer it.
    pub passage: &'a str,
    /// Tokens of the passage that are looked at; `None`: as far as the model can read.
    pub passage_tokens: Option<NonZeroUsize>,
}

/// A model that scores (query, passage) pairs; one per call for the reason given at [`Embedder`](crate::Embedder).
pub trait Reranker: Send {
    /// Name of the model in the catalog.
    fn name(&self) -> &str;

    /// Scores `passage` for `query`. A passage longer than the model's window is scored by its best window.
    ///
    /// The same pair gives the same logit whatever was scored before it.
    /// Errors: [`ModelError::EmptyText`] when either side is blank, [`ModelError::Failed`].
    fn score(&mut self, query: &str, passage: &str) -> Result<RerankLogit, ModelError>;

    /// [`Reranker::score`] over at most the first `passage_tokens` of the passage, with how far the pair was read. A
    /// model that does not count reads as far as it can and says 0.
    fn score_counted(
        &mut self,
        query: &str,
        passage: &str,
        passage_tokens: Option<NonZeroUsize>,
    ) -> Result<(RerankLogit, PairRead), ModelError> {
        let _ = passage_tokens;
        Ok((self.score(query, passage)?, PairRead::default()))
    }

    /// [`Reranker::score_counted`] for several pairs in as few calls of the device as it can; results in their order,
    /// one each.
    ///
    /// A result equals that of a pair alone up to rounding, whatever its batch mates are; a pair that is refused
    /// spoils no other. Without an implementation of its own it makes one call for each pair.
    fn score_batch(&mut self, pairs: &[Pair<'_>]) -> Vec<Result<(RerankLogit, PairRead), ModelError>> {
        pairs.iter().map(|pair| self.score_counted(pair.query, pair.passage, pair.passage_tokens)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_are_finite_by_construction() {
        assert!(RerankLogit::new(f32::NAN).is_err());
        assert!(RerankLogit::new(f32::NEG_INFINITY).is_err());
        let zero = RerankLogit::new(0.0).expect("finite");
        assert!((zero.sigmoid() - 0.5).abs() < 1e-6);
    }
}
