//! Bookings one at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bowerbird_ads::{AdEngine, AdRequest, AdsError, Device, Level, Review, ReviewDecision};
use serde_json::{Value, json};

use crate::support::{
    Database, Fixture, advertisers, campaign, config, counting_encoders, engine_with, open, phrase, request,
    shown,
};

/// Field and message of every problem.
fn problems<T>(result: Result<T, AdsError>) -> Vec<(String, String)> {
    match result {
        Err(AdsError::Import(problems)) => {
            problems.problems.into_iter().map(|problem| (problem.path, problem.message)).collect()
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("accepted"),
    }
}

async fn fixture() -> Fixture {
    engine_with(&advertisers(vec![campaign("a", 1_000_000, phrase("running shoes"), |_| {})]), config()).await
}

async fn create(engine: &AdEngine, level: Level, body: Value) -> Value {
    let answered = engine.create(level, &body.to_string(), None).await;
    answered.unwrap_or_else(|error| panic!("{error}")).booked.json
}

/// The ads that a request for shoes gets once everything booked is in memory.
async fn served(engine: &AdEngine) -> Vec<String> {
    engine.in_force().await.expect("reads");
    let asked =
        AdRequest { device: Some(Device::Phone), user: Some("reader".into()), ..request("running shoes") };
    let slate = engine.decide(asked).await.expect("decides");
    shown(&slate).into_iter().map(str::to_owned).collect()
}

fn ad(id: &str, group: &str) -> Value {
    json!({
        "id": id, "ad_group": group, "headline": "Running shoes for the road", "text": "Light running shoes.",
        "landing_url": "https://new.example/shoes",
    })
}

#[tokio::test]
async fn a_booking_is_made_level_by_level_and_served() {
    let database = Database::new().await;
    let engine = open(&database, config()).await;
    let advertiser = json!({"id": "adv", "name": "New", "blocked_terms": ["recall"], "category": 1551});
    let made = create(&engine, Level::Advertiser, advertiser).await;
    assert_eq!(
        (&made["revision"], &made["paid_by"], &made["category"]),
        (&json!(1), &json!("New"), &json!(1551))
    );
    let booked = json!({
        "id": "camp", "advertiser": "adv", "name": "C", "daily_budget_micros": 5_000_000, "currency": "USD",
        "bidding": "target_cpa", "target_cpa_micros": 9_000_000, "frequency_cap": {"impressions": 3, "hours": 24},
    });
    create(&engine, Level::Campaign, booked).await;
    let group = json!({
        "id": "grp", "campaign": "camp", "bid_micros": 900_000, "semantic_threshold": 0.25, "devices": ["tv", "phone"],
        "hours": [36, 167], "keywords": [{"text": "running shoes", "match_type": "phrase"}],
    });
    let made = create(&engine, Level::AdGroup, group).await;
    assert_eq!(made["semantic_threshold"], json!(0.25));
    assert_eq!((&made["devices"], &made["hours"]), (&json!(["phone", "tv"]), &json!([36, 167])));
    let made = create(&engine, Level::Ad, ad("new", "grp")).await;
    assert_eq!((&made["version"], &made["review"]), (&json!(1), &json!({"state": "approved"})));
    assert_eq!(served(&engine).await, ["new"]);
    let read = engine.booked(Level::Ad, "new").await.expect("is there");
    assert_eq!((read.revision, &read.json), (1, &made));
    // What is stored is the same after a restart.
    engine.close().await;
    let engine = open(&database, config()).await;
    assert_eq!(engine.booked(Level::Ad, "new").await.expect("is there").json, made);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_every_problem() {
    let fixture = fixture().await;
    let body = json!({
        "id": "b", "advertiser": "nobody", "name": "", "daily_budget_micros": 0, "currency": "usd", "starts": "2026-02-01",
        "ends": "2026-01-01", "bid": 3,
    });
    let found = problems(fixture.engine.create(Level::Campaign, &body.to_string(), None).await);
    let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["$.bid", "$.name", "$.daily_budget_micros", "$.currency", "$.ends"]);
    let orphan = ad("x", "no-group");
    let found = problems(fixture.engine.create(Level::Ad, &orphan.to_string(), None).await);
    assert_eq!(found, [("$.ad_group".into(), "there is no ad group of that id".into())]);
    let dear = json!({"id": "g2", "campaign": "a", "bid_micros": 50_000_001});
    let found = problems(fixture.engine.create(Level::AdGroup, &dear.to_string(), None).await);
    assert!(found[0].0 == "$.bid_micros" && found[0].1.contains("daily budget"), "{found:?}");
    // A review is the operator's.
    let mut own = ad("x", "a-group");
    own["review"] = json!("approved");
    let found = problems(fixture.engine.create(Level::Ad, &own.to_string(), None).await);
    assert_eq!(found[0].0, "$.review");
    let taken = fixture.engine.create(Level::Ad, &ad("a-ad", "a-group").to_string(), None).await;
    assert!(matches!(taken, Err(AdsError::Taken { level: "ad", .. })), "{taken:?}");
    assert!(matches!(fixture.engine.booked(Level::Ad, "x").await, Err(AdsError::NotBooked { .. })));
}

#[tokio::test]
async fn a_change_merges_is_checked_as_a_whole_and_counts_up() {
    let fixture = fixture().await;
    let change = async |level, id: &str, patch: Value| {
        fixture.engine.change(level, id, &patch.to_string(), None).await
    };
    let cap = json!({"frequency_cap": {"impressions": 3, "hours": 24}, "lifetime_budget_micros": 90_000_000});
    let changed = change(Level::Campaign, "a", cap).await.expect("changes");
    assert_eq!(changed.revision, 2);
    let changed =
        change(Level::Campaign, "a", json!({"frequency_cap": {"hours": 48}, "lifetime_budget_micros": null}));
    let changed = changed.await.expect("changes");
    assert_eq!(changed.json["frequency_cap"], json!({"impressions": 3, "hours": 48}));
    assert_eq!(changed.json["lifetime_budget_micros"], Value::Null);
    assert_eq!(changed.json["daily_budget_micros"], json!(50_000_000), "the rest stays");
    // The same again is no change.
    assert_eq!(
        change(Level::Campaign, "a", json!({"frequency_cap": {"hours": 48}})).await.expect("ok").revision,
        3
    );
    for (level, id, patch, path) in [
        (Level::Campaign, "a", json!({"daily_budget_micros": 999_999}), "$.daily_budget_micros"),
        (Level::Campaign, "a", json!({"daily_budget_micros": 1.5e6}), "$.daily_budget_micros"),
        (Level::Campaign, "a", json!({"ends": "2025-01-01"}), "$.ends"),
        (Level::Campaign, "a", json!({"id": "b"}), "$.id"),
        (Level::Campaign, "a", json!({"advertiser": "b"}), "$.advertiser"),
        (Level::Campaign, "a", json!({"revision": 1}), "$.revision"),
        (Level::Campaign, "a", json!({"budget": 1}), "$.budget"),
        (Level::Campaign, "a", json!({"name": null}), "$.name"),
        (Level::Campaign, "a", json!([]), "$"),
        (Level::AdGroup, "a-group", json!({"bid_micros": 50_000_001}), "$.bid_micros"),
        (Level::AdGroup, "a-group", json!({"keywords": [{"text": "x"}]}), "$.keywords[0].match_type"),
        (Level::Ad, "a-ad", json!({"review": {"state": "approved"}}), "$.review"),
    ] {
        let found = problems(change(level, id, patch.clone()).await);
        assert_eq!(found[0].0, path, "{patch}: {found:?}");
    }
    let stale = fixture.engine.change(Level::Campaign, "a", "{\"name\":\"N\"}", Some(2)).await;
    assert!(matches!(stale, Err(AdsError::Stale { expected: 2, found: 3, .. })), "{stale:?}");
    assert_eq!(fixture.engine.booked(Level::Campaign, "a").await.expect("is there").revision, 3);
}

#[tokio::test]
async fn words_get_a_new_version_a_vector_and_a_review_other_fields_do_not() {
    let database = Database::new().await;
    let embedded = Arc::new(AtomicUsize::new(0));
    let engine =
        AdEngine::connect(&database.address, config(), counting_encoders(&embedded)).await.expect("opens");
    let document = advertisers(vec![campaign("a", 1_000_000, phrase("running shoes"), |_| {})]);
    engine.import_json(&document.to_string()).await.expect("imports");
    let change =
        async |patch: Value| engine.change(Level::Ad, "a-ad", &patch.to_string(), None).await.expect("ok");
    let capped = change(json!({"frequency_cap": {"impressions": 1, "hours": 1}})).await;
    assert_eq!((&capped.json["version"], embedded.load(Ordering::SeqCst)), (&json!(1), 1));
    let reworded = change(json!({"text": "Running shoes that cure cancer."})).await;
    assert_eq!((&reworded.json["version"], embedded.load(Ordering::SeqCst)), (&json!(2), 2));
    assert_eq!(reworded.json["review"]["state"], "disapproved");
    assert_eq!(reworded.json["review"]["topic"], "health_claims");
    assert_eq!(served(&engine).await, Vec::<String>::new());
    let mended = change(json!({"text": "Running shoes for everybody."})).await;
    assert_eq!((&mended.json["version"], &mended.json["review"]["state"]), (&json!(3), &json!("approved")));
    assert_eq!(served(&engine).await, ["a-ad"]);
    // The address shown follows a new landing page as long as it only named its host.
    let moved = change(json!({"landing_url": "https://moved.example/"})).await;
    assert_eq!(moved.json["display_url"], "moved.example");
}

#[tokio::test]
async fn pauses_and_removals_stop_everything_below() {
    let fixture = fixture().await;
    let engine = &fixture.engine;
    for (level, id) in [
        (Level::Advertiser, "adv-a"),
        (Level::Campaign, "a"),
        (Level::AdGroup, "a-group"),
        (Level::Ad, "a-ad"),
    ] {
        engine.change(level, id, r#"{"status":"paused"}"#, None).await.expect("pauses");
        assert_eq!(served(engine).await, Vec::<String>::new(), "{id} is paused");
        engine.change(level, id, r#"{"status":"enabled"}"#, None).await.expect("resumes");
        assert_eq!(served(engine).await, ["a-ad"], "{id} is back");
    }
    let stale = engine.remove(Level::Campaign, "a", Some(1)).await;
    assert!(matches!(stale, Err(AdsError::Stale { .. })), "{stale:?}");
    let removed = engine.remove(Level::Campaign, "a", Some(3)).await.expect("removes");
    assert_eq!((&removed.json["status"], removed.revision), (&json!("removed"), 4));
    assert_eq!(served(engine).await, Vec::<String>::new());
    assert_eq!(engine.booked(Level::Campaign, "a").await.expect("is kept").json["status"], "removed");
    let again = engine.remove(Level::Campaign, "a", None).await;
    assert!(matches!(again, Err(AdsError::NotBooked { level: "campaign", .. })), "{again:?}");
    let change = engine.change(Level::Campaign, "a", "{}", None).await;
    assert!(matches!(change, Err(AdsError::NotBooked { .. })), "{change:?}");
    let below = json!({"id": "g2", "campaign": "a", "bid_micros": 1});
    assert_eq!(problems(engine.create(Level::AdGroup, &below.to_string(), None).await)[0].0, "$.campaign");
    assert!(engine.list(Level::Campaign, None, "", 10).await.expect("lists").items.is_empty());
    // An import brings it back.
    let document = advertisers(vec![campaign("a", 1_000_000, phrase("running shoes"), |_| {})]);
    engine.import_json(&document.to_string()).await.expect("imports");
    assert_eq!(served(engine).await, ["a-ad"]);
}

#[tokio::test]
async fn lists_come_in_pages_and_by_parent() {
    let fixture = fixture().await;
    let engine = &fixture.engine;
    let group = json!({"id": "other", "campaign": "a", "bid_micros": 1});
    create(engine, Level::AdGroup, group).await;
    for number in 0..5 {
        create(engine, Level::Ad, ad(&format!("n{number}"), "other")).await;
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = engine.list(Level::Ad, Some("other"), &after, 2).await.expect("lists");
        assert!(page.items.len() <= 2);
        seen.extend(page.items.into_iter().map(|item| item.id));
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(seen, ["n0", "n1", "n2", "n3", "n4"]);
    let all = engine.list(Level::Ad, None, "", 1000).await.expect("lists");
    assert_eq!((all.items.len(), all.next), (6, None));
    assert!(engine.list(Level::Ad, Some("nobody"), "", 9).await.expect("lists").items.is_empty());
    let group = &engine.list(Level::AdGroup, Some("a"), "", 9).await.expect("lists").items[0];
    assert_eq!(group.json["keywords"][0]["text"], "running shoes", "keywords come with their group");
}

#[tokio::test]
async fn an_idempotency_key_makes_two_calls_one() {
    let fixture = fixture().await;
    let engine = &fixture.engine;
    let (body, other) = (ad("new", "a-group").to_string(), ad("newer", "a-group").to_string());
    let (first, second) = tokio::join!(
        engine.create(Level::Ad, &body, Some("key-1")),
        engine.create(Level::Ad, &body, Some("key-1"))
    );
    let (first, second) = (first.expect("books"), second.expect("answers"));
    assert_eq!(first.booked, second.booked);
    assert_ne!(first.replayed, second.replayed, "one of them did it");
    // The answer is the first one, also when the booking has moved on.
    engine.change(Level::Ad, "new", r#"{"status":"paused"}"#, None).await.expect("changes");
    let third = engine.create(Level::Ad, &body, Some("key-1")).await.expect("answers");
    assert_eq!((third.replayed, &third.booked.json["status"]), (true, &json!("enabled")));
    let reused = engine.create(Level::Ad, &other, Some("key-1")).await;
    assert!(matches!(reused, Err(AdsError::KeyReused)), "{reused:?}");
    let taken = engine.create(Level::Ad, &body, Some("key-2")).await;
    assert!(matches!(taken, Err(AdsError::Taken { .. })), "{taken:?}");
    for bad in ["", "line\nbreak", &"x".repeat(201)] {
        assert_eq!(problems(engine.create(Level::Ad, &other, Some(bad)).await)[0].0, "Idempotency-Key");
    }
    // A day later the key is free.
    assert_eq!(fixture.database.run("UPDATE requests SET expires_at = 1").await, 1);
    assert!(!engine.create(Level::Ad, &other, Some("key-1")).await.expect("books").replayed);
}

#[tokio::test]
async fn an_operator_decides_over_the_policy_and_it_is_kept() {
    let fixture = fixture().await;
    let engine = &fixture.engine;
    let mut wary = ad("bet", "a-group");
    wary["text"] = json!("Running shoes and a casino.");
    let made = create(engine, Level::Ad, wary).await;
    assert_eq!(
        (&made["review"]["state"], &made["review"]["topic"]),
        (&json!("under_review"), &json!("gambling"))
    );
    assert_eq!(served(engine).await, ["a-ad"]);
    let decision = |review, reason: &str, version| ReviewDecision {
        review,
        topic: String::new(),
        reason: reason.into(),
        reviewer: "Mina".into(),
        version,
    };
    let stale = engine.review("bet", &decision(Review::Approved, "", Some(2))).await;
    assert!(matches!(stale, Err(AdsError::Stale { what: "version", .. })), "{stale:?}");
    let found = problems(engine.review("bet", &decision(Review::Disapproved, " ", None)).await);
    assert_eq!(found[0].0, "$.reason");
    let approved =
        engine.review("bet", &decision(Review::Approved, "licensed", Some(1))).await.expect("decides");
    assert_eq!(approved.json["review"], json!({"state": "approved", "reason": "licensed"}));
    // The policy is not asked again while the words stay.
    engine
        .change(Level::Ad, "bet", r#"{"frequency_cap":{"impressions":1,"hours":1}}"#, None)
        .await
        .expect("ok");
    let now = engine.booked(Level::Ad, "bet").await.expect("is there");
    assert_eq!(now.json["review"]["state"], "approved");
    engine.review("a-ad", &decision(Review::Disapproved, "not licensed", None)).await.expect("decides");
    assert_eq!(served(engine).await, ["bet"]);
    let kept = "UPDATE ad_reviews SET at = at WHERE ad = 'bet' AND at > 1700000000000 AND version = 1 AND \
                (reviewer = 'policy' AND review = 'under_review' AND revision = 1 \
                OR reviewer = 'Mina' AND review = 'approved' AND revision = 2)";
    assert_eq!(fixture.database.run(kept).await, 2, "who and when");
}

#[tokio::test]
async fn many_changes_at_once_are_read_in_a_few_turns_and_none_is_lost() {
    let fixture = fixture().await;
    let engine = &fixture.engine;
    let change = |n: i64| {
        let patch = json!({"bid_micros": 1_000_000 + n}).to_string();
        async move { engine.change(Level::AdGroup, "a-group", &patch, None).await }
    };
    let (a, b, c) = tokio::join!(change(1), change(2), change(3));
    let mut revisions: Vec<i64> = [a, b, c].into_iter().map(|r| r.expect("changes").revision).collect();
    revisions.sort_unstable();
    assert_eq!(revisions, [2, 3, 4], "each change is one revision");
    // Another process sees it too.
    let other = open(&fixture.database, config()).await;
    engine.change(Level::Ad, "a-ad", r#"{"status":"paused"}"#, None).await.expect("pauses");
    assert_eq!(served(&other).await, Vec::<String>::new());
}

/// How long a change of one ad among a hundred thousand takes to answer, and to be served.
#[tokio::test]
#[ignore = "a measurement, half a minute"]
#[expect(clippy::print_stderr, reason = "a measurement is printed")]
async fn a_change_among_a_hundred_thousand_ads_does_not_wait_for_the_reading() {
    let campaigns = (0..1000).map(|number| {
        campaign(&format!("c{number:04}"), 1_000_000, phrase("running shoes"), |c| {
            let ads = (0..100).map(|ad| {
                json!({
                    "id": format!("c{number:04}-{ad:02}"), "headline": format!("Shoes number {number}"),
                    "text": format!("Light shoes, model {ad}."), "landing_url": "https://shoes.example/",
                })
            });
            c["ad_groups"][0]["ads"] = ads.collect();
        })
    });
    let fixture = engine_with(&advertisers(campaigns.collect()), config()).await;
    assert_eq!(fixture.engine.ads(), 100_000);
    let begun = std::time::Instant::now();
    for number in 0..20 {
        let patch = json!({"bid_micros": 2_000_000 + number}).to_string();
        fixture.engine.change(Level::AdGroup, "c0007-group", &patch, None).await.expect("changes");
    }
    let answered = begun.elapsed();
    fixture.engine.in_force().await.expect("reads");
    let in_force = begun.elapsed();
    eprintln!("20 changes answered in {answered:?}, in force after {in_force:?}");
    assert!(answered < in_force);
}
