//! Rows by ordinal, shared with readers without copying: a change copies one chunk if a reader has it.

use std::sync::Arc;

use super::Row;

const CHUNK: usize = 256;

type Chunk = Vec<Option<Row>>;

/// Rows by ordinal; an ordinal may have none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    chunks: Arc<Vec<Arc<Chunk>>>,
}

impl Rows {
    pub fn get(&self, ordinal: u32) -> Option<&Row> {
        self.chunks.get(ordinal as usize / CHUNK)?.get(ordinal as usize % CHUNK)?.as_ref()
    }

    pub fn set(&mut self, ordinal: u32, row: Row) {
        let (chunk, at) = (ordinal as usize / CHUNK, ordinal as usize % CHUNK);
        let chunks = Arc::make_mut(&mut self.chunks);
        if chunk >= chunks.len() {
            chunks.resize_with(chunk + 1, Arc::default);
        }
        let rows = Arc::make_mut(&mut chunks[chunk]);
        if at >= rows.len() {
            rows.resize(at + 1, None);
        }
        rows[at] = Some(row);
    }

    /// Changes a row in place; nothing happens where there is none.
    pub fn change(&mut self, ordinal: u32, change: impl FnOnce(&mut Row)) {
        if self.get(ordinal).is_none() {
            return;
        }
        let chunks = Arc::make_mut(&mut self.chunks);
        if let Some(Some(row)) =
            Arc::make_mut(&mut chunks[ordinal as usize / CHUNK]).get_mut(ordinal as usize % CHUNK)
        {
            change(row);
        }
    }
}
