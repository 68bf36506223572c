//! Impressions, clicks, and what they cost.

use bowerbird_ads::{AdsError, ClickStatus, EventStatus, SponsoredBlock, TokenError};
use bowerbird_auction::Micros;
use serde_json::json;
use uuid::Uuid;

use crate::support::{
    Fixture, advertisers, campaign, config, engine_with, later, noon, open, person, phrase, request, token,
};

/// Two advertisers, so that the price of the first slot is set by the second.
async fn fixture() -> Fixture {
    let shoes = || phrase("running shoes");
    let document =
        advertisers(vec![campaign("a", 1_000_000, shoes(), |_| {}), campaign("b", 500_000, shoes(), |_| {})]);
    engine_with(&document, config()).await
}

async fn first_block(fixture: &Fixture, auction: u128) -> SponsoredBlock {
    let mut asked = request("running shoes");
    asked.auction_id = Uuid::from_u128(auction);
    let mut slate = fixture.engine.decide(asked).await.expect("decides");
    slate.blocks.swap_remove(0)
}

async fn report(fixture: &Fixture, campaign: &str) -> bowerbird_ads::CampaignReport {
    let rows = fixture.engine.campaigns(noon()).await.expect("reports");
    rows.into_iter().find(|row| row.campaign == campaign).expect("booked")
}

#[tokio::test]
async fn a_seen_and_clicked_ad_is_billed_once() {
    let fixture = fixture().await;
    let block = first_block(&fixture, 1).await;
    let before = report(&fixture, "a").await;
    assert!(before.reserved > Micros::ZERO && before.reserved <= Micros(1_000_000));

    let seen =
        fixture.engine.impression(token(&block.impression_url), &person(), later(1)).await.expect("counts");
    assert_eq!((seen.ad_id.as_str(), seen.status, seen.duplicate), ("a-ad", EventStatus::Recorded, false));
    let again =
        fixture.engine.impression(token(&block.impression_url), &person(), later(2)).await.expect("counts");
    assert_eq!((again.status, again.duplicate), (EventStatus::Recorded, true));

    let click = fixture.engine.click(token(&block.click_url), &person(), later(3)).await.expect("counts");
    assert_eq!(click.destination, "https://a.example/shoes");
    assert_eq!((click.status, click.duplicate), (ClickStatus::Billed, false));
    let charged = click.charged;
    assert!(
        charged >= before.reserved && charged <= Micros(1_000_000),
        "{charged}: held was its expectation"
    );
    for second in [4, 90_000, 90_000_000] {
        let again =
            fixture.engine.click(token(&block.click_url), &person(), later(second)).await.expect("answers");
        assert_eq!((again.status, again.charged, again.duplicate), (ClickStatus::Billed, charged, true));
    }
    let after = report(&fixture, "a").await;
    assert_eq!((after.spent_today, after.reserved), (charged, Micros::ZERO));
    assert_eq!((after.impressions, after.clicks), (1, 1));
    let audit = fixture.engine.audit().await.expect("audits");
    // Three scopes of each advertiser, and the accounts of the charged one and of the platform.
    assert_eq!((audit.compared, audit.events, audit.entries, audit.differences), (8, 2, 1, vec![]));
}

#[tokio::test]
async fn a_click_without_an_impression_leads_on_and_costs_nothing() {
    let fixture = fixture().await;
    let block = first_block(&fixture, 1).await;
    let click = fixture.engine.click(token(&block.click_url), &person(), later(1)).await.expect("leads on");
    assert_eq!(click.destination, "https://a.example/shoes");
    assert_eq!((click.status, click.charged), (ClickStatus::Orphan, Micros::ZERO));
    // The impression comes too late to change that.
    fixture.engine.impression(token(&block.impression_url), &person(), later(2)).await.expect("counts");
    let again = fixture.engine.click(token(&block.click_url), &person(), later(3)).await.expect("leads on");
    assert_eq!((again.status, again.charged, again.duplicate), (ClickStatus::Orphan, Micros::ZERO, true));
    let row = report(&fixture, "a").await;
    assert_eq!((row.spent_today, row.reserved, row.clicks), (Micros::ZERO, Micros::ZERO, 0));
}

#[tokio::test]
async fn what_comes_too_late_is_not_booked() {
    let fixture = fixture().await;
    let block = first_block(&fixture, 1).await;
    let seen = fixture
        .engine
        .impression(token(&block.impression_url), &person(), later(3600))
        .await
        .expect("answers");
    assert_eq!(seen.status, EventStatus::Expired);
    let block = first_block(&fixture, 2).await;
    fixture.engine.impression(token(&block.impression_url), &person(), later(3599)).await.expect("counts");
    let click =
        fixture.engine.click(token(&block.click_url), &person(), later(86_400)).await.expect("leads on");
    assert_eq!((click.status, click.charged), (ClickStatus::Expired, Micros::ZERO));
    assert_eq!(click.destination, "https://a.example/shoes");
    assert_eq!(fixture.engine.audit().await.expect("audits").events, 1);
}

#[tokio::test]
async fn foreign_and_mixed_up_tokens_are_refused() {
    let (fixture, stranger) = (fixture().await, fixture().await);
    let block = first_block(&fixture, 1).await;
    let foreign = first_block(&stranger, 1).await;
    let refused = |result: Result<_, AdsError>| match result {
        Err(AdsError::Token(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(()) => panic!("accepted"),
    };
    let click = async |token: &str| refused(fixture.engine.click(token, &person(), later(1)).await.map(drop));
    let seen =
        async |token: &str| refused(fixture.engine.impression(token, &person(), later(1)).await.map(drop));
    assert_eq!(click(token(&foreign.click_url)).await, TokenError::Signature, "another engine's key");
    assert!(matches!(click(token(&block.impression_url)).await, TokenError::Kind { .. }));
    assert!(matches!(seen(token(&block.click_url)).await, TokenError::Kind { .. }));
    assert_eq!(click("").await, TokenError::Malformed);
    assert_eq!(click("https://evil.example/").await, TokenError::Malformed);
    assert_eq!(fixture.engine.audit().await.expect("audits").events, 0, "nothing of it was booked");
}

#[tokio::test]
async fn a_click_leads_to_the_version_that_was_shown() {
    let fixture = fixture().await;
    let block = first_block(&fixture, 1).await;
    let moved = campaign("a", 1_000_000, phrase("running shoes"), |c| {
        c["ad_groups"][0]["ads"][0]["landing_url"] = json!("https://elsewhere.example/");
    });
    let report = fixture.engine.import_json(&advertisers(vec![moved]).to_string()).await.expect("imports");
    assert_eq!(report.new_versions, 1);
    fixture.engine.impression(token(&block.impression_url), &person(), later(1)).await.expect("counts");
    let click = fixture.engine.click(token(&block.click_url), &person(), later(2)).await.expect("leads on");
    assert_eq!(click.destination, "https://a.example/shoes");
    let block = first_block(&fixture, 2).await;
    let click = fixture.engine.click(token(&block.click_url), &person(), later(2)).await.expect("leads on");
    assert_eq!(click.destination, "https://elsewhere.example/");
}

#[tokio::test]
async fn an_address_changed_behind_our_back_is_not_followed() {
    let fixture = fixture().await;
    let block = first_block(&fixture, 1).await;
    fixture.database.run("UPDATE ad_versions SET landing_url = 'https://evil.example/'").await;
    let click = fixture.engine.click(token(&block.click_url), &person(), later(1)).await;
    assert!(matches!(click, Err(AdsError::Token(TokenError::UnknownAd))));
}

#[tokio::test]
async fn links_outlive_a_restart() {
    let fixture = fixture().await;
    let block = first_block(&fixture, 1).await;
    fixture.engine.impression(token(&block.impression_url), &person(), later(1)).await.expect("counts");
    fixture.engine.close().await;
    let engine = open(&fixture.database, config()).await;
    let click = engine.click(token(&block.click_url), &person(), later(2)).await.expect("leads on");
    assert_eq!(click.status, ClickStatus::Billed);
}
