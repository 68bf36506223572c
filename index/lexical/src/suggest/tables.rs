//! The most frequent terms under every prefix that many terms share.
//!
//! A segment never changes, so its tables are made once, in one pass over its dictionary. They hold the prefixes with
//! more than [`HEAVY`] terms; under any other, the terms themselves are few enough to be walked at each call.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};

use tantivy::index::SegmentId;
use tantivy::termdict::TermDictionary;

use super::Vocabulary;
use super::text::{is_stop_word, single_word};
use crate::analysis::MAX_TOKEN_BYTES;
use crate::error::{guard, io_fault};
use crate::fold::fold;
use crate::query::{cut, plain_name};
use crate::snapshot::Segment;
use crate::{LexicalError, LexicalSearcher};

/// Most terms of one segment that are walked for a prefix.
const HEAVY: usize = 512;
/// The same where the tables of the segment are not made yet.
const WITHOUT_TABLES: usize = 4096;
/// Terms kept for a prefix.
const KEPT: usize = 32;
/// Longest prefix with a list, in characters. A longer one with many terms is answered from the first of them.
const MAX_DEPTH: usize = 16;
/// Accented names kept of one segment, so that they are found without their accents.
const MAX_ACCENTED: usize = 65_536;

/// A term under a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The term, without sigil.
    pub term: String,
    /// Posts that hold it. Deleted ones may be among them, and posts of a segment in which the term is rare may not.
    pub posts: u64,
}

/// Tables of the segments that were open at the last [`refresh`](Self::refresh). Keeps no file open.
#[derive(Default)]
pub struct PrefixTables {
    by_segment: RwLock<HashMap<SegmentId, Arc<SegmentTables>>>,
    making: Mutex<()>,
}

type SegmentTables = [FieldTable; 3];

#[derive(Default)]
struct FieldTable {
    /// Best terms with their posts, by prefix.
    heavy: HashMap<Box<str>, Vec<(Arc<str>, u32)>>,
    /// Sorted.
    accented: Vec<Accented>,
}

/// Folded form, term, posts.
type Accented = (Box<str>, Box<str>, u32);

impl PrefixTables {
    /// Whether every segment of `searcher` has its tables.
    pub fn is_current(&self, searcher: &LexicalSearcher) -> bool {
        let tables = self.by_segment.read().unwrap_or_else(PoisonError::into_inner);
        searcher.snapshot.segments.iter().all(|segment| tables.contains_key(&segment.reader.segment_id()))
    }

    /// Makes the tables that are missing (about half a second for a million terms) and drops those of segments that
    /// are gone. Does nothing while another thread is at it.
    pub fn refresh(&self, searcher: &LexicalSearcher) -> Result<(), LexicalError> {
        let _making = match self.making.try_lock() {
            Ok(making) => making,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        let snapshot = &*searcher.snapshot;
        guard(&snapshot.dir, || {
            for segment in &snapshot.segments {
                let id = segment.reader.segment_id();
                if self.of(segment).is_none() {
                    let tables = make(segment).map_err(|e| io_fault(&snapshot.dir, &e))?;
                    let mut all = self.by_segment.write().unwrap_or_else(PoisonError::into_inner);
                    all.insert(id, Arc::new(tables));
                }
            }
            let open: Vec<SegmentId> = snapshot.segments.iter().map(|s| s.reader.segment_id()).collect();
            let mut all = self.by_segment.write().unwrap_or_else(PoisonError::into_inner);
            all.retain(|id, _| open.contains(id));
            Ok(())
        })
    }

    fn of(&self, segment: &Segment) -> Option<Arc<SegmentTables>> {
        let tables = self.by_segment.read().unwrap_or_else(PoisonError::into_inner);
        tables.get(&segment.reader.segment_id()).cloned()
    }
}

impl LexicalSearcher {
    /// The most frequent terms that start with `prefix`, whatever its case and, once the tables are made, its
    /// accents; at most `limit`, ties by term. Stop words are left out. An empty prefix stands for every name, and
    /// for no word.
    pub fn complete(
        &self,
        tables: &PrefixTables,
        vocabulary: Vocabulary,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<Completion>, LexicalError> {
        let snapshot = &*self.snapshot;
        let prefix = match vocabulary {
            Vocabulary::Words => single_word(prefix).unwrap_or_else(|| fold(cut(prefix, MAX_TOKEN_BYTES))),
            Vocabulary::Tags => plain_name(prefix, ['#', '＃']),
            Vocabulary::Mentions => plain_name(prefix, ['@', '＠']),
        };
        if prefix.is_empty() && vocabulary == Vocabulary::Words {
            return Ok(Vec::new());
        }
        guard(&snapshot.dir, || {
            let mut counts: HashMap<Arc<str>, u64> = HashMap::new();
            for segment in &snapshot.segments {
                let made = tables.of(segment);
                let table = made.as_ref().map(|made| &made[vocabulary as usize]);
                if let Some(heavy) = table.and_then(|table| table.heavy.get(prefix.as_str())) {
                    for (term, posts) in heavy {
                        *counts.entry(Arc::clone(term)).or_default() += u64::from(*posts);
                    }
                } else {
                    let most = if table.is_some() { HEAVY } else { WITHOUT_TABLES };
                    walk(vocabulary.of(segment).terms(), &prefix, most, |term, posts| {
                        if vocabulary != Vocabulary::Words || !is_stop_word(term) {
                            *counts.entry(Arc::from(term)).or_default() += u64::from(posts);
                        }
                    })
                    .map_err(|error| io_fault(&snapshot.dir, &error))?;
                }
                for (_, term, posts) in table.into_iter().flat_map(|table| table.accented_under(&prefix)) {
                    // One that starts like this as it is was counted above.
                    if !term.starts_with(prefix.as_str()) {
                        *counts.entry(Arc::from(&**term)).or_default() += u64::from(*posts);
                    }
                }
            }
            let mut found: Vec<(Arc<str>, u64)> = counts.into_iter().collect();
            found.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            found.truncate(limit);
            Ok(found.into_iter().map(|(term, posts)| Completion { term: term.to_string(), posts }).collect())
        })
    }
}

/// Calls `each` for the first `most` terms that start with `prefix`.
fn walk(dict: &TermDictionary, prefix: &str, most: usize, mut each: impl FnMut(&str, u32)) -> io::Result<()> {
    let mut stream = dict.range().ge(prefix.as_bytes()).into_stream()?;
    for _ in 0..most {
        let Some((key, info)) = stream.next() else { break };
        if !key.starts_with(prefix.as_bytes()) {
            break;
        }
        if let Ok(term) = std::str::from_utf8(key) {
            each(term, info.doc_freq);
        }
    }
    Ok(())
}

fn make(segment: &Segment) -> io::Result<SegmentTables> {
    let mut tables = SegmentTables::default();
    for vocabulary in Vocabulary::ALL {
        tables[vocabulary as usize] = FieldTable::make(vocabulary.of(segment).terms(), vocabulary)?;
    }
    Ok(tables)
}

/// A prefix of the key at hand, and the best terms under it so far: the worst of them on top.
#[derive(Default)]
struct Open {
    bytes: usize,
    terms: usize,
    best: BinaryHeap<Reverse<Ranked>>,
}

/// Posts and term; of equals the one that comes first is better.
type Ranked = (u32, Reverse<Arc<str>>);

impl FieldTable {
    fn make(dict: &TermDictionary, vocabulary: Vocabulary) -> io::Result<Self> {
        let mut table = Self::default();
        // The prefixes of the last key, by length in characters from 0 on.
        let mut open: Vec<Open> = vec![Open::default()];
        let mut last = String::new();
        let mut stream = dict.stream()?;
        while let Some((key, info)) = stream.next() {
            let Ok(term) = std::str::from_utf8(key) else { continue };
            let shared = shared_bytes(&last, term);
            while open.last().is_some_and(|prefix| prefix.bytes > shared) {
                table.close(open.pop(), &last);
            }
            let from = open.last().map_or(0, |prefix| prefix.bytes);
            for (at, c) in term[from..].char_indices().take((MAX_DEPTH + 1).saturating_sub(open.len())) {
                open.push(Open { bytes: from + at + c.len_utf8(), ..Open::default() });
            }
            let offered = vocabulary != Vocabulary::Words || !is_stop_word(term);
            let mut shared_term: Option<Arc<str>> = None;
            for prefix in &mut open {
                prefix.terms += 1;
                // Terms come in order, so one of equal frequency is never better than those that are there.
                let full = prefix.best.len() == KEPT;
                let takes = !full || prefix.best.peek().is_some_and(|worst| info.doc_freq > worst.0.0);
                if offered && takes {
                    let term = shared_term.get_or_insert_with(|| Arc::from(term));
                    if full {
                        prefix.best.pop();
                    }
                    prefix.best.push(Reverse((info.doc_freq, Reverse(Arc::clone(term)))));
                }
            }
            if vocabulary != Vocabulary::Words && !term.is_ascii() && table.accented.len() < MAX_ACCENTED {
                let folded = fold(term);
                if folded != term {
                    table.accented.push((folded.into(), term.into(), info.doc_freq));
                }
            }
            last.clear();
            last.push_str(term);
        }
        while let Some(prefix) = open.pop() {
            table.close(Some(prefix), &last);
        }
        table.accented.sort_unstable();
        Ok(table)
    }

    fn close(&mut self, prefix: Option<Open>, last: &str) {
        let Some(prefix) = prefix.filter(|prefix| prefix.terms > HEAVY) else { return };
        let best = prefix.best.into_sorted_vec();
        let best = best.into_iter().map(|Reverse((posts, Reverse(term)))| (term, posts)).collect();
        self.heavy.insert(last[..prefix.bytes].into(), best);
    }

    /// The first accented names whose folded form starts with `prefix`.
    fn accented_under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Accented> {
        let start = self.accented.partition_point(|(folded, ..)| &**folded < prefix);
        self.accented[start..].iter().take(HEAVY).take_while(move |(folded, ..)| folded.starts_with(prefix))
    }
}

/// Bytes of the longest common prefix, whole characters only.
fn shared_bytes(a: &str, b: &str) -> usize {
    let equal = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    b.floor_char_boundary(equal.min(b.len()))
}
