//! Documents in which words stand side by side, or near each other: postings intersected, positions compared.

use tantivy::postings::{Postings, SegmentPostings};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocId, DocSet, TERMINATED};

use crate::LexicalError;
use crate::error::io_fault;
use crate::plan::{MAX_PHRASE_WORDS, PhraseForms};
use crate::snapshot::Snapshot;

/// Iterates over the documents of one body field that contain a phrase.
pub(crate) struct PhraseCursor {
    /// Postings and offset in the phrase, rarest word first.
    words: Vec<(SegmentPostings, u32)>,
    /// Most other words among them, which then stand in any order; `None` for side by side.
    within: Option<u32>,
    doc: DocId,
    /// Positions of the phrase that are left, and of the word looked at.
    starts: Vec<u32>,
    positions: Vec<u32>,
    /// Positions of all words, each with the number of its word.
    all: Vec<(u32, usize)>,
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
                let Some(info) = body.terms().get(form.as_bytes()).map_err(fail)? else { break };
                let option = IndexRecordOption::WithFreqsAndPositions;
                found.push((body.read_postings_from_terminfo(&info, option).map_err(fail)?, *offset));
            }
            if found.is_empty() || found.len() < words.len() {
                continue;
            }
            found.sort_by_key(|(postings, _)| postings.doc_freq());
            let mut cursor = Self {
                words: found,
                within: phrase.within,
                doc: 0,
                starts: Vec::new(),
                positions: Vec::new(),
                all: Vec::new(),
            };
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
        self.words.iter_mut().all(|(postings, _)| seek(postings, target) == target) && self.fits()
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
            } else if self.fits() {
                self.doc = candidate;
                return;
            } else {
                target = candidate + 1;
            }
        }
    }

    /// Whether the words, all on one document, stand there as they should.
    fn fits(&mut self) -> bool {
        match self.within {
            None => self.side_by_side(),
            Some(within) => self.near(within),
        }
    }

    /// Whether some stretch of the document holds every word with at most `within` others among them.
    fn near(&mut self, within: u32) -> bool {
        self.all.clear();
        for (number, (postings, _)) in self.words.iter_mut().enumerate() {
            postings.positions(&mut self.positions);
            self.all.extend(self.positions.iter().map(|&position| (position, number)));
        }
        self.all.sort_unstable();
        // Two pointers: `counts` of the words between them, `missing` that are not there.
        let mut counts = [0u32; MAX_PHRASE_WORDS];
        let (mut missing, mut first) = (self.words.len(), 0);
        for last in 0..self.all.len() {
            let (end, number) = self.all[last];
            missing -= usize::from(counts[number] == 0);
            counts[number] += 1;
            while missing == 0 {
                let (start, number) = self.all[first];
                if end - start < within.saturating_add(self.words.len() as u32) {
                    return true;
                }
                counts[number] -= 1;
                missing += usize::from(counts[number] == 0);
                first += 1;
            }
        }
        false
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
