//! Weighted logistic regression with a ridge, for few features or many.

use anyhow::bail;

/// A row to learn from.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample<const N: usize> {
    /// What is known.
    pub features: [f64; N],
    /// What was right.
    pub positive: bool,
    /// How much it matters, 0 or more.
    pub weight: f64,
}

/// `log-odds = intercept + weights · features`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logistic<const N: usize> {
    /// Log-odds where every feature is 0.
    pub intercept: f64,
    /// Log-odds for one unit of each feature.
    pub weights: [f64; N],
}

/// Newton steps at most; with a ridge a dozen are enough.
const STEPS: usize = 50;

/// Maximises the weighted log-likelihood less `ridge / 2 · |weights|²`, features in standard deviations and weights
/// in units of their mean. `ridge` must be above 0: then there is exactly one maximum, whatever the samples.
///
/// The intercept is not held back. Without a sample, or with samples of one kind, it is bounded by half a sample of
/// each kind.
///
/// Source: iteratively reweighted least squares, doi:10.2307/2344614.
pub fn logistic<const N: usize>(samples: &[Sample<N>], ridge: f64) -> anyhow::Result<Logistic<N>> {
    let total: f64 = samples.iter().map(|sample| sample.weight).sum();
    if total <= 0.0 {
        return Ok(Logistic { intercept: 0.0, weights: [0.0; N] });
    }
    let unit = samples.len() as f64 / total;
    let mut mean = [0.0; N];
    let mut deviation = [0.0; N];
    for at in 0..N {
        let of = |sample: &Sample<N>| sample.features[at];
        mean[at] = samples.iter().map(|s| s.weight * of(s)).sum::<f64>() / total;
        let square = samples.iter().map(|s| s.weight * (of(s) - mean[at]).powi(2)).sum::<f64>() / total;
        // A feature that is always the same says nothing; its weight stays 0.
        deviation[at] = if square > 1e-12 { square.sqrt() } else { f64::INFINITY };
    }
    let row = |sample: &Sample<N>| -> Vec<f64> {
        let scaled = (0..N).map(|at| (sample.features[at] - mean[at]) / deviation[at]);
        std::iter::once(1.0).chain(scaled).collect()
    };
    let rows: Vec<Vec<f64>> = samples.iter().map(row).collect();
    let mut found = vec![0.0; N + 1];
    for _ in 0..STEPS {
        let mut gradient = vec![0.0; N + 1];
        let mut hessian = vec![vec![0.0; N + 1]; N + 1];
        let mut add = |row: &[f64], target: f64, weight: f64| {
            let log_odds: f64 = found.iter().zip(row).map(|(weight, value)| weight * value).sum();
            let p = 1.0 / (1.0 + (-log_odds).exp());
            for (at, value) in row.iter().enumerate() {
                gradient[at] += weight * (target - p) * value;
                // The half below the diagonal; the other is its mirror.
                let scaled = weight * p * (1.0 - p) * value;
                hessian[at][..=at].iter_mut().zip(row).for_each(|(sum, second)| *sum += scaled * second);
            }
        };
        for (row, sample) in rows.iter().zip(samples) {
            add(row, f64::from(u8::from(sample.positive)), sample.weight * unit);
        }
        let mut neutral = vec![0.0; N + 1];
        neutral[0] = 1.0;
        add(&neutral, 0.5, 1.0);
        for at in 1..=N {
            gradient[at] -= ridge * found[at];
            hessian[at][at] += ridge;
            let (above, from) = hessian.split_at_mut(at);
            above.iter_mut().zip(&from[0]).for_each(|(row, below)| row[at] = *below);
        }
        let step = solve(hessian, gradient)?;
        // A full Newton step can overshoot where the fit is nearly certain; the log-odds move by 2 at most.
        let largest = step.iter().copied().map(f64::abs).fold(0.0, f64::max);
        let share = (2.0 / largest).min(1.0);
        found.iter_mut().zip(&step).for_each(|(value, step)| *value += share * step);
        if largest < 1e-9 {
            break;
        }
    }
    let mut weights = [0.0; N];
    let mut intercept = found[0];
    for at in 0..N {
        weights[at] = found[at + 1] / deviation[at];
        intercept -= weights[at] * mean[at];
    }
    if !intercept.is_finite() || weights.iter().any(|weight| !weight.is_finite()) {
        bail!(
            "the regression has no finite solution: a feature of the judged queries is not a finite number"
        );
    }
    Ok(Logistic { intercept, weights })
}

/// Solves `matrix · x = right` by elimination with row exchange.
fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> anyhow::Result<Vec<f64>> {
    let n = right.len();
    for at in 0..n {
        let pivot =
            (at..n).max_by(|a, b| matrix[*a][at].abs().total_cmp(&matrix[*b][at].abs())).unwrap_or(at);
        matrix.swap(at, pivot);
        right.swap(at, pivot);
        if matrix[at][at].abs() < 1e-12 {
            bail!("the regression has no single solution: the judged queries are too few or too alike");
        }
        for below in at + 1..n {
            let factor = matrix[below][at] / matrix[at][at];
            let (above, rest) = matrix.split_at_mut(below);
            rest[0].iter_mut().zip(&above[at]).for_each(|(value, pivot)| *value -= factor * pivot);
            right[below] -= factor * right[at];
        }
    }
    let mut x = vec![0.0; n];
    for at in (0..n).rev() {
        let known: f64 = (at + 1..n).map(|column| matrix[at][column] * x[column]).sum();
        x[at] = (right[at] - known) / matrix[at][at];
    }
    Ok(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl<const N: usize> Logistic<N> {
        fn probability(&self, features: &[f64; N]) -> f64 {
            let sum: f64 = self.weights.iter().zip(features).map(|(weight, value)| weight * value).sum();
            1.0 / (1.0 + (-(self.intercept + sum)).exp())
        }
    }

    fn sample(features: [f64; 2], positive: bool, weight: f64) -> Sample<2> {
        Sample { features, positive, weight }
    }

    #[test]
    fn a_rule_is_found_again() {
        // log-odds = 1 - 0.05 · x on a grid, as expected shares instead of draws.
        let mut samples = Vec::new();
        for x in 0..60 {
            let x = f64::from(x);
            let p = 1.0 / (1.0 + (-(1.0 - 0.05 * x)).exp());
            samples.push(sample([x, 7.0], true, p));
            samples.push(sample([x, 7.0], false, 1.0 - p));
        }
        let found = logistic(&samples, 1e-6).expect("a solution");
        assert!((found.weights[0] + 0.05).abs() < 2e-3, "{found:?}");
        assert!((found.intercept - 1.0).abs() < 4e-2, "{found:?}");
        assert!(found.weights[1].abs() < 1e-12, "a constant says nothing: {found:?}");
        assert!((found.probability(&[20.0, 7.0]) - 0.5).abs() < 1e-2);
    }

    #[test]
    fn certain_or_no_samples_stay_finite() {
        let certain: Vec<_> = (0..40).map(|n| sample([f64::from(n), 1.0], n >= 20, 1.0)).collect();
        let found = logistic(&certain, 1.0).expect("a solution");
        assert!(found.probability(&[39.0, 1.0]) > 0.9 && found.probability(&[0.0, 1.0]) < 0.1, "{found:?}");
        let alike: Vec<_> = (0..5).map(|_| sample([1.0, 2.0], true, 0.3)).collect();
        let found = logistic(&alike, 1.0).expect("a solution");
        assert!(found.probability(&[1.0, 2.0]) > 0.8 && found.intercept < 5.0, "{found:?}");
        let none = logistic::<2>(&[], 1.0).expect("a solution");
        assert!((none.probability(&[3.0, 4.0]) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn a_heavier_sample_weighs_more() {
        let mixed = [sample([0.0, 0.0], true, 3.0), sample([0.0, 0.0], false, 1.0)];
        assert!(logistic(&mixed, 1.0).expect("a solution").probability(&[0.0, 0.0]) > 0.6);
    }
}
