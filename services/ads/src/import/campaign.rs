//! Advertisers and campaigns of a document.

use bowerbird_auction::{MAX_BID, Micros};

use super::document::{ADVERTISER, CAMPAIGN};
use super::fields::{Fields, Node};
use super::reading::{Place, Reading};
use super::{is_known_currency, rules};
use crate::booking::{Advertiser, Booking, Campaign, Level, Pacing};
use crate::targeting::Bidding;

const MAX_CAMPAIGNS: usize = 1000;
const MAX_GROUPS: usize = 1000;
const MAX_BLOCKED: usize = 1000;

impl Reading<'_> {
    pub(super) fn advertiser(&mut self, node: &Node<'_>, place: Place<'_>) {
        let Some(fields) = self.open(node, ADVERTISER, place, None, Some("campaigns")) else { return };
        let id = self.id(Level::Advertiser, &fields);
        let name = self.checked(&fields, "name", rules::name);
        let paid_by = fields.optional_string("paid_by", &mut self.problems).or_else(|| name.clone());
        if let Some(paid_by) = &paid_by {
            rules::name(paid_by, &fields.path_of("paid_by"), &mut self.problems);
        }
        let enabled = self.enabled(&fields);
        let category = fields.optional_whole("category", 1, 99_999, &mut self.problems);
        let balance = fields.optional_micros("balance_micros", 1, MAX_BID.0, &mut self.problems).map(Micros);
        let blocked_terms = self.texts(&fields, "blocked_terms", MAX_BLOCKED, rules::keyword);
        let blocked_authors = self.texts(&fields, "blocked_authors", MAX_BLOCKED, rules::author);
        let cap = self.cap(&fields);
        if let (Some(id), Some(name), Some(paid_by)) = (id.clone(), name, paid_by) {
            let category = category.and_then(|id| u32::try_from(id).ok());
            let advertiser = Advertiser {
                id,
                name,
                paid_by,
                enabled,
                category,
                balance,
                blocked_terms,
                blocked_authors,
                cap,
            };
            self.keep(&node.path, Booking::Advertiser(advertiser), None);
        }
        if let Place::Nested(_) = place {
            for node in fields.list("campaigns", MAX_CAMPAIGNS, &mut self.problems) {
                self.campaign(&node, Place::Nested(id.as_deref().unwrap_or_default()));
            }
        }
    }

    pub(super) fn campaign(&mut self, node: &Node<'_>, place: Place<'_>) {
        let Some(fields) = self.open(node, CAMPAIGN, place, Some("advertiser"), Some("ad_groups")) else {
            return;
        };
        let id = self.id(Level::Campaign, &fields);
        let advertiser = self.parent(&fields, place, "advertiser");
        let name = self.checked(&fields, "name", rules::name);
        let daily = fields.micros("daily_budget_micros", 1, MAX_BID.0, &mut self.problems).map(Micros);
        let lifetime = self.lifetime(&fields, daily);
        let currency = self.currency(&fields);
        let (starts, ends) = self.dates(&fields);
        let enabled = self.enabled(&fields);
        let bidding = self.choice(&fields, "bidding", &Bidding::ALL, Bidding::as_str);
        let target_cpa = self.target_cpa(&fields, bidding);
        let pacing = self.choice(&fields, "pacing", &Pacing::ALL, Pacing::as_str);
        let cap = self.cap(&fields);
        if let (Some(id), Some(advertiser), Some(name), Some(daily_budget), Some(currency)) =
            (id.clone(), advertiser, name, daily, currency)
        {
            let campaign = Campaign {
                id,
                advertiser,
                name,
                daily_budget,
                lifetime_budget: lifetime,
                currency,
                starts,
                ends,
                enabled,
                bidding,
                target_cpa,
                pacing,
                cap,
            };
            self.keep(&node.path, Booking::Campaign(campaign), None);
        }
        if let Place::Nested(_) = place {
            for node in fields.list("ad_groups", MAX_GROUPS, &mut self.problems) {
                self.group(&node, Place::Nested(id.as_deref().unwrap_or_default()));
            }
        }
    }

    fn currency(&mut self, fields: &Fields<'_>) -> Option<String> {
        let code = fields.string("currency", &mut self.problems)?;
        let path = fields.path_of("currency");
        if !is_known_currency(&code) {
            self.problems.push(path, &code, "expected an ISO 4217 code such as USD or EUR");
        } else if code != self.currency {
            let message = format!("auctions here run in {}: book in that currency", self.currency);
            self.problems.push(path, &code, message);
        }
        Some(code)
    }

    fn lifetime(&mut self, fields: &Fields<'_>, daily: Option<Micros>) -> Option<Micros> {
        let name = "lifetime_budget_micros";
        let lifetime = fields.optional_micros(name, 1, MAX_BID.0, &mut self.problems).map(Micros)?;
        if let Some(daily) = daily.filter(|daily| lifetime < *daily) {
            let message =
                format!("is under the daily budget of {daily}: raise it, or lower the daily budget");
            self.problems.push(fields.path_of(name), &lifetime.0.to_string(), message);
        }
        Some(lifetime)
    }

    fn target_cpa(&mut self, fields: &Fields<'_>, bidding: Bidding) -> Option<Micros> {
        let name = "target_cpa_micros";
        let target = fields.optional_micros(name, 1, MAX_BID.0, &mut self.problems).map(Micros);
        match (bidding == Bidding::TargetCpa, target) {
            (true, None) if fields.optional(name).is_none() => {
                self.problems.push(fields.path_of(name), "", "is missing: bidding is target_cpa");
            }
            (false, Some(target)) => {
                let message = "is for bidding target_cpa only: choose that, or leave it out";
                self.problems.push(fields.path_of(name), &target.0.to_string(), message);
            }
            _ => {}
        }
        target
    }

    fn dates(&mut self, fields: &Fields<'_>) -> (Option<String>, Option<String>) {
        let mut read = |name: &str| {
            let value = fields.optional_string(name, &mut self.problems)?;
            rules::day(&value, &fields.path_of(name), &mut self.problems)
        };
        let (starts, ends) = (read("starts"), read("ends"));
        if let (Some(starts), Some(ends)) = (starts, ends)
            && ends < starts
        {
            let message = format!("is before starts, {starts}: swap the two");
            self.problems.push(fields.path_of("ends"), &ends.to_string(), message);
        }
        (starts.map(|day| day.to_string()), ends.map(|day| day.to_string()))
    }
}
