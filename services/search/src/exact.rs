//! Posts that hold every rare word of the query: an order number, a user's odd name, a drug.
//!
//! Vectors know nothing of such words, and where the rest of the query is common talk, posts that are only near in
//! meaning can push the one that was asked for far down. It is raised to a place where it is seen. Which posts they
//! are is said by [`LexicalHits::rare`](bowerbird_lexical::LexicalHits::rare).

use bowerbird_posts::Ordinal;

use crate::list::Place;

/// Raises the `holders` to place `rank` (from 1) at the latest, in the order they have; 0 raises none.
///
/// A raised post takes the score of the post it is put before, so that scores still fall along the list.
pub(crate) fn raise(places: &mut Vec<Place>, holders: &[Ordinal], rank: usize) {
    let Some(target) = rank.checked_sub(1).filter(|target| *target < places.len()) else { return };
    let score = places[target].scores.r#final;
    let mut to = target;
    for from in target + 1..places.len() {
        if holders.contains(&places[from].ordinal) {
            let mut place = places.remove(from);
            let before = place.scores.r#final;
            place.scores.r#final = score;
            place.note(|parts| parts.raised_from = Some(before));
            places.insert(to, place);
            to += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::Scores;

    #[test]
    fn holders_are_raised_and_scores_still_fall() {
        let place =
            |n: u32| Place::new(Ordinal(n), Scores { r#final: 1.0 - n as f32 / 10.0, ..Scores::default() });
        let holders = [Ordinal(1), Ordinal(5), Ordinal(7)];
        let run = |rank: usize| {
            let mut places: Vec<Place> = (0..8).map(place).collect();
            raise(&mut places, &holders, rank);
            assert!(places.is_sorted_by(|a, b| a.scores.r#final >= b.scores.r#final));
            places.iter().map(|p| p.ordinal.0).collect::<Vec<_>>()
        };
        assert_eq!(run(3), [0, 1, 5, 7, 2, 3, 4, 6]);
        assert_eq!(run(1), [1, 5, 7, 0, 2, 3, 4, 6]);
        assert_eq!(run(0), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(run(9), [0, 1, 2, 3, 4, 5, 6, 7]);
    }
}
