//! The measured half of the support check: a claim and its evidence to numbers, and numbers to a probability.
//!
//! [`Alignment`] lays the two side by side and says what to ask the models, [`features`] makes numbers of both, and
//! [`SupportModel`] a probability of those. The weights are learnt by `bowerbird train support`.

mod align;
mod ask;
mod features;
mod model;
mod opposites;

pub use align::{Alignment, Scores};
pub use ask::ask;
pub use features::{AGAINST, FEATURES, features};
pub use model::{FORMAT, FeatureWeight, SupportModel, SupportModelError};
