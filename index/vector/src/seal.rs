//! Sealing: moving the codes into a mapped segment with a graph, in the background; and forgetting points for good.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use roaring::RoaringBitmap;

use crate::VectorError;
use crate::VectorIndex;
use crate::engines::{self, GraphShape, MappedLinks, Material};
use crate::format::Header;
use crate::log::Rewrite;
use crate::sealed::{self, DEAD_SLOT, Node, SealedCodes};
use crate::search::{OriginalReader, View};
use crate::segment::{self, Expected};

/// One in so many codes may be of dead or superseded points; past that the segment is built without them.
const WASTE: usize = 5;

/// What [`VectorIndex::seal`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealReport {
    /// Whether a new segment was made; not when there are fewer points than `seal_min_points`, and not after
    /// [`VectorIndex::stop_sealing`].
    pub built: bool,
    /// Whether it kept the graph of the one before and added to it.
    pub extended: bool,
    /// Points in the segment that serves now, dead ones included.
    pub sealed_points: usize,
    /// Records after it, scanned flat.
    pub flat_records: usize,
}

/// The nodes of a new segment.
struct Plan {
    /// Places of the nodes, in node order.
    places: Vec<u32>,
    /// Nodes of the segment before that are kept, links included.
    kept: usize,
    shape: Option<GraphShape>,
}

impl VectorIndex {
    /// Whether [`seal`](Self::seal) pays: at least `seal_min_points` points are not `dead`, and either many are
    /// scanned flat, or a fifth of the codes are of dead and superseded points.
    ///
    /// Many are as many as `seal_min_points` and a quarter of the sealed ones, or, when the graph can be extended, an
    /// eighth of `seal_min_points` and a twentieth of the sealed ones.
    pub fn wants_seal(&self, dead: &RoaringBitmap) -> bool {
        let view = self.view();
        let alive = (view.points.len() - view.points.intersection_len(dead)) as usize;
        let least = self.config.seal_min_points.max(1);
        if alive < least || self.stopped.load(Ordering::Acquire) {
            return false;
        }
        let (nodes, flat) = (view.nodes(), view.tail.len());
        let enough = if self.old_links(&view, alive).is_some() {
            (least / 8).max(nodes / 20).max(1)
        } else {
            least.max(nodes / 4)
        };
        let engine_changed = view.sealed.as_ref().is_some_and(|segment| segment.engine != self.config.engine);
        flat >= enough || engine_changed || wasteful(&view, alive)
    }

    /// Makes a segment of the points there are, without `dead` ones; searches and insertions go on meanwhile, and it
    /// serves from then on. Minutes for a million points that are new, seconds for some that are added.
    ///
    /// `dead` are points that never come back; unlike [`retain`](Self::retain) this leaves them in the log.
    pub fn seal(&self, dead: &RoaringBitmap) -> Result<SealReport, VectorError> {
        let _sealing = self.sealing.lock();
        let view = self.view();
        let alive = view.points.as_ref() - dead;
        if (alive.len() as usize) < self.config.seal_min_points.max(1) || self.stopped.load(Ordering::Acquire)
        {
            return Ok(self.seal_report(false, false));
        }
        let plan = self.plan(&view, &alive);
        // The records the segment stands for must not be cut from the log later.
        view.log.sync()?;
        let incarnation = view.log.header.incarnation;
        let expected = Expected { incarnation, records: view.records(), dim: self.dim };
        if !self.write_segment(&view, &alive, &plan, expected)? {
            segment::abandon(&self.dir)?;
            return Ok(self.seal_report(false, false));
        }
        let segment = Arc::new(segment::open_new(&self.dir, expected, self.dots)?);
        let mut sealed = View::of_segment(Arc::clone(&view.log), segment);
        let _writer = self.writer.lock();
        let now = self.view();
        if now.log.header.incarnation != incarnation {
            tracing::info!(
                "the vector log was compacted while a segment was built; the segment is thrown away"
            );
            segment::abandon(&self.dir)?;
            return Ok(self.seal_report(false, false));
        }
        segment::publish(&self.dir)?;
        for row in expected.records - now.first_slot()..now.tail.len() {
            if let Some((values, scale, id)) = now.tail.at(row) {
                sealed.push(id, values, scale);
            }
        }
        *self.view.write() = sealed;
        Ok(self.seal_report(true, plan.kept > 0))
    }

    /// Makes [`seal`](Self::seal) end soon without a result, now and from now on: for shutting down.
    pub fn stop_sealing(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// Forgets every point that is not in `live` and every superseded record, by rewriting the log; gives the number
    /// of points forgotten. A segment is dropped with them. Insertions wait, searches do not.
    pub fn retain(&self, live: &RoaringBitmap) -> Result<usize, VectorError> {
        let _writer = self.writer.lock();
        let old = self.view();
        let forgotten = old.points.difference_len(live) as usize;
        if forgotten == 0 && old.records() as u64 == old.points.len() {
            return Ok(0);
        }
        let incarnation = old.log.header.incarnation.wrapping_add(1);
        let mut rewrite = Rewrite::begin(&self.dir, Header { incarnation, ..old.log.header.clone() })?;
        let mut reader = OriginalReader::new(&old, self.dim);
        let kept = current_places(&old, live);
        for place in &kept {
            if let Some((.., id)) = old.code(*place) {
                rewrite.push(id, reader.read(*place, id)?)?;
            }
        }
        segment::remove(&self.dir)?;
        let mut view = View::empty(Arc::new(rewrite.finish()?));
        for (values, scale, id) in kept.iter().filter_map(|place| old.code(*place)) {
            view.push(id, values, scale);
        }
        *self.view.write() = view;
        Ok(forgotten)
    }

    /// The links that a new segment can keep: those of the same kind of graph, with little waste.
    fn old_links<'a>(&self, view: &'a View, alive: usize) -> Option<&'a MappedLinks> {
        let segment = view.sealed.as_ref().filter(|segment| segment.engine == self.config.engine)?;
        let links = segment.graph.as_ref()?.links()?;
        let fits = engines::extends_to(links.shape(), view.places(), self.config.m);
        (fits && !wasteful(view, alive)).then_some(links)
    }

    fn plan(&self, view: &View, alive: &RoaringBitmap) -> Plan {
        if let Some(links) = self.old_links(view, alive.len() as usize) {
            let kept = view.nodes();
            let current = |place: &u32| is_current(view, *place, alive);
            let new = (kept as u32..view.places() as u32).filter(current);
            let places: Vec<u32> = (0..kept as u32).chain(new).collect();
            let mut shape = links.shape().clone();
            shape.level_nodes[0] = places.len();
            return Plan { places, kept, shape: Some(shape) };
        }
        let mut places = current_places(view, alive);
        let shape = engines::order(self.config.engine, &mut places, self.config.m);
        Plan { places, kept: 0, shape }
    }

    /// Writes codes, graph and manifest beside the segment's place; false when it was stopped.
    fn write_segment(
        &self,
        view: &View,
        alive: &RoaringBitmap,
        plan: &Plan,
        expected: Expected,
    ) -> Result<bool, VectorError> {
        let go_on = || !self.stopped.load(Ordering::Acquire);
        let target = segment::begin(&self.dir)?;
        let nodes = plan.places.iter().filter_map(|place| {
            let ((code, scale, id), slot) = (view.code(*place)?, view.slot(*place)?);
            let slot = if is_current(view, *place, alive) { slot as u32 } else { DEAD_SLOT };
            Some(Node { code, scale, id, slot })
        });
        if !sealed::write(&target, nodes, &go_on)? {
            return Ok(false);
        }
        let codes = SealedCodes::open(&target, plan.places.len(), self.dim)
            .map_err(|message| VectorError::Graph { path: target.clone(), message })?;
        let originals = |node: u32, vector: &mut [f32]| {
            let slot = plan.places.get(node as usize).and_then(|place| view.slot(*place)).unwrap_or_default();
            view.log.read(slot, vector, &mut Vec::new()).map(|_| ())
        };
        let material = Material {
            dir: &target,
            codes: &Arc::new(codes),
            originals: &originals,
            shape: plan.shape.clone(),
            before: (plan.kept > 0).then(|| self.old_links(view, alive.len() as usize)).flatten(),
            config: &self.config,
            dots: self.dots,
            go_on: &go_on,
        };
        Ok(segment::complete(&material, self.config.engine, expected)?.is_some())
    }

    fn seal_report(&self, built: bool, extended: bool) -> SealReport {
        let view = self.view.read();
        let sealed_points = view.sealed.as_ref().map_or(0, |segment| segment.alive().count());
        SealReport { built, extended, sealed_points, flat_records: view.tail.len() }
    }
}

/// Whether too many codes are of points that are not alive or were inserted again.
fn wasteful(view: &View, alive: usize) -> bool {
    view.places().saturating_sub(alive).saturating_mul(WASTE) >= view.places().max(1)
}

fn is_current(view: &View, place: u32, alive: &RoaringBitmap) -> bool {
    view.code(place).is_some_and(|(.., id)| alive.contains(id) && view.positions.get(id) == Some(place))
}

/// The latest codes of living points, in the order of their records.
fn current_places(view: &View, alive: &RoaringBitmap) -> Vec<u32> {
    let places = 0..view.places() as u32;
    let mut places: Vec<u32> = places.filter(|place| is_current(view, *place, alive)).collect();
    places.sort_by_key(|place| view.slot(*place));
    places
}
