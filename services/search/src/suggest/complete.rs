//! From what is typed to a ranked list of ways it may go on.
//!
//! A completion `w` after the words `c` is ranked by P(w | c), the share of posts with `c` that also hold `w`,
//! smoothed towards the share of all posts that hold it (Dirichlet prior of [`PRIOR`] posts): without words before,
//! that is popularity alone. Candidates come from the dictionary and, when there are words before, from posts that
//! hold them.

use std::collections::{HashMap, HashSet};

use bowerbird_lexical::suggest::{
    PostSample, PrefixTables, Typing, Vocabulary, folded, is_stop_word, single_word, spelling, stem, typing,
    words_starting,
};
use bowerbird_live::Snapshot;
use bowerbird_posts::Ordinal;
use roaring::RoaringBitmap;

use super::log::QueryLog;
use crate::{ParsedQuery, SearchError};

/// Candidates from the dictionary for each suggestion that is asked for.
const FROM_DICTIONARY: usize = 2;
/// Candidates from posts that hold the words before.
const FROM_POSTS: usize = 16;
/// Posts that hold the words before and are counted.
const CONTEXT: usize = 1024;
/// Those of them that are read for candidates.
const READ: usize = 64;
/// Posts that the prior of P(w | c) stands for.
const PRIOR: f64 = 4.0;
/// Posts read to find how a word is spelled.
const SPELLINGS: usize = 5;
/// Words before the last that are looked at, from the end.
const WORDS_BEFORE: usize = 6;

/// What a suggestion is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuggestionKind {
    /// A whole query that others asked.
    Query,
    /// The last word.
    Word,
    /// A hashtag.
    Tag,
    /// An account.
    User,
}

impl SuggestionKind {
    /// Name in responses and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Word => "word",
            Self::Tag => "tag",
            Self::User => "user",
        }
    }
}

/// One way to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// The whole text, in the query language.
    pub text: String,
    /// What it is.
    pub kind: SuggestionKind,
    /// Code points of `text` from its start that stand for what was typed; the rest is new.
    pub matched: usize,
    /// Live posts that hold the completed word, tag or account: exact for small numbers, else estimated. Of a query,
    /// those that hold all of its words, counted up to 1,000; none may, for posts are found by some words and by
    /// meaning too.
    pub posts: u64,
}

/// See [`super::Suggester::suggest`].
pub(super) fn complete(
    snapshot: &Snapshot,
    tables: &PrefixTables,
    log: &QueryLog,
    typed: &str,
    limit: usize,
    day: u32,
) -> Result<Vec<Suggestion>, SearchError> {
    let typed = typed.trim_start();
    if typed.is_empty() {
        return Ok(Vec::new());
    }
    let last = typing(typed);
    let names_only = matches!(last, Some((_, Typing::Tag | Typing::Mention)));
    let mut found =
        if names_only { Vec::new() } else { past_queries(snapshot, log, typed, limit.div_ceil(2), day)? };
    let Some((start, typing)) = last else { return Ok(found) };
    let mut seen: HashSet<String> = found.iter().map(|suggestion| folded(&suggestion.text)).collect();
    let open = Open { snapshot, tables, before: &typed[..start], last: &typed[start..] };
    let more = match typing {
        Typing::Word => open.words(limit)?,
        Typing::Unspaced { run } => open.unspaced(run, limit)?,
        Typing::Tag => open.names(Vocabulary::Tags, limit)?,
        Typing::Mention => open.names(Vocabulary::Mentions, limit)?,
    };
    found.extend(more.into_iter().filter(|suggestion| seen.insert(folded(&suggestion.text))));
    found.truncate(limit);
    Ok(found)
}

/// Past queries that go on from `typed` and whose every word a live post holds.
fn past_queries(
    snapshot: &Snapshot,
    log: &QueryLog,
    typed: &str,
    limit: usize,
    day: u32,
) -> Result<Vec<Suggestion>, SearchError> {
    let mut found = Vec::new();
    // Twice as many, for those that nothing holds any more.
    for query in log.starting_with(typed, 2 * limit, day) {
        if found.len() == limit {
            break;
        }
        let Some(posts) = posts_of_query(snapshot, &query.text)? else { continue };
        let matched = matched(&query.text, typed);
        found.push(Suggestion { text: query.text, kind: SuggestionKind::Query, matched, posts });
    }
    Ok(found)
}

/// Live posts that hold all words of a query of words and tags; `None` when one word is in no live post, or none says
/// anything.
fn posts_of_query(snapshot: &Snapshot, text: &str) -> Result<Option<u64>, SearchError> {
    let says = |word: &&str| word.contains(char::is_alphanumeric) && !is_stop_word(word);
    let words: Vec<String> = text.split_whitespace().filter(says).map(str::to_owned).collect();
    for word in &words {
        if snapshot.lexical().together(std::slice::from_ref(word), snapshot.live(), 1)?.is_empty() {
            return Ok(None);
        }
    }
    let posts = snapshot.lexical().together(&words, snapshot.live(), 1000)?.len() as u64;
    Ok((!words.is_empty()).then_some(posts))
}

/// A text with an unfinished end.
struct Open<'a> {
    snapshot: &'a Snapshot,
    tables: &'a PrefixTables,
    before: &'a str,
    last: &'a str,
}

/// The posts that the words before leave, and a sample of those that hold them.
struct Context {
    allowed: std::sync::Arc<RoaringBitmap>,
    words: Vec<String>,
    sample: PostSample,
}

/// A term that may complete the last word.
struct Candidate {
    term: String,
    posts: u64,
    examples: Vec<Ordinal>,
    together: u64,
    score: f64,
}

impl Open<'_> {
    /// Understands the words before. Words that no post holds together are no context.
    fn context(&self) -> Result<Context, SearchError> {
        let snapshot = self.snapshot;
        let (mut words, mut filter) = (Vec::new(), None);
        // A last `-` or `(` belongs to the word that is being typed.
        let before = self.before.trim_end_matches(['-', '(', '"']);
        if let Ok(query) = ParsedQuery::new(before, false, None) {
            words.extend(query.bag.terms);
            words.extend(query.bag.phrases);
            words.extend(query.bag.tags.iter().map(|tag| format!("#{}", tag.trim_start_matches('#'))));
            words.extend(query.bag.mentions.iter().map(|name| format!("@{}", name.trim_start_matches('@'))));
            filter = query.filter;
        }
        words.drain(..words.len().saturating_sub(WORDS_BEFORE));
        if self.before.ends_with('-') {
            words.clear();
        }
        // Of a filter that cannot be applied nothing is said here: the search will.
        let allowed = snapshot.allowed(filter.as_ref()).or_else(|_| snapshot.allowed(None))?.bitmap;
        let mut sample = snapshot.lexical().together(&words, &allowed, CONTEXT)?;
        if sample.is_empty() && words.len() > 1 {
            words.drain(..words.len() - 1);
            sample = snapshot.lexical().together(&words, &allowed, CONTEXT)?;
        }
        if sample.is_empty() {
            words.clear();
        }
        Ok(Context { allowed, words, sample })
    }

    fn words(&self, limit: usize) -> Result<Vec<Suggestion>, SearchError> {
        let prefix = single_word(self.last).unwrap_or_else(|| folded(self.last));
        let context = self.context()?;
        let mut terms: Vec<String> = self.dictionary(Vocabulary::Words, &prefix, limit)?;
        terms.extend(self.read_words(&context, &prefix)?);
        let mut best = self.ranked(Vocabulary::Words, terms, &context, &prefix)?;
        // Two inflections find the same posts.
        let mut stems = HashSet::new();
        best.retain(|candidate| stems.insert(stem(&candidate.term)));
        let mut found = Vec::new();
        for candidate in best {
            if found.len() == limit {
                break;
            }
            if !self.leads_somewhere(&candidate, &context, &candidate.term)? {
                continue;
            }
            let word = spelled(self.snapshot, &candidate.term, &candidate.examples)?;
            found.push(self.suggestion(&word, SuggestionKind::Word, candidate.posts));
        }
        Ok(found)
    }

    fn names(&self, vocabulary: Vocabulary, limit: usize) -> Result<Vec<Suggestion>, SearchError> {
        let (sigil, kind) = match vocabulary {
            Vocabulary::Mentions => ('@', SuggestionKind::User),
            _ => ('#', SuggestionKind::Tag),
        };
        let name = self.last.trim_start_matches(['#', '＃', '@', '＠']).to_lowercase();
        let context = self.context()?;
        let terms = self.dictionary(vocabulary, &name, limit)?;
        let mut found = Vec::new();
        for candidate in self.ranked(vocabulary, terms, &context, &name)? {
            if found.len() == limit {
                break;
            }
            let name = format!("{sigil}{}", candidate.term);
            if self.leads_somewhere(&candidate, &context, &name)? {
                found.push(self.suggestion(&name, kind, candidate.posts));
            }
        }
        Ok(found)
    }

    /// Pairs of characters that start with the last one, where posts have the whole run.
    fn unspaced(&self, run: usize, limit: usize) -> Result<Vec<Suggestion>, SearchError> {
        let (earlier, run) = self.before.split_at(run);
        let prefix = folded(self.last);
        let terms = self.dictionary(Vocabulary::Words, &prefix, limit)?;
        let context = Open { before: earlier, ..*self }.context()?;
        let mut found = Vec::new();
        for candidate in self.ranked(Vocabulary::Words, terms, &context, &prefix)? {
            if found.len() == limit {
                break;
            }
            let mut words = context.words.clone();
            words.push(format!("{run}{}", candidate.term));
            let together = self.snapshot.lexical().together(&words, &context.allowed, 1000)?;
            if !together.is_empty() {
                let posts = if run.is_empty() { candidate.posts } else { together.len() as u64 };
                found.push(self.suggestion(&candidate.term, SuggestionKind::Word, posts));
            }
        }
        Ok(found)
    }

    fn dictionary(
        &self,
        vocabulary: Vocabulary,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<String>, SearchError> {
        let lexical = self.snapshot.lexical();
        let found = lexical.complete(self.tables, vocabulary, prefix, FROM_DICTIONARY * limit)?;
        Ok(found.into_iter().map(|completion| completion.term).collect())
    }

    /// The words under the prefix that occur most in posts which hold the words before.
    fn read_words(&self, context: &Context, prefix: &str) -> Result<Vec<String>, SearchError> {
        let posts = &context.sample.ordinals;
        let step = posts.len().div_ceil(READ).max(1);
        let read: Vec<Ordinal> = posts.iter().copied().step_by(step).collect();
        let mut counts: HashMap<String, u32> = HashMap::new();
        for stored in self.snapshot.posts(&read)?.into_iter().flatten() {
            for word in words_starting(&stored.post.text, prefix) {
                *counts.entry(word).or_default() += 1;
            }
        }
        let mut counts: Vec<(String, u32)> = counts.into_iter().collect();
        counts.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Ok(counts.into_iter().take(FROM_POSTS).map(|(word, _)| word).collect())
    }

    /// Candidates that live posts hold, by P(candidate | words before).
    fn ranked(
        &self,
        vocabulary: Vocabulary,
        mut terms: Vec<String>,
        context: &Context,
        typed: &str,
    ) -> Result<Vec<Candidate>, SearchError> {
        terms.sort_unstable();
        terms.dedup();
        let lexical = self.snapshot.lexical();
        let every = self.snapshot.live().len().max(1) as f64;
        let sampled = context.sample.len() as f64;
        let mut candidates = Vec::new();
        for term in terms {
            if term == typed {
                continue;
            }
            let living = lexical.living(vocabulary, &term, self.snapshot.live(), SPELLINGS)?;
            if living.posts == 0 {
                continue;
            }
            let together = lexical.holding(vocabulary, &term, &context.sample)?;
            let share = living.posts as f64 / every;
            let score = (together as f64 + PRIOR * share) / (sampled + PRIOR);
            let (posts, examples) = (living.posts, living.examples);
            candidates.push(Candidate { term, posts, examples, together, score });
        }
        candidates.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.term.cmp(&b.term)));
        Ok(candidates)
    }

    /// Whether a live post that passes the filter holds the candidate and the words before.
    fn leads_somewhere(
        &self,
        candidate: &Candidate,
        context: &Context,
        word: &str,
    ) -> Result<bool, SearchError> {
        if candidate.together > 0 {
            return Ok(true);
        }
        let mut words = context.words.clone();
        words.push(word.to_owned());
        Ok(!self.snapshot.lexical().together(&words, &context.allowed, 1)?.is_empty())
    }

    fn suggestion(&self, word: &str, kind: SuggestionKind, posts: u64) -> Suggestion {
        let matched = self.before.chars().count() + matched(word, self.last);
        Suggestion { text: format!("{}{word}", self.before), kind, matched, posts }
    }
}

/// Code points of `text` whose folded form covers that of `typed`; lengths differ where `ß` was typed as `ss`.
fn matched(text: &str, typed: &str) -> usize {
    let typed = folded(typed);
    let covers = |end: usize| folded(&text[..end]).starts_with(&typed);
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    ends.zip(1..).find(|(end, _)| covers(*end)).map_or(0, |(_, count)| count)
}

/// How posts write a word: the most frequent spelling among some that hold it, ties by spelling.
pub(super) fn spelled(snapshot: &Snapshot, word: &str, examples: &[Ordinal]) -> Result<String, SearchError> {
    let mut counts: HashMap<String, u32> = HashMap::new();
    for stored in snapshot.posts(examples)?.into_iter().flatten() {
        if let Some(written) = spelling(&stored.post.text, word) {
            *counts.entry(written).or_default() += 1;
        }
    }
    let best = counts.into_iter().max_by(|a, b| a.1.cmp(&b.1).then_with(|| b.0.cmp(&a.0)));
    Ok(best.map_or_else(|| word.to_owned(), |(written, _)| written))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_is_counted_in_code_points() {
        assert_eq!(matched("café au lait", "CAFE"), 4);
        assert_eq!(matched("straße", "strass"), 5);
        assert_eq!(matched("#sleep", "#sl"), 3);
        assert_eq!(matched("sleep", "x"), 0);
    }
}
