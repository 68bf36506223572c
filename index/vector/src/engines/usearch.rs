//! The graph of the C++ library usearch over 16-bit floats, mapped; behind the cargo feature `usearch`.
//!
//! Nodes are its keys, each added once to a reserved index (adding past the reserve, updating and removing are where
//! its open issues are). What it finds is filtered afterwards. Its file is opened only after its checksum has passed,
//! and no more threads search at a time than it has room for.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};
use usearch::{Index, IndexOptions, MetricKind, ScalarKind};

use super::{Ask, Graph, Material};
use crate::VectorError;
use crate::sealed::SealedCodes;

const FILE: &str = "usearch";

fn options(dim: usize, m: usize, ef_construction: usize, ef: usize) -> IndexOptions {
    IndexOptions {
        dimensions: dim,
        metric: MetricKind::IP,
        quantization: ScalarKind::F16,
        connectivity: m,
        expansion_add: ef_construction,
        expansion_search: ef,
        multi: false,
    }
}

/// Builds and saves the graph, durable at return; none when it was stopped.
pub(crate) fn build(material: &Material) -> Result<Option<Vec<&'static str>>, VectorError> {
    let path = material.dir.join(FILE);
    let failed = |error: String| VectorError::Graph {
        path: material.dir.to_path_buf(),
        message: format!("usearch: {error}"),
    };
    let (nodes, dim, config) = (material.codes.nodes(), material.codes.dim(), material.config);
    let index = Index::new(&options(dim, config.m, config.ef_construction, config.ef_search));
    let index = index.map_err(|error| failed(error.to_string()))?;
    index.reserve_capacity_and_threads(nodes, config.threads).map_err(|error| failed(error.to_string()))?;
    let next = AtomicUsize::new(0);
    let work = || -> Result<(), VectorError> {
        let mut vector = vec![0.0; dim];
        loop {
            let node = next.fetch_add(1, Ordering::Relaxed);
            if node >= nodes || !(material.go_on)() {
                return Ok(());
            }
            (material.originals)(node as u32, &mut vector)?;
            index.add(node as u64, &vector).map_err(|error| failed(error.to_string()))?;
        }
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..config.threads).map(|_| scope.spawn(work)).collect();
        let mut result = work();
        for other in others {
            let other = other.join().unwrap_or_else(|_| Err(failed("a building thread panicked".into())));
            result = result.and(other);
        }
        result
    })?;
    if !(material.go_on)() {
        return Ok(None);
    }
    let text = path.to_str().ok_or_else(|| failed("its path must be UTF-8".into()))?;
    index.save(text).map_err(|error| failed(error.to_string()))?;
    std::fs::File::open(&path).and_then(|file| file.sync_all()).map_err(VectorError::io("sync", &path))?;
    Ok(Some(vec![FILE]))
}

/// A mapped index.
pub(crate) struct Usearch {
    index: Index,
    /// Threads that may still search.
    free: Mutex<usize>,
    freed: Condvar,
}

impl Usearch {
    /// Maps a file whose checksum has passed.
    pub fn open(dir: &Path, codes: &Arc<SealedCodes>) -> Result<Self, String> {
        let path = dir.join(FILE);
        let text = path.to_str().ok_or("its path must be UTF-8")?;
        // The file says what else it was built with.
        let index = Index::new(&options(codes.dim(), 0, 0, 0)).map_err(|error| error.to_string())?;
        index.view(text).map_err(|error| error.to_string())?;
        if index.size() != codes.nodes() || index.dimensions() != codes.dim() {
            return Err(format!(
                "{} has {} points, expected {}",
                path.display(),
                index.size(),
                codes.nodes()
            ));
        }
        // What the library reserves room for by default.
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { index, free: Mutex::new(threads), freed: Condvar::new() })
    }
}

impl Graph for Usearch {
    fn search(&self, codes: &SealedCodes, ask: &Ask) -> Option<Vec<u32>> {
        let fetch = ask.over_fetch(codes.nodes()).max(ask.ef);
        let mut free = self.free.lock();
        while *free == 0 {
            self.freed.wait(&mut free);
        }
        *free -= 1;
        drop(free);
        let found = self.index.search(ask.vector, fetch);
        *self.free.lock() += 1;
        self.freed.notify_one();
        let found =
            found.inspect_err(|error| tracing::error!(%error, "usearch failed; points are scanned flat"));
        Some(found.ok()?.keys.into_iter().map(|key| key as u32).collect())
    }

    fn heap_bytes(&self) -> usize {
        0
    }
}
