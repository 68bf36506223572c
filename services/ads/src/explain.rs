//! Why each campaign was or was not shown: one reason, the first stage that stopped its best ad.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use bowerbird_auction::Micros;
use serde::Serialize;

use crate::MatchType;
use crate::decision_log::Stopped;
use crate::index::AdIndex;

/// Where a campaign's way through a decision ended. Ordered from the first stage to the last.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// The request got no ads at all; the slate says why.
    Refused,
    /// The advertiser's account is paused.
    AccountPaused,
    /// The campaign is paused.
    Paused,
    /// Its first day is still to come.
    NotStarted {
        /// First day, UTC.
        starts: String,
    },
    /// Its last day is over.
    Ended {
        /// Last day, UTC.
        ends: String,
    },
    /// Its ad group is paused.
    GroupPaused,
    /// It has no ad that is enabled.
    NoActiveAd,
    /// Its ad waits for a review, or did not pass one.
    UnderReview,
    /// One more click might not fit into the day's budget.
    BudgetExhausted,
    /// It is for other languages.
    Language,
    /// It is for other countries.
    Country,
    /// It leaves this country out.
    ExcludedCountry,
    /// It is for other devices.
    Device,
    /// It is for other hours of the week.
    Hours,
    /// It is for other topics.
    Topic,
    /// It leaves out a topic of the request.
    ExcludedTopic {
        /// Unique id of the IAB Content Taxonomy 3.1.
        topic: u16,
    },
    /// The advertiser does not want to stand beside a word or an author of the posts shown here.
    BlockList,
    /// What it would stand beside is not fit for ads.
    UnsafeNeighbour,
    /// Neither keyword nor meaning calls it up.
    NoMatch,
    /// The advertiser excluded a word of the request.
    NegativeKeyword {
        /// The keyword.
        keyword: String,
    },
    /// This person has seen it, its campaign or its account often enough.
    FrequencyCap,
    /// It has a frequency cap, which holds for nobody when nobody is named.
    NoUser,
    /// The models could not score it: too many candidates, or no time.
    NotScored,
    /// It does not fit the request well enough.
    BelowRelevance {
        /// Its relevance, 0 to 1.
        score: f64,
        /// The least relevance it needed.
        threshold: f64,
    },
    /// Its bid is under the reserve.
    BelowReserve {
        /// The bid.
        bid: Micros,
        /// The reserve.
        reserve: Micros,
    },
    /// Another ad of the same advertiser took part in its place, or stands on the page already.
    SameAdvertiser,
    /// Others scored higher, or were drawn; below an answer, showing no ad may have been.
    LostAuction,
    /// It was shown.
    Served {
        /// From 1 at the top.
        slot: usize,
        /// Price of a click.
        price_per_click: Micros,
    },
}

/// Stage from which on a reason is worth keeping: the campaign was called up.
const NO_MATCH: u8 = 18;

impl Reason {
    /// Position of the stage; larger is further.
    fn stage(&self) -> u8 {
        match self {
            Self::Refused => 0,
            Self::AccountPaused => 1,
            Self::Paused => 2,
            Self::NotStarted { .. } => 3,
            Self::Ended { .. } => 4,
            Self::GroupPaused => 5,
            Self::NoActiveAd => 6,
            Self::UnderReview => 7,
            Self::BudgetExhausted => 8,
            Self::Language => 9,
            Self::Country => 10,
            Self::ExcludedCountry => 11,
            Self::Device => 12,
            Self::Hours => 13,
            Self::Topic => 14,
            Self::ExcludedTopic { .. } => 15,
            Self::BlockList => 16,
            Self::UnsafeNeighbour => 17,
            Self::NoMatch => 18,
            Self::NegativeKeyword { .. } => 19,
            Self::FrequencyCap => 20,
            Self::NoUser => 21,
            Self::NotScored => 22,
            Self::BelowRelevance { .. } => 23,
            Self::BelowReserve { .. } => 24,
            Self::SameAdvertiser => 25,
            Self::LostAuction => 26,
            Self::Served { .. } => 27,
        }
    }
}

/// As one short code: `paused`, `negative_keyword:horse`, `below_relevance(0.312,0.700)`.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::AccountPaused => f.write_str("account_paused"),
            Self::Paused => f.write_str("paused"),
            Self::NotStarted { .. } => f.write_str("not_started"),
            Self::Ended { .. } => f.write_str("ended"),
            Self::GroupPaused => f.write_str("group_paused"),
            Self::NoActiveAd => f.write_str("no_active_ad"),
            Self::UnderReview => f.write_str("under_review"),
            Self::BudgetExhausted => f.write_str("budget_exhausted"),
            Self::Language => f.write_str("language"),
            Self::Country => f.write_str("country"),
            Self::ExcludedCountry => f.write_str("excluded_country"),
            Self::Device => f.write_str("device"),
            Self::Hours => f.write_str("hours"),
            Self::Topic => f.write_str("topic"),
            Self::ExcludedTopic { topic } => write!(f, "excluded_topic:{topic}"),
            Self::BlockList => f.write_str("block_list"),
            Self::UnsafeNeighbour => f.write_str("unsafe_neighbour"),
            Self::NoMatch => f.write_str("no_match"),
            Self::NegativeKeyword { keyword } => write!(f, "negative_keyword:{keyword}"),
            Self::FrequencyCap => f.write_str("frequency_cap"),
            Self::NoUser => f.write_str("no_user"),
            Self::NotScored => f.write_str("not_scored"),
            Self::BelowRelevance { score, threshold } => {
                write!(f, "below_relevance({score:.3},{threshold:.3})")
            }
            Self::BelowReserve { .. } => f.write_str("below_reserve"),
            Self::SameAdvertiser => f.write_str("same_advertiser"),
            Self::LostAuction => f.write_str("lost_auction"),
            Self::Served { .. } => f.write_str("served"),
        }
    }
}

/// What is known about an ad that was scored.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scores {
    /// How its keyword matched; absent when only the meaning did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_type: Option<MatchType>,
    /// The keyword as the advertiser wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keyword: Option<String>,
    /// Cosine of request and ad.
    pub cosine: f32,
    /// Logit of the cross-encoder.
    pub logit: f32,
    /// Relevance of the gate, 0 to 1.
    pub relevance: f64,
    /// Estimated probability of a click in the first slot.
    pub click_probability: f64,
    /// The bid.
    pub bid: Micros,
}

/// The fate of one campaign.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CampaignExplain {
    /// Id of the campaign.
    pub campaign: String,
    /// Its ad that got furthest; absent when the campaign as a whole was stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ad: Option<String>,
    /// What became of it.
    #[serde(flatten)]
    pub reason: Reason,
    /// Scores of that ad, if it was scored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scores: Option<Scores>,
}

/// Every campaign exactly once, by id.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Explain {
    /// The campaigns.
    pub campaigns: Vec<CampaignExplain>,
}

/// Collects reasons while a decision runs: of the few ads that got as far as the models, and of all others only when
/// somebody asked (see `matching::explain`).
#[derive(Default)]
pub(crate) struct Funnel {
    campaigns: HashMap<usize, Reason>,
    ads: HashMap<usize, Reason>,
    scores: HashMap<usize, Scores>,
}

impl Funnel {
    /// The whole campaign ends here.
    pub fn stop_campaign(&mut self, campaign: usize, reason: Reason) {
        self.campaigns.insert(campaign, reason);
    }

    /// The ad ends here.
    pub fn stop(&mut self, ad: usize, reason: Reason) {
        self.ads.insert(ad, reason);
    }

    /// Whether an ad took part in the auction and did not win.
    pub fn lost_auction(&self) -> bool {
        self.ads.values().any(|reason| matches!(reason, Reason::LostAuction))
    }

    pub fn scored(&mut self, ad: usize, scores: Scores) {
        self.scores.insert(ad, scores);
    }

    /// Campaigns that were scored or stopped late, each with the code of its reason, in the order of ids.
    pub fn stopped(&self, index: &AdIndex) -> Vec<Stopped> {
        let mut furthest: BTreeMap<usize, &Reason> = BTreeMap::new();
        for (ad, reason) in self.ads.iter().filter(|(_, reason)| reason.stage() > NO_MATCH) {
            let campaign = index.groups[index.ads[*ad].group].campaign;
            let best = furthest.entry(campaign).or_insert(reason);
            if reason.stage() > best.stage() {
                *best = reason;
            }
        }
        let took_part = |reason: &Reason| matches!(reason, Reason::LostAuction | Reason::Served { .. });
        let stopped = furthest.into_iter().filter(|(_, reason)| !took_part(reason));
        stopped
            .map(|(campaign, reason)| Stopped {
                campaign: index.campaigns[campaign].id.clone(),
                reason: reason.to_string(),
            })
            .collect()
    }

    /// The report: for each campaign its own reason, else that of its ad that got furthest (ties by id).
    pub fn explain(mut self, index: &AdIndex) -> Explain {
        let campaigns = index.campaigns.iter().enumerate().map(|(at, campaign)| {
            let id = campaign.id.clone();
            if let Some(reason) = self.campaigns.remove(&at) {
                return CampaignExplain { campaign: id, ad: None, reason, scores: None };
            }
            let ads = campaign.groups.iter().flat_map(|group| &index.groups[*group].ads).copied();
            let furthest = ads
                .filter_map(|ad| self.ads.get(&ad).map(|reason| (ad, reason)))
                .max_by(|(ad, reason), (other, best)| reason.stage().cmp(&best.stage()).then(other.cmp(ad)));
            match furthest {
                Some((ad, reason)) => CampaignExplain {
                    campaign: id,
                    ad: Some(index.ads[ad].id.clone()),
                    reason: reason.clone(),
                    scores: self.scores.get(&ad).cloned(),
                },
                None => CampaignExplain { campaign: id, ad: None, reason: Reason::NoActiveAd, scores: None },
            }
        });
        Explain { campaigns: campaigns.collect() }
    }
}
