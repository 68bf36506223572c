//! The booked ads together with what finds some of them fast: one immutable state, replaced whole after a change.
//!
//! Sets of ads and the codes of their vectors go by *place*: groups that ask for the same readers stand together, so that
//! the codes which one request looks at lie close in memory. Everything else goes by position in [`AdIndex::ads`].

use std::collections::HashMap;
use std::sync::Arc;

use bowerbird_vector::{FlatCodes, VectorError};
use roaring::RoaringBitmap;

use crate::booking::Review;
use crate::budget_bits::BudgetBits;
use crate::caps::{Scope, Scopes};
use crate::eligibility::{Eligibility, Held, Terms};
use crate::index::AdIndex;
use crate::targeting::{FrequencyCap, Targeting};

/// The frequency caps of an ad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AdCaps {
    pub ad: Option<FrequencyCap>,
    pub campaign: Option<FrequencyCap>,
    pub account: Option<FrequencyCap>,
}

/// See the module.
pub(crate) struct Snapshot {
    pub ads: Arc<AdIndex>,
    /// Places.
    pub eligibility: Eligibility,
    /// Vectors of the ads, by place.
    pub vectors: Option<FlatCodes>,
    /// Places of ads that meaning may call up.
    pub semantic: RoaringBitmap,
    /// Least cosine for that, by place.
    pub thresholds: Vec<f32>,
    /// Position by place.
    pub ad_at: Vec<u32>,
    /// Place by position.
    pub place_of: Vec<u32>,
    /// By group.
    targeting: Vec<Targeting>,
    /// Number of each campaign in [`BudgetBits`].
    budgets: Vec<u32>,
    /// Of the ads that have any.
    pub caps: HashMap<usize, AdCaps>,
    /// Position of each campaign.
    pub campaigns: HashMap<String, usize>,
    /// Campaigns whose daily budget is below their cheapest click.
    pub poor: Vec<usize>,
}

impl Snapshot {
    /// Files `ads`. Where a group says nothing, meaning calls its ads up from `threshold` on.
    pub fn new(ads: AdIndex, budgets: Arc<BudgetBits>, threshold: f32) -> Result<Self, VectorError> {
        let targeting: Vec<Targeting> = ads.groups.iter().map(|group| group.targeting.clone()).collect();
        let caps = (0..ads.ads.len()).filter_map(|at| {
            let ad = &ads.ads[at];
            let campaign = &ads.campaigns[ads.groups[ad.group].campaign];
            let account = &ads.advertisers[campaign.advertiser];
            let caps = AdCaps { ad: ad.cap, campaign: campaign.cap, account: account.cap };
            (caps != AdCaps::default()).then_some((at, caps))
        });
        let caps = caps.collect();
        Self::with(ads, targeting, caps, budgets, threshold)
    }

    /// As [`Snapshot::new`], with the targeting of each group and the caps of ads.
    pub fn with(
        ads: AdIndex,
        targeting: Vec<Targeting>,
        caps: HashMap<usize, AdCaps>,
        budgets: Arc<BudgetBits>,
        threshold: f32,
    ) -> Result<Self, VectorError> {
        let ad_at = places(&ads, &targeting);
        let mut place_of = vec![0; ad_at.len()];
        let mut vectors = ads.ads.first().map(|ad| FlatCodes::new(ad.embedding.dim())).transpose()?;
        let mut semantic = RoaringBitmap::new();
        for (place, at) in (0u32..).zip(&ad_at) {
            let ad = &ads.ads[*at as usize];
            place_of[*at as usize] = place;
            if let Some(vectors) = &mut vectors {
                vectors.push(ad.embedding.as_slice())?;
            }
            if ads.groups[ad.group].semantic {
                semantic.insert(place);
            }
        }
        let poor = (0..ads.campaigns.len()).filter(|campaign| {
            let campaign = &ads.campaigns[*campaign];
            let least = campaign.groups.iter().map(|group| ads.event_bid(*group)).min();
            least.is_some_and(|least| least > campaign.daily_budget)
        });
        let poor = poor.collect();
        let campaigns =
            ads.campaigns.iter().enumerate().map(|(at, campaign)| (campaign.id.clone(), at)).collect();
        let numbers: Vec<u32> = ads.campaigns.iter().map(|campaign| budgets.number(&campaign.id)).collect();
        let terms = ad_at.iter().map(|ad| terms(&ads, &targeting, &numbers, *ad as usize));
        let eligibility = Eligibility::build(budgets, terms);
        Ok(Self {
            thresholds: ad_at
                .iter()
                .map(|ad| ads.groups[ads.ads[*ad as usize].group].semantic_threshold.unwrap_or(threshold))
                .collect(),
            ad_at,
            place_of,
            ads: Arc::new(ads),
            eligibility,
            vectors,
            semantic,
            targeting,
            budgets: numbers,
            caps,
            campaigns,
            poor,
        })
    }

    /// What decides about the ad at `ad`, apart from what it is about.
    pub fn terms(&self, ad: usize) -> Terms<'_> {
        terms(&self.ads, &self.targeting, &self.budgets, ad)
    }

    /// The caps that count when the ad at `ad` is shown.
    pub fn scopes(&self, ad: usize) -> Scopes<'_> {
        let Some(caps) = self.caps.get(&ad) else { return Scopes::new() };
        let campaign = self.campaign_of(ad);
        let account = &self.ads.advertisers[self.ads.campaigns[campaign].advertiser];
        let scopes = [
            (Scope::Ad(&self.ads.ads[ad].id), caps.ad),
            (Scope::Campaign(&self.ads.campaigns[campaign].id), caps.campaign),
            (Scope::Account(&account.id), caps.account),
        ];
        scopes.into_iter().filter_map(|(scope, cap)| Some((scope, cap?))).collect()
    }

    /// Position of the ad's campaign.
    pub fn campaign_of(&self, ad: usize) -> usize {
        self.ads.groups[self.ads.ads[ad].group].campaign
    }
}

/// Positions of the ads in the order of their places.
fn places(ads: &AdIndex, targeting: &[Targeting]) -> Vec<u32> {
    let mut groups: Vec<usize> = (0..ads.groups.len()).collect();
    groups.sort_by_key(|group| {
        let asks = &targeting[*group];
        (!ads.groups[*group].semantic, &asks.languages, &asks.countries, &asks.devices, &asks.topics)
    });
    groups.iter().flat_map(|group| &ads.groups[*group].ads).map(|ad| *ad as u32).collect()
}

/// What holds a campaign back as a whole.
pub(crate) fn campaign_held(ads: &AdIndex, campaign: usize) -> Option<Held> {
    let booked = &ads.campaigns[campaign];
    if !ads.advertisers[booked.advertiser].enabled {
        return Some(Held::Account);
    }
    (!booked.enabled).then_some(Held::Campaign)
}

fn terms<'a>(ads: &'a AdIndex, targeting: &'a [Targeting], budgets: &[u32], ad: usize) -> Terms<'a> {
    let group = ads.ads[ad].group;
    let campaign = ads.groups[group].campaign;
    let held = campaign_held(ads, campaign)
        .or((!ads.groups[group].enabled).then_some(Held::Group))
        .or((!ads.ads[ad].enabled).then_some(Held::Ad))
        .or((ads.ads[ad].review != Review::Approved).then_some(Held::Review));
    Terms {
        budget: budgets[campaign],
        starts: ads.campaigns[campaign].starts.as_deref(),
        ends: ads.campaigns[campaign].ends.as_deref(),
        targeting: &targeting[group],
        held,
    }
}
