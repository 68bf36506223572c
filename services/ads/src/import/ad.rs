//! Ads of a document.

use super::document::{AD, REVIEW};
use super::fields::{Fields, Node};
use super::reading::{Place, Reading};
use super::rules;
use crate::booking::{Ad, Asset, Booking, Level, Review, Words};

const MAX_FACTS: usize = 20;
const MAX_ASSETS: usize = 8;

impl Reading<'_> {
    pub(super) fn ad(&mut self, node: &Node<'_>, place: Place<'_>) {
        let reviewed = matches!(place, Place::Nested(_) | Place::Flat { reviewed: true });
        let known: Vec<&str> = AD.iter().chain(REVIEW.iter().filter(|_| reviewed)).copied().collect();
        let Some(fields) = self.open(node, &known, place, Some("ad_group"), None) else { return };
        let id = self.id(Level::Ad, &fields);
        let ad_group = self.parent(&fields, place, "ad_group");
        let enabled = self.enabled(&fields);
        let headline = self.checked(&fields, "headline", rules::headline);
        let text = self.checked(&fields, "text", rules::text);
        let landing = fields.string("landing_url", &mut self.problems);
        let landing = landing
            .and_then(|url| rules::landing_url(&url, &fields.path_of("landing_url"), &mut self.problems));
        let shown = fields.optional_string("display_url", &mut self.problems);
        if let (Some(shown), Some(landing)) = (&shown, &landing) {
            rules::display_url(shown, landing, &fields.path_of("display_url"), &mut self.problems);
        }
        let facts = self.texts(&fields, "facts", MAX_FACTS, rules::fact);
        let assets = fields.list("assets", MAX_ASSETS, &mut self.problems);
        let assets = assets.iter().filter_map(|node| self.asset(node)).collect();
        let cap = self.cap(&fields);
        let review = if reviewed { self.review(&fields) } else { None };
        if let (Some(id), Some(ad_group), Some(headline), Some(text), Some(landing)) =
            (id, ad_group, headline, text, landing)
        {
            let display_url = shown.unwrap_or_else(|| landing.host_str().unwrap_or_default().to_owned());
            let landing_url = landing.to_string();
            let words = Words { headline, text, landing_url, display_url, facts, assets };
            self.keep(&node.path, Booking::Ad(Ad { id, group: ad_group, enabled, cap, words }), review);
        }
    }

    fn asset(&mut self, node: &Node<'_>) -> Option<Asset> {
        let fields = node.fields(&["kind", "url", "alt"], &mut self.problems)?;
        let kind = fields.string("kind", &mut self.problems);
        if let Some(kind) = kind.as_ref().filter(|kind| !matches!(kind.as_str(), "image" | "logo")) {
            self.problems.push(fields.path_of("kind"), kind, "expected image or logo");
        }
        let url = fields.string("url", &mut self.problems);
        let url = url.and_then(|url| rules::landing_url(&url, &fields.path_of("url"), &mut self.problems));
        let alt = self.checked(&fields, "alt", rules::alt);
        Some(Asset { kind: kind?, url: url?.to_string(), alt: alt? })
    }

    fn review(&mut self, fields: &Fields<'_>) -> Option<(Review, String)> {
        let reason = fields.optional_string("review_reason", &mut self.problems).unwrap_or_default();
        if !reason.is_empty() {
            rules::fact(&reason, &fields.path_of("review_reason"), &mut self.problems);
        }
        fields.optional("review")?;
        Some((self.choice(fields, "review", &Review::ALL, Review::as_str), reason))
    }
}
