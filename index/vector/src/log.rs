//! The file `vectors.log`: created whole, appended to, read by position, rewritten whole. Bytes are in
//! [`format`](crate::format).

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::format::{FIXED_HEADER_BYTES, Header, decode_record, encode_record, record_bytes};
use crate::{PointId, VectorError};

const LOG_FILE: &str = "vectors.log";
const TEMPORARY_FILE: &str = "vectors.log.tmp";
const BUFFER_BYTES: usize = 1 << 20;

/// An open log. The number of records is known to the caller, who appends in slot order.
#[derive(Debug)]
pub(crate) struct Log {
    file: Positioned,
    path: PathBuf,
    pub header: Header,
}

/// What replaying a log found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replayed {
    /// Good records.
    pub records: u64,
    /// Bytes cut from the end.
    pub torn_bytes: u64,
}

impl Log {
    pub fn exists(dir: &Path) -> Result<bool, VectorError> {
        let path = dir.join(LOG_FILE);
        path.try_exists().map_err(VectorError::io("look for", &path))
    }

    /// Writes a log without records, durable at return.
    pub fn create(dir: &Path, header: Header) -> Result<Self, VectorError> {
        Rewrite::begin(dir, header)?.finish()
    }

    /// Opens a log and reads its header; records are not looked at.
    pub fn open(dir: &Path) -> Result<Self, VectorError> {
        let path = dir.join(LOG_FILE);
        let file =
            OpenOptions::new().read(true).write(true).open(&path).map_err(VectorError::io("open", &path))?;
        let header = read_header(&file, &path)?;
        Ok(Self { file: Positioned::new(file), path, header })
    }

    /// Whole records in the file, good or bad.
    pub fn whole_records(&self) -> Result<usize, VectorError> {
        let bytes = self.file.bytes().map_err(VectorError::io("measure", &self.path))?;
        let body = bytes.saturating_sub(self.header.encoded_bytes() as u64);
        Ok((body / record_bytes(self.header.dim) as u64) as usize)
    }

    /// Shows every good record from slot `from` on to `visit`, in order, and cuts a torn tail off the file. Records
    /// before it are checked when they are read.
    ///
    /// A bad record that has a good one behind it is [`VectorError::Damaged`], and nothing is cut.
    pub fn replay(&self, from: usize, mut visit: impl FnMut(u32, &[f32])) -> Result<Replayed, VectorError> {
        let (start, size) = (self.header.encoded_bytes() as u64, record_bytes(self.header.dim));
        let total = self.file.bytes().map_err(VectorError::io("measure", &self.path))?;
        let body = total.saturating_sub(start);
        let whole_records = body / size as u64;
        let mut reader = self.file.reader(self.offset(from)).map_err(VectorError::io("read", &self.path))?;
        let mut record = vec![0; size];
        let mut vector = vec![0.0; self.header.dim];
        let mut first_bad: Option<(u64, u32, u32)> = None;
        for slot in from as u64..whole_records {
            reader.read_exact(&mut record).map_err(VectorError::io("read", &self.path))?;
            match (decode_record(&record, &mut vector), first_bad) {
                (Ok(id), None) => visit(id, &vector),
                (Err((expected, found)), None) => first_bad = Some((slot, expected, found)),
                (Ok(_), Some((slot, expected, found))) => {
                    return Err(self.checksum_mismatch(slot, expected, found));
                }
                (Err(_), Some(_)) => {}
            }
        }
        let records = first_bad.map_or(whole_records, |(slot, ..)| slot);
        let torn_bytes = body - records * size as u64;
        if torn_bytes > 0 {
            tracing::warn!(path = %self.path.display(), torn_bytes, records, "cut a torn tail off the vector log");
            self.file.cut(total - torn_bytes).map_err(VectorError::io("cut", &self.path))?;
        }
        Ok(Replayed { records, torn_bytes })
    }

    /// Writes encoded records at `slot` and after; on failure the file is cut back to what it was.
    pub fn append(&self, slot: usize, records: &[u8]) -> Result<(), VectorError> {
        let offset = self.offset(slot);
        self.file.write_at(records, offset).map_err(|source| {
            if let Err(error) = self.file.cut(offset) {
                // The next append overwrites the same place, and a torn tail is cut at the next open.
                tracing::error!(path = %self.path.display(), %error, "cannot cut a failed append");
            }
            VectorError::Io { action: "append to", path: self.path.clone(), source }
        })
    }

    /// Reads one record into `vector`, checking its checksum; gives the point id.
    pub fn read(&self, slot: usize, vector: &mut [f32], scratch: &mut Vec<u8>) -> Result<u32, VectorError> {
        scratch.resize(record_bytes(self.header.dim), 0);
        self.file.read_at(scratch, self.offset(slot)).map_err(VectorError::io("read", &self.path))?;
        decode_record(scratch, vector)
            .map_err(|(expected, found)| self.checksum_mismatch(slot as u64, expected, found))
    }

    /// Makes everything appended so far durable.
    pub fn sync(&self) -> Result<(), VectorError> {
        self.file.sync().map_err(VectorError::io("sync", &self.path))
    }

    /// A record that is intact but belongs to another point.
    pub fn wrong_point(&self, slot: usize, expected: u32, found: u32) -> VectorError {
        let detail = format!("it holds point {found}, expected {expected}");
        VectorError::damaged(&self.path, Some(slot as u64), detail)
    }

    fn offset(&self, slot: usize) -> u64 {
        self.header.encoded_bytes() as u64 + slot as u64 * record_bytes(self.header.dim) as u64
    }

    fn checksum_mismatch(&self, slot: u64, expected: u32, found: u32) -> VectorError {
        let detail = format!("checksum is {found:08x}, expected {expected:08x}");
        VectorError::damaged(&self.path, Some(slot), detail)
    }
}

/// A new log that replaces the old one when it is complete and durable.
pub(crate) struct Rewrite {
    out: BufWriter<File>,
    header: Header,
    directory: PathBuf,
    record: Vec<u8>,
}

impl Rewrite {
    pub fn begin(dir: &Path, header: Header) -> Result<Self, VectorError> {
        let path = dir.join(TEMPORARY_FILE);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .map_err(VectorError::io("create", &path))?;
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
        out.write_all(&header.encode()).map_err(VectorError::io("write", &path))?;
        Ok(Self { out, header, directory: dir.to_path_buf(), record: Vec::new() })
    }

    pub fn push(&mut self, id: u32, vector: &[f32]) -> Result<(), VectorError> {
        self.record.clear();
        encode_record(id, vector, &mut self.record);
        let path = self.directory.join(TEMPORARY_FILE);
        self.out.write_all(&self.record).map_err(VectorError::io("write", &path))
    }

    /// Makes the new log durable and puts it in the place of the old one.
    pub fn finish(self) -> Result<Log, VectorError> {
        let (from, to) = (self.directory.join(TEMPORARY_FILE), self.directory.join(LOG_FILE));
        let file =
            self.out.into_inner().map_err(|error| VectorError::io("write", &from)(error.into_error()))?;
        file.sync_all().map_err(VectorError::io("sync", &from))?;
        fs::rename(&from, &to).map_err(VectorError::io("rename", &from))?;
        sync_directory(&self.directory)?;
        Ok(Log { file: Positioned::new(file), path: to, header: self.header })
    }
}

/// What a log says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSummary {
    /// Fingerprint of the embedding space.
    pub space: String,
    /// Components of a vector.
    pub dim: usize,
    /// Intact records.
    pub records: u64,
}

/// Shows every intact record of the log in `dir` to `visit`, in order, without opening an index or changing a file.
pub fn read_log(dir: &Path, mut visit: impl FnMut(PointId, &[f32])) -> Result<LogSummary, VectorError> {
    let path = dir.join(LOG_FILE);
    let file = File::open(&path).map_err(VectorError::io("open", &path))?;
    let header = read_header(&file, &path)?;
    let log = Log { file: Positioned::new(file), path, header };
    let (mut vector, mut scratch, mut records) = (vec![0.0; log.header.dim], Vec::new(), 0);
    for slot in 0..log.whole_records()? {
        match log.read(slot, &mut vector, &mut scratch) {
            Ok(id) => visit(PointId(id), &vector),
            Err(VectorError::Damaged { .. }) => continue,
            Err(error) => return Err(error),
        }
        records += 1;
    }
    Ok(LogSummary { space: log.header.space, dim: log.header.dim, records })
}

/// What [`VectorIndex::repair`](crate::VectorIndex::repair) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepairReport {
    /// Records that were intact.
    pub kept: u64,
    /// Records that failed their checksum and were left out, a torn one at the end included.
    pub dropped: u64,
    /// The header was unreadable: the log was set aside as `vectors.log.damaged` and every vector must be made again.
    pub started_over: bool,
}

/// Rewrites the log of `dir` with its intact records only.
pub(crate) fn repair(dir: &Path) -> Result<RepairReport, VectorError> {
    let mut report = RepairReport { kept: 0, dropped: 0, started_over: false };
    if !Log::exists(dir)? {
        return Ok(report);
    }
    let log = match Log::open(dir) {
        Ok(log) => log,
        Err(VectorError::Damaged { path, .. }) => {
            fs::rename(&path, dir.join("vectors.log.damaged")).map_err(VectorError::io("rename", &path))?;
            sync_directory(dir)?;
            return Ok(RepairReport { started_over: true, ..report });
        }
        Err(error) => return Err(error),
    };
    let (start, size) = (log.header.encoded_bytes() as u64, record_bytes(log.header.dim));
    let body = log.file.bytes().map_err(VectorError::io("measure", &log.path))?.saturating_sub(start);
    let incarnation = log.header.incarnation.wrapping_add(1);
    let mut rewrite = Rewrite::begin(dir, Header { incarnation, ..log.header.clone() })?;
    let mut reader = log.file.reader(start).map_err(VectorError::io("read", &log.path))?;
    let (mut record, mut vector) = (vec![0; size], vec![0.0; log.header.dim]);
    for _ in 0..body / size as u64 {
        reader.read_exact(&mut record).map_err(VectorError::io("read", &log.path))?;
        if let Ok(id) = decode_record(&record, &mut vector) {
            rewrite.push(id, &vector)?;
            report.kept += 1;
        } else {
            report.dropped += 1;
        }
    }
    report.dropped += u64::from(body % size as u64 > 0);
    if report.dropped > 0 {
        rewrite.finish()?;
    }
    Ok(report)
}

fn read_header(file: &File, path: &Path) -> Result<Header, VectorError> {
    let mut reader = BufReader::new(file);
    let mut bytes = Vec::with_capacity(256);
    let take = |reader: &mut BufReader<&File>, bytes: &mut Vec<u8>, count: usize| {
        reader.take(count as u64).read_to_end(bytes).map_err(VectorError::io("read", path))
    };
    take(&mut reader, &mut bytes, FIXED_HEADER_BYTES)?;
    let total = Header::total_bytes(&bytes, path)?;
    take(&mut reader, &mut bytes, total - FIXED_HEADER_BYTES)?;
    Header::decode(&bytes, path)
}

/// Makes names created, renamed or removed in `dir` durable.
pub(crate) fn sync_directory(dir: &Path) -> Result<(), VectorError> {
    if cfg!(unix) {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(VectorError::io("sync", dir))?;
    }
    Ok(())
}

/// A file read and written by position from several threads.
#[derive(Debug)]
struct Positioned {
    file: File,
    #[cfg(not(unix))]
    cursor: parking_lot::Mutex<()>,
}

impl Positioned {
    fn new(file: File) -> Self {
        Self {
            file,
            #[cfg(not(unix))]
            cursor: parking_lot::Mutex::new(()),
        }
    }

    #[cfg(unix)]
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, bytes, offset)
    }

    #[cfg(unix)]
    fn write_at(&self, bytes: &[u8], offset: u64) -> std::io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.file, bytes, offset)
    }

    #[cfg(not(unix))]
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
        let _cursor = self.cursor.lock();
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(bytes)
    }

    #[cfg(not(unix))]
    fn write_at(&self, bytes: &[u8], offset: u64) -> std::io::Result<()> {
        let _cursor = self.cursor.lock();
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(bytes)
    }

    /// A buffered reader from `offset` on; only while nobody else uses the file.
    fn reader(&self, offset: u64) -> std::io::Result<BufReader<&File>> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))?;
        Ok(BufReader::with_capacity(BUFFER_BYTES, file))
    }

    fn bytes(&self) -> std::io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn cut(&self, bytes: u64) -> std::io::Result<()> {
        self.file.set_len(bytes)?;
        self.file.sync_data()
    }

    fn sync(&self) -> std::io::Result<()> {
        self.file.sync_data()
    }
}
