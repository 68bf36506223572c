//! What a part file holds.
//!
//! | column | type | empty |
//! |---|---|---|
//! | `id`, `text` | string | never |
//! | `author` | string | `""` |
//! | `created_at` | timestamp in microseconds, UTC | never |
//! | `lang`, `reply_to` | string | null |
//! | `tags`, `mentions`, `links` | list of strings | `[]` |
//! | `likes`, `reposts`, `replies`, `views` | 64-bit integer, not negative | 0 |
//! | `attributes` | string, a flat JSON object | null |
//! | `text_sha256` (vector parts) | 32 bytes | never |
//! | `vector` (vector parts) | list of `dim` 32-bit floats, unit length | null: the model refuses the text |
//!
//! Key-value metadata of the file, all strings:
//!
//! | key | value |
//! |---|---|
//! | `bowerbird.format` | [`FORMAT`] |
//! | `bowerbird.body` | bytes before the footer, a space, their CRC-32 in hexadecimal; heeded in files that were created by `bowerbird …` |
//! | `bowerbird.space` (vector parts) | fingerprint of the embedding space |
//! | `bowerbird.dim` (vector parts) | components of a vector |
//! | `bowerbird.source` (vector parts) | SHA-256 of the posts part it was made from, hexadecimal |
//!
//! Files of other writers need `id`, `text` and `created_at` only, and no metadata; a column that is not in the table
//! is refused. Lists of fixed size are written as lists: Parquet has no others. Of a time finer than a microsecond the rest
//! is cut off.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, TimeUnit};

/// Version of the part files this build writes and reads.
pub const FORMAT: &str = "1";

/// How the name of the program that wrote a file begins, before its version.
pub(crate) const WRITER: &str = "bowerbird ";

pub(crate) const KEY_FORMAT: &str = "bowerbird.format";
pub(crate) const KEY_BODY: &str = "bowerbird.body";
pub(crate) const KEY_SPACE: &str = "bowerbird.space";
pub(crate) const KEY_DIM: &str = "bowerbird.dim";
pub(crate) const KEY_SOURCE: &str = "bowerbird.source";

/// Bytes of `text_sha256`.
pub(crate) const DIGEST_BYTES: i32 = 32;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Texts,
    Time,
    Count,
    Digest,
    Vector,
}

impl Kind {
    pub fn expected(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Texts => "a list of strings",
            Self::Time => "a timestamp in UTC (isAdjustedToUTC)",
            Self::Count => "an integer of 32 or 64 bits",
            Self::Digest => "32 bytes",
            Self::Vector => "a list of 32-bit floats",
        }
    }
}

/// Name, content, and whether a file must have it.
pub(crate) const COLUMNS: [(&str, Kind, bool); 16] = [
    ("id", Kind::Text, true),
    ("text", Kind::Text, true),
    ("author", Kind::Text, false),
    ("created_at", Kind::Time, true),
    ("lang", Kind::Text, false),
    ("tags", Kind::Texts, false),
    ("mentions", Kind::Texts, false),
    ("links", Kind::Texts, false),
    ("reply_to", Kind::Text, false),
    ("likes", Kind::Count, false),
    ("reposts", Kind::Count, false),
    ("replies", Kind::Count, false),
    ("views", Kind::Count, false),
    ("attributes", Kind::Text, false),
    ("text_sha256", Kind::Digest, false),
    ("vector", Kind::Vector, false),
];

/// The element of `tags`, `mentions` and `links`.
pub(crate) fn text_element() -> Arc<Field> {
    Arc::new(Field::new("element", DataType::Utf8, false))
}

/// The element of `vector`.
pub(crate) fn vector_element() -> Arc<Field> {
    Arc::new(Field::new("element", DataType::Float32, false))
}

/// The schema of a posts part, or of a vector part of `dim` components.
pub(crate) fn schema(dim: Option<i32>) -> Schema {
    let data_type = |kind| match kind {
        Kind::Text => DataType::Utf8,
        Kind::Texts => DataType::List(text_element()),
        Kind::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Kind::Count => DataType::Int64,
        Kind::Digest => DataType::FixedSizeBinary(DIGEST_BYTES),
        Kind::Vector => DataType::FixedSizeList(vector_element(), dim.unwrap_or_default()),
    };
    let nullable = ["lang", "reply_to", "attributes", "vector"];
    let fields =
        COLUMNS.iter().filter(|(_, kind, _)| dim.is_some() || !matches!(kind, Kind::Digest | Kind::Vector));
    Schema::new(
        fields
            .map(|(name, kind, _)| Field::new(*name, data_type(*kind), nullable.contains(name)))
            .collect::<Vec<_>>(),
    )
}
