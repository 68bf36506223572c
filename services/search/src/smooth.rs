//! Posts that say nearly the same should score nearly the same: the fused score of a candidate is drawn towards those
//! of its nearest neighbours among the candidates.
//!
//! ```text
//! neighbours(d) = sum over the K nearest n of d of  w(d, n) · fused(n),   w(d, n) ~ e^(10 · cosine(d, n)), sum 1
//! smoothed(d)   = (1 - share) · fused(d) + share · neighbours(d)
//! ```
//!
//! Source: score regularization, F. Diaz 2005, doi:10.1145/1099554.1099722; here one step of it, over the candidates of
//! one query alone.

use crate::fuse::{Candidates, Fused};

/// Best candidates that are smoothed; those behind them keep their scores.
pub const WINDOW: usize = 100;
/// Neighbours of a candidate.
pub const NEIGHBOURS: usize = 5;
/// How much more a nearer neighbour weighs: `e^(SHARPNESS · difference of the cosines)`.
const SHARPNESS: f32 = 10.0;

/// Smooths the first [`WINDOW`] candidates and sorts them all anew, ties by ordinal. `vectors` belong to the first of
/// them, have unit length, and are absent where they are pending: such a post keeps its score and is no neighbour.
pub fn smooth(candidates: &mut Candidates, vectors: &[Option<Vec<f32>>], share: f32) {
    if share <= 0.0 {
        return;
    }
    let fused: Vec<f32> = candidates.list.iter().map(|candidate| candidate.fused.0).collect();
    let neighbours = means(&fused, &vectors[..vectors.len().min(WINDOW)]);
    candidates.shares.lexical *= 1.0 - share;
    candidates.shares.vector *= 1.0 - share;
    candidates.shares.neighbours = share;
    for (at, candidate) in candidates.list.iter_mut().enumerate() {
        let own = candidate.fused.0;
        let mean = neighbours.get(at).copied().flatten().unwrap_or(own);
        candidate.scaled.neighbours = Some(mean);
        candidate.fused = Fused((1.0 - share) * own + share * mean);
    }
    candidates.list.sort_by(|a, b| b.fused.0.total_cmp(&a.fused.0).then(a.ordinal.cmp(&b.ordinal)));
}

/// Weighted mean score of the nearest neighbours of each vector; none for a pending vector or where there is no other.
fn means(scores: &[f32], vectors: &[Option<Vec<f32>>]) -> Vec<Option<f32>> {
    let present: Vec<(usize, &[f32])> =
        vectors.iter().enumerate().filter_map(|(at, vector)| Some((at, vector.as_deref()?))).collect();
    let n = present.len();
    let mut cosines = vec![0.0f32; n * n];
    for (a, (_, one)) in present.iter().enumerate() {
        for (b, (_, other)) in present.iter().enumerate().skip(a + 1) {
            let cosine = dot(one, other);
            cosines[a * n + b] = cosine;
            cosines[b * n + a] = cosine;
        }
    }
    let mut found = vec![None; vectors.len()];
    let mut others: Vec<usize> = Vec::with_capacity(n);
    for (a, (at, _)) in present.iter().enumerate() {
        let row = &cosines[a * n..(a + 1) * n];
        others.clear();
        others.extend((0..n).filter(|other| *other != a));
        others.sort_by(|x, y| row[*y].total_cmp(&row[*x]).then(x.cmp(y)));
        others.truncate(NEIGHBOURS);
        let Some(nearest) = others.first() else { continue };
        let (mut sum, mut weights) = (0.0f32, 0.0f32);
        for other in &others {
            let weight = (SHARPNESS * (row[*other] - row[*nearest])).exp();
            sum += weight * scores[present[*other].0];
            weights += weight;
        }
        found[*at] = Some(sum / weights);
    }
    found
}

/// In eight sums, which the compiler keeps in one register.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a.zip(b) {
        for (sum, (x, y)) in sums.iter_mut().zip(x.iter().zip(y)) {
            *sum += x * y;
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use bowerbird_posts::Ordinal;
    use proptest::prelude::*;

    use super::*;
    use crate::fuse::{Candidate, Shares};

    fn unit(x: f32, y: f32) -> Vec<f32> {
        let length = x.hypot(y);
        vec![x / length, y / length]
    }

    fn candidates(fused: &[f32]) -> Candidates {
        let list = (0..)
            .zip(fused)
            .map(|(n, fused)| Candidate { fused: Fused(*fused), ..Candidate::new(Ordinal(n)) });
        Candidates {
            list: list.collect(),
            shares: Shares { lexical: 0.3, vector: 0.7, coverage: 1.0, neighbours: 0.0 },
        }
    }

    #[test]
    fn a_post_among_good_ones_rises_over_a_loner() {
        let mut list = candidates(&[0.9, 0.88, 0.5, 0.49]);
        let vectors = [unit(1.0, 0.0), unit(1.0, 0.01), unit(0.0, 1.0), unit(1.0, 0.02)].map(Some);
        smooth(&mut list, &vectors, 0.3);
        let order: Vec<u32> = list.list.iter().map(|c| c.ordinal.0).collect();
        assert_eq!(order, [0, 1, 3, 2]);
        assert!((list.shares.lexical - 0.21).abs() < 1e-6 && (list.shares.vector - 0.49).abs() < 1e-6);
    }

    #[test]
    fn nearer_neighbours_weigh_more() {
        // Neighbours of the first: cosine .8 with score .5, cosine 0 with score 0.
        let vectors = [unit(1.0, 0.0), unit(0.8, 0.6), unit(0.0, 1.0)].map(Some);
        let mean = means(&[1.0, 0.5, 0.0], &vectors)[0].expect("two neighbours");
        let weight = (-8.0f32).exp();
        assert!((mean - 0.5 / (1.0 + weight)).abs() < 1e-6, "{mean}");
    }

    #[test]
    fn a_pending_vector_keeps_its_score() {
        let mut list = candidates(&[0.9, 0.8, 0.7]);
        smooth(&mut list, &[Some(unit(1.0, 0.0)), None, Some(unit(0.0, 1.0))], 0.5);
        let pending = list.list.iter().find(|c| c.ordinal.0 == 1).expect("still there");
        assert!((pending.fused.0 - 0.8).abs() < 1e-6);
        let mut alone = candidates(&[0.9]);
        smooth(&mut alone, &[Some(unit(1.0, 0.0))], 0.5);
        assert!((alone.list[0].fused.0 - 0.9).abs() < 1e-6);
        smooth(&mut candidates(&[]), &[], 0.5);
    }

    proptest! {
        #[test]
        fn scores_stay_between_the_lowest_and_the_highest(
            rows in proptest::collection::vec((0.0f32..1.0, proptest::option::of((-1.0f32..1.0, 0.1f32..1.0))), 1..130),
            share in 0.0f32..=1.0,
        ) {
            let mut fused: Vec<f32> = rows.iter().map(|(fused, _)| *fused).collect();
            fused.sort_by(|a, b| b.total_cmp(a));
            let vectors: Vec<_> = rows.iter().map(|(_, v)| v.map(|(x, y)| unit(x, y))).collect();
            let mut list = candidates(&fused);
            smooth(&mut list, &vectors, share);
            let (high, low) = (fused[0] + 1e-5, fused[fused.len() - 1] - 1e-5);
            prop_assert!(list.list.iter().all(|c| (low..=high).contains(&c.fused.0)));
            prop_assert!(list.list.is_sorted_by(|a, b| a.fused.0 >= b.fused.0));
        }

        #[test]
        fn a_dot_product_in_parts_is_one(a in proptest::collection::vec(-1.0f32..1.0, 0..40)) {
            let plain: f32 = a.iter().map(|x| x * x).sum();
            prop_assert!((dot(&a, &a) - plain).abs() < 1e-4);
        }
    }
}
