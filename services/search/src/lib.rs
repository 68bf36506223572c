//! A query from text to page.
//!
//! [`Engine::search`] reads top to bottom: parse, retrieve from both legs, fuse, rerank, page. Each arrow carries a
//! plain struct: [`ParsedQuery`] → hits of each leg → [`Candidates`] → ranked list → [`ResultPage`]. The room knows
//! posts, indexes and encoders; it knows no HTTP, no answer and no ad.

mod compute;
mod config;
mod cursor;
mod dress;
mod engine;
mod error;
mod fuse;
mod list;
mod page;
mod parse;
mod plan;
mod request;
mod rerank;
mod retrieve;
mod trace;

pub use compute::ComputePool;
pub use config::SearchConfig;
pub use engine::Engine;
pub use error::SearchError;
pub use fuse::{Candidate, Candidates, FULL_COVERAGE, Fused, Fusion, blend, fuse};
pub use list::Reranked;
pub use page::{Hit, ResultPage, Scores, Total};
pub use parse::{Node, ParseError, parse};
pub use plan::{IgnoredOperator, ParsedQuery};
pub use request::{Mode, RerankOptions, SearchRequest, Sort};
pub use trace::{Stage, Trace};
