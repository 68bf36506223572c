//! What finds nodes of a sealed segment near a query: one trait, several engines, chosen by
//! [`VectorConfig::engine`](crate::VectorConfig::engine).
//!
//! An engine only proposes nodes. Which of them count, their exact cosines and the order of results are decided by
//! the caller, so an engine that returns a node twice, or one that is dead, does no harm.

mod build;
mod graph;
mod hnsw_rs;
mod layer;
#[cfg(feature = "usearch")]
mod usearch;

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::codes::Code;
use crate::kernel::Dots;
use crate::sealed::SealedCodes;
use crate::{VectorConfig, VectorError};

pub(crate) use build::extends_to;
pub(crate) use graph::{GraphShape, MappedLinks};

/// What finds candidates among sealed points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// Every code is read for every query: exact over the codes, 15 ms for a million on one core.
    Flat,
    /// Our own HNSW over the mapped codes (`engines/graph.rs`): filters while it walks, is extended by new points
    /// instead of built again, and its links are mapped too.
    #[default]
    Graph,
    /// The graph of crate `hnsw_rs` over the same codes; its links are in memory.
    HnswRs,
    /// The graph of the C++ library usearch over 16-bit floats of its own, mapped. Needs the cargo feature
    /// `usearch`.
    Usearch,
}

impl Engine {
    /// Whether this build has the engine.
    pub fn available(self) -> bool {
        self != Self::Usearch || cfg!(feature = "usearch")
    }

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Graph => "graph",
            Self::HnswRs => "hnsw_rs",
            Self::Usearch => "usearch",
        }
    }

    /// All engines this build has.
    pub fn all() -> Vec<Self> {
        let engines = [Self::Flat, Self::Graph, Self::HnswRs, Self::Usearch];
        engines.into_iter().filter(|engine| engine.available()).collect()
    }
}

/// One question to an engine.
pub(crate) struct Ask<'a> {
    /// Full precision, unit length.
    #[cfg_attr(not(feature = "usearch"), expect(dead_code, reason = "usearch works on full precision"))]
    pub vector: &'a [f32],
    pub code: &'a Code,
    /// Candidates to keep: more find more and take longer.
    pub ef: usize,
    /// Nodes wanted among those that pass, at most `ef`.
    pub want: usize,
    /// Share of nodes that pass, above 0.
    pub share: f64,
    /// Whether a node may be an answer.
    pub passes: &'a dyn Fn(u32) -> bool,
    /// Nodes looked at after which the engine should give up.
    pub budget: usize,
    pub dots: Dots,
}

impl Ask<'_> {
    /// Nodes to ask for when the filter is applied afterwards: a tenth more than the share suggests, because what
    /// passes is not spread evenly.
    pub fn over_fetch(&self, nodes: usize) -> usize {
        ((self.want as f64 / self.share * 1.1).ceil() as usize).min(nodes)
    }
}

/// A graph over sealed codes.
pub(crate) trait Graph: Send + Sync {
    /// About the nearest nodes, in any order; not all of them need pass. None when it gave up.
    fn search(&self, codes: &SealedCodes, ask: &Ask) -> Option<Vec<u32>>;

    /// The links, of a graph that can be extended.
    fn links(&self) -> Option<&MappedLinks> {
        None
    }

    /// Bytes on the heap; mapped files are not counted.
    fn heap_bytes(&self) -> usize;
}

/// Reads the full-precision vector of a node.
pub(crate) type Originals<'a> = dyn Fn(u32, &mut [f32]) -> Result<(), VectorError> + Sync + 'a;

/// What a graph is built from.
pub(crate) struct Material<'a> {
    /// Where its files go.
    pub dir: &'a Path,
    pub codes: &'a Arc<SealedCodes>,
    #[cfg_attr(not(feature = "usearch"), expect(dead_code, reason = "usearch works on full precision"))]
    pub originals: &'a Originals<'a>,
    /// What [`order`] gave for these nodes.
    pub shape: Option<GraphShape>,
    /// The links of the first nodes of `codes`, if they are to be kept.
    pub before: Option<&'a MappedLinks>,
    pub config: &'a VectorConfig,
    pub dots: Dots,
    /// False when the work should stop.
    pub go_on: &'a (dyn Fn() -> bool + Sync),
}

/// Builds the files of a graph, durable at return, and gives their names; none when it was stopped.
pub(crate) fn build(engine: Engine, material: &Material) -> Result<Option<Vec<&'static str>>, VectorError> {
    match engine {
        Engine::Flat => Ok(Some(Vec::new())),
        Engine::Graph => build::build(material),
        Engine::HnswRs => hnsw_rs::build(material),
        #[cfg(feature = "usearch")]
        Engine::Usearch => usearch::build(material),
        #[cfg(not(feature = "usearch"))]
        Engine::Usearch => Err(unavailable()),
    }
}

/// Puts the places of points into the order an engine wants its nodes in, and gives the shape that follows.
pub(crate) fn order(engine: Engine, places: &mut [u32], m: usize) -> Option<GraphShape> {
    (engine == Engine::Graph).then(|| build::order(places, m))
}

/// Opens a graph whose files have passed their checksums; none for [`Engine::Flat`].
pub(crate) fn open(
    engine: Engine,
    dir: &Path,
    codes: &Arc<SealedCodes>,
    shape: Option<&GraphShape>,
    dots: Dots,
) -> Result<Option<Box<dyn Graph>>, String> {
    Ok(Some(match engine {
        Engine::Flat => return Ok(None),
        Engine::Graph => Box::new(graph::MappedGraph::open(dir, codes, shape)?),
        Engine::HnswRs => Box::new(hnsw_rs::HnswRs::open(dir, codes, dots)?),
        #[cfg(feature = "usearch")]
        Engine::Usearch => Box::new(usearch::Usearch::open(dir, codes)?),
        #[cfg(not(feature = "usearch"))]
        Engine::Usearch => return Err(unavailable().to_string()),
    }))
}

#[cfg(not(feature = "usearch"))]
fn unavailable() -> VectorError {
    VectorError::Engine { engine: Engine::Usearch }
}
