//! A query from text to page.
//!
//! [`Engine::search`] reads top to bottom: parse, retrieve from both legs, fuse, rerank, weigh and arrange, page. Each
//! arrow carries a plain struct: [`ParsedQuery`] → hits of each leg → [`Candidates`] → list of [`Place`]s →
//! [`ResultPage`]. The room knows posts, indexes and encoders; it knows no HTTP, no answer and no ad.

mod arrange;
mod compute;
mod config;
mod cursor;
pub mod diversity;
mod dress;
mod engine;
mod error;
mod exact;
pub mod explain;
pub mod features;
mod fuse;
pub mod gate;
mod list;
pub mod measure;
mod page;
mod parse;
mod plan;
mod request;
mod rerank;
mod retrieve;
pub mod similar;
pub mod smooth;
pub mod suggest;
mod trace;

pub use bowerbird_lexical::{FeedbackOptions, TermKind, TermScore};
pub use compute::ComputePool;
pub use config::SearchConfig;
pub use engine::Engine;
pub use error::SearchError;
pub use features::Recency;
pub use fuse::{Blended, Candidate, Candidates, FULL_COVERAGE, Fused, Fusion, Scaled, Shares, blend, fuse};
pub use gate::Gate;
pub use list::Place;
pub use page::{Collapsed, Hit, ResultPage, Scores, Total};
pub use parse::{Node, ParseError, parse};
pub use plan::{IgnoredOperator, ParseOptions, ParsedQuery};
pub use request::{Collapse, Mode, RerankOptions, SearchRequest, Sort};
pub use trace::{Stage, Trace};
