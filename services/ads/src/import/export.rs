//! What is booked as the JSON that an import takes.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::booking::{Ad, AdGroup, Advertiser, Booking, Campaign, Level};
use crate::stored::Stored;
use crate::targeting::FrequencyCap;

/// The fields of one booking, its parent included; what is not limited is `null` or empty.
pub(crate) fn fields(booking: &Booking) -> Map<String, Value> {
    let value = match booking {
        Booking::Advertiser(advertiser) => of_advertiser(advertiser),
        Booking::Campaign(campaign) => of_campaign(campaign),
        Booking::AdGroup(group) => of_group(group),
        Booking::Ad(ad) => of_ad(ad),
    };
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn status(enabled: bool) -> &'static str {
    if enabled { "enabled" } else { "paused" }
}

fn cap(cap: Option<FrequencyCap>) -> Value {
    cap.map_or(Value::Null, |cap| json!({"impressions": cap.impressions, "hours": cap.hours}))
}

fn of_advertiser(a: &Advertiser) -> Value {
    json!({
        "id": a.id, "name": a.name, "paid_by": a.paid_by, "status": status(a.enabled), "category": a.category,
        "balance_micros": a.balance.map(|amount| amount.0), "blocked_terms": a.blocked_terms,
        "blocked_authors": a.blocked_authors, "frequency_cap": cap(a.cap),
    })
}

fn of_campaign(c: &Campaign) -> Value {
    json!({
        "id": c.id, "advertiser": c.advertiser, "name": c.name, "daily_budget_micros": c.daily_budget.0,
        "lifetime_budget_micros": c.lifetime_budget.map(|amount| amount.0), "currency": c.currency,
        "starts": c.starts, "ends": c.ends, "status": status(c.enabled), "bidding": c.bidding.as_str(),
        "target_cpa_micros": c.target_cpa.map(|amount| amount.0), "pacing": c.pacing.as_str(),
        "frequency_cap": cap(c.cap),
    })
}

fn of_group(g: &AdGroup) -> Value {
    let keyword = |k: &crate::keywords::Keyword| json!({"text": k.text, "match_type": k.match_type.as_str(), "negative": k.negative});
    let t = &g.targeting;
    json!({
        "id": g.id, "campaign": g.campaign, "name": g.name, "status": status(g.enabled), "bid_micros": g.bid.0,
        "semantic": g.semantic, "semantic_threshold": g.semantic_threshold, "languages": t.languages,
        "countries": t.countries, "excluded_countries": t.excluded_countries,
        "devices": t.devices.iter().map(|device| device.as_str()).collect::<Vec<_>>(),
        "hours": t.hours.iter().collect::<Vec<_>>(), "topics": t.topics, "excluded_topics": t.excluded_topics,
        "keywords": g.keywords.iter().map(keyword).collect::<Vec<_>>(),
    })
}

fn of_ad(ad: &Ad) -> Value {
    let w = &ad.words;
    json!({
        "id": ad.id, "ad_group": ad.group, "status": status(ad.enabled), "headline": w.headline, "text": w.text,
        "landing_url": w.landing_url, "display_url": w.display_url, "facts": w.facts, "assets": w.assets,
        "frequency_cap": cap(ad.cap),
    })
}

/// The fields of an ad with what was decided about it.
pub(crate) fn reviewed(stored: &Stored) -> Map<String, Value> {
    let mut fields = fields(&stored.booking);
    if stored.booking.level() == Level::Ad {
        fields.insert("review".into(), stored.verdict.review.as_str().into());
        fields.insert("review_reason".into(), stored.verdict.reason.clone().into());
    }
    fields
}

/// Bookings that are not removed, below their parents.
pub(crate) struct Tree<'a>(HashMap<Option<(Level, &'a str)>, Vec<&'a Stored>>);

impl<'a> Tree<'a> {
    /// Of bookings in the order of ids.
    pub fn new(stored: &'a [Stored]) -> Self {
        let mut below: HashMap<_, Vec<&Stored>> = HashMap::new();
        for stored in stored.iter().filter(|stored| !stored.removed) {
            let booking = &stored.booking;
            below.entry(booking.level().parent().zip(booking.parent())).or_default().push(stored);
        }
        Self(below)
    }

    fn below(&self, parent: Option<&'a Stored>) -> &[&'a Stored] {
        let key = parent.map(|parent| (parent.booking.level(), parent.booking.id()));
        self.0.get(&key).map_or(&[], Vec::as_slice)
    }

    /// One document.
    pub fn document(&self) -> Value {
        json!({"advertisers": self.nested(None)})
    }

    fn nested(&self, parent: Option<&'a Stored>) -> Vec<Value> {
        let one = |stored: &&'a Stored| {
            let mut fields = reviewed(stored);
            if let Some(above) = stored.booking.level().parent() {
                fields.shift_remove(above.as_str());
            }
            let list = match stored.booking.level() {
                Level::Advertiser => "campaigns",
                Level::Campaign => "ad_groups",
                Level::AdGroup => "ads",
                Level::Ad => return Value::Object(fields),
            };
            fields.insert(list.into(), self.nested(Some(stored)).into());
            Value::Object(fields)
        };
        self.below(parent).iter().map(one).collect()
    }

    /// Each parent before its children.
    pub fn flat(&self) -> Vec<&'a Stored> {
        let mut flat = Vec::new();
        let mut waiting: Vec<&Stored> = self.below(None).iter().rev().copied().collect();
        while let Some(stored) = waiting.pop() {
            flat.push(stored);
            waiting.extend(self.below(Some(stored)).iter().rev());
        }
        flat
    }
}
