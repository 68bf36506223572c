//! What a request gets back.

use bowerbird_auction::Micros;
use serde::Serialize;
use uuid::Uuid;

use crate::{Explain, NoFill};

/// A labelled ad, ready to be rendered apart from organic results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SponsoredBlock {
    /// Always `sponsored`.
    pub r#type: &'static str,
    /// What a reader must see beside it.
    pub label: &'static str,
    /// The auction it won; `/v1/explain/{auction_id}` says how.
    pub auction_id: Uuid,
    /// Id of the ad.
    pub ad_id: String,
    /// On whose behalf it is shown.
    pub advertiser: String,
    /// Who pays for it.
    pub paid_by: String,
    /// At most 40 characters.
    pub headline: String,
    /// At most 150 characters.
    pub text: String,
    /// Where it leads, for people.
    pub display_url: String,
    /// Why it is shown here, in words.
    pub why: String,
    /// Where a click goes: counts, bills and redirects.
    pub click_url: String,
    /// To be fetched when the block has been seen.
    pub impression_url: String,
    /// From 1 at the top.
    pub slot: usize,
    /// Where the text comes from, when it is not the advertiser's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wording: Option<BlockWording>,
    /// What other markets are told; readers are not.
    #[serde(skip)]
    pub sold: Sold,
}

/// Where a text comes from that the advertiser did not write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlockWording {
    /// Always `generated`.
    pub origin: &'static str,
    /// The advertiser's sentence that supports it.
    pub fact: String,
    /// What wrote it.
    pub model: String,
}

/// What a block was sold as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sold {
    /// Id of the advertiser.
    pub advertiser_id: String,
    /// Version of the ad.
    pub version: u32,
    /// Host of the landing page.
    pub domain: String,
    /// Expected price of a thousand impressions.
    pub expected_per_mille: Micros,
}

impl SponsoredBlock {
    /// Value of [`SponsoredBlock::type`](SponsoredBlock).
    pub const TYPE: &'static str = "sponsored";
    /// Value of [`SponsoredBlock::label`].
    pub const LABEL: &'static str = "Sponsored";
}

/// A stage that could not be done in time. It is reported, and never replaced by an unchecked ad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Degraded {
    /// The request could not be embedded: no ad.
    Embedding,
    /// Some or all candidates could not be scored for relevance: those were left out.
    Relevance,
}

impl Degraded {
    /// `embedding` or `relevance`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::Relevance => "relevance",
        }
    }
}

/// The ads for one request, best slot first.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Slate {
    /// The auction; event tokens name it.
    pub auction_id: Uuid,
    /// The ads, possibly none.
    pub blocks: Vec<SponsoredBlock>,
    /// Why the request was not even matched, if so; or that the draw came to no ad.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_fill: Option<NoFill>,
    /// The stage that models or time did not allow, if one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub degraded: Option<Degraded>,
    /// One reason for each campaign, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explain: Option<Explain>,
}

impl Slate {
    /// How it ended: `filled`, or why it is empty: the reason of the refusal, `no_time`, or `no_campaign_fits`.
    pub fn outcome(&self) -> &'static str {
        match (&self.no_fill, self.degraded) {
            _ if !self.blocks.is_empty() => "filled",
            (Some(reason), _) => reason.as_str(),
            (None, Some(_)) => "no_time",
            (None, None) => "no_campaign_fits",
        }
    }
}
