//! How likely a click is, learnt from every impression and calibrated on what was served.
//!
//! A pure room: no database, no clock, no model of language. [`ClickModel`] is a hashed logistic regression over a prior
//! from relevance; its parts are one file each: features ([`ClickFeatures`]), learning (`ftrl`), calibration
//! ([`Calibration`]), exploration ([`explore`]), files (`state`,
//! `format`). [`measure`] sets it against a world whose truth is known.
//!
//! # A start
//!
//! ```ignore
//! let (model, problem) = ClickModel::open(config.clicks, config.click_prior, &data_dir.join("clicks.state"))?;
//! if let Some(problem) = problem { tracing::warn!(%problem, "click model made again from the log of outcomes") }
//! for outcome in outcomes_after(model.last_sequence()) { model.learn(&outcome)?; }
//! model.refresh_calibration();
//! ```
//!
//! # A decision
//!
//! ```ignore
//! let estimate = model.estimate(&features, relevance.log_odds);              // features.slot is 0
//! let ctr = model.explored(&estimate, auction_id.into_bytes(), ad_id).unwrap_or(estimate.probability);
//! // ... the auction ranks by bid · ctr and awards slots ...
//! let mut shown = model.shown(&ClickFeatures { slot, ..features }, log_odds, rules.slot_multipliers[slot]);
//! if explored { shown.calibration_weight = 0.0 }
//! // stored with the decision: shown.to_bytes(), some 150 bytes
//! ```
//!
//! # An impression and a click
//!
//! A valid impression is one example, learnt once its fate is known: at its click, or when it has waited long enough for
//! one (ten minutes will do: a click that comes later is a second row of the log, not a correction). The outcome gets the
//! next sequence number in the transaction that decides it; then, and on replay:
//!
//! ```ignore
//! let shown = Shown::from_bytes(&row.shown)?;
//! model.learn(&Example { sequence: row.sequence, shown, clicked: row.clicked, weight: 1.0 })?;
//! ```
//!
//! Impressions never rendered, and those held invalid, are not learnt from.
//!
//! # Upkeep
//!
//! [`ClickModel::refresh_calibration`] every hour (every thousand impressions while there are few), [`ClickModel::save`]
//! now and then and at shutdown; both off the async threads.

pub(crate) mod counts;

mod calibrate;
mod config;
mod curse;
pub mod explore;
mod features;
mod figures;
mod format;
mod ftrl;
pub mod measure;
mod model;
mod shown;
mod state;
pub mod synthetic;

pub use calibrate::{Calibration, Observation};
pub use config::ClickConfig;
pub use features::{ClickFeatures, FeatureHashes, MAX_FEATURES, MAX_QUERY_WORDS, MAX_TOPICS, PageKind};
pub use model::{BadExample, Calibrated, ClickModel, Estimate, Example, Learnt};
pub use shown::{NotShown, Shown};
pub use state::ClickStateError;
