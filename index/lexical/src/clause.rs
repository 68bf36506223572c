//! Filters on the text: the posts that satisfy a condition, as a bitmap of ordinals.

use std::collections::HashMap;

use roaring::RoaringBitmap;
use tantivy::index::InvertedIndexReader;
use tantivy::postings::{SegmentPostings, TermInfo};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocId, DocSet, TERMINATED};

use crate::analysis::{MAX_TOKEN_BYTES, Purpose, tokens};
use crate::error::{guard, io_fault};
use crate::fold::fold;
use crate::language::Family;
use crate::phrase::PhraseCursor;
use crate::plan::PhraseForms;
use crate::query::{cut, plain_name};
use crate::snapshot::{Segment, Snapshot};
use crate::{LexicalError, LexicalSearcher, TextClause};

/// Most words of a segment that are looked at to expand one prefix.
const MAX_SCANNED: usize = 50_000;

/// The words that a prefix stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrefixExpansion {
    /// Words and the number of posts with each (deleted ones not yet merged away included), most frequent first.
    pub words: Vec<(String, u64)>,
    /// Whether there are more words than are given here: posts with only those are not found.
    pub truncated: bool,
}

impl LexicalSearcher {
    /// The posts whose text satisfies `clause`.
    ///
    /// Words are compared without their endings and stop words count. A prefix stands for the
    /// [`crate::LexicalConfig::prefix_expansions`] most frequent words that start with it, see
    /// [`Self::expand_prefix`]. A clause without a word in it (`"!!!"`) matches nothing.
    pub fn matching(&self, clause: &TextClause) -> Result<RoaringBitmap, LexicalError> {
        let snapshot = &*self.snapshot;
        guard(&snapshot.dir, || match clause {
            TextClause::Word(text) | TextClause::Phrase(text) => {
                snapshot.matching_phrase(&PhraseForms::new(text))
            }
            TextClause::Near { text, within } => snapshot.matching_phrase(&PhraseForms::near(text, *within)),
            TextClause::Tag(name) => snapshot.matching_name(|segment| &segment.tags, name, ['#', '＃']),
            TextClause::Mention(name) => {
                snapshot.matching_name(|segment| &segment.mentions, name, ['@', '＠'])
            }
            TextClause::Prefix(prefix) => {
                let expansion = snapshot.expand(prefix)?;
                let words: Vec<&str> = expansion.words.iter().map(|(word, _)| word.as_str()).collect();
                snapshot.matching_any(|segment| &segment.surface, &words)
            }
        })
    }

    /// The words that start with `prefix`, whatever its case and accents.
    pub fn expand_prefix(&self, prefix: &str) -> Result<PrefixExpansion, LexicalError> {
        guard(&self.snapshot.dir, || self.snapshot.expand(prefix))
    }
}

impl Snapshot {
    pub(crate) fn expand(&self, prefix: &str) -> Result<PrefixExpansion, LexicalError> {
        let prefix = folded_prefix(prefix);
        if prefix.is_empty() {
            return Ok(PrefixExpansion::default());
        }
        let mut counts: HashMap<String, u64> = HashMap::new();
        let mut truncated = false;
        for segment in &self.segments {
            let fail = |error| io_fault(&self.dir, &error);
            let mut stream =
                segment.surface.terms().range().ge(prefix.as_bytes()).into_stream().map_err(fail)?;
            let mut scanned = 0;
            while let Some((key, info)) = stream.next() {
                if !key.starts_with(prefix.as_bytes()) {
                    break;
                }
                if scanned == MAX_SCANNED {
                    truncated = true;
                    break;
                }
                scanned += 1;
                let word = String::from_utf8_lossy(key).into_owned();
                *counts.entry(word).or_default() += u64::from(info.doc_freq);
            }
        }
        let mut words: Vec<(String, u64)> = counts.into_iter().collect();
        words.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        truncated |= words.len() > self.config.prefix_expansions;
        words.truncate(self.config.prefix_expansions);
        Ok(PrefixExpansion { words, truncated })
    }

    fn matching_name(
        &self,
        field: fn(&Segment) -> &InvertedIndexReader,
        name: &str,
        sigils: [char; 2],
    ) -> Result<RoaringBitmap, LexicalError> {
        self.matching_any(field, &[&plain_name(name, sigils)])
    }

    fn matching_any(
        &self,
        field: fn(&Segment) -> &InvertedIndexReader,
        words: &[&str],
    ) -> Result<RoaringBitmap, LexicalError> {
        let mut found = Vec::new();
        for segment in &self.segments {
            for word in words {
                if let Some(info) = self.lookup(field(segment), word)? {
                    self.collect(segment, field(segment), &info, &mut found)?;
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    fn matching_phrase(&self, phrase: &PhraseForms) -> Result<RoaringBitmap, LexicalError> {
        let mut found = Vec::new();
        for (at, segment) in self.segments.iter().enumerate() {
            if phrase.len() == 1 && phrase.within.is_none() {
                for (body, words) in segment.bodies.iter().zip(&phrase.words) {
                    if let Some(info) = self.lookup(body, &words[0].1)? {
                        self.collect(segment, body, &info, &mut found)?;
                    }
                }
                continue;
            }
            for mut cursor in PhraseCursor::open(self, at, phrase)? {
                while cursor.doc() != TERMINATED {
                    keep(segment, cursor.doc(), &mut found);
                    cursor.advance();
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    fn lookup(&self, index: &InvertedIndexReader, word: &str) -> Result<Option<TermInfo>, LexicalError> {
        index.terms().get(word.as_bytes()).map_err(|error| io_fault(&self.dir, &error))
    }

    fn collect(
        &self,
        segment: &Segment,
        index: &InvertedIndexReader,
        info: &TermInfo,
        found: &mut Vec<u32>,
    ) -> Result<(), LexicalError> {
        let postings = index.read_postings_from_terminfo(info, IndexRecordOption::Basic);
        let mut postings: SegmentPostings = postings.map_err(|error| io_fault(&self.dir, &error))?;
        while postings.doc() != TERMINATED {
            keep(segment, postings.doc(), found);
            postings.advance();
        }
        Ok(())
    }
}

/// A prefix as the words are written in the index; empty when there is no word in it.
pub(crate) fn folded_prefix(prefix: &str) -> String {
    let prefix = cut(prefix.trim(), MAX_TOKEN_BYTES).trim_start_matches(['#', '@', '＃', '＠', '$']);
    // As the words were folded: a prefix that is one word so far may hold an apostrophe or a dot.
    let units = tokens(prefix, Family::Other, Purpose::Phrase);
    match units.as_slice() {
        [] => String::new(),
        [token] => token.text.clone(),
        _ => fold(prefix),
    }
}

fn keep(segment: &Segment, doc: DocId, found: &mut Vec<u32>) {
    if segment.is_alive(doc) {
        found.push(segment.columns.of(doc));
    }
}
