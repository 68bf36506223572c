//! What travels in JSON, in both directions. The only types with a promise to clients.

pub mod ads;
pub mod answer;
pub mod catalog;
pub mod chat;
pub mod error;
pub mod explain;
pub mod ingest;
pub mod models;
pub mod posts;
pub mod reindex;
pub mod search;
pub mod snapshots;
pub mod suggest;
