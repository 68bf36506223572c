//! The vector index: one log, a sealed segment over its older part when there are many points, and the codes of the
//! rest in memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::{Mutex, RwLock};
use roaring::RoaringBitmap;

use crate::codes::Code;
use crate::format::{Header, MAX_SPACE_BYTES, encode_record};
use crate::kernel::{Dots, Kernel, dot_f32};
use crate::log::{Log, RepairReport, repair};
use crate::search::{OriginalReader, View};
use crate::segment::{self, Expected, Unusable};
use crate::topk::{Scored, TopK};
use crate::{VectorConfig, VectorError, config::MAX_DIM};

/// The caller's number of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PointId(pub u32);

/// Cosine of the angle between a query and a point, computed in full precision: -1 to 1 up to rounding, finite.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Cosine(f32);

impl Cosine {
    /// A cosine from a number; `None` unless it is finite.
    pub fn checked(value: f32) -> Option<Self> {
        value.is_finite().then_some(Self(value))
    }

    /// The number.
    pub fn get(self) -> f32 {
        self.0
    }
}

/// What opening found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenReport {
    /// Bytes of an unfinished write cut off the log; the points in it must be inserted again.
    pub torn_bytes: u64,
    /// The graph segment.
    pub segment: SegmentState,
}

/// Whether a graph serves the older points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SegmentState {
    /// There is none: all points are scanned flat.
    Absent,
    /// It was loaded.
    Loaded {
        /// Points in it.
        points: usize,
    },
    /// It does not fit: all points are scanned flat until the next [`seal`](VectorIndex::seal). A damaged one was set
    /// aside as `segment.damaged`, one that belongs to other records or another version was removed.
    Dropped {
        /// What failed.
        reason: String,
    },
}

/// Bytes of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Allocated: unsealed codes, what finds a point's place, and what a graph engine keeps of its own.
    pub heap: usize,
    /// Mapped files: codes and links. They are in the page cache, and give way when memory is short.
    pub mapped: usize,
}

/// Nearest points by cosine, on disk and in memory; shared between threads by reference.
///
/// One process at a time may open a directory; whoever owns the data directory locks it.
pub struct VectorIndex {
    pub(crate) dir: PathBuf,
    space: String,
    pub(crate) dim: usize,
    pub(crate) config: VectorConfig,
    pub(crate) dots: Dots,
    pub(crate) view: RwLock<View>,
    /// Held while the log or the files beside it change.
    pub(crate) writer: Mutex<()>,
    /// Held while a segment is built.
    pub(crate) sealing: Mutex<()>,
    /// No segment is built any more.
    pub(crate) stopped: AtomicBool,
    opened: OpenReport,
}

impl VectorIndex {
    /// Opens the index of `dir`, making it when absent.
    ///
    /// `space` names the embedding space (1 to 4096 bytes): vectors of another one are refused with
    /// [`VectorError::SpaceMismatch`]. Reads the sealed segment and the records behind it, the whole log when there is none. A torn tail is cut and reported in
    /// [`opened`](Self::opened); a damaged record with good ones behind it is [`VectorError::Damaged`].
    pub fn open(dir: &Path, space: &str, dim: usize, config: VectorConfig) -> Result<Self, VectorError> {
        config.validate()?;
        if dim == 0 || dim > MAX_DIM {
            return Err(VectorError::Config { name: "dim", expected: "1 to 65536", found: dim });
        }
        if space.is_empty() || space.len() > MAX_SPACE_BYTES {
            return Err(VectorError::Config {
                name: "space",
                expected: "1 to 4096 bytes",
                found: space.len(),
            });
        }
        fs::create_dir_all(dir).map_err(VectorError::io("create", dir))?;
        let log = if Log::exists(dir)? {
            Log::open(dir)?
        } else {
            Log::create(dir, Header { dim, incarnation: 0, space: space.to_owned() })?
        };
        if log.header.space != space {
            return Err(VectorError::SpaceMismatch { expected: space.to_owned(), found: log.header.space });
        }
        if log.header.dim != dim {
            return Err(VectorError::DimensionMismatch { expected: dim, found: log.header.dim });
        }
        let (log, dots) = (Arc::new(log), Dots::default());
        let records = log.whole_records()?;
        let expected = Expected { incarnation: log.header.incarnation, records, dim };
        let (mut view, segment) = match segment::load(dir, expected, dots) {
            Ok(None) => (View::empty(Arc::clone(&log)), SegmentState::Absent),
            Ok(Some(segment)) => {
                let view = View::of_segment(Arc::clone(&log), Arc::new(segment));
                let points = view.points.len() as usize;
                (view, SegmentState::Loaded { points })
            }
            Err(unusable) => {
                let reason = match unusable {
                    Unusable::Outdated(reason) => segment::remove(dir).map(|()| reason),
                    Unusable::Damaged(reason) => segment::set_aside(dir).map(|()| reason),
                }?;
                tracing::warn!(dir = %dir.display(), reason, "dropped a segment; its points are scanned flat");
                (View::empty(Arc::clone(&log)), SegmentState::Dropped { reason })
            }
        };
        let replayed = log.replay(view.first_slot(), |id, vector| {
            let code = Code::of(vector);
            view.push(id, &code.values, code.scale);
        })?;
        Ok(Self {
            dir: dir.to_path_buf(),
            space: space.to_owned(),
            dim,
            config,
            dots,
            view: RwLock::new(view),
            writer: Mutex::new(()),
            sealing: Mutex::new(()),
            stopped: AtomicBool::new(false),
            opened: OpenReport { torn_bytes: replayed.torn_bytes, segment },
        })
    }

    /// Rewrites the log of a closed index with its intact records only; the points that are lost must be inserted
    /// again. Does nothing when there is no log or no damage.
    pub fn repair(dir: &Path) -> Result<RepairReport, VectorError> {
        repair(dir)
    }

    /// Space fingerprint and dimensions of the log in `dir`, without opening it; none when there is no log.
    pub fn stored_space(dir: &Path) -> Result<Option<(String, usize)>, VectorError> {
        if !Log::exists(dir)? {
            return Ok(None);
        }
        let log = Log::open(dir)?;
        Ok(Some((log.header.space, log.header.dim)))
    }

    /// What opening found.
    pub fn opened(&self) -> &OpenReport {
        &self.opened
    }

    /// Fingerprint of the embedding space.
    pub fn space(&self) -> &str {
        &self.space
    }

    /// Components of a vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Instructions the scan uses on this machine.
    pub fn kernel(&self) -> Kernel {
        self.dots.kernel()
    }

    /// The same index with other instructions, for measurements; none when this machine lacks them.
    pub fn with_kernel(mut self, kernel: Kernel) -> Option<Self> {
        self.dots = Dots::with(kernel)?;
        Some(self)
    }

    /// The same index with other search settings, for measurements.
    #[must_use]
    pub fn with_search(mut self, ef_search: usize, rescore: usize) -> Self {
        self.config.ef_search = ef_search;
        self.config.rescore = rescore;
        self
    }

    /// Appends points; a point that is there already gets the new vector. All or none are refused: each vector must
    /// have `dim` finite components and unit length within 0.001. Visible to searches at return, durable after
    /// [`sync`](Self::sync).
    pub fn insert(&self, batch: &[(PointId, &[f32])]) -> Result<(), VectorError> {
        if batch.is_empty() {
            return Ok(());
        }
        for (_, vector) in batch {
            self.check(vector)?;
        }
        let codes: Vec<Code> = batch.iter().map(|(_, vector)| Code::of(vector)).collect();
        let mut records = Vec::new();
        for (id, vector) in batch {
            encode_record(id.0, vector, &mut records);
        }
        let _writer = self.writer.lock();
        let (log, slot) = {
            let view = self.view.read();
            (Arc::clone(&view.log), view.records())
        };
        let limit = u64::from(u32::MAX) - 1;
        if slot as u64 + batch.len() as u64 > limit {
            return Err(VectorError::Full { limit });
        }
        log.append(slot, &records)?;
        let mut view = self.view.write();
        for ((id, _), code) in batch.iter().zip(&codes) {
            view.push(id.0, &code.values, code.scale);
        }
        Ok(())
    }

    /// Makes every inserted point durable.
    pub fn sync(&self) -> Result<(), VectorError> {
        let log = Arc::clone(&self.view.read().log);
        log.sync()
    }

    /// Whether a point is there.
    pub fn contains(&self, id: PointId) -> bool {
        self.view.read().points.contains(id.0)
    }

    /// All points.
    pub fn points(&self) -> RoaringBitmap {
        let points = Arc::clone(&self.view.read().points);
        RoaringBitmap::clone(&points)
    }

    /// Number of points.
    pub fn len(&self) -> usize {
        self.view.read().points.len() as usize
    }

    /// Whether there are no points.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Records of the log, those of dead and superseded points included.
    pub fn records(&self) -> usize {
        self.view.read().records()
    }

    /// Memory of the index.
    pub fn memory(&self) -> Memory {
        let view = self.view();
        let (mapped, graph) = view.sealed.as_ref().map_or((0, 0), |segment| segment.bytes());
        let heap =
            view.tail.heap_bytes() + view.positions.heap_bytes() + view.points.serialized_size() + graph;
        Memory { heap, mapped }
    }

    /// The `k` nearest of the allowed points (of all when `allowed` is none), nearest first, ties by id.
    ///
    /// Candidates come from the int8 codes, by flat scan or by the graph; the best `max(rescore, 1.5 k)` of them are
    /// rescored in full precision, so every returned cosine is exact. A point deleted elsewhere is left out of
    /// `allowed`.
    pub fn search(
        &self,
        query: &[f32],
        k: usize,
        allowed: Option<&RoaringBitmap>,
    ) -> Result<Vec<(PointId, Cosine)>, VectorError> {
        self.check(query)?;
        let view = self.view();
        let want = self.config.rescore.max(k.saturating_add(k / 2)).min(view.points.len() as usize);
        if k == 0 || want == 0 {
            return Ok(Vec::new());
        }
        let code = Code::of(query);
        let (candidates, _) = view.candidates((query, &code), want, k, allowed, self.dots, &self.config);
        Ok(ranked(view.rescore(query, candidates)?, k))
    }

    /// As [`search`](Self::search), computed in full precision over every allowed point: what `search` is measured
    /// against, slow.
    pub fn search_exact(
        &self,
        query: &[f32],
        k: usize,
        allowed: Option<&RoaringBitmap>,
    ) -> Result<Vec<(PointId, Cosine)>, VectorError> {
        self.check(query)?;
        let view = self.view();
        let mut top = TopK::new(k.min(view.points.len() as usize));
        let mut reader = OriginalReader::new(&view, self.dim);
        for id in view.points.iter().filter(|id| allowed.is_none_or(|allowed| allowed.contains(*id))) {
            if let Some(place) = view.positions.get(id) {
                top.offer(Scored { score: dot_f32(query, reader.read(place, id)?), id, place });
            }
        }
        Ok(ranked(top.into_sorted(), k))
    }

    /// Full-precision cosine of each of `ids`, in their order; none for a point that is not there.
    pub fn score(&self, query: &[f32], ids: &[PointId]) -> Result<Vec<Option<Cosine>>, VectorError> {
        self.check(query)?;
        let view = self.view();
        let mut reader = OriginalReader::new(&view, self.dim);
        ids.iter()
            .map(|id| match view.positions.get(id.0) {
                Some(place) => Ok(Some(Cosine(dot_f32(query, reader.read(place, id.0)?)))),
                None => Ok(None),
            })
            .collect()
    }

    /// The vector of a point as it was inserted.
    pub fn vector(&self, id: PointId) -> Result<Option<Vec<f32>>, VectorError> {
        let view = self.view();
        let Some(place) = view.positions.get(id.0) else { return Ok(None) };
        let mut reader = OriginalReader::new(&view, self.dim);
        reader.read(place, id.0).map(|vector| Some(vector.to_vec()))
    }

    /// The present state.
    pub(crate) fn view(&self) -> View {
        self.view.read().clone()
    }

    fn check(&self, vector: &[f32]) -> Result<(), VectorError> {
        if vector.len() != self.dim {
            return Err(VectorError::DimensionMismatch { expected: self.dim, found: vector.len() });
        }
        if let Some(component) = vector.iter().position(|value| !value.is_finite()) {
            return Err(VectorError::NotFinite { component });
        }
        let length = vector.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>().sqrt();
        if (length - 1.0).abs() > 1e-3 {
            return Err(VectorError::NotUnit { found: length as f32 });
        }
        Ok(())
    }
}

fn ranked(scored: Vec<Scored>, k: usize) -> Vec<(PointId, Cosine)> {
    scored.into_iter().take(k).map(|scored| (PointId(scored.id), Cosine(scored.score))).collect()
}
