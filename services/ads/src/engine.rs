//! The engine as callers see it.

use std::path::Path;
use std::sync::Arc;

use bowerbird_models_api::{Embedding, TextRole};
use bowerbird_scheduler::{Encoders, Priority};
use jiff::Timestamp;
use parking_lot::RwLock;

use crate::budget_bits::BudgetBits;
use crate::caps::{Caps, HoldBook};
use crate::import::{self, NewVersion};
use crate::index::{self, AdIndex};
use crate::snapshot::Snapshot;
use crate::store::Store;
use crate::token::Keys;
use crate::{
    AdRequest, AdsConfig, AdsError, Audit, CampaignReport, ClickOutcome, EventOutcome, ImportReport, Slate,
    Topics,
};

/// Chooses ads, keeps budgets and books events. Cheap to clone; all clones share one state.
#[derive(Clone)]
pub struct AdEngine(Arc<Engine>);

/// What the stages share.
pub(crate) struct Engine {
    pub config: AdsConfig,
    pub encoders: Encoders,
    pub store: Store,
    pub keys: Keys,
    pub user_secret: [u8; 32],
    /// Which campaigns can pay; whoever keeps the money says so.
    pub budgets: Arc<BudgetBits>,
    pub caps: Arc<Caps>,
    /// Places under caps of ads that were given out and not seen yet.
    pub holds: HoldBook,
    /// Made when the first booking asks for topics.
    pub topics: tokio::sync::OnceCell<Topics>,
    snapshot: RwLock<Arc<Snapshot>>,
    /// Held during an import: versions are planned before they are written.
    importing: tokio::sync::Mutex<()>,
}

impl AdEngine {
    /// Opens the database file at `path`, creating it when absent, and loads what is booked. Ads without a vector in
    /// the space of `encoders` are embedded first.
    pub async fn open(
        path: impl AsRef<Path>,
        config: AdsConfig,
        encoders: Encoders,
    ) -> Result<Self, AdsError> {
        config.validate().map_err(AdsError::Config)?;
        let store = Store::open(path.as_ref(), config.readers).await?;
        let keys = store.keys().await?;
        let user_secret = keys.user_secret()?;
        let budgets = Arc::<BudgetBits>::default();
        let snapshot = Snapshot::new(AdIndex::default(), budgets.clone(), config.semantic_threshold)?;
        // An impression that counts finds its place still held.
        let hold_seconds = u32::try_from(config.time_to_live.impression.as_secs()).unwrap_or(u32::MAX);
        let engine = Engine {
            caps: Arc::new(Caps::new(&user_secret, config.cap_entries, hold_seconds)),
            holds: HoldBook::default(),
            topics: tokio::sync::OnceCell::new(),
            snapshot: RwLock::new(Arc::new(snapshot)),
            importing: tokio::sync::Mutex::new(()),
            config,
            encoders,
            store,
            keys,
            user_secret,
            budgets,
        };
        let mut reader = engine.store.reader.acquire().await?;
        let missing = index::without_embedding(&mut reader, engine.encoders.space()).await?;
        drop(reader);
        let vectors = engine.embed(&missing).await?;
        let mut tx = engine.store.begin_write().await?;
        index::store_embeddings(&mut tx, engine.encoders.space(), &missing, &vectors).await?;
        tx.commit().await?;
        engine.reload().await?;
        Ok(Self(Arc::new(engine)))
    }

    /// Takes over a document of advertisers (its form is described in the import module of this crate): all of it,
    /// or nothing and every problem at once. What it does not name stays booked; pause it to stop it. The same
    /// document again changes nothing.
    pub async fn import_json(&self, json: &str) -> Result<ImportReport, AdsError> {
        let engine = &*self.0;
        let advertisers = import::parse(json, &engine.config.currency).map_err(AdsError::Import)?;
        let _importing = engine.importing.lock().await;
        let mut snapshot = engine.store.reader.begin().await?;
        let planned = import::plan(&mut snapshot, advertisers).await?.map_err(AdsError::Import)?;
        snapshot.rollback().await?;
        let versions = planned.new_versions();
        let vectors = engine.embed(&versions).await?;
        let mut tx = engine.store.begin_write().await?;
        import::write(&mut tx, &planned).await?;
        index::store_embeddings(&mut tx, engine.encoders.space(), &versions, &vectors).await?;
        tx.commit().await?;
        engine.reload().await?;
        Ok(planned.report())
    }

    /// The ads for `request`, with their prices reserved.
    ///
    /// Models that are overloaded or late are not an error: the slate says what is missing
    /// ([`Slate::degraded`]) and holds no ad that was not checked.
    pub async fn decide(&self, request: AdRequest) -> Result<Slate, AdsError> {
        self.0.decide(request).await
    }

    /// Books that the block of `token` was seen.
    pub async fn impression(&self, token: &str, now: Timestamp) -> Result<EventOutcome, AdsError> {
        self.0.impression(token, now).await
    }

    /// Books a click and says where it leads and what it cost.
    pub async fn click(&self, token: &str, now: Timestamp) -> Result<ClickOutcome, AdsError> {
        self.0.click(token, now).await
    }

    /// Every campaign with its budget and what happened to it; "today" is the UTC day of `now`.
    pub async fn campaigns(&self, now: Timestamp) -> Result<Vec<CampaignReport>, AdsError> {
        self.0.campaigns(now).await
    }

    /// Replays the events and compares the result with the books.
    pub async fn audit(&self) -> Result<Audit, AdsError> {
        self.0.audit().await
    }

    /// How many ads are loaded, paused ones included.
    pub fn ads(&self) -> usize {
        self.0.snapshot().ads.ads.len()
    }

    /// Closes the database; calls after that fail.
    pub async fn close(&self) {
        self.0.store.close().await;
    }
}

impl Engine {
    /// The ads as of now; a decision uses one snapshot from start to end.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.read().clone()
    }

    async fn reload(&self) -> Result<(), AdsError> {
        let mut reader = self.store.reader.begin().await?;
        let index = index::load(&mut reader, self.encoders.space()).await?;
        reader.rollback().await?;
        let (budgets, threshold) = (self.budgets.clone(), self.config.semantic_threshold);
        let file = move || Snapshot::new(index, budgets, threshold);
        let snapshot = tokio::task::spawn_blocking(file).await??;
        if snapshot.eligibility.asks_topics() {
            self.topics.get_or_try_init(|| self.embed_topics()).await?;
        }
        *self.snapshot.write() = Arc::new(snapshot);
        Ok(())
    }

    async fn embed_topics(&self) -> Result<Topics, AdsError> {
        let (encoders, threshold) = (self.encoders.clone(), self.config.topic_threshold);
        Ok(tokio::task::spawn_blocking(move || Topics::embed_blocking(&encoders, threshold)).await??)
    }

    /// One vector for each version, computed behind everything that a person waits for.
    async fn embed(&self, versions: &[NewVersion]) -> Result<Vec<Embedding>, AdsError> {
        if versions.is_empty() {
            return Ok(Vec::new());
        }
        let passages: Vec<String> = versions.iter().map(|version| version.passage.clone()).collect();
        let encoders = self.encoders.clone();
        let work = move || encoders.embed_blocking(&passages, TextRole::Passage, Priority::Bulk);
        Ok(tokio::task::spawn_blocking(work).await??)
    }
}
