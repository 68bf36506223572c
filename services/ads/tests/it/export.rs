//! What is booked, out and in again.

use bowerbird_ads::{Level, Review, ReviewDecision};
use serde_json::{Value, json};

use crate::support::{Database, Fixture, advertisers, campaign, config, engine_with, open, phrase};

/// Two advertisers with every field set somewhere, and one ad that an operator approved against the policy.
async fn fixture() -> Fixture {
    let rich = campaign("a", 900_000, phrase("running shoes"), |c| {
        c["lifetime_budget_micros"] = json!(400_000_000);
        c["bidding"] = json!("target_cpa");
        c["target_cpa_micros"] = json!(9_000_000);
        c["pacing"] = json!("asap");
        c["frequency_cap"] = json!({"impressions": 5, "hours": 24});
        let group = &mut c["ad_groups"][0];
        group["name"] = json!("=SUM(A1)");
        group["semantic"] = json!(true);
        group["semantic_threshold"] = json!(0.1);
        group["languages"] = json!(["en", "de"]);
        group["countries"] = json!(["US", "NZ"]);
        group["excluded_countries"] = json!(["FR"]);
        group["devices"] = json!(["phone"]);
        group["hours"] = json!([0, 8, 167]);
        group["topics"] = json!([1]);
        group["excluded_topics"] = json!([25]);
        let negative = json!({"text": "free, \"cheap\"", "match_type": "broad", "negative": true});
        group["keywords"].as_array_mut().expect("a list").push(negative);
        let ad = &mut group["ads"][0];
        ad["text"] = json!("Shoes, \"light\" ones; and a casino.");
        ad["facts"] = json!(["Weighs 215 g.", "Made in Erfurt; by hand."]);
        ad["assets"] = json!([{"kind": "image", "url": "https://a.example/i.png", "alt": "A shoe, red"}]);
        ad["frequency_cap"] = json!({"impressions": 2, "hours": 720});
    });
    let mut document = advertisers(vec![rich, campaign("b", 500_000, phrase("kettles"), |_| {})]);
    document["advertisers"][0]["category"] = json!(1551);
    document["advertisers"][0]["balance_micros"] = json!(900_000_000);
    document["advertisers"][0]["blocked_terms"] = json!(["recall", "law suit"]);
    document["advertisers"][0]["blocked_authors"] = json!(["'rival", "@other"]);
    document["advertisers"][0]["frequency_cap"] = json!({"impressions": 255, "hours": 720});
    document["advertisers"][1]["status"] = json!("paused");
    let fixture = engine_with(&document, config()).await;
    let decision = ReviewDecision {
        review: Review::Approved,
        topic: String::new(),
        reason: "licensed".into(),
        reviewer: "Mina".into(),
        version: None,
    };
    fixture.engine.review("a-ad", &decision).await.expect("decides");
    fixture
}

#[tokio::test]
async fn an_export_brought_in_elsewhere_is_the_same_export() {
    let fixture = fixture().await;
    let json = fixture.engine.export_json().await.expect("exports");
    let csv = fixture.engine.export_csv().await.expect("exports");
    let read: Value = serde_json::from_str(&json).expect("JSON");
    let ad = &read["advertisers"][0]["campaigns"][0]["ad_groups"][0]["ads"][0];
    assert_eq!((&ad["review"], &ad["review_reason"]), (&json!("approved"), &json!("licensed")));
    assert!(csv.contains("'=SUM(A1)") && csv.lines().count() > 9, "{csv}");

    let from_json = Database::new().await;
    let engine = open(&from_json, config()).await;
    let report = engine.import_json(&json).await.expect("imports");
    assert_eq!((report.campaigns, report.keywords, report.ads, report.under_review), (2, 3, 2, 0));
    assert_eq!(engine.export_json().await.expect("exports"), json);

    let from_csv = Database::new().await;
    let engine = open(&from_csv, config()).await;
    let report = engine.import_csv(&csv).await.unwrap_or_else(|error| panic!("{error}\n{csv}"));
    assert_eq!((report.campaigns, report.keywords, report.ads, report.under_review), (2, 3, 2, 0));
    assert_eq!(engine.export_json().await.expect("exports"), json);
    assert_eq!(engine.export_csv().await.expect("exports"), csv);
}

#[tokio::test]
async fn an_export_brought_back_changes_nothing() {
    let fixture = fixture().await;
    let revisions = async || {
        let mut all = Vec::new();
        for level in Level::ALL {
            let page = fixture.engine.list(level, None, "", 100).await.expect("lists");
            all.extend(page.items.into_iter().map(|item| (item.id, item.revision)));
        }
        all
    };
    let before = revisions().await;
    let (json, csv) = (fixture.engine.export_json().await, fixture.engine.export_csv().await);
    let report = fixture.engine.import_json(&json.expect("exports")).await.expect("imports");
    assert_eq!(report.new_versions, 0);
    fixture.engine.import_csv(&csv.expect("exports")).await.expect("imports");
    assert_eq!(revisions().await, before);
}

#[tokio::test]
async fn removed_bookings_are_left_out() {
    let fixture = fixture().await;
    fixture.engine.remove(Level::AdGroup, "a-group", None).await.expect("removes");
    let json = fixture.engine.export_json().await.expect("exports");
    let csv = fixture.engine.export_csv().await.expect("exports");
    for export in [&json, &csv] {
        assert!(!export.contains("a-ad") && export.contains("b-ad"), "{export}");
    }
}

#[tokio::test]
async fn documents_meet_what_is_booked() {
    let fixture = fixture().await;
    let low = "type,id,parent,name,daily_budget_micros,currency\ncampaign,a,adv-a,A,899999,USD\n\
               campaign,z,nobody,Z,1,USD\n";
    let error = fixture.engine.import_csv(low).await.expect_err("two problems").to_string();
    assert!(error.contains("row 2.daily_budget_micros: is under the bid of ad group a-group"), "{error}");
    assert!(error.contains("row 3.advertiser: there is no advertiser"), "{error}");
    let dear = "type,id,parent,bid_micros\nad_group,a-group,a,50000001\n";
    let error = fixture.engine.import_csv(dear).await.expect_err("a problem").to_string();
    assert!(error.contains("row 2.bid_micros: is above the daily budget"), "{error}");
}
