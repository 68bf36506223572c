//! Which ad groups a query's words call up, and which they forbid.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Serialize, Serializer};

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

struct Entry {
    group: usize,
    text: String,
    words: Vec<String>,
}

/// All keywords of all ad groups, found by the words of a query.
///
/// A phrase or broad keyword is filed under its first word, so that a query looks only at keywords that share a
/// word with it. Negative keywords are looked up by group, because only a group that matched is asked.
#[derive(Default)]
pub(crate) struct KeywordIndex {
    exact: HashMap<Vec<String>, Vec<Entry>>,
    phrase: HashMap<String, Vec<Entry>>,
    broad: HashMap<String, Vec<Entry>>,
    negative: HashMap<usize, Vec<(MatchType, Entry)>>,
}

impl KeywordIndex {
    /// Files `keyword` of `group`. A keyword without a word, which import refuses, matches nothing.
    pub fn add(&mut self, group: usize, keyword: &Keyword) {
        let literal = words(&keyword.text, MAX_WORDS);
        if literal.is_empty() {
            return;
        }
        let entry = |words: Vec<String>| Entry { group, text: keyword.text.clone(), words };
        if keyword.negative {
            self.negative.entry(group).or_default().push((keyword.match_type, entry(literal)));
            return;
        }
        let loose: Vec<String> = literal.iter().map(|word| singular(word)).collect();
        match keyword.match_type {
            MatchType::Exact => self.exact.entry(literal).or_default().push(entry(Vec::new())),
            MatchType::Phrase => self.phrase.entry(loose[0].clone()).or_default().push(entry(loose)),
            MatchType::Broad => self.broad.entry(loose[0].clone()).or_default().push(entry(loose)),
        }
    }

    /// The ad groups that `query` calls up, each with its closest keyword (ties by text).
    pub fn matches(&self, query: &QueryWords) -> BTreeMap<usize, KeywordMatch> {
        let mut found: BTreeMap<usize, KeywordMatch> = BTreeMap::new();
        let mut keep = |entry: &Entry, match_type: MatchType| {
            let new = KeywordMatch { match_type, text: entry.text.clone() };
            let best = found.entry(entry.group).or_insert_with(|| new.clone());
            if new < *best {
                *best = new;
            }
        };
        for entry in self.exact.get(&query.literal).into_iter().flatten() {
            keep(entry, MatchType::Exact);
        }
        let present: HashSet<&str> = query.singular.iter().map(String::as_str).collect();
        for word in &present {
            for entry in self.phrase.get(*word).into_iter().flatten() {
                if contains_run(&query.singular, &entry.words) {
                    keep(entry, MatchType::Phrase);
                }
            }
            for entry in self.broad.get(*word).into_iter().flatten() {
                if entry.words.iter().all(|word| present.contains(word.as_str())) {
                    keep(entry, MatchType::Broad);
                }
            }
        }
        found
    }

    /// The first negative keyword of `group`, in the order of its text, that `query` holds.
    ///
    /// Negatives compare words as written, never by plural or meaning: a loose negative would silence ads that the
    /// advertiser wants.
    pub fn forbidden(&self, group: usize, query: &QueryWords) -> Option<&str> {
        let holds = |(match_type, entry): &&(MatchType, Entry)| match match_type {
            MatchType::Exact => query.literal == entry.words,
            MatchType::Phrase => contains_run(&query.literal, &entry.words),
            MatchType::Broad => entry.words.iter().all(|word| query.literal.contains(word)),
        };
        let hits = self.negative.get(&group)?.iter().filter(holds);
        hits.map(|(_, entry)| entry.text.as_str()).min()
    }
}

fn contains_run(query: &[String], run: &[String]) -> bool {
    query.windows(run.len()).any(|window| window == run)
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
        index.matches(&QueryWords::new(query)).remove(&0).map(|found| (found.match_type, found.text))
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
        let forbidden = |query: &str| index.forbidden(0, &QueryWords::new(query)).map(str::to_owned);
        assert_eq!(forbidden("get free shoes"), Some("free shoes".into()));
        assert_eq!(forbidden("shoes for free"), None);
        assert_eq!(forbidden("shoes for a HORSE"), Some("horse".into()));
        assert_eq!(forbidden("shoes for horses"), None, "never widened to the plural");
        assert_eq!(forbidden("shoes"), Some("shoes".into()));
        assert_eq!(forbidden("new shoes"), None);
        assert_eq!(index.forbidden(1, &QueryWords::new("horse")), None, "another group");
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
                let query = QueryWords::new(&query.join(" "));
                prop_assert_eq!(both.matches(&query).contains_key(&0), both.forbidden(0, &query).is_some());
            }
        }
    }
}
