//! A small set of advertisers and an engine over it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bowerbird_ads::{AdEngine, AdRequest, AdsConfig, DatabaseAddress, EventContext, Slate};
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
    config.time_to_live.reservation = std::time::Duration::from_mins(30);
    config.gate.bias = 0.0;
    config.gate.logit_weight = 1.0;
    config.gate.cosine_weight = 1.0;
    config.gate.threshold = 0.4;
    config
}

/// A database of one test.
pub struct Database {
    pub address: DatabaseAddress,
    _folder: Option<tempfile::TempDir>,
}

impl Database {
    /// A new one: a file, or in the server that [`crate::postgres`] names.
    pub async fn new() -> Self {
        let Some(server) = std::env::var_os(crate::postgres::VARIABLE) else {
            let folder = tempfile::tempdir().expect("temporary folder");
            let address = DatabaseAddress::File(folder.path().join("ads.sqlite"));
            return Self { address, _folder: Some(folder) };
        };
        let server = server.into_string().expect("UTF-8");
        let name = format!("t{}", Uuid::new_v4().simple());
        let pool = sqlx::PgPool::connect(&server).await.expect("the server answers");
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query(create).execute(&pool).await.expect("makes a database");
        pool.close().await;
        let mut url: url::Url = server.parse().expect("an address");
        url.set_path(&name);
        Self { address: DatabaseAddress::Postgres(url), _folder: None }
    }

    /// Takes the writer's lock, as another process does, until it is dropped.
    pub async fn lock(&self) -> Box<dyn std::any::Any + Send> {
        match &self.address {
            DatabaseAddress::File(path) => {
                let url = format!("sqlite://{}", path.display());
                let pool = sqlx::SqlitePool::connect(&url).await.expect("connects");
                Box::new(pool.begin_with("BEGIN IMMEDIATE").await.expect("nobody writes"))
            }
            DatabaseAddress::Postgres(url) => {
                let pool = sqlx::PgPool::connect(url.as_str()).await.expect("connects");
                let mut tx = pool.begin().await.expect("begins");
                let key = i64::from_be_bytes(*b"bowerads");
                let lock = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(key);
                lock.execute(&mut *tx).await.expect("nobody writes");
                Box::new(tx)
            }
        }
    }

    /// Runs `statement` behind the engine's back and says how many rows it changed.
    pub async fn run(&self, statement: &'static str) -> u64 {
        match &self.address {
            DatabaseAddress::File(path) => {
                let url = format!("sqlite://{}", path.display());
                let pool = sqlx::SqlitePool::connect(&url).await.expect("connects");
                let changed = sqlx::query(statement).execute(&pool).await.expect("runs").rows_affected();
                pool.close().await;
                changed
            }
            DatabaseAddress::Postgres(url) => {
                let pool = sqlx::PgPool::connect(url.as_str()).await.expect("connects");
                let changed = sqlx::query(statement).execute(&pool).await.expect("runs").rows_affected();
                pool.close().await;
                changed
            }
        }
    }
}

pub struct Fixture {
    pub engine: AdEngine,
    pub database: Database,
}

pub async fn open(database: &Database, config: AdsConfig) -> AdEngine {
    AdEngine::connect(&database.address, config, encoders()).await.unwrap_or_else(|error| panic!("{error}"))
}

pub async fn engine_with(document: &Value, config: AdsConfig) -> Fixture {
    let database = Database::new().await;
    let engine = open(&database, config).await;
    engine.import_json(&document.to_string()).await.unwrap_or_else(|error| panic!("{error}"));
    Fixture { engine, database }
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
    AdRequest { slots: 2, ..AdRequest::new(text, noon(), Uuid::from_u128(7)) }
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

/// An event whose request says nothing of its sender.
pub fn person() -> EventContext {
    EventContext::default()
}
