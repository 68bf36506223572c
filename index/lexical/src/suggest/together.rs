//! Which live posts hold a term, and which hold several words together: by sampling where there are many.

use bowerbird_posts::Ordinal;
use roaring::RoaringBitmap;
use tantivy::index::InvertedIndexReader;
use tantivy::postings::{SegmentPostings, TermInfo};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocId, DocSet, TERMINATED};

use super::Vocabulary;
use crate::analysis::{Purpose, tokens};
use crate::error::{guard, io_fault};
use crate::language::Family;
use crate::snapshot::{Segment, Snapshot};
use crate::{LexicalError, LexicalSearcher};

/// Postings of one segment that are looked at one by one; of a longer list a sample is.
const EVERY: u32 = 512;
/// Size of that sample. Each costs a block of postings to unpack; most of the time of a one-letter prefix goes here.
const SAMPLE: u32 = 64;
/// Most steps to find posts that hold several words.
const STEPS: u32 = 20_000;
/// Most words that are looked for together.
const MAX_WORDS: usize = 8;

/// The live posts that hold a term.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Living {
    /// Their number: exact up to 512 posts of a segment, else estimated from 64 posts spread over it. 0 when no
    /// live post was found.
    pub posts: u64,
    /// Some of them, by segment and ordinal.
    pub examples: Vec<Ordinal>,
}

/// Live posts that hold some words together, at most as many as were asked for.
#[derive(Clone, Debug, Default)]
pub struct PostSample {
    /// By segment of the snapshot, ascending.
    docs: Vec<Vec<DocId>>,
    /// The same posts.
    pub ordinals: Vec<Ordinal>,
    /// Whether there may be more.
    pub truncated: bool,
}

impl PostSample {
    /// Number of posts.
    pub fn len(&self) -> usize {
        self.ordinals.len()
    }

    /// Whether no post was found.
    pub fn is_empty(&self) -> bool {
        self.ordinals.is_empty()
    }
}

impl LexicalSearcher {
    /// The posts of `live` that hold `term`, with up to `examples` of them.
    pub fn living(
        &self,
        vocabulary: Vocabulary,
        term: &str,
        live: &RoaringBitmap,
        examples: usize,
    ) -> Result<Living, LexicalError> {
        let snapshot = &*self.snapshot;
        guard(&snapshot.dir, || {
            let mut found = Living::default();
            for segment in &snapshot.segments {
                let index = vocabulary.of(segment);
                let Some(info) = snapshot.info(index, term)? else { continue };
                let postings = snapshot.postings(index, &info)?;
                count_living(segment, postings, info.doc_freq, live, examples, &mut found);
            }
            Ok(found)
        })
    }

    /// Posts that hold `word` in any of its inflections, deleted ones not yet merged away included.
    pub fn inflected(&self, word: &str) -> Result<u64, LexicalError> {
        let snapshot = &*self.snapshot;
        guard(&snapshot.dir, || {
            let mut posts = 0;
            for family in Family::ALL {
                let Some(form) = tokens(word, family, Purpose::Phrase).pop() else { continue };
                for segment in &snapshot.segments {
                    let index = &segment.bodies[family as usize];
                    posts += snapshot.info(index, &form.text)?.map_or(0, |info| u64::from(info.doc_freq));
                }
            }
            Ok(posts)
        })
    }

    /// Up to `limit` posts of `live` that hold every one of `words`, in any inflection and order. A `#tag`, an
    /// `@account` and a phrase may stand for a word. Stop words are left out, and words past the eighth; of none,
    /// there is no post.
    pub fn together(
        &self,
        words: &[String],
        live: &RoaringBitmap,
        limit: usize,
    ) -> Result<PostSample, LexicalError> {
        let snapshot = &*self.snapshot;
        guard(&snapshot.dir, || {
            let mut sample =
                PostSample { docs: vec![Vec::new(); snapshot.segments.len()], ..PostSample::default() };
            let mut left = STEPS;
            for family in Family::ALL {
                let forms = forms(words, family);
                if forms.is_empty() {
                    continue;
                }
                for (at, segment) in snapshot.segments.iter().enumerate() {
                    let index = &segment.bodies[family as usize];
                    let Some(mut lists) = snapshot.lists(index, &forms)? else { continue };
                    intersect(&mut lists, &mut left, |doc| {
                        let ordinal = segment.columns.of(doc);
                        if segment.is_alive(doc) && live.contains(ordinal) {
                            if sample.ordinals.len() == limit {
                                return false;
                            }
                            sample.docs[at].push(doc);
                            sample.ordinals.push(Ordinal(ordinal));
                        }
                        true
                    });
                }
            }
            sample.truncated = left == 0 || sample.ordinals.len() == limit;
            // Families took turns.
            sample.docs.iter_mut().for_each(|docs| docs.sort_unstable());
            Ok(sample)
        })
    }

    /// How many posts of a sample of this snapshot hold `term`.
    pub fn holding(
        &self,
        vocabulary: Vocabulary,
        term: &str,
        sample: &PostSample,
    ) -> Result<u64, LexicalError> {
        let snapshot = &*self.snapshot;
        guard(&snapshot.dir, || {
            let mut count = 0;
            for (segment, docs) in snapshot.segments.iter().zip(&sample.docs) {
                if docs.is_empty() {
                    continue;
                }
                let index = vocabulary.of(segment);
                let Some(info) = snapshot.info(index, term)? else { continue };
                let mut postings = snapshot.postings(index, &info)?;
                for &doc in docs {
                    count += u64::from(at_least(&mut postings, doc) == doc);
                }
            }
            Ok(count)
        })
    }
}

/// What a family makes of `words`, each form once.
fn forms(words: &[String], family: Family) -> Vec<String> {
    let mut forms = Vec::new();
    for token in words.iter().flat_map(|word| tokens(word, family, Purpose::Phrase)) {
        if !token.stop && !forms.contains(&token.text) && forms.len() < MAX_WORDS {
            forms.push(token.text);
        }
    }
    forms
}

impl Snapshot {
    fn info(&self, index: &InvertedIndexReader, term: &str) -> Result<Option<TermInfo>, LexicalError> {
        index.terms().get(term.as_bytes()).map_err(|error| io_fault(&self.dir, &error))
    }

    fn postings(
        &self,
        index: &InvertedIndexReader,
        info: &TermInfo,
    ) -> Result<SegmentPostings, LexicalError> {
        let postings = index.read_postings_from_terminfo(info, IndexRecordOption::Basic);
        postings.map_err(|error| io_fault(&self.dir, &error))
    }

    /// The postings of every form, the rarest first; `None` when one has none.
    fn lists(
        &self,
        index: &InvertedIndexReader,
        forms: &[String],
    ) -> Result<Option<Vec<SegmentPostings>>, LexicalError> {
        let mut infos = Vec::with_capacity(forms.len());
        for form in forms {
            let Some(info) = self.info(index, form)? else { return Ok(None) };
            infos.push(info);
        }
        infos.sort_by_key(|info| info.doc_freq);
        infos.iter().map(|info| self.postings(index, info)).collect::<Result<_, _>>().map(Some)
    }
}

/// Calls `found` for every document that is in all lists, until it says stop or the steps are spent.
fn intersect(lists: &mut [SegmentPostings], left: &mut u32, mut found: impl FnMut(DocId) -> bool) {
    let Some((lead, others)) = lists.split_first_mut() else { return };
    let mut doc = lead.doc();
    while doc != TERMINATED && *left > 0 {
        *left -= 1;
        let next = others.iter_mut().map(|list| at_least(list, doc)).find(|&next| next != doc);
        doc = match next {
            Some(next) => at_least(lead, next),
            None if found(doc) => lead.advance(),
            None => return,
        };
    }
}

/// The first document from `target` on.
fn at_least(postings: &mut SegmentPostings, target: DocId) -> DocId {
    if postings.doc() < target { postings.seek(target) } else { postings.doc() }
}

fn count_living(
    segment: &Segment,
    mut postings: SegmentPostings,
    doc_freq: u32,
    live: &RoaringBitmap,
    examples: usize,
    found: &mut Living,
) {
    let (mut seen, mut alive) = (0u64, 0u64);
    let mut look = |doc: DocId| {
        let ordinal = segment.columns.of(doc);
        seen += 1;
        if segment.is_alive(doc) && live.contains(ordinal) {
            alive += 1;
            if found.examples.len() < examples {
                found.examples.push(Ordinal(ordinal));
            }
        }
    };
    if doc_freq <= EVERY {
        while postings.doc() != TERMINATED {
            look(postings.doc());
            postings.advance();
        }
        found.posts += alive;
        return;
    }
    // Spread over the segment, so that posts that went by age do not stand for those that stayed.
    let step = (segment.reader.max_doc() / SAMPLE).max(1);
    let mut target = 0;
    for _ in 0..SAMPLE {
        let doc = at_least(&mut postings, target);
        if doc == TERMINATED {
            break;
        }
        look(doc);
        target = doc.saturating_add(step).min(TERMINATED - 1);
    }
    if seen > 0 {
        found.posts += (u64::from(doc_freq) * alive).div_ceil(seen);
    }
}
