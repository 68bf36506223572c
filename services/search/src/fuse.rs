//! Two ranked lists to one.
//!
//! The default is the min-max-normalised weighted sum with back-fill: every candidate is scored by both legs, never
//! 0 from the leg that missed it, so that a strong lexical hit is not sunk by a dense list that was cut off above it.

use bowerbird_lexical::Bm25;
use bowerbird_posts::Ordinal;
use bowerbird_vector::Cosine;

/// How two legs become one score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fusion {
    /// `(1 - weight) · coverage · minmax(bm25) + weight · minmax(cosine)`, each over the pool of candidates.
    ///
    /// `coverage` is 1 when the best BM25 score reaches [`FULL_COVERAGE`] of that of a post with every word of the
    /// query, and falls to 0 with it: where no post holds more than a common word of the query, that word must not
    /// outvote the meaning.
    Normalized {
        /// Share of the dense leg, 0 to 1.
        weight: f32,
    },
    /// `1 / (k + rank)` summed over the legs that found the post; ranks count from 1.
    ///
    /// Source: doi:10.1145/1571941.1572114 (k = 60).
    Rrf {
        /// Flattens the influence of the top ranks; dimensionless.
        k: f32,
    },
    /// Each leg scaled by its mean ± 3 standard deviations to 0..1, then the weighted sum.
    ///
    /// Source: distribution-based score fusion, M. Mazzeschi 2023.
    Dbsf {
        /// Share of the dense leg, 0 to 1.
        weight: f32,
    },
}

impl Default for Fusion {
    /// Dense weight .7: the best of all fusions on five judged sets, chosen on the others each time.
    fn default() -> Self {
        Self::Normalized { weight: 0.7 }
    }
}

/// A fused score, 0 to 1 for [`Fusion::Normalized`]; comparable within one query only.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Fused(pub f32);

/// A post some leg found, with what each leg says of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The post.
    pub ordinal: Ordinal,
    /// BM25, 0 when no word matches; `None` when the lexical leg did not run.
    pub lexical: Option<Bm25>,
    /// Cosine; `None` when the dense leg did not run or the post has no vector yet.
    pub vector: Option<Cosine>,
    /// Rank in the lexical list, from 1, when it was there.
    pub lexical_rank: Option<u32>,
    /// Rank in the dense list, from 1, when it was there.
    pub vector_rank: Option<u32>,
    /// The joint score.
    pub fused: Fused,
}

/// Candidates, best first, ties by ordinal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidates(pub Vec<Candidate>);

/// Scores and orders `pool`, whose leg scores and ranks are filled in.
///
/// `ideal` is what BM25 gives a post with every word of the query; 0 when unknown.
///
/// The result does not depend on the order of `pool`. Non-finite scores cannot occur: both legs' types are finite
/// by construction and a constant list normalises to 1.
pub fn fuse(mut pool: Vec<Candidate>, fusion: Fusion, ideal: f32) -> Candidates {
    match fusion {
        Fusion::Normalized { weight } => {
            let share = (1.0 - weight) * coverage(&pool, ideal);
            weighted(&mut pool, share, weight, min_max);
        }
        Fusion::Dbsf { weight } => weighted(&mut pool, 1.0 - weight, weight, three_sigma),
        Fusion::Rrf { k } => {
            for candidate in &mut pool {
                let part = |rank: Option<u32>| rank.map_or(0.0, |rank| 1.0 / (k + rank as f32));
                candidate.fused = Fused(part(candidate.lexical_rank) + part(candidate.vector_rank));
            }
        }
    }
    pool.sort_by(|a, b| b.fused.0.total_cmp(&a.fused.0).then(a.ordinal.cmp(&b.ordinal)));
    Candidates(pool)
}

/// `(low, high)` of a leg, to which its scores are scaled.
type Bounds = fn(&[f32]) -> (f32, f32);

/// Share of the score of a post with every word from which on the lexical leg has its full weight.
pub const FULL_COVERAGE: f32 = 0.6;

/// How far the best BM25 score reaches towards [`FULL_COVERAGE`] of `ideal`, 0 to 1; 1 when `ideal` is unknown.
fn coverage(pool: &[Candidate], ideal: f32) -> f32 {
    let best = pool.iter().filter_map(|c| c.lexical).map(Bm25::value).fold(0.0, f32::max);
    if ideal > 0.0 { (best / (FULL_COVERAGE * ideal)).min(1.0) } else { 1.0 }
}

fn weighted(pool: &mut [Candidate], lexical_share: f32, vector_share: f32, bounds: Bounds) {
    let of = |scores: &[Option<f32>]| {
        let present: Vec<f32> = scores.iter().flatten().copied().collect();
        (!present.is_empty()).then(|| bounds(&present))
    };
    let lexical: Vec<Option<f32>> = pool.iter().map(|c| c.lexical.map(Bm25::value)).collect();
    let vector: Vec<Option<f32>> = pool.iter().map(|c| c.vector.map(Cosine::get)).collect();
    let (lexical_bounds, vector_bounds) = (of(&lexical), of(&vector));
    for ((candidate, lexical), vector) in pool.iter_mut().zip(lexical).zip(vector) {
        let scaled = |score: Option<f32>, bounds: Option<(f32, f32)>| {
            bounds.map(|bounds| score.map(|score| scale(score, bounds)))
        };
        candidate.fused = Fused(match (scaled(lexical, lexical_bounds), scaled(vector, vector_bounds)) {
            (Some(lexical), Some(vector)) => {
                // A post whose vector is still pending stands where its words put it, not at the bottom.
                let lexical = lexical.unwrap_or(0.0);
                lexical_share * lexical + vector_share * vector.unwrap_or(lexical)
            }
            (Some(only), None) | (None, Some(only)) => only.unwrap_or(0.0),
            (None, None) => 0.0,
        });
    }
}

/// Maps `bounds` onto 0..1 and cuts off beyond; equal bounds map to 1.
fn scale(score: f32, (low, high): (f32, f32)) -> f32 {
    if high > low { ((score - low) / (high - low)).clamp(0.0, 1.0) } else { 1.0 }
}

fn min_max(scores: &[f32]) -> (f32, f32) {
    scores.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), s| (low.min(*s), high.max(*s)))
}

fn three_sigma(scores: &[f32]) -> (f32, f32) {
    let mean = scores.iter().sum::<f32>() / scores.len() as f32;
    let deviation = (scores.iter().map(|s| (s - mean).powi(2)).sum::<f32>() / scores.len() as f32).sqrt();
    (mean - 3.0 * deviation, mean + 3.0 * deviation)
}

/// Least difference between the logits of a head that is stretched over the whole scale.
const LOGIT_SPAN: f32 = 6.0;

/// Scores of a reranked head: `(1 - share) · minmax(fused) + share · minmax(logit)`, in the order of the input.
///
/// Both sides are scaled over the head alone. Logits that lie within `LOGIT_SPAN` of each other keep that span: a
/// cross-encoder that finds nothing relevant answers with noise at its floor, which must not become a full ranking. `fused` and `logits` have one entry per candidate of the head.
pub fn blend(fused: &[Fused], logits: &[f32], share: f32) -> Vec<f32> {
    let fused: Vec<f32> = fused.iter().map(|f| f.0).collect();
    let fused_bounds = min_max(&fused);
    let (low, high) = min_max(logits);
    let logit_bounds = (low, high.max(low + LOGIT_SPAN));
    fused
        .iter()
        .zip(logits)
        .map(|(f, l)| (1.0 - share) * scale(*f, fused_bounds) + share * scale(*l, logit_bounds))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(ordinal: u32, lexical: f32, vector: Option<f32>) -> Candidate {
        Candidate {
            ordinal: Ordinal(ordinal),
            lexical: Some(Bm25::checked(lexical).expect("finite")),
            vector: vector.map(|v| Cosine::checked(v).expect("finite")),
            lexical_rank: (lexical > 0.0).then_some(ordinal + 1),
            vector_rank: vector.map(|_| 100 - ordinal),
            fused: Fused(0.0),
        }
    }

    fn order(candidates: &Candidates) -> Vec<u32> {
        candidates.0.iter().map(|c| c.ordinal.0).collect()
    }

    #[test]
    fn normalised_sum_weighs_the_dense_leg() {
        let pool =
            vec![candidate(0, 10.0, Some(0.2)), candidate(1, 0.0, Some(0.9)), candidate(2, 5.0, Some(0.9))];
        let fused = fuse(pool, Fusion::Normalized { weight: 0.7 }, 0.0);
        assert_eq!(order(&fused), [2, 1, 0]);
        let scores: Vec<f32> = fused.0.iter().map(|c| c.fused.0).collect();
        for (score, expected) in scores.iter().zip([0.85, 0.7, 0.3]) {
            assert!((score - expected).abs() < 1e-6, "{scores:?}");
        }
    }

    #[test]
    fn a_common_word_does_not_outvote_the_meaning() {
        let pool =
            vec![candidate(0, 4.0, Some(0.6)), candidate(1, 0.0, Some(0.7)), candidate(2, 0.0, Some(0.4))];
        let weight = Fusion::Normalized { weight: 0.7 };
        assert_eq!(order(&fuse(pool.clone(), weight, 4.0)), [0, 1, 2]);
        assert_eq!(order(&fuse(pool, weight, 20.0)), [1, 0, 2]);
    }

    #[test]
    fn a_pending_vector_does_not_sink_a_post() {
        let pool = vec![candidate(0, 10.0, None), candidate(1, 2.0, Some(0.9)), candidate(2, 1.0, Some(0.1))];
        assert_eq!(order(&fuse(pool, Fusion::default(), 0.0)), [0, 1, 2]);
    }

    #[test]
    fn one_leg_alone_keeps_its_order() {
        let mut pool = vec![candidate(0, 1.0, None), candidate(1, 3.0, None), candidate(2, 3.0, None)];
        assert_eq!(order(&fuse(pool.clone(), Fusion::default(), 0.0)), [1, 2, 0]);
        for candidate in &mut pool {
            candidate.lexical = None;
            candidate.vector = Some(Cosine::checked(0.5).expect("finite"));
        }
        assert_eq!(order(&fuse(pool, Fusion::default(), 0.0)), [0, 1, 2]);
    }

    #[test]
    fn reciprocal_ranks_add_up() {
        let mut pool = vec![candidate(0, 1.0, Some(0.5)), candidate(1, 1.0, None)];
        pool[0].lexical_rank = Some(2);
        pool[0].vector_rank = Some(1);
        pool[1].lexical_rank = Some(1);
        let fused = fuse(pool, Fusion::Rrf { k: 60.0 }, 0.0);
        assert!((fused.0[0].fused.0 - (1.0 / 62.0 + 1.0 / 61.0)).abs() < 1e-7);
        assert_eq!(order(&fused), [0, 1]);
    }

    #[test]
    fn blending_scales_each_side_over_the_head() {
        let scores = blend(&[Fused(0.9), Fused(0.8), Fused(0.5)], &[-10.0, 9.0, -10.0], 0.3);
        for (score, expected) in scores.iter().zip([0.7, 0.825, 0.0]) {
            assert!((score - expected).abs() < 1e-6, "{scores:?}");
        }
    }

    #[test]
    fn logits_at_the_floor_do_not_rank() {
        let scores = blend(&[Fused(0.9), Fused(0.8)], &[-11.2, -11.0], 0.3);
        for (score, expected) in scores.iter().zip([0.7, 0.01]) {
            assert!((score - expected).abs() < 1e-5, "{scores:?}");
        }
    }

    proptest! {
        #[test]
        fn fusion_does_not_depend_on_the_order_of_the_lists(
            legs in proptest::collection::vec((0.0f32..30.0, proptest::option::of(-1.0f32..1.0)), 1..40),
            seed in any::<u64>(),
        ) {
            let pool: Vec<Candidate> =
                legs.iter().enumerate().map(|(n, (l, v))| candidate(n as u32, *l, *v)).collect();
            let mut shuffled = pool.clone();
            shuffled.sort_by_key(|c| (u64::from(c.ordinal.0) + 1).wrapping_mul(seed | 1));
            for fusion in [Fusion::default(), Fusion::Rrf { k: 60.0 }, Fusion::Dbsf { weight: 0.5 }] {
                let (one, other) = (fuse(pool.clone(), fusion, 12.0), fuse(shuffled.clone(), fusion, 12.0));
                prop_assert_eq!(order(&one), order(&other));
                prop_assert!(one.0.iter().all(|c| c.fused.0.is_finite()));
            }
        }
    }
}
