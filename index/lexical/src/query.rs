//! What can be asked of the index.

use crate::expand::Expansion;

/// Most terms of one query that are scored; what comes after them is left out.
pub const MAX_QUERY_TERMS: usize = 64;
/// Most bytes of one query text that are analysed; what comes after them is left out.
pub const MAX_QUERY_BYTES: usize = 8 * 1024;

/// A bag of words and other terms, ranked by BM25: a post matches when any of them does.
///
/// Words are given as typed; the index analyses them as it analysed the posts. English stop words count only when
/// the query holds nothing else. Of a phrase, every word counts as a term, and a post that contains the words
/// side by side, in order, gets half the sum of their idf on top; likewise for words near each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BagQuery {
    /// Words, or texts of several words.
    pub terms: Vec<String>,
    /// Phrases without their quotes.
    pub phrases: Vec<String>,
    /// Words that stand near each other.
    pub near: Vec<Near>,
    /// Beginnings of words, without the `*`. A post that holds a word that starts like this scores as if the words
    /// were one; the word as it stands counts on top, so that it comes first.
    pub prefixes: Vec<String>,
    /// Hashtags, with or without `#`; matched exactly but for case.
    pub tags: Vec<String>,
    /// Accounts mentioned, with or without `@`; matched exactly but for case.
    pub mentions: Vec<String>,
    /// Weighted words out of posts found before, see [`crate::LexicalSearcher::expand`].
    pub expansions: Vec<Expansion>,
}

/// Words within a window, in any order.
#[derive(Clone, Debug, PartialEq)]
pub struct Near {
    /// The words.
    pub text: String,
    /// Most other words between the first and the last of them.
    pub within: u32,
    /// Share of the summed idf of the words that a post gets on top; [`Near::new`] gives it that of a phrase.
    pub share: f32,
}

impl Near {
    /// The words of `text` with at most `within` others among them.
    pub fn new(text: impl Into<String>, within: u32) -> Self {
        Self { text: text.into(), within, share: crate::plan::PHRASE_SHARE }
    }
}

impl BagQuery {
    /// A query of plain words.
    pub fn words(text: impl Into<String>) -> Self {
        Self { terms: vec![text.into()], ..Self::default() }
    }

    /// Whether it asks for nothing at all.
    pub fn is_empty(&self) -> bool {
        let blank = |texts: &[String]| texts.iter().all(|text| text.trim().is_empty());
        let texts = [&self.terms, &self.phrases, &self.prefixes, &self.tags, &self.mentions];
        texts.into_iter().all(|texts| blank(texts))
            && self.near.iter().all(|near| near.text.trim().is_empty())
            && self.expansions.is_empty()
    }
}

/// A condition on the text of a post, true or false.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TextClause {
    /// Contains the word in any of its inflections; of a word that splits (`state-of-the-art`), the parts in order.
    Word(String),
    /// Contains the words side by side, in order.
    Phrase(String),
    /// Contains the words in any order, with at most `within` other words between the first and the last.
    Near {
        /// The words.
        text: String,
        /// Most other words among them.
        within: u32,
    },
    /// Contains a word that starts like this, before inflections are removed.
    Prefix(String),
    /// Carries the hashtag.
    Tag(String),
    /// Mentions the account.
    Mention(String),
}

/// The stored form of a tag or an account name.
pub(crate) fn plain_name(name: &str, sigils: [char; 2]) -> String {
    cut(name.trim(), crate::analysis::MAX_TOKEN_BYTES).trim_start_matches(sigils).to_lowercase()
}

/// At most `bytes` of `text`, ending between characters.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}
