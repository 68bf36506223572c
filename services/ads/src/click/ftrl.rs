//! Logistic regression over hashed features that learns one example at a time.
//!
//! FTRL-proximal with a rate per coordinate (doi:10.1145/2487575.2488200, algorithm 1). For each feature `i` of an
//! example, with `p = σ(offset + Σ w)` and importance `v`:
//!
//! ```text
//! w_i = 0                                                       if |z_i| <= l1
//!     = -(z_i - sgn(z_i)·l1) / ((beta + √n_i) / alpha + l2)      otherwise
//! g = v·(p - y);  s = (√(n_i + g²) - √n_i) / alpha;  z_i += g - s·w_i;  n_i += g²
//! ```
//!
//! Beside them stands the precision of each weight, `Σ v·p(1-p)`: the diagonal of the Laplace approximation.
//!
//! One thread learns, any number read at the same time: every number is an atomic of its own. A reader may meet a
//! weight half a step old; it never waits. Memory: `12 · 2^bits` bytes, 48 MiB at 22 bits.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::config::ClickConfig;
use super::features::FeatureHashes;

/// Greatest distance of a logit from 0.
pub(super) const LOGIT_LIMIT: f64 = 30.0;
/// Greatest weight.
const WEIGHT_LIMIT: f64 = 20.0;
/// Greatest size of a sum that is stored.
const SUM_LIMIT: f64 = 1e30;

/// State of one bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cell {
    /// Sum of gradients, less what the weight has moved.
    pub z: f32,
    /// Sum of squared gradients.
    pub n: f32,
    /// Sum of `p(1-p)`.
    pub precision: f32,
}

/// A weighted sum and how unsure it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sum {
    /// `Σ w`.
    pub logit: f64,
    /// `Σ 1/(precision + prior_precision)`.
    pub variance: f64,
}

pub(super) struct Weights {
    cells: Box<[[AtomicU32; 3]]>,
    mask: u32,
    alpha: f64,
    beta: f64,
    l1: f64,
    l2: f64,
    prior_precision: f64,
}

impl Weights {
    /// Without any weight; `config` is sound.
    pub fn new(config: &ClickConfig) -> Self {
        let buckets = 1_usize << config.bits;
        let mut cells = Vec::with_capacity(buckets);
        cells.resize_with(buckets, Default::default);
        Self {
            cells: cells.into_boxed_slice(),
            mask: (buckets - 1) as u32,
            alpha: config.alpha,
            beta: config.beta,
            l1: config.l1,
            l2: config.l2,
            prior_precision: config.prior_precision,
        }
    }

    /// Sum of the weights of `features`, and its variance.
    pub fn sum(&self, features: &FeatureHashes) -> Sum {
        let mut sum = Sum { logit: 0.0, variance: 0.0 };
        for hash in features.as_slice() {
            let cell = self.cell((hash & self.mask) as usize);
            sum.logit += self.weight(cell);
            sum.variance += 1.0 / (f64::from(cell.precision) + self.prior_precision);
        }
        sum
    }

    /// Learns that an ad with `features` was clicked or not. `offset` is what the logit is without the features;
    /// `importance` is finite and positive. To be called by one thread at a time.
    pub fn learn(&self, features: &FeatureHashes, offset: f64, clicked: bool, importance: f64) {
        let p = sigmoid(offset + self.sum(features).logit);
        let g = importance * (p - f64::from(u8::from(clicked)));
        let information = importance * p * (1.0 - p);
        for hash in features.as_slice() {
            let at = (hash & self.mask) as usize;
            let cell = self.cell(at);
            let (z, n) = (f64::from(cell.z), f64::from(cell.n));
            let step = ((n + g * g).sqrt() - n.sqrt()) / self.alpha;
            self.set(
                at,
                Cell {
                    z: (z + g - step * self.weight(cell)).clamp(-SUM_LIMIT, SUM_LIMIT) as f32,
                    n: (n + g * g).min(SUM_LIMIT) as f32,
                    precision: (f64::from(cell.precision) + information).min(SUM_LIMIT) as f32,
                },
            );
        }
    }

    fn weight(&self, cell: Cell) -> f64 {
        let z = f64::from(cell.z);
        if z.abs() <= self.l1 {
            return 0.0;
        }
        let rate = (self.beta + f64::from(cell.n).sqrt()) / self.alpha + self.l2;
        (-(z - z.signum() * self.l1) / rate).clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT)
    }

    /// Number of buckets.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// State of bucket `at`, which is below [`Self::len`].
    pub fn cell(&self, at: usize) -> Cell {
        let [z, n, precision] = self.cells[at].each_ref().map(|part| f32::from_bits(part.load(Relaxed)));
        Cell { z, n, precision }
    }

    /// Puts `cell` in place; see [`Self::learn`] for who may.
    pub fn set(&self, at: usize, cell: Cell) {
        for (part, value) in self.cells[at].iter().zip([cell.z, cell.n, cell.precision]) {
            part.store(value.to_bits(), Relaxed);
        }
    }
}

/// `1 / (1 + e^-x)`, with `x` cut to ±30; NaN counts as -30.
pub(super) fn sigmoid(x: f64) -> f64 {
    let x = if x.is_nan() { -LOGIT_LIMIT } else { x.clamp(-LOGIT_LIMIT, LOGIT_LIMIT) };
    1.0 / (1.0 + (-x).exp())
}

/// The inverse of [`sigmoid`] within its bounds.
pub(super) fn logit(p: f64) -> f64 {
    let p = if p.is_nan() { 0.0 } else { p };
    (p / (1.0 - p)).ln().clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(l1: f64) -> Weights {
        Weights::new(&ClickConfig { bits: 10, alpha: 0.1, beta: 1.0, l1, l2: 1.0, ..ClickConfig::default() })
    }

    fn list(hashes: &[u32]) -> FeatureHashes {
        FeatureHashes(hashes.to_vec())
    }

    #[test]
    fn one_step_by_hand() {
        let weights = weights(0.25);
        // p = .5, g = -.5, n = .25: z = -.5, w = (.5 - .25) / ((1 + .5) / .1 + 1) = .25 / 16.
        weights.learn(&list(&[3]), 0.0, true, 1.0);
        assert_eq!(weights.cell(3), Cell { z: -0.5, n: 0.25, precision: 0.25 });
        assert!((weights.sum(&list(&[3])).logit - 0.25 / 16.0).abs() < 1e-12);
        assert!(weights.sum(&list(&[4])).logit.abs() < 1e-12);
    }

    #[test]
    fn little_evidence_leaves_no_weight() {
        let weights = weights(1.0);
        weights.learn(&list(&[1]), 0.0, true, 1.0);
        assert!(weights.sum(&list(&[1])).logit.abs() < 1e-12, "half a gradient is below l1");
    }

    #[test]
    fn a_share_is_learnt_and_an_offset_is_left_alone() {
        let weights = weights(0.0);
        let offset = 0.6_f64.ln();
        for n in 0..20_000 {
            weights.learn(&list(&[1]), offset, n % 10 == 0, 1.0);
        }
        let p = sigmoid(offset + weights.sum(&list(&[1])).logit);
        assert!((p - 0.1).abs() < 0.01, "{p}");
    }

    #[test]
    fn numbers_stay_finite() {
        let weights = weights(1.0);
        for (offset, importance) in [(1e300, 1e4), (-1e300, 1e4), (f64::NAN, 1e-9), (0.0, f64::MAX)] {
            for clicked in [false, true, true] {
                weights.learn(&list(&[1, 2, u32::MAX]), offset, clicked, importance);
            }
        }
        let sum = weights.sum(&list(&[1, 2, u32::MAX]));
        assert!(sum.logit.is_finite() && sum.logit.abs() <= 60.0 && sum.variance.is_finite(), "{sum:?}");
    }
}
