//! Searching one fixed state of the index: over the codes, by flat scan or graph, then in full precision.

use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::codes::{Code, Codes};
use crate::kernel::{Dots, dot_f32};
use crate::log::Log;
use crate::positions::Positions;
use crate::segment::Segment;
use crate::topk::{Scored, TopK};
use crate::{VectorConfig, VectorError};

/// How many codes are read in order in the time one code is looked up by its point id.
const LOOKUP_COST_CODES: u64 = 4;
/// Below this share of allowed points the graph is not used: most of what it finds would be thrown away.
const GRAPH_SHARE: f64 = 0.10;

/// One state of the index; cloning shares everything.
#[derive(Clone)]
pub(crate) struct View {
    pub log: Arc<Log>,
    pub codes: Codes,
    pub positions: Positions,
    pub points: Arc<RoaringBitmap>,
    /// Records whose point was inserted again later.
    pub superseded: usize,
    pub segment: Option<Arc<Segment>>,
}

/// How candidates were found; tests look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    Allowed,
    Flat,
    Graph,
    GraphThenFlat,
}

impl View {
    /// The best `want` records over the int8 codes, and how they were found.
    pub fn candidates(
        &self,
        query: &Code,
        want: usize,
        k: usize,
        allowed: Option<&RoaringBitmap>,
        dots: Dots,
        config: &VectorConfig,
    ) -> (Vec<Scored>, Path) {
        let points = self.points.len();
        let eligible = allowed.map_or(points, |allowed| allowed.intersection_len(&self.points));
        let share = if points == 0 { 0.0 } else { eligible as f64 / points as f64 };
        let flat = |path| {
            let mut top = TopK::new(want);
            self.scan_from(0, query, allowed, dots, &mut top);
            (top.into_sorted(), path)
        };
        let flat_cost = self.codes.len() as u64;
        let lookup_cost = eligible.saturating_mul(LOOKUP_COST_CODES);
        let graph = self.segment.as_ref().filter(|_| share >= GRAPH_SHARE).map(|segment| {
            // A tenth more than the share asks for, because what is allowed is not spread evenly.
            let fetch = ((want as f64 / share * 1.1).ceil() as usize).min(segment.points);
            let candidates = fetch.max(config.ef_search) as u64;
            let unsealed = flat_cost - segment.records as u64;
            (
                segment,
                fetch,
                candidates.saturating_mul(config.graph_cost_codes as u64).saturating_add(unsealed),
            )
        });
        let graph = graph.filter(|(.., cost)| *cost < flat_cost.min(lookup_cost));
        let Some((segment, fetch, _)) = graph else {
            return match allowed {
                Some(allowed) if lookup_cost < flat_cost => {
                    (self.scan_allowed(query, want, allowed, dots), Path::Allowed)
                }
                _ => flat(Path::Flat),
            };
        };
        let mut top = TopK::new(want);
        for slot in segment.search(query, fetch, config.ef_search) {
            if let Some((values, scale, id)) = self.codes.at(slot)
                && self.positions.get(id) == Some(slot)
                && allowed.is_none_or(|allowed| allowed.contains(id))
            {
                top.offer(Scored { score: code_score(dots, query, values, scale), id, slot });
            }
        }
        self.scan_from(segment.records, query, allowed, dots, &mut top);
        let enough = (k as u64).min(eligible);
        if (top.len() as u64) < enough {
            return flat(Path::GraphThenFlat);
        }
        (top.into_sorted(), Path::Graph)
    }

    /// Every record from slot `from` on, in order.
    fn scan_from(
        &self,
        from: usize,
        query: &Code,
        allowed: Option<&RoaringBitmap>,
        dots: Dots,
        top: &mut TopK,
    ) {
        let mut products = vec![0; crate::codes::CHUNK];
        for (first, chunk) in self.codes.chunks_from(from) {
            let products = &mut products[..chunk.len()];
            dots.rows(&query.values, &chunk.codes, products);
            let rows = products.iter().zip(&chunk.scales).zip(&chunk.ids).zip(first..);
            for (((product, scale), id), slot) in rows.skip(from.saturating_sub(first)) {
                let (score, id) = (*product as f32 * scale * query.scale, *id);
                if score < top.threshold {
                    continue;
                }
                let current = self.superseded == 0 || self.positions.get(id) == Some(slot);
                if current && allowed.is_none_or(|allowed| allowed.contains(id)) {
                    top.offer(Scored { score, id, slot });
                }
            }
        }
    }

    /// The allowed points one by one.
    fn scan_allowed(&self, query: &Code, want: usize, allowed: &RoaringBitmap, dots: Dots) -> Vec<Scored> {
        let mut top = TopK::new(want);
        for id in allowed {
            let Some(slot) = self.positions.get(id) else { continue };
            if let Some((values, scale, _)) = self.codes.at(slot) {
                let score = code_score(dots, query, values, scale);
                if score >= top.threshold {
                    top.offer(Scored { score, id, slot });
                }
            }
        }
        top.into_sorted()
    }

    /// Replaces the scores by full-precision cosines and sorts again.
    pub fn rescore(&self, query: &[f32], mut candidates: Vec<Scored>) -> Result<Vec<Scored>, VectorError> {
        let mut reader = OriginalReader::new(self, query.len());
        for candidate in &mut candidates {
            candidate.score = dot_f32(query, reader.read(candidate.slot, candidate.id)?);
        }
        candidates.sort_unstable_by(Scored::rank);
        Ok(candidates)
    }
}

fn code_score(dots: Dots, query: &Code, values: &[i8], scale: f32) -> f32 {
    dots.pair(&query.values, values) as f32 * scale * query.scale
}

/// Reads full-precision vectors, from memory or from the log, with buffers of its own.
pub(crate) struct OriginalReader<'a> {
    view: &'a View,
    vector: Vec<f32>,
    scratch: Vec<u8>,
}

impl<'a> OriginalReader<'a> {
    pub fn new(view: &'a View, dim: usize) -> Self {
        Self { view, vector: vec![0.0; dim], scratch: Vec::new() }
    }

    /// The vector at `slot`, which must be the record of point `id`.
    pub fn read(&mut self, slot: usize, id: u32) -> Result<&[f32], VectorError> {
        if let Some(original) = self.view.codes.original(slot) {
            return Ok(original);
        }
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
            hnsw_min_points: 1000,
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
            index.view().candidates(&code, 20, k, allowed, Dots::default(), config).1
        };
        let narrow: RoaringBitmap = (0..100).collect();
        let half: RoaringBitmap = (0..1000).collect();
        assert_eq!(path(10, None, &config), Path::Flat);
        assert_eq!(path(10, Some(&narrow), &config), Path::Allowed);
        assert!(index.seal().expect("sealed").built);
        assert_eq!(path(10, None, &config), Path::Graph);
        assert_eq!(path(10, Some(&narrow), &config), Path::Allowed);
        assert_eq!(path(10, Some(&half), &config), Path::Graph);
        let costly = VectorConfig { graph_cost_codes: 500, ..config.clone() };
        assert_eq!(path(10, None, &costly), Path::Flat);

        // The points farthest from the query: the graph finds none of them, so the scan has to.
        let all = index.search_exact(&query, 2000, None).expect("searched");
        let farthest: RoaringBitmap = all.iter().skip(1600).map(|(id, _)| id.0).collect();
        assert_eq!(path(10, Some(&farthest), &config), Path::GraphThenFlat);
        let found = index.search(&query, 10, Some(&farthest)).expect("searched");
        assert_eq!(found.first(), all.get(1600));
        assert_eq!(found.len(), 10);
    }
}
