//! What the term dictionary can tell someone who types: words under a prefix, words near a word, how many live posts
//! hold one, and which posts hold several together. How suggestions are ranked is decided elsewhere.
//!
//! Every answer does bounded work. Document frequencies of the dictionary count deleted posts until they are merged
//! away, so nothing may be shown to a person before [`LexicalSearcher::living`](crate::LexicalSearcher::living) has found a live post that holds it.

mod near;
mod tables;
mod text;
mod together;

use tantivy::index::InvertedIndexReader;

use crate::snapshot::Segment;

pub use tables::{Completion, PrefixTables};
pub use text::{Typing, folded, is_stop_word, single_word, spelling, stem, typing, words_starting};
pub use together::{Living, PostSample};

/// Which terms are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vocabulary {
    /// Words as they are written, without case and accents and with their endings.
    Words,
    /// Hashtags, in lower case, without `#`.
    Tags,
    /// Accounts that are mentioned, in lower case, without `@`.
    Mentions,
}

impl Vocabulary {
    const ALL: [Self; 3] = [Self::Words, Self::Tags, Self::Mentions];

    fn of(self, segment: &Segment) -> &InvertedIndexReader {
        match self {
            Self::Words => &segment.surface,
            Self::Tags => &segment.tags,
            Self::Mentions => &segment.mentions,
        }
    }
}
