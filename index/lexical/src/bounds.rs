//! The most a posting list can be worth, by range of documents.
//!
//! A table keeps for each [`RANGE`] documents the shortest text with the word once, the shortest with it more often,
//! and the most occurrences, in 16 bits:
//!
//! ```text
//! bits 0-5    stored length of the shortest text with the word once; 63 when there is none, 62 also for longer ones
//! bits 6-11   the same of texts with the word more often
//! bits 12-15  most occurrences; 0 when none has it more often, 15 also for more
//! ```
//!
//! BM25 rises with occurrences and falls with length whatever `k1`, `b` and the average length are, so what a table
//! says holds in every snapshot with the segment. A table is made when a common word is first asked for and kept
//! with the segment. The idea of bounds by ranges of documents: Mallia, Suel and Tonellotto, doi:10.1145/3626772.3657906.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tantivy::postings::BlockSegmentPostings;

use crate::bm25::{Units, Weights};

/// Documents of one range.
pub(crate) const RANGE: u32 = 128;
/// Tables of a segment, in bytes for each document: 512 tables, of the words in more than 1 post of 500 or so.
const BYTES_PER_DOC: usize = 8;

const LONGEST: u8 = 62;
const NONE: u8 = 63;
const MOST_TF: u32 = 15;

/// A table: one entry for each range of a segment.
pub(crate) type Table = Arc<[u16]>;

/// Tables of one segment by list: field and place of the postings. The oldest goes when there is no room.
#[derive(Default)]
pub(crate) struct Tables(Mutex<Kept>);

/// Field and place of a list.
type List = (u8, usize);

#[derive(Default)]
struct Kept {
    tables: HashMap<List, Table>,
    /// Oldest first.
    order: VecDeque<List>,
}

impl Tables {
    /// The table of a list, made by `make` when it is not there.
    pub(crate) fn get(&self, key: List, docs: u32, make: impl FnOnce() -> Table) -> Table {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).tables.get(&key).cloned();
        if let Some(table) = found {
            return table;
        }
        // Not under the lock: two searches may make the same table, and both are right.
        let table = make();
        let room = (docs as usize * BYTES_PER_DOC / (2 * table.len().max(1))).max(1);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Kept { tables, order } = &mut *kept;
        if tables.insert(key, Arc::clone(&table)).is_none() {
            order.push_back(key);
        }
        while order.len() > room {
            if let Some(oldest) = order.pop_front() {
                tables.remove(&oldest);
            }
        }
        table
    }
}

/// Reads a whole list; `lengths` holds stored lengths by document. Without frequencies every posting counts once.
pub(crate) fn table(mut postings: BlockSegmentPostings, lengths: &[u8], frequencies: bool) -> Table {
    let mut table = vec![(NONE, NONE, 0u8); lengths.len().div_ceil(RANGE as usize)];
    while !postings.docs().is_empty() {
        for (at, &doc) in postings.docs().iter().enumerate() {
            let (once, often, most) = &mut table[(doc / RANGE) as usize];
            let length = lengths[doc as usize].min(LONGEST);
            match if frequencies { postings.freq(at) } else { 1 } {
                0 | 1 => *once = (*once).min(length),
                tf => {
                    *often = (*often).min(length);
                    *most = (*most).max(tf.min(MOST_TF) as u8);
                }
            }
        }
        if postings.docs().len() < BLOCK {
            break;
        }
        postings.advance();
    }
    table
        .into_iter()
        .map(|(once, often, most)| u16::from(once) | u16::from(often) << 6 | u16::from(most) << 12)
        .collect()
}

/// Postings of a whole block of tantivy.
pub(crate) const BLOCK: usize = 128;

/// What postings of one term are worth, and the entries of its tables.
pub(crate) struct Worth {
    /// By stored length, for one occurrence.
    pub once: [Units; 256],
    /// By the upper bits of an entry.
    often: Vec<Units>,
    /// By the lower bits of an entry.
    bounds: [Units; 64],
}

impl Worth {
    /// For a word of rarity `idf`; without its bounds when none are asked for.
    pub(crate) fn of_word(weights: &Weights, idf: f32, every: bool) -> Self {
        let once: [Units; 256] = std::array::from_fn(|length| weights.contribution(idf, 1, length as u8));
        if every {
            return Self { once, often: Vec::new(), bounds: [0; 64] };
        }
        let mut often = vec![0; 1024];
        for most in 2..=MOST_TF {
            let tf = if most == MOST_TF { u32::MAX } else { most };
            for length in 0..=LONGEST {
                often[usize::from(length) | (most as usize) << 6] = weights.contribution(idf, tf, length);
            }
        }
        Self { bounds: bounds(&once), once, often }
    }

    /// For a term that is worth the same in every post.
    pub(crate) fn constant(units: Units) -> Self {
        let once = [units; 256];
        Self { bounds: bounds(&once), once, often: vec![0; 1024] }
    }

    /// The most that a post of a range can get.
    #[inline]
    pub(crate) fn bound(&self, entry: u16) -> Units {
        self.bounds[usize::from(entry & 63)].max(self.often[usize::from(entry >> 6)])
    }
}

fn bounds(once: &[Units; 256]) -> [Units; 64] {
    std::array::from_fn(|length| if length == usize::from(NONE) { 0 } else { once[length] })
}
