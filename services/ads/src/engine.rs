//! The engine as callers see it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bowerbird_models_api::{Embedding, TextRole};
use bowerbird_scheduler::{Encoders, Priority};
use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use uuid::Uuid;

use crate::beside::classifier_for;
use crate::budget_bits::BudgetBits;
use crate::caps::{Caps, HoldBook};
use crate::decide::Contest;
use crate::decision_log;
use crate::import::NewVersion;
use crate::index::{self, AdIndex};
use crate::learning::Learning;
use crate::pacing::Pacers;
use crate::reload::{self, Reloads};
use crate::report;
use crate::safety::Safety;
use crate::snapshot::Snapshot;
use crate::spending::Spending;
use crate::store::Store;
use crate::stored;
use crate::time::day;
use crate::token::Keys;
use crate::traffic::Traffic;
use crate::transparency::PublicAd;
use crate::wording::{self, Wordings};
use crate::writer::Writer;
use crate::{
    AdRequest, AdsConfig, AdsError, Audit, Author, Books, CampaignReport, ClickOutcome, ConversionOutcome,
    DatabaseAddress, Decision, EventContext, EventOutcome, Judged, OtherRules, OwnDecision, ReportBy,
    ReportRow, Simulation, Slate, Topics, TrafficRow,
};

/// Chooses ads, keeps budgets and books events. Cheap to clone; all clones share one state.
#[derive(Clone)]
pub struct AdEngine(pub(crate) Arc<Engine>);

/// What the stages share.
pub(crate) struct Engine {
    pub config: AdsConfig,
    pub encoders: Encoders,
    pub store: Arc<Store>,
    pub writer: Writer,
    pub spending: Arc<Spending>,
    pub traffic: Arc<Traffic>,
    keys: RwLock<Arc<Keys>>,
    pub user_secret: [u8; 32],
    /// Which campaigns can pay, after `spending`.
    pub budgets: Arc<BudgetBits>,
    pub caps: Arc<Caps>,
    /// Places under caps of ads that were given out and not seen yet.
    pub holds: HoldBook,
    pub learning: Learning,
    pub pacers: Pacers,
    /// None where it does not know the vectors of the embedder.
    pub safety: Option<&'static Safety>,
    /// Made when the first booking asks for topics.
    pub topics: tokio::sync::OnceCell<Topics>,
    snapshot: RwLock<Arc<Snapshot>>,
    /// Decisions without an ad by day and reason, not yet in the database.
    pub no_fill: Mutex<BTreeMap<(String, String), i64>>,
    /// Texts that models wrote.
    pub wordings: Wordings,
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
        let store = Arc::new(Store::open(database, config.readers).await?);
        let keys = store.keys().await?;
        let clicks = database.file().map(|file| file.with_extension("clicks"));
        let user_secret = store.user_secret().await?;
        let spending = Arc::<Spending>::default();
        let budgets = Arc::<BudgetBits>::default();
        let snapshot = Snapshot::new(AdIndex::default(), budgets.clone(), config.semantic_threshold)?;
        // An impression that counts finds its place still held.
        let hold_seconds = u32::try_from(config.time_to_live.impression.as_secs()).unwrap_or(u32::MAX);
        let engine = Engine {
            traffic: Arc::new(Traffic::new(config.traffic.clone())),
            writer: Writer::start(store.clone(), spending.clone()),
            keys: RwLock::new(Arc::new(keys)),
            caps: Arc::new(Caps::new(&user_secret, config.cap_entries, hold_seconds)),
            holds: HoldBook::default(),
            learning: Learning::open(&config, clicks.as_deref())?,
            pacers: Pacers::default(),
            safety: classifier_for(&encoders.space().model),
            topics: tokio::sync::OnceCell::new(),
            snapshot: RwLock::new(Arc::new(snapshot)),
            wordings: Wordings::default(),
            reloads: Reloads::default(),
            no_fill: Mutex::default(),
            config,
            encoders,
            store,
            spending,
            user_secret,
            budgets,
        };
        let mut reader = engine.store.reader.acquire().await?;
        engine.spending.load(&mut reader).await?;
        engine.restore_caps(&mut reader).await?;
        engine.pacers.load(&mut reader).await?;
        let missing = index::without_embedding(&mut reader, engine.encoders.space()).await?;
        drop(reader);
        let vectors = engine.embed(&missing).await?;
        let mut tx = engine.store.begin_write().await?;
        index::store_embeddings(&mut tx, engine.encoders.space(), &missing, &vectors).await?;
        tx.commit().await?;
        engine.reload().await?;
        engine.learn_all().await?;
        let engine = Arc::new(engine);
        reload::watch(&engine);
        Ok(Self(engine))
    }

    /// The ads for `request`, with their prices reserved.
    ///
    /// Models that are overloaded or late are not an error: the slate says what is missing
    /// ([`Slate::degraded`]) and holds no ad that was not checked.
    pub async fn decide(&self, request: AdRequest) -> Result<Slate, AdsError> {
        self.settle(self.contest(request).await?).await
    }

    /// The first, longer part of [`AdEngine::decide`]: the ads that fit `request`, with their scores. It may run
    /// while the answer that they would stand below is still being written.
    pub async fn contest(&self, request: AdRequest) -> Result<Contest, AdsError> {
        self.0.contest(request).await
    }

    /// The second part, without work for models: the auction, with the prices reserved. What `contest` was asked with
    /// counts, but for its `now`, which is the moment of this decision and may be set anew.
    pub async fn settle(&self, contest: Contest) -> Result<Slate, AdsError> {
        let now = contest.request.now;
        let slate = self.0.settle(contest).await;
        if let Ok(slate) = &slate
            && slate.blocks.is_empty()
        {
            *self.0.no_fill.lock().entry((day(now), slate.outcome().to_owned())).or_default() += 1;
        }
        if self.0.learning.sweep_due(now) {
            let engine = self.0.clone();
            tokio::spawn(async move {
                if let Err(error) = engine.learn(now).await {
                    tracing::warn!(error = %crate::error::chain(&error), "nothing was learnt from clicks");
                }
            });
        }
        slate
    }

    /// Lets `author` write texts from ads' facts from now on: the first decision for an ad and a query shows the
    /// advertiser's own, later ones what was written and held to a fact. Must be called within a tokio runtime; only the
    /// first author is heard.
    pub fn write_texts_with(&self, author: Arc<dyn Author>) {
        wording::start(&self.0, author);
    }

    /// Waits until every text that was asked for is written or given up.
    pub async fn texts_settled(&self) {
        self.0.wordings.settled().await;
    }

    /// Learns now from every impression that was clicked, or has waited ten minutes for a click; else this happens every
    /// quarter of a minute beside decisions.
    pub async fn learn(&self, now: Timestamp) -> Result<(), AdsError> {
        self.0.learn(now).await
    }

    /// Books that the block of `token` was seen.
    pub async fn impression(
        &self,
        token: &str,
        context: &EventContext,
        now: Timestamp,
    ) -> Result<EventOutcome, AdsError> {
        self.0.impression(token, context, now).await
    }

    /// Books a click and says where it leads and what it cost.
    pub async fn click(
        &self,
        token: &str,
        context: &EventContext,
        now: Timestamp,
    ) -> Result<ClickOutcome, AdsError> {
        self.0.click(token, context, now).await
    }

    /// Makes the key with which an advertiser signs conversions; told this once, in hexadecimal. None when there is no such
    /// advertiser.
    pub async fn new_postback_key(&self, advertiser: &str) -> Result<Option<String>, AdsError> {
        self.0.new_postback_key(advertiser).await
    }

    /// Takes what an advertiser says happened, with its signature over the bytes of `body`.
    pub async fn convert(
        &self,
        body: &[u8],
        signature: &str,
        now: Timestamp,
    ) -> Result<ConversionOutcome, AdsError> {
        self.0.convert(body, signature, now).await
    }

    /// Every campaign with its budget and what happened to it; "today" is the UTC day of `now`.
    pub async fn campaigns(&self, now: Timestamp) -> Result<Vec<CampaignReport>, AdsError> {
        self.0.campaigns(now).await
    }

    /// What was shown, seen, clicked and charged over the UTC days `from` to `to`, of one campaign or of all.
    pub async fn report(
        &self,
        by: ReportBy,
        campaign: Option<&str>,
        from: &str,
        to: &str,
    ) -> Result<Vec<ReportRow>, AdsError> {
        self.0.report(by, campaign, from, to).await
    }

    /// One page of the ads that were shown, for the public: those after the id `after`, at most
    /// [`TRANSPARENCY_PAGE`](crate::TRANSPARENCY_PAGE).
    pub async fn shown_ads(&self, after: &str) -> Result<Vec<PublicAd>, AdsError> {
        self.0.shown_ads(after).await
    }

    /// Events of the UTC days `from` to `to` by what became of them and why.
    pub async fn traffic_report(&self, from: &str, to: &str) -> Result<Vec<TrafficRow>, AdsError> {
        self.0.traffic_report(from, to).await
    }

    /// Why decisions of the UTC days `from` to `to` ended without an ad, and how many.
    pub async fn no_fill(&self, from: &str, to: &str) -> Result<Vec<(String, i64)>, AdsError> {
        self.0.book_no_fill().await?;
        self.0.no_fill(from, to).await
    }

    /// A decision from the log, run again: one with an ad, or a draw that came to none. None when it is not kept.
    pub async fn decision(&self, auction_id: Uuid) -> Result<Option<Decision>, AdsError> {
        let mut reader = self.0.store.reader.acquire().await?;
        let Some(mut decision) = decision_log::find(&mut reader, auction_id).await? else { return Ok(None) };
        decision.wordings = wording::stored::shown(&mut reader, auction_id, &decision.log.awards).await?;
        Ok(Some(decision))
    }

    /// The same as `advertiser` may see it: its own part, and how many others there were. None when the decision is not
    /// kept, or there is no such advertiser.
    pub async fn decision_for(
        &self,
        auction_id: Uuid,
        advertiser: &str,
    ) -> Result<Option<OwnDecision>, AdsError> {
        match self.decision(auction_id).await? {
            Some(decision) => self.0.own_view(decision, advertiser).await,
            None => Ok(None),
        }
    }

    /// What other bids and budgets would have brought `campaign` since `since_ms`, in Unix milliseconds; none when there
    /// is no such campaign.
    pub async fn simulate(&self, campaign: &str, since_ms: i64) -> Result<Option<Simulation>, AdsError> {
        self.0.simulate(campaign, since_ms).await
    }

    /// What other rules for the places below answers would have brought since `since_ms`, in Unix milliseconds, from the
    /// log of those that were in force; answers of the last ten minutes before `now` are left out.
    ///
    /// Errors: rules that make no sense or that the log says nothing of, and a log of less than two answers. That it says
    /// too little is no error: see [`Judged::refused`].
    pub async fn judge(&self, other: OtherRules, since_ms: i64, now: Timestamp) -> Result<Judged, AdsError> {
        self.0.judge(other, since_ms, now).await
    }

    /// Replays the events and compares the result with the books.
    pub async fn audit(&self) -> Result<Audit, AdsError> {
        self.0.audit().await
    }

    /// The books as they are.
    pub async fn books(&self) -> Result<Books, AdsError> {
        self.0.books().await
    }

    /// Throws the books away and makes them again from the events.
    pub async fn rebuild_books(&self) -> Result<(), AdsError> {
        self.0.rebuild_books().await
    }

    /// Signs with a new key from now on. Links that are out go on working until they expire.
    pub async fn rotate_key(&self, now: Timestamp) -> Result<u16, AdsError> {
        let (kid, keys) = self.0.store.rotate_key(now).await?;
        *self.0.keys.write() = Arc::new(keys);
        Ok(kid)
    }

    /// Takes decisions older than the configuration keeps out of the log, and words of searches as old out of texts that
    /// were written for them; returns how many decisions went.
    pub async fn prune(&self, now: Timestamp) -> Result<u64, AdsError> {
        let keep = i64::try_from(self.0.config.log.keep.as_millis()).unwrap_or(i64::MAX);
        let before = now.as_millisecond().saturating_sub(keep);
        self.0
            .writer
            .run(move |work| {
                Box::pin(async move {
                    wording::stored::forget_queries(work.db(), before).await?;
                    decision_log::prune(work.db(), before).await
                })
            })
            .await
    }

    /// How many ads are loaded, paused ones included.
    pub fn ads(&self) -> usize {
        self.0.snapshot().ads.ads.len()
    }

    /// Closes the database; calls after that fail.
    pub async fn close(&self) {
        self.0.reloads.stop();
        if let Err(error) = self.0.book_no_fill().await {
            tracing::warn!(error = %crate::error::chain(&error), "counts of decisions without an ad are lost");
        }
        if let Err(error) = self.0.save_pacing().await {
            tracing::warn!(error = %crate::error::chain(&error), "where pacing stood is lost");
        }
        self.0.save_clicks().await;
        self.0.store.close().await;
    }
}

impl Engine {
    /// Writes down where pacing stands.
    pub(crate) async fn save_pacing(self: &Arc<Self>) -> Result<(), AdsError> {
        let engine = self.clone();
        self.writer.run(move |work| Box::pin(async move { engine.pacers.save(work.db()).await })).await
    }

    /// Writes down how many decisions ended without an ad.
    pub(crate) async fn book_no_fill(&self) -> Result<(), AdsError> {
        let counts = std::mem::take(&mut *self.no_fill.lock());
        if counts.is_empty() {
            return Ok(());
        }
        self.writer
            .run(move |work| Box::pin(async move { report::add_no_fill(work.db(), &counts).await }))
            .await
    }

    /// The signing keys as of now.
    pub(crate) fn keys(&self) -> Arc<Keys> {
        self.keys.read().clone()
    }

    /// The ads as of now; a decision uses one snapshot from start to end.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.read().clone()
    }

    /// Reads what is booked and serves it from now on.
    pub(crate) async fn reload(&self) -> Result<(), AdsError> {
        let _alone = self.reloads.one_at_a_time.lock().await;
        let mut reader = self.store.begin_read().await?;
        let changes = stored::changes(&mut reader).await?;
        let index = index::load(&mut reader, self.encoders.space(), &self.snapshot().ads).await?;
        reader.rollback().await?;
        let (budgets, threshold) = (self.budgets.clone(), self.config.semantic_threshold);
        let file = move || Snapshot::new(index, budgets, threshold);
        let snapshot = tokio::task::spawn_blocking(file).await??;
        if snapshot.eligibility.asks_topics() {
            self.topics.get_or_try_init(|| self.embed_topics()).await?;
        }
        self.wordings.keep_shown(&snapshot.ads);
        *self.snapshot.write() = Arc::new(snapshot);
        self.spending.all_changed();
        self.reloads.done(changes);
        Ok(())
    }

    async fn embed_topics(&self) -> Result<Topics, AdsError> {
        let (encoders, threshold) = (self.encoders.clone(), self.config.topic_threshold);
        Ok(tokio::task::spawn_blocking(move || Topics::embed_blocking(&encoders, threshold)).await??)
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
