//! Bookings one at a time: create, read, list, change, remove and review; and all at once: import and export.
//!
//! Whatever changes is checked as a whole, a change of one field too: the booking as it would be is read by the rules
//! of the import. New words are embedded before they are written, so that nothing is shown that cannot be matched.
//! Memory follows within moments (see the reload module).

mod patch;
mod repeat;

use jiff::Timestamp;
use serde_json::{Map, Value};

use self::patch::{merged, read_patch};
use self::repeat::Key;
use crate::booking::{Booking, Level, Review};
use crate::engine::{AdEngine, Engine};
use crate::import::{self, Change, Item};
use crate::index;
use crate::policy::Verdict;
use crate::store::{Connection, Tx};
use crate::stored::{self, Stored, Which};
use crate::time::millis;
use crate::{AdsError, ImportProblems, ImportReport};

/// How often a change is tried that others keep overtaking.
const ATTEMPTS: usize = 5;
/// Most bookings of one page.
const MAX_PAGE: usize = 1000;

/// A booking as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Booked {
    /// Its id.
    pub id: String,
    /// Rises with every change.
    pub revision: i64,
    /// Its fields, the parent's id among them; `status` is `removed` where it was, and an ad has `version` and `review`.
    pub json: Value,
}

/// A booking just created.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// As it was created.
    pub booked: Booked,
    /// The call came before; nothing was done now.
    pub replayed: bool,
}

/// Some bookings of a level, in the order of ids.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The bookings.
    pub items: Vec<Booked>,
    /// Id after which the next page begins, when there may be more.
    pub next: Option<String>,
}

/// What an operator decided about an ad.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewDecision {
    /// From now on.
    pub review: Review,
    /// Subject, such as one of the policy's; may be empty.
    pub topic: String,
    /// For the advertiser; may be empty.
    pub reason: String,
    /// Who decided.
    pub reviewer: String,
    /// The version that was looked at: a text that has changed since is refused.
    pub version: Option<i64>,
}

impl AdEngine {
    /// Takes over a document of advertisers (its form is described in the import module of this crate): all of it,
    /// or nothing and every problem at once. What it does not name stays booked; pause it to stop it. The same
    /// document again changes nothing.
    pub async fn import_json(&self, json: &str) -> Result<ImportReport, AdsError> {
        let items = import::parse(json, &self.0.config.currency).map_err(AdsError::Import)?;
        self.import(&items).await
    }

    /// The same from a table (CSV).
    pub async fn import_csv(&self, csv: &str) -> Result<ImportReport, AdsError> {
        let items = import::parse_table(csv, &self.0.config.currency).map_err(AdsError::Import)?;
        self.import(&items).await
    }

    async fn import(&self, items: &[Item]) -> Result<ImportReport, AdsError> {
        let engine = &*self.0;
        for _ in 0..ATTEMPTS {
            let mut snapshot = engine.store.begin_read().await?;
            let planned = import::plan(&mut snapshot, items).await?.map_err(AdsError::Import)?;
            snapshot.rollback().await?;
            let versions = planned.new_versions();
            let vectors = engine.embed(&versions).await?;
            let mut tx = engine.store.begin_write().await?;
            if import::write(&mut tx, &planned, millis(Timestamp::now())).await? {
                index::store_embeddings(&mut tx, engine.encoders.space(), &versions, &vectors).await?;
                tx.commit().await?;
                engine.reload().await?;
                return Ok(planned.report());
            }
            tx.rollback().await?;
        }
        Err(AdsError::Busy)
    }

    /// Everything booked as the document that [`AdEngine::import_json`] takes; removed bookings are left out.
    pub async fn export_json(&self) -> Result<String, AdsError> {
        let stored = self.all().await?;
        Ok(format!("{:#}", import::Tree::new(&stored).document()))
    }

    /// Everything booked as the table that [`AdEngine::import_csv`] takes.
    pub async fn export_csv(&self) -> Result<String, AdsError> {
        let damaged = |error| AdsError::Damaged { what: format!("the table of bookings: {error}") };
        import::write_table(&self.all().await?).map_err(damaged)
    }

    async fn all(&self) -> Result<Vec<Stored>, AdsError> {
        let mut snapshot = self.0.store.begin_read().await?;
        let mut all = Vec::new();
        for level in Level::ALL {
            all.extend(stored::load(&mut snapshot, level, Which::All).await?);
        }
        snapshot.rollback().await?;
        Ok(all)
    }

    /// The booking of that id; one that was removed says so.
    pub async fn booked(&self, level: Level, id: &str) -> Result<Booked, AdsError> {
        let mut reader = self.0.store.reader.acquire().await?;
        stored::find(&mut reader, level, id)
            .await?
            .map(|stored| told(&stored))
            .ok_or_else(|| absent(level, id))
    }

    /// At most `limit` bookings (1 to 1000) after the id `after`, of one parent or of all.
    pub async fn list(
        &self,
        level: Level,
        parent: Option<&str>,
        after: &str,
        limit: usize,
    ) -> Result<Page, AdsError> {
        let limit = limit.clamp(1, MAX_PAGE);
        let which = Which::Page { parent, after, limit: i64::try_from(limit + 1).unwrap_or(i64::MAX) };
        let mut snapshot = self.0.store.begin_read().await?;
        let stored = stored::load(&mut snapshot, level, which).await?;
        snapshot.rollback().await?;
        let more = stored.len() > limit;
        let items: Vec<Booked> = stored.iter().take(limit).map(told).collect();
        let next = items.last().filter(|_| more).map(|last| last.id.clone());
        Ok(Page { items, next })
    }

    /// Books what `json` says. With an idempotency key (1 to 200 printable characters) the same call again within a day
    /// gets the same answer and books nothing.
    pub async fn create(&self, level: Level, json: &str, key: Option<&str>) -> Result<Answered, AdsError> {
        let engine = &*self.0;
        let now = Timestamp::now();
        let key = key.map(|key| Key::new(level, key, json)).transpose()?;
        if let Some(key) = &key {
            let mut reader = engine.store.reader.acquire().await?;
            if let Some(booked) = key.answer(&mut reader, millis(now)).await? {
                return Ok(Answered { booked, replayed: true });
            }
        }
        let booking = import::parse_one(level, json, &engine.config.currency).map_err(AdsError::Import)?;
        let id = booking.id().to_owned();
        let change = Change::between(None, booking, None, "");
        let Some(change) = change else { return Err(absent(level, &id)) };
        let vectors = engine.vectors(&change).await?;
        let mut tx = engine.store.begin_write().await?;
        // Again under the lock: the same call may have been on its way twice.
        if let Some(key) = &key
            && let Some(booked) = key.answer(&mut tx, millis(now)).await?
        {
            return Ok(Answered { booked, replayed: true });
        }
        if stored::find(&mut tx, level, &id).await?.is_some() {
            return Err(AdsError::Taken { level: level.words(), id });
        }
        let booked = engine.write(&mut tx, &change, &vectors, now).await?;
        if let Some(key) = &key {
            key.keep(&mut tx, &booked, now).await?;
        }
        tx.commit().await?;
        engine.reloads.wake();
        Ok(Answered { booked, replayed: false })
    }

    /// Merges `patch` (RFC 7396: `null` takes a value back to its default, a list replaces a list) into a booking, if
    /// it still has the revision `expected`.
    pub async fn change(
        &self,
        level: Level,
        id: &str,
        patch: &str,
        expected: Option<i64>,
    ) -> Result<Booked, AdsError> {
        let engine = &*self.0;
        let patch = read_patch(patch).map_err(AdsError::Import)?;
        for _ in 0..ATTEMPTS {
            let mut reader = engine.store.reader.acquire().await?;
            let stored = standing(&mut reader, level, id).await?;
            drop(reader);
            still(&stored, expected)?;
            let booking = merged(&stored, &patch, &engine.config.currency).map_err(AdsError::Import)?;
            let Some(change) = Change::between(Some(&stored), booking, None, "") else {
                return Ok(told(&stored));
            };
            let vectors = engine.vectors(&change).await?;
            let mut tx = engine.store.begin_write().await?;
            let now = standing(&mut tx, level, id).await?;
            if now.revision != stored.revision {
                still(&now, expected)?;
                continue;
            }
            let booked = engine.write(&mut tx, &change, &vectors, Timestamp::now()).await?;
            tx.commit().await?;
            engine.reloads.wake();
            return Ok(booked);
        }
        Err(AdsError::Busy)
    }

    /// Takes a booking and everything below it out of service for good. Its row stays: money refers to it.
    pub async fn remove(&self, level: Level, id: &str, expected: Option<i64>) -> Result<Booked, AdsError> {
        let engine = &*self.0;
        let mut tx = engine.store.begin_write().await?;
        still(&standing(&mut tx, level, id).await?, expected)?;
        let statement = format!(
            "UPDATE {} SET removed = TRUE, status = 'paused', revision = revision + 1 WHERE id = $1",
            level.table()
        );
        sqlx::query(sqlx::AssertSqlSafe(statement)).bind(id.to_owned()).execute(&mut *tx).await?;
        stored::note_change(&mut tx).await?;
        let gone = stored::find(&mut tx, level, id).await?.ok_or_else(|| absent(level, id))?;
        tx.commit().await?;
        engine.reloads.wake();
        Ok(told(&gone))
    }

    /// Puts an operator's decision above the policy's, for the current version of an ad; it is kept with who and when.
    pub async fn review(&self, id: &str, decision: &ReviewDecision) -> Result<Booked, AdsError> {
        let engine = &*self.0;
        check_decision(decision).map_err(AdsError::Import)?;
        let mut tx = engine.store.begin_write().await?;
        let stored = standing(&mut tx, Level::Ad, id).await?;
        if let Some(expected) = decision.version.filter(|version| *version != stored.version) {
            return Err(AdsError::Stale { what: "version", expected, found: stored.version });
        }
        let ReviewDecision { review, topic, reason, reviewer, .. } = decision;
        let verdict = Verdict { review: *review, topic: topic.clone().into(), reason: reason.clone() };
        stored::write(&mut tx, &stored.booking, stored.version, &verdict).await?;
        stored::record_review(&mut tx, id, &verdict, reviewer, millis(Timestamp::now())).await?;
        stored::note_change(&mut tx).await?;
        let now = standing(&mut tx, Level::Ad, id).await?;
        tx.commit().await?;
        engine.reloads.wake();
        Ok(told(&now))
    }

    /// Waits until everything booked so far is what decisions see.
    pub async fn in_force(&self) -> Result<(), AdsError> {
        self.0.in_force().await
    }
}

impl Engine {
    async fn vectors(&self, change: &Change) -> Result<Vec<bowerbird_models_api::Embedding>, AdsError> {
        let versions: Vec<_> = change.new_version().into_iter().collect();
        self.embed(&versions).await
    }

    /// Checks what a change says about others, and writes it.
    async fn write(
        &self,
        tx: &mut Tx<'_>,
        change: &Change,
        vectors: &[bowerbird_models_api::Embedding],
        now: Timestamp,
    ) -> Result<Booked, AdsError> {
        check_surroundings(tx, &change.booking).await?.or(()).map_err(AdsError::Import)?;
        change.write(tx, millis(now)).await?;
        let versions: Vec<_> = change.new_version().into_iter().collect();
        index::store_embeddings(tx, self.encoders.space(), &versions, vectors).await?;
        stored::note_change(tx).await?;
        let (level, id) = (change.booking.level(), change.booking.id());
        Ok(told(&standing(tx, level, id).await?))
    }
}

/// A booking that was not removed.
async fn standing(db: &mut Connection, level: Level, id: &str) -> Result<Stored, AdsError> {
    let found = stored::find(db, level, id).await?.filter(|stored| !stored.removed);
    found.ok_or_else(|| absent(level, id))
}

fn absent(level: Level, id: &str) -> AdsError {
    // What was asked for may be of any length.
    AdsError::NotBooked { level: level.words(), id: id.chars().take(80).collect() }
}

fn still(stored: &Stored, expected: Option<i64>) -> Result<(), AdsError> {
    match expected.filter(|expected| *expected != stored.revision) {
        Some(expected) => Err(AdsError::Stale { what: "revision", expected, found: stored.revision }),
        None => Ok(()),
    }
}

/// What callers see of a booking.
fn told(stored: &Stored) -> Booked {
    let mut fields = import::fields(&stored.booking);
    if stored.removed {
        fields.insert("status".into(), "removed".into());
    }
    if stored.booking.level() == Level::Ad {
        fields.insert("version".into(), stored.version.into());
        let Verdict { review, topic, reason } = &stored.verdict;
        let mut shown = Map::new();
        shown.insert("state".into(), review.as_str().into());
        for (name, value) in [("topic", topic.to_string()), ("reason", reason.clone())] {
            if !value.is_empty() {
                shown.insert(name.into(), value.into());
            }
        }
        fields.insert("review".into(), shown.into());
    }
    fields.insert("revision".into(), stored.revision.into());
    let id = stored.booking.id().to_owned();
    Booked { id, revision: stored.revision, json: fields.into() }
}

/// What is wrong between a booking and those above and below it.
async fn check_surroundings(db: &mut Connection, booking: &Booking) -> Result<ImportProblems, AdsError> {
    let mut problems = ImportProblems::default();
    if let Some((above, parent)) = booking.level().parent().zip(booking.parent()) {
        let found = stored::find(db, above, parent).await?.filter(|stored| !stored.removed);
        match (booking, found) {
            (_, None) => {
                let message = format!("there is no {} of that id", above.words());
                problems.push(format!("$.{}", above.as_str()), parent, message);
            }
            (Booking::AdGroup(group), Some(Stored { booking: Booking::Campaign(campaign), .. })) => {
                if let Some(message) = import::unpayable(group, &campaign) {
                    problems.push("$.bid_micros", &group.bid.0.to_string(), message);
                }
            }
            _ => {}
        }
    }
    if let Booking::Campaign(campaign) = booking {
        let highest: Option<(String, i64)> = sqlx::query_as(
            "SELECT id, bid_micros FROM ad_groups WHERE campaign = $1 AND removed = FALSE \
             ORDER BY bid_micros DESC, id LIMIT 1",
        )
        .bind(campaign.id.clone())
        .fetch_optional(&mut *db)
        .await?;
        if let Some((id, _)) = highest
            && let Some(Stored { booking: Booking::AdGroup(group), .. }) =
                stored::find(db, Level::AdGroup, &id).await?
            && import::unpayable(&group, campaign).is_some()
        {
            let message = format!("is under the bid of ad group {id}, {}: lower that first", group.bid);
            problems.push("$.daily_budget_micros", &campaign.daily_budget.0.to_string(), message);
        }
    }
    Ok(problems)
}

fn check_decision(decision: &ReviewDecision) -> Result<(), ImportProblems> {
    let mut problems = ImportProblems::default();
    let texts = [
        ("topic", &decision.topic, 60),
        ("reason", &decision.reason, 500),
        ("reviewer", &decision.reviewer, 100),
    ];
    for (name, text, limit) in texts {
        if text.chars().count() > limit || import::has_hidden(text) {
            problems.push(
                format!("$.{name}"),
                text,
                format!("expected one line of at most {limit} characters"),
            );
        }
    }
    if decision.reviewer.trim().is_empty() {
        problems.push("$.reviewer", &decision.reviewer, "is blank: say who decided");
    }
    if decision.review == Review::Disapproved && decision.reason.trim().is_empty() {
        problems.push("$.reason", &decision.reason, "is blank: an advertiser must learn why");
    }
    problems.or(())
}
