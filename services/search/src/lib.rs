//! A query from text to page.
//!
//! [`Engine::search`] reads top to bottom: parse, retrieve from both legs, fuse, rerank, page. Each arrow carries a
//! plain struct: [`ParsedQuery`] → hits of each leg → [`Candidates`] → ranked list → [`ResultPage`]. The room knows
//! posts, indexes and encoders; it knows no HTTP, no answer and no ad.

mod compute;
mod cursor;
mod engine;
mod error;
mod fuse;
mod page;
mod parse;
mod plan;
mod request;
mod trace;

pub use compute::ComputePool;
pub use engine::{Engine, Reranked, SearchConfig};
pub use error::SearchError;
pub use fuse::{Candidate, Candidates, FULL_COVERAGE, Fused, Fusion, blend, fuse};
pub use page::{Hit, ResultPage, Scores, Total};
pub use parse::{Node, ParseError, parse};
pub use plan::{IgnoredOperator, ParseOptions, ParsedQuery};
pub use request::{Mode, RerankOptions, SearchRequest, Sort};
pub use trace::{Stage, Trace};
