//! The formula, once: every score of this crate is a sum of [`Weights::contribution`]s.
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

/// A score within one query and snapshot, as a whole number of equal steps: sums do not depend on their order, so
/// that ranking may add terms up in whichever order lets it stop early.
pub(crate) type Units = u32;

/// Most units of one score. Below 2^24 every number of units is an `f32` without rounding.
const MOST_UNITS: f32 = (1 << 23) as f32;

/// What the terms of one query add, by the parts of the formula that do not depend on the term.
pub(crate) struct Weights {
    k1_plus_1: f32,
    /// `k1 * (1 - b + b * length / average length)` by stored length.
    norms: [f32; 256],
    /// Units of a score of 1, a power of two.
    scale: f32,
}

impl Weights {
    /// `idfs` are those of all terms of the query: the sum that no score can pass fixes the size of a unit.
    pub(crate) fn new(
        config: &LexicalConfig,
        posts: u64,
        tokens: u64,
        idfs: impl Iterator<Item = f32>,
    ) -> Self {
        let average = (tokens as f32 / posts.max(1) as f32).max(1.0);
        let mut norms = [0.0; 256];
        for (id, norm) in norms.iter_mut().enumerate() {
            let length = FieldNormReader::id_to_fieldnorm(id as u8) as f32;
            *norm = config.k1 * (1.0 - config.b + config.b * length / average);
        }
        let most = idfs.sum::<f32>() * (config.k1 + 1.0);
        let scale = (MOST_UNITS / most.max(f32::MIN_POSITIVE)).log2().floor().clamp(-64.0, 64.0).exp2();
        Self { k1_plus_1: config.k1 + 1.0, norms, scale }
    }

    /// What a term of rarity `idf` adds to the score of a post that holds it `tf` times. At least one unit, so that
    /// a post matches exactly when its score is not 0.
    #[inline]
    pub(crate) fn contribution(&self, idf: f32, tf: u32, length_id: u8) -> Units {
        let tf = tf as f32;
        self.constant(idf * self.k1_plus_1 * tf / (tf + self.norms[usize::from(length_id)]))
    }

    /// A score in units, at least one.
    #[inline]
    pub(crate) fn constant(&self, score: f32) -> Units {
        ((score * self.scale + 0.5) as Units).max(1)
    }

    /// The score of a number of units.
    pub(crate) fn score(&self, units: Units) -> Bm25 {
        Bm25::new(units as f32 / self.scale)
    }

    /// Fewest units of a score of at least `score`.
    pub(crate) fn at_least(&self, score: f32) -> Units {
        (score * self.scale).ceil() as Units
    }
}
