//! Text to a point on the unit sphere.

use std::sync::Arc;

use crate::ModelError;

/// A unit-length vector of 32-bit floats; cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding(Arc<[f32]>);

impl Embedding {
    /// Scales `values` to unit length.
    ///
    /// Fails with [`ModelError::NotFinite`] when a value is NaN or infinite, or all are zero.
    pub fn normalized(mut values: Vec<f32>) -> Result<Self, ModelError> {
        let norm = values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
        if !norm.is_finite() || norm <= f64::from(f32::MIN_POSITIVE) {
            return Err(ModelError::NotFinite);
        }
        for value in &mut values {
            *value = (f64::from(*value) / norm) as f32;
        }
        Ok(Self(values.into()))
    }

    /// The components, `[dim] f32`, of unit length.
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    /// Number of components.
    pub fn dim(&self) -> usize {
        self.0.len()
    }

    /// Cosine of the angle to `other`, within -1 to 1 up to rounding.
    ///
    /// Fails with [`ModelError::DimensionMismatch`] when the two differ in length.
    pub fn cosine(&self, other: &Self) -> Result<f32, ModelError> {
        if self.dim() != other.dim() {
            return Err(ModelError::DimensionMismatch { expected: self.dim(), found: other.dim() });
        }
        Ok(self.0.iter().zip(other.0.iter()).map(|(a, b)| a * b).sum())
    }
}

/// Which side of retrieval a text stands on; asymmetric models prefix the two differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TextRole {
    /// What a person typed.
    Query,
    /// What is searched.
    Passage,
}

/// Identity of a vector space: vectors of two spaces must never be compared, even when their lengths agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddingSpace {
    /// Name of the model in the catalog.
    pub model: String,
    /// SHA-256 of the model file, hexadecimal.
    pub checksum: String,
    /// Components of each vector.
    pub dim: usize,
    /// Pooling rule, `cls` or `mean`: part of the identity because it changes every vector.
    pub pooling: String,
}

impl EmbeddingSpace {
    /// One line that is equal for two spaces exactly when their vectors may be mixed.
    pub fn fingerprint(&self) -> String {
        format!("{}/{}/{}/{}", self.model, self.pooling, self.dim, self.checksum)
    }
}

/// How far a model read a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextRead {
    /// Tokens that went through the model, marks and prefix included.
    pub tokens: usize,
    /// Tokens of the text that did not fit; of a very long text at least so many, because its end is not cut into
    /// tokens at all.
    pub dropped: usize,
}

/// A model that embeds texts.
///
/// One text per call, because dynamically quantised int8 graphs take one activation scale over the whole batch: the
/// vector of a text would depend on its batch mates. [`Embedder::embed_batch`] is for float models on a GPU.
pub trait Embedder: Send {
    /// The space its vectors live in.
    fn space(&self) -> &EmbeddingSpace;

    /// Embeds `text`; longer than the model's window is truncated at the end.
    ///
    /// The same text gives the same vector, bit for bit, whatever was embedded before it.
    /// Errors: [`ModelError::EmptyText`], [`ModelError::TextTooLong`], [`ModelError::Failed`].
    fn embed(&mut self, text: &str, role: TextRole) -> Result<Embedding, ModelError>;

    /// [`Embedder::embed`], with how far the text was read. A model that does not count says 0 and 0.
    fn embed_counted(&mut self, text: &str, role: TextRole) -> Result<(Embedding, TextRead), ModelError> {
        Ok((self.embed(text, role)?, TextRead::default()))
    }

    /// [`Embedder::embed_counted`] for several texts in as few calls of the device as it can; results in their order,
    /// one each.
    ///
    /// A result equals that of a text alone up to rounding, whatever its batch mates are; a text that is refused
    /// spoils no other. Without an implementation of its own it makes one call for each text.
    fn embed_batch(&mut self, texts: &[(&str, TextRole)]) -> Vec<Result<(Embedding, TextRead), ModelError>> {
        texts.iter().map(|(text, role)| self.embed_counted(text, *role)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalized_has_unit_length_and_refuses_what_has_no_direction() {
        let vector = Embedding::normalized(vec![3.0, 4.0]).expect("finite");
        assert_eq!(vector.as_slice(), &[0.6, 0.8]);
        for bad in [vec![0.0, 0.0], vec![f32::NAN, 1.0], vec![f32::INFINITY, 1.0], vec![]] {
            assert!(matches!(Embedding::normalized(bad), Err(ModelError::NotFinite)));
        }
    }

    #[test]
    fn cosine_refuses_another_dimension() {
        let two = Embedding::normalized(vec![1.0, 0.0]).expect("finite");
        let three = Embedding::normalized(vec![1.0, 0.0, 0.0]).expect("finite");
        assert!(matches!(two.cosine(&three), Err(ModelError::DimensionMismatch { expected: 2, found: 3 })));
    }
}
