//! A sealed segment: the codes of the first records of the log, mapped, with a graph over them.
//!
//! Both are caches of the log. Nothing in the directory is used before its size and checksum agree with the
//! manifest; a segment that does not pass is set aside as `segment.damaged` and its points are scanned flat.
//!
//! Directory `segment/`:
//!
//! ```text
//! codes        see `sealed.rs`
//! …            files of the engine, see `engines/`
//! manifest     line 1: crc32 of the rest, 8 hexadecimal digits
//!              rest: JSON, see `Manifest`
//! ```

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::VectorError;
use crate::engines::{self, Engine, Graph, GraphShape, MappedLinks, Material};
use crate::kernel::Dots;
use crate::log::sync_directory;
use crate::sealed::{CODES_FILE, DEAD_SLOT, SealedCodes};

const DIRECTORY: &str = "segment";
const TEMPORARY: &str = "segment.tmp";
const DAMAGED: &str = "segment.damaged";
const MANIFEST: &str = "manifest";
const MANIFEST_VERSION: u32 = 2;
const MANIFEST_LIMIT_BYTES: u64 = 64 * 1024;

/// What the files are checked against before any of them is used.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    engine: Engine,
    /// Byte order and width of integers in the files.
    layout: String,
    /// Incarnation of the log the slots refer to.
    incarnation: u64,
    /// Records of the log the segment stands for.
    records: usize,
    /// Nodes, those that only carry links included.
    nodes: usize,
    dim: usize,
    /// Of [`Engine::Graph`].
    shape: Option<GraphShape>,
    files: Vec<SegmentFile>,
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct SegmentFile {
    name: String,
    bytes: u64,
    crc32: u32,
}

/// What a segment must agree with.
#[derive(Clone, Copy)]
pub(crate) struct Expected {
    pub incarnation: u64,
    /// Records of the log.
    pub records: usize,
    pub dim: usize,
}

/// An open segment.
pub(crate) struct Segment {
    pub codes: Arc<SealedCodes>,
    /// None when the engine has none.
    pub graph: Option<Box<dyn Graph>>,
    pub engine: Engine,
    /// Slots below this are the segment's; those above are in the tail.
    pub records: usize,
}

/// Why a segment is not used.
pub(crate) enum Unusable {
    /// It belongs to records that are gone; not damage.
    Outdated(String),
    Damaged(String),
}

impl From<String> for Unusable {
    fn from(reason: String) -> Self {
        Self::Damaged(reason)
    }
}

impl Segment {
    /// Bytes of the mapped codes and of the graph's own memory: (mapped, heap).
    pub fn bytes(&self) -> (usize, usize) {
        let links = self.graph.as_ref().and_then(|graph| graph.links()).map_or(0, MappedLinks::file_bytes);
        let heap = self.graph.as_ref().map_or(0, |graph| graph.heap_bytes());
        (self.codes.file_bytes() + links, heap)
    }

    /// Nodes whose point is alive as far as the segment knows.
    pub fn alive(&self) -> impl Iterator<Item = (u32, u32)> {
        let nodes = self.codes.ids().iter().zip(self.codes.slots()).zip(0..);
        nodes.filter(|((_, slot), _)| **slot != DEAD_SLOT).map(|((id, _), node)| (node, *id))
    }
}

/// Where a segment is written before it is complete; made empty.
pub(crate) fn begin(dir: &Path) -> Result<std::path::PathBuf, VectorError> {
    let target = dir.join(TEMPORARY);
    remove_directory(&target)?;
    fs::create_dir(&target).map_err(VectorError::io("create", &target))?;
    Ok(target)
}

/// Removes what was begun.
pub(crate) fn abandon(dir: &Path) -> Result<(), VectorError> {
    remove_directory(&dir.join(TEMPORARY))
}

/// Builds the graph beside written codes, and the manifest of both; none when it was stopped.
pub(crate) fn complete(
    material: &Material,
    engine: Engine,
    expected: Expected,
) -> Result<Option<()>, VectorError> {
    let Some(names) = engines::build(engine, material)? else { return Ok(None) };
    let mut files = Vec::with_capacity(names.len() + 1);
    for name in std::iter::once(CODES_FILE).chain(names) {
        let path = material.dir.join(name);
        let measured = File::open(&path).and_then(|file| measure(file, name));
        files.push(measured.map_err(VectorError::io("read", &path))?);
    }
    let manifest = Manifest {
        format: MANIFEST_VERSION,
        engine,
        layout: layout(),
        incarnation: expected.incarnation,
        records: expected.records,
        nodes: material.codes.nodes(),
        dim: expected.dim,
        shape: material.shape.clone(),
        files,
    };
    let path = material.dir.join(MANIFEST);
    let json = serde_json::to_string_pretty(&manifest)
        .map_err(|error| VectorError::Graph { path: path.clone(), message: error.to_string() })?;
    let text = format!("{:08x}\n{json}", crc32fast::hash(json.as_bytes()));
    fs::write(&path, text).map_err(VectorError::io("write", &path))?;
    File::open(&path).and_then(|file| file.sync_all()).map_err(VectorError::io("sync", &path))?;
    sync_directory(material.dir)?;
    Ok(Some(()))
}

/// Opens the segment of `dir` if there is one that fits the log.
pub(crate) fn load(dir: &Path, expected: Expected, dots: Dots) -> Result<Option<Segment>, Unusable> {
    let home = dir.join(DIRECTORY);
    match home.try_exists() {
        Ok(true) => open(&home, expected, dots, true).map(Some),
        Ok(false) => Ok(None),
        Err(error) => Err(Unusable::Damaged(format!("cannot look for {}: {error}", home.display()))),
    }
}

/// Opens a segment that was completed a moment ago.
pub(crate) fn open_new(dir: &Path, expected: Expected, dots: Dots) -> Result<Segment, VectorError> {
    let path = dir.join(TEMPORARY);
    open(&path, expected, dots, false).map_err(|unusable| {
        let (Unusable::Outdated(message) | Unusable::Damaged(message)) = unusable;
        VectorError::Graph { path, message }
    })
}

fn open(home: &Path, expected: Expected, dots: Dots, verify: bool) -> Result<Segment, Unusable> {
    let manifest = read_manifest(&home.join(MANIFEST))?;
    let Manifest { engine, records, nodes, .. } = manifest;
    if manifest.format != MANIFEST_VERSION || manifest.layout != layout() {
        let Manifest { format, layout: found, .. } = manifest;
        let reason = format!("format {format} {found}, expected {MANIFEST_VERSION} {}", layout());
        return Err(Unusable::Outdated(reason));
    }
    if manifest.incarnation != expected.incarnation || manifest.dim != expected.dim {
        return Err(Unusable::Outdated(format!(
            "it stands for incarnation {} of the log, which is at {}",
            manifest.incarnation, expected.incarnation
        )));
    }
    if !engine.available() {
        return Err(Unusable::Outdated(format!("this build has no engine {engine:?}")));
    }
    if records > expected.records || nodes == 0 || nodes >= DEAD_SLOT as usize {
        let reason =
            format!("it has {nodes} nodes for {records} records, the log has {} records", expected.records);
        return Err(Unusable::Damaged(reason));
    }
    if manifest.files.first().is_none_or(|file| file.name != CODES_FILE) {
        return Err(Unusable::Damaged("the manifest lists no codes".into()));
    }
    for file in manifest.files.iter().filter(|_| verify) {
        let path = home.join(&file.name);
        let found = File::open(&path).and_then(|opened| measure(opened, &file.name));
        let found = found.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        if found != *file {
            return Err(Unusable::Damaged(format!("{} is {found:?}, expected {file:?}", path.display())));
        }
    }
    let codes = Arc::new(SealedCodes::open(home, nodes, manifest.dim)?);
    let graph = engines::open(engine, home, &codes, manifest.shape.as_ref(), dots)?;
    Ok(Segment { codes, graph, engine, records })
}

/// Puts a completed segment in the place of the one there was.
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

/// Keeps a damaged segment for whoever wants to look at it, in the place of an earlier one.
pub(crate) fn set_aside(dir: &Path) -> Result<(), VectorError> {
    let (from, to) = (dir.join(DIRECTORY), dir.join(DAMAGED));
    remove_directory(&to)?;
    fs::rename(&from, &to).map_err(VectorError::io("rename", &from))?;
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

fn measure(mut file: File, name: &str) -> std::io::Result<SegmentFile> {
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(SegmentFile { name: name.to_owned(), bytes, crc32: hasher.finalize() });
        }
        hasher.update(&buffer[..count]);
        bytes += count as u64;
    }
}

fn layout() -> String {
    let order = if cfg!(target_endian = "little") { "little" } else { "big" };
    format!("{order}-{}", usize::BITS)
}
