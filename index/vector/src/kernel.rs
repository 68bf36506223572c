//! Dot products: int8 codes with run-time choice of instructions, and 32-bit floats in one fixed order.
//!
//! On x86-64 the int8 product is written out, because it is what a graph search does most and the compiler's own
//! choice is slower: 6.4 against 12.2 ns a pair of 384 components with AVX-512 VNNI, 9.9 against 19.0 with AVX2
//! (AMD EPYC, Zen 4). Elsewhere the compiler vectorises plain Rust. Integer
//! sums are exact, so all of them give the same number, and the float sum has a fixed order, so the same two
//! vectors give the same cosine on every machine.

/// Instructions an int8 dot product is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// x86-64 with AVX-512 F, BW, VL and VNNI.
    Avx512,
    /// x86-64 with AVX2.
    Avx2,
    /// What every target of the build has (on AArch64 that includes NEON).
    Portable,
}

impl Default for Kernel {
    fn default() -> Self {
        Self::detect()
    }
}

impl Kernel {
    /// The fastest one this machine runs.
    pub fn detect() -> Self {
        Self::supported()[0]
    }

    /// All this machine runs, fastest first.
    pub fn supported() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        {
            let mut kernels = Vec::with_capacity(3);
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
            {
                kernels.push(Self::Avx512);
            }
            if is_x86_feature_detected!("avx2") {
                kernels.push(Self::Avx2);
            }
            kernels.push(Self::Portable);
            kernels
        }
        #[cfg(not(target_arch = "x86_64"))]
        vec![Self::Portable]
    }
}

/// An instruction set that this machine was asked about: a value of it is the proof that the machine has it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Dots(Kernel);

impl Dots {
    /// `kernel` when this machine has it.
    pub fn with(kernel: Kernel) -> Option<Self> {
        Kernel::supported().contains(&kernel).then_some(Self(kernel))
    }

    pub fn kernel(self) -> Kernel {
        self.0
    }

    /// Writes the dot product of `query` with each row of `codes` (`[out.len()][query.len()]`) to `out`.
    pub fn rows(self, query: &[i8], codes: &[i8], out: &mut [i32]) {
        debug_assert_eq!(codes.len(), query.len() * out.len());
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "the instructions were detected when this value was made")]
            Kernel::Avx512 => unsafe { rows_avx512(query, codes, out) },
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "the instructions were detected when this value was made")]
            Kernel::Avx2 => unsafe { rows_avx2(query, codes, out) },
            _ => rows_body(query, codes, out),
        }
    }

    /// Writes the dot product of `query` with the rows `nodes` of `codes` (`[..][query.len()]`) to `out`; 0 for a
    /// row that is not there.
    pub fn gather(self, query: &[i8], codes: &[i8], nodes: &[u32], out: &mut [i32]) {
        debug_assert_eq!(nodes.len(), out.len());
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "the instructions were detected when this value was made")]
            Kernel::Avx512 => unsafe { gather_avx512(query, codes, nodes, out) },
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "the instructions were detected when this value was made")]
            Kernel::Avx2 => unsafe { gather_avx2(query, codes, nodes, out) },
            _ => gather_body(query, codes, nodes, out, pair_body),
        }
    }

    /// Dot product of two rows.
    pub fn pair(self, a: &[i8], b: &[i8]) -> i32 {
        let mut out = [0];
        self.rows(a, b, &mut out);
        out[0]
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn rows_avx512(query: &[i8], codes: &[i8], out: &mut [i32]) {
    for (row, out) in codes.chunks_exact(query.len()).zip(out) {
        *out = pair_avx512(query, row);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn rows_avx2(query: &[i8], codes: &[i8], out: &mut [i32]) {
    for (row, out) in codes.chunks_exact(query.len()).zip(out) {
        *out = pair_avx2(query, row);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn gather_avx512(query: &[i8], codes: &[i8], nodes: &[u32], out: &mut [i32]) {
    gather_body(query, codes, nodes, out, |a, b| pair_avx512(a, b));
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn gather_avx2(query: &[i8], codes: &[i8], nodes: &[u32], out: &mut [i32]) {
    gather_body(query, codes, nodes, out, |a, b| pair_avx2(a, b));
}

/// Exact: bytes become 16-bit integers, and `vpmaddwd` adds two products into 32 bits, below `2 * 127 * 127`.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn pair_avx2(a: &[i8], b: &[i8]) -> i32 {
    use std::arch::x86_64::{
        __m256i, _mm_loadu_si128, _mm256_add_epi32, _mm256_cvtepi8_epi16, _mm256_extract_epi32,
        _mm256_hadd_epi32, _mm256_madd_epi16, _mm256_setzero_si256,
    };
    let load = |block: &[i8; 16]| -> __m256i {
        // SAFETY: reads the 16 bytes of the array behind the reference; the instruction needs no alignment.
        #[expect(unsafe_code, reason = "a vector load has no safe form")]
        _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(block.as_ptr().cast()) })
    };
    let (a_blocks, a_rest) = a.as_chunks::<16>();
    let (b_blocks, b_rest) = b.as_chunks::<16>();
    let mut sums = [_mm256_setzero_si256(); 2];
    for (at, (a, b)) in a_blocks.iter().zip(b_blocks).enumerate() {
        sums[at % 2] = _mm256_add_epi32(sums[at % 2], _mm256_madd_epi16(load(a), load(b)));
    }
    let sum = _mm256_add_epi32(sums[0], sums[1]);
    let sum = _mm256_hadd_epi32(sum, sum);
    let sum = _mm256_hadd_epi32(sum, sum);
    _mm256_extract_epi32::<0>(sum) + _mm256_extract_epi32::<4>(sum) + pair_body(a_rest, b_rest)
}

/// Exact: `vpdpbusd` multiplies unsigned by signed bytes, so `a + 128` is multiplied, and `128 * b` taken off again.
/// Sums stay within `255 * 127 * MAX_DIM`, which is below `2^31`.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn pair_avx512(a: &[i8], b: &[i8]) -> i32 {
    use std::arch::x86_64::{
        __m512i, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_reduce_add_epi32, _mm512_set1_epi8,
        _mm512_setzero_si512, _mm512_sub_epi32, _mm512_xor_si512,
    };
    let load = |block: &[i8; 64]| -> __m512i {
        // SAFETY: reads the 64 bytes of the array behind the reference; the instruction needs no alignment.
        #[expect(unsafe_code, reason = "a vector load has no safe form")]
        unsafe {
            _mm512_loadu_si512(block.as_ptr().cast())
        }
    };
    let (a_blocks, a_rest) = a.as_chunks::<64>();
    let (b_blocks, b_rest) = b.as_chunks::<64>();
    let offset = _mm512_set1_epi8(i8::MIN);
    let (mut sums, mut taken) = (_mm512_setzero_si512(), _mm512_setzero_si512());
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        let b = load(b);
        sums = _mm512_dpbusd_epi32(sums, _mm512_xor_si512(load(a), offset), b);
        taken = _mm512_dpbusd_epi32(taken, offset, b);
    }
    _mm512_reduce_add_epi32(_mm512_sub_epi32(sums, taken)) + pair_body(a_rest, b_rest)
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "must be compiled inside each function with its own instructions")]
fn pair_body(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum()
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "must be compiled inside each function with its own instructions")]
fn rows_body(query: &[i8], codes: &[i8], out: &mut [i32]) {
    for (row, out) in codes.chunks_exact(query.len()).zip(out) {
        *out = pair_body(query, row);
    }
}

/// Touches every row before it computes with any, so that the rows come from memory at the same time instead of one
/// after another.
#[inline(always)]
#[expect(clippy::inline_always, reason = "must be compiled inside each function with its own instructions")]
fn gather_body(
    query: &[i8],
    codes: &[i8],
    nodes: &[u32],
    out: &mut [i32],
    pair: impl Fn(&[i8], &[i8]) -> i32,
) {
    let dim = query.len();
    let row = |node: u32| codes.get(node as usize * dim..(node as usize + 1) * dim);
    let mut touched = 0;
    for node in nodes {
        let start = *node as usize * dim;
        touched ^= codes.get(start).copied().unwrap_or_default();
        touched ^= codes.get(start + dim / 2).copied().unwrap_or_default();
    }
    std::hint::black_box(touched);
    for (node, out) in nodes.iter().zip(out) {
        *out = row(*node).map_or(0, |row| pair(query, row));
    }
}

/// Dot product in sixteen running sums that are added in order at the end.
pub(crate) fn dot_f32(a: &[f32], b: &[f32]) -> f32 {
    let (a_blocks, a_rest) = a.as_chunks::<16>();
    let (b_blocks, b_rest) = b.as_chunks::<16>();
    let mut sums = [0.0f32; 16];
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..16 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    #[test]
    fn every_kernel_gives_the_exact_integer() {
        let mut rng = SmallRng::seed_from_u64(1);
        for dim in [1, 3, 31, 64, 100, 384, 1024] {
            let query: Vec<i8> = (0..dim).map(|_| rng.random_range(-127..=127)).collect();
            let codes: Vec<i8> = (0..dim * 5).map(|_| rng.random_range(-127..=127)).collect();
            let expected: Vec<i32> = codes
                .chunks(dim)
                .map(|row| (0..dim).map(|i| i32::from(query[i]) * i32::from(row[i])).sum())
                .collect();
            for kernel in Kernel::supported() {
                let mut out = [0; 5];
                Dots::with(kernel).expect("supported").rows(&query, &codes, &mut out);
                assert_eq!(out.to_vec(), expected, "{kernel:?}, dim {dim}");
                let dots = Dots::with(kernel).expect("supported");
                dots.gather(&query, &codes, &[4, 0, 7, 0, 2], &mut out);
                assert_eq!(out, [expected[4], expected[0], 0, expected[0], expected[2]], "{kernel:?}");
            }
        }
    }

    #[test]
    fn longest_vectors_do_not_overflow() {
        let ones = vec![-127i8; crate::config::MAX_DIM];
        let expected = 127 * 127 * i64::try_from(crate::config::MAX_DIM).expect("small");
        assert_eq!(i64::from(Dots::default().pair(&ones, &ones)), expected);
    }

    #[test]
    fn float_dot_agrees_with_double_precision() {
        let mut rng = SmallRng::seed_from_u64(2);
        for dim in [1, 15, 16, 17, 384] {
            let a: Vec<f32> = (0..dim).map(|_| rng.random_range(-1.0..1.0)).collect();
            let b: Vec<f32> = (0..dim).map(|_| rng.random_range(-1.0..1.0)).collect();
            let exact: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            assert!((f64::from(dot_f32(&a, &b)) - exact).abs() < 1e-4);
        }
    }
}
