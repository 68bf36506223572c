//! Posts that hold every rare word of the query: an order number, a user's odd name, a drug.
//!
//! Vectors know nothing of such words, and where the rest of the query is common talk, posts that are only near in
//! meaning can push the one that was asked for far down. It is raised to a place where it is seen.

use bowerbird_lexical::{BagQuery, LexicalError, LexicalSearcher, TextClause};
use bowerbird_posts::Ordinal;
use roaring::RoaringBitmap;

use crate::list::Place;

/// Most posts of the whole index that hold a rare word.
pub const RARE: u64 = 3;
/// Words of a query that are looked at.
const MAX_WORDS: usize = 16;

/// The rare words of a query and the posts that hold them all, at most [`RARE`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exact {
    /// The words as typed.
    pub words: Vec<String>,
    /// The posts, ascending.
    pub holders: Vec<Ordinal>,
}

impl Exact {
    /// Looks at the plain words of `bag`. Phrases, tags and mentions restrict a search anyway: every hit holds them.
    ///
    /// A word is rare when 1 to [`RARE`] posts of the index hold it in any inflection; words that no post holds are
    /// left out of account.
    pub fn find(
        lexical: &LexicalSearcher,
        bag: &BagQuery,
        allowed: &RoaringBitmap,
    ) -> Result<Self, LexicalError> {
        let mut exact = Self::default();
        let mut holders: Option<RoaringBitmap> = None;
        let words = bag.terms.iter().flat_map(|term| term.split_whitespace());
        for word in words.take(MAX_WORDS) {
            if !may_be_rare(lexical, word)? {
                continue;
            }
            if let Some(posts) = holders_of(lexical, word)? {
                holders = Some(holders.map_or_else(|| posts.clone(), |holders| holders & &posts));
                exact.words.push(word.to_owned());
            }
        }
        let holders = holders.unwrap_or_default() & allowed;
        exact.holders = holders.into_iter().map(Ordinal).collect();
        Ok(exact)
    }

    /// Raises the holders to place `rank` (from 1) at the latest, in the order they have; 0 raises none.
    ///
    /// A raised post takes the score of the post it is put before, so that scores still fall along the list.
    pub fn raise(&self, places: &mut Vec<Place>, rank: usize) {
        let Some(target) = rank.checked_sub(1).filter(|target| *target < places.len()) else { return };
        let score = places[target].scores.r#final;
        let mut to = target;
        for from in target + 1..places.len() {
            if self.holders.contains(&places[from].ordinal) {
                let mut place = places.remove(from);
                let before = place.scores.r#final;
                place.scores.r#final = score;
                place.note(|parts| parts.raised_from = Some(before));
                places.insert(to, place);
                to += 1;
            }
        }
    }
}

/// A cheap look at the dictionary: whether the word, or one of the parts it is indexed as (`XJ-4471`), is in few posts.
///
/// The shortest entry that starts like a word stands for it. What is let through is counted exactly afterwards; a
/// common word, whose postings are long, stops here.
fn may_be_rare(lexical: &LexicalSearcher, word: &str) -> Result<bool, LexicalError> {
    let parts = word.split(|c: char| !c.is_alphanumeric()).filter(|part| part.len() < word.len());
    for part in std::iter::once(word).chain(parts) {
        // Two letters are never a name that one post alone holds, and many words start with them.
        if part.chars().count() < 3 {
            continue;
        }
        let expansion = lexical.expand_prefix(part)?;
        let shortest = expansion.words.iter().min_by_key(|(word, _)| word.len());
        if shortest.is_some_and(|(_, posts)| *posts <= RARE) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The posts that hold `word`, of one that is indexed in parts all parts, when they are at most [`RARE`].
fn holders_of(lexical: &LexicalSearcher, word: &str) -> Result<Option<RoaringBitmap>, LexicalError> {
    let holders = lexical.matching(&TextClause::Word(word.to_owned()))?;
    Ok((1..=RARE).contains(&holders.len()).then_some(holders))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::Scores;

    #[test]
    fn holders_are_raised_and_scores_still_fall() {
        let place =
            |n: u32| Place::new(Ordinal(n), Scores { r#final: 1.0 - n as f32 / 10.0, ..Scores::default() });
        let exact =
            Exact { words: vec!["xj-4471".into()], holders: vec![Ordinal(1), Ordinal(5), Ordinal(7)] };
        let run = |rank: usize| {
            let mut places: Vec<Place> = (0..8).map(place).collect();
            exact.raise(&mut places, rank);
            assert!(places.is_sorted_by(|a, b| a.scores.r#final >= b.scores.r#final));
            places.iter().map(|p| p.ordinal.0).collect::<Vec<_>>()
        };
        assert_eq!(run(3), [0, 1, 5, 7, 2, 3, 4, 6]);
        assert_eq!(run(1), [1, 5, 7, 0, 2, 3, 4, 6]);
        assert_eq!(run(0), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(run(9), [0, 1, 2, 3, 4, 5, 6, 7]);
    }
}
