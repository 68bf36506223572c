//! Taking over what advertisers book.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bowerbird_ads::{AdEngine, AdsError, ImportProblems};
use serde_json::{Value, json};

use crate::support::{
    Database, advertisers, campaign, config, counting_encoders, engine_with, noon, phrase, request, shown,
};

fn problems(result: Result<bowerbird_ads::ImportReport, AdsError>) -> ImportProblems {
    match result {
        Err(AdsError::Import(problems)) => problems,
        Err(other) => panic!("{other}"),
        Ok(report) => panic!("accepted: {report:?}"),
    }
}

#[tokio::test]
async fn the_same_document_twice_changes_nothing() {
    let document = advertisers(vec![campaign("a", 1_000_000, phrase("running shoes"), |_| {})]);
    let fixture = engine_with(&document, config()).await;
    let before = fixture.engine.campaigns(noon()).await.expect("reports");
    let report = fixture.engine.import_json(&document.to_string()).await.expect("imports");
    assert_eq!((report.campaigns, report.ads, report.new_versions), (1, 1, 0));
    assert_eq!(fixture.engine.campaigns(noon()).await.expect("reports"), before);
    assert_eq!(fixture.engine.ads(), 1);
}

#[tokio::test]
async fn changes_take_effect_at_once_and_the_unnamed_stays() {
    let shoes = |id: &str, bid, status: &str| {
        campaign(id, bid, phrase("running shoes"), |c| c["status"] = json!(status))
    };
    let document = advertisers(vec![shoes("a", 2_000_000, "enabled"), shoes("b", 1_000_000, "enabled")]);
    let fixture = engine_with(&document, config()).await;
    let pause = advertisers(vec![shoes("a", 2_000_000, "paused")]);
    fixture.engine.import_json(&pause.to_string()).await.expect("imports");
    let slate = fixture.engine.decide(request("running shoes")).await.expect("decides");
    assert_eq!(shown(&slate), ["b-ad"]);
    let keywords = advertisers(vec![campaign("b", 1_000_000, phrase("kettles"), |_| {})]);
    fixture.engine.import_json(&keywords.to_string()).await.expect("imports");
    let slate = fixture.engine.decide(request("running shoes")).await.expect("decides");
    assert!(slate.blocks.is_empty(), "the old keyword is gone");
}

#[tokio::test]
async fn one_mistake_and_nothing_is_taken_over() {
    let fixture =
        engine_with(&advertisers(vec![campaign("a", 1_000_000, phrase("running shoes"), |_| {})]), config())
            .await;
    let good = campaign("good", 1_000_000, phrase("x"), |_| {});
    let bad = campaign("bad", 0, phrase("x"), |c| c["currency"] = json!("XXX"));
    let found = problems(fixture.engine.import_json(&advertisers(vec![good, bad]).to_string()).await);
    let paths: Vec<&str> = found.problems.iter().map(|p| p.path.as_str()).collect();
    assert_eq!(
        paths,
        ["$.advertisers[1].campaigns[0].currency", "$.advertisers[1].campaigns[0].ad_groups[0].bid_micros"]
    );
    assert_eq!(fixture.engine.campaigns(noon()).await.expect("reports").len(), 1);
}

#[tokio::test]
async fn an_id_cannot_move_to_another_parent() {
    let fixture =
        engine_with(&advertisers(vec![campaign("a", 1_000_000, phrase("running shoes"), |_| {})]), config())
            .await;
    let mut stolen = advertisers(vec![campaign("a", 1_000_000, phrase("running shoes"), |_| {})]);
    stolen["advertisers"][0]["id"] = json!("thief");
    let found = problems(fixture.engine.import_json(&stolen.to_string()).await);
    assert_eq!(found.problems.len(), 1, "{found}");
    assert_eq!(found.problems[0].path, "$.advertisers[0].campaigns[0].id");
    assert!(found.problems[0].message.contains("adv-a"), "{found}");
    let elsewhere = campaign("b", 1_000_000, phrase("x"), |c| {
        c["ad_groups"][0]["ads"][0]["id"] = json!("a-ad");
    });
    let found = problems(fixture.engine.import_json(&advertisers(vec![elsewhere]).to_string()).await);
    assert!(found.problems[0].message.contains("a-group"), "{found}");
}

#[tokio::test]
async fn ads_are_embedded_once_for_a_space() {
    let database = Database::new().await;
    let embedded = Arc::new(AtomicUsize::new(0));
    let open = async || {
        AdEngine::connect(&database.address, config(), counting_encoders(&embedded)).await.expect("opens")
    };
    let two = |text: &str| {
        advertisers(vec![
            campaign("a", 1_000_000, phrase("x"), |_| {}),
            campaign("b", 1_000_000, phrase("x"), |c| c["ad_groups"][0]["ads"][0]["text"] = json!(text)),
        ])
    };
    let engine = open().await;
    engine.import_json(&two("first").to_string()).await.expect("imports");
    assert_eq!(embedded.load(Ordering::SeqCst), 2);
    engine.close().await;
    let engine = open().await;
    assert_eq!(engine.ads(), 2);
    assert_eq!(embedded.load(Ordering::SeqCst), 2, "a restart embeds nothing");
    engine.import_json(&two("second").to_string()).await.expect("imports");
    assert_eq!(embedded.load(Ordering::SeqCst), 3, "only the changed ad");
    engine.close().await;
    // Vectors that were lost, or belong to another model, are made anew.
    database.run("UPDATE ad_embeddings SET space = 'another'").await;
    assert_eq!(open().await.ads(), 2);
    assert_eq!(embedded.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn a_damaged_vector_is_reported() {
    let fixture =
        engine_with(&advertisers(vec![campaign("a", 1_000_000, phrase("x"), |_| {})]), config()).await;
    fixture.engine.close().await;
    fixture.database.run("UPDATE ad_embeddings SET vector = 'AAAA'").await;
    let opened = AdEngine::connect(&fixture.database.address, config(), crate::support::encoders()).await;
    let error = opened.err().expect("a vector of three bytes cannot be right");
    assert!(matches!(&error, AdsError::Damaged { what } if what.contains("a-ad")), "{error}");
}

#[tokio::test]
async fn the_demo_advertisers_are_accepted() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../bowerbird/demo/ads.json");
    let demo: Value = serde_json::from_str(&std::fs::read_to_string(path).expect("shipped")).expect("JSON");
    let fixture = engine_with(&demo, config()).await;
    let report = fixture.engine.import_json(&demo.to_string()).await.expect("imports");
    assert!(report.advertisers >= 14 && report.campaigns >= 20 && report.ads >= 40, "{report:?}");
    assert_eq!(report.new_versions, 0);
    assert_eq!((report.under_review, report.disapproved), (0, 0), "the policy lets honest ads through");
}
