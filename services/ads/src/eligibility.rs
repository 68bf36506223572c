//! Whom ads are for, answered for all of them at once: one set of ad positions for every value that targeting can name.
//!
//! Of every dimension, `any` holds the ads that do not limit it and `included[v]` those that ask for `v`. An ad may be
//! shown when each dimension has it in `any` or under a value of the request, and no excluded value of the request has
//! it (Whang et al., VLDB 2009, for the conjunctions that this inverts). What changes with time is kept apart: the day
//! in a set that is made once a day, budgets in [`BudgetBits`].
//!
//! [`stop`] says the same about one ad, step by step. It names the reason, and tests hold the sets against it.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use parking_lot::RwLock;
use roaring::RoaringBitmap;

use crate::Device;
use crate::audience::Audience;
use crate::budget_bits::BudgetBits;
use crate::explain::Reason;
use crate::targeting::Targeting;

/// What decides whether an ad may be shown, apart from what it is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'a> {
    /// Number of the campaign in [`BudgetBits`].
    pub budget: u32,
    /// First day of the campaign, `YYYY-MM-DD`.
    pub starts: Option<&'a str>,
    /// Its last day.
    pub ends: Option<&'a str>,
    pub targeting: &'a Targeting,
    /// What stands in its way until somebody edits it: paused, under review.
    pub held: Option<Held>,
}

/// Why an ad is not shown to anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Account,
    Campaign,
    Group,
    Ad,
    Review,
}

impl Held {
    /// As the reason of a campaign.
    pub fn reason(self) -> Reason {
        match self {
            Self::Account => Reason::AccountPaused,
            Self::Campaign => Reason::Paused,
            Self::Group => Reason::GroupPaused,
            Self::Ad => Reason::NoActiveAd,
            Self::Review => Reason::UnderReview,
        }
    }

    fn of_campaign(self) -> bool {
        matches!(self, Self::Account | Self::Campaign)
    }
}

/// What keeps a campaign as a whole from being shown on `day`.
pub(crate) fn campaign_stop(
    held: Option<Held>,
    starts: Option<&str>,
    ends: Option<&str>,
    day: &str,
) -> Option<Reason> {
    if let Some(held) = held.filter(|held| held.of_campaign()) {
        return Some(held.reason());
    }
    if let Some(starts) = starts.filter(|starts| day < *starts) {
        return Some(Reason::NotStarted { starts: starts.to_owned() });
    }
    let ends = ends.filter(|ends| day > *ends)?;
    Some(Reason::Ended { ends: ends.to_owned() })
}

/// The first thing but topics that keeps an ad from `audience`; `funded` says whether its campaign has budget.
pub(crate) fn stop(terms: &Terms<'_>, audience: &Audience, funded: bool) -> Option<Reason> {
    let Targeting { languages, countries, excluded_countries, devices, hours, .. } = terms.targeting;
    let Audience { lang, country, device, hour_of_week, day, .. } = audience;
    let asks = |set: bool, met: bool| !set && !met;
    if let Some(reason) = campaign_stop(terms.held, terms.starts, terms.ends, day) {
        Some(reason)
    } else if let Some(held) = terms.held {
        Some(held.reason())
    } else if !funded {
        Some(Reason::BudgetExhausted)
    } else if asks(languages.is_empty(), lang.as_ref().is_some_and(|lang| languages.contains(lang))) {
        Some(Reason::Language)
    } else if asks(countries.is_empty(), country.as_ref().is_some_and(|country| countries.contains(country)))
    {
        Some(Reason::Country)
    } else if country.as_ref().is_some_and(|country| excluded_countries.contains(country)) {
        Some(Reason::ExcludedCountry)
    } else if asks(devices.is_empty(), device.is_some_and(|device| devices.contains(&device))) {
        Some(Reason::Device)
    } else if !hours.allows(*hour_of_week) {
        Some(Reason::Hours)
    } else {
        None
    }
}

/// What keeps an ad from a request about `topics`.
pub(crate) fn topic_stop(targeting: &Targeting, topics: &[u16]) -> Option<Reason> {
    let wanted = &targeting.topics;
    if !wanted.is_empty() && !topics.iter().any(|topic| wanted.contains(topic)) {
        return Some(Reason::Topic);
    }
    let excluded = topics.iter().find(|topic| targeting.excluded_topics.contains(topic));
    excluded.map(|topic| Reason::ExcludedTopic { topic: *topic })
}

/// One thing that targeting can limit.
struct Dimension<V> {
    any: RoaringBitmap,
    included: HashMap<V, RoaringBitmap>,
}

impl<V: Hash + Eq> Dimension<V> {
    fn new() -> Self {
        Self { any: RoaringBitmap::new(), included: HashMap::new() }
    }

    fn add(&mut self, ad: u32, values: impl Iterator<Item = V>) {
        let mut limits = false;
        for value in values {
            limits = true;
            self.included.entry(value).or_default().insert(ad);
        }
        if !limits {
            self.any.insert(ad);
        }
    }

    /// Takes out of `ads` what asks for none of `values`.
    fn narrow<'a, Q>(&self, ads: &mut RoaringBitmap, values: impl Iterator<Item = &'a Q>)
    where
        V: Borrow<Q>,
        Q: Hash + Eq + ?Sized + 'a,
    {
        if self.included.is_empty() {
            return;
        }
        let mut allowed = self.any.clone();
        for value in values {
            if let Some(included) = self.included.get(value) {
                allowed |= included;
            }
        }
        *ads &= allowed;
    }
}

/// The ads of a day.
#[derive(Default)]
struct OfDay {
    day: String,
    ads: RoaringBitmap,
}

/// The ads of campaigns without budget, with the campaigns they were made from.
#[derive(Default)]
struct Broke {
    campaigns: Arc<RoaringBitmap>,
    ads: RoaringBitmap,
}

/// Sets of ad positions for everything that targeting can name.
pub(crate) struct Eligibility {
    /// Not held by anybody.
    live: RoaringBitmap,
    /// By first day.
    starts: BTreeMap<String, RoaringBitmap>,
    /// By last day.
    ends: BTreeMap<String, RoaringBitmap>,
    languages: Dimension<String>,
    countries: Dimension<String>,
    excluded_countries: HashMap<String, RoaringBitmap>,
    devices: Dimension<Device>,
    hours: Dimension<u8>,
    topics: Dimension<u16>,
    excluded_topics: HashMap<u16, RoaringBitmap>,
    of_day: RwLock<Arc<OfDay>>,
    budgets: Arc<BudgetBits>,
    by_campaign: HashMap<u32, Vec<u32>>,
    broke: RwLock<Arc<Broke>>,
}

impl Eligibility {
    /// Files `ads`, which get the positions from 0 on.
    pub fn build<'a>(budgets: Arc<BudgetBits>, ads: impl Iterator<Item = Terms<'a>>) -> Self {
        let mut sets = Self {
            live: RoaringBitmap::new(),
            starts: BTreeMap::new(),
            ends: BTreeMap::new(),
            languages: Dimension::new(),
            countries: Dimension::new(),
            excluded_countries: HashMap::new(),
            devices: Dimension::new(),
            hours: Dimension::new(),
            topics: Dimension::new(),
            excluded_topics: HashMap::new(),
            of_day: RwLock::default(),
            budgets,
            by_campaign: HashMap::new(),
            broke: RwLock::default(),
        };
        for (at, terms) in (0u32..).zip(ads) {
            sets.add(at, &terms);
        }
        sets
    }

    fn add(&mut self, at: u32, terms: &Terms<'_>) {
        if terms.held.is_some() {
            return;
        }
        self.live.insert(at);
        for (day, sets) in [(terms.starts, &mut self.starts), (terms.ends, &mut self.ends)] {
            if let Some(day) = day {
                sets.entry(day.to_owned()).or_default().insert(at);
            }
        }
        let targeting = terms.targeting;
        self.languages.add(at, targeting.languages.iter().cloned());
        self.countries.add(at, targeting.countries.iter().cloned());
        self.devices.add(at, targeting.devices.iter().copied());
        self.hours.add(at, targeting.hours.iter());
        self.topics.add(at, targeting.topics.iter().copied());
        for country in &targeting.excluded_countries {
            self.excluded_countries.entry(country.clone()).or_default().insert(at);
        }
        for topic in &targeting.excluded_topics {
            self.excluded_topics.entry(*topic).or_default().insert(at);
        }
        self.by_campaign.entry(terms.budget).or_default().push(at);
    }

    /// The ads that nothing but a topic keeps from `audience`. As [`stop`] says of each.
    pub fn eligible(&self, audience: &Audience) -> RoaringBitmap {
        let mut ads = self.of_day(&audience.day).ads.clone();
        ads -= &self.broke().ads;
        self.languages.narrow(&mut ads, audience.lang.iter().map(String::as_str));
        self.countries.narrow(&mut ads, audience.country.iter().map(String::as_str));
        if let Some(excluded) = audience.country.as_ref().and_then(|c| self.excluded_countries.get(c)) {
            ads -= excluded;
        }
        self.devices.narrow(&mut ads, audience.device.iter());
        self.hours.narrow(&mut ads, std::iter::once(&audience.hour_of_week));
        ads
    }

    /// Takes out of `ads` what a request about `topics` is not for. As [`topic_stop`] says of each.
    pub fn narrow_topics(&self, ads: &mut RoaringBitmap, topics: &[u16]) {
        self.topics.narrow(ads, topics.iter());
        for topic in topics {
            if let Some(excluded) = self.excluded_topics.get(topic) {
                *ads -= excluded;
            }
        }
    }

    /// Whether any ad asks for topics or excludes some.
    pub fn asks_topics(&self) -> bool {
        !self.topics.included.is_empty() || !self.excluded_topics.is_empty()
    }

    /// Whether the campaign of that number has budget.
    pub fn funded(&self, budget: u32) -> bool {
        !self.broke().campaigns.contains(budget)
    }

    /// The ads that are live on `day`. Kept until another day is asked for, which is how days begin and end without
    /// anybody reloading anything.
    fn of_day(&self, day: &str) -> Arc<OfDay> {
        let kept = self.of_day.read().clone();
        if kept.day == day {
            return kept;
        }
        let mut ads = self.live.clone();
        for (_, later) in self.starts.range::<str, _>((Excluded(day), Unbounded)) {
            ads -= later;
        }
        for (_, over) in self.ends.range::<str, _>((Unbounded, Excluded(day))) {
            ads -= over;
        }
        let made = Arc::new(OfDay { day: day.to_owned(), ads });
        *self.of_day.write() = made.clone();
        made
    }

    /// Follows [`BudgetBits`]; only the campaigns that changed since the last call are looked at.
    fn broke(&self) -> Arc<Broke> {
        let campaigns = self.budgets.exhausted();
        let kept = self.broke.read().clone();
        if Arc::ptr_eq(&kept.campaigns, &campaigns) {
            return kept;
        }
        let mut ads = kept.ads.clone();
        for campaign in &(&*kept.campaigns ^ &*campaigns) {
            let broke = campaigns.contains(campaign);
            for ad in self.by_campaign.get(&campaign).into_iter().flatten() {
                if broke {
                    ads.insert(*ad);
                } else {
                    ads.remove(*ad);
                }
            }
        }
        let made = Arc::new(Broke { campaigns, ads });
        *self.broke.write() = made.clone();
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    struct Ad {
        campaign: u32,
        starts: Option<String>,
        ends: Option<String>,
        held: Option<Held>,
        targeting: Targeting,
    }

    impl Ad {
        fn terms(&self) -> Terms<'_> {
            Terms {
                budget: self.campaign,
                starts: self.starts.as_deref(),
                ends: self.ends.as_deref(),
                targeting: &self.targeting,
                held: self.held,
            }
        }
    }

    fn day() -> impl Strategy<Value = String> {
        (8u8..13).prop_map(|day| format!("2026-03-{day:02}"))
    }

    fn names(of: &'static [&'static str]) -> impl Strategy<Value = String> {
        prop::sample::select(of).prop_map(str::to_owned)
    }

    fn targeting() -> impl Strategy<Value = Targeting> {
        let few = 0..3usize;
        let device = || prop::sample::select(&Device::ALL[..]);
        (
            prop::collection::btree_set(names(&["en", "fr", "de"]), few.clone()),
            prop::collection::btree_set(names(&["US", "CA", "FR"]), few.clone()),
            prop::collection::btree_set(names(&["US", "CA", "FR"]), 0..2usize),
            prop::collection::btree_set(device(), few.clone()),
            prop::collection::vec(0u8..6, few.clone()),
            prop::collection::btree_set(0u16..5, few),
            prop::collection::btree_set(0u16..5, 0..2usize),
        )
            .prop_map(
                |(languages, countries, excluded_countries, devices, hours, topics, excluded_topics)| {
                    let mut set = crate::targeting::Hours::default();
                    for hour in hours {
                        set.insert(hour);
                    }
                    Targeting {
                        languages,
                        countries,
                        excluded_countries,
                        devices,
                        hours: set,
                        topics,
                        excluded_topics,
                    }
                },
            )
    }

    fn ad() -> impl Strategy<Value = Ad> {
        use Held::{Account, Ad as ThatAd, Campaign, Group, Review};
        let held = prop::sample::select(&[Account, Campaign, Group, ThatAd, Review][..]);
        (
            0u32..6,
            prop::option::weighted(0.3, day()),
            prop::option::weighted(0.3, day()),
            prop::option::weighted(0.1, held),
            targeting(),
        )
            .prop_map(|(campaign, starts, ends, held, targeting)| Ad {
                campaign,
                starts,
                ends,
                held,
                targeting,
            })
    }

    fn audience() -> impl Strategy<Value = Audience> {
        (
            prop::option::of(names(&["en", "fr", "es"])),
            prop::option::of(names(&["US", "CA", "JP"])),
            prop::option::of(prop::sample::select(&Device::ALL[..])),
            0u8..6,
            prop::collection::vec(0u16..6, 0..3),
            day(),
        )
            .prop_map(|(lang, country, device, hour_of_week, topics, day)| Audience {
                lang,
                country,
                device,
                hour_of_week,
                topics,
                day,
            })
    }

    proptest! {
        /// The sets say of every ad what the plain check says, while days pass and budgets come and go.
        #[test]
        fn sets_and_plain_check_agree(
            ads in prop::collection::vec(ad(), 0..60),
            asked in prop::collection::vec((audience(), 0u32..6, any::<bool>()), 1..12),
        ) {
            let budgets = Arc::new(BudgetBits::default());
            for campaign in 0..6 {
                prop_assert_eq!(budgets.number(&campaign.to_string()), campaign);
            }
            let sets = Eligibility::build(budgets.clone(), ads.iter().map(Ad::terms));
            for (audience, campaign, funded) in asked {
                budgets.set(&campaign.to_string(), funded);
                let mut found = sets.eligible(&audience);
                let expected = |topics: bool| -> Vec<u32> {
                    let may = |ad: &Ad| {
                        let funded = !budgets.exhausted().contains(ad.campaign);
                        stop(&ad.terms(), &audience, funded).is_none()
                            && !(topics && topic_stop(&ad.targeting, &audience.topics).is_some())
                    };
                    (0u32..).zip(&ads).filter(|(_, ad)| may(ad)).map(|(at, _)| at).collect()
                };
                prop_assert_eq!(found.iter().collect::<Vec<_>>(), expected(false));
                sets.narrow_topics(&mut found, &audience.topics);
                prop_assert_eq!(found.iter().collect::<Vec<_>>(), expected(true));
            }
        }
    }
}
