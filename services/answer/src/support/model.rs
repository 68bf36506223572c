//! Numbers to a probability: logistic regression with committed weights.
//!
//! ```text
//! x_i = clamp((f_i - mean_i) / scale_i, -6, 6)
//! z   = bias + sum over i of weight_i · x_i
//! p   = 1 / (1 + e^-(slope · z + offset))
//! ```
//!
//! A feature whose meaning is known to speak for or against support ([`AGAINST`]) has a weight of that sign or 0.
//!
//! `slope` and `offset` are Platt's: fitted to what the regression said of pairs it had not learnt from (source: Platt
//! 1999, Probabilistic outputs for support vector machines). The weights are made by `bowerbird train support` and lie
//! in `support.json` beside this file; `support_report.json` says what they were learnt from and how good they are.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::features::{AGAINST, FEATURES};

/// What this code can read.
pub const FORMAT: u32 = 1;
/// Furthest a feature may be from its mean, in standard deviations: a text unlike any in training must not decide by
/// one number alone.
const FURTHEST: f32 = 6.0;

/// Weights of the support check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SupportModel {
    /// Version of this form.
    pub format: u32,
    /// One for each of [`FEATURES`], in their order.
    pub features: Vec<FeatureWeight>,
    /// Added to the weighted sum.
    pub bias: f32,
    /// See the module.
    pub slope: f32,
    /// See the module.
    pub offset: f32,
}

/// How one feature enters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureWeight {
    /// Its name.
    pub name: String,
    /// Mean over what was learnt from.
    pub mean: f32,
    /// Standard deviation, above 0.
    pub scale: f32,
    /// Weight of the standardised value.
    pub weight: f32,
}

/// Why weights cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SupportModelError {
    /// No JSON of this form.
    #[error("support weights cannot be read: train them again with `bowerbird train support`")]
    Unreadable(#[source] serde_json::Error),
    /// Written by another version.
    #[error(
        "support weights have format {found}, expected {FORMAT}: train them again with `bowerbird train support`"
    )]
    Format {
        /// The format found.
        found: u32,
    },
    /// The features are not those that this code computes.
    #[error(
        "support weights have {found:?} as feature {place}, expected {expected:?}: train them again with \
         `bowerbird train support`"
    )]
    Feature {
        /// Place in the list, from 0.
        place: usize,
        /// What this code computes there; blank past its end.
        expected: String,
        /// What the weights name there; blank past their end.
        found: String,
    },
    /// A weight says the opposite of what its feature means.
    #[error(
        "support weights have {weight} for {name}, which speaks {side} support: train them again with \
         `bowerbird train support`"
    )]
    Sign {
        /// Name of the feature.
        name: String,
        /// Its weight.
        weight: f32,
        /// `for` or `against`.
        side: &'static str,
    },
    /// A number is not finite, or a scale is not above 0.
    #[error("support weights have {value} as {name}, expected a finite number (above 0 for a scale)")]
    Number {
        /// Where it stands.
        name: String,
        /// The number.
        value: f32,
    },
}

impl SupportModel {
    /// Reads and checks weights.
    pub fn from_json(json: &str) -> Result<Self, SupportModelError> {
        let model: Self = serde_json::from_str(json).map_err(SupportModelError::Unreadable)?;
        model.checked()
    }

    /// The weights if they fit this code.
    pub fn checked(self) -> Result<Self, SupportModelError> {
        if self.format != FORMAT {
            return Err(SupportModelError::Format { found: self.format });
        }
        for place in 0..FEATURES.len().max(self.features.len()) {
            let expected = FEATURES.get(place).copied().unwrap_or("");
            let found = self.features.get(place).map_or("", |feature| feature.name.as_str());
            if expected != found {
                let (expected, found) = (expected.to_owned(), found.to_owned());
                return Err(SupportModelError::Feature { place, expected, found });
            }
        }
        let own = [("bias", self.bias), ("slope", self.slope), ("offset", self.offset)];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value, value.is_finite()));
        let each = self.features.iter().flat_map(|f| {
            [
                (format!("{}.mean", f.name), f.mean, f.mean.is_finite()),
                (format!("{}.scale", f.name), f.scale, f.scale.is_finite() && f.scale > 0.0),
                (format!("{}.weight", f.name), f.weight, f.weight.is_finite()),
            ]
        });
        if let Some((name, value, _)) = own.chain(each).find(|(_, _, good)| !good) {
            return Err(SupportModelError::Number { name, value });
        }
        match self.features.iter().find(|feature| feature.contradicts()) {
            Some(FeatureWeight { name, weight, .. }) => {
                let side = if AGAINST.contains(&name.as_str()) { "against" } else { "for" };
                Err(SupportModelError::Sign { name: name.clone(), weight: *weight, side })
            }
            None => Ok(self),
        }
    }

    /// The weights that come with this crate.
    pub fn shipped() -> &'static Self {
        static SHIPPED: LazyLock<SupportModel> = LazyLock::new(|| {
            SupportModel::from_json(include_str!("support.json")).expect("a test reads the committed weights")
        });
        &SHIPPED
    }

    /// Whether the feature of this name changes any probability.
    pub fn weighs(&self, name: &str) -> bool {
        self.features.iter().any(|feature| feature.name == name && feature.weight.abs() > 0.0)
    }

    /// The weighted sum before calibration.
    pub fn raw(&self, features: &[f32; FEATURES.len()]) -> f32 {
        let terms = self.features.iter().zip(features).map(|(f, value)| f.term(*value));
        self.bias + terms.sum::<f32>()
    }

    /// Probability that the evidence supports the claim, within 0 to 1.
    pub fn probability(&self, features: &[f32; FEATURES.len()]) -> f32 {
        1.0 / (1.0 + (-(self.slope * self.raw(features) + self.offset)).exp())
    }
}

impl FeatureWeight {
    /// Whether the weight has the sign opposite to what the feature means.
    pub fn contradicts(&self) -> bool {
        if AGAINST.contains(&self.name.as_str()) { self.weight > 0.0 } else { self.weight < 0.0 }
    }

    /// What a value adds to the weighted sum.
    fn term(&self, value: f32) -> f32 {
        self.weight * self.standard(value)
    }

    /// The value in standard deviations from the mean, cut at six.
    pub fn standard(&self, value: f32) -> f32 {
        ((value - self.mean) / self.scale).clamp(-FURTHEST, FURTHEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat() -> SupportModel {
        let weight =
            |name: &&str| FeatureWeight { name: (*name).to_owned(), mean: 0.5, scale: 0.5, weight: 0.0 };
        let features = FEATURES.iter().map(weight).collect();
        SupportModel { format: FORMAT, features, bias: 1.0, slope: 2.0, offset: -1.0 }
    }

    #[test]
    fn the_formula_is_that_of_the_module() {
        let mut model = flat();
        model.features[0].weight = 3.0;
        let mut values = [0.5; FEATURES.len()];
        values[0] = 1.0;
        // x = 1, z = 1 + 3, p = 1 / (1 + e^-(8 - 1)).
        assert!((model.raw(&values) - 4.0).abs() < 1e-6);
        assert!((model.probability(&values) - 0.999_089).abs() < 1e-5);
        values[0] = 1e30;
        assert!((model.raw(&values) - 19.0).abs() < 1e-5, "six standard deviations at most");
    }

    #[test]
    fn the_shipped_weights_fit_this_code() {
        let shipped = SupportModel::shipped();
        assert!(shipped.features.iter().any(|f| f.weight > 0.0), "they say something");
        let json = serde_json::to_string(shipped).expect("serialises");
        assert_eq!(&SupportModel::from_json(&json).expect("reads back"), shipped);
    }

    #[test]
    fn weights_that_do_not_fit_are_refused_by_name() {
        let refused = |change: &dyn Fn(&mut SupportModel), expected: &str| {
            let mut model = flat();
            change(&mut model);
            let error = model.checked().expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        };
        refused(&|m| m.format = 9, "format 9, expected 1");
        refused(
            &|m| m.features[1].name = "lengths".into(),
            "\"lengths\" as feature 1, expected \"containment_fuzzy\"",
        );
        refused(&|m| drop(m.features.pop()), "expected \"cosine_rest\"");
        refused(&|m| m.features.push(m.features[0].clone()), "\"containment\" as feature 31");
        refused(&|m| m.features[2].scale = 0.0, "0 as words_known.scale");
        refused(&|m| m.features[0].weight = -1.0, "-1 for containment, which speaks for support");
        refused(&|m| m.features[7].weight = 1.0, "1 for unknown_words, which speaks against support");
        assert!(
            SupportModel::from_json("{}").expect_err("no weights").to_string().contains("cannot be read")
        );
        assert!(SupportModel::from_json(r#"{"weights": []}"#).is_err());
    }
}
