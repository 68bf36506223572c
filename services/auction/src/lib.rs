//! Who is shown in which slot, and what a click costs: pure functions over integer money.
//!
//! [`run`] ranks candidates by bid, predicted click probability and relevance, drops those whose bid is under
//! the reserve, fills the slots from the top and prices each by VCG (the default) or GSP. It knows no clock, no
//! network, no model and no budget. The same candidates, rules and tie key give the same awards, whatever order
//! the candidates come in, so anyone holding the log of an auction can run it again to the micro.

mod money;
mod price;
mod probability;
mod rank;
mod rules;

pub use money::Micros;
pub use price::{Award, PriceSetBy, run};
pub use probability::{NotAProbability, Probability};
pub use rank::Candidate;
pub use rules::{MAX_BID, MAX_CANDIDATES, MAX_SLOTS, Mechanism, Rules};

/// Why an auction is refused before it starts. All are mistakes of the caller.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AuctionError {
    /// Too many candidates.
    #[error("auction has {found} candidates, the limit is {MAX_CANDIDATES}: cut the list by relevance first")]
    TooManyCandidates {
        /// Candidates given.
        found: usize,
    },
    /// A bid is zero, negative or absurdly large.
    #[error("bid of {candidate} is {found}, expected more than 0 and at most {MAX_BID}")]
    Bid {
        /// Id of the candidate, as text.
        candidate: String,
        /// Its bid.
        found: Micros,
    },
    /// Two candidates share an id, so that ties between them could not be broken.
    #[error("candidate {candidate} is listed twice")]
    DuplicateCandidate {
        /// The id, as text.
        candidate: String,
    },
    /// The reserve is negative or absurdly large.
    #[error("reserve is {found}, expected 0 to {MAX_BID}")]
    Reserve {
        /// The reserve given.
        found: Micros,
    },
    /// The slot multipliers are not a falling list within 0 to 1.
    #[error(
        "slot multipliers are {found:?}, expected 1 to {MAX_SLOTS} numbers over 0, at most 1, none larger than the one before"
    )]
    SlotMultipliers {
        /// The multipliers given.
        found: Vec<f64>,
    },
    /// The squashing exponent is outside 0 to 1.
    #[error("squash_gamma is {found}, expected 0 to 1")]
    SquashGamma {
        /// The exponent given.
        found: f64,
    },
}
