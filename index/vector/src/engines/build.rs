//! Building our own graph, in several threads, from nothing or onto the graph of an earlier segment.
//!
//! Links are atomics that anyone reads at any time; whoever changes the row of a node holds the lock of its stripe.
//! A reader may see a row half rewritten: a mixture of old and new links, all of them nodes.
//! With one thread the same nodes always give the same graph.

use std::fs::File;
use std::io::BufWriter;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::Material;
use super::graph::{GraphShape, LINKS_FILE, MAX_LEVELS, MappedLinks};
use super::layer::{Bounds, Links, NO_LINK, Scratch, Target, descend, key, node_of, score_of, walk};
use crate::VectorError;
use crate::kernel::Dots;
use crate::sealed::{SealedCodes, write_numbers};

/// Nodes inserted one after another before the rest go in parallel, so that these find somebody to link to.
const SERIAL_NODES: usize = 256;
/// Locks that rows share.
const STRIPES: usize = 4096;
/// Nodes a thread takes at a time.
const BATCH: usize = 64;
/// An extended graph keeps its upper levels. Past this many nodes for each node of level 1, in multiples of `m`, it is
/// built again, so that finding the way down stays short.
const THIN_LEVELS: usize = 8;

/// Sorts places so that those of higher levels come first, and gives the nodes of each level.
///
/// Levels fall off by `m`, as in the paper (`1 / ln m`), drawn from a hash of the place: the same places give the
/// same levels.
pub(crate) fn order(places: &mut [u32], m: usize) -> GraphShape {
    let level = |place: u32| {
        let uniform = ((splitmix64(u64::from(place)) >> 11) + 1) as f64 / (1u64 << 53) as f64;
        ((-uniform.ln() / (m as f64).ln()) as usize).min(MAX_LEVELS - 1)
    };
    places.sort_by_cached_key(|place| std::cmp::Reverse(level(*place)));
    let mut level_nodes = vec![places.len()];
    for at in 1..MAX_LEVELS {
        match places.partition_point(|place| level(*place) >= at) {
            0 => break,
            nodes => level_nodes.push(nodes),
        }
    }
    GraphShape { m, level_nodes }
}

/// Whether a graph can take `nodes` nodes in all without being built again.
pub(crate) fn extends_to(shape: &GraphShape, nodes: usize, m: usize) -> bool {
    let upper = shape.level_nodes.get(1).copied().unwrap_or(1);
    shape.m == m && nodes <= upper.saturating_mul(THIN_LEVELS * m)
}

/// Public-domain mixer of Vigna (`splitmix64`).
fn splitmix64(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Builds and writes the graph, durable at return; none when it was stopped.
pub(crate) fn build(material: &Material) -> Result<Option<Vec<&'static str>>, VectorError> {
    let shape = material
        .shape
        .clone()
        .unwrap_or(GraphShape { m: material.config.m, level_nodes: vec![material.codes.nodes()] });
    let first_new = material.before.map_or(0, |links| links.shape().level_nodes[0]);
    let growing = Growing::new(material.codes, material.dots, shape, material.before);
    let ef = material.config.ef_construction;
    let nodes = material.codes.nodes();
    let serial = if first_new < SERIAL_NODES { SERIAL_NODES.min(nodes) } else { first_new };
    let mut inserter = Inserter::default();
    (first_new..serial).for_each(|node| growing.insert(node as u32, ef, &mut inserter));
    let next = AtomicUsize::new(serial);
    let work = || {
        let mut inserter = Inserter::default();
        loop {
            let from = next.fetch_add(BATCH, Ordering::Relaxed);
            if from >= nodes || !(material.go_on)() {
                break;
            }
            (from..nodes.min(from + BATCH)).for_each(|node| growing.insert(node as u32, ef, &mut inserter));
        }
    };
    let path = material.dir.join(LINKS_FILE);
    std::thread::scope(|scope| -> std::io::Result<()> {
        for at in 1..material.config.threads {
            std::thread::Builder::new().name(format!("vector-seal-{at}")).spawn_scoped(scope, work)?;
        }
        work();
        Ok(())
    })
    .map_err(VectorError::io("start a thread for", &path))?;
    if !(material.go_on)() {
        return Ok(None);
    }
    growing.write(&path)?;
    Ok(Some(vec![LINKS_FILE]))
}

/// A graph that is being built.
struct Growing<'a> {
    codes: &'a SealedCodes,
    dots: Dots,
    shape: GraphShape,
    /// `[nodes][width]` for each level.
    levels: Vec<Vec<AtomicU32>>,
    twins: Vec<AtomicU32>,
    locks: Vec<Mutex<()>>,
}

/// Buffers of one inserting thread.
#[derive(Default)]
struct Inserter {
    scratch: Scratch,
    chosen: Vec<u32>,
    products: Vec<i32>,
    row: Vec<u32>,
    keys: Vec<u64>,
}

impl Links for Growing<'_> {
    fn levels(&self) -> usize {
        self.levels.len()
    }

    fn each(&self, level: usize, node: u32, mut visit: impl FnMut(u32)) {
        for link in self.row(level, node) {
            match link.load(Ordering::Relaxed) {
                NO_LINK => break,
                link => visit(link),
            }
        }
    }

    fn twin(&self, node: u32) -> u32 {
        self.twins[node as usize].load(Ordering::Relaxed)
    }
}

impl<'a> Growing<'a> {
    fn new(codes: &'a SealedCodes, dots: Dots, shape: GraphShape, before: Option<&MappedLinks>) -> Self {
        let fill = |old: &[u32], count: usize| {
            let old = old.iter().copied().chain(std::iter::repeat(NO_LINK));
            old.take(count).map(AtomicU32::new).collect::<Vec<_>>()
        };
        let levels = shape.level_nodes.iter().enumerate().map(|(level, nodes)| {
            fill(before.map_or(&[], |before| before.level(level)), nodes * shape.width(level))
        });
        let levels = levels.collect();
        let twins = fill(before.map_or(&[], MappedLinks::twins), codes.nodes());
        let locks = (0..STRIPES).map(|_| Mutex::new(())).collect();
        Self { codes, dots, shape, levels, twins, locks }
    }

    fn row(&self, level: usize, node: u32) -> &[AtomicU32] {
        let width = self.shape.width(level);
        &self.levels[level][node as usize * width..][..width]
    }

    fn target(&self, node: u32) -> Option<Target<'_>> {
        let (values, scale) = self.codes.code(node)?;
        Some(Target { codes: self.codes, dots: self.dots, values, scale })
    }

    /// Links `node` into every level it is in; on each, `ef` candidates are looked for (algorithm 1).
    fn insert(&self, node: u32, ef: usize, inserter: &mut Inserter) {
        let (Some(target), true) = (self.target(node), node > 0) else { return };
        let Some(entry) = target.key(0) else { return };
        let top = self.shape.level_nodes.iter().rposition(|nodes| (node as usize) < *nodes).unwrap_or(0);
        let entry = descend(self, &target, entry, top, &mut inserter.scratch);
        let mut entries = vec![entry];
        for level in (0..=top).rev() {
            let bounds = Bounds { ef, budget: usize::MAX };
            // A twin has no links, so it is no candidate: chains are not followed while building.
            let scratch = &mut inserter.scratch;
            let Some(mut found) = walk(&NoTwins(self), &target, &entries, level, bounds, &|_| true, scratch)
            else {
                return;
            };
            found.retain(|found| node_of(*found) != node);
            if let Some(same) = found.first().map(|found| node_of(*found))
                && self.codes.code(same) == self.codes.code(node)
                && level == top
            {
                return self.hang_behind(same, node);
            }
            self.choose(&found, self.shape.m, inserter);
            let chosen = inserter.chosen.clone();
            {
                let _lock = self.lock(node);
                store(self.row(level, node), &chosen);
            }
            for neighbour in chosen {
                self.link_back(level, neighbour, node, inserter);
            }
            if !found.is_empty() {
                entries = found;
            }
        }
    }

    /// Makes `node` the first twin of `same`.
    fn hang_behind(&self, same: u32, node: u32) {
        let _lock = self.lock(same);
        let next = self.twins[same as usize].load(Ordering::Relaxed);
        self.twins[node as usize].store(next, Ordering::Relaxed);
        self.twins[same as usize].store(node, Ordering::Relaxed);
    }

    /// At most `limit` of the candidates (best first), each nearer to the base than to any chosen before it
    /// (algorithm 4), into `chosen`.
    fn choose(&self, candidates: &[u64], limit: usize, inserter: &mut Inserter) {
        let Inserter { chosen, products, .. } = inserter;
        chosen.clear();
        for candidate in candidates {
            if chosen.len() == limit {
                break;
            }
            let node = node_of(*candidate);
            let Some((values, scale)) = self.codes.code(node) else { continue };
            products.resize(chosen.len(), 0);
            self.dots.gather(values, self.codes.codes(), chosen, products);
            let scales = self.codes.scales();
            let nearer = chosen.iter().zip(products.iter()).any(|(other, product)| {
                let score = *product as f32 * scales[*other as usize] * scale;
                score_of(key(score, *other)) > score_of(*candidate)
            });
            if !nearer {
                chosen.push(node);
            }
        }
    }

    /// Adds `node` to the links of `to`; when there is no room, the best choice of all stays.
    fn link_back(&self, level: usize, to: u32, node: u32, inserter: &mut Inserter) {
        let Some(target) = self.target(to) else { return };
        let _lock = self.lock(to);
        let row = self.row(level, to);
        inserter.row.clear();
        inserter
            .row
            .extend(row.iter().map(|link| link.load(Ordering::Relaxed)).take_while(|link| *link != NO_LINK));
        if inserter.row.contains(&node) {
            return;
        }
        if let Some(free) = row.get(inserter.row.len()) {
            free.store(node, Ordering::Relaxed);
            return;
        }
        inserter.row.push(node);
        inserter.keys.clear();
        inserter.keys.extend(inserter.row.iter().filter_map(|link| target.key(*link)));
        inserter.keys.sort_unstable_by_key(|key| std::cmp::Reverse(*key));
        let keys = std::mem::take(&mut inserter.keys);
        self.choose(&keys, row.len(), inserter);
        inserter.keys = keys;
        store(row, &inserter.chosen);
    }

    fn lock(&self, node: u32) -> parking_lot::MutexGuard<'_, ()> {
        self.locks[node as usize % STRIPES].lock()
    }

    fn write(&self, path: &std::path::Path) -> Result<(), VectorError> {
        let failed = || VectorError::io("write", path);
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path).map_err(failed())?);
        for section in self.levels.iter().chain(std::iter::once(&self.twins)) {
            let numbers = section.iter().map(|link| link.load(Ordering::Relaxed));
            write_numbers(&mut out, numbers).map_err(failed())?;
        }
        let file = out.into_inner().map_err(|error| failed()(error.into_error()))?;
        file.sync_all().map_err(VectorError::io("sync", path))
    }
}

/// The same links without chains of twins.
struct NoTwins<'a>(&'a Growing<'a>);

impl Links for NoTwins<'_> {
    fn levels(&self) -> usize {
        self.0.levels()
    }

    fn each(&self, level: usize, node: u32, visit: impl FnMut(u32)) {
        self.0.each(level, node, visit);
    }

    fn twin(&self, _node: u32) -> u32 {
        NO_LINK
    }
}

/// Replaces the links of a row.
fn store(row: &[AtomicU32], links: &[u32]) {
    let links = links.iter().copied().chain(std::iter::repeat(NO_LINK));
    row.iter().zip(links).for_each(|(slot, link)| slot.store(link, Ordering::Relaxed));
}
