//! Ranking measures and quantiles.

use std::collections::BTreeMap;

use serde::Serialize;

/// Measures of one ranking, or their mean over queries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quality {
    /// Normalised discounted cumulative gain over the first 10, linear gain, discount `log2(rank + 1)`.
    ///
    /// Source: doi:10.1145/582415.582418, as in trec_eval.
    #[serde(rename = "ndcg@10")]
    pub ndcg_10: f64,
    /// Reciprocal rank of the first relevant document within the first 10.
    #[serde(rename = "mrr@10")]
    pub mrr_10: f64,
    /// Share of relevant documents within the first 100.
    #[serde(rename = "recall@100")]
    pub recall_100: f64,
}

/// What the judges said of a query.
pub struct Judged<'a> {
    grades: &'a BTreeMap<String, f64>,
    /// The discounted gain of the best order there is, over ten places.
    pub ideal: f64,
    relevant: usize,
}

/// Reads `grades`, of which one at least is 1 or more.
pub fn judged(grades: &BTreeMap<String, f64>) -> Judged<'_> {
    let mut ideal: Vec<f64> = grades.values().copied().filter(|grade| *grade >= 1.0).collect();
    ideal.sort_by(|a, b| b.total_cmp(a));
    Judged { grades, relevant: ideal.len(), ideal: Judged::discounted(ideal.into_iter()) }
}

impl Judged<'_> {
    /// Gain of a document. Grades under 1 are not relevant.
    pub fn gain(&self, id: &str) -> f64 {
        self.grades.get(id).copied().filter(|grade| *grade >= 1.0).unwrap_or(0.0)
    }

    /// Sum of the first ten gains, each divided by `log2(rank + 1)`.
    pub fn discounted(gains: impl Iterator<Item = f64>) -> f64 {
        gains.take(10).zip(2..).map(|(gain, place)| gain / f64::from(place).log2()).sum()
    }
}

/// Measures of `ranking` (document ids, best first). Grades under 1 are not relevant; `grades` has one at least 1.
pub fn quality(ranking: &[String], grades: &BTreeMap<String, f64>) -> Quality {
    let judged = judged(grades);
    let gains: Vec<f64> = ranking.iter().take(100).map(|id| judged.gain(id)).collect();
    let first = gains.iter().take(10).position(|gain| *gain > 0.0);
    let found = gains.iter().filter(|gain| **gain > 0.0).count();
    Quality {
        ndcg_10: Judged::discounted(gains.into_iter()) / judged.ideal,
        mrr_10: first.map_or(0.0, |at| 1.0 / (at + 1) as f64),
        recall_100: found as f64 / judged.relevant as f64,
    }
}

/// Mean of each measure; zeros for no query.
pub fn mean(all: &[Quality]) -> Quality {
    let n = all.len().max(1) as f64;
    Quality {
        ndcg_10: all.iter().map(|q| q.ndcg_10).sum::<f64>() / n,
        mrr_10: all.iter().map(|q| q.mrr_10).sum::<f64>() / n,
        recall_100: all.iter().map(|q| q.recall_100).sum::<f64>() / n,
    }
}

/// Latency quantiles in milliseconds, nearest rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
}

/// Quantiles of `ms`; zeros for none.
pub fn latency(mut ms: Vec<f64>) -> Latency {
    ms.sort_by(f64::total_cmp);
    let at = |q: f64| {
        let rank = (q * ms.len() as f64).ceil().max(1.0) as usize;
        ms.get(rank - 1).copied().unwrap_or(0.0)
    };
    Latency { p50: at(0.50), p95: at(0.95), p99: at(0.99) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_agree_with_the_formula() {
        let grades = BTreeMap::from([("a".to_owned(), 1.0), ("b".to_owned(), 2.0), ("c".to_owned(), 0.0)]);
        let ranking: Vec<String> = ["c", "a", "x", "b"].map(str::to_owned).to_vec();
        let quality = quality(&ranking, &grades);
        let expected = (1.0 / 3f64.log2() + 2.0 / 5f64.log2()) / (2.0 + 1.0 / 3f64.log2());
        assert!((quality.ndcg_10 - expected).abs() < 1e-12);
        assert!((quality.mrr_10 - 0.5).abs() < 1e-12);
        assert!((quality.recall_100 - 1.0).abs() < 1e-12);
    }

    #[test]
    fn quantiles_are_nearest_ranks() {
        let quantiles = latency((1..=100).map(f64::from).collect());
        assert_eq!(quantiles, Latency { p50: 50.0, p95: 95.0, p99: 99.0 });
        assert_eq!(latency(vec![7.0]), Latency { p50: 7.0, p95: 7.0, p99: 7.0 });
        assert_eq!(latency(Vec::new()), Latency::default());
    }
}
