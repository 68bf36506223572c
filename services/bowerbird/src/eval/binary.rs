//! Measures of a probability against yes and no.

use serde::{Deserialize, Serialize};

/// A score and whether the answer is yes.
pub type Judged = (f64, bool);

/// How good a threshold is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AtThreshold {
    /// Share of yes among what is at or above the threshold; absent when nothing is.
    pub precision: Option<f64>,
    /// Share of the yes that is at or above the threshold.
    pub recall: f64,
    /// Share of all that is at or above the threshold.
    pub coverage: f64,
}

/// Area under the ROC curve: the chance that a yes scores above a no, a tie counting half. `None` without both.
///
/// Source: doi:10.1148/radiology.143.1.7063747 (equal to the Mann-Whitney statistic).
pub fn auroc(judged: &[Judged]) -> Option<f64> {
    let mut order: Vec<Judged> = judged.to_vec();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let yes = order.iter().filter(|(_, yes)| *yes).count() as f64;
    let no = order.len() as f64 - yes;
    if yes == 0.0 || no == 0.0 {
        return None;
    }
    let (mut below, mut wins) = (0.0, 0.0);
    for tied in order.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
        let tied_yes = tied.iter().filter(|(_, yes)| *yes).count() as f64;
        let tied_no = tied.len() as f64 - tied_yes;
        wins += tied_yes * (below + tied_no / 2.0);
        below += tied_no;
    }
    Some(wins / (yes * no))
}

/// Precision, recall and coverage of "at least `threshold`".
pub fn at_threshold(judged: &[Judged], threshold: f64) -> AtThreshold {
    let taken = judged.iter().filter(|(score, _)| *score >= threshold).count() as f64;
    let right = judged.iter().filter(|(score, yes)| *score >= threshold && *yes).count() as f64;
    let yes = judged.iter().filter(|(_, yes)| *yes).count() as f64;
    AtThreshold {
        precision: (taken > 0.0).then(|| right / taken),
        recall: if yes > 0.0 { right / yes } else { 0.0 },
        coverage: if judged.is_empty() { 0.0 } else { taken / judged.len() as f64 },
    }
}

/// A point of a risk-coverage curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RiskCoverage {
    /// Share of the pairs that are taken, best score first.
    pub coverage: f64,
    /// Share of yes among them.
    pub precision: f64,
    /// Least score among them.
    pub score: f64,
}

/// Precision when only the best tenth, two tenths and so on are taken; ties are taken in the order given.
///
/// Source: <https://jmlr.org/papers/v11/el-yaniv10a.html>.
pub fn risk_coverage(judged: &[Judged]) -> Vec<RiskCoverage> {
    let mut order: Vec<Judged> = judged.to_vec();
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    let point = |tenths: usize| {
        let taken = order.get(..(order.len() * tenths).div_ceil(10)).filter(|taken| !taken.is_empty())?;
        let right = taken.iter().filter(|(_, yes)| *yes).count();
        Some(RiskCoverage {
            coverage: tenths as f64 / 10.0,
            precision: right as f64 / taken.len() as f64,
            score: taken.last()?.0,
        })
    };
    (1..=10).filter_map(point).collect()
}

/// Mean squared difference of probability and outcome; 0 is best, 0 for nothing.
///
/// Source: doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2.
pub fn brier(judged: &[Judged]) -> f64 {
    let off = |(p, yes): &Judged| (p - f64::from(u8::from(*yes))).powi(2);
    judged.iter().map(off).sum::<f64>() / judged.len().max(1) as f64
}

/// Mean distance of the probabilities in each of ten equal bands from the share of yes in it, weighted by size.
///
/// Source: doi:10.1609/aaai.v29i1.9602.
pub fn calibration_error(judged: &[Judged]) -> f64 {
    let mut bands = [(0.0, 0.0, 0.0); 10];
    for (p, yes) in judged {
        let band = &mut bands[((p * 10.0) as usize).min(9)];
        *band = (band.0 + 1.0, band.1 + p, band.2 + f64::from(u8::from(*yes)));
    }
    let off = bands.iter().map(|(_, said, were)| (said - were).abs()).sum::<f64>();
    off / judged.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn auroc_counts_ordered_pairs() {
        // Pairs (yes, no): .9 beats both, .5 beats .1 and ties with .5: 3.5 of 4.
        let judged = [(0.9, true), (0.5, true), (0.5, false), (0.1, false)];
        assert!(auroc(&judged).is_some_and(|a| near(a, 3.5 / 4.0)));
        assert_eq!(auroc(&[(0.9, true)]), None);
        assert_eq!(auroc(&[]), None);
    }

    #[test]
    fn a_threshold_takes_what_reaches_it() {
        let judged = [(0.9, true), (0.8, false), (0.4, true), (0.1, false)];
        let at = at_threshold(&judged, 0.8);
        assert_eq!(at.precision, Some(0.5));
        assert!(near(at.recall, 0.5) && near(at.coverage, 0.5));
        assert_eq!(at_threshold(&judged, 0.95).precision, None);
    }

    #[test]
    fn the_curve_ends_at_the_base_rate() {
        let judged: Vec<Judged> = (0..20).map(|i| (f64::from(i) / 20.0, i >= 10)).collect();
        let curve = risk_coverage(&judged);
        assert_eq!(curve.len(), 10);
        assert!(near(curve[4].precision, 1.0) && near(curve[9].precision, 0.5));
        assert!(risk_coverage(&[]).is_empty());
    }

    #[test]
    fn what_is_calibrated_is_near_zero() {
        let judged: Vec<Judged> = (0..100).map(|i| (0.25, i % 4 == 0)).collect();
        assert!(near(calibration_error(&judged), 0.0));
        assert!(near(brier(&judged), 0.25 * 0.75));
    }
}
