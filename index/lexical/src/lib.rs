//! Lexical retrieval: BM25 over tantivy, with an analysis made for short posts.
//!
//! [`LexicalIndex`] takes posts under their ordinals and commits them; [`LexicalSearcher`] is a fixed snapshot that
//! ranks ([`LexicalSearcher::search`]), scores given posts on the same scale ([`LexicalSearcher::score`]), says why
//! ([`LexicalSearcher::explain`]), filters ([`LexicalSearcher::matching`]) and highlights. It stores no text: the
//! post store does. It knows no query language, no vectors and no ads.
//!
//! The way of a text: `scan` finds surface units (words, tags, mentions, links, emoji), `analysis` turns them into
//! tokens of a language family, `schema` says which field holds them. The way of a query: `plan` looks its terms
//! up, `lists` opens their postings, `sweep` adds up the contributions that `bm25` defines where `bounds` says that it
//! may pay, `search` keeps the best; `score` gives the same sums to posts that are named.

mod analysis;
mod bm25;
mod bounds;
mod clause;
mod config;
mod count;
mod directory;
mod error;
mod expand;
mod files;
mod fold;
mod highlight;
mod index;
mod language;
mod lists;
mod phrase;
mod plan;
mod query;
mod raw;
mod scan;
mod schema;
mod score;
mod search;
mod snapshot;
mod stop;
pub mod suggest;
mod sweep;

pub use analysis::has_words;
pub use bm25::Bm25;
pub use clause::PrefixExpansion;
pub use config::{Analyzer, LexicalConfig};
pub use count::{RARE_POSTS, RARE_WORD_POSTS};
pub use error::LexicalError;
pub use expand::{Expansion, FeedbackOptions, FeedbackText};
pub use index::{Checkpoint, LexicalIndex};
pub use language::{language_of, primary_language};
pub use query::{BagQuery, MAX_QUERY_BYTES, MAX_QUERY_TERMS, Near, TextClause};
pub use score::{TermKind, TermScore};
pub use search::{COUNTED, LexicalHits};
pub use snapshot::LexicalSearcher;

#[cfg(test)]
mod tests;
