//! Int8 codes of the records behind the sealed ones, in slot order, shared with readers without copying.
//!
//! A vector `v` is kept as `scale = max |v_i| / 127` and `code_i = round(v_i / scale)`, so a cosine is about
//! `dot(code_a, code_b) * scale_a * scale_b`. Codes live in chunks behind `Arc`: a reader clones two pointers, and
//! a writer that finds a reader on the last chunk copies that one chunk (about 200 KiB at 384 dimensions).

use std::sync::Arc;

/// Records of one chunk.
pub(crate) const CHUNK: usize = 512;

/// An int8 vector with its scale.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Code {
    pub values: Vec<i8>,
    pub scale: f32,
}

impl Code {
    /// Quantises a finite vector; a zero vector gets scale 0.
    pub fn of(vector: &[f32]) -> Self {
        let largest = vector.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let scale = largest / 127.0;
        if scale < f32::MIN_POSITIVE {
            return Self { values: vec![0; vector.len()], scale: 0.0 };
        }
        // The quotient is within -127 to 127 up to rounding; the cast saturates at the ends.
        let values = vector.iter().map(|value| (value / scale).round().clamp(-127.0, 127.0) as i8).collect();
        Self { values, scale }
    }
}

/// Up to [`CHUNK`] records that follow one another.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chunk {
    /// `[len][dim]`.
    pub codes: Vec<i8>,
    pub scales: Vec<f32>,
    pub ids: Vec<u32>,
}

impl Chunk {
    pub fn len(&self) -> usize {
        self.ids.len()
    }
}

/// The codes; cloning shares them.
#[derive(Clone, Debug)]
pub(crate) struct Codes {
    full: Arc<Vec<Arc<Chunk>>>,
    tail: Arc<Chunk>,
    dim: usize,
}

impl Codes {
    pub fn new(dim: usize) -> Self {
        Self { full: Arc::default(), tail: Arc::default(), dim }
    }

    /// Records, superseded ones included.
    pub fn len(&self) -> usize {
        self.full.len() * CHUNK + self.tail.len()
    }

    pub fn push(&mut self, id: u32, values: &[i8], scale: f32) {
        debug_assert_eq!(values.len(), self.dim);
        let tail = Arc::make_mut(&mut self.tail);
        if tail.ids.is_empty() {
            tail.codes.reserve_exact(CHUNK * self.dim);
        }
        tail.codes.extend_from_slice(values);
        tail.scales.push(scale);
        tail.ids.push(id);
        if tail.len() == CHUNK {
            Arc::make_mut(&mut self.full).push(std::mem::take(&mut self.tail));
        }
    }

    /// Chunks with the row of their first record.
    pub fn chunks(&self) -> impl Iterator<Item = (usize, &Chunk)> {
        let chunks = self.full.iter().chain(std::iter::once(&self.tail));
        chunks.enumerate().map(|(at, chunk)| (at * CHUNK, chunk.as_ref()))
    }

    /// Code, scale and point id of one record.
    pub fn at(&self, row: usize) -> Option<(&[i8], f32, u32)> {
        let (chunk, row) = self.chunk_of(row)?;
        let id = *chunk.ids.get(row)?;
        Some((&chunk.codes[row * self.dim..(row + 1) * self.dim], chunk.scales[row], id))
    }

    /// Bytes of codes, scales and ids.
    pub fn heap_bytes(&self) -> usize {
        self.len() * (self.dim + 8)
    }

    fn chunk_of(&self, row: usize) -> Option<(&Chunk, usize)> {
        let (at, row) = (row / CHUNK, row % CHUNK);
        if at == self.full.len() {
            Some((self.tail.as_ref(), row))
        } else {
            Some((self.full.get(at)?.as_ref(), row))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_keep_each_component_within_half_a_step() {
        let vector = [0.9, -0.3, 0.001, -0.31];
        let code = Code::of(&vector);
        assert_eq!(code.values[0], 127);
        for (value, code_value) in vector.iter().zip(&code.values) {
            assert!((value - f32::from(*code_value) * code.scale).abs() <= code.scale / 2.0 + 1e-7);
        }
        assert_eq!(Code::of(&[0.0, 0.0]), Code { values: vec![0, 0], scale: 0.0 });
        let subnormal = Code::of(&[1e-42, 0.0]);
        assert_eq!(subnormal.values, [0, 0]);
    }

    #[test]
    fn a_reader_keeps_what_it_saw_while_the_writer_appends() {
        let mut codes = Codes::new(2);
        for id in 0..(2 * CHUNK as u32 + 3) {
            codes.push(id, &[id as i8, 1], 0.5);
        }
        let reader = codes.clone();
        for id in 0..(2 * CHUNK as u32) {
            codes.push(id, &[0, 0], 0.0);
        }
        assert_eq!((reader.len(), codes.len()), (2 * CHUNK + 3, 4 * CHUNK + 3));
        for slot in 0..reader.len() {
            let (values, _, id) = reader.at(slot).expect("present");
            assert_eq!((values, id), (&[slot as i8, 1][..], slot as u32));
        }
        assert!(reader.at(reader.len()).is_none());
        assert_eq!(reader.chunks().map(|(at, _)| at).collect::<Vec<_>>(), [0, CHUNK, 2 * CHUNK]);
    }
}
