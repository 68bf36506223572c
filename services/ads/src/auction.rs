//! How places go to ads that fit: ranked for the slots of a page, drawn for an answer.

use bowerbird_auction::segment::{self, SegmentRules};
use bowerbird_auction::{Award, Candidate, Micros, Rules};
use uuid::Uuid;

use crate::AdsError;

/// What ads would stand beside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// A page: the best ad gets the best slot, at a price by VCG or GSP.
    #[default]
    Page,
    /// A written answer: its places are alike, and ads are drawn for them by the segment auction.
    Answer,
}

/// The rules that places are given by.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Auction {
    /// Slots of a page.
    Slots(Rules),
    /// Places below an answer.
    Segment(SegmentRules),
}

/// A place that was won.
#[derive(Clone, Debug)]
pub(crate) struct Won {
    pub award: Award<String>,
    /// Probability of this ad in this place, given the places before it; 1 where nothing is drawn.
    pub propensity: f64,
    /// Chance of being looked at there.
    pub exposure: f64,
}

/// What an auction came to.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// First places first.
    pub won: Vec<Won>,
    /// Probability of exactly these places.
    pub propensity: f64,
}

impl Auction {
    /// Holds the auction: the same candidates and id give the same outcome.
    pub fn hold(&self, candidates: &[Candidate<String>], auction_id: Uuid) -> Result<Outcome, AdsError> {
        let seed = auction_id.into_bytes();
        match self {
            Self::Slots(rules) => {
                let awards = bowerbird_auction::run(candidates, rules, seed)?.into_iter();
                let won = awards.map(|award| {
                    let exposure = rules.slot_multipliers[award.slot - 1];
                    Won { award, propensity: 1.0, exposure }
                });
                Ok(Outcome { won: won.collect(), propensity: 1.0 })
            }
            Self::Segment(rules) => {
                // An answer is one segment.
                let outcome = segment::run(candidates, rules, seed, 0)?;
                let won = outcome.awards.into_iter().map(|drawn| Won {
                    award: drawn.award,
                    propensity: drawn.propensity,
                    exposure: 1.0,
                });
                Ok(Outcome { won: won.collect(), propensity: outcome.propensity })
            }
        }
    }

    /// Exponent of the click probability in the weight of an ad.
    pub fn gamma(&self) -> f64 {
        match self {
            Self::Slots(rules) => rules.squash_gamma,
            Self::Segment(_) => 1.0,
        }
    }

    /// Whether the outcome is drawn, so that one without an ad tells something too.
    pub fn draws(&self) -> bool {
        matches!(self, Self::Segment(_))
    }
}

/// Weight of showing no ad below an answer, by default: 1 for a thousand impressions.
pub(crate) const NO_AD: Micros = Micros(1_000);
