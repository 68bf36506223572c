//! Whether the columns of a file are those of a part, and how they are to be read.

use std::path::Path;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, TimeUnit};
use parquet::basic::{Compression, Type as Physical};
use parquet::file::metadata::ParquetMetaData;

use crate::PartError;
use crate::format::{COLUMNS, DIGEST_BYTES, Kind};

/// Most bytes of a row group, unpacked.
const MAX_GROUP_BYTES: u64 = 1 << 30;

/// Refuses a file that cannot be read in bounded memory, or not at all.
pub(crate) fn check_groups(path: &Path, metadata: &ParquetMetaData) -> Result<(), PartError> {
    for (group, row_group) in metadata.row_groups().iter().enumerate() {
        let bytes: i64 = row_group
            .columns()
            .iter()
            .map(|column| column.uncompressed_size().max(0))
            .fold(0, i64::saturating_add);
        if bytes.unsigned_abs() > MAX_GROUP_BYTES {
            return Err(PartError::RowGroup {
                path: path.to_path_buf(),
                group,
                found: bytes.unsigned_abs(),
                limit: MAX_GROUP_BYTES,
            });
        }
        for column in row_group.columns() {
            match column.compression() {
                Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::GZIP(_) => {}
                other => {
                    return Err(PartError::Codec {
                        path: path.to_path_buf(),
                        column: column.column_path().string(),
                        codec: other.to_string(),
                    });
                }
            }
        }
    }
    Ok(())
}

/// Checks the columns of a file and gives the types to read them as: strings as views, so that a value that the file
/// holds once and repeats often is in memory once.
pub(crate) fn reading_schema(
    path: &Path,
    metadata: &ParquetMetaData,
    found: &Schema,
) -> Result<Schema, PartError> {
    for (name, kind, required) in COLUMNS {
        if required && found.fields().find(name).is_none() {
            return Err(PartError::column(path, name, format!("is missing, expected {}", kind.expected())));
        }
    }
    let mut fields = Vec::with_capacity(found.fields().len());
    for (at, field) in found.fields().iter().enumerate() {
        let Some((name, kind, required)) = COLUMNS.iter().find(|(name, ..)| name == field.name()) else {
            let known: Vec<_> = COLUMNS.iter().map(|(name, ..)| *name).collect();
            let message =
                format!("is unknown: drop it, or move it into attributes (known are {})", known.join(", "));
            return Err(PartError::column(path, field.name(), message));
        };
        if found.fields()[..at].iter().any(|before| before.name() == name) {
            return Err(PartError::column(path, name, "is there twice"));
        }
        let data_type = match (kind, field.data_type()) {
            // A column of nothing but nulls.
            (_, DataType::Null) if !required => DataType::Null,
            (kind, found) => read_as(*kind, found, is_int96(metadata, name)).ok_or_else(|| {
                PartError::column(path, name, format!("is {found}, expected {}", kind.expected()))
            })?,
        };
        fields.push(field.as_ref().clone().with_data_type(data_type));
    }
    Ok(Schema::new(fields))
}

fn read_as(kind: Kind, found: &DataType, int96: bool) -> Option<DataType> {
    let list =
        |element: &Field, data_type| DataType::List(Arc::new(element.clone().with_data_type(data_type)));
    match (kind, found) {
        (Kind::Text, DataType::Utf8) => return Some(DataType::Utf8View),
        (Kind::Texts, DataType::List(element)) if *element.data_type() == DataType::Utf8 => {
            return Some(list(element, DataType::Utf8View));
        }
        _ => {}
    }
    let fits = match (kind, found) {
        // The old type of Spark and Hive has no time zone and means UTC.
        (Kind::Time, DataType::Timestamp(unit, zone)) => {
            zone.is_some() || (int96 && *unit == TimeUnit::Nanosecond)
        }
        (Kind::Count, DataType::Int32 | DataType::Int64 | DataType::UInt32 | DataType::UInt64)
        | (Kind::Digest, DataType::FixedSizeBinary(DIGEST_BYTES)) => true,
        (Kind::Vector, DataType::List(element)) => *element.data_type() == DataType::Float32,
        _ => false,
    };
    fits.then(|| found.clone())
}

fn is_int96(metadata: &ParquetMetaData, name: &str) -> bool {
    let columns = metadata.file_metadata().schema_descr();
    columns
        .columns()
        .iter()
        .any(|column| column.path().parts() == [name] && column.physical_type() == Physical::INT96)
}
