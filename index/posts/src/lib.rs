//! Posts: the value, its ids, readers of post files, and the durable store that every index is a cache of.
//!
//! Knows no index, no query and no model. [`PostStore`] is the source of truth: what it acknowledged survives
//! `kill -9`, and every other file of a data directory can be rebuilt from it.

mod error;
mod lines;
mod ops;
mod post;
mod reader;
mod record;
mod store;

pub use error::StoreError;
pub use lines::{BoundedLines, LineProblem, bounded_lines};
pub use ops::{Applied, Op, Outcome, StoredPost};
pub use post::{AttributeValue, Counts, CountsPatch, InvalidPost, Ordinal, Post, PostId};
pub use reader::{
    LineError, MAX_LINE_BYTES, PostReader, ReadError, parse_op_line, parse_post_line, read_jsonl,
};
pub use store::{PostStore, StoreCheck, StoreCopy, StoreOptions};
