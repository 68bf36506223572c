//! A made-up market of any size, the same for the same seed, for tests and benches of matching.
//!
//! Words are drawn so that the n-th is asked for about `1/√n` as often as the first, as the words of keywords are once
//! nobody books `the`. Vectors lie in clusters: about .7 to
//! one another within, .45 across, so that about one ad in a hundred is near a request.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bowerbird_auction::Micros;
use bowerbird_models_api::Embedding;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use roaring::RoaringBitmap;

use crate::audience::Audience;
use crate::booking::{Pacing, Review};
use crate::budget_bits::BudgetBits;
use crate::caps::{Caps, UserHash};
use crate::eligibility::{stop, topic_stop};
use crate::explain::Funnel;
use crate::index::{Ad, AdIndex, Advertiser, Campaign, Group};
use crate::keywords::{Keyword, MatchType};
use crate::matching::{self, Match, Question};
use crate::snapshot::{AdCaps, Snapshot};
use crate::targeting::{Bidding, FrequencyCap, Targeting};
use crate::text::QueryWords;
use crate::{Device, Explain};

const SECRET: [u8; 32] = [3; 32];
const CLUSTERS: usize = 100;
const THRESHOLD: f32 = 0.6;

/// How large a market is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Ads; three to a group, two groups to a campaign, four campaigns to an advertiser.
    pub ads: usize,
    /// Keywords, a tenth of them negative.
    pub keywords: usize,
    /// Components of a vector.
    pub dim: usize,
    /// Different words.
    pub words: usize,
    /// Requests that are made up.
    pub requests: usize,
}

/// A request with its vector.
struct Asked {
    audience: Audience,
    query: QueryWords,
    embedding: Embedding,
    user: Option<UserHash>,
    now: i64,
}

/// Advertisers, ads, budgets and caps, and requests to them.
pub struct Market {
    snapshot: Snapshot,
    caps: Arc<Caps>,
    requests: Vec<Asked>,
    /// Most ads that are found.
    pub limit: usize,
}

impl Market {
    /// Makes one up.
    ///
    /// # Panics
    /// When `size` has no ad, word or component.
    pub fn new(seed: u64, size: Size) -> Self {
        let rng = &mut SmallRng::seed_from_u64(seed);
        let vectors = Vectors::new(rng, size.dim);
        let words: Vec<String> = (0..size.words).map(word).collect();
        let index = bookings(rng, size, &vectors, &words);
        let targeting = (0..index.groups.len()).map(|_| targeting(rng)).collect();
        let caps = (0..size.ads).filter(|ad| ad % 3 == 0).map(|ad| (ad, ad_caps(rng, ad))).collect();
        let budgets = Arc::new(BudgetBits::default());
        for campaign in index.campaigns.iter().filter(|_| rng.random_bool(0.05)).collect::<Vec<_>>() {
            budgets.set(&campaign.id, false);
        }
        let snapshot = Snapshot::with(index, targeting, caps, budgets, THRESHOLD).expect("dimensions agree");
        let requests =
            (0..size.requests).map(|_| request(rng, &vectors, &words, size.requests / 20)).collect();
        Self { snapshot, caps: Arc::new(Caps::new(&SECRET, 1_000_000, 3600)), requests, limit: 32 }
    }

    /// How many ads may be shown to the asking side of request `at`, whatever they are about.
    pub fn eligible(&self, at: usize) -> usize {
        self.eligible_ads(&self.requests[at]).len() as usize
    }

    /// How many groups the words of request `at` call up.
    pub fn called_up(&self, at: usize) -> usize {
        let keywords = &self.snapshot.ads.keywords;
        keywords.matches(&keywords.ask(&self.requests[at].query), |_| true).len()
    }

    /// How many ads meaning may call up at request `at` by the bounds of their cosines.
    pub fn near(&self, at: usize) -> usize {
        let asked = &self.requests[at];
        let allowed = self.eligible_ads(asked) & &self.snapshot.semantic;
        let mut near = 0;
        let count =
            |place: u32, upper| near += usize::from(upper >= self.snapshot.thresholds[place as usize]);
        if let Some(vectors) = &self.snapshot.vectors {
            vectors.upper_bounds(asked.embedding.as_slice(), &allowed, count).expect("dimensions agree");
        }
        near
    }

    /// The whole way of request `at` up to the relevance gate: positions of the ads it finds, closest first.
    pub fn find(&self, at: usize) -> Vec<usize> {
        let asked = &self.requests[at];
        positions(&self.find_in(asked, &self.eligible_ads(asked)))
    }

    /// As [`Market::find`], looking at every ad.
    pub fn find_by_looking_at_all(&self, at: usize) -> Vec<usize> {
        positions(&self.all(&self.requests[at]))
    }

    /// Shows the first `slots` of `found` to the person of request `at`: takes their places under caps and counts the
    /// impressions. Returns how many were shown, and how many of those had caps nobody looked at.
    pub fn show(&self, at: usize, found: &[usize], slots: usize) -> (usize, usize) {
        let asked = &self.requests[at];
        let (mut shown, mut unchecked) = (0, 0);
        for ad in found.iter().take(slots) {
            let scopes = self.snapshot.scopes(*ad);
            match asked.user {
                Some(user) => {
                    let Some(hold) = self.caps.try_hold(user, &scopes, asked.now) else { continue };
                    self.caps.confirm(&hold, asked.now);
                }
                None if scopes.is_empty() => {}
                None => unchecked += 1,
            }
            shown += 1;
        }
        (shown, unchecked)
    }

    /// A reason for every campaign at request `at`, with all found ads left at "not scored".
    pub fn explain(&self, at: usize) -> Explain {
        let asked = &self.requests[at];
        let found = self.find_in(asked, &self.eligible_ads(asked));
        let mut funnel = Funnel::default();
        matching::explain(&self.snapshot, &asked.audience, Some(&self.question(asked)), &found, &mut funnel)
            .expect("dimensions agree");
        for found in found {
            funnel.stop(found.ad, crate::Reason::LostAuction);
        }
        funnel.explain(&self.snapshot.ads)
    }

    /// Ids of all campaigns, in order.
    pub fn campaigns(&self) -> Vec<&str> {
        self.snapshot.ads.campaigns.iter().map(|campaign| campaign.id.as_str()).collect()
    }

    fn question<'a>(&'a self, asked: &'a Asked) -> Question<'a> {
        Question {
            query: &asked.query,
            embedding: &asked.embedding,
            user: asked.user,
            caps: &self.caps,
            now: asked.now,
            limit: self.limit,
        }
    }

    fn eligible_ads(&self, asked: &Asked) -> RoaringBitmap {
        let mut eligible = self.snapshot.eligibility.eligible(&asked.audience);
        self.snapshot.eligibility.narrow_topics(&mut eligible, &asked.audience.topics);
        eligible
    }

    fn find_in(&self, asked: &Asked, eligible: &RoaringBitmap) -> Vec<Match> {
        matching::find(&self.snapshot, eligible, &self.question(asked)).expect("dimensions agree")
    }

    fn all(&self, asked: &Asked) -> Vec<Match> {
        let (snapshot, index) = (&self.snapshot, &*self.snapshot.ads);
        let words = index.keywords.ask(&asked.query);
        let hits = index.keywords.matches(&words, |_| true);
        let hits: HashMap<usize, _> = hits.into_iter().map(|hit| (hit.group, hit)).collect();
        let mut found = Vec::new();
        for (at, ad) in index.ads.iter().enumerate() {
            let terms = snapshot.terms(at);
            let funded = snapshot.eligibility.funded(terms.budget);
            if stop(&terms, &asked.audience, funded).is_some()
                || topic_stop(terms.targeting, &asked.audience.topics).is_some()
            {
                continue;
            }
            let keyword = hits.get(&ad.group);
            if keyword.is_none() && !index.groups[ad.group].semantic {
                continue;
            }
            let cosine = ad.embedding.cosine(&asked.embedding).expect("dimensions agree");
            let scopes = snapshot.scopes(at);
            let capped =
                !scopes.is_empty() && asked.user.is_none_or(|user| !self.caps.room(user, &scopes, asked.now));
            if keyword.is_none() && cosine < snapshot.thresholds[snapshot.place_of[at] as usize]
                || index.keywords.forbidden(ad.group, &words).is_some()
                || capped
            {
                continue;
            }
            found.push(Match { ad: at, keyword: keyword.map(|hit| hit.owned()), cosine });
        }
        let kind = |m: &Match| m.keyword.as_ref().map_or(u8::MAX, |keyword| keyword.match_type as u8);
        found.sort_by(|a, b| kind(a).cmp(&kind(b)).then(b.cosine.total_cmp(&a.cosine)).then(a.ad.cmp(&b.ad)));
        found.truncate(self.limit);
        found
    }
}

fn positions(found: &[Match]) -> Vec<usize> {
    found.iter().map(|found| found.ad).collect()
}

/// Vectors that lie in clusters.
struct Vectors {
    common: Vec<f32>,
    centres: Vec<Vec<f32>>,
}

impl Vectors {
    fn new(rng: &mut SmallRng, dim: usize) -> Self {
        Self { common: noise(rng, dim), centres: (0..CLUSTERS).map(|_| noise(rng, dim)).collect() }
    }

    fn one(&self, rng: &mut SmallRng) -> Embedding {
        let centre = &self.centres[rng.random_range(0..CLUSTERS)];
        let own = noise(rng, centre.len());
        let parts = self.common.iter().zip(centre).zip(&own);
        let mixed = parts.map(|((common, centre), own)| 0.67 * common + 0.5 * centre + 0.55 * own);
        Embedding::normalized(mixed.collect()).expect("finite and not zero")
    }
}

/// A direction at random, of unit length.
fn noise(rng: &mut SmallRng, dim: usize) -> Vec<f32> {
    // A sum of three uniform numbers is near enough to a normal one.
    let values: Vec<f32> = (0..dim).map(|_| (0..3).map(|_| rng.random_range(-1.0f32..1.0)).sum()).collect();
    let length = values.iter().map(|v| v * v).sum::<f32>().sqrt();
    values.iter().map(|v| v / length).collect()
}

/// The n-th word, of letters only.
fn word(mut n: usize) -> String {
    let mut word = String::from("w");
    loop {
        word.push(char::from(b'a' + (n % 25) as u8)); // no `z`, and below no plural
        n /= 25;
        if n == 0 {
            return word + "z";
        }
    }
}

/// A word, the earlier the likelier.
fn pick<'a>(rng: &mut SmallRng, words: &'a [String]) -> &'a str {
    let at = (words.len() as f64 * rng.random_range(0.0f64..1.0).powi(2)) as usize;
    &words[at.min(words.len() - 1)]
}

fn phrase(rng: &mut SmallRng, words: &[String], count: usize) -> String {
    (0..count).map(|_| pick(rng, words)).collect::<Vec<_>>().join(" ")
}

fn bookings(rng: &mut SmallRng, size: Size, vectors: &Vectors, words: &[String]) -> AdIndex {
    let mut index = AdIndex::default();
    let groups = size.ads.div_ceil(3);
    let campaigns = groups.div_ceil(2);
    for at in 0..campaigns.div_ceil(4) {
        index.advertisers.push(Advertiser {
            id: format!("advertiser-{at}"),
            name: format!("advertiser-{at}"),
            paid_by: String::new(),
            enabled: true,
            balance: None,
            category: None,
            blocked_terms: Vec::new(),
            blocked_authors: Vec::new(),
            cap: None,
        });
    }
    let day = |rng: &mut SmallRng, share| {
        rng.random_bool(share).then(|| format!("2026-03-{:02}", rng.random_range(1..=28)))
    };
    for at in 0..campaigns {
        index.campaigns.push(Campaign {
            id: format!("campaign-{at:07}"),
            advertiser: at / 4,
            daily_budget: Micros(1_000_000_000),
            lifetime_budget: None,
            bidding: Bidding::ManualCpc,
            target_cpa: None,
            pacing: Pacing::default(),
            cap: None,
            starts: day(rng, 0.2),
            ends: day(rng, 0.2),
            enabled: rng.random_bool(0.95),
            groups: Vec::new(),
        });
    }
    for at in 0..groups {
        index.campaigns[at / 2].groups.push(at);
        index.groups.push(Group {
            id: format!("group-{at:07}"),
            campaign: at / 2,
            bid: Micros(500_000),
            semantic: rng.random_bool(0.7),
            name: String::new(),
            semantic_threshold: None,
            targeting: Targeting::default(),
            enabled: true,
            ads: Vec::new(),
        });
    }
    for at in 0..size.ads {
        let group = at / 3;
        index.groups[group].ads.push(at);
        index.ads.push(Ad {
            id: format!("ad-{at:07}"),
            group,
            version: 1,
            headline: String::new(),
            text: String::new(),
            landing_url: String::new(),
            display_url: String::new(),
            enabled: rng.random_bool(0.97),
            review: Review::Approved,
            cap: None,
            facts: Vec::new(),
            passage: "".into(),
            embedding: vectors.one(rng).into(),
        });
    }
    for at in 0..size.keywords {
        let group = at * groups / size.keywords;
        let match_type = *[MatchType::Exact, MatchType::Phrase, MatchType::Broad].choose(rng).expect("three");
        let negative = rng.random_bool(0.1);
        let count = if negative { rng.random_range(1..=2) } else { rng.random_range(1..=4) };
        let text = phrase(rng, words, count);
        index.keywords.add(group, &Keyword { text, match_type, negative });
    }
    index
}

fn country(n: u32) -> String {
    let letter = |n: u32| char::from(b'A' + (n % 26) as u8);
    [letter(n / 10), letter(n)].iter().collect()
}

fn targeting(rng: &mut SmallRng) -> Targeting {
    let languages = ["en", "fr", "de", "es", "it"];
    let mut targeting = Targeting::default();
    if rng.random_bool(0.3) {
        targeting.languages.extend(languages.choose(rng).map(|lang| (*lang).to_owned()));
    }
    let countries = |rng: &mut SmallRng| -> BTreeSet<String> {
        (0..rng.random_range(1..=5)).map(|_| country(rng.random_range(0..40))).collect()
    };
    if rng.random_bool(0.4) {
        targeting.countries = countries(rng);
    } else if rng.random_bool(0.1) {
        targeting.excluded_countries = countries(rng);
    }
    if rng.random_bool(0.25) {
        targeting.devices.extend(Device::ALL.choose_multiple(rng, 2));
    }
    if rng.random_bool(0.15) {
        let from = rng.random_range(0..12u8);
        for hour in (0..7).flat_map(|day| (from..from + 12).map(move |hour| day * 24 + hour)) {
            targeting.hours.insert(hour);
        }
    }
    let topics =
        |rng: &mut SmallRng| (0..rng.random_range(1..=10)).map(|_| rng.random_range(1..250)).collect();
    if rng.random_bool(0.15) {
        targeting.topics = topics(rng);
    } else if rng.random_bool(0.1) {
        targeting.excluded_topics = topics(rng);
    }
    targeting
}

fn ad_caps(rng: &mut SmallRng, ad: usize) -> AdCaps {
    let cap = |impressions: u8, hours| Some(FrequencyCap { impressions, hours });
    AdCaps {
        ad: cap(rng.random_range(1..=3), 24),
        campaign: ad.is_multiple_of(2).then(|| cap(rng.random_range(3..=9), 168)).flatten(),
        account: ad.is_multiple_of(5).then(|| cap(20, 720)).flatten(),
    }
}

fn request(rng: &mut SmallRng, vectors: &Vectors, words: &[String], people: usize) -> Asked {
    let audience = Audience {
        lang: ["en", "en", "en", "fr", "de"].choose(rng).map(|lang| (*lang).to_owned()),
        country: rng.random_bool(0.95).then(|| country(rng.random_range(0..40))),
        device: rng.random_bool(0.9).then(|| *Device::ALL.choose(rng).expect("four")),
        hour_of_week: rng.random_range(0..168),
        topics: (0..rng.random_range(0..=3)).map(|_| rng.random_range(1..250)).collect(),
        day: format!("2026-03-{:02}", rng.random_range(9..=11)),
    };
    let count = rng.random_range(3..=12);
    let query = QueryWords::new(&phrase(rng, words, count));
    let person = rng.random_range(0..=people).to_string();
    let user = rng.random_bool(0.9).then(|| UserHash::new(&SECRET, &person).expect("short"));
    Asked { audience, query, embedding: vectors.one(rng), user, now: 1_773_000_000 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reason;
    use std::time::Instant;

    const SMALL: Size = Size { ads: 3000, keywords: 9000, dim: 64, words: 300, requests: 300 };

    /// Seed 11: 3,000 ads, 300 requests in turn, each of which changes what the caps of the next leave.
    #[test]
    fn the_same_ads_as_by_looking_at_all() {
        let mut market = Market::new(11, SMALL);
        let (mut found_all, mut by_meaning, mut shown_all) = (0, 0, 0);
        for at in 0..SMALL.requests {
            market.limit = [1, 5, 32, 1000][at % 4];
            let asked = &market.requests[at];
            let found = market.find_in(asked, &market.eligible_ads(asked));
            assert_eq!(found, market.all(asked), "request {at}");
            found_all += found.len();
            by_meaning += found.iter().filter(|found| found.keyword.is_none()).count();
            let (shown, unchecked) = market.show(at, &positions(&found), 2);
            assert_eq!(unchecked, 0);
            shown_all += shown;
        }
        assert!(by_meaning > 500 && found_all - by_meaning > 500, "{by_meaning} of {found_all} by meaning");
        assert!(shown_all > 300 && market.caps.len() > 100, "{shown_all} shown");
    }

    #[test]
    fn every_campaign_has_exactly_one_reason() {
        let mut market = Market::new(12, SMALL);
        let mut seen = BTreeSet::new();
        for at in 0..SMALL.requests {
            market.limit = [5, 1000][at % 2];
            let found = market.find(at);
            let explain = market.explain(at);
            let listed: Vec<&str> = explain.campaigns.iter().map(|c| c.campaign.as_str()).collect();
            assert_eq!(listed, market.campaigns());
            let competed = explain.campaigns.iter().filter(|c| c.reason == Reason::LostAuction).count();
            let campaigns: BTreeSet<usize> =
                found.iter().map(|ad| market.snapshot.campaign_of(*ad)).collect();
            assert_eq!(competed, campaigns.len(), "those that were found, and no others");
            let unscored = explain.campaigns.iter().filter(|c| c.reason == Reason::NotScored).count();
            assert!(unscored == 0 || found.len() == market.limit, "only those past the limit are not scored");
            let code = |reason: &Reason| {
                let code = reason.to_string();
                code.split([':', '(']).next().unwrap_or_default().to_owned()
            };
            seen.extend(explain.campaigns.iter().map(|c| code(&c.reason)));
            market.show(at, &found, 8);
        }
        let expected = [
            "budget_exhausted",
            "country",
            "device",
            "ended",
            "excluded_country",
            "excluded_topic",
            "frequency_cap",
            "hours",
            "language",
            "lost_auction",
            "negative_keyword",
            "no_match",
            "no_user",
            "not_scored",
            "not_started",
            "paused",
            "topic",
        ];
        let missing: Vec<&str> = expected.into_iter().filter(|code| !seen.contains(*code)).collect();
        assert!(missing.is_empty(), "never met: {missing:?}; met: {seen:?}");
    }

    /// Of this thread, so that what else the machine does is not measured.
    fn cpu_ms() -> f64 {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
    }

    #[test]
    #[ignore = "measures; run alone with --ignored --nocapture"]
    #[expect(clippy::print_stdout, reason = "prints what it measures")]
    fn speed() {
        let size = Size { ads: 100_000, keywords: 300_000, dim: 384, words: 50_000, requests: 2000 };
        let begun = Instant::now();
        let market = Market::new(13, size);
        println!("made up in {:?}", begun.elapsed());
        let begun = Instant::now();
        let (ads, budgets) = (&market.snapshot.ads.ads, Arc::<BudgetBits>::default());
        let terms = (0..ads.len()).map(|ad| market.snapshot.terms(ad));
        let again = crate::eligibility::Eligibility::build(budgets, terms);
        println!("eligibility built in {:?}", begun.elapsed());
        drop(again);
        let measure = |name: &str, count: usize, run: &mut dyn FnMut(usize) -> usize| {
            let mut times: Vec<f64> = Vec::new();
            let mut total = 0;
            for at in 0..count {
                let begun = cpu_ms();
                total += run(at);
                times.push(cpu_ms() - begun);
            }
            times.sort_by(f64::total_cmp);
            let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
            println!(
                "{name}: mean {:.3} p50 {:.3} p95 {:.3} p99 {:.3} max {:.3} ms, {:.1} on average",
                times.iter().sum::<f64>() / times.len() as f64,
                at(0.5),
                at(0.95),
                at(0.99),
                at(1.0),
                total as f64 / count as f64
            );
        };
        measure("eligibility", 2000, &mut |at| market.eligible(at));
        measure("keywords", 2000, &mut |at| market.called_up(at));
        measure("meaning by bounds", 2000, &mut |at| market.near(at));
        measure("all of it", 2000, &mut |at| market.find(at).len());
        measure("all of it and two shown", 2000, &mut |at| market.show(at, &market.find(at), 2).0);
        measure("looking at all", 50, &mut |at| market.find_by_looking_at_all(at).len());
        measure("explain", 20, &mut |at| market.explain(at).campaigns.len());

        let rng = &mut SmallRng::seed_from_u64(14);
        let words: Vec<String> = (0..200_000).map(word).collect();
        let keywords: Vec<Keyword> = (0..1_000_000)
            .map(|at| {
                let count = rng.random_range(1..=4);
                let match_type = [MatchType::Exact, MatchType::Phrase, MatchType::Broad][at % 3];
                Keyword { text: phrase(rng, &words, count), match_type, negative: false }
            })
            .collect();
        let begun = Instant::now();
        let mut index = crate::keywords::KeywordIndex::default();
        for (at, keyword) in keywords.iter().enumerate() {
            index.add(at / 3, keyword);
        }
        println!("1,000,000 keywords built in {:?}", begun.elapsed());
        let queries: Vec<QueryWords> = (0..5000).map(|_| QueryWords::new(&phrase(rng, &words, 12))).collect();
        measure("12 words among 1,000,000 keywords", 5000, &mut |at| {
            index.matches(&index.ask(&queries[at]), |_| true).len()
        });
    }
}
