//! Scores of given posts, on the scale of `search`, and their parts.

use bowerbird_posts::Ordinal;
use tantivy::DocId;
use tantivy::postings::Postings;

use crate::bm25::{Bm25, Lengths};
use crate::error::guard;
use crate::phrase::seek;
use crate::plan::Plan;
use crate::search::{Cursor, cursors, term_cursors};
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
}

/// What one term adds to the score of one post.
#[derive(Clone, Debug, PartialEq)]
pub struct TermScore {
    /// What it is.
    pub kind: TermKind,
    /// As it was looked up: stemmed and folded.
    pub text: String,
    /// Rarity, `ln(1 + (N - df + 0.5) / (df + 0.5))`; of a phrase half the sum over its words.
    pub idf: f32,
    /// Occurrences in the post; 1 for tags, mentions and phrases.
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
            let mut scores = vec![0.0; ordinals.len()];
            let mut places: Vec<(usize, DocId, usize)> = ordinals
                .iter()
                .enumerate()
                .filter_map(|(at, &ordinal)| {
                    snapshot.locate(ordinal).map(|(segment, doc)| (segment, doc, at))
                })
                .collect();
            places.sort_unstable();
            for here in places.chunk_by(|a, b| a.0 == b.0) {
                // Cursor by cursor: the postings of one term are read front to back.
                for mut cursor in cursors(snapshot, &plan, here[0].0)? {
                    for &(_, doc, at) in here {
                        if let Some((_, score)) = cursor.at(&plan.lengths, doc) {
                            scores[at] += score;
                        }
                    }
                }
            }
            Ok(scores.into_iter().map(Bm25::new).collect())
        })
    }

    /// The terms of the query that occur in a post, with what each adds; empty when none does.
    pub fn explain(&self, query: &BagQuery, ordinal: Ordinal) -> Result<Vec<TermScore>, LexicalError> {
        let snapshot = &*self.snapshot;
        guard(&snapshot.dir, || {
            let Some((segment, doc)) = snapshot.locate(ordinal) else { return Ok(Vec::new()) };
            let plan = Plan::new(snapshot, query)?;
            let mut parts = Vec::new();
            for (number, mut cursor) in term_cursors(snapshot, &plan, segment)? {
                if let Some((tf, score)) = cursor.at(&plan.lengths, doc) {
                    let term = &plan.terms[number];
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

impl Cursor<'_> {
    /// Occurrences in `doc` and what they add; `None` when there are none. Documents must not descend.
    fn at(&mut self, weights: &Lengths, doc: DocId) -> Option<(u32, f32)> {
        match self {
            Self::Word { postings, lengths, idf } => (seek(postings, doc) == doc).then(|| {
                let tf = postings.term_freq();
                (tf, weights.contribution(*idf, tf, lengths.fieldnorm_id(doc)))
            }),
            Self::Name { postings, idf } => (seek(postings, doc) == doc).then_some((1, *idf)),
            Self::Phrase { phrase, idf } => {
                (phrase.doc() == doc || (phrase.doc() < doc && phrase.contains(doc))).then_some((1, *idf))
            }
        }
    }
}
