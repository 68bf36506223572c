//! Lexical retrieval: BM25 over tantivy, with an analysis made for short posts.
//!
//! [`LexicalIndex`] takes posts under their ordinals and commits them; [`LexicalSearcher`] is a fixed snapshot that
//! ranks ([`LexicalSearcher::search`]), scores given posts on the same scale ([`LexicalSearcher::score`]), says why
//! ([`LexicalSearcher::explain`]), filters ([`LexicalSearcher::matching`]) and highlights. It stores no text: the
//! post store does. It knows no query language, no vectors and no ads.
//!
//! The way of a text: `scan` finds surface units (words, tags, mentions, links, emoji), `analysis` turns them into
//! tokens of a language family, `schema` says which field holds them. The way of a query: `plan` looks its terms
//! up, `search` and `score` add up the contributions that `bm25` defines.

mod analysis;
mod bm25;
mod clause;
mod config;
mod error;
mod files;
mod fold;
mod highlight;
mod index;
mod language;
mod phrase;
mod plan;
mod query;
mod scan;
mod schema;
mod score;
mod search;
mod snapshot;
mod stop;
pub mod suggest;

pub use bm25::Bm25;
pub use clause::PrefixExpansion;
pub use config::LexicalConfig;
pub use error::LexicalError;
pub use index::{Checkpoint, LexicalIndex};
pub use query::{BagQuery, MAX_QUERY_BYTES, MAX_QUERY_TERMS, TextClause};
pub use score::{TermKind, TermScore};
pub use search::LexicalHits;
pub use snapshot::LexicalSearcher;

#[cfg(test)]
mod tests;
