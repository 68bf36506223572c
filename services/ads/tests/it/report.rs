//! What reports say of the time at which things happened.

use bowerbird_ads::{ReportBy, ReportRow};
use bowerbird_auction::Micros;
use hmac::{Hmac, Mac};
use serde_json::json;
use sha2::Sha256;
use uuid::Uuid;

use crate::support::{
    Fixture, advertisers, campaign, config, engine_with, later, noon, person, phrase, request, token,
};

const DAY: &str = "2026-03-10";

/// Shows an ad of campaign `a` `at` seconds past noon, reports it as seen a second later, and clicks `clicked` seconds
/// past noon; what that cost.
async fn show(fixture: &Fixture, auction: u128, at: i64, clicked: Option<i64>) -> Micros {
    let mut asked = request("running shoes");
    (asked.auction_id, asked.now) = (Uuid::from_u128(auction), later(at));
    let slate = fixture.engine.decide(asked).await.expect("decides");
    let block = &slate.blocks[0];
    assert_eq!(block.ad_id, "a-ad");
    let seen = token(&block.impression_url);
    fixture.engine.impression(seen, &person(), later(at + 1)).await.expect("counts");
    let Some(clicked) = clicked else { return Micros::ZERO };
    fixture.engine.click(token(&block.click_url), &person(), later(clicked)).await.expect("counts").charged
}

/// An order that follows the click on the ad of `auction`.
async fn order(fixture: &Fixture, auction: u128, at: i64) {
    let key = fixture.engine.new_postback_key("adv-a").await.expect("writes").expect("booked");
    let key = hex::decode(key).expect("hexadecimal");
    let click_id = format!("{}:1:a-ad", Uuid::from_u128(auction));
    let body =
        json!({"advertiser": "adv-a", "order_id": "o", "click_id": click_id, "value_micros": 1}).to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any length");
    mac.update(body.as_bytes());
    let signature = hex::encode(mac.finalize().into_bytes());
    fixture.engine.convert(body.as_bytes(), &signature, later(at)).await.expect("counts");
}

#[tokio::test]
async fn an_hour_has_what_was_settled_in_it_of_the_budgets_of_the_days_asked_for() {
    let shoes = || phrase("running shoes");
    let document =
        advertisers(vec![campaign("a", 1_000_000, shoes(), |_| {}), campaign("b", 500_000, shoes(), |_| {})]);
    let fixture = engine_with(&document, config()).await;
    let early = show(&fixture, 1, 0, Some(3599)).await;
    show(&fixture, 2, 3600, None).await;
    // Half past eleven at night, and clicked ten minutes after midnight: yesterday's budget pays.
    let late = show(&fixture, 3, 41_400, Some(43_800)).await;
    assert!(early > Micros::ZERO && late > Micros::ZERO, "{early} {late}");
    order(&fixture, 1, 7200).await;

    let report = async |by, campaign, from, to| -> Vec<ReportRow> {
        fixture.engine.report(by, campaign, from, to).await.expect("reports")
    };
    let rows = report(ReportBy::Hour, Some("a"), DAY, DAY).await;
    let told: Vec<_> = rows
        .iter()
        .map(|row| (row.key.as_str(), row.served, row.impressions, row.clicks, row.spent, row.conversions))
        .collect();
    assert_eq!(
        told,
        [
            ("2026-03-10T12", 1, 1, 1, early, 0),
            ("2026-03-10T13", 1, 1, 0, Micros::ZERO, 0),
            ("2026-03-10T14", 0, 0, 0, Micros::ZERO, 1),
            ("2026-03-10T23", 1, 1, 0, Micros::ZERO, 0),
            ("2026-03-11T00", 0, 0, 1, late, 0),
        ]
    );
    let whole = &report(ReportBy::Campaign, Some("a"), DAY, DAY).await[0];
    assert_eq!(Micros(rows.iter().map(|row| row.spent.0).sum()), whole.spent);
    let predicted: f64 = rows.iter().map(|row| row.predicted_clicks).sum();
    assert!((predicted - whole.predicted_clicks).abs() < 1e-9, "{predicted} {}", whole.predicted_clicks);
    let spent = fixture.engine.campaigns(noon()).await.expect("reports")[0].spent_today;
    assert_eq!(whole.spent, spent, "as in the books");

    assert_eq!(report(ReportBy::Hour, Some("a"), "2026-03-11", "2026-03-11").await, []);
    let all = report(ReportBy::Hour, None, DAY, DAY).await;
    assert_eq!(all.iter().map(|row| row.served).collect::<Vec<_>>(), [2, 2, 0, 2, 0]);
}
