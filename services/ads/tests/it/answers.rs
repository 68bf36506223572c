//! Places below answers: drawn, logged with the probability of what was drawn, and paid like any other.

use std::collections::BTreeMap;

use bowerbird_ads::{AdRequest, AdsConfig, AdsError, LoggedRules, NoFill, OtherRules, Place, Slate};
use bowerbird_auction::Micros;
use serde_json::json;
use uuid::Uuid;

use crate::support::{
    Fixture, advertisers, campaign, config, engine_with, later, noon, person, phrase, reasons, request,
    shown, token,
};

/// The places below answer number `n`.
fn below_answer(n: u128) -> AdRequest {
    AdRequest {
        slots: 1,
        place: Place::Answer,
        auction_id: Uuid::from_u128(n << 64 | 0xa11),
        ..request("running shoes")
    }
}

fn with_no_ad(micros: i64) -> AdsConfig {
    let mut config = config();
    config.segment.no_ad_micros = Micros(micros);
    config
}

/// Three campaigns that bid 3, 2 and 1.
async fn three(config: AdsConfig) -> Fixture {
    let bids = [("a", 3_000_000), ("b", 2_000_000), ("c", 1_000_000)];
    let campaigns = bids.map(|(id, bid)| {
        campaign(id, bid, phrase("running shoes"), |c| c["daily_budget_micros"] = json!(900_000_000))
    });
    engine_with(&advertisers(campaigns.to_vec()), config).await
}

#[tokio::test]
async fn ads_are_drawn_as_often_as_the_log_says() {
    const ANSWERS: u128 = 600;
    let mut config = with_no_ad(20_000);
    config.clicks.explore_share = 0.0;
    let fixture = three(config).await;
    let (mut counts, mut chances) = (BTreeMap::<String, f64>::new(), BTreeMap::<String, f64>::new());
    for n in 1..=ANSWERS {
        let slate = fixture.engine.decide(below_answer(n)).await.expect("decides");
        let drawn = shown(&slate).first().map_or("none".to_owned(), |ad| (*ad).to_owned());
        let expected = (drawn == "none").then_some(NoFill::NoAdDrawn);
        assert_eq!(slate.no_fill, expected);
        let decision = fixture.engine.decision(slate.auction_id).await.expect("reads").expect("is kept");
        assert!(decision.replay.same && matches!(decision.log.rules, LoggedRules::Segment(_)));
        assert_eq!(decision.log.candidates.len(), 3);
        let told = decision.log.propensity;
        assert!((chances.entry(drawn.clone()).or_insert(told).to_owned() - told).abs() < 1e-9);
        if let Some(award) = decision.log.awards.first() {
            let bid = decision.log.candidates.iter().find(|c| c.ad == award.ad).expect("took part").bid;
            assert!(award.price >= Micros(50_000) && award.price <= bid, "{award:?}");
            assert!((award.propensity - told).abs() < 1e-12);
        }
        *counts.entry(drawn).or_default() += 1.0;
    }
    assert_eq!(chances.len(), 4, "{chances:?}");
    assert!((chances.values().sum::<f64>() - 1.0).abs() < 1e-9, "{chances:?}");
    assert!(chances["a-ad"] > chances["b-ad"] && chances["b-ad"] > chances["c-ad"], "{chances:?}");
    let runs = ANSWERS as f64;
    let chi: f64 = chances.iter().map(|(ad, p)| (counts[ad] - runs * p).powi(2) / (runs * p)).sum();
    // 99.9 % of χ² with 3 degrees of freedom.
    assert!(chi < 16.27, "{chi}: {counts:?} {chances:?}");
}

#[tokio::test]
async fn what_is_drawn_is_billed_at_its_price_and_simulated() {
    let fixture = three(with_no_ad(0)).await;
    let mut charged = 0;
    for n in 1..=20 {
        let slate = fixture.engine.decide(below_answer(n)).await.expect("decides");
        let block = &slate.blocks[0];
        let decision = fixture.engine.decision(slate.auction_id).await.expect("reads").expect("is kept");
        let price = decision.log.awards[0].price;
        let seen = fixture.engine.impression(token(&block.impression_url), &person(), later(5)).await;
        seen.expect("counts");
        let click =
            fixture.engine.click(token(&block.click_url), &person(), later(60)).await.expect("counts");
        assert_eq!(click.charged, price);
        charged += price.0;
    }
    let campaigns = fixture.engine.campaigns(noon()).await.expect("reports");
    assert_eq!(campaigns.iter().map(|c| c.spent_total.0).sum::<i64>(), charged);
    assert!(fixture.engine.audit().await.expect("audits").passed());
    let found = fixture.engine.simulate("c", 0).await.expect("runs").expect("is known");
    let shown: Vec<usize> = found.landscape.iter().map(|point| point.shown).collect();
    assert_eq!(found.auctions, 20);
    assert!(shown.is_sorted() && shown[0] < shown[8], "a higher bid is drawn more often: {shown:?}");
}

#[tokio::test]
async fn temperature_nought_shows_what_is_worth_most() {
    let mut config = with_no_ad(0);
    config.segment.temperature = 0.0;
    let fixture = three(config).await;
    for n in 1..=20 {
        let slate = fixture.engine.decide(below_answer(n)).await.expect("decides");
        assert_eq!(shown(&slate), ["a-ad"]);
    }
}

/// One contest, settled below an answer.
async fn settle(fixture: &Fixture, n: u128, answer: &str) -> Slate {
    let asked = AdRequest { explain: true, ..below_answer(n) };
    let contest = fixture.engine.contest(asked).await.expect("finds");
    fixture.engine.settle(contest.below(answer, later(9))).await.expect("settles")
}

#[tokio::test]
async fn the_answer_itself_is_looked_at() {
    let mut document = advertisers(vec![campaign("a", 1_000_000, phrase("running shoes"), |_| {})]);
    document["advertisers"][0]["blocked_terms"] = json!(["barefoot"]);
    let fixture = engine_with(&document, with_no_ad(0)).await;
    let slate = settle(&fixture, 1, "Shoes that fit spare your knees.").await;
    assert_eq!(shown(&slate), ["a-ad"]);
    let slate = settle(&fixture, 2, "Some run barefoot instead.").await;
    assert_eq!(reasons(&slate), [("a".to_owned(), "block_list".to_owned())]);
    let slate = settle(&fixture, 3, "A runner died of heat.").await;
    assert_eq!(slate.no_fill.expect("refused").as_str(), "unsafe_neighbour");
    assert_eq!(fixture.engine.audit().await.expect("audits").holds, 1, "only what is shown is held");
}

#[tokio::test]
async fn a_contest_that_is_dropped_costs_nobody_anything() {
    let fixture = three(with_no_ad(0)).await;
    drop(fixture.engine.contest(below_answer(1)).await.expect("finds"));
    assert!(fixture.engine.books().await.expect("reads").scopes.is_empty());
    assert!(fixture.engine.decision(below_answer(1).auction_id).await.expect("reads").is_none());
}

/// Real chance of a click, of whatever is estimated.
fn clicked(ad: &str, n: u128) -> bool {
    let in_a_hundred = match ad {
        "a-ad" => 10,
        "b-ad" => 35,
        _ => 60,
    };
    n * 37 % 100 < in_a_hundred
}

#[tokio::test]
async fn the_log_judges_other_rules_or_says_that_it_cannot() {
    const ANSWERS: u128 = 2_500;
    let mut config = with_no_ad(10_000);
    config.clicks.explore_share = 0.0;
    let fixture = three(config).await;
    for n in 1..=ANSWERS {
        let slate = fixture.engine.decide(below_answer(n)).await.expect("decides");
        for block in &slate.blocks {
            let seen = fixture.engine.impression(token(&block.impression_url), &person(), later(1)).await;
            seen.expect("counts");
            if clicked(&block.ad_id, n) {
                let click = fixture.engine.click(token(&block.click_url), &person(), later(9)).await;
                click.expect("counts");
            }
        }
    }
    // With a temperature of 3 the small bidder is seen more often, and it is clicked most.
    let other = OtherRules { temperature: Some(3.0), ..OtherRules::default() };
    let found = fixture.engine.judge(other, 0, later(3_600)).await.expect("judges");
    assert_eq!(found.answers, ANSWERS as usize);
    assert_eq!(found.refused, Vec::<String>::new());
    let decision = fixture.engine.decision(below_answer(1).auction_id).await.expect("reads").expect("kept");
    let of = |ad: &str| decision.log.candidates.iter().find(|c| c.ad == ad).expect("took part");
    let weight = |ad: &str| (of(ad).bid.0 as f64 * of(ad).click_probability).powf(1.0 / 3.0);
    let total: f64 = ["a-ad", "b-ad", "c-ad"].map(weight).iter().sum::<f64>() + 10_000_f64.powf(1.0 / 3.0);
    let truth = [("a-ad", 0.10), ("b-ad", 0.35), ("c-ad", 0.60)].map(|(ad, p)| weight(ad) / total * p);
    let truth: f64 = truth.iter().sum();
    for (name, estimate) in
        [("ips", found.clicks.ips), ("snips", found.clicks.snips), ("dr", found.clicks.dr)]
    {
        assert!(estimate.covers(truth), "{name}: {estimate:?} of {truth}");
        assert!(estimate.value > found.clicks.logged, "{name}: more than the {} before", found.clicks.logged);
    }

    let early = fixture.engine.judge(other, 0, noon()).await;
    assert!(matches!(early, Err(AdsError::OffPolicy(_))), "clicks may still come");
    let cold = OtherRules { temperature: Some(0.0), ..OtherRules::default() };
    let found = fixture.engine.judge(cold, 0, later(3_600)).await.expect("judges");
    assert!(found.clicks.effective_sample < 2_000.0);
    let low = OtherRules { reserve_micros: Some(Micros(1)), ..OtherRules::default() };
    let low = fixture.engine.judge(low, 0, later(3_600)).await;
    assert!(matches!(low, Err(AdsError::ReserveNotLogged { .. })));
    let hot = OtherRules { temperature: Some(99.0), ..OtherRules::default() };
    assert!(matches!(fixture.engine.judge(hot, 0, later(3_600)).await, Err(AdsError::OtherRules(_))));
}

#[tokio::test]
async fn slots_that_exploration_may_change_say_how_likely_they_were() {
    const PAGES: u128 = 400;
    let mut explores = with_no_ad(0);
    explores.clicks.explore_share = 0.5;
    let fixture = three(explores).await;
    let (mut counts, mut told) =
        (BTreeMap::<Vec<String>, f64>::new(), BTreeMap::<Vec<String>, Vec<f64>>::new());
    for n in 1..=PAGES {
        let page = AdRequest { place: Place::Page, ..below_answer(n) };
        let slate = fixture.engine.decide(page).await.expect("decides");
        let decision = fixture.engine.decision(slate.auction_id).await.expect("reads").expect("is kept");
        assert!(decision.replay.same);
        let drawn: Vec<String> = decision.log.awards.iter().map(|award| award.ad.clone()).collect();
        told.entry(drawn.clone()).or_default().push(decision.log.propensity);
        *counts.entry(drawn).or_default() += 1.0;
    }
    assert!(counts.len() > 1, "nothing was explored");
    for (drawn, times) in &counts {
        let mean = told[drawn].iter().sum::<f64>() / told[drawn].len() as f64;
        let (share, runs) = (times / PAGES as f64, PAGES as f64);
        let error = (share * (1.0 - share) / runs).sqrt();
        assert!((share - mean).abs() < 4.0 * error + 0.02, "{drawn:?}: {share} of pages, told {mean}");
    }
}

#[tokio::test]
async fn what_stands_on_the_page_is_not_drawn_again() {
    let fixture = three(with_no_ad(0)).await;
    let beside = |ads: &[&str], n| AdRequest {
        beside_ads: ads.iter().map(ToString::to_string).collect(),
        slots: 2,
        explain: true,
        ..below_answer(n)
    };
    for n in 1..=10 {
        let slate = fixture.engine.decide(beside(&["a-ad", "c-ad"], n)).await.expect("decides");
        assert_eq!(shown(&slate), ["b-ad"]);
        assert_eq!(reasons(&slate)[0], ("a".to_owned(), "same_advertiser".to_owned()));
    }
    let many = fixture.engine.decide(beside(&["x"; 17], 11)).await;
    assert!(matches!(many, Err(AdsError::TooManyAds { found: 17, .. })));
}
