//! Words within a few edits of a word: a Levenshtein automaton walked along the dictionary.
//!
//! Source of the automaton: Schulz and Mihov, "Fast string correction with Levenshtein automata" (2002), as the
//! library `levenshtein_automata` builds it; a swap of two neighbours is one edit.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::LazyLock;

use levenshtein_automata::{DFA, Distance, LevenshteinAutomatonBuilder, SINK_STATE};
use tantivy_fst::Automaton;

use super::Completion;
use crate::error::{guard, io_fault};
use crate::{LexicalError, LexicalSearcher};

/// Most steps along the dictionaries of all segments together: past it the words found so far are the answer.
const STEPS: u32 = 400_000;
/// Longest word that is looked at, in characters; the automaton grows with it.
const MAX_CHARS: usize = 40;

static ONE: LazyLock<LevenshteinAutomatonBuilder> =
    LazyLock::new(|| LevenshteinAutomatonBuilder::new(1, true));
static TWO: LazyLock<LevenshteinAutomatonBuilder> =
    LazyLock::new(|| LevenshteinAutomatonBuilder::new(2, true));

/// An automaton that gives up when its steps are spent.
struct Bounded<'a> {
    dfa: &'a DFA,
    left: &'a Cell<u32>,
}

impl Automaton for Bounded<'_> {
    type State = u32;

    fn start(&self) -> u32 {
        self.dfa.initial_state()
    }

    fn is_match(&self, state: &u32) -> bool {
        matches!(self.dfa.distance(*state), Distance::Exact(_))
    }

    fn can_match(&self, state: &u32) -> bool {
        *state != SINK_STATE && self.left.get() > 0
    }

    fn accept(&self, state: &u32, byte: u8) -> u32 {
        self.left.set(self.left.get().saturating_sub(1));
        self.dfa.transition(*state, byte)
    }
}

impl LexicalSearcher {
    /// The most frequent words (see [`super::Vocabulary::Words`]) within `distance` edits of `word` that start with
    /// its first `kept` bytes, without itself; at most `limit`, ties by word. A distance over 2 counts as 2.
    ///
    /// `word` is a word as the index holds it, see [`super::single_word`]; one of more than 40 characters is near
    /// none.
    pub fn near(
        &self,
        word: &str,
        distance: u8,
        kept: usize,
        limit: usize,
    ) -> Result<Vec<Completion>, LexicalError> {
        if distance == 0 || word.is_empty() || word.chars().count() > MAX_CHARS {
            return Ok(Vec::new());
        }
        let snapshot = &*self.snapshot;
        guard(&snapshot.dir, || {
            let builder = if distance == 1 { &ONE } else { &TWO };
            let dfa = builder.build_dfa(word);
            let left = Cell::new(STEPS);
            let start = &word[..word.floor_char_boundary(kept)];
            let mut counts: HashMap<String, u64> = HashMap::new();
            for segment in &snapshot.segments {
                let fail = |error| io_fault(&snapshot.dir, &error);
                let walk = segment.surface.terms().search(Bounded { dfa: &dfa, left: &left });
                let mut stream = walk.ge(start.as_bytes()).into_stream().map_err(fail)?;
                while let Some((key, info)) = stream.next() {
                    if !key.starts_with(start.as_bytes()) {
                        break;
                    }
                    if let Ok(found) = std::str::from_utf8(key)
                        && found != word
                    {
                        *counts.entry(found.to_owned()).or_default() += u64::from(info.doc_freq);
                    }
                }
            }
            let mut found: Vec<Completion> =
                counts.into_iter().map(|(term, posts)| Completion { term, posts }).collect();
            found.sort_unstable_by(|a, b| b.posts.cmp(&a.posts).then_with(|| a.term.cmp(&b.term)));
            found.truncate(limit);
            Ok(found)
        })
    }
}
