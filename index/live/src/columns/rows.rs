//! Rows by ordinal, shared with readers without copying: a change copies one chunk and the way to it.
//!
//! Ordinals only grow, and most die in the end, so a chunk holds the rows that are there packed together, and a chunk
//! or page without rows is not kept: memory follows the live posts, not the ordinals given out.

use std::sync::Arc;

use super::Row;

/// Ordinals of a chunk; one word of bits says which of them have a row.
const CHUNK: usize = 64;
/// Chunks of a page.
const PAGE: usize = 256;

#[derive(Clone, Debug, Default)]
struct Chunk {
    present: u64,
    /// The rows of the bits that are set, in their order.
    rows: Vec<Row>,
}

impl Chunk {
    /// Whether there is a row at `at`, and where it is, or would be, among the rows.
    fn find(&self, at: usize) -> (bool, usize) {
        let bit = 1u64 << at;
        (self.present & bit != 0, (self.present & (bit - 1)).count_ones() as usize)
    }
}

#[derive(Clone, Debug)]
struct Page {
    chunks: Vec<Option<Arc<Chunk>>>,
    /// Rows of the whole page.
    rows: usize,
}

/// Rows by ordinal; an ordinal may have none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    pages: Arc<Vec<Option<Arc<Page>>>>,
}

/// Page, chunk within it, row within that.
fn split(ordinal: u32) -> (usize, usize, usize) {
    let ordinal = ordinal as usize;
    (ordinal / (CHUNK * PAGE), ordinal / CHUNK % PAGE, ordinal % CHUNK)
}

impl Rows {
    pub fn get(&self, ordinal: u32) -> Option<&Row> {
        let (page, chunk, at) = split(ordinal);
        let chunk = self.pages.get(page)?.as_ref()?.chunks.get(chunk)?.as_ref()?;
        let (found, place) = chunk.find(at);
        if found { chunk.rows.get(place) } else { None }
    }

    pub fn set(&mut self, ordinal: u32, row: Row) {
        let (page, chunk, at) = split(ordinal);
        let pages = Arc::make_mut(&mut self.pages);
        if page >= pages.len() {
            pages.resize(page + 1, None);
        }
        let page = pages[page].get_or_insert_with(|| Arc::new(Page { chunks: Vec::new(), rows: 0 }));
        let page = Arc::make_mut(page);
        if chunk >= page.chunks.len() {
            page.chunks.resize(chunk + 1, None);
        }
        let chunk = Arc::make_mut(page.chunks[chunk].get_or_insert_default());
        match chunk.find(at) {
            (true, place) => chunk.rows[place] = row,
            (false, place) => {
                chunk.rows.insert(place, row);
                chunk.present |= 1 << at;
                page.rows += 1;
            }
        }
    }

    /// Changes a row in place; nothing happens where there is none.
    pub fn change(&mut self, ordinal: u32, change: impl FnOnce(&mut Row)) {
        let (_, _, at) = split(ordinal);
        if let Some(chunk) = self.chunk_with(ordinal) {
            let (_, place) = chunk.find(at);
            change(&mut chunk.rows[place]);
        }
    }

    /// Takes a row out.
    pub fn remove(&mut self, ordinal: u32) -> Option<Row> {
        let (page_at, chunk_at, at) = split(ordinal);
        let chunk = self.chunk_with(ordinal)?;
        let (_, place) = chunk.find(at);
        let row = chunk.rows.remove(place);
        chunk.present &= !(1 << at);
        chunk.rows.shrink_to(chunk.rows.len() * 2);
        let empty = chunk.present == 0;
        let pages = Arc::make_mut(&mut self.pages);
        if let Some(page) = pages[page_at].as_mut().map(Arc::make_mut) {
            page.rows -= 1;
            if empty {
                page.chunks[chunk_at] = None;
            }
            if page.rows == 0 {
                pages[page_at] = None;
            }
        }
        Some(row)
    }

    /// The chunk of an ordinal that has a row, to be changed.
    fn chunk_with(&mut self, ordinal: u32) -> Option<&mut Chunk> {
        self.get(ordinal)?;
        let (page, chunk, _) = split(ordinal);
        let page = Arc::make_mut(&mut self.pages).get_mut(page)?.as_mut()?;
        Arc::make_mut(page).chunks.get_mut(chunk)?.as_mut().map(Arc::make_mut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowerbird_posts::{Counts, PostId};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn row(likes: u64) -> Row {
        Row {
            id: PostId::new("a").expect("valid"),
            created_at: 0,
            counts: Counts { likes, ..Counts::default() },
            author: 0,
            lang: 0,
            has_links: false,
            is_reply: false,
        }
    }

    proptest! {
        #[test]
        fn rows_do_what_a_map_does(steps in prop::collection::vec((0u32..5, 0u32..40_000, 0u64..9), 1..200)) {
            let (mut rows, mut map) = (Rows::default(), BTreeMap::new());
            for (what, ordinal, likes) in steps {
                // Crowd some of them together.
                let ordinal = if ordinal % 2 == 0 { ordinal % 130 } else { ordinal };
                match what {
                    0..3 => {
                        rows.set(ordinal, row(likes));
                        map.insert(ordinal, likes);
                    }
                    3 => prop_assert_eq!(rows.remove(ordinal).map(|row| row.counts.likes), map.remove(&ordinal)),
                    _ => {
                        rows.change(ordinal, |row| row.counts.likes += 1);
                        map.entry(ordinal).and_modify(|likes| *likes += 1);
                    }
                }
            }
            let earlier = rows.clone();
            for ordinal in (0..130).chain(map.keys().copied()) {
                prop_assert_eq!(rows.get(ordinal).map(|row| row.counts.likes), map.get(&ordinal).copied());
            }
            for ordinal in map.keys() {
                rows.remove(*ordinal);
            }
            prop_assert!(rows.pages.iter().all(Option::is_none), "nothing is kept of what is gone");
            for (ordinal, likes) in &map {
                prop_assert_eq!(earlier.get(*ordinal).map(|row| row.counts.likes), Some(*likes), "a clone keeps it");
            }
        }
    }
}
