//! From point id to the place of its latest code: pages of a dense array, shared with readers without copying.

use std::sync::Arc;

const PAGE: usize = 4096;
const ABSENT: u32 = u32::MAX;

type Page = [u32; PAGE];

/// Point id to place; cloning shares the pages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Positions {
    pages: Arc<Vec<Option<Arc<Page>>>>,
}

impl Positions {
    pub fn get(&self, id: u32) -> Option<u32> {
        let page = self.pages.get(id as usize / PAGE)?.as_ref()?;
        let place = page[id as usize % PAGE];
        (place != ABSENT).then_some(place)
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        let pages = self.pages.iter().flatten().count();
        8 * self.pages.len() + 4 * PAGE * pages
    }

    /// Sets the place of `id`; true when it had one before. `place` is below `u32::MAX`.
    pub fn set(&mut self, id: u32, place: u32) -> bool {
        debug_assert!(place < ABSENT);
        let pages = Arc::make_mut(&mut self.pages);
        let at = id as usize / PAGE;
        if at >= pages.len() {
            pages.resize(at + 1, None);
        }
        let page = pages[at].get_or_insert_with(|| Arc::new([ABSENT; PAGE]));
        let entry = &mut Arc::make_mut(page)[id as usize % PAGE];
        std::mem::replace(entry, place) != ABSENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_place_counts_and_a_clone_keeps_the_earlier_one() {
        let mut positions = Positions::default();
        assert!(!positions.set(7, 1));
        assert!(!positions.set(u32::MAX, 2));
        let before = positions.clone();
        assert!(positions.set(7, 3));
        assert_eq!((before.get(7), positions.get(7)), (Some(1), Some(3)));
        assert_eq!(
            (positions.get(u32::MAX), positions.get(8), positions.get(1 << 20)),
            (Some(2), None, None)
        );
    }
}
