//! The ingest log: posts read from a NATS JetStream stream.
//!
//! A message is one change of a post, in the JSON that [`parse_op_line`](bowerbird_posts::parse_op_line) reads.
//! Changes are applied in the order of the stream, in batches, each one durable transaction of
//! [`Live`](bowerbird_live::Live); then the sequence of its last message is recorded in the data directory
//! ([`Position`]), and only then are its messages acknowledged. The record is what a start goes on from: a consumer
//! of the server is made anew from it, so neither the server's memory of the consumer nor the order in which it would
//! deliver again matters. What was applied and not recorded is applied again in the same order and ends in the same
//! posts.
//!
//! Several nodes follow one stream, each with a consumer of its own, and so hold the same posts. Knows no model, no
//! HTTP, and no search.

mod batch;
mod config;
mod error;
mod follow;
mod ingest;
mod position;
mod session;
mod status;

pub use config::IngestConfig;
pub use error::IngestError;
pub use ingest::Ingest;
pub use position::{FILE, Followed, Position};
pub use status::{IngestStatus, Rejected, State};
