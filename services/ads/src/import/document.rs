//! The advertiser document, checked.
//!
//! ```json
//! {"advertisers": [{"id": "acme", "name": "Acme", "paid_by": "Acme Ltd", "category": 1551, "balance_micros": 900000000,
//!   "blocked_terms": ["recall"], "blocked_authors": ["rival"], "frequency_cap": {"impressions": 20, "hours": 168},
//!   "campaigns": [{
//!   "id": "acme-shoes", "name": "Shoes", "daily_budget_micros": 20000000, "lifetime_budget_micros": 400000000,
//!   "currency": "USD", "starts": "2026-01-01", "ends": "2026-12-31", "status": "enabled", "bidding": "target_cpa",
//!   "target_cpa_micros": 9000000, "pacing": "even", "frequency_cap": {"impressions": 5, "hours": 24}, "ad_groups": [{
//!     "id": "acme-running", "name": "Running", "status": "enabled", "bid_micros": 900000, "semantic": true,
//!     "semantic_threshold": 0.6, "languages": ["en"], "countries": ["US"], "excluded_countries": [],
//!     "devices": ["phone"], "hours": [8, 9, 32, 33], "topics": [483], "excluded_topics": [],
//!     "keywords": [{"text": "running shoes", "match_type": "phrase"},
//!                  {"text": "free", "match_type": "broad", "negative": true}],
//!     "ads": [{"id": "acme-1", "headline": "Shoes that run", "text": "Light and cushioned.", "status": "enabled",
//!              "landing_url": "https://acme.example/run", "display_url": "acme.example/run",
//!              "facts": ["Weighs 215 g."], "frequency_cap": {"impressions": 2, "hours": 24},
//!              "assets": [{"kind": "image", "url": "https://acme.example/a.png", "alt": "A shoe"}]}]}]}]}]}
//! ```
//!
//! `id` and what a level has no default for must be there: names of advertisers and campaigns, `daily_budget_micros`,
//! `currency`, `bid_micros`, `headline`, `text`, `landing_url`. `paid_by` is the name when left out, `display_url` the
//! host, `bidding` `manual_cpc`, `pacing` `even`, `status` `enabled`, `semantic` false; everything else does not limit
//! when left out. Days are UTC, both inclusive; hours are those of the week from Monday 0:00 UTC.
//!
//! An ad may state `review` and `review_reason`, as an export does; it is checked against the policy when it does not.

use bowerbird_auction::Micros;

use super::fields::Node;
use super::reading::{Place, Reading};
use super::{ImportProblems, ImportReport};
use crate::booking::{AdGroup, Booking, Campaign, Level, Review};
use crate::targeting::Bidding;

const MAX_ADVERTISERS: usize = 10_000;

/// Fields of an advertiser, without its campaigns.
pub(crate) const ADVERTISER: &[&str] = &[
    "id",
    "name",
    "paid_by",
    "status",
    "category",
    "balance_micros",
    "blocked_terms",
    "blocked_authors",
    "frequency_cap",
];
/// Fields of a campaign, without its ad groups.
pub(crate) const CAMPAIGN: &[&str] = &[
    "id",
    "name",
    "daily_budget_micros",
    "lifetime_budget_micros",
    "currency",
    "starts",
    "ends",
    "status",
    "bidding",
    "target_cpa_micros",
    "pacing",
    "frequency_cap",
];
/// Fields of an ad group, without its ads.
pub(crate) const AD_GROUP: &[&str] = &[
    "id",
    "name",
    "status",
    "bid_micros",
    "semantic",
    "semantic_threshold",
    "languages",
    "countries",
    "excluded_countries",
    "devices",
    "hours",
    "topics",
    "excluded_topics",
    "keywords",
];
/// Fields of an ad.
pub(crate) const AD: &[&str] =
    &["id", "status", "headline", "text", "landing_url", "display_url", "facts", "assets", "frequency_cap"];
/// What the operator decided about an ad: in documents only, never from an advertiser.
pub(crate) const REVIEW: [&str; 2] = ["review", "review_reason"];

/// One thing of a document.
pub(crate) struct Item {
    /// Where it stands.
    pub path: String,
    pub booking: Booking,
    /// A review that the document states.
    pub review: Option<(Review, String)>,
}

/// The things of `json`, parents before children, or everything that is wrong with it. `currency` is the engine's.
pub(crate) fn parse(json: &str, currency: &str) -> Result<Vec<Item>, ImportProblems> {
    let mut reading = Reading::new(currency);
    let problems = &mut reading.problems;
    let root = Node::document(json, problems).and_then(|node| node.fields(&["advertisers"], problems));
    let nodes = root.map(|root| root.list("advertisers", MAX_ADVERTISERS, problems)).unwrap_or_default();
    if nodes.is_empty() && reading.problems.problems.is_empty() {
        reading.problems.push("$.advertisers", "", "is missing or empty: list at least one advertiser");
    }
    for node in &nodes {
        reading.advertiser(node, Place::Nested(""));
    }
    reading.finish()
}

/// One thing as a document of its own that names its parent, or everything that is wrong with it.
pub(crate) fn parse_one(level: Level, json: &str, currency: &str) -> Result<Booking, ImportProblems> {
    let mut reading = Reading::new(currency);
    if let Some(node) = Node::document(json, &mut reading.problems) {
        reading.flat(level, &node, false);
    }
    let mut items = reading.finish()?;
    items.pop().map(|item| item.booking).ok_or_else(|| {
        let mut problems = ImportProblems::default();
        problems.push("$", "", "is empty");
        problems
    })
}

/// Fields of `level` that `parse_one` knows.
pub(crate) fn known_fields(level: Level) -> Vec<&'static str> {
    let own = match level {
        Level::Advertiser => ADVERTISER,
        Level::Campaign => CAMPAIGN,
        Level::AdGroup => AD_GROUP,
        Level::Ad => AD,
    };
    own.iter().copied().chain(level.parent().map(Level::as_str)).collect()
}

/// What is in `items`, for the report.
pub(super) fn count(items: &[Item]) -> ImportReport {
    let mut report = ImportReport::default();
    for item in items {
        match &item.booking {
            Booking::Advertiser(_) => report.advertisers += 1,
            Booking::Campaign(_) => report.campaigns += 1,
            Booking::AdGroup(group) => {
                report.ad_groups += 1;
                report.keywords += group.keywords.len();
            }
            Booking::Ad(_) => report.ads += 1,
        }
    }
    report
}

/// Why a click or a thousand impressions of `group` could never be paid by `campaign`.
pub(crate) fn unpayable(group: &AdGroup, campaign: &Campaign) -> Option<String> {
    let (bid, budget) = (group.bid, campaign.daily_budget);
    if campaign.bidding == Bidding::Cpm {
        let each = Micros(bid.0.saturating_add(999) / 1000);
        return (each > budget).then(|| {
            format!(
                "is above a thousand times the daily budget of {budget}, so that no impression could ever be paid: \
                 lower it, or raise the budget"
            )
        });
    }
    (bid > budget).then(|| {
        format!(
            "is above the daily budget of {budget}, so that no click could ever be paid: lower it, or raise the budget"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::booking::Pacing;
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
        let items = parse(&with("", ""), "USD").unwrap_or_else(|problems| panic!("{problems}"));
        let [advertiser, campaign, group, ad] = items.as_slice() else { panic!("four things") };
        let Booking::Advertiser(advertiser) = &advertiser.booking else { panic!("parents come first") };
        assert_eq!((advertiser.paid_by.as_str(), advertiser.enabled), ("A", true));
        let Booking::Campaign(campaign) = &campaign.booking else { panic!("parents come first") };
        assert_eq!((campaign.bidding, campaign.pacing), (Bidding::ManualCpc, Pacing::Even));
        let Booking::AdGroup(group) = &group.booking else { panic!("parents come first") };
        assert_eq!((group.campaign.as_str(), group.keywords.len()), ("c", 1));
        let Booking::Ad(ad) = &ad.booking else { panic!("parents come first") };
        assert_eq!((ad.group.as_str(), ad.words.display_url.as_str()), ("g", "a.example"));
        let report = count(&items);
        assert_eq!((report.advertisers, report.campaigns, report.keywords, report.ads), (1, 1, 1, 1));
    }

    #[test]
    fn each_mistake_is_named_with_its_place() {
        const A: &str = "$.advertisers[0]";
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
        check(bid, "\"bid\":1", format!("{G}.bid"), "did you mean bid_micros?");
        check(bid, "\"bid\":1", format!("{G}.bid_micros"), "is missing");
        check("5000000", "1000000000000001", format!("{C}.daily_budget_micros"), "whole number of micros");
        check("\"USD\"", "\"DOLLAR\"", format!("{C}.currency"), "ISO 4217");
        check("\"USD\"", "\"EUR\"", format!("{C}.currency"), "run in USD");
        check("2026-01-31", "2025-12-31", format!("{C}.ends"), "before starts");
        check("2026-01-01", "January", format!("{C}.starts"), "expected a day");
        check("\"en\"", "\"english\"", format!("{G}.languages[0]"), "ISO 639-1");
        check("\"US\"", "\"UK\"", format!("{G}.countries[0]"), "ISO 3166-1");
        check("\"US\"", "7", format!("{G}.countries[0]"), "expected a string");
        check("\"shoes\"", "\"  \"", format!("{G}.keywords[0].text"), "empty keyword");
        check("\"shoes\"", "\"🙂\"", format!("{G}.keywords[0].text"), "empty keyword");
        check("\"broad\"", "\"fuzzy\"", format!("{G}.keywords[0].match_type"), "exact, phrase or broad");
        let long = format!("\"{}\"", "x".repeat(41));
        check("\"H\"", &long, format!("{G}.ads[0].headline"), "41 characters, the limit is 40");
        check("https:", "http:", format!("{G}.ads[0].landing_url"), "expected https");
        check("https://", "https://me:pw@", format!("{G}.ads[0].landing_url"), "password");
        let also = |field: &str| format!("\"semantic\":true,{field}");
        for (field, place, part) in [
            (r#""semantic_threshold":1.5"#, "semantic_threshold", "number from -1 to 1"),
            (r#""semantic_threshold":1e999"#, "semantic_threshold", "number from -1 to 1"),
            (r#""devices":["watch"]"#, "devices[0]", "desktop, phone, tablet or tv"),
            (r#""hours":[168]"#, "hours[0]", "0 to 167"),
            (r#""hours":[1.5]"#, "hours[0]", "0 to 167"),
            (r#""topics":[65000]"#, "topics[0]", "no topic"),
            (r#""topics":[1],"excluded_topics":[1]"#, "excluded_topics", "keep one"),
            (r#""excluded_countries":["us"]"#, "excluded_countries", "keep one"),
            (r#""name":"two\nlines""#, "name", "line break"),
        ] {
            check("\"semantic\":true", &also(field), format!("{G}.{place}"), part);
        }
        let campaign = |field: &str| format!("\"currency\":\"USD\",{field}");
        for (field, place, part) in [
            (r#""lifetime_budget_micros":4999999"#, "lifetime_budget_micros", "under the daily budget"),
            (r#""lifetime_budget_micros":0"#, "lifetime_budget_micros", "whole number of micros"),
            (r#""bidding":"max""#, "bidding", "maximise_clicks or target_cpa"),
            (r#""bidding":"target_cpa""#, "target_cpa_micros", "is missing"),
            (r#""target_cpa_micros":1"#, "target_cpa_micros", "target_cpa only"),
            (r#""pacing":"fast""#, "pacing", "even or asap"),
            (r#""frequency_cap":{"impressions":0,"hours":24}"#, "frequency_cap.impressions", "1 to 255"),
            (r#""frequency_cap":{"impressions":256,"hours":24}"#, "frequency_cap.impressions", "1 to 255"),
            (r#""frequency_cap":{"impressions":3,"hours":721}"#, "frequency_cap.hours", "1 to 720"),
            (r#""frequency_cap":{"impressions":3}"#, "frequency_cap.hours", "is missing"),
            (r#""frequency_cap":3"#, "frequency_cap", "expected an object"),
        ] {
            check("\"currency\":\"USD\"", &campaign(field), format!("{C}.{place}"), part);
        }
        let ad = |field: &str| format!("\"text\":\"T\",{field}");
        let long = "x".repeat(201);
        let asset = r#"{"kind":"image","url":"https://a.example/i.png","alt":"A"}"#;
        for (field, place, part) in [
            (format!("\"facts\":[\"{long}\"]"), "facts[0]", "limit is 200"),
            (format!("\"facts\":[{}\"x\"]", "\"x\",".repeat(20)), "facts", "limit is 20"),
            (r#""facts":["x","x"]"#.into(), "facts[1]", "listed twice"),
            (format!("\"assets\":[{}{asset}]", format!("{asset},").repeat(8)), "assets", "limit is 8"),
            (
                r#""assets":[{"kind":"image","url":"http://a.example/i.png","alt":"A"}]"#.into(),
                "assets[0].url",
                "https",
            ),
            (
                r#""assets":[{"kind":"film","url":"https://a.example/i","alt":"A"}]"#.into(),
                "assets[0].kind",
                "logo",
            ),
            (
                r#""assets":[{"kind":"logo","url":"https://a.example/i"}]"#.into(),
                "assets[0].alt",
                "is missing",
            ),
            (r#""display_url":"b.example""#.into(), "display_url", "host of the landing page"),
            (r#""review":"fine""#.into(), "review", "under_review or disapproved"),
        ] {
            check("\"text\":\"T\"", &ad(&field), format!("{G}.ads[0].{place}"), part);
        }
        for (field, place, part) in [
            (r#""category":0"#, "category", "1 to 99999"),
            (r#""balance_micros":-1"#, "balance_micros", "whole number of micros"),
            (r#""blocked_terms":[" "]"#, "blocked_terms[0]", "empty keyword"),
            (r#""blocked_authors":["a","a"]"#, "blocked_authors[1]", "listed twice"),
            (r#""status":"gone""#, "status", "enabled or paused"),
        ] {
            check("\"name\":\"A\"", &format!("\"name\":\"A\",{field}"), format!("{A}.{place}"), part);
        }
        let hundred_kilobytes = format!("\"{}\"", "w ".repeat(50_000));
        check("\"shoes\"", &hundred_kilobytes, format!("{G}.keywords[0].text"), "too long");
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

    #[test]
    fn a_bid_for_a_thousand_impressions_is_held_against_one() {
        let cpm = with("\"currency\":\"USD\"", "\"currency\":\"USD\",\"bidding\":\"cpm\"");
        let bid = |micros: &str| cpm.replace("\"bid_micros\":1000000", &format!("\"bid_micros\":{micros}"));
        assert!(parse(&bid("5000000000"), "USD").is_ok());
        assert!(parse(&bid("5000000001"), "USD").is_err());
    }

    #[test]
    fn one_thing_names_its_parent_and_no_review() {
        let ad = r#"{"id":"x","ad_group":"g","headline":"H","text":"T","landing_url":"https://a.example/"}"#;
        assert_eq!(
            parse_one(Level::Ad, ad, "USD").map(|b| b.parent().map(str::to_owned)),
            Ok(Some("g".into()))
        );
        for bad in [
            ad.replace("\"ad_group\":\"g\",", ""),
            ad.replace("\"id\"", "\"review\":\"approved\",\"id\""),
            ad.replace("\"id\":\"x\"", "\"id\":\"x\",\"campaigns\":[]"),
            "[]".into(),
            String::new(),
        ] {
            assert!(parse_one(Level::Ad, &bad, "USD").is_err(), "{bad}");
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
