//! Logistic regression over standardised features, and Platt's calibration of it.
//!
//! Two guards against learning the data instead of the matter: every set has a constant of its own while the weights
//! are fitted (sets differ in how many of their pairs are supported), which is dropped afterwards; and a weight that
//! says the opposite of what its feature means is set to 0, the most contrary first, and the rest fitted again.

use anyhow::{Context, anyhow, ensure};
use bowerbird_answer::support::{FEATURES, FORMAT, FeatureWeight, SupportModel};
use smartcore::linalg::basic::arrays::Array;
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::linear::logistic_regression::{LogisticRegression, LogisticRegressionParameters};

/// Size of the constant of a set: the larger, the less the penalty holds it back.
const SET_SIZE: f64 = 3.0;

/// A pair to learn from.
#[derive(Clone, Copy, Debug)]
pub struct Example {
    /// What the classifier reads.
    pub features: [f32; FEATURES.len()],
    /// Whether the evidence supports the claim.
    pub supported: bool,
    /// Place of its set, below the number of sets.
    pub set: usize,
}

/// Fits weights; `penalty` is multiplied with half the sum of their squares and added to the sum of log losses.
/// Calibration is left neutral (slope 1, offset 0).
pub fn fit(examples: &[Example], sets: usize, penalty: f64) -> anyhow::Result<SupportModel> {
    let mut model = standardised(examples)?;
    let labels: Vec<bool> = examples.iter().map(|e| e.supported).collect();
    let mut used: Vec<usize> = (0..FEATURES.len()).collect();
    loop {
        let row = |e: &Example| -> Vec<f64> {
            let own = used.iter().map(|at| f64::from(model.features[*at].standard(e.features[*at])));
            own.chain((0..sets).map(|set| if set == e.set { SET_SIZE } else { 0.0 })).collect()
        };
        let rows: Vec<Vec<f64>> = examples.iter().map(row).collect();
        let (weights, bias) = regress(&rows, &labels, penalty)?;
        for feature in &mut model.features {
            feature.weight = 0.0;
        }
        for (at, weight) in used.iter().zip(&weights) {
            model.features[*at].weight = *weight as f32;
        }
        model.bias = bias as f32;
        let size = |at: &usize| model.features[*at].weight.abs();
        let contrary = used.iter().copied().filter(|at| model.features[*at].contradicts());
        let Some(worst) = contrary.max_by(|a, b| size(a).total_cmp(&size(b))) else { return Ok(model) };
        used.retain(|at| *at != worst);
        ensure!(
            !used.is_empty(),
            "every weight says the opposite of what its feature means: are the labels turned round?"
        );
    }
}

/// A model with the means and scales of `examples` and no weights.
fn standardised(examples: &[Example]) -> anyhow::Result<SupportModel> {
    let both = examples.iter().any(|e| e.supported) && examples.iter().any(|e| !e.supported);
    ensure!(both, "both labels are needed to learn from");
    let n = examples.len() as f64;
    let mut features = Vec::with_capacity(FEATURES.len());
    for (at, name) in FEATURES.iter().enumerate() {
        let values = || examples.iter().map(|e| f64::from(e.features[at]));
        let mean = values().sum::<f64>() / n;
        let variance = values().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        // A feature that never varies has nothing to say.
        let scale = if variance > 1e-12 { variance.sqrt() } else { 1.0 };
        let name = (*name).to_owned();
        features.push(FeatureWeight { name, mean: mean as f32, scale: scale as f32, weight: 0.0 });
    }
    Ok(SupportModel { format: FORMAT, features, bias: 0.0, slope: 1.0, offset: 0.0 })
}

/// Slope and offset that turn raw sums of pairs the weights were not learnt from into probabilities.
pub fn platt(raw: &[(f64, bool)]) -> anyhow::Result<(f32, f32)> {
    let rows: Vec<Vec<f64>> = raw.iter().map(|(z, _)| vec![*z]).collect();
    let labels: Vec<bool> = raw.iter().map(|(_, yes)| *yes).collect();
    let (slope, offset) = regress(&rows, &labels, 0.0)?;
    let slope = slope.first().copied().context("one weight")?;
    ensure!(
        slope > 0.0,
        "the weights order pairs they were not learnt from the wrong way round: more data is needed"
    );
    Ok((slope as f32, offset as f32))
}

fn regress(rows: &[Vec<f64>], labels: &[bool], penalty: f64) -> anyhow::Result<(Vec<f64>, f64)> {
    let failed = |error: smartcore::error::Failed| anyhow!("logistic regression failed: {error}");
    let x = DenseMatrix::from_2d_vec(&rows.to_vec()).map_err(failed)?;
    let y: Vec<u32> = labels.iter().map(|yes| u32::from(*yes)).collect();
    let parameters = LogisticRegressionParameters::default().with_alpha(penalty);
    let fitted = LogisticRegression::fit(&x, &y, parameters).map_err(failed)?;
    let weights: Vec<f64> = fitted.coefficients().iterator(0).copied().collect();
    let bias = *fitted.intercept().get((0, 0));
    ensure!(
        weights.iter().chain([&bias]).all(|w| w.is_finite()),
        "logistic regression did not converge: raise the penalty"
    );
    Ok((weights, bias))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 200 examples of two sets whose label is feature `at` above 0.5, a fifth of them wrong.
    fn examples(at: usize) -> Vec<Example> {
        (0..200_u16)
            .map(|i| {
                let mut features = [0.0; FEATURES.len()];
                features[at] = f32::from(i) / 200.0;
                Example { features, supported: (i >= 100) != (i % 5 == 0), set: usize::from(i % 2) }
            })
            .collect()
    }

    #[test]
    fn the_weight_falls_on_what_matters() {
        let examples = examples(0);
        let model = fit(&examples, 2, 1.0).expect("fits").checked().expect("sound");
        assert!(model.features[0].weight > 0.5, "{:?}", model.features[0]);
        assert!(model.features[1..].iter().all(|f| f.weight.abs() < 1e-6));
        let raw: Vec<(f64, bool)> =
            examples.iter().map(|e| (f64::from(model.raw(&e.features)), e.supported)).collect();
        let (slope, offset) = platt(&raw).expect("fits");
        let model = SupportModel { slope, offset, ..model };
        let mean = examples.iter().map(|e| model.probability(&e.features)).sum::<f32>() / 200.0;
        assert!((mean - 0.5).abs() < 0.02, "half of them are supported, found {mean}");
        let (first, last) = (&examples[0].features, &examples[199].features);
        assert!(model.probability(first) < 0.3 && model.probability(last) > 0.7);
    }

    #[test]
    fn a_weight_against_the_meaning_of_its_feature_is_not_learnt() {
        let unknown = FEATURES.iter().position(|name| *name == "unknown_words").expect("a feature");
        let mut examples = examples(unknown);
        for example in &mut examples {
            // A second feature that says the same the right way round.
            example.features[0] = example.features[unknown] / 2.0;
        }
        let model = fit(&examples, 2, 1.0).expect("fits").checked().expect("sound");
        assert!(model.features[unknown].weight.abs() < 1e-9 && model.features[0].weight > 0.5);
    }

    #[test]
    fn one_label_alone_is_refused() {
        let one = Example { features: [0.0; FEATURES.len()], supported: true, set: 0 };
        assert!(fit(&[one, one], 1, 1.0).is_err());
        let wrong_way_round =
            [(1.0, false), (0.9, false), (0.6, true), (0.5, false), (0.0, true), (0.1, true)];
        assert!(platt(&wrong_way_round).is_err());
    }
}
