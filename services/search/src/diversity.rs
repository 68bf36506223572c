//! Maximal marginal relevance: the next hit is relevant, and unlike those before it.
//!
//! ```text
//! next = argmax over d of  (1 - diversity) · relevance(d)  -  diversity · max over s chosen of cosine(d, s)
//! ```
//!
//! `relevance` is the final score scaled over the window to 0..1. A post whose vector is still pending is taken to be
//! as similar to every other as two posts of the window are on average, so that it neither gains nor loses by it.
//!
//! Source: J. Carbonell and J. Goldstein, doi:10.1145/290941.291025, where `1 - diversity` is called lambda.

/// Hits that are ordered anew; those behind them keep their places.
pub const WINDOW: usize = 100;

/// The order in which to take the first [`WINDOW`] hits: positions in `relevance`.
///
/// `relevance` and `vectors` have an entry per hit, best first; vectors have unit length. Ties go to the earlier hit;
/// with `diversity` 0 the order is that of `relevance`, which is not sorted here.
pub fn mmr(relevance: &[f32], vectors: &[Option<Vec<f32>>], diversity: f32) -> Vec<usize> {
    let window = relevance.len().min(WINDOW);
    let mut order: Vec<usize> = (0..window).collect();
    if diversity > 0.0 {
        let (low, high) = relevance[..window]
            .iter()
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), r| (low.min(*r), high.max(*r)));
        let scaled = |at: usize| if high > low { (relevance[at] - low) / (high - low) } else { 1.0 };
        let average = average_cosine(&vectors[..window]);
        let mut nearest = vec![0.0f32; window];
        for place in 0..window {
            let worth = |at: usize| (1.0 - diversity) * scaled(at) - diversity * nearest[at];
            let mut best = place;
            for candidate in place + 1..window {
                let (a, b) = (order[candidate], order[best]);
                if worth(a).total_cmp(&worth(b)).then(b.cmp(&a)).is_gt() {
                    best = candidate;
                }
            }
            let chosen = order.remove(best);
            order.insert(place, chosen);
            for at in &order[place + 1..] {
                let cosine = match (&vectors[*at], &vectors[chosen]) {
                    (Some(a), Some(b)) => dot(a, b),
                    _ => average,
                };
                nearest[*at] = if place == 0 { cosine } else { nearest[*at].max(cosine) };
            }
        }
    }
    order.extend(window..relevance.len());
    order
}

/// Mean cosine over pairs of unit vectors, `(|sum|² - n) / (n (n - 1))`; 0 for fewer than two.
fn average_cosine(vectors: &[Option<Vec<f32>>]) -> f32 {
    let mut sum: Vec<f32> = Vec::new();
    let mut n = 0.0f32;
    for vector in vectors.iter().flatten() {
        sum.resize(vector.len(), 0.0);
        sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x);
        n += 1.0;
    }
    if n < 2.0 { 0.0 } else { (dot(&sum, &sum) - n) / (n * (n - 1.0)) }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unit(x: f32, y: f32) -> Vec<f32> {
        let length = x.hypot(y);
        vec![x / length, y / length]
    }

    #[test]
    fn a_second_subject_comes_before_more_of_the_first() {
        let vectors = [unit(1.0, 0.0), unit(1.0, 0.01), unit(1.0, 0.02), unit(0.0, 1.0)].map(Some);
        let relevance = [1.0, 0.95, 0.9, 0.8];
        assert_eq!(mmr(&relevance, &vectors, 0.0), [0, 1, 2, 3]);
        assert_eq!(mmr(&relevance, &vectors, 0.5), [0, 3, 1, 2]);
    }

    #[test]
    fn a_pending_vector_neither_gains_nor_loses() {
        let vectors = [Some(unit(1.0, 0.0)), None, Some(unit(1.0, 0.1)), Some(unit(0.0, 1.0))];
        let order = mmr(&[1.0, 0.9, 0.89, 0.6], &vectors, 0.3);
        assert_eq!(order[..2], [0, 1]);
    }

    proptest! {
        #[test]
        fn every_hit_stays_and_zero_changes_nothing(
            hits in proptest::collection::vec((0.0f32..1.0, proptest::option::of((-1.0f32..1.0, 0.1f32..1.0))), 0..150),
            diversity in 0.0f32..=1.0,
        ) {
            let relevance: Vec<f32> = hits.iter().map(|(r, _)| *r).collect();
            let vectors: Vec<_> = hits.iter().map(|(_, v)| v.map(|(x, y)| unit(x, y))).collect();
            let same: Vec<usize> = (0..hits.len()).collect();
            prop_assert_eq!(&mmr(&relevance, &vectors, 0.0), &same);
            let mut order = mmr(&relevance, &vectors, diversity);
            order.sort_unstable();
            prop_assert_eq!(order, same);
        }
    }
}
