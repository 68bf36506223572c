//! A fixed view of the index: its segments with every reader open, and where each ordinal is.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bowerbird_posts::Ordinal;
use roaring::RoaringBitmap;
use tantivy::index::{InvertedIndexReader, SegmentId, SegmentReader};
use tantivy::{DocId, Searcher};

use crate::bounds::{RANGE, Tables};
use crate::error::{damaged, fault};
use crate::schema::{Fields, ORDINAL};
use crate::{LexicalConfig, LexicalError, TermKind};

/// A fixed snapshot of the index; cheap to clone, unchanged by later commits.
#[derive(Clone)]
pub struct LexicalSearcher {
    pub(crate) snapshot: Arc<Snapshot>,
}

impl LexicalSearcher {
    /// Posts in the snapshot, without deleted ones.
    pub fn doc_count(&self) -> u64 {
        self.snapshot.segments.iter().map(|segment| u64::from(segment.reader.num_docs())).sum()
    }

    /// Ordinals of the posts in the snapshot, without deleted ones, and those of them that are in it more than once,
    /// which is damage.
    pub fn ordinals(&self) -> (RoaringBitmap, RoaringBitmap) {
        let (mut once, mut repeated) = (RoaringBitmap::new(), RoaringBitmap::new());
        for segment in &self.snapshot.segments {
            for doc in (0..segment.reader.max_doc()).filter(|doc| segment.is_alive(*doc)) {
                let ordinal = segment.columns.of(doc);
                if !once.insert(ordinal) {
                    repeated.insert(ordinal);
                }
            }
        }
        (once, repeated)
    }

    /// Segments of the snapshot.
    pub fn segments(&self) -> usize {
        self.snapshot.segments.len()
    }
}

pub(crate) struct Snapshot {
    pub dir: PathBuf,
    pub config: LexicalConfig,
    pub segments: Vec<Segment>,
    /// Posts, with those deleted but not yet merged away: the `N` of BM25.
    pub posts: u64,
    /// Tokens of all bodies, likewise.
    pub tokens: u64,
    /// Keeps the files of the segments.
    pub searcher: Searcher,
    alive: OnceLock<RoaringBitmap>,
    pub fields: Fields,
}

pub(crate) struct Segment {
    pub reader: SegmentReader,
    /// In the order of [`crate::language::Family::ALL`].
    pub bodies: [Arc<InvertedIndexReader>; 3],
    pub surface: Arc<InvertedIndexReader>,
    pub tags: Arc<InvertedIndexReader>,
    pub mentions: Arc<InvertedIndexReader>,
    pub columns: Arc<Columns>,
}

impl Segment {
    #[inline]
    pub(crate) fn is_alive(&self, doc: DocId) -> bool {
        self.reader.alive_bitset().is_none_or(|alive| alive.is_alive(doc))
    }

    /// The field of a kind of term, with a number that no other field of the segment has; `slot` is the family of a
    /// word and 0 otherwise.
    pub(crate) fn field(&self, kind: TermKind, slot: usize) -> (u8, &InvertedIndexReader) {
        match kind {
            TermKind::Word | TermKind::Phrase | TermKind::Near => (slot as u8, &self.bodies[slot]),
            TermKind::Tag => (3, &self.tags),
            TermKind::Mention => (4, &self.mentions),
            TermKind::Prefix => (5, &self.surface),
        }
    }
}

/// What is kept in memory of a segment: which ordinal each document has, and back; its length; bounds.
pub(crate) struct Columns {
    by_doc: Vec<u32>,
    /// Documents in the order of their ordinals; absent when that is their own order.
    sorted: Option<Vec<DocId>>,
    /// Smallest and largest ordinal.
    bounds: Option<(u32, u32)>,
    /// All of them.
    pub ordinals: RoaringBitmap,
    /// Smallest ordinal of each [`RANGE`] documents.
    pub least: Vec<u32>,
    /// Stored length of the one body that a document has.
    pub lengths: Vec<u8>,
    pub tables: Tables,
}

/// Columns of the segments that are open, so that a commit reads those of new segments only.
pub(crate) type ColumnsCache = HashMap<SegmentId, Arc<Columns>>;

impl Columns {
    fn load(dir: &Path, fields: &Fields, reader: &SegmentReader) -> Result<Self, LexicalError> {
        let column = reader.fast_fields().u64(ORDINAL).map_err(|error| fault(dir, &error))?;
        if column.num_docs() != reader.max_doc() {
            let (found, expected) = (column.num_docs(), reader.max_doc());
            return Err(damaged(dir, format!("a segment has {found} ordinals, expected {expected}")));
        }
        let mut by_doc = Vec::with_capacity(reader.max_doc() as usize);
        for doc in 0..reader.max_doc() {
            match column.first(doc).map(u32::try_from) {
                Some(Ok(ordinal)) => by_doc.push(ordinal),
                other => return Err(damaged(dir, format!("document {doc} has ordinal {other:?}"))),
            }
        }
        let sorted = (!by_doc.is_sorted()).then(|| {
            let mut docs: Vec<DocId> = (0..reader.max_doc()).collect();
            docs.sort_by_key(|&doc| by_doc[doc as usize]);
            docs
        });
        let bounds = by_doc.iter().min().copied().zip(by_doc.iter().max().copied());
        let least = by_doc.chunks(RANGE as usize).filter_map(|range| range.iter().min().copied()).collect();
        let mut lengths = vec![0; by_doc.len()];
        for field in fields.bodies {
            let body = reader.fieldnorms_readers().get_field(field).map_err(|error| fault(dir, &error))?;
            let Some(body) = body else { continue };
            if body.num_docs() != reader.max_doc() {
                let (found, expected) = (body.num_docs(), reader.max_doc());
                return Err(damaged(dir, format!("a segment has {found} lengths, expected {expected}")));
            }
            for (length, doc) in lengths.iter_mut().zip(0..) {
                *length = body.fieldnorm_id(doc).max(*length);
            }
        }
        let ordinals = by_doc.iter().copied().collect();
        Ok(Self { by_doc, sorted, bounds, ordinals, least, lengths, tables: Tables::default() })
    }

    #[inline]
    pub(crate) fn of(&self, doc: DocId) -> u32 {
        self.by_doc[doc as usize]
    }

    pub(crate) fn largest(&self) -> Option<u32> {
        self.bounds.map(|(_, largest)| largest)
    }

    /// The documents with this ordinal; more than one where a post was added again.
    fn docs(&self, ordinal: u32) -> impl Iterator<Item = DocId> {
        let inside = self.bounds.is_some_and(|(smallest, largest)| (smallest..=largest).contains(&ordinal));
        let start = match &self.sorted {
            _ if !inside => self.by_doc.len(),
            None => self.by_doc.partition_point(|&other| other < ordinal),
            Some(docs) => docs.partition_point(|&doc| self.by_doc[doc as usize] < ordinal),
        };
        (start..self.by_doc.len())
            .map(move |at| self.sorted.as_ref().map_or(at as DocId, |docs| docs[at]))
            .take_while(move |&doc| self.by_doc[doc as usize] == ordinal)
    }
}

impl Snapshot {
    pub(crate) fn new(
        dir: &Path,
        config: LexicalConfig,
        fields: &Fields,
        searcher: Searcher,
        cache: &mut ColumnsCache,
    ) -> Result<Self, LexicalError> {
        let mut segments = Vec::with_capacity(searcher.segment_readers().len());
        let mut open = ColumnsCache::new();
        for reader in searcher.segment_readers() {
            let columns = match cache.get(&reader.segment_id()) {
                Some(columns) => Arc::clone(columns),
                None => Arc::new(Columns::load(dir, fields, reader)?),
            };
            open.insert(reader.segment_id(), Arc::clone(&columns));
            segments.push(Segment::open(dir, fields, reader.clone(), columns)?);
        }
        *cache = open;
        let posts = segments.iter().map(|segment| u64::from(segment.reader.max_doc())).sum();
        let bodies = segments.iter().flat_map(|segment| &segment.bodies);
        let tokens = bodies.map(|body| body.total_num_tokens()).sum();
        Ok(Self {
            dir: dir.to_owned(),
            config,
            segments,
            posts,
            tokens,
            searcher,
            fields: *fields,
            alive: OnceLock::new(),
        })
    }

    /// By segment the ranges of documents that hold one of `posts`, ascending.
    pub(crate) fn ranges(&self, posts: &RoaringBitmap) -> Vec<Vec<u32>> {
        let mut ranges = vec![Vec::new(); self.segments.len()];
        for (segment, doc) in posts.iter().filter_map(|ordinal| self.locate(Ordinal(ordinal))) {
            ranges[segment].push(doc / RANGE);
        }
        for ranges in &mut ranges {
            ranges.sort_unstable();
            ranges.dedup();
        }
        ranges
    }

    /// The ordinals of all posts that are not deleted.
    pub(crate) fn alive(&self) -> &RoaringBitmap {
        self.alive.get_or_init(|| {
            let mut alive = RoaringBitmap::new();
            for segment in &self.segments {
                match segment.reader.alive_bitset() {
                    None => alive |= &segment.columns.ordinals,
                    Some(docs) => alive.extend(docs.iter_alive().map(|doc| segment.columns.of(doc))),
                }
            }
            alive
        })
    }

    /// Where the live document of an ordinal is: number of the segment, document.
    pub(crate) fn locate(&self, ordinal: Ordinal) -> Option<(usize, DocId)> {
        self.segments.iter().enumerate().find_map(|(at, segment)| {
            segment.columns.docs(ordinal.0).find(|&doc| segment.is_alive(doc)).map(|doc| (at, doc))
        })
    }
}

impl Segment {
    fn open(
        dir: &Path,
        fields: &Fields,
        reader: SegmentReader,
        columns: Arc<Columns>,
    ) -> Result<Self, LexicalError> {
        let index = |field| reader.inverted_index(field).map_err(|error| fault(dir, &error));
        let [english, french, other] = fields.bodies;
        Ok(Self {
            bodies: [index(english)?, index(french)?, index(other)?],
            surface: index(fields.surface)?,
            tags: index(fields.tags)?,
            mentions: index(fields.mentions)?,
            columns,
            reader,
        })
    }
}
