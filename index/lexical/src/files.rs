//! The files of an index on disk, checked without trusting any of them.
//!
//! Every segment file ends in a footer: JSON with the CRC-32 of what comes before, the length of the JSON and a
//! magic number, both four bytes little endian. `meta.json` lists the segments, `lexical.format` names the version
//! of schema and analysis: a token that is written in another way makes an old index miss posts without an error.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tantivy::index::{IndexMeta, SegmentComponent};

use crate::LexicalError;
use crate::error::{damaged, io_fault};

/// Version of schema and analysis together.
const FORMAT: &str = "bowerbird lexical 1";
pub(crate) const MARKER: &str = "lexical.format";
const META: &str = "meta.json";
/// tantivy's list of the files it may delete.
pub(crate) const MANAGED: &str = ".managed.json";
const FOOTER_MAGIC: u32 = 1337;
const MAX_FOOTER_BYTES: u64 = 50_000;

/// Files that every segment has.
const COMPONENTS: [SegmentComponent; 6] = [
    SegmentComponent::Terms,
    SegmentComponent::Postings,
    SegmentComponent::Positions,
    SegmentComponent::FieldNorms,
    SegmentComponent::FastFields,
    SegmentComponent::Store,
];

/// Whether `dir` holds an index (`true`) or nothing at all (`false`); anything between is damage.
pub(crate) fn exists(dir: &Path) -> Result<bool, LexicalError> {
    let directory = |source| LexicalError::Directory { path: dir.to_owned(), source };
    fs::create_dir_all(dir).map_err(directory)?;
    let mut any = false;
    for entry in fs::read_dir(dir).map_err(directory)? {
        let name = entry.map_err(directory)?.file_name();
        // Locks and unfinished files stay behind after a crash; the list of files is written before the index is.
        let incidental = |name: &str| {
            let locks = [".tantivy-writer.lock", ".tantivy-meta.lock", MANAGED, MARKER];
            locks.contains(&name) || name.starts_with(".tmp")
        };
        any |= !name.to_str().is_some_and(incidental);
    }
    let marker = dir.join(MARKER);
    match fs::read_to_string(&marker) {
        Ok(found) if found.trim() == FORMAT => {}
        Ok(found) if found.starts_with("bowerbird lexical ") => {
            return Err(LexicalError::WrongFormat {
                path: marker,
                expected: FORMAT.to_owned(),
                found: found.trim().to_owned(),
            });
        }
        Ok(_) => return Err(damaged(&marker, format!("expected {FORMAT:?}"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !any => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(damaged(&marker, "the file is missing"));
        }
        Err(error) => return Err(io_fault(&marker, &error)),
    }
    if !any {
        // The marker is the first file of a new index and was written just before a crash.
        return Ok(false);
    }
    for name in [META, MANAGED] {
        let path = dir.join(name);
        match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice::<serde_json::Value>(&bytes)
                    .map_err(|error| damaged(&path, error.to_string()))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(damaged(&path, "the file is missing"));
            }
            Err(error) => return Err(io_fault(&path, &error)),
        }
    }
    Ok(true)
}

/// Writes the format of a new index.
pub(crate) fn write_marker(dir: &Path) -> Result<(), LexicalError> {
    let path = dir.join(MARKER);
    let write = || {
        let mut file = File::create(&path)?;
        writeln!(file, "{FORMAT}")?;
        file.sync_all()?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|error| io_fault(&path, &error))
}

/// The files of the committed segments.
pub(crate) fn committed(dir: &Path, meta: &IndexMeta) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for segment in &meta.segments {
        let deletes = segment.has_deletes().then_some(SegmentComponent::Delete);
        files.extend(COMPONENTS.into_iter().chain(deletes).map(|part| dir.join(segment.relative_path(part))));
    }
    files
}

/// The first committed file that is damaged, found without the search library; `None` when all are as written.
pub(crate) fn first_damaged(dir: &Path) -> Option<LexicalError> {
    #[derive(Deserialize)]
    struct Meta {
        segments: Vec<Segment>,
    }
    #[derive(Deserialize)]
    struct Segment {
        segment_id: String,
    }
    let path = dir.join(META);
    let meta = fs::read(&path).map_err(|error| io_fault(&path, &error)).and_then(|bytes| {
        serde_json::from_slice::<Meta>(&bytes).map_err(|error| damaged(&path, error.to_string()))
    });
    let meta = match meta {
        Ok(meta) => meta,
        Err(error) => return Some(error),
    };
    let ids: Vec<String> = meta.segments.iter().map(|segment| segment.segment_id.replace('-', "")).collect();
    let names = fs::read_dir(dir).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<PathBuf> = names
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            ids.iter().any(|id| name.starts_with(id))
        })
        .collect();
    files.sort();
    files.iter().find_map(|file| check(file, true).err())
}

/// Sum of the sizes of `files`; the first that is missing is damage.
pub(crate) fn total_bytes(files: &[PathBuf]) -> Result<u64, LexicalError> {
    files.iter().try_fold(0, |sum, path| match fs::metadata(path) {
        Ok(metadata) => Ok(sum + metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(damaged(path, "the file is missing")),
        Err(error) => Err(io_fault(path, &error)),
    })
}

/// Checks that `path` ends in a footer, and with `whole` that its content has the checksum the footer names.
pub(crate) fn check(path: &Path, whole: bool) -> Result<(), LexicalError> {
    check_file(path, whole).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => damaged(path, "the file is missing"),
        _ => io_fault(path, &error),
    })
}

#[derive(Deserialize)]
struct Footer {
    crc: u32,
}

fn check_file(path: &Path, whole: bool) -> io::Result<()> {
    let invalid = |message: String| io::Error::new(io::ErrorKind::InvalidData, message);
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let tail_at = length.checked_sub(8).ok_or_else(|| invalid(format!("{length} bytes are too few")))?;
    let mut tail = [0; 8];
    file.seek(SeekFrom::Start(tail_at))?;
    file.read_exact(&mut tail)?;
    let word = |at: usize| u32::from_le_bytes([tail[at], tail[at + 1], tail[at + 2], tail[at + 3]]);
    let (footer_bytes, magic) = (u64::from(word(0)), word(4));
    if magic != FOOTER_MAGIC || footer_bytes > MAX_FOOTER_BYTES || footer_bytes > tail_at {
        return Err(invalid("it does not end in a footer; it may be cut short".to_owned()));
    }
    let content_bytes = tail_at - footer_bytes;
    file.seek(SeekFrom::Start(content_bytes))?;
    let mut footer = vec![0; footer_bytes as usize];
    file.read_exact(&mut footer)?;
    let footer: Footer = serde_json::from_slice(&footer)
        .map_err(|error| invalid(format!("its footer is no JSON: {error}")))?;
    if !whole {
        return Ok(());
    }
    file.seek(SeekFrom::Start(0))?;
    let mut content = file.take(content_bytes);
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = content.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    let found = hasher.finalize();
    if found != footer.crc {
        return Err(invalid(format!("checksum is {found:08x}, expected {:08x}", footer.crc)));
    }
    Ok(())
}
