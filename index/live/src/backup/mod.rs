//! Snapshots on disk: the whole data directory as of one transaction, made while it is used, and put back.
//!
//! ```text
//! NAME/MANIFEST              line 1: crc32 of the rest, 8 hexadecimal digits
//!                            rest: JSON, see `SnapshotManifest`: every other file with size and checksum
//! NAME/FORMAT                as in a data directory
//! NAME/posts/                the post store as of `sequence`
//! NAME/generation/…          lexical and vector index, as of `sequence` or somewhat before
//! NAME/…                     what the caller adds, such as the ad database
//! ```
//!
//! The indexes are taken first and the post store last, so that they are never ahead of it; opening a restored
//! directory brings them up as after a crash. A snapshot appears under its name only when it is complete and
//! durable. Files that are never changed after they are written are linked rather than copied where the file system
//! allows it.

mod files;
mod manifest;
mod restore;
mod take;

pub use manifest::{SnapshotFile, SnapshotManifest, read_manifest};
pub use restore::{restore, verify};
pub use take::{SnapshotContents, SnapshotDraft, check_snapshot_name, copy_closed};

pub(crate) use files::free_bytes;
