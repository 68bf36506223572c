//! Columns as posts, row by row; what a row holds is checked as if it came from a stranger.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float32Type, Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use bowerbird_posts::{AttributeValue, Counts, InvalidPost, MAX_LINE_BYTES, Post, PostId};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::encode::check_vector;

/// Why a row is refused: the column, and what is wrong.
pub(crate) type Refusal = (&'static str, String);

/// Row `row` of `batch` as a post.
pub(crate) fn post(batch: &RecordBatch, row: usize) -> Result<Post, Refusal> {
    let id = required(batch, "id", row)?;
    let id = PostId::new(id).map_err(|error| ("id", error.to_string()))?;
    let author = text(batch, "author", row).unwrap_or_default();
    let mut post = Post::new(id, required(batch, "text", row)?, author, created_at(batch, row)?);
    post.lang = text(batch, "lang", row).map(str::to_owned);
    post.tags = texts(batch, "tags", row)?;
    post.mentions = texts(batch, "mentions", row)?;
    post.links = texts(batch, "links", row)?;
    post.reply_to = text(batch, "reply_to", row)
        .map(|id| PostId::new(id).map_err(|error| ("reply_to", error.to_string())))
        .transpose()?;
    post.counts = Counts {
        likes: count(batch, "likes", row)?,
        reposts: count(batch, "reposts", row)?,
        replies: count(batch, "replies", row)?,
        views: count(batch, "views", row)?,
    };
    post.attributes = attributes(text(batch, "attributes", row))?;
    post.validated().map_err(|error| (column_of(&error), error.to_string()))
}

/// Row `row` of `batch` as the vector of `text`; none where the model refused it.
pub(crate) fn vector(
    batch: &RecordBatch,
    row: usize,
    text: &str,
    dim: usize,
) -> Result<Option<Vec<f32>>, Refusal> {
    let digest = column(batch, "text_sha256", row)
        .map(|column| column.as_fixed_size_binary().value(row))
        .ok_or(("text_sha256", "is null".to_owned()))?;
    if digest != Sha256::digest(text.as_bytes()).as_slice() {
        return Err(("text_sha256", "is not that of the text: embed the post again".to_owned()));
    }
    let Some(column) = column(batch, "vector", row) else { return Ok(None) };
    let values = column.as_list::<i32>().value(row);
    let values = values.as_primitive::<Float32Type>();
    if values.null_count() > 0 {
        return Err(("vector", "has a component that is null".to_owned()));
    }
    check_vector(values.values(), dim).map_err(|message| ("vector", message))?;
    Ok(Some(values.values().to_vec()))
}

/// The column, unless it is absent or null in this row.
fn column<'a>(batch: &'a RecordBatch, name: &str, row: usize) -> Option<&'a ArrayRef> {
    let column = batch.column_by_name(name)?;
    let null = *column.data_type() == DataType::Null || column.is_null(row);
    (!null).then_some(column)
}

fn text<'a>(batch: &'a RecordBatch, name: &str, row: usize) -> Option<&'a str> {
    column(batch, name, row).map(|column| column.as_string_view().value(row))
}

fn required<'a>(batch: &'a RecordBatch, name: &'static str, row: usize) -> Result<&'a str, Refusal> {
    text(batch, name, row).ok_or_else(|| (name, "is null: every post needs one".to_owned()))
}

fn texts(batch: &RecordBatch, name: &'static str, row: usize) -> Result<Vec<String>, Refusal> {
    let Some(column) = column(batch, name, row) else { return Ok(Vec::new()) };
    let values = column.as_list::<i32>().value(row);
    if values.null_count() > 0 {
        return Err((name, "has an entry that is null: leave it out".to_owned()));
    }
    Ok(values.as_string_view().iter().flatten().map(str::to_owned).collect())
}

fn created_at(batch: &RecordBatch, row: usize) -> Result<Timestamp, Refusal> {
    const NAME: &str = "created_at";
    let column =
        column(batch, NAME, row).ok_or_else(|| (NAME, "is null: every post needs one".to_owned()))?;
    let DataType::Timestamp(unit, _) = column.data_type() else {
        return Err((NAME, format!("is {}", column.data_type())));
    };
    match unit {
        TimeUnit::Second => Timestamp::from_second(column.as_primitive::<TimestampSecondType>().value(row)),
        TimeUnit::Millisecond => {
            Timestamp::from_millisecond(column.as_primitive::<TimestampMillisecondType>().value(row))
        }
        TimeUnit::Microsecond => {
            Timestamp::from_microsecond(column.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        TimeUnit::Nanosecond => {
            Timestamp::from_nanosecond(column.as_primitive::<TimestampNanosecondType>().value(row).into())
        }
    }
    .map_err(|error| (NAME, error.to_string()))
}

fn count(batch: &RecordBatch, name: &'static str, row: usize) -> Result<u64, Refusal> {
    let Some(column) = column(batch, name, row) else { return Ok(0) };
    let signed = match column.data_type() {
        DataType::UInt32 => return Ok(column.as_primitive::<UInt32Type>().value(row).into()),
        DataType::UInt64 => return Ok(column.as_primitive::<UInt64Type>().value(row)),
        DataType::Int32 => i64::from(column.as_primitive::<Int32Type>().value(row)),
        _ => column.as_primitive::<Int64Type>().value(row),
    };
    u64::try_from(signed).map_err(|_| (name, format!("is {signed}, expected 0 or more")))
}

fn attributes(json: Option<&str>) -> Result<BTreeMap<String, AttributeValue>, Refusal> {
    const NAME: &str = "attributes";
    let Some(json) = json.filter(|json| !json.is_empty()) else { return Ok(BTreeMap::new()) };
    if json.len() > MAX_LINE_BYTES {
        return Err((NAME, format!("has {} bytes, the limit is {MAX_LINE_BYTES}", json.len())));
    }
    serde_json::from_str(json).map_err(|error| (NAME, format!("is no flat JSON object: {error}")))
}

/// The column that a refusal is about.
fn column_of(error: &InvalidPost) -> &'static str {
    match error {
        InvalidPost::IdLength { .. } => "id",
        InvalidPost::BlankText | InvalidPost::TextLength { .. } => "text",
        InvalidPost::ControlCharacter { field }
        | InvalidPost::TooMany { field, .. }
        | InvalidPost::FieldLength { field, .. } => field,
        InvalidPost::NotFinite { .. } => "attributes",
    }
}
