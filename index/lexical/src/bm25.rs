//! The formula, once: every score of this crate is a sum of [`Lengths::contribution`]s.
//!
//! ```text
//! idf(t)     = ln(1 + (N - df + 0.5) / (df + 0.5))
//! tf part    = tf * (k1 + 1) / (tf + k1 * (1 - b + b * length / average length))
//! ```
//!
//! `N`, `df` and the average length are taken over all body fields together, so that posts of all languages are on
//! one scale. Like in Lucene they count deleted posts until their segment is merged. A length is the number of
//! tokens, kept in one byte: exact up to 40, about 6 % coarse above.
//!
//! Source: Robertson and Zaragoza, doi:10.1561/1500000019; the `1 +` inside the logarithm, which keeps idf
//! positive, is Lucene's.

use std::cmp::Ordering;

use tantivy::fieldnorm::FieldNormReader;

use crate::LexicalConfig;

/// A BM25 score: finite, 0 or more, comparable between posts of one snapshot only.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Bm25(f32);

impl Bm25 {
    /// No term matches.
    pub const ZERO: Self = Self(0.0);

    pub(crate) fn new(sum: f32) -> Self {
        debug_assert!(sum.is_finite() && sum >= 0.0, "{sum}");
        Self(sum)
    }

    /// A score from a number; `None` unless it is finite and not negative.
    pub fn checked(sum: f32) -> Option<Self> {
        (sum.is_finite() && sum >= 0.0).then_some(Self(sum))
    }

    /// The number.
    pub fn value(self) -> f32 {
        self.0
    }

    /// A total order; scores are never NaN.
    pub fn total_cmp(self, other: Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Rarity of a term that `df` of `n` posts hold.
pub(crate) fn idf(n: u64, df: u64) -> f32 {
    let (n, df) = (n.max(df) as f64, df as f64);
    (1.0 + (n - df + 0.5) / (df + 0.5)).ln() as f32
}

/// The part of the formula that depends on the snapshot and not on the term.
pub(crate) struct Lengths {
    k1_plus_1: f32,
    /// `k1 * (1 - b + b * length / average length)` by stored length.
    norms: [f32; 256],
}

impl Lengths {
    pub(crate) fn new(config: &LexicalConfig, posts: u64, tokens: u64) -> Self {
        let average = (tokens as f32 / posts.max(1) as f32).max(1.0);
        let mut norms = [0.0; 256];
        for (id, norm) in norms.iter_mut().enumerate() {
            let length = FieldNormReader::id_to_fieldnorm(id as u8) as f32;
            *norm = config.k1 * (1.0 - config.b + config.b * length / average);
        }
        Self { k1_plus_1: config.k1 + 1.0, norms }
    }

    /// What a term of rarity `idf` adds to the score of a post that holds it `tf` times.
    #[inline]
    pub(crate) fn contribution(&self, idf: f32, tf: u32, length_id: u8) -> f32 {
        let tf = tf as f32;
        idf * self.k1_plus_1 * tf / (tf + self.norms[usize::from(length_id)])
    }
}
