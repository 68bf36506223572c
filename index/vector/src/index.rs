//! The vector index: one log, its codes in memory, and a graph over the older part when there are many.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use roaring::RoaringBitmap;

use crate::codes::{Code, Codes};
use crate::format::{Header, MAX_SPACE_BYTES, encode_record};
use crate::kernel::{Dots, Kernel, dot_f32};
use crate::log::{Log, RepairReport, Rewrite, repair};
use crate::positions::Positions;
use crate::search::{OriginalReader, View};
use crate::segment::{self, Segment};
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
    /// It failed a check and was removed: all points are scanned flat until the next
    /// [`seal`](VectorIndex::seal).
    Dropped {
        /// What failed.
        reason: String,
    },
}

/// What [`VectorIndex::seal`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealReport {
    /// Whether a new graph was built; not when there are fewer points than `hnsw_min_points`.
    pub built: bool,
    /// Points in the graph that serves now.
    pub sealed_points: usize,
    /// Records after it, scanned flat.
    pub flat_records: usize,
}

/// Nearest points by cosine, on disk and in memory; shared between threads by reference.
///
/// One process at a time may open a directory; whoever owns the data directory locks it.
pub struct VectorIndex {
    dir: PathBuf,
    space: String,
    dim: usize,
    config: VectorConfig,
    dots: Dots,
    view: RwLock<View>,
    /// Held while the log or the files beside it change.
    writer: Mutex<()>,
    /// Held while a graph is built.
    sealing: Mutex<()>,
    opened: OpenReport,
}

impl VectorIndex {
    /// Opens the index of `dir`, making it when absent.
    ///
    /// `space` names the embedding space (1 to 4096 bytes): vectors of another one are refused with
    /// [`VectorError::SpaceMismatch`]. Reads the whole log once. A torn tail is cut and reported in
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
        let mut view = empty_view(log, &config);
        let log = Arc::clone(&view.log);
        let replayed = log.replay(|id, vector| push(&mut view, id, &Code::of(vector), vector))?;
        let segment = match Segment::load(dir, log.header.incarnation, view.codes.len(), dim) {
            Ok(None) => SegmentState::Absent,
            Ok(Some(segment)) => {
                let points = segment.points;
                view.segment = Some(Arc::new(segment));
                SegmentState::Loaded { points }
            }
            Err(reason) => {
                tracing::warn!(dir = %dir.display(), reason, "dropped a graph segment; its points are scanned flat");
                segment::remove(dir)?;
                SegmentState::Dropped { reason }
            }
        };
        Ok(Self {
            dir: dir.to_path_buf(),
            space: space.to_owned(),
            dim,
            config,
            dots: Dots::default(),
            view: RwLock::new(view),
            writer: Mutex::new(()),
            sealing: Mutex::new(()),
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
            (Arc::clone(&view.log), view.codes.len())
        };
        let limit = u64::from(u32::MAX) - 1;
        if slot as u64 + batch.len() as u64 > limit {
            return Err(VectorError::Full { limit });
        }
        log.append(slot, &records)?;
        let mut view = self.view.write();
        for ((id, vector), code) in batch.iter().zip(&codes) {
            push(&mut view, id.0, code, vector);
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

    /// Bytes of memory for codes, scales, ids and kept originals (a graph holds a second copy of the codes).
    pub fn memory_bytes(&self) -> usize {
        self.view.read().codes.heap_bytes()
    }

    /// The `k` nearest of the allowed points (of all when `allowed` is none), nearest first, ties by id.
    ///
    /// Candidates come from the int8 codes, by flat scan or by the graph; the best `max(rescore, 2 k)` of them are
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
        let want = self.config.rescore.max(k.saturating_mul(2)).min(view.points.len() as usize);
        if k == 0 || want == 0 {
            return Ok(Vec::new());
        }
        let code = Code::of(query);
        let (candidates, _) = view.candidates(&code, want, k, allowed, self.dots, &self.config);
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
            if let Some(slot) = view.positions.get(id) {
                top.offer(Scored { score: dot_f32(query, reader.read(slot, id)?), id, slot });
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
                Some(slot) => Ok(Some(Cosine(dot_f32(query, reader.read(slot, id.0)?)))),
                None => Ok(None),
            })
            .collect()
    }

    /// The vector of a point as it was inserted.
    pub fn vector(&self, id: PointId) -> Result<Option<Vec<f32>>, VectorError> {
        let view = self.view();
        let Some(slot) = view.positions.get(id.0) else { return Ok(None) };
        let mut reader = OriginalReader::new(&view, self.dim);
        reader.read(slot, id.0).map(|vector| Some(vector.to_vec()))
    }

    /// Whether enough points are scanned flat for [`seal`](Self::seal) to pay: as many as `hnsw_min_points`, and a
    /// quarter of what the graph holds.
    pub fn wants_seal(&self) -> bool {
        let view = self.view.read();
        let (sealed, points) =
            view.segment.as_ref().map_or((0, 0), |segment| (segment.records, segment.points));
        view.points.len() as usize >= self.config.hnsw_min_points
            && view.codes.len() - sealed >= self.config.hnsw_min_points.max(points / 4).max(1)
    }

    /// Builds a graph over the points there are and writes it; searches and insertions go on meanwhile.
    pub fn seal(&self) -> Result<SealReport, VectorError> {
        let _sealing = self.sealing.lock();
        let view = self.view();
        if (view.points.len() as usize) < self.config.hnsw_min_points.max(1) {
            return Ok(self.seal_report(false));
        }
        let built = Segment::build(&view.codes, &view.positions, &self.config)?;
        // The records the graph stands for must not be cut from the log later.
        view.log.sync()?;
        built.write(&self.dir, view.log.header.incarnation, self.dim)?;
        let _writer = self.writer.lock();
        if self.view.read().log.header.incarnation != view.log.header.incarnation {
            tracing::info!("the vector log was compacted while a graph was built; the graph is thrown away");
            return Ok(self.seal_report(false));
        }
        segment::publish(&self.dir)?;
        self.view.write().segment = Some(Arc::new(built));
        Ok(self.seal_report(true))
    }

    /// Forgets every point that is not in `live` and every superseded record, by rewriting the log; gives the number
    /// of points forgotten. A graph is dropped with them. Insertions wait, searches do not.
    pub fn retain(&self, live: &RoaringBitmap) -> Result<usize, VectorError> {
        let _writer = self.writer.lock();
        let old = self.view();
        let forgotten = old.points.difference_len(live) as usize;
        if forgotten == 0 && old.superseded == 0 {
            return Ok(0);
        }
        let incarnation = old.log.header.incarnation.wrapping_add(1);
        let mut rewrite = Rewrite::begin(&self.dir, Header { incarnation, ..old.log.header.clone() })?;
        let mut reader = OriginalReader::new(&old, self.dim);
        let mut kept = Vec::new();
        for slot in 0..old.codes.len() {
            let Some((.., id)) = old.codes.at(slot) else { continue };
            if live.contains(id) && old.positions.get(id) == Some(slot) {
                rewrite.push(id, reader.read(slot, id)?)?;
                kept.push((slot, id));
            }
        }
        segment::remove(&self.dir)?;
        let mut view = empty_view(rewrite.finish()?, &self.config);
        for (slot, id) in kept {
            if let Some((values, scale, _)) = old.codes.at(slot) {
                let code = Code { values: values.to_vec(), scale };
                push(&mut view, id, &code, old.codes.original(slot).unwrap_or_default());
            }
        }
        *self.view.write() = view;
        Ok(forgotten)
    }

    /// The present state.
    pub(crate) fn view(&self) -> View {
        self.view.read().clone()
    }

    fn seal_report(&self, built: bool) -> SealReport {
        let view = self.view.read();
        let (records, sealed_points) =
            view.segment.as_ref().map_or((0, 0), |segment| (segment.records, segment.points));
        SealReport { built, sealed_points, flat_records: view.codes.len() - records }
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

fn empty_view(log: Log, config: &VectorConfig) -> View {
    let dim = log.header.dim;
    View {
        log: Arc::new(log),
        codes: Codes::new(dim, config.keep_originals_in_memory),
        positions: Positions::default(),
        points: Arc::default(),
        superseded: 0,
        segment: None,
    }
}

fn push(view: &mut View, id: u32, code: &Code, original: &[f32]) {
    let slot = view.codes.len();
    view.codes.push(id, code, original);
    if view.positions.set(id, slot) {
        view.superseded += 1;
    }
    Arc::make_mut(&mut view.points).insert(id);
}

fn ranked(scored: Vec<Scored>, k: usize) -> Vec<(PointId, Cosine)> {
    scored.into_iter().take(k).map(|scored| (PointId(scored.id), Cosine(scored.score))).collect()
}
