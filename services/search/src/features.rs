//! Freshness and engagement as features of the ranking.
//!
//! ```text
//! final      = (1 - w_r - w_e) · relevance + w_r · freshness + w_e · popularity          each 0 to 1
//! freshness  = 2 ^ (-age / half_life)                  age = max(0, now - created_at)
//! popularity = ln(1 + engagement) / ln(1 + largest engagement among the candidates)
//! engagement = likes + 2·reposts + 2·replies
//! ```
//!
//! `now` is fixed once for a list, by the request or at its start, so that its pages agree and a page can be made
//! again. A post from the future, or a clock that ran backwards, gives age 0.

use std::time::Duration;

use bowerbird_live::Columns;
use bowerbird_posts::Counts;

use crate::list::Place;

/// Freshness in the score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recency {
    /// Age at which freshness has fallen to one half; at least a second.
    pub half_life: Duration,
    /// Its share of the final score, 0 to 1.
    pub weight: f32,
}

/// What a feature gave to one post.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Feature {
    /// What was measured: age in seconds, or engagement.
    pub raw: i64,
    /// On the scale 0 to 1.
    pub value: f32,
    /// Its share of the final score.
    pub weight: f32,
}

/// Adds both features to the scores of `places` and sorts anew; equal scores keep their order.
pub fn weigh(
    places: &mut [Place],
    columns: &Columns,
    recency: Option<Recency>,
    engagement_weight: f32,
    now: i64,
) {
    let recency = recency.filter(|recency| recency.weight > 0.0);
    if recency.is_none() && engagement_weight <= 0.0 {
        return;
    }
    let most = places.iter().map(|place| engagement(columns.counts(place.ordinal))).max().unwrap_or(0);
    for place in &mut *places {
        let mut rest = 1.0;
        let mut sum = 0.0;
        if let Some(Recency { half_life, weight }) = recency {
            let age = now.saturating_sub(columns.created_at(place.ordinal)).max(0);
            let feature = Feature { raw: age, value: freshness(age, half_life), weight };
            (rest, sum) = (rest - weight, sum + weight * feature.value);
            place.note(|parts| parts.recency = Some(feature));
        }
        if engagement_weight > 0.0 {
            let raw = engagement(columns.counts(place.ordinal));
            let feature = Feature { raw, value: popularity(raw, most), weight: engagement_weight };
            (rest, sum) = (rest - engagement_weight, sum + engagement_weight * feature.value);
            place.note(|parts| parts.engagement = Some(feature));
        }
        place.scores.r#final = rest.max(0.0) * place.scores.r#final + sum;
    }
    places.sort_by(|a, b| b.scores.r#final.total_cmp(&a.scores.r#final));
}

fn freshness(age: i64, half_life: Duration) -> f32 {
    (-(age as f64) / half_life.as_secs_f64().max(1.0)).exp2() as f32
}

fn popularity(engagement: i64, most: i64) -> f32 {
    if most > 0 { ((engagement as f64).ln_1p() / (most as f64).ln_1p()) as f32 } else { 0.0 }
}

/// `likes + 2·reposts + 2·replies`: an act that others see counts twice one that they do not.
pub fn engagement(counts: Counts) -> i64 {
    let sum = counts
        .likes
        .saturating_add(counts.reposts.saturating_mul(2))
        .saturating_add(counts.replies.saturating_mul(2));
    i64::try_from(sum).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freshness_halves_and_never_passes_one() {
        let week = Duration::from_hours(7 * 24);
        let check = |age: i64, expected: f32| {
            let found = freshness(age, week);
            assert!((found - expected).abs() < 1e-6, "{age}: {found}");
        };
        check(0, 1.0);
        check(7 * 86_400, 0.5);
        check(14 * 86_400, 0.25);
        check(i64::MAX, 0.0);
    }

    #[test]
    fn popularity_is_a_share_of_the_largest() {
        assert!((popularity(9, 99) - 0.5).abs() < 1e-6);
        assert!((popularity(0, 99)).abs() < 1e-9);
        assert!((popularity(0, 0)).abs() < 1e-9);
        assert!((popularity(i64::MAX, i64::MAX) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn engagement_never_overflows() {
        let counts = Counts { likes: 1, reposts: 2, replies: 3, views: 1000 };
        assert_eq!(engagement(counts), 11);
        assert_eq!(engagement(Counts { likes: u64::MAX, reposts: u64::MAX, replies: 0, views: 0 }), i64::MAX);
    }
}
