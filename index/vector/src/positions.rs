//! From point id to the slot of its latest record: pages of a dense array, shared with readers without copying.

use std::sync::Arc;

const PAGE: usize = 4096;
const ABSENT: u32 = u32::MAX;

type Page = [u32; PAGE];

/// Point id to slot; cloning shares the pages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Positions {
    pages: Arc<Vec<Option<Arc<Page>>>>,
}

impl Positions {
    pub fn get(&self, id: u32) -> Option<usize> {
        let page = self.pages.get(id as usize / PAGE)?.as_ref()?;
        let slot = page[id as usize % PAGE];
        (slot != ABSENT).then_some(slot as usize)
    }

    /// Sets the slot of `id`; true when it had one before. `slot` is below `u32::MAX`.
    pub fn set(&mut self, id: u32, slot: usize) -> bool {
        debug_assert!(slot < ABSENT as usize);
        let pages = Arc::make_mut(&mut self.pages);
        let at = id as usize / PAGE;
        if at >= pages.len() {
            pages.resize(at + 1, None);
        }
        let page = pages[at].get_or_insert_with(|| Arc::new([ABSENT; PAGE]));
        let entry = &mut Arc::make_mut(page)[id as usize % PAGE];
        std::mem::replace(entry, slot as u32) != ABSENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_slot_counts_and_a_clone_keeps_the_earlier_one() {
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
