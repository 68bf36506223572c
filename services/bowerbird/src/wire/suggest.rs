//! `GET /v1/suggest` and `DELETE /v1/suggest/queries`

use std::time::Duration;

use bowerbird_search::suggest::{Correction, Suggestion};
use serde::Serialize;
use utoipa::ToSchema;

/// Ways to go on from what is typed.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SuggestPage {
    /// Best first.
    pub suggestions: Vec<SuggestionBody>,
    /// Time taken, in milliseconds.
    pub took_ms: f64,
    /// Names this call in the log.
    pub request_id: String,
}

/// One way to go on.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SuggestionBody {
    /// The whole text to search for.
    pub text: String,
    /// `query` (several people asked it), `word`, `tag` or `user`.
    pub kind: &'static str,
    /// Code points of `text`, from its start, that stand for what was typed; the rest is new.
    pub highlight: usize,
    /// Posts that hold the completed word, tag or account: exact for small numbers, else estimated. Of a query, posts
    /// that hold all of its words; more are found by some of them and by meaning.
    pub posts: u64,
}

/// What was probably meant by a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct DidYouMean {
    /// The whole query in the query language, with the mistyped words replaced and all else as it was.
    pub text: String,
    /// The words that were replaced, in order.
    pub changed: Vec<ChangedWord>,
}

/// A word that was replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ChangedWord {
    /// As typed.
    pub from: String,
    /// As posts write it.
    pub to: String,
}

impl From<Correction> for DidYouMean {
    fn from(correction: Correction) -> Self {
        let word =
            |change: bowerbird_search::suggest::Change| ChangedWord { from: change.from, to: change.to };
        Self { text: correction.text, changed: correction.changed.into_iter().map(word).collect() }
    }
}

/// What became of a past query.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Forgotten {
    /// Whether it was remembered.
    pub forgotten: bool,
    /// Names this call in the log.
    pub request_id: String,
}

/// Suggestions as JSON.
pub fn page(suggestions: Vec<Suggestion>, took: Duration, request_id: String) -> SuggestPage {
    let body = |suggestion: Suggestion| SuggestionBody {
        text: suggestion.text,
        kind: suggestion.kind.name(),
        highlight: suggestion.matched,
        posts: suggestion.posts,
    };
    SuggestPage {
        suggestions: suggestions.into_iter().map(body).collect(),
        took_ms: (took.as_secs_f64() * 1e6).round() / 1e3,
        request_id,
    }
}
