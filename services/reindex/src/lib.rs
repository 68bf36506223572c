//! Rebuilding the indexes from the post store, for another embedding model or analyser, while the old ones serve.
//!
//! A rebuild is a [`Plan`]. [`Reindexer`] works it off in a thread of its own (`run`): it adds words and vectors to a
//! new generation until that is level with the post store, compares the two generations (`compare`), and makes the
//! new one serve when the plan's conditions hold. The plan lies beside the generation it builds and what is built is
//! its own checkpoint, so a process that ends at any moment loses nothing but the step it was in. The old generation
//! stays until [`Reindexer::prune`], and [`Reindexer::rollback`] makes it serve again.
//!
//! The room knows posts, indexes, encoders and the search engine; which models there are it is told by whoever makes
//! the [`Reindexer`].

mod compare;
mod error;
mod given;
mod passages;
mod plan;
mod reindexer;
mod run;

pub use compare::{Comparison, Side};
pub use error::ReindexError;
pub use passages::Passages;
pub use plan::{CutOver, Plan, Require, ShadowQuery, ShadowSource, State};
pub use reindexer::{LoadEmbedder, PastQueries, Rebuild, Reindexer, embedder_of};
pub use run::{Phase, Progress};
