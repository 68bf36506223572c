//! A weight matrix in 8 bits, multiplied on the threads of the current rayon pool.

use rayon::prelude::*;

use crate::kernel::{Activations, BLOCK, Kernel, Weights};

/// Multiplications that are worth handing to another thread: about ten microseconds of work.
const TASK: usize = 200_000;

/// `[rows, cols]` in blocks of 32 values of a row that share a scale, like GGUF's Q8_0 with the scale in f32.
pub(crate) struct Matrix {
    quants: Vec<[i8; BLOCK]>,
    scales: Vec<f32>,
    rows: usize,
    blocks: usize,
}

/// Rows of activations, quantised for a [`Matrix`].
#[derive(Default)]
pub(crate) struct Quantized {
    quants: Vec<[i16; BLOCK]>,
    scales: Vec<f32>,
}

impl Matrix {
    /// An empty matrix for `rows` rows of `cols`, a multiple of 32.
    pub(crate) fn with_capacity(rows: usize, cols: usize) -> Self {
        let blocks = cols / BLOCK;
        Self {
            quants: Vec::with_capacity(rows * blocks),
            scales: Vec::with_capacity(rows * blocks),
            rows: 0,
            blocks,
        }
    }

    /// Appends whole rows. Values that came from Q8_0 are kept exactly.
    pub(crate) fn extend(&mut self, values: &[f32]) {
        for block in values.as_chunks::<BLOCK>().0 {
            let (scale, inverse) = scale(block);
            self.scales.push(scale);
            self.quants.push(block.map(|v| rounded(v * inverse) as i8));
        }
        self.rows = self.scales.len() / self.blocks;
    }

    /// The values of one row.
    pub(crate) fn row(&self, row: usize, out: &mut [f32]) {
        let part = row * self.blocks..(row + 1) * self.blocks;
        for ((quants, scale), out) in
            self.quants[part.clone()].iter().zip(&self.scales[part]).zip(out.as_chunks_mut::<BLOCK>().0)
        {
            for (out, &quant) in out.iter_mut().zip(quants) {
                *out = f32::from(quant) * scale;
            }
        }
    }

    /// `out[x, row] = activations[x] . self[row]`. The result does not depend on the number of threads or of
    /// rows of activations.
    pub(crate) fn product(&self, kernel: Kernel, activations: &Quantized, out: &mut Vec<f32>) {
        let (blocks, width) = (self.blocks, self.rows);
        let count = activations.scales.len() / blocks;
        out.clear();
        out.resize(count * width, 0.0);
        let row_cost = blocks * BLOCK;
        if count == 1 {
            let step = (TASK / row_cost).max(1);
            out.par_chunks_mut(step).enumerate().for_each(|(i, out)| {
                let part = i * step * blocks..(i * step + out.len()) * blocks;
                let weights = Weights { quants: &self.quants[part.clone()], scales: &self.scales[part] };
                kernel.product(weights, activations.rows(0, 1, blocks), blocks, out);
            });
        } else {
            let weights = Weights { quants: &self.quants, scales: &self.scales };
            // Multiples of four rows, as the kernel takes four at a time.
            let step = (TASK / (row_cost * width)).max(1).next_multiple_of(4);
            out.par_chunks_mut(step * width).enumerate().for_each(|(i, out)| {
                kernel.product(weights, activations.rows(i * step, out.len() / width, blocks), blocks, out);
            });
        }
    }
}

impl Quantized {
    /// Replaces the content by `values`, whole rows of a multiple of 32 values.
    pub(crate) fn set(&mut self, values: &[f32]) {
        self.quants.clear();
        self.scales.clear();
        for block in values.as_chunks::<BLOCK>().0 {
            let (scale, inverse) = scale(block);
            self.scales.push(scale);
            self.quants.push(block.map(|v| rounded(v * inverse) as i16));
        }
    }

    fn rows(&self, first: usize, count: usize, blocks: usize) -> Activations<'_> {
        let part = first * blocks..(first + count) * blocks;
        Activations { quants: &self.quants[part.clone()], scales: &self.scales[part] }
    }
}

/// The scale that maps the largest magnitude of the block to 127, and its inverse; 0 for a block of zeros.
fn scale(block: &[f32; BLOCK]) -> (f32, f32) {
    let largest = block.iter().fold(0.0f32, |largest, v| largest.max(v.abs()));
    let scale = largest / 127.0;
    if scale > 0.0 && (1.0 / scale).is_finite() { (scale, 1.0 / scale) } else { (0.0, 0.0) }
}

/// The nearest integer of a value within -127 to 127: adding 1.5 * 2^23 leaves no bits for a fraction. Unlike
/// `f32::round` this is no call on processors that a plain x86-64 build allows, and becomes vector code.
fn rounded(value: f32) -> i32 {
    const NO_FRACTION: f32 = 12_582_912.0;
    ((value + NO_FRACTION) - NO_FRACTION) as i32
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn random(rng: &mut StdRng, n: usize) -> Vec<f32> {
        (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    #[test]
    fn values_that_came_from_eight_bits_are_kept_exactly() {
        let mut rng = StdRng::seed_from_u64(2);
        let mut values = Vec::new();
        let mut quants: Vec<[i8; BLOCK]> = Vec::new();
        let mut scales = Vec::new();
        for _ in 0..8 {
            // A scale with eleven significant bits, as a half-precision number has.
            let scale = f32::from_bits(rng.random_range(0.001f32..0.1).to_bits() & 0xffff_e000);
            let mut block: [i8; BLOCK] = std::array::from_fn(|_| rng.random_range(-127..=127));
            block[rng.random_range(0..BLOCK)] = 127;
            values.extend(block.iter().map(|&q| f32::from(q) * scale));
            quants.push(block);
            scales.push(scale.to_bits());
        }
        let mut again = Matrix::with_capacity(4, 64);
        again.extend(&values);
        assert_eq!(again.quants, quants);
        assert_eq!(again.scales.iter().map(|s| s.to_bits()).collect::<Vec<_>>(), scales);
        let mut row = vec![0.0; 64];
        again.row(3, &mut row);
        assert_eq!(
            row.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
            values[192..].iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        );
        assert_eq!(again.rows, 4);
    }

    #[test]
    fn products_do_not_depend_on_threads_or_batches() {
        let mut rng = StdRng::seed_from_u64(3);
        let (width, cols, count) = (1000, 320, 9);
        let mut matrix = Matrix::with_capacity(width, cols);
        let weights = random(&mut rng, width * cols);
        matrix.extend(&weights);
        let inputs = random(&mut rng, count * cols);
        let run = |threads: usize, inputs: &[f32]| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            let mut activations = Quantized::default();
            activations.set(inputs);
            let mut out = Vec::new();
            pool.install(|| matrix.product(Kernel::detect(), &activations, &mut out));
            out
        };
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let together = run(1, &inputs);
        assert_eq!(bits(&together), bits(&run(3, &inputs)));
        let apart: Vec<f32> = inputs.chunks(cols).flat_map(|row| run(2, row)).collect();
        assert_eq!(bits(&together), bits(&apart));
        for (i, found) in together.iter().enumerate() {
            let (x, w) = (i / width, i % width);
            let exact: f32 = (0..cols).map(|k| inputs[x * cols + k] * weights[w * cols + k]).sum();
            assert!((found - exact).abs() < 0.25, "{found} against {exact}");
        }
    }

    #[test]
    fn zeros_and_tiny_values_give_zeros() {
        let mut activations = Quantized::default();
        activations.set(&[[0.0; BLOCK], [1e-45; BLOCK]].concat());
        assert!(activations.scales.iter().all(|s| s.is_finite()));
        assert!(activations.quants.iter().flatten().all(|&q| q == 0));
    }
}
