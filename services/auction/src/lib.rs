//! Who is shown in which slot, and what a click costs: pure functions over integer money.
//!
//! [`run`] ranks candidates by bid, predicted click probability and relevance, drops those whose bid is under
//! the reserve, fills the slots from the top and prices each by VCG (the default) or GSP. [`segment::run`] draws
//! the ads of one segment of a generated answer, with exact propensities. [`reserve`] learns a reserve from the
//! bids of others, [`bidding`] turns a strategy into a bid, and [`pacing`] spreads a budget over a day.
//!
//! Nothing here knows a clock, a network, a model or an account. The same candidates, rules and seed give the same
//! awards, whatever order the candidates come in, on every machine, so anyone holding the log of an auction can run
//! it again to the micro.

pub mod bidding;
mod error;
mod money;
mod noise;
pub mod pacing;
mod price;
mod probability;
mod rank;
pub mod reserve;
mod rules;
pub mod segment;

pub use error::AuctionError;
pub use money::Micros;
pub use price::{Award, PriceSetBy, run};
pub use probability::{NotAProbability, Probability};
pub use rank::{Billing, Candidate, paced_bid};
pub use rules::{MAX_BID, MAX_CANDIDATES, MAX_SLOTS, Mechanism, Rules, SQUASH_PIVOT};
