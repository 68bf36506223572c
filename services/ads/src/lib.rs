//! An ad request to a slate of labelled, paid-for blocks, and the money that follows a click.
//!
//! [`AdEngine`] keeps what advertisers booked in an SQL database and a snapshot of it in memory. One request runs
//! through plain stages ([`AdEngine::decide`]): a safety check, eligibility (status, dates, budget, language,
//! country), keyword and semantic matching, a relevance gate (cross-encoder blended with cosine), a click
//! estimate, the auction of `bowerbird-auction`, and a reservation of every awarded price. Each campaign that was
//! not shown gets exactly one reason, the first stage that stopped it ([`Explain`]).
//!
//! What holds at all times:
//! - nothing is shown that the relevance gate has not scored: without models there is no ad;
//! - what a campaign is charged in a UTC day never exceeds its daily budget, however many requests run at once;
//! - a click is billed once, at most at the price its signed token carries, and only after its impression;
//! - a click leads to the address stored with the ad version that was shown, never to one from the request.
//!
//! The engine never sees organic results and cannot change them. It reads no clock: the caller says what time it
//! is.

mod address;
mod award;
mod booking;
mod budget;
mod catalog;
mod click_model;
mod config;
mod database;
mod decide;
mod engine;
mod error;
mod events;
mod explain;
mod import;
#[allow(dead_code, reason = "read by the stages that are being added")]
mod index;
mod keywords;
mod matching;
mod policy;
mod relevance;
mod reload;
mod report;
mod sensitive;
mod slate;
mod store;
mod stored;
#[allow(dead_code, reason = "read by the stages that are being added")]
mod targeting;
mod text;
mod time;
mod token;

pub use address::DatabaseAddress;
pub use booking::{Level, Pacing, Review};
pub use catalog::{Answered, Booked, Decision, Page};
pub use config::{AdsConfig, ClickPrior, ConfigProblems, Gate, TimeToLive};
pub use database::{check_database, copy_database};
pub use decide::AdRequest;
pub use engine::AdEngine;
pub use error::AdsError;
pub use events::{ClickOutcome, ClickStatus, EventOutcome, EventStatus};
pub use explain::{CampaignExplain, Explain, Reason, Scores};
pub use import::{ImportProblems, ImportReport, Problem};
pub use keywords::MatchType;
pub use report::{Audit, CampaignReport, Difference};
pub use sensitive::{NoFill, sensitive_term};
pub use slate::{Degraded, Slate, SponsoredBlock};
pub use targeting::{Bidding, Device};
pub use token::TokenError;
