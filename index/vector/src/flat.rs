//! A fixed list of vectors in memory as int8 codes: bounds of cosines for a set of rows, without a file or a graph.
//!
//! For callers who keep the full-precision vectors themselves and want the exact nearest ones: the bound never lies
//! below the cosine, so a row whose bound is too small need not be looked at.

use roaring::RoaringBitmap;

use crate::codes::Code;
use crate::kernel::Dots;
use crate::{VectorError, config::MAX_DIM};

/// Codes that are brought from memory together.
const GATHER: usize = 32;
/// Bytes of memory that come together.
const LINE: usize = 64;
/// What rounding in 32-bit floats may add to a cosine of two vectors whose length is 1 up to rounding.
const ROUNDING: f32 = 1e-4;

/// Rows of int8 codes, `dim + 8` bytes each.
pub struct FlatCodes {
    dim: usize,
    codes: Vec<i8>,
    scales: Vec<f32>,
    /// Length of the difference between vector and code.
    errors: Vec<f32>,
    dots: Dots,
}

impl FlatCodes {
    /// An empty list of vectors of `dim` components, 1 to [`MAX_DIM`].
    pub fn new(dim: usize) -> Result<Self, VectorError> {
        if dim == 0 || dim > MAX_DIM {
            return Err(VectorError::Config { name: "dim", expected: "1 to 65536", found: dim });
        }
        Ok(Self { dim, codes: Vec::new(), scales: Vec::new(), errors: Vec::new(), dots: Dots::default() })
    }

    /// Appends a vector of unit length; rows count from 0.
    pub fn push(&mut self, vector: &[f32]) -> Result<(), VectorError> {
        self.check(vector)?;
        let code = Code::of(vector);
        self.errors.push(error(vector, &code));
        self.codes.extend_from_slice(&code.values);
        self.scales.push(code.scale);
        Ok(())
    }

    /// Components of a vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.scales.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.scales.is_empty()
    }

    /// Calls `each` with every row of `allowed`, rising, and the most its cosine with `query`, of unit length, can be.
    /// Rows that are not there are skipped.
    ///
    /// With `q = q' + d` and `a = a' + e`, codes primed: `q·a = q'·a' + d·a + q'·e`, and by Cauchy and Schwarz the last
    /// two are at most `|d| + (1 + |d|) |e|`, about .015 at 384 dimensions.
    pub fn upper_bounds(
        &self,
        query: &[f32],
        allowed: &RoaringBitmap,
        mut each: impl FnMut(u32, f32),
    ) -> Result<(), VectorError> {
        self.check(query)?;
        let code = Code::of(query);
        let query_error = error(query, &code);
        let (mut rows, mut products) = ([0u32; GATHER], [0i32; GATHER]);
        let mut scan = |rows: &[u32]| {
            let products = &mut products[..rows.len()];
            let (first, last) = (rows[0] as usize, rows[rows.len() - 1] as usize);
            if last - first + 1 == rows.len() {
                self.dots.rows(&code.values, &self.codes[first * self.dim..(last + 1) * self.dim], products);
            } else {
                // Rows are far apart: every line of them is asked for before one is waited for.
                let mut touched = 0;
                for row in rows {
                    let start = *row as usize * self.dim;
                    let codes = &self.codes[start..start + self.dim];
                    touched ^= codes.iter().step_by(LINE).fold(0, |touched, code| touched ^ code);
                }
                std::hint::black_box(touched);
                self.dots.gather(&code.values, &self.codes, rows, products);
            }
            for (row, product) in rows.iter().zip(products) {
                let at = *row as usize;
                let cosine = *product as f32 * code.scale * self.scales[at];
                each(*row, cosine + query_error + (1.0 + query_error) * self.errors[at] + ROUNDING);
            }
        };
        let mut filled = 0;
        for row in allowed.iter().take_while(|row| (*row as usize) < self.len()) {
            rows[filled] = row;
            filled += 1;
            if filled == GATHER {
                scan(&rows);
                filled = 0;
            }
        }
        if filled > 0 {
            scan(&rows[..filled]);
        }
        Ok(())
    }

    fn check(&self, vector: &[f32]) -> Result<(), VectorError> {
        if vector.len() == self.dim {
            Ok(())
        } else {
            Err(VectorError::DimensionMismatch { expected: self.dim, found: vector.len() })
        }
    }
}

fn error(vector: &[f32], code: &Code) -> f32 {
    let squares = vector.iter().zip(&code.values).map(|(value, code_value)| {
        let difference = f64::from(*value) - f64::from(*code_value) * f64::from(code.scale);
        difference * difference
    });
    squares.sum::<f64>().sqrt() as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    #[test]
    fn bounds_hold_and_are_close() {
        for (dim, widest) in [(1, 0.01), (24, 0.03), (384, 0.03)] {
            let mut rng = SmallRng::seed_from_u64(5);
            let mut unit = || {
                let vector: Vec<f32> = (0..dim).map(|_| rng.random_range(-1.0..1.0)).collect();
                let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
                vector.iter().map(|v| v / length).collect::<Vec<f32>>()
            };
            let vectors: Vec<Vec<f32>> = (0..300).map(|_| unit()).collect();
            let mut flat = FlatCodes::new(dim).expect("in range");
            for vector in &vectors {
                flat.push(vector).expect("fits");
            }
            let query = unit();
            // A run, single rows, and rows that are not there.
            let allowed: RoaringBitmap = (0..70).chain((100..300).step_by(3)).chain([300, 9000]).collect();
            let mut seen = Vec::new();
            flat.upper_bounds(&query, &allowed, |row, upper| {
                let cosine: f32 = query.iter().zip(&vectors[row as usize]).map(|(a, b)| a * b).sum();
                assert!(upper >= cosine, "dim {dim} row {row}: {upper} < {cosine}");
                assert!(upper - cosine < 2.0 * widest, "dim {dim} row {row}: {upper} for {cosine}");
                seen.push(row);
            })
            .expect("fits");
            assert_eq!(seen, allowed.iter().filter(|row| *row < 300).collect::<Vec<_>>());
        }
    }

    #[test]
    fn other_dimensions_are_refused() {
        let mut flat = FlatCodes::new(2).expect("in range");
        assert!(flat.is_empty());
        assert!(flat.push(&[1.0]).is_err());
        assert!(flat.upper_bounds(&[1.0], &RoaringBitmap::new(), |_, _| {}).is_err());
        assert!(FlatCodes::new(0).is_err() && FlatCodes::new(MAX_DIM + 1).is_err());
    }
}
