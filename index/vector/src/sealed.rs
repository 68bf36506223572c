//! The codes of a sealed segment: one mapped file, read by the graph, by flat scans and at open instead of the log.
//!
//! File `codes`; little endian, each section padded with zeros to a multiple of 64 bytes:
//!
//! ```text
//! codes    nodes * dim   i8
//! scales   nodes * 4     f32
//! ids      nodes * 4     u32, point id
//! slots    nodes * 4     u32, record of the log; 0xFFFFFFFF for a node whose point is dead or was inserted again:
//!                        it only carries links
//! ```

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::VectorError;
use crate::mapped::{Mapped, SECTION_ALIGNMENT, padded};

/// Name of the file in the segment's directory.
pub(crate) const CODES_FILE: &str = "codes";
/// Slot of a node that only carries links.
pub(crate) const DEAD_SLOT: u32 = u32::MAX;

/// Codes, scales, ids and slots by node.
pub(crate) struct SealedCodes {
    file: Mapped,
    nodes: usize,
    dim: usize,
}

impl SealedCodes {
    /// Maps the file; an error says what does not fit.
    pub fn open(dir: &Path, nodes: usize, dim: usize) -> Result<Self, String> {
        let path = dir.join(CODES_FILE);
        let file = Mapped::open(&path).map_err(|error| format!("cannot map {}: {error}", path.display()))?;
        let expected = nodes.checked_mul(dim).map(|codes| padded(codes) + 3 * padded(4 * nodes));
        let found = file.bytes().len();
        if expected != Some(found) {
            return Err(format!("{} has {found} bytes, expected {expected:?}", path.display()));
        }
        Ok(Self { file, nodes, dim })
    }

    pub fn nodes(&self) -> usize {
        self.nodes
    }

    pub fn dim(&self) -> usize {
        self.dim
    }

    /// `[nodes][dim]`.
    pub fn codes(&self) -> &[i8] {
        bytemuck::cast_slice(&self.file.bytes()[..self.nodes * self.dim])
    }

    pub fn scales(&self) -> &[f32] {
        bytemuck::cast_slice(self.section(0))
    }

    pub fn ids(&self) -> &[u32] {
        bytemuck::cast_slice(self.section(1))
    }

    pub fn slots(&self) -> &[u32] {
        bytemuck::cast_slice(self.section(2))
    }

    /// Code and scale of a node.
    pub fn code(&self, node: u32) -> Option<(&[i8], f32)> {
        let scale = *self.scales().get(node as usize)?;
        let at = node as usize * self.dim;
        Some((&self.codes()[at..at + self.dim], scale))
    }

    pub fn file_bytes(&self) -> usize {
        self.file.bytes().len()
    }

    /// The numbers of section `at` after the codes. Sections begin at multiples of 64 in a page-aligned mapping and
    /// their lengths are multiples of 4, so the casts above cannot fail.
    fn section(&self, at: usize) -> &[u8] {
        let start = padded(self.nodes * self.dim) + at * padded(4 * self.nodes);
        &self.file.bytes()[start..start + 4 * self.nodes]
    }
}

/// One node to be written.
pub(crate) struct Node<'a> {
    pub code: &'a [i8],
    pub scale: f32,
    pub id: u32,
    pub slot: u32,
}

/// Writes the file, durable at return. False when `go_on` said no.
pub(crate) fn write<'a>(
    dir: &Path,
    nodes: impl Iterator<Item = Node<'a>>,
    go_on: &dyn Fn() -> bool,
) -> Result<bool, VectorError> {
    let path = dir.join(CODES_FILE);
    let failed = || VectorError::io("write", &path);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&path).map_err(failed())?);
    let (mut scales, mut ids, mut slots) = (Vec::new(), Vec::new(), Vec::new());
    let mut bytes = 0;
    for node in nodes {
        if ids.len() % 4096 == 0 && !go_on() {
            return Ok(false);
        }
        out.write_all(bytemuck::cast_slice(node.code)).map_err(failed())?;
        bytes += node.code.len();
        scales.push(node.scale.to_bits());
        ids.push(node.id);
        slots.push(node.slot);
    }
    pad(&mut out, bytes).map_err(failed())?;
    for section in [scales, ids, slots] {
        write_numbers(&mut out, section.iter().copied()).map_err(failed())?;
    }
    let file = out.into_inner().map_err(|error| failed()(error.into_error()))?;
    file.sync_all().map_err(VectorError::io("sync", &path))?;
    Ok(true)
}

/// Writes a section of numbers with its padding.
pub(crate) fn write_numbers(
    out: &mut impl Write,
    numbers: impl ExactSizeIterator<Item = u32>,
) -> std::io::Result<()> {
    let bytes = 4 * numbers.len();
    for number in numbers {
        out.write_all(&number.to_le_bytes())?;
    }
    pad(out, bytes)
}

fn pad(out: &mut impl Write, bytes: usize) -> std::io::Result<()> {
    out.write_all(&[0; SECTION_ALIGNMENT][..padded(bytes) - bytes])
}
