//! Whether the post store and the two indexes of a data directory agree, and whether every file is as it was
//! written.

use std::fs;
use std::path::Path;

use bowerbird_lexical::{Checkpoint, LexicalConfig, LexicalIndex};
use bowerbird_posts::{PostStore, StoreCheck, StoreOptions};
use bowerbird_vector::{SegmentState, VectorConfig, VectorIndex};
use roaring::RoaringBitmap;

use crate::LiveError;
use crate::layout::DataDir;

/// Ordinals named in a message.
const NAMED: usize = 5;

/// A part of a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The post store.
    Posts,
    /// The lexical index.
    Lexical,
    /// The vector index.
    Vectors,
}

impl Part {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Posts => "post store",
            Self::Lexical => "lexical index",
            Self::Vectors => "vector index",
        }
    }
}

/// What helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// [`repair`](crate::repair): it is made again from the posts.
    Repair,
    /// The posts named must be written again by whoever has them.
    LoadAgain,
    /// The posts themselves are damaged: [`restore`](crate::restore) a snapshot.
    Restore,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckProblem {
    /// Where.
    pub part: Part,
    /// What, with the file or the ordinals.
    pub message: String,
    /// What helps.
    pub remedy: Remedy,
}

/// The lexical index as it was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LexicalCheck {
    /// Posts in it.
    pub posts: u64,
    /// Last transaction of the post store that is in it.
    pub sequence: u64,
    /// Dead posts that the next start takes out.
    pub stale: u64,
}

/// The vector index as it was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VectorCheck {
    /// Points in it.
    pub points: u64,
    /// Points of posts that have died; they are never found and go when the log is compacted.
    pub dead: u64,
    /// Live posts without a vector: it is made after the next start, unless the model refuses the text.
    pub pending: u64,
    /// Bytes of an unfinished write that were cut off the log; their points are among the pending.
    pub torn_bytes: u64,
    /// Points served by a graph; the others are scanned.
    pub sealed: usize,
}

/// What [`check`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Last transaction of the post store.
    pub sequence: u64,
    /// The ordinal that the next new text gets.
    pub next_ordinal: u32,
    /// Live posts.
    pub posts: u64,
    /// Posts whose records cannot be read.
    pub damaged_posts: u64,
    /// The lexical index, when it could be opened.
    pub lexical: Option<LexicalCheck>,
    /// The vector index, when it could be opened.
    pub vectors: Option<VectorCheck>,
    /// Everything that is wrong; nothing when store and indexes agree.
    pub problems: Vec<CheckProblem>,
}

impl CheckReport {
    /// Whether nothing is wrong.
    pub fn agrees(&self) -> bool {
        self.problems.is_empty()
    }

    fn note(&mut self, part: Part, remedy: Remedy, message: impl ToString) {
        self.problems.push(CheckProblem { part, message: message.to_string(), remedy });
    }
}

/// Compares the post store and the indexes of a data directory that no process has open.
///
/// Every file is read and its checksum compared. Every live post must be in the lexical index exactly once and no
/// dead one, up to the transaction the index says it has reached; what it lacks after that is added at the next start
/// and is no problem. Every live post must have a vector or is counted as pending, and no vector may belong to an
/// ordinal that was never given out. Ids and ordinals must lead to each other, and every post must have counters.
///
/// Writes nothing of its own, but opening does what opening does: it cuts the unfinished end of the vector log and
/// sets a damaged graph aside. Fails when the directory cannot be locked or is of another version.
pub fn check(root: &Path) -> Result<CheckReport, LiveError> {
    fs::metadata(root).map_err(LiveError::io("read", root))?;
    let dir = DataDir::open(root)?;
    Ok(check_open(&dir))
}

pub(crate) fn check_open(dir: &DataDir) -> CheckReport {
    let mut report = CheckReport::default();
    if !dir.posts().exists() {
        // Opening would make an empty store, and hide that the posts are gone. Without indexes there were none yet.
        if dir.lexical().exists() || dir.vector().exists() {
            report.note(Part::Posts, Remedy::Restore, format!("{} is missing", dir.posts().display()));
        }
        return report;
    }
    let store = check_posts(&dir.posts(), &mut report);
    check_lexical(&dir.lexical(), store.as_ref(), &mut report);
    check_vectors(&dir.vector(), store.as_ref(), &mut report);
    report
}

fn check_posts(dir: &Path, report: &mut CheckReport) -> Option<StoreCheck> {
    let options = StoreOptions { verify_bytes: u64::MAX, ..StoreOptions::default() };
    let checked = PostStore::open_with(dir, options).and_then(|store| store.check());
    let checked = match checked {
        Ok(checked) => checked,
        Err(error) => {
            report.note(Part::Posts, Remedy::Restore, error);
            return None;
        }
    };
    report.sequence = checked.sequence;
    report.next_ordinal = checked.next_ordinal;
    report.posts = checked.live.len();
    report.damaged_posts = checked.damaged.len();
    for problem in &checked.problems {
        report.note(Part::Posts, Remedy::LoadAgain, problem);
    }
    if checked.more_problems > 0 {
        report.note(Part::Posts, Remedy::LoadAgain, format!("and {} more", checked.more_problems));
    }
    Some(checked)
}

fn check_lexical(dir: &Path, store: Option<&StoreCheck>, report: &mut CheckReport) {
    if !dir.exists() {
        if store.is_some_and(|store| store.sequence > 0) {
            report.note(Part::Lexical, Remedy::Repair, format!("{} is missing", dir.display()));
        }
        return;
    }
    let config = LexicalConfig { verify_bytes: u64::MAX, ..LexicalConfig::default() };
    let index = match LexicalIndex::open_with(dir, config) {
        Ok(index) => index,
        Err(error) => return report.note(Part::Lexical, Remedy::Repair, error),
    };
    let checkpoint = index.checkpoint().unwrap_or(Checkpoint { next_ordinal: 0, sequence: 0 });
    let (found, repeated) = index.searcher().ordinals();
    let mut lexical = LexicalCheck { posts: found.len(), sequence: checkpoint.sequence, stale: 0 };
    if let Some(store) = store {
        let (stale, problems) = compare(store, checkpoint, &found, &repeated);
        lexical.stale = stale;
        for problem in problems {
            report.note(Part::Lexical, Remedy::Repair, problem);
        }
    }
    report.lexical = Some(lexical);
}

/// Dead posts that are still to be taken out, and what contradicts the store.
fn compare(
    store: &StoreCheck,
    checkpoint: Checkpoint,
    found: &RoaringBitmap,
    repeated: &RoaringBitmap,
) -> (u64, Vec<String>) {
    let mut problems = Vec::new();
    if checkpoint.sequence > store.sequence || checkpoint.next_ordinal > store.next_ordinal {
        problems.push(format!(
            "it has reached transaction {} and ordinal {}, the post store {} and {}",
            checkpoint.sequence, checkpoint.next_ordinal, store.sequence, store.next_ordinal
        ));
    }
    let mut expected = &store.live - &store.damaged;
    expected.remove_range(checkpoint.next_ordinal..);
    let missing = expected - found;
    if !missing.is_empty() {
        problems.push(format!("{} live posts are not in it: {}", missing.len(), named(&missing)));
    }
    if !repeated.is_empty() {
        problems.push(format!("{} posts are in it more than once: {}", repeated.len(), named(repeated)));
    }
    let mut early = found.clone();
    early.remove_range(..checkpoint.next_ordinal);
    if !early.is_empty() {
        problems.push(format!("{} posts are beyond its checkpoint: {}", early.len(), named(&early)));
    }
    let dead = found - &store.live;
    if !dead.is_empty() && checkpoint.sequence == store.sequence {
        problems.push(format!("{} dead posts are in it: {}", dead.len(), named(&dead)));
    }
    (dead.len(), problems)
}

fn check_vectors(dir: &Path, store: Option<&StoreCheck>, report: &mut CheckReport) {
    let stored = match VectorIndex::stored_space(dir) {
        Ok(stored) => stored,
        Err(error) => return report.note(Part::Vectors, Remedy::Repair, error),
    };
    let Some((space, dim)) = stored else {
        if let Some(store) = store.filter(|store| store.sequence > 0) {
            report.note(Part::Vectors, Remedy::Repair, format!("the log in {} is missing", dir.display()));
            report.vectors = Some(VectorCheck { pending: store.live.len(), ..VectorCheck::default() });
        }
        return;
    };
    let index = match VectorIndex::open(dir, &space, dim, VectorConfig::default()) {
        Ok(index) => index,
        Err(error) => return report.note(Part::Vectors, Remedy::Repair, error),
    };
    let points = index.points();
    let mut vectors =
        VectorCheck { points: points.len(), torn_bytes: index.opened().torn_bytes, ..VectorCheck::default() };
    match &index.opened().segment {
        SegmentState::Absent => {}
        SegmentState::Loaded { points } => vectors.sealed = *points,
        SegmentState::Dropped { reason } => {
            report.note(Part::Vectors, Remedy::Repair, format!("its graph was set aside: {reason}"));
        }
    }
    if let Some(store) = store {
        vectors.dead = points.difference_len(&store.live);
        vectors.pending = store.live.difference_len(&points);
        let mut foreign = points;
        foreign.remove_range(..store.next_ordinal);
        if !foreign.is_empty() {
            let message = format!(
                "{} points have ordinals that were never given out: {}",
                foreign.len(),
                named(&foreign)
            );
            report.note(Part::Vectors, Remedy::Repair, message);
        }
    }
    report.vectors = Some(vectors);
}

fn named(ordinals: &RoaringBitmap) -> String {
    let mut first: Vec<String> = ordinals.iter().take(NAMED).map(|ordinal| ordinal.to_string()).collect();
    if ordinals.len() > NAMED as u64 {
        first.push("…".into());
    }
    format!("ordinals {}", first.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_compared_up_to_where_it_says_it_is() {
        let set = |ordinals: &[u32]| ordinals.iter().copied().collect::<RoaringBitmap>();
        let store =
            StoreCheck { sequence: 9, next_ordinal: 6, live: set(&[0, 2, 4, 5]), ..StoreCheck::default() };
        let at = |sequence, next_ordinal| Checkpoint { sequence, next_ordinal };
        let check = |checkpoint, found: &[u32], repeated: &[u32]| {
            compare(&store, checkpoint, &set(found), &set(repeated))
        };
        assert_eq!(check(at(9, 6), &[0, 2, 4, 5], &[]), (0, vec![]));
        assert_eq!(check(at(7, 4), &[0, 1, 2], &[]), (1, vec![]), "1 died after the checkpoint");
        for (checkpoint, found, repeated, said) in [
            (at(9, 6), &[0u32, 2, 4][..], &[][..], "1 live posts are not in it: ordinals 5"),
            (at(9, 6), &[0, 1, 2, 4, 5], &[], "1 dead posts are in it: ordinals 1"),
            (at(9, 6), &[0, 2, 4, 5], &[2], "1 posts are in it more than once: ordinals 2"),
            (at(7, 4), &[0, 2, 5], &[], "1 posts are beyond its checkpoint: ordinals 5"),
            (
                at(10, 6),
                &[0, 2, 4, 5],
                &[],
                "it has reached transaction 10 and ordinal 6, the post store 9 and 6",
            ),
        ] {
            assert_eq!(check(checkpoint, found, repeated).1, [said]);
        }
    }
}
