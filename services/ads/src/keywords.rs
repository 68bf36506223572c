//! Which ad groups a query's words call up, and which they forbid.
//!
//! Words are numbered. An exact keyword is found by the query's words as one key; a phrase keyword by every run of
//! query words no longer than the longest phrase there is, so a run of words is compared with a run of words and
//! never with a part of one; a broad keyword is filed under that of its words which fewest keywords were filed under
//! so far, and holds the others. Adding is all there is to building. A query of 12 words takes at most 120 look-ups
//! of runs whatever the number of keywords, plus the keywords that share a rare word with it.

use std::collections::HashMap;

use serde::{Serialize, Serializer};
use smallvec::SmallVec;

use crate::text::{QueryWords, singular, words};

/// How a keyword is compared with a query. Ordered from the closest match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MatchType {
    /// The query is these words and no others, as written.
    Exact,
    /// The words occur next to each other and in this order; plurals count as their singular.
    Phrase,
    /// All words occur, in any order; plurals count as their singular.
    Broad,
}

impl MatchType {
    /// `exact`, `phrase` or `broad`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Phrase => "phrase",
            Self::Broad => "broad",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Exact, Self::Phrase, Self::Broad].into_iter().find(|known| known.as_str() == name)
    }
}

impl Serialize for MatchType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// One keyword of an ad group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Keyword {
    pub text: String,
    pub match_type: MatchType,
    pub negative: bool,
}

/// The keyword that called an ad group up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeywordMatch {
    pub match_type: MatchType,
    /// As the advertiser wrote it.
    pub text: String,
}

/// Most words of a keyword.
pub(crate) const MAX_WORDS: usize = 10;

/// A word, or a run of them, by number.
type Run = SmallVec<[u32; 4]>;

/// Stands for a query word that no keyword has.
const UNKNOWN: u32 = u32::MAX;

struct Entry {
    group: u32,
    text: Box<str>,
}

/// A broad keyword under one of its words.
struct Broad {
    entry: u32,
    others: Run,
}

struct Negative {
    match_type: MatchType,
    words: Run,
    text: Box<str>,
}

/// A group that a query calls up, with its closest keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hit<'a> {
    pub group: usize,
    pub match_type: MatchType,
    /// As the advertiser wrote it.
    pub text: &'a str,
}

impl Hit<'_> {
    pub fn owned(self) -> KeywordMatch {
        KeywordMatch { match_type: self.match_type, text: self.text.to_owned() }
    }
}

/// The words of a query by number.
pub(crate) struct Asked {
    literal: Vec<u32>,
    /// Rising.
    literal_set: Vec<u32>,
    loose: Vec<u32>,
    /// Rising, without [`UNKNOWN`].
    loose_set: Vec<u32>,
}

/// All keywords of all ad groups, found by the words of a query.
///
/// Negative keywords are looked up by group, because only a group that matched is asked.
#[derive(Default)]
pub(crate) struct KeywordIndex {
    vocabulary: HashMap<Box<str>, u32>,
    entries: Vec<Entry>,
    exact: HashMap<Run, Vec<u32>>,
    phrase: HashMap<Run, Vec<u32>>,
    longest_phrase: usize,
    /// By word.
    broad: Vec<Vec<Broad>>,
    negative: HashMap<usize, Vec<Negative>>,
}

impl KeywordIndex {
    /// Files `keyword` of `group`. A keyword without a word, which import refuses, matches nothing.
    pub fn add(&mut self, group: usize, keyword: &Keyword) {
        let literal = words(&keyword.text, MAX_WORDS);
        if literal.is_empty() {
            return;
        }
        let text: Box<str> = keyword.text.as_str().into();
        if keyword.negative {
            let words = self.number(literal);
            let negative = Negative { match_type: keyword.match_type, words, text };
            self.negative.entry(group).or_default().push(negative);
            return;
        }
        let entry = self.entries.len() as u32;
        self.entries.push(Entry { group: group as u32, text });
        match keyword.match_type {
            MatchType::Exact => {
                let run = self.number(literal);
                self.exact.entry(run).or_default().push(entry);
            }
            MatchType::Phrase => {
                let run = self.number(literal.iter().map(|word| singular(word)));
                self.longest_phrase = self.longest_phrase.max(run.len());
                self.phrase.entry(run).or_default().push(entry);
            }
            MatchType::Broad => {
                let mut words = self.number(literal.iter().map(|word| singular(word)));
                words.sort_unstable();
                words.dedup();
                self.broad.resize_with(self.vocabulary.len(), Vec::new);
                let filed = (0..words.len()).min_by_key(|at| self.broad[words[*at] as usize].len());
                let word = words.remove(filed.unwrap_or_default());
                self.broad[word as usize].push(Broad { entry, others: words });
            }
        }
    }

    fn number(&mut self, words: impl IntoIterator<Item = String>) -> Run {
        let known = &mut self.vocabulary;
        let mut number = |word: String| {
            let next = known.len() as u32;
            *known.entry(word.into()).or_insert(next)
        };
        words.into_iter().map(&mut number).collect()
    }

    /// The words of `query` by number, for [`KeywordIndex::matches`] and [`KeywordIndex::forbidden`].
    pub fn ask(&self, query: &QueryWords) -> Asked {
        let number = |words: &[String]| -> Vec<u32> {
            words.iter().map(|word| self.vocabulary.get(word.as_str()).copied().unwrap_or(UNKNOWN)).collect()
        };
        let set = |run: &[u32]| {
            let mut set: Vec<u32> = run.iter().copied().filter(|word| *word != UNKNOWN).collect();
            set.sort_unstable();
            set.dedup();
            set
        };
        let (literal, loose) = (number(&query.literal), number(&query.singular));
        Asked { literal_set: set(&literal), loose_set: set(&loose), literal, loose }
    }

    /// The ad groups that the query calls up and that pass `keep`, rising, each with its closest keyword (ties by
    /// text).
    pub fn matches(&self, asked: &Asked, keep: impl Fn(usize) -> bool) -> Vec<Hit<'_>> {
        let mut found = Vec::new();
        let mut take = |entry: u32, match_type: MatchType| {
            let entry = &self.entries[entry as usize];
            let group = entry.group as usize;
            if keep(group) {
                found.push(Hit { group, match_type, text: &entry.text });
            }
        };
        for entry in self.exact.get(&asked.literal[..]).into_iter().flatten() {
            take(*entry, MatchType::Exact);
        }
        for start in 0..asked.loose.len() {
            let rest = &asked.loose[start..];
            let longest = rest.len().min(self.longest_phrase);
            let known = rest[..longest].iter().position(|word| *word == UNKNOWN).unwrap_or(longest);
            for length in 1..=known {
                for entry in self.phrase.get(&rest[..length]).into_iter().flatten() {
                    take(*entry, MatchType::Phrase);
                }
            }
        }
        for word in &asked.loose_set {
            for keyword in self.broad.get(*word as usize).into_iter().flatten() {
                if keyword.others.iter().all(|other| asked.loose_set.binary_search(other).is_ok()) {
                    take(keyword.entry, MatchType::Broad);
                }
            }
        }
        found.sort_unstable_by(|a, b| {
            a.group.cmp(&b.group).then(a.match_type.cmp(&b.match_type)).then_with(|| a.text.cmp(b.text))
        });
        found.dedup_by_key(|hit| hit.group);
        found
    }

    /// The first negative keyword of `group`, in the order of its text, that the query holds.
    ///
    /// Negatives compare words as written, never by plural or meaning: a loose negative would silence ads that the
    /// advertiser wants.
    pub fn forbidden(&self, group: usize, asked: &Asked) -> Option<&str> {
        let holds = |negative: &&Negative| match negative.match_type {
            MatchType::Exact => asked.literal[..] == negative.words[..],
            MatchType::Phrase => {
                asked.literal.windows(negative.words.len()).any(|run| run == &negative.words[..])
            }
            MatchType::Broad => {
                negative.words.iter().all(|word| asked.literal_set.binary_search(word).is_ok())
            }
        };
        let hits = self.negative.get(&group)?.iter().filter(holds);
        hits.map(|negative| &*negative.text).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn index(keywords: &[(&str, MatchType, bool)]) -> KeywordIndex {
        let mut index = KeywordIndex::default();
        for (text, match_type, negative) in keywords {
            index.add(0, &Keyword { text: (*text).into(), match_type: *match_type, negative: *negative });
        }
        index
    }

    fn best(index: &KeywordIndex, query: &str) -> Option<(MatchType, String)> {
        let hits = index.matches(&index.ask(&QueryWords::new(query)), |_| true);
        hits.first().map(|hit| (hit.match_type, hit.text.to_owned()))
    }

    #[test]
    fn each_type_matches_what_it_says() {
        use MatchType::{Broad, Exact, Phrase};
        let check = |match_type, keyword: &str, query: &str, expected: bool| {
            let found = best(&index(&[(keyword, match_type, false)]), query).is_some();
            assert_eq!(found, expected, "{match_type:?} {keyword:?} for {query:?}");
        };
        check(Exact, "Running Shoes", "running  shoes!", true);
        check(Exact, "running shoes", "running shoe", false);
        check(Exact, "running shoes", "best running shoes", false);
        check(Exact, "running shoes", "shoes running", false);
        check(Phrase, "running shoes", "the best running shoe for me", true);
        check(Phrase, "running shoes", "running in shoes", false);
        check(Phrase, "running shoes", "shoes running", false);
        check(Broad, "running shoes", "shoes that are good for running", true);
        check(Broad, "running shoes", "shoes", false);
        check(Phrase, "can't sleep", "I can\u{2019}t sleep", true);
        check(Broad, "a", "", false);
    }

    #[test]
    fn the_closest_match_is_reported() {
        use MatchType::{Broad, Exact, Phrase};
        let index = index(&[
            ("shoes", Broad, false),
            ("running shoes", Exact, false),
            ("running shoes", Phrase, false),
        ]);
        assert_eq!(best(&index, "running shoes"), Some((Exact, "running shoes".into())));
        assert_eq!(best(&index, "good running shoes"), Some((Phrase, "running shoes".into())));
        assert_eq!(best(&index, "a shoe"), Some((Broad, "shoes".into())));
    }

    #[test]
    fn negatives_are_taken_at_their_word() {
        use MatchType::{Broad, Exact, Phrase};
        let index = index(&[("free shoes", Phrase, true), ("horse", Broad, true), ("shoes", Exact, true)]);
        let forbidden =
            |query: &str| index.forbidden(0, &index.ask(&QueryWords::new(query))).map(str::to_owned);
        assert_eq!(forbidden("get free shoes"), Some("free shoes".into()));
        assert_eq!(forbidden("shoes for free"), None);
        assert_eq!(forbidden("shoes for a HORSE"), Some("horse".into()));
        assert_eq!(forbidden("shoes for horses"), None, "never widened to the plural");
        assert_eq!(forbidden("shoes"), Some("shoes".into()));
        assert_eq!(forbidden("new shoes"), None);
        assert_eq!(index.forbidden(1, &index.ask(&QueryWords::new("horse"))), None, "another group");
    }

    fn some_words() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec("[a-e]{1,2}", 1..6)
    }

    proptest! {
        /// An exact keyword matches a query exactly when the words are the same.
        #[test]
        fn exact_means_exact(keyword in some_words(), query in some_words()) {
            let index = index(&[(&keyword.join(" "), MatchType::Exact, false)]);
            prop_assert_eq!(best(&index, &query.join(" ")).is_some(), keyword == query);
        }

        /// Exact implies phrase, and phrase implies broad.
        #[test]
        fn the_types_are_nested(keyword in some_words(), query in some_words()) {
            let hit = |match_type| best(&index(&[(&keyword.join(" "), match_type, false)]), &query.join(" ")).is_some();
            let (exact, phrase, broad) = (hit(MatchType::Exact), hit(MatchType::Phrase), hit(MatchType::Broad));
            prop_assert!(!exact || phrase);
            prop_assert!(!phrase || broad);
        }

        /// A negative forbids whenever the positive of the same type would match, on words without a plural.
        #[test]
        fn a_negative_forbids_what_it_names(keyword in some_words(), query in some_words()) {
            for match_type in [MatchType::Exact, MatchType::Phrase, MatchType::Broad] {
                let text = keyword.join(" ");
                let both = index(&[(&text, match_type, false), (&text, match_type, true)]);
                let asked = both.ask(&QueryWords::new(&query.join(" ")));
                prop_assert_eq!(!both.matches(&asked, |_| true).is_empty(), both.forbidden(0, &asked).is_some());
            }
        }

        /// What the index finds is what looking at every keyword finds.
        #[test]
        fn the_same_as_looking_at_every_keyword(
            keywords in prop::collection::vec((0usize..4, 0usize..3, any::<bool>(), some_words()), 0..40),
            query in prop::collection::vec("[a-e]{1,2}s?", 0..14),
        ) {
            let types = [MatchType::Exact, MatchType::Phrase, MatchType::Broad];
            let mut index = KeywordIndex::default();
            for (group, kind, negative, words) in &keywords {
                index.add(*group, &Keyword { text: words.join(" "), match_type: types[*kind], negative: *negative });
            }
            let query = QueryWords::new(&query.join(" "));
            let asked = index.ask(&query);
            let holds = |kind: usize, words: &[String], query: &[String]| match kind {
                0 => words == query,
                1 => query.windows(words.len()).any(|run| run == words),
                _ => words.iter().all(|word| query.contains(word)),
            };
            let loose = |words: &[String]| words.iter().map(|word| singular(word)).collect::<Vec<_>>();
            for group in 0..4 {
                let of_group = keywords.iter().filter(|(of, ..)| *of == group);
                let positive = of_group.clone().filter(|(_, kind, negative, words)| {
                    let literal = *kind == 0;
                    let (words, asked) =
                        if literal { (words.clone(), &query.literal) } else { (loose(words), &query.singular) };
                    !negative && holds(*kind, &words, asked)
                });
                let best = positive.map(|(_, kind, _, words)| (types[*kind], words.join(" "))).min();
                let hits = index.matches(&asked, |of| of == group);
                let found = hits.first().map(|hit| (hit.match_type, hit.text.to_owned()));
                prop_assert_eq!(found, best);
                let negative =
                    of_group.filter(|(_, kind, negative, words)| *negative && holds(*kind, words, &query.literal));
                let first = negative.map(|(_, _, _, words)| words.join(" ")).min();
                prop_assert_eq!(index.forbidden(group, &asked).map(str::to_owned), first);
            }
        }
    }
}
