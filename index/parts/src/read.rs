//! Reading a part, or any Parquet file of posts, one batch of rows at a time.

use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use bowerbird_posts::Post;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::ParquetMetaData;

use crate::body::check_body;
use crate::columns::{check_groups, reading_schema};
use crate::decode::{self, Refusal};
use crate::format::{FORMAT, KEY_BODY, KEY_DIM, KEY_FORMAT, KEY_SOURCE, KEY_SPACE, WRITER};
use crate::{PartError, VectorSpec};

/// Rows decoded together.
const BATCH_ROWS: usize = 256;

/// What a part says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartInfo {
    /// Its rows.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// What its vectors are; none for a posts part.
    pub vectors: Option<VectorSpec>,
}

impl PartInfo {
    /// The vectors of the part, which must be of `expected`.
    pub fn expect_space(&self, path: &Path, expected: &str) -> Result<&VectorSpec, PartError> {
        let space = self.vectors.as_ref().ok_or_else(|| PartError::NoVectors { path: path.to_path_buf() })?;
        if space.space != expected {
            return Err(PartError::Space {
                path: path.to_path_buf(),
                expected: expected.to_owned(),
                found: space.space.clone(),
            });
        }
        Ok(space)
    }
}

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct PartRow {
    /// The post, validated.
    pub post: Post,
    /// Its vector, of unit length; none in a posts part, and where the model refused the text.
    pub vector: Option<Vec<f32>>,
}

/// Iterates over the rows of a part.
///
/// A refused row is an error in the iteration and the next row follows ([`PartError::is_row`]); any other error is the
/// last item. Holds a page of each column and 256 rows at a time.
pub struct PartReader {
    path: PathBuf,
    info: PartInfo,
    /// None after an error that ends the file.
    batches: Option<ParquetRecordBatchReader>,
    batch: Option<(RecordBatch, usize)>,
    row: u64,
}

/// What a part says of itself, read from its footer; [`PartReader::open`] also checks the rest.
pub fn part_info(path: &Path) -> Result<PartInfo, PartError> {
    open(path).map(|opened| opened.info)
}

/// The part files of a directory, by name: what ends in `.parquet` and does not begin with a dot.
pub fn part_files(dir: &Path) -> Result<Vec<PathBuf>, PartError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(PartError::io("read", dir))? {
        let path = entry.map_err(PartError::io("read", dir))?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && path.extension().is_some_and(|end| end.eq_ignore_ascii_case("parquet")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

impl PartReader {
    /// Opens a part, or a file of another writer that has the columns of a posts part; see `format.rs`.
    ///
    /// Every byte of a part is read and compared with its checksum; files of other writers have none.
    pub fn open(path: &Path) -> Result<Self, PartError> {
        let Opened { file, metadata, info, body } = open(path)?;
        if let Some(body) = body {
            check_body(path, &body)?;
        }
        let batches = caught(path, || {
            let schema = reading_schema(path, metadata.metadata(), metadata.schema())?;
            let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
            ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), options)
                .map(|metadata| ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata))
                .and_then(|builder| builder.with_batch_size(BATCH_ROWS).build())
                .map_err(|error| PartError::damaged(path, error))
        })?;
        Ok(Self { path: path.to_path_buf(), info, batches: Some(batches), batch: None, row: 0 })
    }

    /// Opens a vector part whose vectors are of the space `expected`.
    pub fn open_vectors(path: &Path, expected: &str) -> Result<Self, PartError> {
        let reader = Self::open(path)?;
        reader.info.expect_space(path, expected)?;
        Ok(reader)
    }

    /// What the part says of itself.
    pub fn info(&self) -> &PartInfo {
        &self.info
    }

    fn next_batch(&mut self) -> Option<Result<(RecordBatch, usize), PartError>> {
        let batches = self.batches.as_mut()?;
        let batch = caught(&self.path, || {
            batches.next().transpose().map_err(|error| PartError::damaged(&self.path, error))
        });
        match batch {
            Ok(Some(batch)) => Some(Ok((batch, 0))),
            Ok(None) => {
                self.batches = None;
                let (rows, expected) = (self.row, self.info.rows);
                let short = rows != expected;
                short
                    .then(|| Err(PartError::damaged(&self.path, format!("{rows} rows, expected {expected}"))))
            }
            Err(error) => {
                self.batches = None;
                Some(Err(error))
            }
        }
    }
}

impl Iterator for PartReader {
    type Item = Result<PartRow, PartError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (batch, at) = loop {
            match self.batch.take() {
                Some((batch, at)) if at < batch.num_rows() => break (batch, at),
                _ => match self.next_batch()? {
                    Ok(next) => self.batch = Some(next),
                    Err(error) => return Some(Err(error)),
                },
            }
        };
        let dim = self.info.vectors.as_ref().map(|space| space.dim);
        let read = row(&batch, at, dim);
        let (row, path) = (self.row, &self.path);
        self.row += 1;
        self.batch = Some((batch, at + 1));
        Some(read.map_err(|(column, message)| PartError::Row {
            path: path.clone(),
            row,
            column: column.to_owned(),
            message,
        }))
    }
}

fn row(batch: &RecordBatch, at: usize, dim: Option<usize>) -> Result<PartRow, Refusal> {
    let post = decode::post(batch, at)?;
    let vector = match dim {
        None => None,
        Some(dim) => decode::vector(batch, at, &post.text, dim)?,
    };
    Ok(PartRow { post, vector })
}

struct Opened {
    file: File,
    metadata: ArrowReaderMetadata,
    info: PartInfo,
    /// What `bowerbird.body` says, of a file that this program wrote.
    body: Option<String>,
}

fn open(path: &Path) -> Result<Opened, PartError> {
    let file = File::open(path).map_err(PartError::io("open", path))?;
    let found = file.metadata().map_err(PartError::io("read", path))?;
    if found.is_dir() {
        return Err(PartError::io("open", path)(std::io::ErrorKind::IsADirectory.into()));
    }
    let metadata = caught(path, || {
        // What another writer says about Arrow types is of no interest: the Parquet types decide.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        ArrowReaderMetadata::load(&file, options).map_err(|error| PartError::damaged(path, error))
    })?;
    let (info, body) = info(path, metadata.metadata(), found.len())?;
    check_groups(path, metadata.metadata())?;
    Ok(Opened { file, metadata, info, body })
}

fn info(
    path: &Path,
    metadata: &ParquetMetaData,
    bytes: u64,
) -> Result<(PartInfo, Option<String>), PartError> {
    let value = |key: &str| {
        let mut pairs = metadata.file_metadata().key_value_metadata().into_iter().flatten();
        pairs.find(|pair| pair.key == key).and_then(|pair| pair.value.as_deref())
    };
    let rows = u64::try_from(metadata.file_metadata().num_rows())
        .map_err(|_| PartError::damaged(path, "its number of rows is negative"))?;
    let mut info = PartInfo { rows, bytes, vectors: None };
    let Some(format) = value(KEY_FORMAT) else { return Ok((info, None)) };
    if format != FORMAT {
        return Err(PartError::Format {
            path: path.to_path_buf(),
            expected: FORMAT,
            found: format.to_owned(),
        });
    }
    // A program that rewrites a part may copy what it says of itself, and then its bytes are others.
    let ours = metadata.file_metadata().created_by().is_some_and(|by| by.starts_with(WRITER));
    let body = value(KEY_BODY).filter(|_| ours).map(str::to_owned);
    if ours && body.is_none() {
        return Err(PartError::damaged(path, "bowerbird.body is missing"));
    }
    if let Some(space) = value(KEY_SPACE) {
        let dim = value(KEY_DIM).and_then(|dim| dim.parse().ok()).filter(|dim| *dim > 0);
        info.vectors = Some(VectorSpec {
            space: space.to_owned(),
            dim: dim.ok_or_else(|| PartError::damaged(path, "bowerbird.dim is missing"))?,
            source: value(KEY_SOURCE).unwrap_or_default().to_owned(),
        });
        let schema = metadata.file_metadata().schema();
        for column in ["text_sha256", "vector"] {
            if !schema.get_fields().iter().any(|field| field.name() == column) {
                return Err(PartError::column(path, column, "is missing in a vector part"));
            }
        }
    }
    Ok((info, body))
}

/// Runs `work` on bytes of a stranger: a panic of the decoder is damage.
fn caught<T>(path: &Path, work: impl FnOnce() -> Result<T, PartError>) -> Result<T, PartError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(PartError::damaged(path, "it cannot be decoded")))
}
