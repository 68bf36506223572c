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
    /// It has no ad that is enabled.
    NoActiveAd,
    /// One more click might not fit into the day's budget.
    BudgetExhausted,
    /// It is for other languages.
    Language,
    /// It is for other countries.
    Country,
    /// Neither keyword nor meaning calls it up.
    NoMatch,
    /// The advertiser excluded a word of the request.
    NegativeKeyword {
        /// The keyword.
        keyword: String,
    },
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
    /// Another ad of the same advertiser took part in its place.
    SameAdvertiser,
    /// Others scored higher.
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
const NO_MATCH: u8 = 8;

impl Reason {
    /// Position of the stage; larger is further.
    fn stage(&self) -> u8 {
        match self {
            Self::Refused => 0,
            Self::Paused => 1,
            Self::NotStarted { .. } => 2,
            Self::Ended { .. } => 3,
            Self::NoActiveAd => 4,
            Self::BudgetExhausted => 5,
            Self::Language => 6,
            Self::Country => 7,
            Self::NoMatch => 8,
            Self::NegativeKeyword { .. } => 9,
            Self::NotScored => 10,
            Self::BelowRelevance { .. } => 11,
            Self::BelowReserve { .. } => 12,
            Self::SameAdvertiser => 13,
            Self::LostAuction => 14,
            Self::Served { .. } => 15,
        }
    }
}

/// As one short code: `paused`, `negative_keyword:horse`, `below_relevance(0.312,0.700)`.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::Paused => f.write_str("paused"),
            Self::NotStarted { .. } => f.write_str("not_started"),
            Self::Ended { .. } => f.write_str("ended"),
            Self::NoActiveAd => f.write_str("no_active_ad"),
            Self::BudgetExhausted => f.write_str("budget_exhausted"),
            Self::Language => f.write_str("language"),
            Self::Country => f.write_str("country"),
            Self::NoMatch => f.write_str("no_match"),
            Self::NegativeKeyword { keyword } => write!(f, "negative_keyword:{keyword}"),
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

/// Collects reasons while a decision runs.
pub(crate) struct Funnel {
    campaigns: Vec<Option<Reason>>,
    ads: Vec<Option<Reason>>,
    scores: HashMap<usize, Scores>,
}

impl Funnel {
    pub fn new(index: &AdIndex) -> Self {
        let (campaigns, ads) = (vec![None; index.campaigns.len()], vec![None; index.ads.len()]);
        Self { campaigns, ads, scores: HashMap::new() }
    }

    /// The whole campaign ends here.
    pub fn stop_campaign(&mut self, campaign: usize, reason: Reason) {
        self.campaigns[campaign] = Some(reason);
    }

    /// The ad ends here.
    pub fn stop(&mut self, ad: usize, reason: Reason) {
        self.ads[ad] = Some(reason);
    }

    pub fn scored(&mut self, ad: usize, scores: Scores) {
        self.scores.insert(ad, scores);
    }

    /// Campaigns that were scored or stopped late, each with the code of its reason, in the order of ids.
    pub fn stopped(&self, index: &AdIndex) -> Vec<Stopped> {
        let mut furthest: BTreeMap<usize, &Reason> = BTreeMap::new();
        for (ad, reason) in self.ads.iter().enumerate() {
            let Some(reason) = reason.as_ref().filter(|reason| reason.stage() > NO_MATCH) else { continue };
            let campaign = index.groups[index.ads[ad].group].campaign;
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
            if let Some(reason) = self.campaigns[at].take() {
                return CampaignExplain { campaign: id, ad: None, reason, scores: None };
            }
            let ads = campaign.groups.iter().flat_map(|group| &index.groups[*group].ads).copied();
            let furthest = ads
                .filter_map(|ad| self.ads[ad].clone().map(|reason| (ad, reason)))
                .max_by(|(ad, reason), (other, best)| reason.stage().cmp(&best.stage()).then(other.cmp(ad)));
            match furthest {
                Some((ad, reason)) => CampaignExplain {
                    campaign: id,
                    ad: Some(index.ads[ad].id.clone()),
                    reason,
                    scores: self.scores.get(&ad).cloned(),
                },
                None => CampaignExplain { campaign: id, ad: None, reason: Reason::NoActiveAd, scores: None },
            }
        });
        Explain { campaigns: campaigns.collect() }
    }
}
