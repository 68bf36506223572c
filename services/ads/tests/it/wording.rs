//! Texts written from facts: when they are shown, what becomes of them, and what is never shown.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowerbird_ads::{
    AdEngine, AdRequest, AdsConfig, Author, Draft, Drafted, EventStatus, Level, Slate, Texts,
};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    Fixture, advertisers, campaign, config, engine_with, later, noon, open, person, phrase, request, token,
};

const OWN: &str = "Light running shoes for every road.";
const FACT: &str = "Our running shoes weigh 215 g and come with laces from Leeds.";
const WRITTEN: &str = "Running shoes weigh 215 g and come with laces from Leeds.";

/// Says what it is told to say, and counts how often it was asked.
struct Scripted {
    says: Mutex<Drafted>,
    asked: AtomicUsize,
}

impl Scripted {
    fn new(text: &str) -> Arc<Self> {
        Arc::new(Self { says: Mutex::new(written(text)), asked: AtomicUsize::new(0) })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Author for Scripted {
    fn write(&self, _query: String, facts: Vec<String>, _time: Duration) -> BoxFuture<'static, Drafted> {
        assert_eq!(facts, [FACT], "nothing but the facts of the ad");
        self.asked.fetch_add(1, Ordering::SeqCst);
        let says = self.says.lock().expect("not poisoned").clone();
        Box::pin(async move { says })
    }

    fn model(&self) -> &'static str {
        "scripted"
    }

    fn prompt(&self) -> &'static str {
        "v0"
    }
}

/// A draft of which its author claims that the fact supports it.
fn written(text: &str) -> Drafted {
    Drafted::Written(Draft { text: text.into(), fact: 0, quote: FACT.into(), probability: 0.99 })
}

fn market() -> Value {
    let facts = |campaign: &mut Value| campaign["ad_groups"][0]["ads"][0]["facts"] = json!([FACT]);
    let shoes = || phrase("running shoes");
    advertisers(vec![campaign("a", 1_000_000, shoes(), facts), campaign("b", 500_000, shoes(), |_| {})])
}

async fn fixture(author: &Arc<Scripted>, config: AdsConfig) -> Fixture {
    let fixture = engine_with(&market(), config).await;
    fixture.engine.write_texts_with(author.clone());
    fixture
}

fn auction(n: u128, text: &str) -> AdRequest {
    AdRequest { auction_id: Uuid::from_u128(n), ..request(text) }
}

async fn decide(engine: &AdEngine, n: u128) -> Slate {
    let slate = engine.decide(auction(n, "Running  shoes")).await.expect("decides");
    engine.texts_settled().await;
    slate
}

/// Texts and whether a model wrote them, from the first slot.
fn texts(slate: &Slate) -> Vec<(&str, bool)> {
    slate.blocks.iter().map(|block| (block.text.as_str(), block.wording.is_some())).collect()
}

#[tokio::test]
async fn without_an_author_every_text_is_the_advertisers() {
    let fixture = engine_with(&market(), config()).await;
    for n in 1..4 {
        assert_eq!(texts(&decide(&fixture.engine, n).await), [(OWN, false), (OWN, false)]);
    }
}

#[tokio::test]
async fn the_second_decision_shows_what_was_written_at_the_same_price_and_tells_it() {
    let author = Scripted::new(WRITTEN);
    let (plain, with) = (engine_with(&market(), config()).await, fixture(&author, config()).await);
    assert_eq!(texts(&decide(&with.engine, 1).await), [(OWN, false), (OWN, false)]);
    let slate = decide(&with.engine, 2).await;
    assert_eq!(texts(&slate), [(WRITTEN, true), (OWN, false)], "the other ad has no facts");
    assert_eq!(author.asked(), 1);
    let block = &slate.blocks[0];
    let wording = block.wording.as_ref().expect("generated");
    assert_eq!(
        (wording.origin, wording.fact.as_str(), wording.model.as_str()),
        ("generated", FACT, "scripted")
    );

    for n in 1..3 {
        let expected = decide(&plain.engine, n).await;
        let same = auction(n, "running shoes").auction_id;
        let (off, on) = (plain.engine.decision(same).await, with.engine.decision(same).await);
        let (off, on) = (off.expect("reads").expect("kept"), on.expect("reads").expect("kept"));
        assert_eq!((&on.log.awards, &on.log.candidates), (&off.log.awards, &off.log.candidates));
        assert!(on.replay.same && off.wordings.is_empty());
        assert_eq!(expected.blocks[0].headline, block.headline);
        assert_eq!(on.wordings.len(), usize::from(n == 2));
        if let [shown] = on.wordings.as_slice() {
            assert_eq!((shown.ad.as_str(), shown.slot, shown.version), ("a-ad", 1, 1));
            assert_eq!((shown.text.as_str(), shown.fact.as_str(), shown.fact_index), (WRITTEN, FACT, 0));
            assert_eq!(
                (shown.model.as_str(), shown.prompt.as_str(), shown.origin),
                ("scripted", "v0", "generated")
            );
            assert!((shown.probability - 0.99).abs() < 1e-9);
            assert_eq!(shown.written_ms, noon().as_millisecond());
        }
    }
    let seen =
        with.engine.impression(token(&block.impression_url), &person(), later(1)).await.expect("counts");
    assert_eq!((seen.ad_id.as_str(), seen.status), ("a-ad", EventStatus::Recorded));
    let click = with.engine.click(token(&block.click_url), &person(), later(3)).await.expect("counts");
    assert_eq!(click.destination, "https://a.example/shoes");
    let public = with.engine.shown_ads("").await.expect("reads");
    let told: Vec<(&str, &str, usize)> =
        public.iter().map(|ad| (ad.ad.as_str(), ad.text.as_str(), ad.targeting.keywords.len())).collect();
    assert_eq!(told, [("a-ad", OWN, 1), ("b-ad", OWN, 1)]);
    assert_eq!((&public[0].generated_texts, public[1].generated_texts.len()), (&vec![WRITTEN.to_owned()], 0));
    let audit = with.engine.audit().await.expect("audits");
    assert!(audit.differences.is_empty(), "{audit:?}");
}

#[tokio::test]
async fn who_wants_the_advertisers_text_or_tests_has_none_written() {
    let author = Scripted::new(WRITTEN);
    let fixture = fixture(&author, config()).await;
    let own = AdRequest { texts: Texts::Own, ..auction(1, "running shoes") };
    let test = AdRequest { test: true, ..auction(2, "running shoes") };
    let long = auction(3, &format!("running shoes {}", "and so on ".repeat(30)));
    for asked in [own.clone(), test.clone(), long] {
        fixture.engine.decide(asked).await.expect("decides");
        fixture.engine.texts_settled().await;
    }
    assert_eq!(author.asked(), 0);
    decide(&fixture.engine, 4).await;
    assert_eq!(texts(&fixture.engine.decide(own).await.expect("decides"))[0], (OWN, false));
    assert_eq!(texts(&fixture.engine.decide(test).await.expect("decides"))[0], (WRITTEN, true));
}

#[tokio::test]
async fn an_edited_or_paused_ad_shows_its_own_text_again() {
    let author = Scripted::new(WRITTEN);
    let fixture = fixture(&author, config()).await;
    let engine = &fixture.engine;
    let patch = async |change: Value| {
        let patched = engine.change(Level::Ad, "a-ad", &change.to_string(), None).await;
        patched.unwrap_or_else(|error| panic!("{error}"));
        engine.in_force().await.expect("reads");
    };
    decide(engine, 1).await;
    assert_eq!(texts(&decide(engine, 2).await)[0], (WRITTEN, true));

    patch(json!({"text": "Road shoes."})).await;
    assert_eq!(texts(&decide(engine, 3).await)[0], ("Road shoes.", false));
    assert_eq!(author.asked(), 2, "the new version is written for anew");
    assert_eq!(texts(&decide(engine, 4).await)[0], (WRITTEN, true));

    patch(json!({"status": "paused"})).await;
    assert_eq!(texts(&decide(engine, 5).await), [(OWN, false)], "the other ad stands alone");
    patch(json!({"status": "enabled"})).await;
    assert_eq!(texts(&decide(engine, 6).await)[0], ("Road shoes.", false), "it was dropped");
    assert_eq!(texts(&decide(engine, 7).await)[0], (WRITTEN, true));
    assert_eq!(author.asked(), 2, "the same version is read from the database");

    patch(json!({"facts": []})).await;
    decide(engine, 8).await;
    assert_eq!(texts(&decide(engine, 9).await)[0], ("Road shoes.", false));
}

#[tokio::test]
async fn after_a_restart_texts_are_read_and_not_written_again() {
    let author = Scripted::new(WRITTEN);
    let Fixture { engine, database } = fixture(&author, config()).await;
    decide(&engine, 1).await;
    decide(&engine, 2).await;
    engine.close().await;
    drop(engine);

    let silent = Scripted::new("");
    let engine = open(&database, config()).await;
    engine.write_texts_with(silent.clone());
    assert_eq!(texts(&decide(&engine, 3).await)[0], (OWN, false));
    assert_eq!(texts(&decide(&engine, 4).await)[0], (WRITTEN, true));
    assert_eq!(silent.asked(), 0);
    let told = engine.decision(Uuid::from_u128(2)).await.expect("reads").expect("kept");
    assert_eq!(told.wordings.len(), 1, "what a reader saw before the restart");

    // Words of searches go with the log, what a reader saw stays.
    engine.prune(later(400 * 86_400)).await.expect("prunes");
    assert_eq!(database.run("UPDATE ad_wordings SET query = 'x' WHERE query = ''").await, 1);
}

#[tokio::test]
async fn no_words_of_searches_are_kept_with_texts_when_none_are_to_be() {
    let mut quiet = config();
    quiet.log.queries = false;
    let author = Scripted::new(WRITTEN);
    let fixture = fixture(&author, quiet).await;
    decide(&fixture.engine, 1).await;
    let slate = decide(&fixture.engine, 2).await;
    assert_eq!(texts(&slate)[0], (WRITTEN, true));
    let told = fixture.engine.decision(slate.auction_id).await.expect("reads").expect("kept");
    assert_eq!(told.wordings.len(), 1);
    assert_eq!(fixture.database.run("UPDATE ad_wordings SET at = at WHERE query <> ''").await, 0);
}

#[tokio::test]
async fn nothing_that_a_fact_does_not_say_is_shown_whatever_its_author_claims() {
    let hostile = [
        "",
        "The best running shoes weigh 215 g and come with laces from Leeds.",
        "Running shoes weigh 115 g and come with laces from Leeds.",
        "Running shoes weigh 215 kg and come with laces from London.",
        "Free running shoes weigh 215 g and come with laces from Leeds.",
        "It is free.",
        "Running shoes, 50% off.",
        "Nike running shoes weigh 215 g and come with laces from Leeds.",
        "Running shoes weigh only 215 g and come with laces from Leeds.",
        "Running shoes that cure back pain weigh 215 g, laces from Leeds.",
        "Number 1 running shoes weigh 215 g, laces from Leeds.",
        "Running shoes weigh 215 g.",
        "Running shoes never weigh 215 g and come with laces from Leeds.",
        "Running shoes weigh 215 g with laces from Leeds: call 0800 5550187.",
        "Running shoes weigh 215 g with laces from Leeds. Visit https://evil.example now.",
        "<b>Running shoes</b> weigh 215 g and come with laces from Leeds <script>alert(1)</script>.",
        "RUNNING SHOES WEIGH 215 G AND COME WITH LACES FROM LEEDS",
        "Running shoes weigh 215 g!!! Laces from Leeds!!!",
        "Running sh\u{43e}es weigh 215 g and come with laces from Leeds.",
        "Running shoes\u{202e} weigh 215 g and come with laces from Leeds.",
        "Running shoes weigh 215 g and come with\nlaces from Leeds.",
        "Running shoes weigh $215 g and come with laces from Leeds.",
        "Doctors say running shoes weigh 215 g and come with laces from Leeds.",
        "Guaranteed: running shoes weigh 215 g and come with laces from Leeds.",
        "Light running shoes for every road",
        "Laufschuhe wiegen 215 g, Schn\u{fc}rsenkel aus Leeds.",
        &WRITTEN.repeat(3),
    ];
    let author = Scripted::new("");
    let fixture = fixture(&author, config()).await;
    for (n, text) in hostile.iter().enumerate() {
        *author.says.lock().expect("not poisoned") = written(text);
        let query = format!("running shoes {n}");
        for round in 0..2 {
            let asked = auction((n * 2 + round + 1) as u128, &query);
            let slate = fixture.engine.decide(asked).await.expect("decides");
            fixture.engine.texts_settled().await;
            assert_eq!(texts(&slate)[0], (OWN, false), "{text}");
        }
    }
    assert_eq!(author.asked(), hostile.len(), "each was written once, and remembered as not good enough");
    for says in [Drafted::Unsupported, Drafted::Late] {
        *author.says.lock().expect("not poisoned") = says;
        for round in 0..2 {
            let query = format!("running shoes {}", author.asked());
            let slate = fixture.engine.decide(auction(900 + round, &query)).await.expect("decides");
            fixture.engine.texts_settled().await;
            assert_eq!(texts(&slate)[0], (OWN, false));
        }
    }
}
