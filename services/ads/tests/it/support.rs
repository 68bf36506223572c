//! A small set of advertisers and an engine over it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bowerbird_ads::{AdEngine, AdRequest, AdsConfig, Slate};
use bowerbird_models_api::stub::{StubEmbedder, StubReranker};
use bowerbird_models_api::{Embedder, Embedding, EmbeddingSpace, ModelError, TextRole};
use bowerbird_scheduler::{Encoders, EncodersConfig};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

pub const DIM: usize = 256;

/// Noon of a day in which the campaigns of [`campaign`] run.
pub fn noon() -> Timestamp {
    "2026-03-10T12:00:00Z".parse().expect("valid")
}

pub fn later(seconds: i64) -> Timestamp {
    Timestamp::from_second(noon().as_second() + seconds).expect("in range")
}

pub fn encoders() -> Encoders {
    let config = EncodersConfig { workers: 2, ..EncodersConfig::default() };
    Encoders::start(config, |_| Ok((Box::new(StubEmbedder::new(DIM)), Box::new(StubReranker))))
        .expect("starts")
}

/// Stub encoders that count how many passages they embed.
pub fn counting_encoders(counter: &Arc<AtomicUsize>) -> Encoders {
    struct Counting(StubEmbedder, Arc<AtomicUsize>);
    impl Embedder for Counting {
        fn space(&self) -> &EmbeddingSpace {
            self.0.space()
        }
        fn embed(&mut self, text: &str, role: TextRole) -> Result<Embedding, ModelError> {
            if role == TextRole::Passage {
                self.1.fetch_add(1, Ordering::SeqCst);
            }
            self.0.embed(text, role)
        }
    }
    let counter = counter.clone();
    let config = EncodersConfig { workers: 1, ..EncodersConfig::default() };
    Encoders::start(config, move |_| {
        Ok((Box::new(Counting(StubEmbedder::new(DIM), counter.clone())), Box::new(StubReranker)))
    })
    .expect("starts")
}

/// The stub models know only shared words, so the meaning leg gets a threshold that words can reach, and the gate
/// asks for about half of the query's words.
pub fn config() -> AdsConfig {
    let mut config = AdsConfig { semantic_threshold: 0.3, ..AdsConfig::default() };
    config.gate.bias = 0.0;
    config.gate.logit_weight = 1.0;
    config.gate.cosine_weight = 1.0;
    config.gate.threshold = 0.4;
    config
}

pub struct Fixture {
    pub engine: AdEngine,
    pub path: PathBuf,
    _folder: tempfile::TempDir,
}

pub async fn open(path: &Path, config: AdsConfig) -> AdEngine {
    AdEngine::open(path, config, encoders()).await.unwrap_or_else(|error| panic!("{error}"))
}

pub async fn engine_with(document: &Value, config: AdsConfig) -> Fixture {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("ads.sqlite");
    let engine = open(&path, config).await;
    engine.import_json(&document.to_string()).await.unwrap_or_else(|error| panic!("{error}"));
    Fixture { engine, path, _folder: folder }
}

/// An advertiser of its own for each campaign.
pub fn advertisers(campaigns: Vec<Value>) -> Value {
    let wrap = |campaign: Value| {
        let id = format!("adv-{}", campaign["id"].as_str().expect("id"));
        json!({"id": id, "name": format!("{id} Inc"), "paid_by": format!("{id} Holding"), "campaigns": [campaign]})
    };
    json!({"advertisers": campaigns.into_iter().map(wrap).collect::<Vec<_>>()})
}

/// A campaign with one group and one ad; `change` may alter it.
pub fn campaign(id: &str, bid: i64, keywords: Value, change: impl FnOnce(&mut Value)) -> Value {
    let mut campaign = json!({
        "id": id, "name": id, "daily_budget_micros": 50_000_000, "currency": "USD",
        "starts": "2026-01-01", "ends": "2026-12-31",
        "ad_groups": [{
            "id": format!("{id}-group"), "bid_micros": bid, "keywords": keywords,
            "ads": [{
                "id": format!("{id}-ad"), "headline": "Running shoes and trail shoes",
                "text": "Light running shoes for every road.",
                "landing_url": format!("https://{id}.example/shoes"),
            }],
        }],
    });
    change(&mut campaign);
    campaign
}

pub fn phrase(text: &str) -> Value {
    json!([{"text": text, "match_type": "phrase"}])
}

pub fn request(text: &str) -> AdRequest {
    AdRequest {
        text: text.into(),
        embedding: None,
        lang: None,
        country: None,
        device: None,
        user: None,
        topics: None,
        slots: 2,
        page_sensitive: false,
        explain: false,
        now: noon(),
        auction_id: Uuid::from_u128(7),
        deadline: None,
    }
}

pub fn shown(slate: &Slate) -> Vec<&str> {
    slate.blocks.iter().map(|block| block.ad_id.as_str()).collect()
}

/// The token of a link.
pub fn token(url: &str) -> &str {
    url.rsplit('/').next().expect("a link has a last part")
}

/// Campaign and the code of its reason.
pub fn reasons(slate: &Slate) -> Vec<(String, String)> {
    let explain = slate.explain.as_ref().expect("asked for");
    explain.campaigns.iter().map(|c| (c.campaign.clone(), c.reason.to_string())).collect()
}
