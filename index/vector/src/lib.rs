//! Nearest vectors by cosine: int8 codes scanned flat or through a graph, full-precision rescoring, a checksummed log.
//!
//! Knows no text and no posts, only point ids and `&[f32]` of unit length. The log (`format.rs`) is the only file
//! that matters; codes are made from it at open, or come from the sealed segment, which is a mapped cache of it.
//! Deletes are the caller's: a dead point is left out of the `allowed` bitmap, and named to
//! [`VectorIndex::wants_seal`] and [`VectorIndex::seal`], which drop it from memory, until [`VectorIndex::retain`]
//! drops it from the log.

mod codes;
mod config;
mod engines;
mod error;
mod flat;
pub mod format;
mod index;
mod kernel;
mod log;
mod mapped;
mod positions;
mod seal;
mod sealed;
mod search;
mod segment;
mod topk;

pub use config::{MAX_DIM, VectorConfig};
pub use engines::Engine;
pub use error::VectorError;
pub use flat::FlatCodes;
pub use index::{Cosine, Memory, OpenReport, PointId, SegmentState, VectorIndex};
pub use kernel::Kernel;
pub use log::{LogSummary, RepairReport, read_log};
pub use seal::SealReport;
