//! Everything that ends a search without a page.

use bowerbird_lexical::LexicalError;
use bowerbird_live::LiveError;
use bowerbird_scheduler::SchedulerError;
use bowerbird_vector::VectorError;

/// Why there is no page. Mistakes of the caller come first, then overload, then our own faults.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// Neither words nor operators.
    #[error("q is empty: give at least one word or operator")]
    EmptyQuery,
    /// The query is too long.
    #[error("q has {found} bytes, the limit is {limit}: shorten the query")]
    QueryTooLong {
        /// Largest accepted size, bytes.
        limit: usize,
        /// Size found, bytes.
        found: usize,
    },
    /// The page size is out of range.
    #[error("limit is {found}, expected 1 to {limit}")]
    Limit {
        /// Largest accepted page.
        limit: usize,
        /// Page size found.
        found: usize,
    },
    /// A setting of the ranking is out of range.
    #[error("{name} is {found}, expected {expected}")]
    Option {
        /// Field of the request.
        name: &'static str,
        /// Value found.
        found: String,
        /// Range expected.
        expected: &'static str,
    },
    /// A `filter` that is not made of operators.
    #[error("filter {found:?} does not parse: {reason}")]
    Filter {
        /// The filter.
        found: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A facet that does not exist.
    #[error(
        "facets holds {found:?}: expected author, lang, tags, mentions or attributes.NAME, at most 8 of them"
    )]
    Facet {
        /// The name found.
        found: String,
    },
    /// A cursor that is not one of ours.
    #[error("cursor is not valid: pass next_cursor of an earlier page unchanged")]
    InvalidCursor,
    /// The snapshot behind a cursor is gone.
    #[error("cursor has expired: search again without it")]
    ExpiredCursor,
    /// No room for another search.
    #[error("too many searches at once: try again in a moment")]
    Overloaded,
    /// The query ran out of time before anything was retrieved.
    #[error("search ran out of time before a leg had answered: raise timeout_ms")]
    Timeout,
    /// Both legs failed.
    #[error("retrieval is down: {reason}")]
    Unavailable {
        /// What the legs said.
        reason: String,
    },
    /// The generation failed.
    #[error("index failed")]
    Live(#[from] LiveError),
    /// The lexical index failed.
    #[error("lexical index failed")]
    Lexical(#[from] LexicalError),
    /// The vector index failed.
    #[error("vector index failed")]
    Vector(#[from] VectorError),
    /// The vectors of the generation are of a space that no loaded model gives.
    #[error("no embedder for vectors of {space} is loaded: restart the server, or reindex")]
    NoEmbedder {
        /// Fingerprint of the space.
        space: String,
    },
    /// A model failed.
    #[error("model failed")]
    Model(#[from] SchedulerError),
}
