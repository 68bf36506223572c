//! Two ranked lists to one.
//!
//! The default is the min-max-normalised weighted sum with back-fill: every candidate is scored by both legs, never
//! 0 from the leg that missed it, so that a strong lexical hit is not sunk by a dense list that was cut off above it.

use bowerbird_lexical::Bm25;
use bowerbird_posts::Ordinal;
use bowerbird_vector::Cosine;

/// How two legs become one score, 0 to 1. `weight` is the share of the dense leg, 0 to 1.
///
/// Every mode scales what each leg says of a candidate to 0..1 and adds the two by their shares; the modes differ in
/// the scale. See [`Scaled`] and [`Shares`].
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
    /// `(1 - weight) · (k + 1) / (k + rank) + weight · (k + 1) / (k + rank)`, ranks from 1 within the pool.
    ///
    /// With `weight` .5 the order is that of the published formula; the factor makes 1 of being first in both legs. A
    /// post that a leg missed ranks by its back-filled score, behind those that the leg found; one without any word
    /// of the query has no lexical rank and gets 0 from that leg.
    ///
    /// Source: doi:10.1145/1571941.1572114 (k = 60).
    Rrf {
        /// Flattens the influence of the top ranks; dimensionless, above 0.
        k: f32,
        /// Share of the dense leg, 0 to 1.
        weight: f32,
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

/// A fused score, 0 to 1; comparable within one query only.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Fused(pub f32);

/// What each leg says of a candidate, scaled to 0..1; `None` where it says nothing.
///
/// A post whose vector is pending stands in the dense leg where its words put it, not at the bottom.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scaled {
    /// The lexical leg.
    pub lexical: Option<f32>,
    /// The dense leg.
    pub vector: Option<f32>,
    /// Mean of the nearest candidates, see [`crate::smooth`]; none when nothing was smoothed.
    pub neighbours: Option<f32>,
}

/// What the legs weigh: `fused = lexical · scaled.lexical + vector · scaled.vector + neighbours · scaled.neighbours`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shares {
    /// Of the lexical leg, after coverage.
    pub lexical: f32,
    /// Of the dense leg.
    pub vector: f32,
    /// How far the best post covers the query, 0 to 1; see [`Fusion::Normalized`].
    pub coverage: f32,
    /// Of the nearest candidates; 0 when nothing was smoothed.
    pub neighbours: f32,
}

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
    /// The scores on the scale of fusion.
    pub scaled: Scaled,
    /// The joint score.
    pub fused: Fused,
}

impl Candidate {
    /// A post of which nothing is known yet.
    pub fn new(ordinal: Ordinal) -> Self {
        Self {
            ordinal,
            lexical: None,
            vector: None,
            lexical_rank: None,
            vector_rank: None,
            scaled: Scaled::default(),
            fused: Fused(0.0),
        }
    }
}

/// Candidates, best first, ties by ordinal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidates {
    /// The candidates.
    pub list: Vec<Candidate>,
    /// What the legs weighed.
    pub shares: Shares,
}

/// Scores and orders `pool`, whose leg scores and ranks are filled in.
///
/// `ideal` is what BM25 gives a post with every word of the query; 0 when unknown.
///
/// The result does not depend on the order of `pool`. Non-finite scores cannot occur: both legs' types are finite
/// by construction and a constant list normalises to 1.
pub fn fuse(mut pool: Vec<Candidate>, fusion: Fusion, ideal: f32) -> Candidates {
    let coverage = coverage(&pool, ideal);
    let (lexical_share, vector_share) = match fusion {
        Fusion::Normalized { weight } => ((1.0 - weight) * coverage, weight),
        Fusion::Dbsf { weight } | Fusion::Rrf { weight, .. } => (1.0 - weight, weight),
    };
    let ran = (pool.iter().any(|c| c.lexical.is_some()), pool.iter().any(|c| c.vector.is_some()));
    let shares = match ran {
        (true, true) => Shares { lexical: lexical_share, vector: vector_share, coverage, neighbours: 0.0 },
        (lexical, vector) => {
            Shares { lexical: f32::from(lexical), vector: f32::from(vector), coverage, neighbours: 0.0 }
        }
    };
    let lexical: Vec<Option<f32>> = pool.iter().map(|c| c.lexical.map(Bm25::value)).collect();
    let vector: Vec<Option<f32>> = pool.iter().map(|c| c.vector.map(Cosine::get)).collect();
    let (lexical, vector) = match fusion {
        Fusion::Normalized { .. } => (scaled(&lexical, min_max), scaled(&vector, min_max)),
        Fusion::Dbsf { .. } => (scaled(&lexical, three_sigma), scaled(&vector, three_sigma)),
        Fusion::Rrf { k, .. } => {
            let matching: Vec<Option<f32>> = lexical.iter().map(|s| s.filter(|s| *s > 0.0)).collect();
            (by_rank(&pool, &matching, k), by_rank(&pool, &vector, k))
        }
    };
    for ((candidate, lexical), vector) in pool.iter_mut().zip(lexical).zip(vector) {
        let vector = vector.or(if ran.1 { Some(lexical.unwrap_or(0.0)) } else { None });
        candidate.scaled = Scaled { lexical, vector, neighbours: None };
        candidate.fused = Fused(match ran {
            (true, true) => shares.lexical * lexical.unwrap_or(0.0) + shares.vector * vector.unwrap_or(0.0),
            _ => lexical.or(vector).unwrap_or(0.0),
        });
    }
    pool.sort_by(|a, b| b.fused.0.total_cmp(&a.fused.0).then(a.ordinal.cmp(&b.ordinal)));
    Candidates { list: pool, shares }
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

/// The scores that are there, scaled to their common bounds.
fn scaled(scores: &[Option<f32>], bounds: Bounds) -> Vec<Option<f32>> {
    let present: Vec<f32> = scores.iter().flatten().copied().collect();
    if present.is_empty() {
        return vec![None; scores.len()];
    }
    let bounds = bounds(&present);
    scores.iter().map(|score| score.map(|score| scale(score, bounds))).collect()
}

/// `(k + 1) / (k + rank)` by rank in the pool, equal scores by ordinal.
fn by_rank(pool: &[Candidate], scores: &[Option<f32>], k: f32) -> Vec<Option<f32>> {
    let mut ranked: Vec<(f32, Ordinal, usize)> = pool
        .iter()
        .zip(scores)
        .enumerate()
        .filter_map(|(at, (candidate, score))| score.map(|score| (score, candidate.ordinal, at)))
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut scaled = vec![None; pool.len()];
    for (rank, (_, _, at)) in (1u32..).zip(ranked) {
        scaled[at] = Some((k + 1.0) / (k + rank as f32));
    }
    scaled
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

/// The parts of a blended score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Blended {
    /// Cross-encoder logit.
    pub raw_logit: f32,
    /// The fused score, scaled over the head.
    pub fused: f32,
    /// The logit, scaled over the head.
    pub logit: f32,
    /// Share of the logit.
    pub share: f32,
    /// `(1 - share) · fused + share · logit`.
    pub score: f32,
}

/// Scores of a reranked head: `(1 - share) · minmax(fused) + share · minmax(logit)`, in the order of the input.
///
/// Both sides are scaled over the head alone. Logits that lie within `LOGIT_SPAN` of each other keep that span: a
/// cross-encoder that finds nothing relevant answers with noise at its floor, which must not become a full ranking.
/// `fused` and `logits` have one entry per candidate of the head.
pub fn blend(fused: &[Fused], logits: &[f32], share: f32) -> Vec<Blended> {
    let fused: Vec<f32> = fused.iter().map(|f| f.0).collect();
    let fused_bounds = min_max(&fused);
    let (low, high) = min_max(logits);
    let logit_bounds = (low, high.max(low + LOGIT_SPAN));
    let blended = |(fused, raw_logit): (&f32, &f32)| {
        let (fused, logit) = (scale(*fused, fused_bounds), scale(*raw_logit, logit_bounds));
        let score = (1.0 - share) * fused + share * logit;
        Blended { raw_logit: *raw_logit, fused, logit, share, score }
    };
    fused.iter().zip(logits).map(blended).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(ordinal: u32, lexical: f32, vector: Option<f32>) -> Candidate {
        Candidate {
            lexical: Some(Bm25::checked(lexical).expect("finite")),
            vector: vector.map(|v| Cosine::checked(v).expect("finite")),
            lexical_rank: (lexical > 0.0).then_some(ordinal + 1),
            vector_rank: vector.map(|_| 100 - ordinal),
            ..Candidate::new(Ordinal(ordinal))
        }
    }

    fn order(candidates: &Candidates) -> Vec<u32> {
        candidates.list.iter().map(|c| c.ordinal.0).collect()
    }

    #[test]
    fn normalised_sum_weighs_the_dense_leg() {
        let pool =
            vec![candidate(0, 10.0, Some(0.2)), candidate(1, 0.0, Some(0.9)), candidate(2, 5.0, Some(0.9))];
        let fused = fuse(pool, Fusion::Normalized { weight: 0.7 }, 0.0);
        assert_eq!(order(&fused), [2, 1, 0]);
        let scores: Vec<f32> = fused.list.iter().map(|c| c.fused.0).collect();
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
        let mut pool =
            vec![candidate(0, 1.0, Some(0.5)), candidate(1, 2.0, Some(0.2)), candidate(2, 0.0, Some(0.9))];
        pool[2].lexical_rank = None;
        let fused = fuse(pool.clone(), Fusion::Rrf { k: 60.0, weight: 0.5 }, 0.0);
        assert_eq!(order(&fused), [1, 0, 2], "0: ranks 2 and 2; 1: ranks 1 and 3; 2: no word, rank 1");
        let expected =
            [61.0 / 61.0 + 61.0 / 63.0, 61.0 / 62.0 + 61.0 / 62.0, 61.0 / 61.0].map(|sum| sum / 2.0);
        for (candidate, expected) in fused.list.iter().zip(expected) {
            assert!((candidate.fused.0 - expected).abs() < 1e-6, "{candidate:?}");
        }
        let dense = fuse(pool, Fusion::Rrf { k: 60.0, weight: 1.0 }, 0.0);
        assert_eq!(order(&dense), [2, 0, 1]);
    }

    #[test]
    fn blending_scales_each_side_over_the_head() {
        let scores = blend(&[Fused(0.9), Fused(0.8), Fused(0.5)], &[-10.0, 9.0, -10.0], 0.3);
        for (score, expected) in scores.iter().map(|b| b.score).zip([0.7, 0.825, 0.0]) {
            assert!((score - expected).abs() < 1e-6, "{scores:?}");
        }
    }

    #[test]
    fn logits_at_the_floor_do_not_rank() {
        let scores = blend(&[Fused(0.9), Fused(0.8)], &[-11.2, -11.0], 0.3);
        for (score, expected) in scores.iter().map(|b| b.score).zip([0.7, 0.01]) {
            assert!((score - expected).abs() < 1e-5, "{scores:?}");
        }
    }

    const MODES: [Fusion; 3] = [
        Fusion::Normalized { weight: 0.7 },
        Fusion::Rrf { k: 60.0, weight: 0.4 },
        Fusion::Dbsf { weight: 0.5 },
    ];

    fn pool(legs: &[(f32, Option<f32>)]) -> Vec<Candidate> {
        legs.iter().enumerate().map(|(n, (l, v))| candidate(n as u32, *l, *v)).collect()
    }

    proptest! {
        #[test]
        fn fusion_does_not_depend_on_the_order_of_the_lists(
            legs in proptest::collection::vec((0.0f32..30.0, proptest::option::of(-1.0f32..1.0)), 1..40),
            seed in any::<u64>(),
        ) {
            let pool = pool(&legs);
            let mut shuffled = pool.clone();
            shuffled.sort_by_key(|c| (u64::from(c.ordinal.0) + 1).wrapping_mul(seed | 1));
            for fusion in MODES {
                let (one, other) = (fuse(pool.clone(), fusion, 12.0), fuse(shuffled.clone(), fusion, 12.0));
                prop_assert_eq!(order(&one), order(&other));
                prop_assert!(one.list.iter().all(|c| (0.0..=1.0 + 1e-6).contains(&c.fused.0)));
            }
        }

        #[test]
        fn the_parts_add_up_and_a_leg_that_ran_says_something(
            legs in proptest::collection::vec((0.0f32..30.0, proptest::option::of(-1.0f32..1.0)), 1..40),
        ) {
            for fusion in MODES {
                let fused = fuse(pool(&legs), fusion, 12.0);
                for c in &fused.list {
                    let sum = fused.shares.lexical * c.scaled.lexical.unwrap_or(0.0)
                        + fused.shares.vector * c.scaled.vector.unwrap_or(0.0);
                    prop_assert!((sum - c.fused.0).abs() < 1e-6, "{c:?} {:?}", fused.shares);
                    // A back-filled score (one without a rank in its list) counts like a found one.
                    let matches = c.lexical.is_some_and(|s| s.value() > 0.0);
                    prop_assert!(!matches || c.scaled.lexical.is_some());
                    prop_assert!(c.vector.is_none() || c.scaled.vector.is_some());
                }
            }
        }

        #[test]
        fn a_higher_score_in_a_leg_never_costs_a_place(
            legs in proptest::collection::vec((0.0f32..30.0, -1.0f32..1.0), 2..30),
            which in any::<proptest::sample::Index>(),
            lexical_more in 0.0f32..10.0,
            vector_more in 0.0f32..1.0,
        ) {
            let legs: Vec<_> = legs.into_iter().map(|(l, v)| (l, Some(v))).collect();
            let at = which.index(legs.len());
            let mut raised = legs.clone();
            raised[at].0 += lexical_more;
            raised[at].1 = raised[at].1.map(|v| v + vector_more);
            let fusion = Fusion::Normalized { weight: 0.7 };
            let (before, after) = (fuse(pool(&legs), fusion, 40.0), fuse(pool(&raised), fusion, 40.0));
            let score = |fused: &Candidates, n: u32| {
                fused.list.iter().find(|c| c.ordinal.0 == n).map_or(0.0, |c| c.fused.0)
            };
            for other in (0..legs.len() as u32).filter(|other| *other != at as u32) {
                let ahead = score(&before, at as u32) - score(&before, other);
                let now = score(&after, at as u32) - score(&after, other);
                prop_assert!(ahead < 0.0 || now >= -1e-5, "{other}: {ahead} then {now}");
            }
        }
    }
}
