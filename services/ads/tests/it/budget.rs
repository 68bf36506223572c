//! A daily budget is never overspent.

use std::sync::Arc;

use bowerbird_ads::{AdEngine, ClickStatus};
use bowerbird_auction::Micros;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    advertisers, campaign, config, engine_with, later, noon, open, person, phrase, reasons, request, shown,
    token,
};

/// One campaign that pays the reserve of 5 cents a click and can afford `clicks` of them at a bid of 6 cents.
fn small(clicks: i64) -> Value {
    advertisers(vec![campaign("a", 60_000, phrase("running shoes"), |c| {
        c["daily_budget_micros"] = json!(clicks * 50_000 + 10_000);
    })])
}

fn auction(id: u128) -> bowerbird_ads::AdRequest {
    let mut asked = request("running shoes");
    asked.auction_id = Uuid::from_u128(id);
    asked.explain = true;
    asked
}

#[tokio::test]
async fn reserved_money_is_not_offered_twice_and_comes_back() {
    let fixture = engine_with(&small(2), config()).await;
    let decide = async |id, seconds| {
        let mut asked = auction(id);
        asked.now = later(seconds);
        fixture.engine.decide(asked).await.expect("decides")
    };
    assert_eq!(shown(&decide(1, 0).await), ["a-ad"]);
    assert_eq!(shown(&decide(2, 60).await), ["a-ad"]);
    let third = decide(3, 61).await;
    assert!(third.blocks.is_empty());
    assert_eq!(reasons(&third)[0].1, "budget_exhausted");
    // The first reservation ends half an hour after it was made.
    assert!(decide(4, 1799).await.blocks.is_empty());
    assert_eq!(shown(&decide(5, 1800).await), ["a-ad"]);
    let audit = fixture.engine.audit().await.expect("audits");
    assert!(audit.compared > 0 && audit.differences.is_empty(), "{audit:?}");
}

#[tokio::test]
async fn a_late_click_gets_what_is_left_and_no_more() {
    let fixture = engine_with(&small(1), config()).await;
    let decide = async |id, seconds| {
        let mut asked = auction(id);
        asked.now = later(seconds);
        fixture.engine.decide(asked).await.expect("decides").blocks.swap_remove(0)
    };
    let first = decide(1, 0).await;
    fixture.engine.impression(token(&first.impression_url), &person(), later(1)).await.expect("counts");
    let second = decide(2, 1800).await;
    fixture.engine.impression(token(&second.impression_url), &person(), later(1801)).await.expect("counts");
    // The first is late: five of the day's six cents are held for the second, so one cent is left.
    let late = fixture.engine.click(token(&first.click_url), &person(), later(1802)).await.expect("leads on");
    assert_eq!((late.status, late.charged), (ClickStatus::Billed, Micros(10_000)));
    let in_time =
        fixture.engine.click(token(&second.click_url), &person(), later(1803)).await.expect("leads on");
    assert_eq!((in_time.status, in_time.charged), (ClickStatus::Billed, Micros(50_000)));
    let row = &fixture.engine.campaigns(noon()).await.expect("reports")[0];
    assert_eq!(row.spent_today, row.daily_budget);
}

#[tokio::test]
async fn when_nothing_is_left_the_click_is_free() {
    let fixture = engine_with(&small(1), config()).await;
    let decide = async |id, seconds| {
        let mut asked = auction(id);
        asked.now = later(seconds);
        let mut slate = fixture.engine.decide(asked).await.expect("decides");
        slate.blocks.swap_remove(0)
    };
    let blocks = [decide(1, 0).await, decide(2, 1800).await];
    for block in &blocks {
        fixture
            .engine
            .impression(token(&block.impression_url), &person(), later(1801))
            .await
            .expect("counts");
    }
    // The budget is lowered to the price of one click in the meantime.
    let lower = advertisers(vec![campaign("a", 50_000, phrase("running shoes"), |c| {
        c["daily_budget_micros"] = json!(50_000);
    })]);
    fixture.engine.import_json(&lower.to_string()).await.expect("imports");
    let second =
        fixture.engine.click(token(&blocks[1].click_url), &person(), later(1802)).await.expect("leads on");
    assert_eq!((second.status, second.charged), (ClickStatus::Billed, Micros(50_000)));
    let first =
        fixture.engine.click(token(&blocks[0].click_url), &person(), later(1803)).await.expect("leads on");
    assert_eq!((first.status, first.charged), (ClickStatus::FreeOverdelivery, Micros::ZERO));
    assert_eq!(first.destination, "https://a.example/shoes");
}

#[tokio::test]
async fn a_click_is_paid_by_the_day_of_its_decision() {
    let fixture = engine_with(&small(1), config()).await;
    let mut asked = auction(1);
    asked.now = later(12 * 3600 - 60);
    let block = fixture.engine.decide(asked).await.expect("decides").blocks.swap_remove(0);
    let after_midnight = later(12 * 3600 + 60);
    fixture.engine.impression(token(&block.impression_url), &person(), after_midnight).await.expect("counts");
    let click = fixture
        .engine
        .click(token(&block.click_url), &person(), later(12 * 3600 + 61))
        .await
        .expect("leads on");
    assert_eq!(click.charged, Micros(50_000));
    let spent = async |now| fixture.engine.campaigns(now).await.expect("reports")[0].spent_today;
    assert_eq!(spent(noon()).await, Micros(50_000));
    assert_eq!(spent(after_midnight).await, Micros::ZERO);
    let mut next_day = auction(2);
    next_day.now = after_midnight;
    assert_eq!(shown(&fixture.engine.decide(next_day).await.expect("decides")), ["a-ad"]);
}

/// A budget race is lost by one campaign only: the auction is run again and the next ad is shown.
#[tokio::test]
async fn whoever_ran_out_makes_room_for_the_next() {
    let document = advertisers(vec![
        campaign("rich", 300_000, phrase("running shoes"), |c| c["daily_budget_micros"] = json!(300_000)),
        campaign("second", 200_000, phrase("running shoes"), |_| {}),
    ]);
    let fixture = engine_with(&document, config()).await;
    let engine = Arc::new(fixture.engine.clone());
    let mut running = Vec::new();
    for id in 0..12 {
        let engine = engine.clone();
        running.push(tokio::spawn(async move {
            let mut asked = auction(id);
            asked.slots = 1;
            engine.decide(asked).await.expect("decides")
        }));
    }
    let mut winners = Vec::new();
    for task in running {
        let slate = task.await.expect("runs");
        assert_eq!(slate.blocks.len(), 1, "somebody can always pay: {:?}", reasons(&slate));
        winners.push(slate.blocks[0].ad_id.clone());
    }
    assert!(
        winners.iter().any(|id| id == "rich-ad") && winners.iter().any(|id| id == "second-ad"),
        "{winners:?}"
    );
    let row = &fixture.engine.campaigns(noon()).await.expect("reports")[0];
    assert!(row.reserved <= row.daily_budget, "{row:?}");
}

/// Decisions, sightings, clicks, repeats and strays from sixteen tasks at once; then a restart and an audit.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_tasks_cannot_overspend() {
    const TASKS: u64 = 16;
    const STEPS: u32 = 25;
    let names = ["a", "b", "c"];
    let campaigns = names.iter().zip(0_i64..).map(|(id, at)| {
        campaign(id, 300_000 + 100_000 * at, phrase("running shoes"), |c| {
            c["daily_budget_micros"] = json!(1_500_000 + 700_000 * at);
        })
    });
    let fixture = engine_with(&advertisers(campaigns.collect()), config()).await;
    let run = |engine: AdEngine, seed: u64| async move {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut open: Vec<String> = Vec::new();
        let mut charged = 0;
        for step in 0..STEPS {
            // Time passes unevenly, so that reservations run out between decision and click.
            let now = later(i64::from(step) * 240 + rng.random_range(0..1200));
            if open.is_empty() || rng.random_bool(0.5) {
                let mut asked = request("running shoes");
                asked.auction_id = Uuid::from_u128(u128::from(seed) << 64 | u128::from(step));
                asked.slots = rng.random_range(1..=2);
                asked.now = now;
                for block in engine.decide(asked).await.expect("decides").blocks {
                    // The others become orphans.
                    for _ in 0..[0, 1, 1, 1, 2][rng.random_range(0..5)] {
                        engine
                            .impression(token(&block.impression_url), &person(), now)
                            .await
                            .expect("counts");
                    }
                    open.push(block.click_url);
                }
            } else {
                let url = open.swap_remove(rng.random_range(0..open.len()));
                for _ in 0..rng.random_range(1..=2) {
                    let click = engine.click(token(&url), &person(), now).await.expect("leads on");
                    if !click.duplicate {
                        charged += click.charged.0;
                    }
                }
            }
        }
        // Everything that is still open is clicked long after its reservation ended.
        for url in open {
            charged += engine.click(token(&url), &person(), later(20_000)).await.expect("leads on").charged.0;
        }
        charged
    };
    let check = async |engine: &AdEngine, charged: i64| {
        let audit = engine.audit().await.expect("audits");
        assert!(audit.compared > 0 && audit.events > 0, "nothing happened: {audit:?}");
        assert!(audit.differences.is_empty(), "{audit:?}");
        let rows = engine.campaigns(noon()).await.expect("reports");
        let spent: i64 = rows.iter().map(|row| row.spent_total.0).sum();
        assert_eq!(spent, charged, "the books hold what the clicks were told");
        for row in &rows {
            assert!(row.spent_today <= row.daily_budget, "{row:?}");
            assert!(row.spent_today.checked_add(row.reserved).expect("fits") <= row.daily_budget, "{row:?}");
        }
        rows.iter().filter(|row| row.spent_today > Micros::ZERO).count()
    };
    let mut total = 0;
    for round in 0..2 {
        // The second round runs over a reopened database.
        let engine =
            if round == 0 { fixture.engine.clone() } else { open(&fixture.database, config()).await };
        let tasks: Vec<_> =
            (0..TASKS).map(|task| tokio::spawn(run(engine.clone(), 1 + task + 1000 * round))).collect();
        for task in tasks {
            total += task.await.expect("runs");
        }
        let spenders = check(&engine, total).await;
        assert!(spenders >= 2, "a race needs several who can win");
        engine.close().await;
    }
    check(&open(&fixture.database, config()).await, total).await;
}
