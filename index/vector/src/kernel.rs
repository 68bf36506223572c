//! Dot products: int8 codes with run-time choice of instructions, and 32-bit floats in one fixed order.
//!
//! The bodies are plain Rust that the compiler vectorises; each is compiled once for every instruction set. Integer
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
    rows_body(query, codes, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn rows_avx2(query: &[i8], codes: &[i8], out: &mut [i32]) {
    rows_body(query, codes, out);
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "must be compiled inside each function with its own instructions")]
fn rows_body(query: &[i8], codes: &[i8], out: &mut [i32]) {
    for (row, out) in codes.chunks_exact(query.len()).zip(out) {
        *out = query.iter().zip(row).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum();
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
