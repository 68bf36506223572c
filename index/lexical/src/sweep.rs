//! The posts of one segment with the best sums, found without adding up those that cannot be among them.
//!
//! First every range of [`RANGE`] documents gets a bound, the sum of the most that each list holds there. The
//! ranges with the highest bounds are added up first, so that the threshold is high early; then, in the order of
//! documents, those whose bound reaches it. Within a range lists are added from the rarest on, until what is left
//! cannot lift the best sum so far over the threshold. Sums are whole numbers, so none of this changes a score.
//!
//! Sources: MaxScore (Turtle and Flood, doi:10.1016/0306-4573(95)00020-H) over block bounds of ranges of documents
//! (Mallia, Suel and Tonellotto, doi:10.1145/3626772.3657906).

use roaring::RoaringBitmap;
use tantivy::DocId;

use crate::bm25::Units;
use crate::bounds::RANGE;
use crate::lists::Lists;
use crate::snapshot::Segment;

/// Ranges added up at once when all of them are.
const WIDE: u32 = 32;

/// Takes posts and says what the next must reach.
pub(crate) trait Sink {
    /// A post that is allowed, with its sum.
    fn take(&mut self, units: Units, ordinal: u32);
    /// Whether a post with this sum and no smaller ordinal than this could still be taken.
    fn wants(&self, units: Units, ordinal: u32) -> bool;
    /// Ranges worth looking at before the others.
    fn head(&self) -> usize;
}

/// Which posts may be given.
pub(crate) struct Allowed<'a> {
    /// Their ordinals; all when absent.
    pub posts: Option<&'a RoaringBitmap>,
    /// The only ranges that hold one, ascending; any may when absent.
    pub ranges: Option<Vec<u32>>,
}

/// Gives `sink` the posts of `segment` that it wants; `every` gives it all that match.
pub(crate) fn sweep(
    segment: &Segment,
    mut lists: Lists<'_>,
    allowed: Allowed<'_>,
    every: bool,
    sink: &mut impl Sink,
) {
    let docs = segment.reader.max_doc();
    let number = docs.div_ceil(RANGE) as usize;
    let Allowed { posts: allowed, ranges } = allowed;
    let mut sweep =
        Sweep { segment, allowed, docs, every, sums: [0; (WIDE * RANGE) as usize], rest: Vec::new() };
    match &ranges {
        Some(ranges) if every => {
            for &range in ranges {
                sweep.span(&mut lists, range as usize, range as usize + 1, sink);
            }
            return;
        }
        None if every => {
            while let Some(next) = lists.next() {
                let range = (next / RANGE) as usize;
                sweep.span(&mut lists, range, (range + WIDE as usize).min(number), sink);
            }
            return;
        }
        _ => {}
    }
    let mut sums = vec![0; number];
    lists.add_bounds(&mut sums);
    if let Some(ranges) = &ranges {
        let mut with_allowed = vec![0; number];
        for &range in ranges {
            with_allowed[range as usize] = sums[range as usize];
        }
        sums = with_allowed;
    }
    let head = sink.head();
    if head > 0 && 4 * head < sums.len() {
        let mut order: Vec<(Units, u32)> =
            sums.iter().zip(0..).filter(|(sum, _)| **sum > 0).map(|(sum, range)| (*sum, range)).collect();
        if head < order.len() {
            order.select_nth_unstable_by(head, |a, b| b.cmp(a));
            order.truncate(head);
        }
        order.sort_unstable_by_key(|(_, range)| *range);
        for (bound, range) in order {
            if sink.wants(bound, segment.columns.least[range as usize]) {
                sweep.span(&mut lists, range as usize, range as usize + 1, sink);
            }
            sums[range as usize] = 0;
        }
        lists.rewind();
    }
    for (range, &bound) in sums.iter().enumerate() {
        if bound > 0 && sink.wants(bound, segment.columns.least[range]) {
            sweep.span(&mut lists, range, range + 1, sink);
        }
    }
}

struct Sweep<'a> {
    segment: &'a Segment,
    allowed: Option<&'a RoaringBitmap>,
    docs: u32,
    every: bool,
    sums: [Units; (WIDE * RANGE) as usize],
    rest: Vec<Units>,
}

impl Sweep<'_> {
    /// Adds up the ranges from `first` to before `end`.
    fn span(&mut self, lists: &mut Lists<'_>, first: usize, end: usize, sink: &mut impl Sink) {
        let start = first as DocId * RANGE;
        let length = (end as DocId * RANGE).min(self.docs) - start;
        let sums = &mut self.sums[..length as usize];
        let least = self.segment.columns.least[first..end].iter().copied().min().unwrap_or(0);
        let mut best = 0;
        for list in &mut lists.short {
            best = list.add(start, sums).max(best);
        }
        if self.every {
            for list in &mut lists.long {
                list.add(start, sums);
            }
            self.give(start, length, least, sink);
            return;
        }
        // What the lists from each on can add at most.
        self.rest.clear();
        let mut rest = 0;
        for list in lists.long.iter().rev() {
            rest += list.most(first, end);
            self.rest.push(rest);
        }
        for (list, &rest) in lists.long.iter_mut().zip(self.rest.iter().rev()) {
            if !sink.wants(best + rest, least) {
                sums.fill(0);
                return;
            }
            best = list.add(start, sums).max(best);
        }
        if !sink.wants(best, least) {
            sums.fill(0);
            return;
        }
        self.give(start, length, least, sink);
    }

    /// Gives what was added up from document `start` on to `sink`, and clears it.
    fn give(&mut self, start: DocId, length: u32, least: u32, sink: &mut impl Sink) {
        for (sum, doc) in self.sums[..length as usize].iter_mut().zip(start..) {
            let units = std::mem::take(sum);
            if units == 0 || !(self.every || sink.wants(units, least)) {
                continue;
            }
            let ordinal = self.segment.columns.of(doc);
            if self.segment.is_alive(doc) && self.allowed.is_none_or(|allowed| allowed.contains(ordinal)) {
                sink.take(units, ordinal);
            }
        }
    }
}
