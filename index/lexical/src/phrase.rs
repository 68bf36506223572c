//! Documents in which words stand side by side: postings intersected, positions compared.

use tantivy::postings::{Postings, SegmentPostings};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocId, DocSet, TERMINATED};

use crate::LexicalError;
use crate::error::io_fault;
use crate::plan::PhraseForms;
use crate::snapshot::Snapshot;

/// Iterates over the documents of one body field that contain a phrase.
pub(crate) struct PhraseCursor {
    /// Postings and offset in the phrase, rarest word first.
    words: Vec<(SegmentPostings, u32)>,
    doc: DocId,
    /// Positions of the phrase that are left, and of the word looked at.
    starts: Vec<u32>,
    positions: Vec<u32>,
}

impl PhraseCursor {
    /// One cursor for each body of segment `at` that has all the words of the phrase, on its first document.
    pub(crate) fn open(
        snapshot: &Snapshot,
        at: usize,
        phrase: &PhraseForms,
    ) -> Result<Vec<Self>, LexicalError> {
        let segment = &snapshot.segments[at];
        let fail = |error| io_fault(&snapshot.dir, &error);
        let mut cursors = Vec::new();
        for (body, words) in segment.bodies.iter().zip(&phrase.words) {
            let mut found = Vec::with_capacity(words.len());
            for (offset, form) in words {
                let Some(info) = body.index.terms().get(form.as_bytes()).map_err(fail)? else { break };
                let option = IndexRecordOption::WithFreqsAndPositions;
                found.push((body.index.read_postings_from_terminfo(&info, option).map_err(fail)?, *offset));
            }
            if found.is_empty() || found.len() < words.len() {
                continue;
            }
            found.sort_by_key(|(postings, _)| postings.doc_freq());
            let mut cursor = Self { words: found, doc: 0, starts: Vec::new(), positions: Vec::new() };
            cursor.find(0);
            cursors.push(cursor);
        }
        Ok(cursors)
    }

    pub(crate) fn doc(&self) -> DocId {
        self.doc
    }

    pub(crate) fn advance(&mut self) {
        if self.doc != TERMINATED {
            self.find(self.doc + 1);
        }
    }

    /// Whether `target` contains the phrase. Targets must not descend; after this, only ask for later ones.
    pub(crate) fn contains(&mut self, target: DocId) -> bool {
        self.words.iter_mut().all(|(postings, _)| seek(postings, target) == target) && self.side_by_side()
    }

    /// Goes to the first document from `target` on that contains the phrase.
    fn find(&mut self, mut target: DocId) {
        loop {
            let candidate = seek(&mut self.words[0].0, target);
            if candidate == TERMINATED {
                self.doc = TERMINATED;
                return;
            }
            let furthest = self.words.iter_mut().map(|(postings, _)| seek(postings, candidate)).max();
            let furthest = furthest.unwrap_or(TERMINATED);
            if furthest > candidate {
                if furthest == TERMINATED {
                    self.doc = TERMINATED;
                    return;
                }
                target = furthest;
            } else if self.side_by_side() {
                self.doc = candidate;
                return;
            } else {
                target = candidate + 1;
            }
        }
    }

    /// Whether the words, all on one document, have positions in a row.
    fn side_by_side(&mut self) -> bool {
        for (at, (postings, offset)) in self.words.iter_mut().enumerate() {
            postings.positions(&mut self.positions);
            let here = self.positions.iter().filter_map(|position| position.checked_sub(*offset));
            if at == 0 {
                self.starts.clear();
                self.starts.extend(here);
            } else {
                let mut here = here.peekable();
                self.starts.retain(|start| {
                    while here.next_if(|position| position < start).is_some() {}
                    here.peek() == Some(start)
                });
            }
            if self.starts.is_empty() {
                return false;
            }
        }
        true
    }
}

/// The first document from `target` on; [`TERMINATED`] when there is none.
pub(crate) fn seek(postings: &mut SegmentPostings, target: DocId) -> DocId {
    if postings.doc() >= target { postings.doc() } else { postings.seek(target) }
}
