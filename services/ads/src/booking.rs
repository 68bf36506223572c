//! What advertisers book, as it is read, checked, stored and given out again.

use std::collections::BTreeSet;

use bowerbird_auction::Micros;
use serde::{Deserialize, Serialize};

use crate::keywords::Keyword;
use crate::targeting::{Bidding, FrequencyCap, Targeting};

/// The four levels of a booking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Who books.
    Advertiser,
    /// A budget and its time.
    Campaign,
    /// A bid and whom it is for.
    AdGroup,
    /// What is shown.
    Ad,
}

impl Level {
    /// All of them, from the top.
    pub const ALL: [Self; 4] = [Self::Advertiser, Self::Campaign, Self::AdGroup, Self::Ad];

    /// `advertiser`, `campaign`, `ad_group` or `ad`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Advertiser => "advertiser",
            Self::Campaign => "campaign",
            Self::AdGroup => "ad_group",
            Self::Ad => "ad",
        }
    }

    /// In words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::AdGroup => "ad group",
            other => other.as_str(),
        }
    }

    /// The level above.
    pub fn parent(self) -> Option<Self> {
        match self {
            Self::Advertiser => None,
            Self::Campaign => Some(Self::Advertiser),
            Self::AdGroup => Some(Self::Campaign),
            Self::Ad => Some(Self::AdGroup),
        }
    }

    /// Fields that a caller may set, the parent's id among them.
    pub fn fields(self) -> Vec<&'static str> {
        crate::import::known_fields(self)
    }

    pub(crate) fn table(self) -> &'static str {
        match self {
            Self::Advertiser => "advertisers",
            Self::Campaign => "campaigns",
            Self::AdGroup => "ad_groups",
            Self::Ad => "ads",
        }
    }
}

/// How a campaign spends its daily budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pacing {
    /// Over the day.
    #[default]
    Even,
    /// As soon as it can.
    Asap,
}

impl Pacing {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Even, Self::Asap];

    /// `even` or `asap`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Even => "even",
            Self::Asap => "asap",
        }
    }

    /// The pacing of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }
}

/// Whether the text of an ad may be shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Review {
    /// It may.
    #[default]
    Approved,
    /// Somebody has to look at it; it is not shown until then.
    UnderReview,
    /// It may not.
    Disapproved,
}

impl Review {
    /// All of them, from the mildest.
    pub const ALL: [Self; 3] = [Self::Approved, Self::UnderReview, Self::Disapproved];

    /// `approved`, `under_review` or `disapproved`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::UnderReview => "under_review",
            Self::Disapproved => "disapproved",
        }
    }

    /// The state of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }
}

/// A picture or logo of an ad.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asset {
    /// `image` or `logo`.
    pub kind: String,
    /// https.
    pub url: String,
    /// What it shows, for those who do not see it.
    pub alt: String,
}

/// An advertiser without its campaigns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Advertiser {
    pub id: String,
    pub name: String,
    pub paid_by: String,
    pub enabled: bool,
    /// IAB Ad Product Taxonomy 2.0.
    pub category: Option<u32>,
    /// Most that is ever charged.
    pub balance: Option<Micros>,
    pub blocked_terms: Vec<String>,
    pub blocked_authors: Vec<String>,
    pub cap: Option<FrequencyCap>,
}

/// A campaign without its ad groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Campaign {
    pub id: String,
    pub advertiser: String,
    pub name: String,
    pub daily_budget: Micros,
    pub lifetime_budget: Option<Micros>,
    pub currency: String,
    /// First day, `YYYY-MM-DD`.
    pub starts: Option<String>,
    /// Last day.
    pub ends: Option<String>,
    pub enabled: bool,
    pub bidding: Bidding,
    pub target_cpa: Option<Micros>,
    pub pacing: Pacing,
    pub cap: Option<FrequencyCap>,
}

/// An ad group without its ads.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AdGroup {
    pub id: String,
    pub campaign: String,
    pub name: String,
    pub enabled: bool,
    pub bid: Micros,
    pub semantic: bool,
    pub semantic_threshold: Option<f64>,
    pub targeting: Targeting,
    /// In the order of text, match type and sign; none twice.
    pub keywords: Vec<Keyword>,
}

/// An ad in its current version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ad {
    pub id: String,
    pub group: String,
    pub enabled: bool,
    pub cap: Option<FrequencyCap>,
    pub words: Words,
}

/// What an ad says: a change of any of it is a new version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Words {
    pub headline: String,
    pub text: String,
    pub landing_url: String,
    pub display_url: String,
    /// Sentences the advertiser vouches for.
    pub facts: Vec<String>,
    pub assets: Vec<Asset>,
}

/// One thing booked, of any level.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Booking {
    Advertiser(Advertiser),
    Campaign(Campaign),
    AdGroup(AdGroup),
    Ad(Ad),
}

impl Booking {
    pub fn level(&self) -> Level {
        match self {
            Self::Advertiser(_) => Level::Advertiser,
            Self::Campaign(_) => Level::Campaign,
            Self::AdGroup(_) => Level::AdGroup,
            Self::Ad(_) => Level::Ad,
        }
    }

    pub fn id(&self) -> &str {
        match self {
            Self::Advertiser(advertiser) => &advertiser.id,
            Self::Campaign(campaign) => &campaign.id,
            Self::AdGroup(group) => &group.id,
            Self::Ad(ad) => &ad.id,
        }
    }

    /// Id of what it belongs to.
    pub fn parent(&self) -> Option<&str> {
        match self {
            Self::Advertiser(_) => None,
            Self::Campaign(campaign) => Some(&campaign.advertiser),
            Self::AdGroup(group) => Some(&group.campaign),
            Self::Ad(ad) => Some(&ad.group),
        }
    }
}

/// Numbers or codes as one text, in order.
pub(crate) fn joined<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join(",")
}

/// The parts of such a text.
pub(crate) fn split<T: std::str::FromStr + Ord>(text: &str) -> Option<BTreeSet<T>> {
    text.split(',').filter(|part| !part.is_empty()).map(|part| part.parse().ok()).collect()
}
