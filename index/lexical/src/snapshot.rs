//! A fixed view of the index: its segments with every reader open, and where each ordinal is.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bowerbird_posts::Ordinal;
use roaring::RoaringBitmap;
use tantivy::fieldnorm::FieldNormReader;
use tantivy::index::{InvertedIndexReader, SegmentId, SegmentReader};
use tantivy::{DocId, Searcher};

use crate::error::{damaged, fault};
use crate::schema::{Fields, ORDINAL};
use crate::{LexicalConfig, LexicalError};

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
                let ordinal = segment.ordinals.of(doc);
                if !once.insert(ordinal) {
                    repeated.insert(ordinal);
                }
            }
        }
        (once, repeated)
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
    _searcher: Searcher,
}

pub(crate) struct Segment {
    pub reader: SegmentReader,
    /// In the order of [`crate::language::Family::ALL`].
    pub bodies: [Body; 3],
    pub surface: Arc<InvertedIndexReader>,
    pub tags: Arc<InvertedIndexReader>,
    pub mentions: Arc<InvertedIndexReader>,
    pub ordinals: Arc<SegmentOrdinals>,
}

pub(crate) struct Body {
    pub index: Arc<InvertedIndexReader>,
    pub lengths: FieldNormReader,
}

impl Segment {
    #[inline]
    pub(crate) fn is_alive(&self, doc: DocId) -> bool {
        self.reader.alive_bitset().is_none_or(|alive| alive.is_alive(doc))
    }
}

/// Which ordinal each document of a segment has, and back.
pub(crate) struct SegmentOrdinals {
    by_doc: Vec<u32>,
    /// Documents in the order of their ordinals; absent when that is their own order.
    sorted: Option<Vec<DocId>>,
    /// Smallest and largest ordinal.
    bounds: Option<(u32, u32)>,
}

/// Ordinals of the segments that are open, so that a commit reads those of new segments only.
pub(crate) type OrdinalsCache = HashMap<SegmentId, Arc<SegmentOrdinals>>;

impl SegmentOrdinals {
    fn load(dir: &Path, reader: &SegmentReader) -> Result<Self, LexicalError> {
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
        Ok(Self { by_doc, sorted, bounds })
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
        cache: &mut OrdinalsCache,
    ) -> Result<Self, LexicalError> {
        let mut segments = Vec::with_capacity(searcher.segment_readers().len());
        let mut open = OrdinalsCache::new();
        for reader in searcher.segment_readers() {
            let ordinals = match cache.get(&reader.segment_id()) {
                Some(ordinals) => Arc::clone(ordinals),
                None => Arc::new(SegmentOrdinals::load(dir, reader)?),
            };
            open.insert(reader.segment_id(), Arc::clone(&ordinals));
            segments.push(Segment::open(dir, fields, reader.clone(), ordinals)?);
        }
        *cache = open;
        let posts = segments.iter().map(|segment| u64::from(segment.reader.max_doc())).sum();
        let bodies = segments.iter().flat_map(|segment| &segment.bodies);
        let tokens = bodies.map(|body| body.index.total_num_tokens()).sum();
        Ok(Self { dir: dir.to_owned(), config, segments, posts, tokens, _searcher: searcher })
    }

    /// Where the live document of an ordinal is: number of the segment, document.
    pub(crate) fn locate(&self, ordinal: Ordinal) -> Option<(usize, DocId)> {
        self.segments.iter().enumerate().find_map(|(at, segment)| {
            segment.ordinals.docs(ordinal.0).find(|&doc| segment.is_alive(doc)).map(|doc| (at, doc))
        })
    }
}

impl Segment {
    fn open(
        dir: &Path,
        fields: &Fields,
        reader: SegmentReader,
        ordinals: Arc<SegmentOrdinals>,
    ) -> Result<Self, LexicalError> {
        let index = |field| reader.inverted_index(field).map_err(|error| fault(dir, &error));
        let body = |field| {
            let lengths = reader.fieldnorms_readers().get_field(field).map_err(|error| fault(dir, &error))?;
            let lengths = lengths.unwrap_or_else(|| FieldNormReader::constant(reader.max_doc(), 0));
            if lengths.num_docs() != reader.max_doc() {
                let (found, expected) = (lengths.num_docs(), reader.max_doc());
                return Err(damaged(dir, format!("a segment has {found} lengths, expected {expected}")));
            }
            Ok(Body { index: index(field)?, lengths })
        };
        let [english, french, other] = fields.bodies;
        Ok(Self {
            bodies: [body(english)?, body(french)?, body(other)?],
            surface: index(fields.surface)?,
            tags: index(fields.tags)?,
            mentions: index(fields.mentions)?,
            ordinals,
            reader,
        })
    }
}
