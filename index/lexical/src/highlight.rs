//! Which bytes of a text a query found.

use std::collections::HashSet;
use std::ops::Range;

use crate::analysis::{Purpose, tokens};
use crate::clause::folded_prefix;
use crate::language::Family;
use crate::plan::Analysed;
use crate::{BagQuery, LexicalSearcher};

impl LexicalSearcher {
    /// The words of `text` that the query found, whole, as byte ranges: ascending, never overlapping, and never
    /// inside a character. `lang` is the language of the post, guessed when absent, as at indexing.
    pub fn highlight(&self, query: &BagQuery, text: &str, lang: Option<&str>) -> Vec<Range<usize>> {
        let analysed = Analysed::new(query);
        let family = Family::of(self.snapshot.config.analyzer, lang, text);
        let mut forms: HashSet<String> = analysed
            .words
            .into_iter()
            .filter_map(|word| word.forms.into_iter().nth(family as usize)?)
            .collect();
        forms.extend(analysed.tags.iter().map(|tag| format!("#{tag}")));
        forms.extend(analysed.mentions.iter().map(|name| format!("@{name}")));
        forms.extend(query.expansions.iter().filter(|e| e.family == family).map(|e| e.text.clone()));
        let mut found: Vec<Range<usize>> = tokens(text, family, Purpose::Index)
            .into_iter()
            .filter(|token| forms.contains(&token.text))
            .map(|token| token.bytes)
            .collect();
        if !analysed.prefixes.is_empty() {
            let prefixes: Vec<String> =
                analysed.prefixes.iter().map(|prefix| folded_prefix(prefix)).collect();
            let words = tokens(text, Family::Other, Purpose::Index).into_iter().filter(|token| token.word);
            let begun =
                |word: &str| prefixes.iter().any(|prefix| !prefix.is_empty() && word.starts_with(&**prefix));
            found.extend(words.filter(|token| begun(&token.text)).map(|token| token.bytes));
        }
        found.sort_unstable_by_key(|range| (range.start, range.end));
        let mut merged: Vec<Range<usize>> = Vec::with_capacity(found.len());
        for range in found {
            match merged.last_mut() {
                Some(last) if range.start < last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        merged
    }
}
