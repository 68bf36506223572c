//! Why an auction is refused.

use crate::{MAX_BID, MAX_CANDIDATES, MAX_SLOTS, Micros};

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
    /// A pacing multiplier is not over 0 and at most 1.
    #[error(
        "pacing of {candidate} is {found}, expected more than 0 and at most 1: leave out who must not bid"
    )]
    Pacing {
        /// Id of the candidate, as text.
        candidate: String,
        /// Its multiplier.
        found: f64,
    },
    /// A reserve for one candidate is negative or absurdly large.
    #[error("reserve of {candidate} is {found}, expected 0 to {MAX_BID}")]
    CandidateReserve {
        /// Id of the candidate, as text.
        candidate: String,
        /// Its reserve.
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
    /// The click probability that squashing leaves as it is must not be 0.
    #[error("squash_pivot is 0, expected more than 0: give the usual click rate of the place")]
    SquashPivot,
    /// A segment auction for no ad, or for too many.
    #[error("winners is {found}, expected 1 to {MAX_SLOTS}")]
    Winners {
        /// Number given.
        found: usize,
    },
    /// The temperature of a segment auction is outside its range.
    #[error("temperature is {found}, expected 0 to {}", crate::segment::MAX_TEMPERATURE)]
    Temperature {
        /// Temperature given.
        found: f64,
    },
    /// The weight of showing no ad is negative, not finite or absurdly large.
    #[error("null_weight is {found}, expected 0 to {}", MAX_BID.0)]
    NullWeight {
        /// Weight given, in micros an impression.
        found: f64,
    },
    /// The expected payment has a closed form for one winner at temperature 1 only.
    #[error(
        "no closed form of the expected payment for {winners} winners at temperature {temperature}: ask for 1 winner at temperature 1, or average over seeds"
    )]
    NoClosedForm {
        /// Winners asked for.
        winners: usize,
        /// Temperature asked for.
        temperature: f64,
    },
    /// More bids in a sample than are looked at.
    #[error("sample has {found} bids, the limit is {limit}: draw a smaller one")]
    TooManyBids {
        /// Bids given.
        found: usize,
        /// Most that are allowed.
        limit: usize,
    },
    /// A share that is not within its range.
    #[error("{field} is {found}, expected {expected}")]
    Range {
        /// Name of the value.
        field: &'static str,
        /// Value given.
        found: f64,
        /// Range in words.
        expected: &'static str,
    },
}
