//! Vectors that were made elsewhere, from part files.

use std::path::Path;

use bowerbird_live::{Building, Live};
use bowerbird_parts::{PartReader, part_files};
use bowerbird_posts::Ordinal;

use crate::ReindexError;

/// Vectors inserted together.
const BATCH: usize = 1024;

/// Gives `building` the vectors of the parts in `dir`, for posts that are there with the same text; the number taken.
/// `go_on` is asked between rows. Every part must be of the space of `building`; a row that is refused is an error,
/// because whoever made the part can make it again.
pub(crate) fn add_given(
    live: &Live,
    building: &Building,
    dir: &Path,
    go_on: &dyn Fn() -> bool,
) -> Result<u64, ReindexError> {
    let mut missing = building.without_vector();
    let (mut taken, mut batch) = (0, Vec::with_capacity(BATCH));
    for file in part_files(dir)? {
        for row in PartReader::open_vectors(&file, building.vectors().space())? {
            let row = row?;
            let Some(vector) = row.vector else { continue };
            let Some(stored) = live.store().get(&row.post.id).map_err(bowerbird_live::LiveError::from)?
            else {
                continue;
            };
            // Written again since the parts were made: the vector is of the old text.
            if stored.post.text != row.post.text || !missing.remove(stored.ordinal.0) {
                continue;
            }
            batch.push((stored.ordinal, vector));
            if batch.len() == BATCH {
                taken += insert(building, &mut batch)?;
            }
            if !go_on() {
                return Err(ReindexError::Stopped);
            }
        }
    }
    Ok(taken + insert(building, &mut batch)?)
}

fn insert(building: &Building, batch: &mut Vec<(Ordinal, Vec<f32>)>) -> Result<u64, ReindexError> {
    let points: Vec<(Ordinal, &[f32])> =
        batch.iter().map(|(ordinal, vector)| (*ordinal, vector.as_slice())).collect();
    building.add_given(&points)?;
    let taken = batch.len() as u64;
    batch.clear();
    Ok(taken)
}
