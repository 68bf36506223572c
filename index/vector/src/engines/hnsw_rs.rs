//! The graph of crate `hnsw_rs`, behind checks that make its weaknesses harmless.
//!
//! The library has no delete, panics or ends the process on input it does not like, and returns a point inserted
//! twice twice. Here it knows nodes only: each is inserted once, distances are computed over our codes and clamped so
//! that its assertions cannot fire, its dump is opened only after sizes and checksums have passed, and what it finds
//! is filtered afterwards, because with a filter it walks the whole graph.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use hnsw_rs::anndists::dist::distances::Distance;
use hnsw_rs::api::AnnT;
use hnsw_rs::hnsw::Hnsw;
use hnsw_rs::hnswio::HnswIo;
use rayon::prelude::*;

use super::{Ask, Graph, Material};
use crate::VectorError;
use crate::codes::Code;
use crate::kernel::Dots;
use crate::sealed::SealedCodes;

const BASENAME: &str = "graph";
const DUMP_FILES: [&str; 2] = ["graph.hnsw.graph", "graph.hnsw.data"];
/// The library dumps only graphs with exactly its largest number of layers.
const LAYERS: usize = 16;
/// Points inserted one after another before the rest go in parallel: the first point has nobody to link to, and
/// points that race with it would stay without links.
const SERIAL_POINTS: usize = 256;

/// Cosine distance, `1 - cosine`, of two points: a point is `[node]`, or a query as `[bits of its scale, its code,
/// four components a number …]`.
#[derive(Clone)]
struct NodeDistance {
    codes: Arc<SealedCodes>,
    dots: Dots,
}

impl NodeDistance {
    fn code<'a>(&'a self, point: &'a [u32]) -> Option<(&'a [i8], f32)> {
        match point {
            [] => None,
            [node] => self.codes.code(*node),
            [scale, packed @ ..] => {
                let values: &[i8] = bytemuck::cast_slice(packed);
                Some((values.get(..self.codes.dim())?, f32::from_bits(*scale)))
            }
        }
    }
}

impl Distance<u32> for NodeDistance {
    fn eval(&self, a: &[u32], b: &[u32]) -> f32 {
        let (Some((a, a_scale)), Some((b, b_scale))) = (self.code(a), self.code(b)) else { return 4.0 };
        let cosine = self.dots.pair(a, b) as f32 * a_scale * b_scale;
        // NaN cannot come from finite scales; `clamp` keeps the distance within what the library asserts.
        (1.0 - cosine).clamp(0.0, 4.0)
    }
}

fn packed(query: &Code) -> Vec<u32> {
    let mut point = vec![query.scale.to_bits()];
    point.extend(query.values.chunks(4).map(|chunk| {
        let mut bytes = [0; 4];
        bytes.iter_mut().zip(chunk).for_each(|(byte, value)| *byte = value.cast_unsigned());
        u32::from_ne_bytes(bytes)
    }));
    point
}

/// Builds and dumps the graph, durable at return; none when it was stopped.
pub(crate) fn build(material: &Material) -> Result<Option<Vec<&'static str>>, VectorError> {
    let failed = |message: String| VectorError::Graph { path: material.dir.to_path_buf(), message };
    let distance = NodeDistance { codes: Arc::clone(material.codes), dots: material.dots };
    let (nodes, config) = (material.codes.nodes(), material.config);
    let graph = Hnsw::<u32, NodeDistance>::new(config.m, nodes, LAYERS, config.ef_construction, distance);
    let insert = |node: usize| {
        if (material.go_on)() {
            graph.insert((&[node as u32], node));
        }
    };
    let serial = nodes.min(SERIAL_POINTS);
    (0..serial).for_each(insert);
    if config.threads == 1 {
        (serial..nodes).for_each(insert);
    } else {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(config.threads)
            .thread_name(|at| format!("vector-seal-{at}"))
            .build()
            .map_err(|error| failed(error.to_string()))?;
        pool.install(|| (serial..nodes).into_par_iter().for_each(insert));
    }
    if !(material.go_on)() {
        return Ok(None);
    }
    for name in DUMP_FILES {
        // The library panics when it cannot create its files; here it is an error.
        let path = material.dir.join(name);
        File::create(&path).map_err(VectorError::io("create", &path))?;
    }
    let dumped = graph.file_dump(material.dir, BASENAME).map_err(|error| failed(error.to_string()))?;
    if dumped != BASENAME {
        return Err(failed(format!("dump was named {dumped}, expected {BASENAME}")));
    }
    for name in DUMP_FILES {
        let path = material.dir.join(name);
        File::open(&path).and_then(|file| file.sync_all()).map_err(VectorError::io("sync", &path))?;
    }
    Ok(Some(DUMP_FILES.to_vec()))
}

/// A loaded graph.
pub(crate) struct HnswRs {
    graph: Hnsw<'static, u32, NodeDistance>,
    m: usize,
}

impl HnswRs {
    /// Loads a dump whose checksums have passed.
    pub fn open(dir: &Path, codes: &Arc<SealedCodes>, dots: Dots) -> Result<Self, String> {
        // A loaded graph borrows its loader for as long as it lives, although without memory mapping it uses
        // nothing of it: two strings are left behind for each load, a few times in the life of a process.
        let loader: &'static HnswIo = Box::leak(Box::new(HnswIo::new(dir, BASENAME)));
        let distance = NodeDistance { codes: Arc::clone(codes), dots };
        let graph = loader.load_hnsw_with_dist(distance).map_err(|error| error.to_string())?;
        if graph.get_nb_point() != codes.nodes() {
            return Err(format!("graph has {} points, expected {}", graph.get_nb_point(), codes.nodes()));
        }
        let m = usize::from(graph.get_max_nb_connection());
        Ok(Self { graph, m })
    }
}

impl Graph for HnswRs {
    fn search(&self, codes: &SealedCodes, ask: &Ask) -> Option<Vec<u32>> {
        let fetch = ask.over_fetch(codes.nodes());
        let found = self.graph.search(&packed(ask.code), fetch, ask.ef.max(fetch));
        Some(found.into_iter().map(|neighbour| neighbour.d_id as u32).collect())
    }

    fn heap_bytes(&self) -> usize {
        // A link is a counted point with its distance (`PointWithOrder`, 32 bytes with its allocation), a point is
        // 16 layers of locked lists: an estimate, the library does not say.
        self.graph.get_nb_point() * (2 * self.m * 24 + 600)
    }
}
