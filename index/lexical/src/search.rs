//! Ranking: the exact best posts of an OR over terms, and the exact number that match.
//!
//! Terms are drained into windows of [`WINDOW`] documents: an accumulator that stays in the first-level cache, and
//! a bit for each document touched. Memory does not depend on the index, and a document's score is added up in the
//! order of the plan's terms, bit for bit as `score` does.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use bowerbird_posts::Ordinal;
use roaring::RoaringBitmap;
use tantivy::fieldnorm::FieldNormReader;
use tantivy::postings::{Postings, SegmentPostings};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocId, DocSet, TERMINATED};

use crate::bm25::{Bm25, Lengths};
use crate::error::{guard, io_fault};
use crate::phrase::PhraseCursor;
use crate::plan::Plan;
use crate::snapshot::{Segment, Snapshot};
use crate::{BagQuery, LexicalError, LexicalSearcher, TermKind};

/// Documents of one window; a multiple of 64.
const WINDOW: u32 = 4096;

/// The best posts and how many there are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LexicalHits {
    /// Best first; equal scores by ordinal.
    pub hits: Vec<(Ordinal, Bm25)>,
    /// Exact number of allowed posts in which any term occurs.
    pub total: u64,
    /// What a post of average length would score that holds every word, tag and mention of the query once, on the
    /// scale of `hits`; words that no post holds count with the idf of such a word. A best hit far below it means
    /// that the query was met in part.
    pub ideal: f32,
}

impl LexicalSearcher {
    /// The `limit` best posts by BM25 among those in `allowed` (all when absent).
    ///
    /// `allowed` holds ordinals and is applied while ranking, so that a deleted or filtered post takes no place.
    /// A query without terms matches nothing.
    pub fn search(
        &self,
        query: &BagQuery,
        allowed: Option<&RoaringBitmap>,
        limit: usize,
    ) -> Result<LexicalHits, LexicalError> {
        let snapshot = &*self.snapshot;
        guard(&snapshot.dir, || {
            let plan = Plan::new(snapshot, query)?;
            let mut best = Best { limit, heap: BinaryHeap::new(), total: 0 };
            for at in 0..snapshot.segments.len() {
                let cursors = cursors(snapshot, &plan, at)?;
                drain(&snapshot.segments[at], &plan.lengths, cursors, allowed, &mut best);
            }
            Ok(best.into_hits(plan.ideal))
        })
    }
}

/// Postings of one term in one field of one segment, and what a posting is worth.
pub(crate) enum Cursor<'a> {
    /// A word in a body.
    Word { postings: SegmentPostings, lengths: &'a FieldNormReader, idf: f32 },
    /// A tag or a mention: as a word that occurs once in a text of average length.
    Name { postings: SegmentPostings, idf: f32 },
    /// A phrase.
    Phrase { phrase: PhraseCursor, idf: f32 },
}

/// The cursors of segment `at`, in the order of the plan's terms.
pub(crate) fn cursors<'a>(
    snapshot: &'a Snapshot,
    plan: &Plan,
    at: usize,
) -> Result<Vec<Cursor<'a>>, LexicalError> {
    Ok(term_cursors(snapshot, plan, at)?.into_iter().map(|(_, cursor)| cursor).collect())
}

/// The same, each with the number of its term.
pub(crate) fn term_cursors<'a>(
    snapshot: &'a Snapshot,
    plan: &Plan,
    at: usize,
) -> Result<Vec<(usize, Cursor<'a>)>, LexicalError> {
    let segment = &snapshot.segments[at];
    let fail = |error| io_fault(&snapshot.dir, &error);
    let mut cursors = Vec::new();
    for (number, term) in plan.terms.iter().enumerate() {
        let idf = term.idf;
        for (slot, info) in &term.postings[at] {
            cursors.push((
                number,
                match term.kind {
                    TermKind::Word | TermKind::Phrase => {
                        let body = &segment.bodies[*slot];
                        let option = IndexRecordOption::WithFreqs;
                        let postings = body.index.read_postings_from_terminfo(info, option).map_err(fail)?;
                        Cursor::Word { postings, lengths: &body.lengths, idf }
                    }
                    TermKind::Tag | TermKind::Mention => {
                        let index =
                            if term.kind == TermKind::Tag { &segment.tags } else { &segment.mentions };
                        let option = IndexRecordOption::Basic;
                        let postings = index.read_postings_from_terminfo(info, option).map_err(fail)?;
                        Cursor::Name { postings, idf }
                    }
                },
            ));
        }
        if let Some(phrase) = &term.phrase {
            let found = PhraseCursor::open(snapshot, at, phrase)?;
            cursors.extend(found.into_iter().map(|phrase| (number, Cursor::Phrase { phrase, idf })));
        }
    }
    Ok(cursors)
}

impl Cursor<'_> {
    fn doc(&self) -> DocId {
        match self {
            Self::Word { postings, .. } | Self::Name { postings, .. } => postings.doc(),
            Self::Phrase { phrase, .. } => phrase.doc(),
        }
    }

    /// Adds what the documents before `end` are worth and goes to the first one after.
    fn drain(&mut self, weights: &Lengths, window: &mut Window, end: DocId) {
        match self {
            Self::Word { postings, lengths, idf } => {
                let mut doc = postings.doc();
                while doc < end {
                    window.add(
                        doc,
                        weights.contribution(*idf, postings.term_freq(), lengths.fieldnorm_id(doc)),
                    );
                    doc = postings.advance();
                }
            }
            Self::Name { postings, idf } => {
                while postings.doc() < end {
                    window.add(postings.doc(), *idf);
                    postings.advance();
                }
            }
            Self::Phrase { phrase, idf } => {
                while phrase.doc() < end {
                    window.add(phrase.doc(), *idf);
                    phrase.advance();
                }
            }
        }
    }
}

struct Window {
    start: DocId,
    scores: Vec<f32>,
    touched: [u64; WINDOW as usize / 64],
}

impl Window {
    #[inline]
    fn add(&mut self, doc: DocId, contribution: f32) {
        let at = (doc - self.start) as usize;
        self.scores[at] += contribution;
        self.touched[at / 64] |= 1 << (at % 64);
    }
}

fn drain(
    segment: &Segment,
    weights: &Lengths,
    mut cursors: Vec<Cursor<'_>>,
    allowed: Option<&RoaringBitmap>,
    best: &mut Best,
) {
    let mut window =
        Window { start: 0, scores: vec![0.0; WINDOW as usize], touched: [0; WINDOW as usize / 64] };
    loop {
        let first = cursors.iter().map(Cursor::doc).min().unwrap_or(TERMINATED);
        if first == TERMINATED {
            return;
        }
        window.start = first;
        let end = first.saturating_add(WINDOW).min(TERMINATED);
        for cursor in &mut cursors {
            cursor.drain(weights, &mut window, end);
        }
        for block in 0..window.touched.len() {
            let mut bits = std::mem::take(&mut window.touched[block]);
            while bits != 0 {
                let at = block * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let score = std::mem::take(&mut window.scores[at]);
                let doc = first + at as DocId;
                let ordinal = segment.ordinals.of(doc);
                if segment.is_alive(doc) && allowed.is_none_or(|allowed| allowed.contains(ordinal)) {
                    best.offer(score, ordinal);
                }
            }
        }
    }
}

/// The best so far: a heap with the worst of them on top.
struct Best {
    limit: usize,
    heap: BinaryHeap<Reverse<Ranked>>,
    total: u64,
}

/// Orders by score, then by ordinal with the smaller one better.
struct Ranked {
    score: f32,
    ordinal: u32,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| other.ordinal.cmp(&self.ordinal))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}

impl Best {
    #[inline]
    fn offer(&mut self, score: f32, ordinal: u32) {
        self.total += 1;
        let new = Ranked { score, ordinal };
        if self.heap.len() < self.limit {
            self.heap.push(Reverse(new));
        } else if let Some(mut worst) = self.heap.peek_mut()
            && new > worst.0
        {
            worst.0 = new;
        }
    }

    fn into_hits(self, ideal: f32) -> LexicalHits {
        let ranked = self.heap.into_sorted_vec();
        let hits =
            ranked.into_iter().map(|Reverse(hit)| (Ordinal(hit.ordinal), Bm25::new(hit.score))).collect();
        LexicalHits { hits, total: self.total, ideal }
    }
}
