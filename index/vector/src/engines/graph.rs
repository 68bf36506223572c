//! Our own HNSW graph, served from a mapped file (Malkov and Yashunin, arXiv:1603.09320).
//!
//! Nodes of higher levels come first, so level `l` is a dense array over nodes `0..level_nodes[l]`, and node 0 is
//! where every search begins. A node whose code an earlier one has is its *twin*: it has no links and hangs in a chain
//! behind the other, because many equal nodes would use up each other's links (the same post again and again is
//! common). Links are fixed-stride rows of node numbers that end at the first `0xFFFFFFFF`.
//!
//! File `links`; little endian, each section padded with zeros to a multiple of 64 bytes:
//!
//! ```text
//! level 0        nodes * 2m * 4               u32
//! level 1 ...    level_nodes[level] * m * 4   u32
//! twins          nodes * 4                    u32
//! ```

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::layer::{Bounds, Links, NO_LINK, Scratch, Target, descend, node_of, walk};
use super::{Ask, Graph};
use crate::mapped::{Mapped, padded};
use crate::sealed::SealedCodes;

/// Name of the file in the segment's directory.
pub(crate) const LINKS_FILE: &str = "links";
/// Levels of the largest graph: enough for `2^32` nodes with `m` = 2.
pub(crate) const MAX_LEVELS: usize = 32;
/// Scratch buffers kept for later searches.
const KEPT_SCRATCHES: usize = 64;

/// The measures of a graph; part of the segment's manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GraphShape {
    pub m: usize,
    /// Nodes of each level, the lowest first.
    pub level_nodes: Vec<usize>,
}

impl GraphShape {
    /// Links a node has room for on `level`.
    pub fn width(&self, level: usize) -> usize {
        if level == 0 { 2 * self.m } else { self.m }
    }

    /// Checks that what a file claims can be.
    fn check(&self, nodes: usize) -> Result<(), String> {
        let falls = self.level_nodes.windows(2).all(|pair| pair[0] >= pair[1] && pair[1] > 0);
        let fits = self.level_nodes.first() == Some(&nodes) && self.level_nodes.len() <= MAX_LEVELS;
        if falls && fits && (2..=64).contains(&self.m) {
            Ok(())
        } else {
            Err(format!("graph of {nodes} nodes claims to be {self:?}"))
        }
    }
}

/// The links of a graph in a mapped file.
pub(crate) struct MappedLinks {
    file: Mapped,
    shape: GraphShape,
    /// Byte where each level begins, then where the twins do.
    starts: Vec<usize>,
}

impl MappedLinks {
    pub fn open(dir: &Path, nodes: usize, shape: &GraphShape) -> Result<Self, String> {
        shape.check(nodes)?;
        let path = dir.join(LINKS_FILE);
        let file = Mapped::open(&path).map_err(|error| format!("cannot map {}: {error}", path.display()))?;
        let (mut starts, mut bytes) = (Vec::new(), 0);
        for (level, nodes) in shape.level_nodes.iter().enumerate() {
            starts.push(bytes);
            bytes += padded(4 * nodes * shape.width(level));
        }
        starts.push(bytes);
        bytes += padded(4 * nodes);
        let found = file.bytes().len();
        if bytes != found {
            return Err(format!("{} has {found} bytes, expected {bytes}", path.display()));
        }
        Ok(Self { file, shape: shape.clone(), starts })
    }

    /// The links of one level, `[nodes][width]`.
    pub fn level(&self, level: usize) -> &[u32] {
        let bytes = 4 * self.shape.level_nodes[level] * self.shape.width(level);
        // Sections begin at multiples of 64 in a page-aligned mapping, so the cast cannot fail.
        bytemuck::cast_slice(&self.file.bytes()[self.starts[level]..self.starts[level] + bytes])
    }

    /// The twin of each node.
    pub fn twins(&self) -> &[u32] {
        let start = self.starts[self.levels()];
        bytemuck::cast_slice(&self.file.bytes()[start..start + 4 * self.shape.level_nodes[0]])
    }

    pub fn file_bytes(&self) -> usize {
        self.file.bytes().len()
    }

    pub fn shape(&self) -> &GraphShape {
        &self.shape
    }
}

impl Links for MappedLinks {
    fn levels(&self) -> usize {
        self.shape.level_nodes.len()
    }

    fn each(&self, level: usize, node: u32, mut visit: impl FnMut(u32)) {
        let width = self.shape.width(level);
        let at = node as usize * width;
        let row = self.level(level).get(at..at + width).unwrap_or_default();
        row.iter().take_while(|link| **link != NO_LINK).for_each(|link| visit(*link));
    }

    fn twin(&self, node: u32) -> u32 {
        self.twins()
            .get(node as usize)
            .copied()
            .filter(|twin| (*twin as usize) < self.shape.level_nodes[0])
            .unwrap_or(NO_LINK)
    }
}

/// A graph that serves searches.
pub(crate) struct MappedGraph {
    links: MappedLinks,
    scratches: Mutex<Vec<Scratch>>,
}

impl MappedGraph {
    pub fn open(dir: &Path, codes: &Arc<SealedCodes>, shape: Option<&GraphShape>) -> Result<Self, String> {
        let shape = shape.ok_or("the manifest does not say what shape the graph has")?;
        let links = MappedLinks::open(dir, codes.nodes(), shape)?;
        Ok(Self { links, scratches: Mutex::default() })
    }
}

impl Graph for MappedGraph {
    fn search(&self, codes: &SealedCodes, ask: &Ask) -> Option<Vec<u32>> {
        let mut scratch = self.scratches.lock().pop().unwrap_or_default();
        let target = Target { codes, dots: ask.dots, values: &ask.code.values, scale: ask.code.scale };
        let found = target.key(0).and_then(|entry| {
            let entry = descend(&self.links, &target, entry, 0, &mut scratch);
            let bounds = Bounds { ef: ask.ef.max(ask.want), budget: ask.budget };
            walk(&self.links, &target, &[entry], 0, bounds, ask.passes, &mut scratch)
        });
        let mut scratches = self.scratches.lock();
        if scratches.len() < KEPT_SCRATCHES {
            scratches.push(scratch);
        }
        Some(found?.into_iter().map(node_of).collect())
    }

    fn links(&self) -> Option<&MappedLinks> {
        Some(&self.links)
    }

    fn heap_bytes(&self) -> usize {
        self.scratches.lock().iter().map(Scratch::heap_bytes).sum()
    }
}
