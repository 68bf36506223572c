//! Scores of given posts, on the scale of `search`, and their parts.

use bowerbird_posts::Ordinal;
use tantivy::DocId;
use tantivy::postings::{Postings, SegmentPostings, TermInfo};
use tantivy::schema::IndexRecordOption;

use crate::bm25::{Bm25, Units, Weights};
use crate::error::{guard, io_fault};
use crate::phrase::{PhraseCursor, seek};
use crate::plan::Plan;
use crate::snapshot::Snapshot;
use crate::{BagQuery, LexicalError, LexicalSearcher};

/// What a term of a query is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TermKind {
    /// A word, or another token of the text.
    Word,
    /// A hashtag of the post.
    Tag,
    /// An account that the post mentions.
    Mention,
    /// Words side by side; on top of what they count as words.
    Phrase,
    /// Words near each other; likewise.
    Near,
    /// Any word with a given beginning.
    Prefix,
}

/// What one term adds to the score of one post.
#[derive(Clone, Debug, PartialEq)]
pub struct TermScore {
    /// What it is.
    pub kind: TermKind,
    /// As it was looked up: stemmed and folded.
    pub text: String,
    /// Rarity, `ln(1 + (N - df + 0.5) / (df + 0.5))`; of a phrase or near words half the sum over
    /// them.
    pub idf: f32,
    /// Occurrences in the post; 1 but for words.
    pub tf: u32,
    /// What it adds; the parts of a post add up to its score.
    pub score: f32,
}

impl LexicalSearcher {
    /// The scores of `ordinals`, in the same order: what `search` gives them, or 0 when no term occurs or the post
    /// is not in the snapshot.
    pub fn score(&self, query: &BagQuery, ordinals: &[Ordinal]) -> Result<Vec<Bm25>, LexicalError> {
        let snapshot = &*self.snapshot;
        guard(&snapshot.dir, || {
            let plan = Plan::new(snapshot, query)?;
            let units = plan.units(snapshot, ordinals)?;
            Ok(units.into_iter().map(|units| plan.weights.score(units)).collect())
        })
    }

    /// The terms of the query that occur in a post, with what each adds; empty when none does.
    pub fn explain(&self, query: &BagQuery, ordinal: Ordinal) -> Result<Vec<TermScore>, LexicalError> {
        let snapshot = &*self.snapshot;
        guard(&snapshot.dir, || {
            let Some((segment, doc)) = snapshot.locate(ordinal) else { return Ok(Vec::new()) };
            let plan = Plan::new(snapshot, query)?;
            let mut parts = Vec::new();
            for (number, mut cursor) in cursors(snapshot, &plan, segment)? {
                if let Some((tf, units)) = cursor.at(&plan.weights, doc) {
                    let (term, score) = (&plan.terms[number], plan.weights.score(units).value());
                    parts.push(TermScore {
                        kind: term.kind,
                        text: term.text.clone(),
                        idf: term.idf,
                        tf,
                        score,
                    });
                }
            }
            Ok(parts)
        })
    }
}

impl Plan {
    /// The scores of `ordinals`, in the same order.
    pub(crate) fn units(
        &self,
        snapshot: &Snapshot,
        ordinals: &[Ordinal],
    ) -> Result<Vec<Units>, LexicalError> {
        let mut sums = vec![0; ordinals.len()];
        let mut places: Vec<(usize, DocId, usize)> = ordinals
            .iter()
            .enumerate()
            .filter_map(|(at, &ordinal)| snapshot.locate(ordinal).map(|(segment, doc)| (segment, doc, at)))
            .collect();
        places.sort_unstable();
        for here in places.chunk_by(|a, b| a.0 == b.0) {
            // Cursor by cursor: the postings of one term are read front to back.
            for (_, mut cursor) in cursors(snapshot, self, here[0].0)? {
                for &(_, doc, at) in here {
                    if let Some((_, units)) = cursor.at(&self.weights, doc) {
                        sums[at] += units;
                    }
                }
            }
        }
        Ok(sums)
    }
}

/// Postings of one term in one field of one segment.
enum Cursor<'a> {
    /// A word in a body.
    Word { postings: Box<SegmentPostings>, lengths: &'a [u8], idf: f32 },
    /// What scores the same in every post: a tag, a mention, or any of several words.
    Any { postings: Vec<SegmentPostings>, idf: f32 },
    /// A phrase, or near words.
    Phrase { phrase: PhraseCursor, idf: f32 },
}

/// The cursors of segment `at`, each with the number of its term.
fn cursors<'a>(
    snapshot: &'a Snapshot,
    plan: &Plan,
    at: usize,
) -> Result<Vec<(usize, Cursor<'a>)>, LexicalError> {
    let segment = &snapshot.segments[at];
    let lengths = segment.columns.lengths.as_slice();
    let mut cursors = Vec::new();
    for (number, term) in plan.terms.iter().enumerate() {
        let idf = term.idf;
        let word = term.kind == TermKind::Word;
        let option = if word { IndexRecordOption::WithFreqs } else { IndexRecordOption::Basic };
        let open = |(slot, info): &(usize, TermInfo)| {
            let (_, index) = segment.field(term.kind, *slot);
            index.read_postings_from_terminfo(info, option).map_err(|error| io_fault(&snapshot.dir, &error))
        };
        let postings = term.postings[at].iter().map(open).collect::<Result<Vec<_>, _>>()?;
        if word {
            let cursor = |postings| (number, Cursor::Word { postings: Box::new(postings), lengths, idf });
            cursors.extend(postings.into_iter().map(cursor));
        } else if !postings.is_empty() {
            cursors.push((number, Cursor::Any { postings, idf }));
        }
        if let Some(phrase) = &term.phrase {
            let found = PhraseCursor::open(snapshot, at, phrase)?;
            cursors.extend(found.into_iter().map(|phrase| (number, Cursor::Phrase { phrase, idf })));
        }
    }
    Ok(cursors)
}

impl Cursor<'_> {
    /// Occurrences in `doc` and what they add; `None` when there are none. Documents must not descend.
    fn at(&mut self, weights: &Weights, doc: DocId) -> Option<(u32, Units)> {
        match self {
            Self::Word { postings, lengths, idf } => (seek(postings, doc) == doc).then(|| {
                let tf = postings.term_freq();
                (tf, weights.contribution(*idf, tf, lengths[doc as usize]))
            }),
            Self::Any { postings, idf } => {
                let found = postings.iter_mut().any(|postings| seek(postings, doc) == doc);
                found.then(|| (1, weights.constant(*idf)))
            }
            Self::Phrase { phrase, idf } => {
                let found = phrase.doc() == doc || (phrase.doc() < doc && phrase.contains(doc));
                found.then(|| (1, weights.constant(*idf)))
            }
        }
    }
}
