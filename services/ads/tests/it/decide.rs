//! Which ads a request gets, and what the others are told.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bowerbird_ads::{AdEngine, AdsConfig, AdsError, Degraded, NoFill, Reason};
use bowerbird_models_api::stub::{StubEmbedder, StubReranker};
use bowerbird_models_api::{
    Embedder, Embedding, EmbeddingSpace, ModelError, RerankLogit, Reranker, TextRole,
};
use bowerbird_scheduler::{Encoders, EncodersConfig};
use serde_json::json;
use uuid::Uuid;

use crate::support::{
    DIM, advertisers, campaign, config, encoders, engine_with, phrase, reasons, request, shown,
};

#[tokio::test]
async fn a_match_is_shown_labelled_and_explained() {
    let fixture =
        engine_with(&advertisers(vec![campaign("a", 1_000_000, phrase("running shoes"), |_| {})]), config())
            .await;
    let slate = fixture.engine.decide(request("good running shoes")).await.expect("decides");
    assert_eq!(slate.auction_id, Uuid::from_u128(7));
    assert_eq!((slate.no_fill, slate.degraded, slate.explain), (None, None, None));
    let block = &slate.blocks[0];
    assert_eq!((block.r#type, block.label), ("sponsored", "Sponsored"));
    assert_eq!((block.advertiser.as_str(), block.paid_by.as_str()), ("adv-a Inc", "adv-a Holding"));
    assert_eq!(block.display_url, "a.example");
    assert_eq!(block.why, "Matches your search for \u{201c}running shoes\u{201d}");
    assert!(block.click_url.starts_with("/e/c/") && block.impression_url.starts_with("/e/i/"));
    assert_eq!(block.slot, 1);
}

#[tokio::test]
async fn meaning_calls_up_only_those_who_asked_for_it() {
    let semantic = |id: &str, on: bool| {
        campaign(id, 1_000_000, json!([]), |c| c["ad_groups"][0]["semantic"] = json!(on))
    };
    let fixture =
        engine_with(&advertisers(vec![semantic("on", true), semantic("off", false)]), config()).await;
    let slate = fixture.engine.decide(request("light shoes for running")).await.expect("decides");
    assert_eq!(shown(&slate), ["on-ad"]);
    assert_eq!(slate.blocks[0].why, "Related to what you searched for");
    let slate = fixture.engine.decide(request("mortgage rates today")).await.expect("decides");
    assert!(slate.blocks.is_empty());
}

#[tokio::test]
async fn two_slots_go_to_the_two_best_advertisers() {
    let mut document = advertisers(vec![
        campaign("high", 2_000_000, phrase("running shoes"), |_| {}),
        campaign("middle", 1_500_000, phrase("running shoes"), |_| {}),
        campaign("low", 500_000, phrase("running shoes"), |_| {}),
    ]);
    // A second campaign of the highest bidder must not take the second slot.
    let second = campaign("high-2", 1_900_000, phrase("running shoes"), |_| {});
    document["advertisers"][0]["campaigns"].as_array_mut().expect("list").push(second);
    let fixture = engine_with(&document, config()).await;
    let mut asked = request("running shoes");
    asked.explain = true;
    let slate = fixture.engine.decide(asked.clone()).await.expect("decides");
    assert_eq!(shown(&slate), ["high-ad", "middle-ad"]);
    let code = |id: &str, code: &str| (id.to_owned(), code.to_owned());
    assert_eq!(
        reasons(&slate),
        [
            code("high", "served"),
            code("high-2", "same_advertiser"),
            code("low", "lost_auction"),
            code("middle", "served")
        ]
    );
    asked.slots = 1;
    asked.auction_id = Uuid::from_u128(8);
    assert_eq!(shown(&fixture.engine.decide(asked).await.expect("decides")), ["high-ad"]);
}

#[tokio::test]
async fn every_campaign_hears_the_first_thing_that_stopped_it() {
    let shoes = || phrase("running shoes");
    let with_negative = json!([{"text": "running shoes", "match_type": "phrase"}, {"text": "cheap", "match_type": "broad", "negative": true}]);
    let poor = |c: &mut serde_json::Value| c["ad_groups"][0]["ads"][0]["headline"] = json!("Garden hoses");
    let document = advertisers(vec![
        campaign("a-paused", 1_000_000, shoes(), |c| c["status"] = json!("paused")),
        campaign("b-early", 1_000_000, shoes(), |c| c["starts"] = json!("2026-03-11")),
        campaign("c-late", 1_000_000, shoes(), |c| c["ends"] = json!("2026-03-09")),
        campaign("d-no-ad", 1_000_000, shoes(), |c| c["ad_groups"][0]["ads"][0]["status"] = json!("paused")),
        campaign("e-language", 1_000_000, shoes(), |c| c["ad_groups"][0]["languages"] = json!(["fr"])),
        campaign("f-country", 1_000_000, shoes(), |c| c["ad_groups"][0]["countries"] = json!(["CA"])),
        campaign("g-no-match", 1_000_000, phrase("kettles"), |_| {}),
        campaign("h-negative", 1_000_000, with_negative, |_| {}),
        campaign("i-irrelevant", 1_000_000, shoes(), |c| {
            poor(c);
            c["ad_groups"][0]["ads"][0]["text"] = json!("Water for the lawn.");
        }),
        campaign("j-low-bid", 40_000, shoes(), |_| {}),
        campaign("k-first", 3_000_000, shoes(), |_| {}),
        campaign("l-second", 2_000_000, shoes(), |_| {}),
        campaign("m-third", 1_000_000, shoes(), |_| {}),
    ]);
    let fixture = engine_with(&document, config()).await;
    let mut asked = request("cheap running shoes");
    asked.explain = true;
    asked.lang = Some("en-US".into());
    asked.country = Some("us".into());
    let slate = fixture.engine.decide(asked).await.expect("decides");
    let found = reasons(&slate);
    let codes: Vec<&str> = found.iter().map(|(_, code)| code.as_str()).collect();
    let expected = [
        "paused",
        "not_started",
        "ended",
        "no_active_ad",
        "language",
        "country",
        "no_match",
        "negative_keyword:cheap",
        "below_relevance",
        "below_reserve",
        "served",
        "served",
        "lost_auction",
    ];
    assert_eq!(codes.len(), expected.len());
    for ((found, expected), (campaign, _)) in codes.iter().zip(expected).zip(&found) {
        assert!(found.starts_with(expected), "{campaign}: {found}, expected {expected}");
    }
    let explain = slate.explain.expect("asked for");
    let irrelevant = explain.campaigns.iter().find(|c| c.campaign == "i-irrelevant").expect("listed");
    assert!(irrelevant.scores.is_some(), "a scored ad shows its scores");
    let json = serde_json::to_value(&explain).expect("serialises");
    assert_eq!(json["campaigns"][7]["reason"], "negative_keyword");
    assert_eq!(json["campaigns"][7]["keyword"], "cheap");
}

#[tokio::test]
async fn each_campaign_is_listed_exactly_once_whatever_is_asked() {
    let ids = ["a", "b", "c", "d"];
    let keywords = ["running shoes", "trail", "shoes", "road"];
    let campaigns = ids.iter().zip(keywords).map(|(id, keyword)| {
        campaign(id, 800_000, phrase(keyword), |c| c["ad_groups"][0]["semantic"] = json!(*id == "d"))
    });
    let fixture = engine_with(&advertisers(campaigns.collect()), config()).await;
    let texts = [
        "",
        "running shoes",
        "trail",
        "zebra",
        "suicide",
        "shoes shoes shoes",
        "🙂",
        "light road running shoes",
    ];
    for (at, text) in texts.iter().enumerate() {
        for page_sensitive in [false, true] {
            let mut asked = request(text);
            asked.explain = true;
            asked.page_sensitive = page_sensitive;
            asked.slots = at % 3;
            asked.auction_id = Uuid::from_u128(100 + at as u128);
            let slate = fixture.engine.decide(asked).await.expect("decides");
            let listed: Vec<String> = reasons(&slate).into_iter().map(|(campaign, _)| campaign).collect();
            assert_eq!(listed, ids, "{text:?}");
            let explain = slate.explain.expect("asked for");
            let served =
                explain.campaigns.iter().filter(|c| matches!(c.reason, Reason::Served { .. })).count();
            assert_eq!(served, slate.blocks.len(), "{text:?}");
        }
    }
}

#[tokio::test]
async fn no_ads_where_none_belong() {
    let fixture =
        engine_with(&advertisers(vec![campaign("a", 1_000_000, phrase("running shoes"), |_| {})]), config())
            .await;
    let check = async |text: &str, page_sensitive: bool, expected: NoFill| {
        let mut asked = request(text);
        asked.page_sensitive = page_sensitive;
        let slate = fixture.engine.decide(asked).await.expect("decides");
        assert!(slate.blocks.is_empty(), "{text:?}");
        assert_eq!(slate.no_fill, Some(expected), "{text:?}");
    };
    check("running shoes", true, NoFill::PageSensitive).await;
    check("", false, NoFill::EmptyText).await;
    check("running shoes after a suicide", false, NoFill::SensitiveText { term: "suicide" }).await;
    let mut none = request("running shoes");
    none.slots = 0;
    assert_eq!(fixture.engine.decide(none).await.expect("decides").no_fill, Some(NoFill::NoSlot));
    let long = fixture.engine.decide(request(&"shoes ".repeat(20_000))).await;
    assert!(matches!(long, Err(AdsError::TextTooLong { .. })));
}

#[tokio::test]
async fn the_same_auction_in_the_same_state_gives_the_same_slate() {
    // Five equal ads: only the tie key decides.
    let campaigns =
        || ["a", "b", "c", "d", "e"].map(|id| campaign(id, 1_000_000, phrase("running shoes"), |_| {}));
    let document = advertisers(campaigns().to_vec());
    let one = engine_with(&document, config()).await;
    let other = engine_with(&document, config()).await;
    let mut winners = BTreeSet::new();
    for id in 0..12 {
        let mut asked = request("running shoes");
        asked.auction_id = Uuid::from_u128(id);
        asked.explain = true;
        let first = one.engine.decide(asked.clone()).await.expect("decides");
        let again = one.engine.decide(asked.clone()).await.expect("decides");
        assert_eq!(first, again, "the same engine, to the last byte of every token");
        let elsewhere = other.engine.decide(asked).await.expect("decides");
        assert_eq!(first.explain, elsewhere.explain, "another engine with the same bookings");
        winners.insert(first.blocks[0].ad_id.clone());
    }
    assert!(winners.len() > 1, "ties must not always fall to the same ad: {winners:?}");
}

/// Fails in one of its two parts.
#[derive(Clone, Copy, PartialEq)]
enum Broken {
    Embedder,
    Reranker,
}

struct BrokenModel(Broken, StubEmbedder);

impl Embedder for BrokenModel {
    fn space(&self) -> &EmbeddingSpace {
        self.1.space()
    }
    fn embed(&mut self, text: &str, role: TextRole) -> Result<Embedding, ModelError> {
        if self.0 == Broken::Embedder && role == TextRole::Query {
            return Err(ModelError::NotFinite);
        }
        self.1.embed(text, role)
    }
}

impl Reranker for BrokenModel {
    fn name(&self) -> &'static str {
        "broken"
    }
    fn score(&mut self, query: &str, passage: &str) -> Result<RerankLogit, ModelError> {
        if self.0 == Broken::Reranker {
            Err(ModelError::NotFinite)
        } else {
            StubReranker.score(query, passage)
        }
    }
}

#[tokio::test]
async fn without_models_there_is_no_ad() {
    for (broken, expected) in
        [(Broken::Embedder, Degraded::Embedding), (Broken::Reranker, Degraded::Relevance)]
    {
        let folder = tempfile::tempdir().expect("temporary folder");
        let model = move || BrokenModel(broken, StubEmbedder::new(DIM));
        let start = EncodersConfig { workers: 1, ..EncodersConfig::default() };
        let encoders =
            Encoders::start(start, move |_| Ok((Box::new(model()), Box::new(model())))).expect("starts");
        let engine =
            AdEngine::open(folder.path().join("ads.sqlite"), config(), encoders).await.expect("opens");
        // An exact keyword too: no match is close enough to skip the gate.
        let exact = json!([{"text": "running shoes", "match_type": "exact"}]);
        let document = advertisers(vec![campaign("a", 1_000_000, exact, |_| {})]);
        engine.import_json(&document.to_string()).await.expect("imports");
        let mut asked = request("running shoes");
        asked.explain = true;
        let slate = engine.decide(asked).await.expect("decides");
        assert!(slate.blocks.is_empty());
        assert_eq!(slate.degraded, Some(expected));
        assert_eq!(reasons(&slate), [("a".to_owned(), "not_scored".to_owned())]);
    }
}

#[tokio::test]
async fn a_deadline_that_passed_means_no_ad() {
    let fixture =
        engine_with(&advertisers(vec![campaign("a", 1_000_000, phrase("running shoes"), |_| {})]), config())
            .await;
    let mut asked = request("running shoes");
    asked.deadline =
        Some(Instant::now().checked_sub(Duration::from_secs(1)).expect("the machine has been up that long"));
    let slate = fixture.engine.decide(asked).await.expect("decides");
    assert!(slate.blocks.is_empty());
    assert!(slate.degraded.is_some());
}

#[tokio::test]
async fn an_embedding_of_another_space_is_refused() {
    let fixture =
        engine_with(&advertisers(vec![campaign("a", 1_000_000, phrase("running shoes"), |_| {})]), config())
            .await;
    let mut asked = request("running shoes");
    asked.embedding = Some(Embedding::normalized(vec![1.0; DIM + 1]).expect("finite"));
    assert!(matches!(fixture.engine.decide(asked).await, Err(AdsError::Embedding(_))));
}

#[tokio::test]
async fn a_person_and_topics_have_bounds() {
    let fixture =
        engine_with(&advertisers(vec![campaign("a", 1_000_000, phrase("running shoes"), |_| {})]), config())
            .await;
    for (user, topics, accepted) in [
        ("u".repeat(256), 32, true),
        ("u".repeat(257), 0, false),
        (String::new(), 0, false),
        ("u".into(), 33, false),
    ] {
        let mut asked = request("running shoes");
        asked.user = Some(user.clone());
        asked.topics = Some(vec![483; topics]);
        let decided = fixture.engine.decide(asked).await;
        assert_eq!(decided.is_ok(), accepted, "{} bytes, {topics} topics", user.len());
        if let Err(error) = decided {
            assert!(matches!(error, AdsError::UserKey { .. } | AdsError::TooManyTopics { .. }), "{error}");
        }
    }
}

#[tokio::test]
async fn a_bad_configuration_is_refused_at_the_door() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let config = AdsConfig { slot_multipliers: vec![], ..AdsConfig::default() };
    let opened = AdEngine::open(folder.path().join("ads.sqlite"), config, encoders()).await;
    assert!(matches!(opened.err(), Some(AdsError::Config(_))));
}
