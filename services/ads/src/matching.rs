//! Which ads may be considered: first whom they are for, then what they are about.

use std::cmp::Ordering;
use std::collections::HashMap;

use bowerbird_models_api::{Embedding, ModelError};

use crate::budget::Spend;
use crate::explain::{Funnel, Reason};
use crate::index::{AdIndex, Campaign, Group};
use crate::keywords::KeywordMatch;
use crate::text::QueryWords;

/// What is known about the asking side.
pub(crate) struct Audience<'a> {
    /// UTC day of the request, `YYYY-MM-DD`.
    pub day: &'a str,
    pub lang: Option<&'a str>,
    pub country: Option<&'a str>,
    /// Spending of the day by campaign.
    pub spend: &'a HashMap<String, Spend>,
}

/// The ad groups that may be shown to `audience`, in the order of ids.
///
/// A group that names languages or countries is not shown where language or country are unknown: the advertiser
/// pays for certainty.
pub(crate) fn eligible(index: &AdIndex, audience: &Audience<'_>, funnel: &mut Funnel) -> Vec<usize> {
    let mut groups = Vec::new();
    for (at, campaign) in index.campaigns.iter().enumerate() {
        if let Some(reason) = campaign_stop(campaign, audience.day) {
            funnel.stop_campaign(at, reason);
            continue;
        }
        let spend = audience.spend.get(&campaign.id).copied().unwrap_or_default();
        for position in &campaign.groups {
            let group = &index.groups[*position];
            match group_stop(group, campaign, spend, audience) {
                None => groups.push(*position),
                Some(reason) => {
                    for ad in enabled_ads(index, *position) {
                        funnel.stop(ad, reason.clone());
                    }
                }
            }
        }
    }
    groups.sort_unstable();
    groups
}

fn campaign_stop(campaign: &Campaign, day: &str) -> Option<Reason> {
    if !campaign.enabled {
        return Some(Reason::Paused);
    }
    if let Some(starts) = campaign.starts.as_ref().filter(|starts| day < starts.as_str()) {
        return Some(Reason::NotStarted { starts: starts.clone() });
    }
    let ends = campaign.ends.as_ref().filter(|ends| day > ends.as_str())?;
    Some(Reason::Ended { ends: ends.clone() })
}

fn group_stop(group: &Group, campaign: &Campaign, spend: Spend, audience: &Audience<'_>) -> Option<Reason> {
    // The bid bounds the price, which is known only after the auction.
    if !spend.leaves_room_for(group.bid, campaign.daily_budget) {
        return Some(Reason::BudgetExhausted);
    }
    // `en-US` speaks `en`.
    let lang = audience.lang.and_then(|lang| lang.split(['-', '_']).next()).map(str::to_ascii_lowercase);
    if !group.targeting.languages.is_empty()
        && lang.is_none_or(|lang| !group.targeting.languages.contains(&lang))
    {
        return Some(Reason::Language);
    }
    let country = audience.country.map(str::to_ascii_uppercase);
    if !group.targeting.countries.is_empty()
        && country.is_none_or(|country| !group.targeting.countries.contains(&country))
    {
        return Some(Reason::Country);
    }
    None
}

fn enabled_ads(index: &AdIndex, group: usize) -> impl Iterator<Item = usize> {
    index.groups[group].ads.iter().copied().filter(|ad| index.ads[*ad].enabled)
}

/// An ad that keyword or meaning called up.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Match {
    /// Position in [`AdIndex::ads`].
    pub ad: usize,
    pub keyword: Option<KeywordMatch>,
    pub cosine: f32,
}

/// The ads of `groups` that the request calls up, closest first, at most `limit`.
///
/// Order: keyword type (exact, phrase, broad, none), then cosine, then id. Negatives come last and forbid a group
/// whatever called it up. Linear in the ads of the groups: about half a microsecond each.
pub(crate) fn matches(
    index: &AdIndex,
    groups: &[usize],
    query: &QueryWords,
    embedding: &Embedding,
    semantic_threshold: f32,
    limit: usize,
    funnel: &mut Funnel,
) -> Result<Vec<Match>, ModelError> {
    let by_keyword = index.keywords.matches(query);
    let mut found = Vec::new();
    for group in groups {
        let keyword = by_keyword.get(group);
        let forbidden = index.keywords.forbidden(*group, query);
        for ad in enabled_ads(index, *group) {
            if keyword.is_none() && !index.groups[*group].semantic {
                funnel.stop(ad, Reason::NoMatch);
                continue;
            }
            let cosine = index.ads[ad].embedding.cosine(embedding)?;
            if keyword.is_none() && cosine < semantic_threshold {
                funnel.stop(ad, Reason::NoMatch);
            } else if let Some(keyword) = forbidden {
                funnel.stop(ad, Reason::NegativeKeyword { keyword: keyword.to_owned() });
            } else {
                found.push(Match { ad, keyword: keyword.cloned(), cosine });
            }
        }
    }
    found.sort_by(closest_first);
    for left_out in found.split_off(limit.min(found.len())) {
        funnel.stop(left_out.ad, Reason::NotScored);
    }
    Ok(found)
}

fn closest_first(a: &Match, b: &Match) -> Ordering {
    let kind = |m: &Match| m.keyword.as_ref().map_or(u8::MAX, |keyword| keyword.match_type as u8);
    kind(a).cmp(&kind(b)).then(b.cosine.total_cmp(&a.cosine)).then(a.ad.cmp(&b.ad))
}
