//! Part files: posts, and posts with their vectors, as Parquet that any machine and any engine can read.
//!
//! A rebuild on many machines is `export`, `embed` for each part, `build`; between them travel these files. A part is
//! written under another name and renamed when it is whole, so a step that is cut short leaves nothing that looks
//! finished and can be tried again. Knows no model and no index: a vector is numbers and the name of their space.

mod body;
mod columns;
mod decode;
mod encode;
mod error;
mod format;
mod read;
mod write;

pub use body::file_sha256;
pub use error::PartError;
pub use format::FORMAT;
pub use read::{PartInfo, PartReader, PartRow, part_files, part_info};
pub use write::{PartWriter, VectorSpec, WrittenPart};

#[cfg(test)]
mod tests;
