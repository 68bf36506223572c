//! What became of shown ads, to the click model: each valid impression is learnt once, at its click or when it has waited
//! long enough for one.
//!
//! An outcome gets its number in the transaction that decides it, and the model takes outcomes in their order, so that
//! every process and every replay comes to the same weights.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use jiff::Timestamp;
use sqlx::AnyConnection;

use crate::auction::{Place, Won};
use crate::audience::Audience;
use crate::click::{ClickFeatures, ClickModel, Example, PageKind, Shown};
use crate::decide::Scored;
use crate::engine::Engine;
use crate::index::AdIndex;
use crate::text::QueryWords;
use crate::time::millis;
use crate::writer::Work;
use crate::{AdsConfig, AdsError};

/// An impression without a click for so long counts as one that gets none.
const PATIENCE_MS: i64 = 600_000;
/// Time between two looks for such impressions.
const SWEEP_MS: i64 = 15_000;
/// Impressions of one look, and outcomes learnt at once.
const AT_ONCE: i64 = 1000;
/// Outcomes after which the curve is fitted again.
const CALIBRATE_EVERY: u64 = 1000;
/// Outcomes after which the model is written to its file.
const SAVE_EVERY: u64 = 20_000;

/// The model with what keeps it up to date.
pub(crate) struct Learning {
    pub model: Arc<ClickModel>,
    /// Where it is kept between starts; none: it is made again from all outcomes.
    file: Option<PathBuf>,
    next_sweep_ms: AtomicI64,
    busy: AtomicBool,
    since_calibration: AtomicU64,
    since_save: AtomicU64,
}

/// What the estimate of a click reads of reader and place.
pub(crate) struct Reading {
    words: Vec<String>,
    audience: Audience,
    page: PageKind,
}

impl Reading {
    /// Of a request with this text.
    pub fn new(text: &str, audience: Audience, place: Place) -> Self {
        let page = match place {
            Place::Page => PageKind::Search,
            Place::Answer => PageKind::Answer,
        };
        Self { words: QueryWords::new(text).singular, audience, page }
    }

    /// With what is known of an ad, in the first slot.
    pub fn features<'a>(
        &'a self,
        index: &'a AdIndex,
        ad: usize,
        keyword: Option<&'a crate::keywords::KeywordMatch>,
    ) -> ClickFeatures<'a> {
        let booked = &index.ads[ad];
        let group = &index.groups[booked.group];
        let campaign = &index.campaigns[group.campaign];
        ClickFeatures {
            ad: &booked.id,
            advertiser: &index.advertisers[campaign.advertiser].id,
            campaign: &campaign.id,
            ad_group: &group.id,
            keyword: keyword.map(|keyword| (&*keyword.text, keyword.match_type)),
            query_words: &self.words,
            topics: &self.audience.topics,
            slot: 0,
            page: self.page,
            device: self.audience.device,
            country: self.audience.country.as_deref(),
            language: self.audience.lang.as_deref(),
            hour_of_week: Some(self.audience.hour_of_week),
            headline_chars: booked.headline.chars().count(),
            text_chars: booked.text.chars().count(),
        }
    }
}

impl Learning {
    /// The model as it was saved in `file`, or one that has learnt nothing.
    pub fn open(config: &AdsConfig, file: Option<&Path>) -> Result<Self, AdsError> {
        let model = match file {
            None => ClickModel::new(config.clicks.clone(), config.click_prior).map_err(AdsError::Config)?,
            Some(path) => {
                let (model, problem) = ClickModel::open(config.clicks.clone(), config.click_prior, path)
                    .map_err(AdsError::Config)?;
                if let Some(problem) = problem {
                    tracing::warn!(%problem, "the click model is made again from the log of outcomes");
                }
                model
            }
        };
        Ok(Self {
            model: Arc::new(model),
            file: file.map(Path::to_path_buf),
            next_sweep_ms: AtomicI64::new(0),
            busy: AtomicBool::new(false),
            since_calibration: AtomicU64::new(0),
            since_save: AtomicU64::new(0),
        })
    }

    /// Whether it is time to look for impressions that got no click; true once for each time.
    pub fn sweep_due(&self, now: Timestamp) -> bool {
        let (now, due) = (millis(now), self.next_sweep_ms.load(Ordering::Relaxed));
        let next = now.saturating_add(SWEEP_MS);
        now >= due
            && self.next_sweep_ms.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl Engine {
    /// What is kept of a won slot to learn from, base64.
    pub(crate) fn shown(&self, reading: &Reading, index: &AdIndex, won: &Won, winner: &Scored) -> String {
        let features = ClickFeatures {
            slot: won.award.slot - 1,
            ..reading.features(index, winner.ad, winner.keyword.as_ref())
        };
        let mut shown = self.learning.model.shown(&features, winner.log_odds, won.exposure);
        if winner.explored {
            shown.calibration_weight = 0.0;
        }
        STANDARD_NO_PAD.encode(shown.to_bytes())
    }

    /// Books the outcome of impressions that have waited for a click long enough, and learns what is new.
    pub(crate) async fn learn(&self, now: Timestamp) -> Result<(), AdsError> {
        if self.learning.busy.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let result = match self.book_no_fill().await {
            Ok(()) => self.learn_alone(now).await,
            failed => failed,
        };
        self.learning.busy.store(false, Ordering::Release);
        result
    }

    async fn learn_alone(&self, now: Timestamp) -> Result<(), AdsError> {
        let before = millis(now).saturating_sub(PATIENCE_MS);
        let mut reader = self.store.reader.acquire().await?;
        self.pacers.costs.follow(&mut reader).await?;
        drop(reader);
        loop {
            let booked = self
                .writer
                .run(move |work| Box::pin(async move { without_click(work, before).await }))
                .await?;
            let learnt = self.learn_new().await?;
            if booked < AT_ONCE && learnt < AT_ONCE {
                return Ok(());
            }
        }
    }

    /// Learns outcomes that the model does not know, a bounded number; returns how many.
    pub(crate) async fn learn_new(&self) -> Result<i64, AdsError> {
        let learning = &self.learning;
        let rows: Vec<(i64, String, i64)> = sqlx::query_as(
            "SELECT o.sequence, s.features, CAST(o.clicked AS BIGINT) FROM outcomes o \
             JOIN served s ON s.nonce = o.nonce WHERE o.sequence > $1 ORDER BY o.sequence LIMIT $2",
        )
        .bind(learning.model.last_sequence().cast_signed())
        .bind(AT_ONCE)
        .fetch_all(&self.store.reader)
        .await?;
        let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        if rows.is_empty() {
            return Ok(0);
        }
        let model = learning.model.clone();
        let due = learning.since_calibration.fetch_add(count.unsigned_abs(), Ordering::Relaxed)
            + count.unsigned_abs();
        let calibrate = due >= CALIBRATE_EVERY;
        if calibrate {
            learning.since_calibration.store(0, Ordering::Relaxed);
        }
        let unsaved =
            learning.since_save.fetch_add(count.unsigned_abs(), Ordering::Relaxed) + count.unsigned_abs();
        let save = learning.file.clone().filter(|_| unsaved >= SAVE_EVERY);
        if save.is_some() {
            learning.since_save.store(0, Ordering::Relaxed);
        }
        tokio::task::spawn_blocking(move || {
            for (sequence, features, clicked) in rows {
                let example = example(sequence, &features, clicked != 0);
                match example.map(|example| model.learn(&example)) {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => tracing::warn!(sequence, %error, "an outcome is not learnt from"),
                    Err(error) => tracing::warn!(sequence, error, "an outcome cannot be read"),
                }
            }
            if calibrate {
                let fitted = model.refresh_calibration();
                tracing::debug!(fitted.impressions, fitted.clicks, "click estimates calibrated");
            }
            if let Some(file) = save
                && let Err(error) = model.save(&file)
            {
                tracing::warn!(%error, "the click model is not saved");
            }
        })
        .await?;
        Ok(count)
    }

    /// Catches up with all outcomes, as after a start.
    pub(crate) async fn learn_all(&self) -> Result<(), AdsError> {
        while self.learn_new().await? == AT_ONCE {}
        let model = self.learning.model.clone();
        tokio::task::spawn_blocking(move || model.refresh_calibration()).await?;
        Ok(())
    }

    /// Writes the model to its file.
    pub(crate) async fn save_clicks(&self) {
        let Some(file) = self.learning.file.clone() else { return };
        if self.learning.since_save.swap(0, Ordering::Relaxed) == 0 {
            return;
        }
        let model = self.learning.model.clone();
        match tokio::task::spawn_blocking(move || model.save(&file)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the click model is not saved"),
            Err(error) => tracing::warn!(%error, "the click model is not saved"),
        }
    }
}

fn example(sequence: i64, features: &str, clicked: bool) -> Result<Example, String> {
    let sequence = u64::try_from(sequence).map_err(|error| error.to_string())?;
    let bytes = STANDARD_NO_PAD.decode(features).map_err(|error| error.to_string())?;
    let shown = Shown::from_bytes(&bytes).map_err(|error| error.to_string())?;
    Ok(Example { sequence, shown, clicked, weight: 1.0 })
}

/// Books that the slot was clicked. One that counted as not clicked already counts once more, as clicked.
pub(crate) async fn clicked(db: &mut AnyConnection, nonce: &str) -> Result<(), AdsError> {
    book(db, nonce, 1).await
}

/// Books impressions from before `before_ms` that got no click, a bounded number; returns how many.
async fn without_click(work: &mut Work, before_ms: i64) -> Result<i64, AdsError> {
    let nonces: Vec<String> = sqlx::query_scalar(
        "SELECT e.nonce FROM events e JOIN served s ON s.nonce = e.nonce AND s.features <> '' \
         WHERE e.kind = 'impression' AND e.status <> 'invalid' AND e.at <= $1 \
         AND NOT EXISTS (SELECT 1 FROM outcomes o WHERE o.nonce = e.nonce) ORDER BY e.at, e.nonce LIMIT $2",
    )
    .bind(before_ms)
    .bind(AT_ONCE)
    .fetch_all(work.db())
    .await?;
    for nonce in &nonces {
        book(work.db(), nonce, 0).await?;
    }
    Ok(i64::try_from(nonces.len()).unwrap_or(i64::MAX))
}

async fn book(db: &mut AnyConnection, nonce: &str, clicked: i64) -> Result<(), AdsError> {
    sqlx::query(
        "INSERT INTO outcomes (sequence, nonce, clicked) \
         SELECT COALESCE(MAX(sequence), 0) + 1, $1, CAST($2 AS BIGINT) FROM outcomes",
    )
    .bind(nonce.to_owned())
    .bind(clicked)
    .execute(db)
    .await?;
    Ok(())
}
