//! The bytes of `vectors.log`. All integers and floats are little endian.
//!
//! ```text
//! header
//!   0        8   magic "BWBVLOG\n"
//!   8        4   version u32 = 1
//!   12       4   dim u32, 1 to 65536
//!   16       8   incarnation u64: raised each time the log is rewritten, so that a graph segment
//!                built over the records of an earlier one is never used
//!   24       8   FNV-1a (64 bits) of the space fingerprint
//!   32       4   n u32: length of the fingerprint, at most 4096
//!   36       n   the fingerprint, UTF-8
//!   36+n     4   crc32 (IEEE) of bytes 0 to 36+n
//! record, repeated without gaps
//!   0        4   point id u32
//!   4        4   crc32 of the point id's four bytes followed by the components' bytes
//!   8    4*dim   components f32
//! ```
//!
//! The position of a record is its *slot*. A point inserted again is appended again and its last record counts.
//! Fewer bytes than a record at the end, or bad records after which no good one follows, are a torn tail: what a
//! crash between a write and its fsync leaves. A bad record with a good one behind it is damage.

use std::path::Path;

use crate::VectorError;
use crate::config::MAX_DIM;

/// Version of the format above.
pub const VERSION: u32 = 1;
/// Longest fingerprint of an embedding space, in bytes.
pub const MAX_SPACE_BYTES: usize = 4096;
/// Bytes before the fingerprint.
pub(crate) const FIXED_HEADER_BYTES: usize = 36;

const MAGIC: &[u8; 8] = b"BWBVLOG\n";
const RECORD_HEADER_BYTES: usize = 8;

/// What the header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub dim: usize,
    pub incarnation: u64,
    pub space: String,
}

impl Header {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.encoded_bytes());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(self.dim as u32).to_le_bytes());
        bytes.extend_from_slice(&self.incarnation.to_le_bytes());
        bytes.extend_from_slice(&fnv1a(self.space.as_bytes()).to_le_bytes());
        bytes.extend_from_slice(&(self.space.len() as u32).to_le_bytes());
        bytes.extend_from_slice(self.space.as_bytes());
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub fn encoded_bytes(&self) -> usize {
        FIXED_HEADER_BYTES + self.space.len() + 4
    }

    /// Length of the whole header, from its first [`FIXED_HEADER_BYTES`] bytes.
    pub fn total_bytes(fixed: &[u8], path: &Path) -> Result<usize, VectorError> {
        if fixed.len() < FIXED_HEADER_BYTES || &fixed[..8] != MAGIC {
            return Err(VectorError::damaged(path, None, "it does not begin as a vector log"));
        }
        let found = u32_at(fixed, 8);
        if found != VERSION {
            return Err(VectorError::UnsupportedVersion {
                path: path.to_path_buf(),
                expected: VERSION,
                found,
            });
        }
        let space_bytes = u32_at(fixed, 32) as usize;
        if space_bytes > MAX_SPACE_BYTES {
            let detail = format!("fingerprint of {space_bytes} bytes, the limit is {MAX_SPACE_BYTES}");
            return Err(VectorError::damaged(path, None, detail));
        }
        Ok(FIXED_HEADER_BYTES + space_bytes + 4)
    }

    /// Reads a header of exactly the length [`total_bytes`](Self::total_bytes) gave.
    pub fn decode(bytes: &[u8], path: &Path) -> Result<Self, VectorError> {
        let total = Self::total_bytes(bytes, path)?;
        if bytes.len() < total {
            let detail = format!("header has {} bytes, expected {total}", bytes.len());
            return Err(VectorError::damaged(path, None, detail));
        }
        let (covered, expected) = (&bytes[..total - 4], u32_at(bytes, total - 4));
        let found = crc32fast::hash(covered);
        if found != expected {
            let detail = format!("header checksum is {found:08x}, expected {expected:08x}");
            return Err(VectorError::damaged(path, None, detail));
        }
        let space = &covered[FIXED_HEADER_BYTES..];
        let dim = u32_at(covered, 12) as usize;
        let mut hash = [0; 8];
        hash.copy_from_slice(&covered[24..32]);
        let mut incarnation = [0; 8];
        incarnation.copy_from_slice(&covered[16..24]);
        let Ok(space_text) = std::str::from_utf8(space) else {
            return Err(VectorError::damaged(path, None, "fingerprint is not UTF-8"));
        };
        if dim == 0 || dim > MAX_DIM || u64::from_le_bytes(hash) != fnv1a(space) {
            return Err(VectorError::damaged(path, None, "header contradicts itself"));
        }
        Ok(Self { dim, incarnation: u64::from_le_bytes(incarnation), space: space_text.to_owned() })
    }
}

/// Bytes of one record.
pub(crate) fn record_bytes(dim: usize) -> usize {
    RECORD_HEADER_BYTES + 4 * dim
}

/// Appends the record of one point to `out`.
pub(crate) fn encode_record(id: u32, vector: &[f32], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    for value in vector {
        out.extend_from_slice(&value.to_le_bytes());
    }
    let crc = record_crc(&out[start..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// The point id and the components of a record, or the checksums (expected, found) when they differ.
///
/// `components` receives the vector; its length gives the dimensions.
pub(crate) fn decode_record(record: &[u8], components: &mut [f32]) -> Result<u32, (u32, u32)> {
    debug_assert_eq!(record.len(), record_bytes(components.len()));
    let (expected, found) = (u32_at(record, 4), record_crc(record));
    if expected != found {
        return Err((expected, found));
    }
    for (value, bytes) in components.iter_mut().zip(record[RECORD_HEADER_BYTES..].as_chunks::<4>().0) {
        *value = f32::from_le_bytes(*bytes);
    }
    Ok(u32_at(record, 0))
}

fn record_crc(record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&record[..4]);
    hasher.update(&record[RECORD_HEADER_BYTES..]);
    hasher.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

/// FNV-1a over bytes, 64 bits (offset basis and prime as published by Fowler, Noll and Vo).
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header { dim: 3, incarnation: 7, space: "bge/cls/3/ab".into() }
    }

    #[test]
    fn header_comes_back_and_every_flipped_byte_is_noticed() {
        let path = Path::new("vectors.log");
        let bytes = header().encode();
        assert_eq!(bytes.len(), header().encoded_bytes());
        assert_eq!(Header::decode(&bytes, path).expect("intact"), header());
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            assert!(Header::decode(&flipped, path).is_err(), "byte {at} was flipped unnoticed");
        }
    }

    #[test]
    fn record_comes_back_and_every_flipped_byte_is_noticed() {
        let mut bytes = Vec::new();
        encode_record(42, &[0.5, -1.5, 2.0], &mut bytes);
        let mut vector = [0.0; 3];
        assert_eq!(decode_record(&bytes, &mut vector), Ok(42));
        assert_eq!(vector.map(f32::to_bits), [0.5f32, -1.5, 2.0].map(f32::to_bits));
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(decode_record(&flipped, &mut vector).is_err(), "byte {at} was flipped unnoticed");
        }
    }

    #[test]
    fn fnv1a_gives_the_published_values() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
