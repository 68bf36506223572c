//! Nearest vectors by cosine: int8 codes scanned flat or through a graph, full-precision rescoring, a checksummed log.
//!
//! Knows no text and no posts, only point ids and `&[f32]` of unit length. The log (`format.rs`) is the only file
//! that matters; codes are made from it at open and the graph segment is a cache of it. Deletes are the caller's: a
//! dead point is left out of the `allowed` bitmap until [`VectorIndex::retain`] forgets it.

mod codes;
mod config;
mod error;
pub mod format;
mod index;
mod kernel;
mod log;
mod positions;
mod search;
mod segment;
mod topk;

pub use config::{MAX_DIM, VectorConfig};
pub use error::VectorError;
pub use index::{Cosine, OpenReport, PointId, SealReport, SegmentState, VectorIndex};
pub use kernel::Kernel;
pub use log::RepairReport;
