//! Ad groups of a document: bid, targeting and keywords.

use std::collections::BTreeSet;

use bowerbird_auction::{MAX_BID, Micros};

use super::document::AD_GROUP;
use super::fields::{Fields, Node};
use super::reading::{Place, Reading};
use super::{ImportProblems, rules};
use crate::MatchType;
use crate::booking::{AdGroup, Booking, Level};
use crate::keywords::Keyword;
use crate::targeting::{Device, Hours, Targeting};

const MAX_KEYWORDS: usize = 1000;
const MAX_ADS: usize = 100;
const MAX_TARGETS: usize = 250;

impl Reading<'_> {
    pub(super) fn group(&mut self, node: &Node<'_>, place: Place<'_>) {
        let Some(fields) = self.open(node, AD_GROUP, place, Some("campaign"), Some("ads")) else { return };
        let id = self.id(Level::AdGroup, &fields);
        let campaign = self.parent(&fields, place, "campaign");
        let name = fields.optional_string("name", &mut self.problems).unwrap_or_default();
        if !name.is_empty() {
            rules::name(&name, &fields.path_of("name"), &mut self.problems);
        }
        let enabled = self.enabled(&fields);
        let bid = fields.micros("bid_micros", 1, MAX_BID.0, &mut self.problems).map(Micros);
        let semantic = fields.optional_bool("semantic", false, &mut self.problems);
        let semantic_threshold = fields.optional_number("semantic_threshold", -1.0, 1.0, &mut self.problems);
        let targeting = self.targeting(&fields);
        let keywords = self.keywords(&fields);
        if let (Some(id), Some(campaign), Some(bid)) = (id.clone(), campaign, bid) {
            let group = AdGroup {
                id,
                campaign,
                name,
                enabled,
                bid,
                semantic,
                semantic_threshold,
                targeting,
                keywords,
            };
            self.keep(&node.path, Booking::AdGroup(group), None);
        }
        if let Place::Nested(_) = place {
            for node in fields.list("ads", MAX_ADS, &mut self.problems) {
                self.ad(&node, Place::Nested(id.as_deref().unwrap_or_default()));
            }
        }
    }

    fn targeting(&mut self, fields: &Fields<'_>) -> Targeting {
        let mut codes = |name: &str, rule: fn(&str, &str, &mut ImportProblems) -> Option<String>| {
            let values = fields.strings(name, MAX_TARGETS, &mut self.problems);
            let check = |(path, value): (String, String)| rule(&value, &path, &mut self.problems);
            values.into_iter().filter_map(check).collect::<BTreeSet<String>>()
        };
        let languages = codes("languages", rules::language);
        let countries = codes("countries", rules::country);
        let excluded_countries = codes("excluded_countries", rules::country);
        let mut devices = BTreeSet::new();
        for (path, name) in fields.strings("devices", MAX_TARGETS, &mut self.problems) {
            match Device::parse(&name) {
                Some(device) => drop(devices.insert(device)),
                None => self.problems.push(path, &name, "expected desktop, phone, tablet or tv"),
            }
        }
        let mut hours = Hours::default();
        for node in fields.list("hours", MAX_TARGETS, &mut self.problems) {
            let to = i64::from(Hours::PER_WEEK) - 1;
            let hour = node.whole(0, to, &mut self.problems);
            hour.and_then(|hour| u8::try_from(hour).ok()).into_iter().for_each(|hour| hours.insert(hour));
        }
        let topics = self.topics(fields, "topics");
        let excluded_topics = self.topics(fields, "excluded_topics");
        if let Some(both) = countries.intersection(&excluded_countries).next() {
            let message = "is both asked for and excluded: keep one";
            self.problems.push(fields.path_of("excluded_countries"), both, message);
        }
        if let Some(both) = topics.intersection(&excluded_topics).next() {
            let message = "is both asked for and excluded: keep one";
            self.problems.push(fields.path_of("excluded_topics"), &both.to_string(), message);
        }
        Targeting { languages, countries, excluded_countries, devices, hours, topics, excluded_topics }
    }

    fn topics(&mut self, fields: &Fields<'_>, name: &str) -> BTreeSet<u16> {
        let mut topics = BTreeSet::new();
        for node in fields.list(name, MAX_TARGETS, &mut self.problems) {
            let id = node.whole(1, i64::from(u16::MAX), &mut self.problems);
            let Some(id) = id.and_then(|id| u16::try_from(id).ok()) else { continue };
            if rules::is_known_topic(id) {
                topics.insert(id);
            } else {
                let message = "is no topic of the IAB Content Taxonomy 3.1 that is known here, tiers 1 and 2";
                self.problems.push(&node.path, &id.to_string(), message);
            }
        }
        topics
    }

    fn keywords(&mut self, fields: &Fields<'_>) -> Vec<Keyword> {
        let mut keywords = BTreeSet::new();
        for node in &fields.list("keywords", MAX_KEYWORDS, &mut self.problems) {
            let Some(keyword) = self.keyword(node) else { continue };
            let text = keyword.text.clone();
            if !keywords.insert(keyword) {
                self.problems.push(&node.path, &text, "is listed twice in this ad group: keep one");
            }
        }
        keywords.into_iter().collect()
    }

    fn keyword(&mut self, node: &Node<'_>) -> Option<Keyword> {
        let fields = node.fields(&["text", "match_type", "negative"], &mut self.problems)?;
        let text = self.checked(&fields, "text", rules::keyword);
        let name = fields.string("match_type", &mut self.problems);
        let match_type = name.as_deref().and_then(MatchType::parse);
        if let (Some(name), None) = (&name, match_type) {
            self.problems.push(fields.path_of("match_type"), name, "expected exact, phrase or broad");
        }
        let negative = fields.optional_bool("negative", false, &mut self.problems);
        Some(Keyword { text: text?, match_type: match_type?, negative })
    }
}
