//! Searching one fixed state of the index: over the codes, by flat scan or graph, then in full precision.

use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::codes::{CHUNK, Code, Codes};
use crate::engines::Ask;
use crate::kernel::{Dots, dot_f32};
use crate::log::Log;
use crate::positions::Positions;
use crate::segment::Segment;
use crate::topk::{Scored, TopK};
use crate::{VectorConfig, VectorError};

/// How many codes are read in order in the time one code is looked up by its point id, or by a graph: 176 ns against
/// 15 at a million points.
const LOOKUP_COST_CODES: u64 = 12;
/// Below this share of allowed points the graph is never used: nearly all it finds would be thrown away.
const GRAPH_SHARE: f64 = 0.01;

/// Codes that are brought from memory together.
const GATHER: usize = 32;

/// One state of the index; cloning shares everything.
///
/// A code is addressed by its *place*: first the nodes of the sealed segment, then the rows of the tail. Places change
/// with each seal, slots of the log do not.
#[derive(Clone)]
pub(crate) struct View {
    pub log: Arc<Log>,
    pub sealed: Option<Arc<Segment>>,
    /// Records behind the sealed ones.
    pub tail: Codes,
    /// Place of the latest code of each point.
    pub positions: Positions,
    pub points: Arc<RoaringBitmap>,
}

/// How candidates were found; tests look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    Allowed,
    Flat,
    Graph,
    GraphThenScan,
}

/// One query as the scans see it.
#[derive(Clone, Copy)]
struct Scan<'a> {
    query: &'a Code,
    allowed: Option<&'a RoaringBitmap>,
    dots: Dots,
}

impl View {
    pub fn empty(log: Arc<Log>) -> Self {
        let dim = log.header.dim;
        Self {
            log,
            sealed: None,
            tail: Codes::new(dim),
            positions: Positions::default(),
            points: Arc::default(),
        }
    }

    /// A view of what is sealed alone.
    pub fn of_segment(log: Arc<Log>, segment: Arc<Segment>) -> Self {
        let mut view = Self::empty(log);
        let mut ids = Vec::with_capacity(segment.codes.nodes());
        for (node, id) in segment.alive() {
            view.positions.set(id, node);
            ids.push(id);
        }
        view.points = Arc::new(ids.into_iter().collect());
        view.sealed = Some(segment);
        view
    }

    /// Appends the code of the next record.
    pub fn push(&mut self, id: u32, values: &[i8], scale: f32) {
        let place = self.places() as u32;
        self.tail.push(id, values, scale);
        self.positions.set(id, place);
        Arc::make_mut(&mut self.points).insert(id);
    }

    /// Nodes of the sealed segment.
    pub fn nodes(&self) -> usize {
        self.sealed.as_ref().map_or(0, |segment| segment.codes.nodes())
    }

    /// Codes, stale ones included.
    pub fn places(&self) -> usize {
        self.nodes() + self.tail.len()
    }

    /// The slot of the first record of the tail.
    pub fn first_slot(&self) -> usize {
        self.sealed.as_ref().map_or(0, |segment| segment.records)
    }

    /// Records of the log.
    pub fn records(&self) -> usize {
        self.first_slot() + self.tail.len()
    }

    /// The record a code was made of; none when there is no such place.
    pub fn slot(&self, place: u32) -> Option<usize> {
        match (place as usize).checked_sub(self.nodes()) {
            Some(row) => Some(self.first_slot() + row),
            None => Some(*self.sealed.as_ref()?.codes.slots().get(place as usize)? as usize),
        }
    }

    /// Code, scale and point id.
    pub fn code(&self, place: u32) -> Option<(&[i8], f32, u32)> {
        if let Some(row) = (place as usize).checked_sub(self.nodes()) {
            return self.tail.at(row);
        }
        let codes = &self.sealed.as_ref()?.codes;
        let (values, scale) = codes.code(place)?;
        Some((values, scale, *codes.ids().get(place as usize)?))
    }

    /// The best `want` codes, and how they were found; `k` of them at least if so many are allowed.
    pub fn candidates(
        &self,
        query: (&[f32], &Code),
        want: usize,
        k: usize,
        allowed: Option<&RoaringBitmap>,
        dots: Dots,
        config: &VectorConfig,
    ) -> (Vec<Scored>, Path) {
        let points = self.points.len();
        let eligible = allowed.map_or(points, |allowed| allowed.intersection_len(&self.points));
        if eligible == 0 {
            return (Vec::new(), Path::Allowed);
        }
        let scan = Scan { query: query.1, allowed, dots };
        let (flat_cost, lookup_cost) = (self.places() as u64, eligible.saturating_mul(LOOKUP_COST_CODES));
        let scan_cost = flat_cost.min(lookup_cost);
        let mut path = None;
        let share = eligible as f64 / points as f64;
        let ef = config.ef_search.max(want);
        let cost = (ef as f64 / share * config.graph_cost_codes as f64) as u64 + self.tail.len() as u64;
        if let Some(segment) = &self.sealed
            && let Some(graph) = &segment.graph
            && share >= GRAPH_SHARE
            && cost < scan_cost
        {
            let budget = if config.graph_cost_codes == 0 { u64::MAX } else { scan_cost / LOOKUP_COST_CODES };
            let passes = |node: u32| self.counts(segment.codes.ids()[node as usize], node, allowed);
            let (vector, code) = query;
            let ask = Ask { vector, code, ef, want, share, passes: &passes, budget: budget as usize, dots };
            let mut top = TopK::new(want);
            for node in graph.search(&segment.codes, &ask).unwrap_or_default() {
                if let Some((values, scale, id)) = self.code(node)
                    && self.counts(id, node, allowed)
                {
                    top.offer_once(Scored { score: code_score(scan, values, scale), id, place: node });
                }
            }
            self.scan_tail(scan, &mut top);
            if top.len() as u64 >= eligible.min(k as u64) {
                return (top.into_sorted(), Path::Graph);
            }
            path = Some(Path::GraphThenScan);
        }
        match allowed {
            Some(allowed) if lookup_cost < flat_cost => {
                (self.scan_allowed(scan, want, allowed), path.unwrap_or(Path::Allowed))
            }
            _ => {
                let mut top = TopK::new(want);
                self.scan_sealed(scan, &mut top);
                self.scan_tail(scan, &mut top);
                (top.into_sorted(), path.unwrap_or(Path::Flat))
            }
        }
    }

    /// Whether the code at `place` is the latest of its point and the point is allowed.
    fn counts(&self, id: u32, place: u32, allowed: Option<&RoaringBitmap>) -> bool {
        let all_current = self.places() as u64 == self.points.len();
        (all_current || self.positions.get(id) == Some(place))
            && allowed.is_none_or(|allowed| allowed.contains(id))
    }

    fn scan_sealed(&self, scan: Scan, top: &mut TopK) {
        let Some(segment) = &self.sealed else { return };
        let codes = &segment.codes;
        let blocks = codes.codes().chunks(CHUNK * codes.dim());
        let blocks = blocks.zip(codes.scales().chunks(CHUNK)).zip(codes.ids().chunks(CHUNK));
        for (at, ((codes, scales), ids)) in blocks.enumerate() {
            self.scan_block(scan, at * CHUNK, (codes, scales, ids), top);
        }
    }

    fn scan_tail(&self, scan: Scan, top: &mut TopK) {
        for (row, chunk) in self.tail.chunks() {
            self.scan_block(scan, self.nodes() + row, (&chunk.codes, &chunk.scales, &chunk.ids), top);
        }
    }

    /// At most [`CHUNK`] codes that follow one another from place `first` on.
    fn scan_block(&self, scan: Scan, first: usize, block: (&[i8], &[f32], &[u32]), top: &mut TopK) {
        let (codes, scales, ids) = block;
        let mut products = [0; CHUNK];
        let products = &mut products[..ids.len()];
        scan.dots.rows(&scan.query.values, codes, products);
        for (((product, scale), id), place) in products.iter().zip(scales).zip(ids).zip(first as u32..) {
            let (score, id) = (*product as f32 * scale * scan.query.scale, *id);
            if score >= top.threshold && self.counts(id, place, scan.allowed) {
                top.offer(Scored { score, id, place });
            }
        }
    }

    /// The allowed points: sealed ones a few at a time, because they are far apart in memory and come faster
    /// together, others one by one.
    fn scan_allowed(&self, scan: Scan, want: usize, allowed: &RoaringBitmap) -> Vec<Scored> {
        let mut top = TopK::new(want);
        let (nodes, mut batch) = (self.nodes() as u32, Vec::with_capacity(GATHER));
        for id in allowed {
            let Some(place) = self.positions.get(id) else { continue };
            if place < nodes {
                batch.push(place);
                if batch.len() == GATHER {
                    self.scan_nodes(scan, &batch, &mut top);
                    batch.clear();
                }
            } else if let Some((values, scale, _)) = self.code(place) {
                top.offer(Scored { score: code_score(scan, values, scale), id, place });
            }
        }
        self.scan_nodes(scan, &batch, &mut top);
        top.into_sorted()
    }

    /// At most [`GATHER`] nodes that are known to count.
    fn scan_nodes(&self, scan: Scan, nodes: &[u32], top: &mut TopK) {
        let Some(segment) = &self.sealed else { return };
        let (codes, mut products) = (&segment.codes, [0; GATHER]);
        let products = &mut products[..nodes.len()];
        scan.dots.gather(&scan.query.values, codes.codes(), nodes, products);
        for (node, product) in nodes.iter().zip(products.iter()) {
            let score = *product as f32 * codes.scales()[*node as usize] * scan.query.scale;
            if score >= top.threshold {
                top.offer(Scored { score, id: codes.ids()[*node as usize], place: *node });
            }
        }
    }

    /// Replaces the scores by full-precision cosines and sorts again.
    pub fn rescore(&self, query: &[f32], mut candidates: Vec<Scored>) -> Result<Vec<Scored>, VectorError> {
        let mut reader = OriginalReader::new(self, query.len());
        for candidate in &mut candidates {
            candidate.score = dot_f32(query, reader.read(candidate.place, candidate.id)?);
        }
        candidates.sort_unstable_by(Scored::rank);
        Ok(candidates)
    }
}

fn code_score(scan: Scan, values: &[i8], scale: f32) -> f32 {
    scan.dots.pair(&scan.query.values, values) as f32 * scale * scan.query.scale
}

/// Reads full-precision vectors from the log, with buffers of its own.
pub(crate) struct OriginalReader<'a> {
    view: &'a View,
    vector: Vec<f32>,
    scratch: Vec<u8>,
}

impl<'a> OriginalReader<'a> {
    pub fn new(view: &'a View, dim: usize) -> Self {
        Self { view, vector: vec![0.0; dim], scratch: Vec::new() }
    }

    /// The vector of the code at `place`, which must be of point `id`.
    pub fn read(&mut self, place: u32, id: u32) -> Result<&[f32], VectorError> {
        // A place comes from the same view; one past its end is read as a record past the end of the log.
        let slot = self.view.slot(place).unwrap_or(self.view.records());
        let found = self.view.log.read(slot, &mut self.vector, &mut self.scratch)?;
        if found == id { Ok(&self.vector) } else { Err(self.view.log.wrong_point(slot, id, found)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PointId, VectorIndex};
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    const DIM: usize = 24;

    fn unit(rng: &mut SmallRng) -> Vec<f32> {
        let vector: Vec<f32> = (0..DIM).map(|_| rng.random_range(-1.0..1.0)).collect();
        let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
        vector.iter().map(|v| v / length).collect()
    }

    #[test]
    fn path_follows_the_share_of_allowed_points_and_the_graph_falls_back() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let config = VectorConfig {
            seal_min_points: 1000,
            graph_cost_codes: 0,
            rescore: 20,
            ef_search: 20,
            ef_construction: 40,
            ..VectorConfig::default()
        };
        let index = VectorIndex::open(dir.path(), "space", DIM, config.clone()).expect("opens");
        let mut rng = SmallRng::seed_from_u64(11);
        let vectors: Vec<Vec<f32>> = (0..2000).map(|_| unit(&mut rng)).collect();
        let batch: Vec<_> = vectors.iter().zip(0..).map(|(v, id)| (PointId(id), v.as_slice())).collect();
        index.insert(&batch).expect("inserted");
        let query = unit(&mut rng);
        let code = Code::of(&query);
        let path = |k, allowed: Option<&RoaringBitmap>, config: &VectorConfig| {
            index.view().candidates((&query, &code), 20, k, allowed, Dots::default(), config).1
        };
        let narrow: RoaringBitmap = (0..15).collect();
        let half: RoaringBitmap = (0..1000).collect();
        assert_eq!(path(10, None, &config), Path::Flat);
        assert_eq!(path(10, Some(&narrow), &config), Path::Allowed);
        assert!(index.seal(&RoaringBitmap::new()).expect("sealed").built);
        assert_eq!(path(10, None, &config), Path::Graph);
        assert_eq!(path(10, Some(&narrow), &config), Path::Allowed);
        assert_eq!(path(10, Some(&half), &config), Path::Graph);
        let costly = VectorConfig { graph_cost_codes: 500, ..config.clone() };
        assert_eq!(path(10, None, &costly), Path::Flat);

        // The points farthest from the query: the graph gives up on the way to them, so the scan has to find them.
        let all = index.search_exact(&query, 2000, None).expect("searched");
        let farthest: RoaringBitmap = all.iter().skip(1600).map(|(id, _)| id.0).collect();
        let bounded = VectorConfig { graph_cost_codes: 1, ..config.clone() };
        assert_eq!(path(10, Some(&farthest), &bounded), Path::GraphThenScan);
        assert_eq!(path(10, Some(&farthest), &config), Path::Graph);
        let found = index.search(&query, 10, Some(&farthest)).expect("searched");
        assert_eq!(found.first(), all.get(1600));
        assert_eq!(found.len(), 10);
    }
}
