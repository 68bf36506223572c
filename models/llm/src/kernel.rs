//! The two inner loops of the model: dot products of 8-bit weights with quantised activations, and attention of
//! one head. On x86-64 an AVX2 version is chosen when the processor has it, whatever target the build names.
//!
//! A dot product is always computed in the same order, however many rows are computed together: the state after
//! a prompt does not depend on how the prompt was cut into batches.

/// Values that share one scale.
pub(crate) const BLOCK: usize = 32;

/// Rows of weights: `value = quant * scale` of its block. Quants are within -127 to 127.
#[derive(Clone, Copy)]
pub(crate) struct Weights<'a> {
    /// `[rows, blocks]`.
    pub(crate) quants: &'a [[i8; BLOCK]],
    /// `[rows, blocks]`.
    pub(crate) scales: &'a [f32],
}

/// Rows of activations, 8-bit values kept as 16-bit so that no widening is left to the inner loop.
#[derive(Clone, Copy)]
pub(crate) struct Activations<'a> {
    /// `[rows, blocks]`.
    pub(crate) quants: &'a [[i16; BLOCK]],
    /// `[rows, blocks]`.
    pub(crate) scales: &'a [f32],
}

/// What one head of one token attends to.
#[derive(Clone, Copy)]
pub(crate) struct Attended<'a> {
    /// Keys of all positions, `stride` apart, this head's at `offset`.
    pub(crate) keys: &'a [f32],
    /// Values, laid out like the keys.
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) offset: usize,
    /// How many positions the token may see.
    pub(crate) positions: usize,
    /// Factor on the dot products, `1 / sqrt(head_dim)`.
    pub(crate) scale: f32,
}

/// The instruction set in use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel {
    avx2: bool,
}

impl Kernel {
    /// The fastest one this processor has.
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        return Self { avx2: is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") };
        #[cfg(not(target_arch = "x86_64"))]
        return Self { avx2: false };
    }

    /// Plain code, for any processor.
    #[cfg(test)]
    pub(crate) fn portable() -> Self {
        Self { avx2: false }
    }

    /// Name for reports.
    pub(crate) fn name(self) -> &'static str {
        if self.avx2 { "avx2" } else { "portable" }
    }

    /// `out[x, w] = activations[x] . weights[w]`, with rows of `blocks` blocks; `out` is `[x rows, w rows]`.
    #[cfg_attr(
        target_arch = "x86_64",
        expect(unsafe_code, reason = "calls code for AVX2 after the processor was asked whether it has it")
    )]
    pub(crate) fn product(
        self,
        weights: Weights<'_>,
        activations: Activations<'_>,
        blocks: usize,
        out: &mut [f32],
    ) {
        #[cfg(target_arch = "x86_64")]
        if self.avx2 {
            // SAFETY: `avx2` is only set by `detect`, when the processor has both features.
            return unsafe { x86::product(weights, activations, blocks, out) };
        }
        let width = weights.scales.len() / blocks;
        for (w, (wq, ws)) in
            weights.quants.chunks_exact(blocks).zip(weights.scales.chunks_exact(blocks)).enumerate()
        {
            let rows = activations.quants.chunks_exact(blocks).zip(activations.scales.chunks_exact(blocks));
            for (x, (xq, xs)) in rows.enumerate() {
                out[x * width + w] = dot(wq, ws, xq, xs);
            }
        }
    }

    /// `out = softmax(scale * query . keys) . values`, for one head of one token. `scores` is scratch space.
    #[cfg_attr(
        target_arch = "x86_64",
        expect(unsafe_code, reason = "calls code for AVX2 after the processor was asked whether it has it")
    )]
    pub(crate) fn attend(
        self,
        query: &[f32],
        attended: Attended<'_>,
        scores: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        #[cfg(target_arch = "x86_64")]
        if self.avx2 {
            // SAFETY: `avx2` is only set by `detect`, when the processor has both features.
            return unsafe { x86::attend(query, attended, scores, out) };
        }
        attend(query, attended, scores, out);
    }
}

fn dot(wq: &[[i8; BLOCK]], ws: &[f32], xq: &[[i16; BLOCK]], xs: &[f32]) -> f32 {
    let mut sum = 0.0;
    for ((w, x), (ws, xs)) in wq.iter().zip(xq).zip(ws.iter().zip(xs)) {
        let block: i32 = w.iter().zip(x).map(|(&w, &x)| i32::from(w) * i32::from(x)).sum();
        sum += block as f32 * (ws * xs);
    }
    sum
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled once more inside the AVX2 function")]
fn attend(query: &[f32], attended: Attended<'_>, scores: &mut Vec<f32>, out: &mut [f32]) {
    let Attended { keys, values, stride, offset, positions, scale } = attended;
    let dim = query.len();
    // Plain loops rather than chains of iterators: those would be compiled apart, without AVX2.
    scores.clear();
    scores.resize(positions, 0.0);
    let mut largest = f32::NEG_INFINITY;
    for (score, row) in scores.iter_mut().zip(keys.chunks_exact(stride)) {
        *score = scale * dot_f32(query, &row[offset..offset + dim]);
        largest = largest.max(*score);
    }
    let mut total = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - largest).exp();
        total += *score;
    }
    out.fill(0.0);
    for (&weight, row) in scores.iter().zip(values.chunks_exact(stride)) {
        for (out, value) in out.iter_mut().zip(&row[offset..offset + dim]) {
            *out += weight * value;
        }
    }
    for out in out {
        *out /= total;
    }
}

/// Eight running sums, so that the loop needs no particular order of additions and becomes vector code.
#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled once more inside the AVX2 function")]
fn dot_f32(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m256i, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_loadu_si128, _mm_movehdup_ps,
        _mm_movehl_ps, _mm256_add_epi32, _mm256_castps256_ps128, _mm256_cvtepi8_epi16, _mm256_cvtepi32_ps,
        _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_set1_ps,
        _mm256_setzero_ps,
    };

    use super::{Activations, Attended, BLOCK, Weights};

    /// Rows of activations that share one pass over a row of weights.
    const TOGETHER: usize = 4;

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn attend(query: &[f32], attended: Attended<'_>, scores: &mut Vec<f32>, out: &mut [f32]) {
        super::attend(query, attended, scores, out);
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn product(
        weights: Weights<'_>,
        activations: Activations<'_>,
        blocks: usize,
        out: &mut [f32],
    ) {
        let width = weights.scales.len() / blocks;
        let rows = activations.scales.len() / blocks;
        let row = |x: usize| {
            let part = x * blocks..(x + 1) * blocks;
            (&activations.quants[part.clone()], &activations.scales[part])
        };
        let weight_rows = weights.quants.chunks_exact(blocks).zip(weights.scales.chunks_exact(blocks));
        for (w, (wq, ws)) in weight_rows.enumerate() {
            let mut x = 0;
            while x + TOGETHER <= rows {
                let sums = dots(wq, ws, [row(x), row(x + 1), row(x + 2), row(x + 3)]);
                for (i, sum) in sums.into_iter().enumerate() {
                    out[(x + i) * width + w] = sum;
                }
                x += TOGETHER;
            }
            for x in x..rows {
                let [sum] = dots(wq, ws, [row(x)]);
                out[x * width + w] = sum;
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn dots<const R: usize>(
        wq: &[[i8; BLOCK]],
        ws: &[f32],
        rows: [(&[[i16; BLOCK]], &[f32]); R],
    ) -> [f32; R] {
        let blocks = wq.len();
        let ws = &ws[..blocks];
        let rows = rows.map(|(quants, scales)| (&quants[..blocks], &scales[..blocks]));
        let mut sums = [_mm256_setzero_ps(); R];
        for b in 0..blocks {
            let (w_low, w_high) = widened(&wq[b]);
            for (sum, (xq, xs)) in sums.iter_mut().zip(&rows) {
                let (x_low, x_high) = loaded(&xq[b]);
                let products =
                    _mm256_add_epi32(_mm256_madd_epi16(w_low, x_low), _mm256_madd_epi16(w_high, x_high));
                let scale = _mm256_set1_ps(ws[b] * xs[b]);
                *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(products), scale, *sum);
            }
        }
        sums.map(|sum| total(sum))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    #[expect(unsafe_code, reason = "vector loads take pointers")]
    fn widened(block: &[i8; BLOCK]) -> (__m256i, __m256i) {
        let p = block.as_ptr();
        // SAFETY: both loads of 16 bytes lie within the 32 of the block, and need no alignment.
        let (low, high) = unsafe { (_mm_loadu_si128(p.cast()), _mm_loadu_si128(p.add(16).cast())) };
        (_mm256_cvtepi8_epi16(low), _mm256_cvtepi8_epi16(high))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    #[expect(unsafe_code, reason = "vector loads take pointers")]
    fn loaded(block: &[i16; BLOCK]) -> (__m256i, __m256i) {
        let p = block.as_ptr();
        // SAFETY: both loads of 16 values lie within the 32 of the block, and need no alignment.
        unsafe { (_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(16).cast())) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn total(sums: __m256) -> f32 {
        let four = _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps::<1>(sums));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn products_equal_plain_arithmetic_and_do_not_depend_on_the_batch() {
        let mut rng = StdRng::seed_from_u64(1);
        let (width, rows, blocks) = (5, 7, 3);
        let wq: Vec<[i8; BLOCK]> =
            (0..width * blocks).map(|_| std::array::from_fn(|_| rng.random_range(-127..=127))).collect();
        let xq: Vec<[i16; BLOCK]> =
            (0..rows * blocks).map(|_| std::array::from_fn(|_| rng.random_range(-127..=127))).collect();
        let ws: Vec<f32> = (0..width * blocks).map(|_| rng.random()).collect();
        let xs: Vec<f32> = (0..rows * blocks).map(|_| rng.random()).collect();
        let weights = Weights { quants: &wq, scales: &ws };
        for kernel in [Kernel::detect(), Kernel::portable()] {
            let mut out = vec![0.0; rows * width];
            kernel.product(weights, Activations { quants: &xq, scales: &xs }, blocks, &mut out);
            for x in 0..rows {
                for w in 0..width {
                    let mut expected = 0.0f64;
                    for b in 0..blocks {
                        let (wb, xb) = (w * blocks + b, x * blocks + b);
                        let sum: i32 =
                            wq[wb].iter().zip(&xq[xb]).map(|(&w, &x)| i32::from(w) * i32::from(x)).sum();
                        expected += f64::from(sum) * f64::from(ws[wb]) * f64::from(xs[xb]);
                    }
                    let found = f64::from(out[x * width + w]);
                    assert!((found - expected).abs() <= 1e-5 * (1e5 + expected.abs()), "{found} {expected}");
                }
                let mut alone = vec![0.0; width];
                let part = x * blocks..(x + 1) * blocks;
                let row = Activations { quants: &xq[part.clone()], scales: &xs[part] };
                kernel.product(weights, row, blocks, &mut alone);
                assert_eq!(
                    alone.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
                    out[x * width..(x + 1) * width].iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
                    "{kernel:?}: row {x} alone differs from row {x} in a batch"
                );
            }
        }
    }

    #[test]
    fn attention_is_a_weighted_mean_of_the_visible_values() {
        // Two positions are visible, a third is not; the second head of two, of dimension 2.
        let keys = [9.0, 9.0, 1.0, 0.0, 9.0, 9.0, 0.0, 1.0, 9.0, 9.0, 50.0, 50.0];
        let values = [7.0, 7.0, 1.0, 2.0, 7.0, 7.0, 3.0, 6.0, 7.0, 7.0, 1e9, 1e9];
        let attended =
            Attended { keys: &keys, values: &values, stride: 4, offset: 2, positions: 2, scale: 0.5 };
        for kernel in [Kernel::detect(), Kernel::portable()] {
            let mut out = [0.0; 2];
            kernel.attend(&[2.0, 0.0], attended, &mut Vec::new(), &mut out);
            let first = 1.0f32.exp() / (1.0f32.exp() + 1.0);
            let expected = [first + 3.0 * (1.0 - first), 2.0 * first + 6.0 * (1.0 - first)];
            assert!(out.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{out:?} {expected:?}");
        }
    }
}
