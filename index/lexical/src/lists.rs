//! The postings of a query in one segment, ready to be added up range by range.

use std::sync::OnceLock;

use tantivy::postings::{BlockSegmentPostings, TermInfo};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocId, TERMINATED};

use crate::bm25::{Units, Weights};
use crate::bounds::{BLOCK, RANGE, Table, Worth, table};
use crate::error::io_fault;
use crate::phrase::PhraseCursor;
use crate::plan::{Plan, Term};
use crate::snapshot::{Segment, Snapshot};
use crate::{LexicalError, TermKind};

/// Lists of fewer postings are decoded at once: that costs less than a table of bounds does. Where no bounds are
/// needed, only lists of less than a block are.
const SHORT: u32 = 4096;

/// What a query has in one segment.
pub(crate) struct Lists<'a> {
    /// Decoded ones.
    pub short: Vec<Short>,
    /// Those read block by block, rarest first.
    pub long: Vec<Long<'a>>,
}

/// Documents and what each gets.
#[derive(Default)]
pub(crate) struct Short {
    pub docs: Vec<DocId>,
    pub worth: Vec<Units>,
    at: usize,
}

/// A list read block by block.
pub(crate) struct Long<'a> {
    start: BlockSegmentPostings,
    postings: BlockSegmentPostings,
    at: usize,
    each: Each<'a>,
    /// Absent when every posting is read anyway.
    pub table: Option<Table>,
    worth: &'a Worth,
    pub docs: u32,
}

/// What one posting is worth.
enum Each<'a> {
    /// By occurrences and length; `once` is for one occurrence, by stored length.
    Word { once: &'a [Units; 256], idf: f32, weights: &'a Weights, lengths: &'a [u8] },
    /// The same for all.
    Constant(Units),
}

impl Each<'_> {
    #[inline]
    fn of(&self, doc: DocId, tf: impl FnOnce() -> u32) -> Units {
        match self {
            Self::Constant(units) => *units,
            Self::Word { once, idf, weights, lengths } => {
                let length = lengths[doc as usize];
                match tf() {
                    0 | 1 => once[usize::from(length)],
                    tf => weights.contribution(*idf, tf, length),
                }
            }
        }
    }
}

impl<'a> Lists<'a> {
    /// Opens the lists of segment `at`.
    ///
    /// With `every`, all postings will be read, and no bounds are needed.
    pub(crate) fn open(
        snapshot: &'a Snapshot,
        plan: &'a Plan,
        at: usize,
        every: bool,
    ) -> Result<Self, LexicalError> {
        let mut lists = Self { short: Vec::new(), long: Vec::new() };
        for (term, worth) in plan.terms.iter().zip(&plan.worths) {
            lists.add(snapshot, plan, term, worth, (at, every))?;
        }
        lists.long.sort_by_key(|list| list.docs);
        Ok(lists)
    }

    fn add(
        &mut self,
        snapshot: &'a Snapshot,
        plan: &'a Plan,
        term: &Term,
        worth: &'a OnceLock<Worth>,
        (at, every): (usize, bool),
    ) -> Result<(), LexicalError> {
        let (segment, weights) = (&snapshot.segments[at], &plan.weights);
        let mut short = Short::default();
        if let Some(phrase) = &term.phrase {
            let units = weights.constant(term.idf);
            for mut found in PhraseCursor::open(snapshot, at, phrase)? {
                while found.doc() != TERMINATED {
                    short.push(found.doc(), units);
                    found.advance();
                }
            }
        }
        if term.kind == TermKind::Prefix {
            // A post with several of the words counts once.
            let mut docs = Vec::new();
            for (_, info) in &term.postings[at] {
                let mut postings = open(snapshot, segment, term.kind, 0, info)?;
                each_block(&mut postings, |postings| docs.extend_from_slice(postings.docs()));
            }
            docs.sort_unstable();
            docs.dedup();
            short.worth = vec![weights.constant(term.idf); docs.len()];
            short.docs = docs;
        } else {
            let worth = worth.get_or_init(|| match term.kind {
                TermKind::Word => Worth::of_word(weights, term.idf, every),
                _ => Worth::constant(weights.constant(term.idf)),
            });
            for (slot, info) in &term.postings[at] {
                let mut postings = open(snapshot, segment, term.kind, *slot, info)?;
                let each = Each::new(segment, weights, term, worth);
                if info.doc_freq < if every { BLOCK as u32 } else { SHORT } {
                    each_block(&mut postings, |postings| {
                        for (at, &doc) in postings.docs().iter().enumerate() {
                            short.push(doc, each.of(doc, || postings.freq(at)));
                        }
                    });
                } else {
                    let table = (!every).then(|| bounds_of(segment, term, *slot, info, &postings));
                    let (start, docs) = (postings.clone(), info.doc_freq);
                    self.long.push(Long { start, postings, at: 0, each, table, worth, docs });
                }
            }
        }
        if !short.docs.is_empty() {
            short.sort();
            self.short.push(short);
        }
        Ok(())
    }

    /// Adds to `sums` the most that each range of documents can get.
    pub(crate) fn add_bounds(&self, sums: &mut [Units]) {
        for list in &self.short {
            let mut at = 0;
            while at < list.docs.len() {
                let range = list.docs[at] / RANGE;
                let mut most = 0;
                while at < list.docs.len() && list.docs[at] / RANGE == range {
                    most = most.max(list.worth[at]);
                    at += 1;
                }
                sums[range as usize] += most;
            }
        }
        for list in &self.long {
            for (sum, &entry) in sums.iter_mut().zip(list.table.iter().flat_map(|table| &**table)) {
                *sum += list.worth.bound(entry);
            }
        }
    }

    /// The next document of any list.
    pub(crate) fn next(&self) -> Option<DocId> {
        let short = self.short.iter().filter_map(|list| list.docs.get(list.at));
        let long = self.long.iter().filter_map(|list| list.postings.docs().get(list.at));
        short.chain(long).min().copied()
    }

    /// Goes back to the first document.
    pub(crate) fn rewind(&mut self) {
        for list in &mut self.short {
            list.at = 0;
        }
        for list in &mut self.long {
            list.postings.clone_from(&list.start);
            list.at = 0;
        }
    }
}

impl<'a> Each<'a> {
    fn new(segment: &'a Segment, weights: &'a Weights, term: &Term, worth: &'a Worth) -> Self {
        match term.kind {
            TermKind::Word => {
                let lengths = &segment.columns.lengths;
                Self::Word { once: &worth.once, idf: term.idf, weights, lengths }
            }
            _ => Self::Constant(weights.constant(term.idf)),
        }
    }
}

pub(crate) fn open(
    snapshot: &Snapshot,
    segment: &Segment,
    kind: TermKind,
    slot: usize,
    info: &TermInfo,
) -> Result<BlockSegmentPostings, LexicalError> {
    let (_, index) = segment.field(kind, slot);
    let option = if kind == TermKind::Word { IndexRecordOption::WithFreqs } else { IndexRecordOption::Basic };
    index.read_block_postings_from_terminfo(info, option).map_err(|error| io_fault(&snapshot.dir, &error))
}

pub(crate) fn each_block(postings: &mut BlockSegmentPostings, mut work: impl FnMut(&BlockSegmentPostings)) {
    while !postings.docs().is_empty() {
        work(postings);
        if postings.docs().len() < BLOCK {
            return;
        }
        postings.advance();
    }
}

impl Short {
    fn push(&mut self, doc: DocId, units: Units) {
        self.docs.push(doc);
        self.worth.push(units);
    }

    /// By document: the postings of several families follow each other.
    fn sort(&mut self) {
        if self.docs.is_sorted() {
            return;
        }
        let mut both: Vec<(DocId, Units)> =
            self.docs.iter().copied().zip(self.worth.iter().copied()).collect();
        both.sort_unstable();
        (self.docs, self.worth) = both.into_iter().unzip();
    }

    /// Adds what the documents from `start` on are worth; the best sum among them. Ranges must ascend.
    #[inline]
    pub(crate) fn add(&mut self, start: DocId, sums: &mut [Units]) -> Units {
        let end = start + sums.len() as DocId;
        if self.docs.get(self.at).is_some_and(|&doc| doc < start) {
            self.at += self.docs[self.at..].partition_point(|&doc| doc < start);
        }
        let mut best = 0;
        while let Some(&doc) = self.docs.get(self.at)
            && doc < end
        {
            let sum = &mut sums[(doc - start) as usize];
            *sum += self.worth[self.at];
            best = best.max(*sum);
            self.at += 1;
        }
        best
    }
}

/// The table of a list, out of the tables kept with the segment.
fn bounds_of(
    segment: &Segment,
    term: &Term,
    slot: usize,
    info: &TermInfo,
    postings: &BlockSegmentPostings,
) -> Table {
    let (field, _) = segment.field(term.kind, slot);
    let lengths = &segment.columns.lengths;
    let key = (field, info.postings_range.start);
    let make = || table(postings.clone(), lengths, term.kind == TermKind::Word);
    segment.columns.tables.get(key, lengths.len() as u32, make)
}

impl Long<'_> {
    /// The most that a post of the ranges from `first` to before `end` can get.
    pub(crate) fn most(&self, first: usize, end: usize) -> Units {
        let entries = self.table.iter().flat_map(|table| &table[first..end]);
        entries.map(|&entry| self.worth.bound(entry)).max().unwrap_or(0)
    }

    /// As [`Short::add`].
    #[inline]
    pub(crate) fn add(&mut self, start: DocId, sums: &mut [Units]) -> Units {
        let end = start + sums.len() as DocId;
        let docs = self.postings.docs();
        if docs.last().is_some_and(|&last| last < start) {
            self.at = self.postings.seek(start);
        } else if docs.get(self.at).is_some_and(|&doc| doc < start) {
            self.at += docs[self.at..].partition_point(|&doc| doc < start);
        }
        let mut best = 0;
        loop {
            let docs = self.postings.docs();
            while let Some(&doc) = docs.get(self.at)
                && doc < end
            {
                let sum = &mut sums[(doc - start) as usize];
                *sum += self.each.of(doc, || self.postings.freq(self.at));
                best = best.max(*sum);
                self.at += 1;
            }
            if self.at < docs.len() || docs.len() < BLOCK {
                return best;
            }
            self.postings.advance();
            self.at = 0;
        }
    }
}
