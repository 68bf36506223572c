//! What all levels of a booking are read with: ids, lists, choices, and where something stands.

use std::collections::HashMap;

use super::document::Item;
use super::fields::{Fields, Node};
use super::{ImportProblems, document, rules};
use crate::booking::{Booking, Campaign, Level, Review};
use crate::targeting::FrequencyCap;

/// Reads things and gathers what is wrong with them.
pub(super) struct Reading<'c> {
    pub problems: ImportProblems,
    /// First place of each (level, id).
    ids: HashMap<(Level, String), String>,
    pub(super) currency: &'c str,
    pub(super) items: Vec<Item>,
}

/// Where something is read.
#[derive(Clone, Copy)]
pub(super) enum Place<'p> {
    /// In the list of the parent of this id, with lists of children.
    Nested(&'p str),
    /// By itself, naming its parent.
    Flat { reviewed: bool },
}

impl<'c> Reading<'c> {
    pub fn new(currency: &'c str) -> Self {
        Self { problems: ImportProblems::default(), ids: HashMap::new(), currency, items: Vec::new() }
    }

    /// The things read, if nothing is wrong with any.
    pub fn finish(mut self) -> Result<Vec<Item>, ImportProblems> {
        let campaign = |item: &Item| match &item.booking {
            Booking::Campaign(campaign) => Some((campaign.id.clone(), campaign.clone())),
            _ => None,
        };
        let campaigns: HashMap<String, Campaign> = self.items.iter().filter_map(campaign).collect();
        for item in &self.items {
            if let Booking::AdGroup(group) = &item.booking
                && let Some(message) =
                    campaigns.get(&group.campaign).and_then(|c| document::unpayable(group, c))
            {
                self.problems.push(format!("{}.bid_micros", item.path), &group.bid.0.to_string(), message);
            }
        }
        self.problems.or(self.items)
    }

    /// Reads one thing that names its parent; its review too when it is the operator's document.
    pub fn flat(&mut self, level: Level, node: &Node<'_>, reviewed: bool) {
        let place = Place::Flat { reviewed };
        match level {
            Level::Advertiser => self.advertiser(node, place),
            Level::Campaign => self.campaign(node, place),
            Level::AdGroup => self.group(node, place),
            Level::Ad => self.ad(node, place),
        }
    }

    /// The fields of a thing, with those that depend on the place.
    pub(super) fn open<'a>(
        &mut self,
        node: &Node<'a>,
        own: &[&'static str],
        place: Place<'_>,
        parent: Option<&'static str>,
        children: Option<&'static str>,
    ) -> Option<Fields<'a>> {
        let extra = if matches!(place, Place::Nested(_)) { children } else { parent };
        let known: Vec<&str> = own.iter().copied().chain(extra).collect();
        node.fields(&known, &mut self.problems)
    }

    pub(super) fn parent(&mut self, fields: &Fields<'_>, place: Place<'_>, name: &str) -> Option<String> {
        match place {
            Place::Nested(id) => Some(id.to_owned()),
            Place::Flat { .. } => {
                let id = fields.string(name, &mut self.problems)?;
                rules::id(&id, &fields.path_of(name), &mut self.problems).then_some(id)
            }
        }
    }

    pub(super) fn keep(&mut self, path: &str, booking: Booking, review: Option<(Review, String)>) {
        self.items.push(Item { path: path.to_owned(), booking, review });
    }

    pub(super) fn id(&mut self, level: Level, fields: &Fields<'_>) -> Option<String> {
        let id = fields.string("id", &mut self.problems)?;
        let path = fields.path_of("id");
        if !rules::id(&id, &path, &mut self.problems) {
            return None;
        }
        if let Some(first) = self.ids.get(&(level, id.clone())) {
            let kind = level.words();
            let message = format!("is the id of another {kind} too, at {first}: ids are unique");
            self.problems.push(path, &id, message);
        } else {
            self.ids.insert((level, id.clone()), path);
        }
        Some(id)
    }

    pub(super) fn checked(
        &mut self,
        fields: &Fields<'_>,
        name: &str,
        rule: fn(&str, &str, &mut ImportProblems),
    ) -> Option<String> {
        let value = fields.string(name, &mut self.problems)?;
        rule(&value, &fields.path_of(name), &mut self.problems);
        Some(value)
    }

    /// Texts that each follow `rule`; none twice.
    pub(super) fn texts(
        &mut self,
        fields: &Fields<'_>,
        name: &str,
        limit: usize,
        rule: fn(&str, &str, &mut ImportProblems),
    ) -> Vec<String> {
        let mut texts: Vec<String> = Vec::new();
        for (path, text) in fields.strings(name, limit, &mut self.problems) {
            rule(&text, &path, &mut self.problems);
            if texts.contains(&text) {
                self.problems.push(path, &text, "is listed twice: keep one");
            } else {
                texts.push(text);
            }
        }
        texts
    }

    /// One of a few words; the first of `all` when left out.
    pub(super) fn choice<T: Copy>(
        &mut self,
        fields: &Fields<'_>,
        name: &str,
        all: &[T],
        word: fn(T) -> &'static str,
    ) -> T {
        let Some(found) = fields.optional_string(name, &mut self.problems) else { return all[0] };
        if let Some(known) = all.iter().find(|known| word(**known) == found) {
            return *known;
        }
        let known: Vec<&str> = all.iter().map(|known| word(*known)).collect();
        self.problems.push(fields.path_of(name), &found, format!("expected {}", or(&known)));
        all[0]
    }

    pub(super) fn enabled(&mut self, fields: &Fields<'_>) -> bool {
        self.choice(fields, "status", &[true, false], |enabled| if enabled { "enabled" } else { "paused" })
    }

    pub(super) fn cap(&mut self, fields: &Fields<'_>) -> Option<FrequencyCap> {
        let problems = &mut self.problems;
        let node = fields.optional("frequency_cap")?;
        let cap = node.fields(&["impressions", "hours"], problems)?;
        let required = |name: &str, to: i64, problems: &mut ImportProblems| {
            cap.required(name, problems)?.whole(1, to, problems)
        };
        let (impressions, hours) = (required("impressions", 255, problems), required("hours", 720, problems));
        Some(FrequencyCap {
            impressions: u8::try_from(impressions?).ok()?,
            hours: u16::try_from(hours?).ok()?,
        })
    }
}

/// `a`, `a or b`, `a, b or c`.
fn or(words: &[&str]) -> String {
    match words {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => words.concat(),
    }
}
