//! Several engines over one database, as several processes would be.

use std::time::Duration;

use bowerbird_ads::{AdEngine, AdRequest, AdsError, DatabaseAddress};
use bowerbird_auction::Micros;
use serde_json::json;
use uuid::Uuid;

use crate::support::{
    Database, advertisers, campaign, config, encoders, engine_with, later, noon, open, person, phrase,
    reasons, request, shown, token,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn engines_that_share_a_database_share_its_budgets() {
    let database = Database::new().await;
    let document = advertisers(vec![campaign("a", 100_000, phrase("running shoes"), |c| {
        c["daily_budget_micros"] = json!(520_000);
    })]);
    let first = open(&database, config()).await;
    first.import_json(&document.to_string()).await.expect("imports");
    let engines = [first, open(&database, config()).await, open(&database, config()).await];
    let run = |engine: AdEngine, number: u128| async move {
        let mut asked = request("running shoes");
        asked.auction_id = Uuid::from_u128(number);
        let Some(block) = engine.decide(asked).await.expect("decides").blocks.pop() else { return 0 };
        engine.impression(token(&block.impression_url), &person(), later(1)).await.expect("counts");
        engine.click(token(&block.click_url), &person(), later(2)).await.expect("leads on").charged.0
    };
    let tasks: Vec<_> =
        (0..24).map(|n| tokio::spawn(run(engines[n % engines.len()].clone(), n as u128))).collect();
    let mut charged = 0;
    for task in tasks {
        charged += task.await.expect("runs");
    }
    // Ten clicks of five cents fit under 52 cents, whoever sells them.
    assert_eq!(charged, 500_000);
    let row = &engines[1].campaigns(noon()).await.expect("reports")[0];
    assert_eq!((row.spent_today, row.reserved, row.clicks), (Micros(500_000), Micros::ZERO, 10));
    let audit = engines[2].audit().await.expect("audits");
    // Three scopes, and the accounts of the advertiser and of the platform.
    assert_eq!((audit.compared, audit.differences), (5, vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn engines_that_share_a_database_share_its_frequency_caps() {
    let database = Database::new().await;
    let document = advertisers(vec![campaign("a", 100_000, phrase("running shoes"), |c| {
        c["frequency_cap"] = json!({"impressions": 3, "hours": 24});
    })]);
    let first = open(&database, config()).await;
    first.import_json(&document.to_string()).await.expect("imports");
    let engines = [first, open(&database, config()).await, open(&database, config()).await];
    let run = |engine: AdEngine, number: u128| async move {
        let asked = AdRequest {
            auction_id: Uuid::from_u128(number),
            user: Some("ann".into()),
            explain: true,
            ..request("running shoes")
        };
        let slate = engine.decide(asked).await.expect("decides");
        if let Some(block) = slate.blocks.first()
            && number.is_multiple_of(2)
        {
            engine.impression(token(&block.impression_url), &person(), later(1)).await.expect("counts");
        }
        if slate.blocks.is_empty() {
            assert_eq!(reasons(&slate), [("a".to_owned(), "frequency_cap".to_owned())]);
        }
        slate.blocks.len()
    };
    let tasks: Vec<_> =
        (0..30).map(|n| tokio::spawn(run(engines[n % engines.len()].clone(), n as u128))).collect();
    let mut shown = 0;
    for task in tasks {
        shown += task.await.expect("runs");
    }
    assert_eq!(shown, 3, "seen or not yet, whoever shows them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn engines_that_start_together_make_one_key_and_one_schema() {
    let database = Database::new().await;
    let (first, second) = tokio::join!(open(&database, config()), open(&database, config()));
    let document = advertisers(vec![campaign("a", 100_000, phrase("running shoes"), |_| {})]);
    first.import_json(&document.to_string()).await.expect("imports");
    let slate = first.decide(request("running shoes")).await.expect("decides");
    assert_eq!(shown(&slate), ["a-ad"]);
    let seen = second.impression(token(&slate.blocks[0].impression_url), &person(), later(1)).await;
    assert_eq!(seen.expect("verifies the other's signature").ad_id, "a-ad");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_without_its_password() {
    let address =
        DatabaseAddress::try_from("postgres://u:geheim@127.0.0.1:1/ads".to_owned()).expect("an address");
    let error = AdEngine::connect(&address, config(), encoders()).await.err().expect("nothing listens");
    assert!(matches!(&error, AdsError::Database(_)), "{error}");
    assert!(!format!("{error:?} {address}").contains("geheim"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_database_that_does_not_answer_costs_ads_and_not_time() {
    let document = advertisers(vec![campaign("a", 100_000, phrase("running shoes"), |_| {})]);
    let fixture = engine_with(&document, config()).await;
    let decide = |number: u128| {
        let engine = fixture.engine.clone();
        async move {
            let asked = AdRequest { auction_id: Uuid::from_u128(number), ..request("running shoes") };
            engine.decide(asked).await.map(|slate| slate.blocks.len())
        }
    };
    let lock = fixture.database.lock().await;
    let waiting: Vec<_> = (0..40).map(|n| tokio::spawn(decide(n))).collect();
    for task in waiting {
        assert!(matches!(task.await.expect("runs"), Err(AdsError::Busy)));
    }
    drop(lock);
    let mut shown = None;
    for _ in 0..300 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        shown = decide(99).await.ok();
        if shown.is_some() {
            break;
        }
    }
    assert_eq!(shown, Some(1), "it comes back by itself");
    assert!(fixture.engine.audit().await.expect("audits").passed());
}
