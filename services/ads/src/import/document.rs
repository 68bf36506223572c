//! The advertiser document, checked.
//!
//! ```json
//! {"advertisers": [{"id": "acme", "name": "Acme", "paid_by": "Acme Ltd", "campaigns": [{
//!   "id": "acme-shoes", "name": "Shoes", "daily_budget_micros": 20000000, "currency": "USD",
//!   "starts": "2026-01-01", "ends": "2026-12-31", "status": "enabled", "ad_groups": [{
//!     "id": "acme-running", "bid_micros": 900000, "semantic": true, "languages": ["en"], "countries": ["US"],
//!     "keywords": [{"text": "running shoes", "match_type": "phrase"},
//!                  {"text": "free", "match_type": "broad", "negative": true}],
//!     "ads": [{"id": "acme-1", "headline": "Shoes that run", "text": "Light and cushioned.",
//!              "landing_url": "https://acme.example/run", "display_url": "acme.example/run"}]}]}]}]}
//! ```
//!
//! `paid_by` is the name when left out; `starts`, `ends`, `languages` and `countries` do not limit when left out;
//! `status` is `enabled` or `paused`; `semantic` is false and `display_url` the host when left out. Days are UTC,
//! both inclusive.

use std::collections::{BTreeSet, HashMap};

use bowerbird_auction::MAX_BID;

use super::fields::{Fields, Node};
use super::{ImportProblems, ImportReport, is_known_currency, rules};
use crate::MatchType;
use crate::keywords::{Keyword, MAX_WORDS};
use crate::text::words;

const MAX_ADVERTISERS: usize = 10_000;
const MAX_CAMPAIGNS: usize = 1000;
const MAX_GROUPS: usize = 1000;
const MAX_KEYWORDS: usize = 1000;
const MAX_KEYWORD_CHARS: usize = 80;
const MAX_ADS: usize = 100;
const MAX_TARGETS: usize = 250;

/// An advertiser as booked.
pub(crate) struct Advertiser {
    pub id: String,
    pub name: String,
    pub paid_by: String,
    pub campaigns: Vec<Campaign>,
}

/// A campaign as booked.
pub(crate) struct Campaign {
    pub id: String,
    pub path: String,
    pub name: String,
    pub daily_budget_micros: i64,
    pub currency: String,
    pub starts: Option<String>,
    pub ends: Option<String>,
    pub status: &'static str,
    pub groups: Vec<Group>,
}

/// An ad group as booked.
pub(crate) struct Group {
    pub id: String,
    pub path: String,
    pub bid_micros: i64,
    pub semantic: bool,
    pub languages: BTreeSet<String>,
    pub countries: BTreeSet<String>,
    pub keywords: Vec<Keyword>,
    pub ads: Vec<Ad>,
}

/// An ad as booked.
pub(crate) struct Ad {
    pub id: String,
    pub path: String,
    pub headline: String,
    pub text: String,
    pub landing_url: String,
    pub display_url: String,
    pub status: &'static str,
}

struct Reading<'c> {
    problems: ImportProblems,
    /// First place of each (kind, id).
    ids: HashMap<(&'static str, String), String>,
    currency: &'c str,
}

/// The advertisers of `json`, or everything that is wrong with it. `currency` is the engine's.
pub(crate) fn parse(json: &str, currency: &str) -> Result<Vec<Advertiser>, ImportProblems> {
    let mut reading = Reading { problems: ImportProblems::default(), ids: HashMap::new(), currency };
    let problems = &mut reading.problems;
    let root = Node::document(json, problems).and_then(|node| node.fields(&["advertisers"], problems));
    let nodes = root.map(|root| root.list("advertisers", MAX_ADVERTISERS, problems)).unwrap_or_default();
    if nodes.is_empty() && reading.problems.problems.is_empty() {
        reading.problems.push("$.advertisers", "", "is missing or empty: list at least one advertiser");
    }
    let advertisers = nodes.iter().filter_map(|node| reading.advertiser(node)).collect();
    reading.problems.or(advertisers)
}

/// What is in `advertisers`, for the report.
pub(super) fn count(advertisers: &[Advertiser]) -> ImportReport {
    let campaigns = || advertisers.iter().flat_map(|a| &a.campaigns);
    let groups = || campaigns().flat_map(|c| &c.groups);
    ImportReport {
        advertisers: advertisers.len(),
        campaigns: campaigns().count(),
        ad_groups: groups().count(),
        keywords: groups().map(|g| g.keywords.len()).sum(),
        ads: groups().map(|g| g.ads.len()).sum(),
        new_versions: 0,
    }
}

impl Reading<'_> {
    fn id(&mut self, kind: &'static str, fields: &Fields<'_>) -> Option<String> {
        let id = fields.string("id", &mut self.problems)?;
        let path = fields.path_of("id");
        if !rules::id(&id, &path, &mut self.problems) {
            return None;
        }
        if let Some(first) = self.ids.get(&(kind, id.clone())) {
            self.problems.push(
                path,
                &id,
                format!("is the id of another {kind} too, at {first}: ids are unique"),
            );
        } else {
            self.ids.insert((kind, id.clone()), path);
        }
        Some(id)
    }

    fn checked(
        &mut self,
        fields: &Fields<'_>,
        name: &str,
        rule: fn(&str, &str, &mut ImportProblems),
    ) -> Option<String> {
        let value = fields.string(name, &mut self.problems)?;
        rule(&value, &fields.path_of(name), &mut self.problems);
        Some(value)
    }

    fn status(&mut self, fields: &Fields<'_>) -> &'static str {
        match fields.optional_string("status", &mut self.problems).as_deref() {
            None | Some("enabled") => "enabled",
            Some("paused") => "paused",
            Some(other) => {
                self.problems.push(fields.path_of("status"), other, "expected enabled or paused");
                "paused"
            }
        }
    }

    fn advertiser(&mut self, node: &Node<'_>) -> Option<Advertiser> {
        let fields = node.fields(&["id", "name", "paid_by", "campaigns"], &mut self.problems)?;
        let id = self.id("advertiser", &fields);
        let name = self.checked(&fields, "name", rules::name);
        let paid_by = fields.optional_string("paid_by", &mut self.problems).or_else(|| name.clone());
        if let Some(paid_by) = &paid_by {
            rules::name(paid_by, &fields.path_of("paid_by"), &mut self.problems);
        }
        let nodes = fields.list("campaigns", MAX_CAMPAIGNS, &mut self.problems);
        let campaigns = nodes.iter().filter_map(|node| self.campaign(node)).collect();
        Some(Advertiser { id: id?, name: name?, paid_by: paid_by?, campaigns })
    }

    fn campaign(&mut self, node: &Node<'_>) -> Option<Campaign> {
        let known =
            ["id", "name", "daily_budget_micros", "currency", "starts", "ends", "status", "ad_groups"];
        let fields = node.fields(&known, &mut self.problems)?;
        let id = self.id("campaign", &fields);
        let name = self.checked(&fields, "name", rules::name);
        let budget = fields.micros("daily_budget_micros", 1, MAX_BID.0, &mut self.problems);
        let currency = fields.string("currency", &mut self.problems);
        if let Some(code) = &currency {
            let path = fields.path_of("currency");
            if !is_known_currency(code) {
                self.problems.push(path, code, "expected an ISO 4217 code such as USD or EUR");
            } else if code != self.currency {
                let message = format!("auctions here run in {}: book in that currency", self.currency);
                self.problems.push(path, code, message);
            }
        }
        let (starts, ends) = self.dates(&fields);
        let status = self.status(&fields);
        let nodes = fields.list("ad_groups", MAX_GROUPS, &mut self.problems);
        let groups = nodes.iter().filter_map(|node| self.group(node, budget)).collect();
        Some(Campaign {
            id: id?,
            path: node.path.clone(),
            name: name?,
            daily_budget_micros: budget?,
            currency: currency?,
            starts,
            ends,
            status,
            groups,
        })
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

    fn group(&mut self, node: &Node<'_>, daily_budget: Option<i64>) -> Option<Group> {
        let known = ["id", "bid_micros", "semantic", "languages", "countries", "keywords", "ads"];
        let fields = node.fields(&known, &mut self.problems)?;
        let id = self.id("ad group", &fields);
        let bid = fields.micros("bid_micros", 1, MAX_BID.0, &mut self.problems);
        if let (Some(bid), Some(budget)) = (bid, daily_budget)
            && bid > budget
        {
            let message = format!("is above the daily budget of {budget}: no click could ever be paid");
            self.problems.push(fields.path_of("bid_micros"), &bid.to_string(), message);
        }
        let semantic = fields.optional_bool("semantic", false, &mut self.problems);
        let languages = self.codes(&fields, "languages", false, "language (ISO 639-1) such as en");
        let countries = self.codes(&fields, "countries", true, "country (ISO 3166-1) such as US");
        let nodes = fields.list("keywords", MAX_KEYWORDS, &mut self.problems);
        let mut seen = BTreeSet::new();
        let mut keywords = Vec::new();
        for node in &nodes {
            let Some(keyword) = self.keyword(node) else { continue };
            if seen.insert((keyword.text.clone(), keyword.match_type, keyword.negative)) {
                keywords.push(keyword);
            } else {
                self.problems.push(&node.path, &keyword.text, "is listed twice in this ad group: keep one");
            }
        }
        let nodes = fields.list("ads", MAX_ADS, &mut self.problems);
        let ads = nodes.iter().filter_map(|node| self.ad(node)).collect();
        let path = node.path.clone();
        Some(Group { id: id?, path, bid_micros: bid?, semantic, languages, countries, keywords, ads })
    }

    fn codes(&mut self, fields: &Fields<'_>, name: &str, upper: bool, what: &str) -> BTreeSet<String> {
        let values = fields.strings(name, MAX_TARGETS, &mut self.problems);
        let check =
            |(path, value): (String, String)| rules::code(&value, upper, what, &path, &mut self.problems);
        values.into_iter().filter_map(check).collect()
    }

    fn keyword(&mut self, node: &Node<'_>) -> Option<Keyword> {
        let fields = node.fields(&["text", "match_type", "negative"], &mut self.problems)?;
        let text = fields.string("text", &mut self.problems);
        if let Some(text) = &text {
            let found = words(text, MAX_WORDS + 1).len();
            let path = fields.path_of("text");
            if found == 0 {
                self.problems.push(path, text, "is an empty keyword: write at least one word");
            } else if found > MAX_WORDS || text.chars().count() > MAX_KEYWORD_CHARS {
                let message =
                    format!("is too long: at most {MAX_WORDS} words and {MAX_KEYWORD_CHARS} characters");
                self.problems.push(path, text, message);
            }
        }
        let name = fields.string("match_type", &mut self.problems);
        let match_type = name.as_deref().and_then(MatchType::parse);
        if let (Some(name), None) = (&name, match_type) {
            self.problems.push(fields.path_of("match_type"), name, "expected exact, phrase or broad");
        }
        let negative = fields.optional_bool("negative", false, &mut self.problems);
        Some(Keyword { text: text?, match_type: match_type?, negative })
    }

    fn ad(&mut self, node: &Node<'_>) -> Option<Ad> {
        let fields = node.fields(
            &["id", "headline", "text", "landing_url", "display_url", "status"],
            &mut self.problems,
        )?;
        let id = self.id("ad", &fields);
        let headline = self.checked(&fields, "headline", rules::headline);
        let text = self.checked(&fields, "text", rules::text);
        let landing = fields.string("landing_url", &mut self.problems);
        let landing = landing
            .and_then(|url| rules::landing_url(&url, &fields.path_of("landing_url"), &mut self.problems));
        let shown = fields.optional_string("display_url", &mut self.problems);
        if let (Some(shown), Some(landing)) = (&shown, &landing) {
            rules::display_url(shown, landing, &fields.path_of("display_url"), &mut self.problems);
        }
        let status = self.status(&fields);
        let landing = landing?;
        let display_url = shown.unwrap_or_else(|| landing.host_str().unwrap_or_default().to_owned());
        let landing_url = landing.to_string();
        let path = node.path.clone();
        Some(Ad { id: id?, path, headline: headline?, text: text?, landing_url, display_url, status })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A good document with one value replaced.
    fn with(path_in_text: &str, replacement: &str) -> String {
        let good = r#"{"advertisers":[{"id":"a","name":"A","campaigns":[{"id":"c","name":"C",
            "daily_budget_micros":5000000,"currency":"USD","starts":"2026-01-01","ends":"2026-01-31",
            "ad_groups":[{"id":"g","bid_micros":1000000,"semantic":true,"languages":["en"],"countries":["US"],
            "keywords":[{"text":"shoes","match_type":"broad"}],
            "ads":[{"id":"x","headline":"H","text":"T","landing_url":"https://a.example/"}]}]}]}]}"#;
        assert!(
            path_in_text.is_empty() || good.contains(path_in_text),
            "{path_in_text} is not in the document"
        );
        if path_in_text.is_empty() { good.into() } else { good.replacen(path_in_text, replacement, 1) }
    }

    #[test]
    fn a_good_document_is_read_with_its_defaults() {
        let advertisers = parse(&with("", ""), "USD").unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(advertisers[0].paid_by, "A");
        let campaign = &advertisers[0].campaigns[0];
        assert_eq!(campaign.status, "enabled");
        assert_eq!(campaign.groups[0].ads[0].display_url, "a.example");
        let report = count(&advertisers);
        assert_eq!((report.advertisers, report.campaigns, report.keywords, report.ads), (1, 1, 1, 1));
    }

    #[test]
    fn each_mistake_is_named_with_its_place() {
        const C: &str = "$.advertisers[0].campaigns[0]";
        const G: &str = "$.advertisers[0].campaigns[0].ad_groups[0]";
        let check = |replace: &str, by: &str, path: String, part: &str| {
            let problems =
                parse(&with(replace, by), "USD").err().unwrap_or_else(|| panic!("{by} was accepted"));
            let hit = problems.problems.iter().any(|p| p.path == path && p.message.contains(part));
            assert!(hit, "{by}: expected {path} with {part:?} in\n{problems}");
        };
        let bid = "\"bid_micros\":1000000";
        for bad in ["0", "-5", "1e400", "0.5", "1000000000000001"] {
            check(bid, &format!("\"bid_micros\":{bad}"), format!("{G}.bid_micros"), "whole number of micros");
        }
        check(bid, "\"bid_micros\":5000001", format!("{G}.bid_micros"), "above the daily budget");
        check(bid, "\"bid\":1", format!("{G}.bid"), "unknown field");
        check(bid, "\"bid\":1", format!("{G}.bid_micros"), "is missing");
        check("5000000", "1000000000000001", format!("{C}.daily_budget_micros"), "whole number of micros");
        check("\"USD\"", "\"DOLLAR\"", format!("{C}.currency"), "ISO 4217");
        check("\"USD\"", "\"EUR\"", format!("{C}.currency"), "run in USD");
        check("2026-01-31", "2025-12-31", format!("{C}.ends"), "before starts");
        check("2026-01-01", "January", format!("{C}.starts"), "expected a day");
        check("\"en\"", "\"english\"", format!("{G}.languages[0]"), "two-letter");
        check("\"US\"", "7", format!("{G}.countries[0]"), "expected a string");
        check("\"shoes\"", "\"  \"", format!("{G}.keywords[0].text"), "empty keyword");
        check("\"shoes\"", "\"🙂\"", format!("{G}.keywords[0].text"), "empty keyword");
        check("\"broad\"", "\"fuzzy\"", format!("{G}.keywords[0].match_type"), "exact, phrase or broad");
        let long = format!("\"{}\"", "x".repeat(41));
        check("\"H\"", &long, format!("{G}.ads[0].headline"), "41 characters, the limit is 40");
        check("https:", "http:", format!("{G}.ads[0].landing_url"), "expected https");
        check("https://", "https://me:pw@", format!("{G}.ads[0].landing_url"), "password");
        check("\"semantic\":true", "\"semantic\":1", format!("{G}.semantic"), "true or false");
        check(
            "\"name\":\"C\"",
            "\"name\":\"C\",\"status\":\"on\"",
            format!("{C}.status"),
            "enabled or paused",
        );
        let twice = r#""ads":[{"id":"x","headline":"H","text":"T","landing_url":"https://b.example/"},"#;
        check("\"ads\":[", twice, format!("{G}.ads[1].id"), "another ad");
        let many = format!("\"keywords\":[{}", "{\"text\":\"a\",\"match_type\":\"broad\"},".repeat(1000));
        check("\"keywords\":[", &many, format!("{G}.keywords"), "the limit is 1000");
        check(
            "{\"text\":\"shoes\"",
            "7,{\"text\":\"shoes\"",
            format!("{G}.keywords[0]"),
            "expected an object",
        );
    }

    #[test]
    fn all_problems_come_at_once() {
        let json = with("", "")
            .replace("\"bid_micros\":1000000", "\"bid_micros\":0")
            .replace("\"USD\"", "\"XXX\"")
            .replace("\"shoes\"", "\"\"")
            .replace("https:", "ftp:");
        let problems = parse(&json, "USD").err().expect("four mistakes");
        assert_eq!(problems.problems.len(), 4, "{problems}");
        for bad in ["", "[]", "{}", "{\"advertisers\":[]}", "null", "{\"advertisers\":{}}", "\u{0}"] {
            assert!(parse(bad, "USD").is_err(), "{bad:?}");
        }
    }

    proptest! {
        /// A good document with bytes replaced or cut out: read or refused, never a panic.
        #[test]
        fn no_mutation_panics(at in any::<prop::sample::Index>(), cut in 0..40_usize, put in "[ -~]{0,8}") {
            let mut json = with("", "");
            let at = at.index(json.len());
            json.replace_range(at..(at + cut).min(json.len()), &put);
            if let Err(problems) = parse(&json, "USD") {
                prop_assert!(!problems.problems.is_empty());
                prop_assert!(!problems.to_string().is_empty());
            }
        }
    }
}
