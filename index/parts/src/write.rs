//! Writing a part: under a name of its own, and renamed when it is whole and on the disk.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bowerbird_posts::Post;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use tempfile::NamedTempFile;

use crate::PartError;
use crate::body::Summed;
use crate::encode::Rows;
use crate::format::{FORMAT, KEY_BODY, KEY_DIM, KEY_FORMAT, KEY_SOURCE, KEY_SPACE, WRITER, schema};

/// Rows turned into columns together.
const BATCH_ROWS: usize = 256;
/// Bytes of rows turned into columns together; one row may be more.
const BATCH_BYTES: usize = 4 << 20;
/// Rows of a row group: what a reader may hold at a time.
const GROUP_ROWS: usize = 4096;
/// Bytes of a row group, packed.
const GROUP_BYTES: usize = 32 << 20;

/// What the vectors of a part are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VectorSpec {
    /// Fingerprint of the embedding space.
    pub space: String,
    /// Components of a vector.
    pub dim: usize,
    /// SHA-256 of the posts part they are made from ([`file_sha256`](crate::file_sha256)).
    pub source: String,
}

/// A part that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenPart {
    /// Its rows.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
}

/// Writes one part. Nothing is seen under its name before [`finish`](Self::finish); dropped before that, it is gone.
///
/// Holds one row group in memory, at most 32 MiB and one batch of rows.
pub struct PartWriter {
    path: PathBuf,
    writer: ArrowWriter<Summed<NamedTempFile>>,
    rows: Rows,
    written: u64,
}

impl PartWriter {
    /// Begins a posts part.
    pub fn posts(path: &Path) -> Result<Self, PartError> {
        Self::begin(path, None)
    }

    /// Begins a vector part.
    pub fn vectors(path: &Path, spec: &VectorSpec) -> Result<Self, PartError> {
        Self::begin(path, Some(spec))
    }

    fn begin(path: &Path, spec: Option<&VectorSpec>) -> Result<Self, PartError> {
        let dim = match spec {
            None => None,
            Some(spec) => Some(i32::try_from(spec.dim).ok().filter(|dim| *dim > 0).ok_or_else(|| {
                PartError::column(path, "vector", format!("{} components are not possible", spec.dim))
            })?),
        };
        let directory = directory_of(path);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        sweep(directory, &name);
        let file = temporary_builder(&format!(".{name}."))
            .tempfile_in(directory)
            .map_err(PartError::io("create a file in", directory))?;
        file.as_file().lock().map_err(PartError::io("lock", file.path()))?;
        let schema = Arc::new(schema(dim));
        let writer = ArrowWriter::try_new(Summed::new(file), Arc::clone(&schema), Some(properties(spec)))
            .map_err(|error| failed(path, &error))?;
        Ok(Self { path: path.to_path_buf(), writer, rows: Rows::new(schema, dim), written: 0 })
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.written + self.rows.len() as u64
    }

    /// Adds a post, in a vector part with its vector: none when the model refuses the text.
    pub fn push(&mut self, post: &Post, vector: Option<&[f32]>) -> Result<(), PartError> {
        self.rows.push(post, vector).map_err(|message| PartError::Unwritable {
            path: self.path.clone(),
            id: post.id.as_str().to_owned(),
            message,
        })?;
        if self.rows.len() >= BATCH_ROWS || self.rows.bytes() >= BATCH_BYTES {
            self.write_rows()?;
        }
        Ok(())
    }

    fn write_rows(&mut self) -> Result<(), PartError> {
        self.written += self.rows.len() as u64;
        let batch = self.rows.take().map_err(|error| failed(&self.path, &error.into()))?;
        self.writer.write(&batch).map_err(|error| failed(&self.path, &error))
    }

    /// Makes the part durable and gives it its name, replacing a file of that name.
    pub fn finish(mut self) -> Result<WrittenPart, PartError> {
        if self.rows.len() > 0 {
            self.write_rows()?;
        }
        let Self { path, mut writer, written, .. } = self;
        let fail = |error| failed(&path, &error);
        writer.flush().map_err(fail)?;
        writer.sync().map_err(PartError::io("write", &path))?;
        let body = writer.inner().body();
        writer.append_key_value_metadata(KeyValue::new(KEY_BODY.to_owned(), body));
        let file = writer.into_inner().map_err(fail)?.into_inner();
        file.as_file().sync_all().map_err(PartError::io("sync", &path))?;
        let bytes = file.as_file().metadata().map_err(PartError::io("read", &path))?.len();
        file.persist(&path).map_err(|error| PartError::io("rename to", &path)(error.error))?;
        let directory = directory_of(&path);
        if cfg!(unix) {
            File::open(directory)
                .and_then(|directory| directory.sync_all())
                .map_err(PartError::io("sync", directory))?;
        }
        Ok(WrittenPart { rows: written, bytes })
    }
}

fn properties(spec: Option<&VectorSpec>) -> WriterProperties {
    let mut metadata = vec![KeyValue::new(KEY_FORMAT.to_owned(), FORMAT.to_owned())];
    if let Some(VectorSpec { space, dim, source }) = spec {
        metadata.push(KeyValue::new(KEY_SPACE.to_owned(), space.clone()));
        metadata.push(KeyValue::new(KEY_DIM.to_owned(), dim.to_string()));
        metadata.push(KeyValue::new(KEY_SOURCE.to_owned(), source.clone()));
    }
    let vector = ColumnPath::new(vec!["vector".into(), "list".into(), "element".into()]);
    WriterProperties::builder()
        .set_created_by(format!("{WRITER}{}", env!("CARGO_PKG_VERSION")))
        .set_key_value_metadata(Some(metadata))
        .set_compression(Compression::SNAPPY)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_max_row_group_bytes(Some(GROUP_BYTES))
        // Components of vectors neither repeat nor compress.
        .set_column_dictionary_enabled(vector.clone(), false)
        .set_column_compression(vector, Compression::UNCOMPRESSED)
        .build()
}

fn temporary_builder(prefix: &str) -> tempfile::Builder<'_, '_> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix).suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // What any other new file gets, less the umask.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder
}

/// Removes what writers of this part left that were killed: their locks are free.
fn sweep(directory: &Path, name: &str) {
    let prefix = format!(".{name}.");
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let found = entry.file_name();
        let found = found.to_string_lossy();
        if !(found.starts_with(&prefix) && found.ends_with(".tmp")) {
            continue;
        }
        let Ok(file) = File::open(entry.path()) else { continue };
        if !matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            // Another writer may do the same.
            drop(fs::remove_file(entry.path()));
        }
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn failed(path: &Path, error: &parquet::errors::ParquetError) -> PartError {
    PartError::io("write", path)(std::io::Error::other(error.to_string()))
}
