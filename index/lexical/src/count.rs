//! Which posts match at all, without scores.

use bowerbird_posts::Ordinal;
use roaring::RoaringBitmap;
use tantivy::{DocId, TERMINATED};

use crate::bounds::BLOCK;
use crate::lists::{each_block, open};
use crate::phrase::PhraseCursor;
use crate::plan::{Plan, Term};
use crate::search::COUNTED;
use crate::snapshot::{Segment, Snapshot};
use crate::{LexicalError, TermKind};

/// Most posts with a tag, an account or a token like a name (one with a digit or a sign in it) that make it rare.
pub const RARE_POSTS: u64 = 10;
/// The same of a plain word: many rare words are slips of the pen.
pub const RARE_WORD_POSTS: u64 = 3;

impl Plan {
    /// Postings of all lists.
    pub(crate) fn postings(&self) -> u64 {
        self.terms.iter().map(|term| term.df).sum()
    }

    /// How many allowed posts match, and whether that is all of them: it need not be past [`COUNTED`].
    pub(crate) fn count(
        &self,
        snapshot: &Snapshot,
        allowed: Option<&RoaringBitmap>,
    ) -> Result<(u64, bool), LexicalError> {
        // Most often the most frequent word alone says that there are many.
        if let Some(frequent) = self.terms.iter().max_by_key(|term| term.df)
            && frequent.df > COUNTED
            // A prefix may have the same post in several lists.
            && frequent.kind != TermKind::Prefix
        {
            // Of its postings, at most all documents that are deleted or not allowed are none.
            let alive = snapshot.alive();
            let passing = allowed.map_or(alive.len(), |allowed| alive.intersection_len(allowed));
            let found = frequent.df.saturating_sub(snapshot.posts - passing);
            if found > COUNTED {
                return Ok((found, false));
            }
            let mut found = 0;
            for (at, segment) in snapshot.segments.iter().enumerate() {
                for (slot, info) in &frequent.postings[at] {
                    let mut postings = open(snapshot, segment, frequent.kind, *slot, info)?;
                    while found <= COUNTED && !postings.docs().is_empty() {
                        let here = postings.docs().iter().filter(|&&doc| passes(segment, allowed, doc));
                        found += here.count() as u64;
                        if postings.docs().len() < BLOCK {
                            break;
                        }
                        postings.advance();
                    }
                }
            }
            if found > COUNTED {
                return Ok((found, false));
            }
        }
        let mut found = 0;
        for (at, segment) in snapshot.segments.iter().enumerate() {
            self.docs(snapshot, at)?.each(|doc| found += u64::from(passes(segment, allowed, doc)));
        }
        Ok((found, true))
    }

    /// The ordinals of the posts of segment `at` that match.
    pub(crate) fn union(&self, snapshot: &Snapshot, at: usize) -> Result<RoaringBitmap, LexicalError> {
        let segment = &snapshot.segments[at];
        let docs = self.docs(snapshot, at)?;
        let mut ordinals = Vec::new();
        docs.each(|doc| {
            if segment.is_alive(doc) {
                ordinals.push(segment.columns.of(doc));
            }
        });
        // Mostly in the order of documents; then there is no search for the place of each.
        let sorted = RoaringBitmap::from_sorted_iter(ordinals.iter().copied());
        Ok(sorted.unwrap_or_else(|_| ordinals.into_iter().collect()))
    }

    fn docs(&self, snapshot: &Snapshot, at: usize) -> Result<Docs, LexicalError> {
        let segment = &snapshot.segments[at];
        let mut docs = Docs(vec![0; segment.reader.max_doc().div_ceil(64) as usize]);
        for term in &self.terms {
            docs.add(snapshot, at, term)?;
        }
        Ok(docs)
    }
}

fn passes(segment: &Segment, allowed: Option<&RoaringBitmap>, doc: DocId) -> bool {
    segment.is_alive(doc) && allowed.is_none_or(|allowed| allowed.contains(segment.columns.of(doc)))
}

/// Documents of a segment, a bit each.
struct Docs(Vec<u64>);

impl Docs {
    fn add(&mut self, snapshot: &Snapshot, at: usize, term: &Term) -> Result<(), LexicalError> {
        let segment = &snapshot.segments[at];
        for (slot, info) in &term.postings[at] {
            let mut postings = open(snapshot, segment, term.kind, *slot, info)?;
            each_block(&mut postings, |postings| {
                for &doc in postings.docs() {
                    self.0[doc as usize / 64] |= 1 << (doc % 64);
                }
            });
        }
        if let Some(phrase) = &term.phrase {
            for mut found in PhraseCursor::open(snapshot, at, phrase)? {
                while found.doc() != TERMINATED {
                    self.0[found.doc() as usize / 64] |= 1 << (found.doc() % 64);
                    found.advance();
                }
            }
        }
        Ok(())
    }

    fn each(&self, mut work: impl FnMut(DocId)) {
        for (at, &bits) in self.0.iter().enumerate() {
            let mut bits = bits;
            while bits != 0 {
                work(at as DocId * 64 + bits.trailing_zeros());
                bits &= bits - 1;
            }
        }
    }
}

impl Snapshot {
    /// See [`crate::LexicalHits::rare`].
    pub(crate) fn rare(
        &self,
        plan: &Plan,
        allowed: Option<&RoaringBitmap>,
    ) -> Result<Vec<Ordinal>, LexicalError> {
        let mut common: Option<RoaringBitmap> = None;
        for term in plan.terms.iter().filter(|term| term.is_rare()) {
            let mut found = Vec::new();
            for (at, segment) in self.segments.iter().enumerate() {
                for (slot, info) in &term.postings[at] {
                    let mut postings = open(self, segment, term.kind, *slot, info)?;
                    each_block(&mut postings, |postings| {
                        let passing = postings.docs().iter().filter(|&&doc| passes(segment, allowed, doc));
                        found.extend(passing.map(|&doc| segment.columns.of(doc)));
                    });
                }
            }
            let found: RoaringBitmap = found.into_iter().collect();
            common = Some(common.map_or(found.clone(), |common| common & found));
        }
        let ordinals: Vec<Ordinal> = common.unwrap_or_default().iter().map(Ordinal).collect();
        if ordinals.len() < 2 {
            return Ok(ordinals);
        }
        let mut ranked: Vec<(u32, Ordinal)> =
            plan.units(self, &ordinals)?.into_iter().zip(ordinals).collect();
        ranked.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        Ok(ranked.into_iter().map(|(_, ordinal)| ordinal).collect())
    }
}

impl Term {
    fn is_rare(&self) -> bool {
        let sign = |c: char| c.is_ascii_digit() || !c.is_alphanumeric();
        match self.kind {
            TermKind::Tag | TermKind::Mention => self.df <= RARE_POSTS,
            TermKind::Word if self.expanded => false,
            TermKind::Word if self.text.contains(sign) => self.df <= RARE_POSTS,
            TermKind::Word => self.df <= RARE_WORD_POSTS,
            TermKind::Phrase | TermKind::Near | TermKind::Prefix => false,
        }
    }
}
