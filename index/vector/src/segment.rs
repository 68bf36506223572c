//! A graph (HNSW) over the first records of the log, for indexes where a flat scan takes too long.
//!
//! The graph library ends the process or panics on input it does not like, so everything is checked before it gets
//! any: vectors on insertion, the number of connections in the configuration, and a dump by size and checksum
//! against our own manifest. A segment that does not pass is set aside and its points are scanned flat. Distances
//! are computed over int8 codes and clamped, so the library's assertions on dot products cannot fire.
//!
//! Directory `segment/`:
//!
//! ```text
//! graph.hnsw.graph, graph.hnsw.data   the library's dump
//! manifest                            line 1: crc32 of the rest, 8 hexadecimal digits
//!                                     rest: JSON, see `Manifest`
//! ```

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use hnsw_rs::anndists::dist::distances::Distance;
use hnsw_rs::api::AnnT;
use hnsw_rs::hnsw::Hnsw;
use hnsw_rs::hnswio::HnswIo;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::codes::{Code, Codes};
use crate::kernel::Dots;
use crate::log::sync_directory;
use crate::positions::Positions;
use crate::{VectorConfig, VectorError};

const DIRECTORY: &str = "segment";
const TEMPORARY: &str = "segment.tmp";
const BASENAME: &str = "graph";
const DUMP_FILES: [&str; 2] = ["graph.hnsw.graph", "graph.hnsw.data"];
const MANIFEST: &str = "manifest";
const MANIFEST_VERSION: u32 = 1;
const MANIFEST_LIMIT_BYTES: u64 = 64 * 1024;
/// The library dumps only graphs with exactly its largest number of layers.
const LAYERS: usize = 16;
/// Points inserted one after another before the rest go in parallel: the first point has nobody to link to, and
/// points that race with it would stay without links.
const SERIAL_POINTS: usize = 256;

/// What a dump is checked against before the library sees it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    /// Byte order and width of integers in the dump.
    layout: String,
    /// Incarnation of the log the slots refer to.
    incarnation: u64,
    /// Records of the log the segment stands for.
    records: usize,
    /// Points in the graph.
    points: usize,
    dim: usize,
    files: Vec<DumpFile>,
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct DumpFile {
    name: String,
    bytes: u64,
    crc32: u32,
}

/// Cosine distance, `1 - cosine`, of two codes; the last four items of a slice are the bytes of its scale.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CodeDistance(Dots);

impl Distance<i8> for CodeDistance {
    fn eval(&self, a: &[i8], b: &[i8]) -> f32 {
        let (Some((a, a_scale)), Some((b, b_scale))) = (a.split_last_chunk::<4>(), b.split_last_chunk::<4>())
        else {
            return 2.0;
        };
        let scale = |bytes: &[i8; 4]| f32::from_le_bytes(bytes.map(i8::cast_unsigned));
        let cosine = self.0.pair(a, b) as f32 * scale(a_scale) * scale(b_scale);
        // NaN cannot come from finite scales; `min` and `max` would turn it into a bound anyway.
        (1.0 - cosine).clamp(0.0, 4.0)
    }
}

fn with_scale(values: &[i8], scale: f32) -> Vec<i8> {
    let mut point = Vec::with_capacity(values.len() + 4);
    point.extend_from_slice(values);
    point.extend(scale.to_le_bytes().map(u8::cast_signed));
    point
}

/// A graph over the latest records among the first [`records`](Self::records) slots.
pub(crate) struct Segment {
    graph: Hnsw<'static, i8, CodeDistance>,
    /// Slots below this are the segment's; those above are scanned flat.
    pub records: usize,
    /// Points in the graph.
    pub points: usize,
}

impl Segment {
    /// Builds a graph over all current records; minutes for a million.
    pub fn build(codes: &Codes, positions: &Positions, config: &VectorConfig) -> Result<Self, VectorError> {
        let records = codes.len();
        let slots: Vec<usize> = (0..records)
            .filter(|slot| codes.at(*slot).is_some_and(|(.., id)| positions.get(id) == Some(*slot)))
            .collect();
        let distance = CodeDistance::default();
        let graph = Hnsw::new(config.m, slots.len().max(1), LAYERS, config.ef_construction, distance);
        let insert = |slot: &usize| {
            if let Some((values, scale, _)) = codes.at(*slot) {
                graph.insert((&with_scale(values, scale), *slot));
            }
        };
        let (first, rest) = slots.split_at(slots.len().min(SERIAL_POINTS));
        first.iter().for_each(insert);
        if config.threads == 1 {
            rest.iter().for_each(insert);
        } else {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(config.threads)
                .thread_name(|at| format!("vector-seal-{at}"))
                .build()
                .map_err(|error| VectorError::Graph { path: DIRECTORY.into(), message: error.to_string() })?;
            pool.install(|| rest.par_iter().for_each(insert));
        }
        Ok(Self { graph, records, points: slots.len() })
    }

    /// The slots of about the nearest `fetch` points, nearest first.
    pub fn search(&self, query: &Code, fetch: usize, ef_search: usize) -> Vec<usize> {
        let point = with_scale(&query.values, query.scale);
        let found = self.graph.search(&point, fetch, ef_search.max(fetch));
        found.into_iter().map(|neighbour| neighbour.d_id).collect()
    }

    /// Writes the segment beside its place; [`publish`] puts it there.
    pub fn write(&self, dir: &Path, incarnation: u64, dim: usize) -> Result<(), VectorError> {
        let target = dir.join(TEMPORARY);
        remove_directory(&target)?;
        fs::create_dir(&target).map_err(VectorError::io("create", &target))?;
        for name in DUMP_FILES {
            // The library panics when it cannot create its files; here it is an error.
            let path = target.join(name);
            File::create(&path).map_err(VectorError::io("create", &path))?;
        }
        let dumped = self.graph.file_dump(&target, BASENAME);
        let dumped = dumped
            .map_err(|error| VectorError::Graph { path: target.clone(), message: error.to_string() })?;
        if dumped != BASENAME {
            let message = format!("dump was named {dumped}, expected {BASENAME}");
            return Err(VectorError::Graph { path: target, message });
        }
        let mut files = Vec::with_capacity(DUMP_FILES.len());
        for name in DUMP_FILES {
            let path = target.join(name);
            let file = File::open(&path).map_err(VectorError::io("open", &path))?;
            file.sync_all().map_err(VectorError::io("sync", &path))?;
            files.push(measure(file, name).map_err(VectorError::io("read", &path))?);
        }
        let manifest = Manifest {
            format: MANIFEST_VERSION,
            layout: layout(),
            incarnation,
            records: self.records,
            points: self.points,
            dim,
            files,
        };
        let path = target.join(MANIFEST);
        let json = serde_json::to_string_pretty(&manifest)
            .map_err(|error| VectorError::Graph { path: target.clone(), message: error.to_string() })?;
        let text = format!("{:08x}\n{json}", crc32fast::hash(json.as_bytes()));
        fs::write(&path, text).map_err(VectorError::io("write", &path))?;
        File::open(&path).and_then(|file| file.sync_all()).map_err(VectorError::io("sync", &path))?;
        sync_directory(&target)
    }

    /// Loads the segment of `dir` if there is one that fits the log; the error says why one was not used.
    pub fn load(dir: &Path, incarnation: u64, records: usize, dim: usize) -> Result<Option<Self>, String> {
        let home = dir.join(DIRECTORY);
        match home.try_exists() {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => return Err(format!("cannot look for {}: {error}", home.display())),
        }
        let manifest = read_manifest(&home.join(MANIFEST))?;
        if manifest.format != MANIFEST_VERSION || manifest.layout != layout() {
            let Manifest { format, layout: found, .. } = manifest;
            return Err(format!("format {format} {found}, expected {MANIFEST_VERSION} {}", layout()));
        }
        if manifest.incarnation != incarnation || manifest.dim != dim || manifest.records > records {
            return Err(format!(
                "it stands for {} records of incarnation {}, the log has {records} of incarnation {incarnation}",
                manifest.records, manifest.incarnation
            ));
        }
        if manifest.points == 0 || manifest.points > manifest.records {
            return Err(format!("it claims {} points of {} records", manifest.points, manifest.records));
        }
        for (name, expected) in DUMP_FILES.iter().zip(&manifest.files) {
            let path = home.join(name);
            let found = File::open(&path).and_then(|file| measure(file, name));
            let found = found.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            if found != *expected {
                return Err(format!("{} is {found:?}, expected {expected:?}", path.display()));
            }
        }
        if manifest.files.len() != DUMP_FILES.len() {
            return Err(format!("{} dump files listed, expected {}", manifest.files.len(), DUMP_FILES.len()));
        }
        // A loaded graph borrows its loader for as long as it lives, although without memory mapping it uses
        // nothing of it: two strings are left behind for each load, once in the life of a process.
        let loader: &'static mut HnswIo = Box::leak(Box::new(HnswIo::new(&home, BASENAME)));
        let graph = loader.load_hnsw::<i8, CodeDistance>().map_err(|error| error.to_string())?;
        if graph.get_nb_point() != manifest.points {
            return Err(format!("graph has {} points, expected {}", graph.get_nb_point(), manifest.points));
        }
        Ok(Some(Self { graph, records: manifest.records, points: manifest.points }))
    }
}

/// Puts a written segment in the place of the one there was.
pub(crate) fn publish(dir: &Path) -> Result<(), VectorError> {
    remove(dir)?;
    let (from, to) = (dir.join(TEMPORARY), dir.join(DIRECTORY));
    fs::rename(&from, &to).map_err(VectorError::io("rename", &from))?;
    sync_directory(dir)
}

/// Removes the segment's files, durable at return.
pub(crate) fn remove(dir: &Path) -> Result<(), VectorError> {
    remove_directory(&dir.join(DIRECTORY))?;
    sync_directory(dir)
}

fn remove_directory(path: &Path) -> Result<(), VectorError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(VectorError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn read_manifest(path: &Path) -> Result<Manifest, String> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MANIFEST_LIMIT_BYTES).read_to_string(&mut text))
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let Some((crc, json)) = text.split_once('\n') else {
        return Err(format!("{} has no checksum line", path.display()));
    };
    let found = format!("{:08x}", crc32fast::hash(json.as_bytes()));
    if found != crc {
        return Err(format!("{} has checksum {found}, expected {crc}", path.display()));
    }
    serde_json::from_str(json).map_err(|error| format!("cannot parse {}: {error}", path.display()))
}

fn measure(mut file: File, name: &str) -> std::io::Result<DumpFile> {
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(DumpFile { name: name.to_owned(), bytes, crc32: hasher.finalize() });
        }
        hasher.update(&buffer[..count]);
        bytes += count as u64;
    }
}

fn layout() -> String {
    let order = if cfg!(target_endian = "little") { "little" } else { "big" };
    format!("{order}-{}", usize::BITS)
}
