//! One searchable generation: post store, lexical index and vector index kept in step.
//!
//! The post store is the source of truth; the two indexes and the columns in memory are made from it. One thread
//! makes writes durable (`writer.rs`), one brings the lexical index up (`lexical_thread.rs`), one gets vectors and
//! inserts them (`vector_thread.rs`). Readers take a [`Snapshot`], which never changes: the set of live posts, their
//! columns and counters, and a lexical searcher. A snapshot on disk (`backup/`) is the whole directory as of one
//! transaction, and [`check()`] says whether store and indexes agree. Knows no model (vectors come through
//! [`VectorSource`]), no query language and no ranking.

mod backup;
mod building;
mod bulk;
mod check;
mod closed;
mod columns;
mod config;
mod error;
mod facets;
mod filter;
mod follower;
mod generation;
mod layout;
mod lexical_thread;
mod live;
mod progress;
mod queue;
mod recover;
mod round;
mod snapshot;
mod vector_thread;
mod writer;

pub use backup::{
    SnapshotContents, SnapshotDraft, SnapshotFile, SnapshotManifest, check_snapshot_name, copy_closed,
    read_manifest, restore, verify,
};
pub use building::{Building, GenerationShard, Step};
pub use bulk::{BulkError, BulkReport, WithVector, bulk_build};
pub use check::{CheckProblem, CheckReport, LexicalCheck, Part, Remedy, VectorCheck, check};
pub use closed::read_closed;
pub use columns::Columns;
pub use config::LiveConfig;
pub use error::LiveError;
pub use facets::is_facet;
pub use filter::{Filter, MAX_FILTER_CONDITIONS, MAX_FILTER_DEPTH};
pub use generation::{GenerationInfo, GenerationSpec, current_space};
pub use live::{Live, LiveStatus, VectorSource};
pub use recover::{LiveRepair, repair};
pub use snapshot::{Allowed, Snapshot};
