//! An ad request to a slate of labelled, paid-for blocks, and the money that follows a click.
//!
//! [`AdEngine`] keeps what advertisers booked in an SQL database and a snapshot of it in memory. One request runs
//! through plain stages ([`AdEngine::decide`]): a safety check, eligibility (status, dates, budget, language,
//! country, device, hour, topic), keyword and semantic matching, negative keywords, frequency caps, a relevance gate
//! (cross-encoder blended with cosine), a click estimate, the auction of `bowerbird-auction`, and a reservation of every
//! awarded price. Who asks gets exactly one reason for each campaign that was not shown, the first stage that stopped it
//! ([`Explain`]).
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
mod auction;
mod audience;
mod award;
mod beside;
mod booking;
mod budget_bits;
mod caps;
mod catalog;
pub mod click;
mod config;
mod conversions;
mod cpa;
mod database;
mod decide;
mod decision_log;
#[cfg_attr(not(test), allow(dead_code, reason = "bookings do not say all of it yet"))]
mod eligibility;
mod engine;
mod error;
mod events;
mod explain;
mod funding;
mod import;
#[allow(dead_code, reason = "read by the stages that are being added")]
mod index;
mod judge;
mod keywords;
mod learning;
mod matching;
mod money;
pub mod offpolicy;
mod own_view;
mod pacing;
mod places;
mod policy;
mod propensity;
mod relevance;
mod reload;
mod report;
pub mod safety;
mod sensitive;
mod served;
mod simulate;
mod slate;
#[allow(dead_code, reason = "read by the stages that are being added")]
mod snapshot;
mod spending;
mod sql;
mod store;
mod stored;
#[cfg_attr(not(test), allow(dead_code, reason = "bookings do not say all of it yet"))]
mod targeting;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod text;
mod time;
mod token;
mod topics;
mod traffic;
mod transparency;
mod wording;
mod writer;

pub use address::DatabaseAddress;
pub use auction::Place;
pub use beside::Neighbour;
pub use booking::{Level, Pacing, Review};
pub use catalog::{Answered, Booked, Page, ReviewDecision};
pub use config::{AdsConfig, ClickPrior, ConfigProblems, Gate, LogConfig, SegmentConfig, TimeToLive};
pub use conversions::{ConversionOutcome, Postback, PostbackError};
pub use database::{check_database, copy_database};
pub use decide::{AdRequest, Contest, MAX_BESIDE_ADS};
pub use decision_log::{
    Decision, DecisionLog, LoggedAward, LoggedCandidate, LoggedRules, LoggedSegment, LoggedSlots, Replay,
    SegmentMechanism, Stopped,
};
pub use engine::AdEngine;
pub use error::AdsError;
pub use events::{ClickOutcome, ClickStatus, EventOutcome, EventStatus};
pub use explain::{CampaignExplain, Explain, Reason, Scores};
pub use import::{ImportProblems, ImportReport, Problem};
pub use judge::{Judged, OtherRules};
pub use keywords::MatchType;
pub use money::{Audit, Books, Difference};
pub use own_view::{OwnAward, OwnDecision};
pub use report::{CampaignReport, ReportBy, ReportRow, TrafficRow};
pub use sensitive::{NoFill, sensitive_term};
pub use simulate::{BudgetPoint, Estimate, LandscapePoint, Simulation};
pub use slate::{BlockWording, Degraded, Slate, Sold, SponsoredBlock};
pub use targeting::{Bidding, Device};
pub use token::TokenError;
pub use topics::{Topic, Topics};
pub use traffic::{EventContext, Invalid, TrafficConfig};
pub use transparency::{PublicAd, PublicKeyword, PublicTargeting, TRANSPARENCY_PAGE};
pub use wording::{Author, Draft, Drafted, ShownWording, Texts};
