//! The booked ads together with what finds some of them fast: one immutable state, replaced whole after a change.

use std::collections::HashMap;
use std::sync::Arc;

use bowerbird_vector::{FlatCodes, VectorError};
use roaring::RoaringBitmap;

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
    pub eligibility: Eligibility,
    /// Vectors of the ads, by position.
    pub vectors: Option<FlatCodes>,
    /// Positions of ads that meaning may call up.
    pub semantic: RoaringBitmap,
    /// Least cosine of each ad for that.
    pub thresholds: Vec<f32>,
    /// By group.
    targeting: Vec<Targeting>,
    /// Number of each campaign in [`BudgetBits`].
    budgets: Vec<u32>,
    /// Of the ads that have any.
    pub caps: HashMap<usize, AdCaps>,
    /// Campaigns whose daily budget is below their cheapest click.
    pub poor: Vec<usize>,
}

impl Snapshot {
    /// Files `ads`. Where a group says nothing, meaning calls its ads up from `threshold` on.
    pub fn new(ads: AdIndex, budgets: Arc<BudgetBits>, threshold: f32) -> Result<Self, VectorError> {
        let targeting: Vec<Targeting> = ads
            .groups
            .iter()
            .map(|group| Targeting {
                languages: group.languages.iter().cloned().collect(),
                countries: group.countries.iter().cloned().collect(),
                ..Targeting::default()
            })
            .collect();
        Self::with(ads, targeting, HashMap::new(), budgets, threshold)
    }

    /// As [`Snapshot::new`], with the targeting of each group and the caps of ads.
    pub fn with(
        ads: AdIndex,
        targeting: Vec<Targeting>,
        caps: HashMap<usize, AdCaps>,
        budgets: Arc<BudgetBits>,
        threshold: f32,
    ) -> Result<Self, VectorError> {
        let mut vectors = ads.ads.first().map(|ad| FlatCodes::new(ad.embedding.dim())).transpose()?;
        for ad in &ads.ads {
            if let Some(vectors) = &mut vectors {
                vectors.push(ad.embedding.as_slice())?;
            }
        }
        let semantic =
            (0u32..).zip(&ads.ads).filter(|(_, ad)| ads.groups[ad.group].semantic).map(|(at, _)| at);
        let semantic = semantic.collect();
        let poor = (0..ads.campaigns.len()).filter(|campaign| {
            let campaign = &ads.campaigns[*campaign];
            let least = campaign.groups.iter().map(|group| ads.groups[*group].bid).min();
            least.is_some_and(|least| least > campaign.daily_budget)
        });
        let poor = poor.collect();
        let numbers: Vec<u32> = ads.campaigns.iter().map(|campaign| budgets.number(&campaign.id)).collect();
        let terms = (0..ads.ads.len()).map(|ad| terms(&ads, &targeting, &numbers, ad));
        let eligibility = Eligibility::build(budgets, terms);
        Ok(Self {
            thresholds: vec![threshold; ads.ads.len()],
            ads: Arc::new(ads),
            eligibility,
            vectors,
            semantic,
            targeting,
            budgets: numbers,
            caps,
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

/// What holds a campaign back as a whole.
pub(crate) fn campaign_held(ads: &AdIndex, campaign: usize) -> Option<Held> {
    (!ads.campaigns[campaign].enabled).then_some(Held::Campaign)
}

fn terms<'a>(ads: &'a AdIndex, targeting: &'a [Targeting], budgets: &[u32], ad: usize) -> Terms<'a> {
    let group = ads.ads[ad].group;
    let campaign = ads.groups[group].campaign;
    let held = campaign_held(ads, campaign).or((!ads.ads[ad].enabled).then_some(Held::Ad));
    Terms {
        budget: budgets[campaign],
        starts: ads.campaigns[campaign].starts.as_deref(),
        ends: ads.campaigns[campaign].ends.as_deref(),
        targeting: &targeting[group],
        held,
    }
}
