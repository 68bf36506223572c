//! The engine as callers see it.

use std::path::Path;
use std::sync::Arc;

use bowerbird_models_api::{Embedding, TextRole};
use bowerbird_scheduler::{Encoders, Priority};
use jiff::Timestamp;
use parking_lot::RwLock;

use crate::import::NewVersion;
use crate::index::{self, AdIndex};
use crate::reload::{self, Reloads};
use crate::store::Store;
use crate::stored;
use crate::token::Keys;
use crate::{
    AdRequest, AdsConfig, AdsError, Audit, CampaignReport, ClickOutcome, DatabaseAddress, EventOutcome, Slate,
};

/// Chooses ads, keeps budgets and books events. Cheap to clone; all clones share one state.
#[derive(Clone)]
pub struct AdEngine(pub(crate) Arc<Engine>);

/// What the stages share.
pub(crate) struct Engine {
    pub config: AdsConfig,
    pub encoders: Encoders,
    pub store: Store,
    pub keys: Keys,
    index: RwLock<Arc<AdIndex>>,
    /// What is booked has changed, and when it was last read.
    pub reloads: Reloads,
}

impl AdEngine {
    /// Opens the database file at `path`, creating it when absent: [`AdEngine::connect`].
    pub async fn open(
        path: impl AsRef<Path>,
        config: AdsConfig,
        encoders: Encoders,
    ) -> Result<Self, AdsError> {
        Self::connect(&DatabaseAddress::File(path.as_ref().to_path_buf()), config, encoders).await
    }

    /// Opens the database and loads what is booked. Ads without a vector in the space of `encoders` are embedded
    /// first.
    pub async fn connect(
        database: &DatabaseAddress,
        config: AdsConfig,
        encoders: Encoders,
    ) -> Result<Self, AdsError> {
        config.validate().map_err(AdsError::Config)?;
        let store = Store::open(database, config.readers).await?;
        let keys = store.keys().await?;
        let index = RwLock::new(Arc::new(AdIndex::default()));
        let engine = Engine { config, encoders, store, keys, index, reloads: Reloads::default() };
        let mut reader = engine.store.reader.acquire().await?;
        let missing = index::without_embedding(&mut reader, engine.encoders.space()).await?;
        drop(reader);
        let vectors = engine.embed(&missing).await?;
        let mut tx = engine.store.begin_write().await?;
        index::store_embeddings(&mut tx, engine.encoders.space(), &missing, &vectors).await?;
        tx.commit().await?;
        engine.reload().await?;
        let engine = Arc::new(engine);
        reload::watch(&engine);
        Ok(Self(engine))
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
        self.0.index().ads.len()
    }

    /// Closes the database; calls after that fail.
    pub async fn close(&self) {
        self.0.reloads.stop();
        self.0.store.close().await;
    }
}

impl Engine {
    /// The ads as of now; a decision uses one snapshot from start to end.
    pub(crate) fn index(&self) -> Arc<AdIndex> {
        self.index.read().clone()
    }

    /// Reads what is booked and serves it from now on.
    pub(crate) async fn reload(&self) -> Result<(), AdsError> {
        let _alone = self.reloads.one_at_a_time.lock().await;
        let mut snapshot = self.store.begin_read().await?;
        let changes = stored::changes(&mut snapshot).await?;
        let index = index::load(&mut snapshot, self.encoders.space()).await?;
        snapshot.rollback().await?;
        *self.index.write() = Arc::new(index);
        self.reloads.done(changes);
        Ok(())
    }

    /// One vector for each version, computed behind everything that a person waits for.
    pub(crate) async fn embed(&self, versions: &[NewVersion]) -> Result<Vec<Embedding>, AdsError> {
        if versions.is_empty() {
            return Ok(Vec::new());
        }
        let passages: Vec<String> = versions.iter().map(|version| version.passage.clone()).collect();
        let encoders = self.encoders.clone();
        let work = move || encoders.embed_blocking(&passages, TextRole::Passage, Priority::Bulk);
        Ok(tokio::task::spawn_blocking(work).await??)
    }
}
