//! Who asks the author: one text after the other, behind everything that a reader waits for.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::{Author, Draft, Drafted, Entry, Key, LEFT_ALONE, Outcome, Wording, accept, shown_as, stored};
use crate::AdsError;
use crate::engine::Engine;
use crate::index::Ad;
use crate::time::millis;

/// Most pairs that wait; a decision beyond them shows the advertiser's text and asks nobody.
const QUEUE: usize = 32;
/// Most time for one text: many times what it takes on two cores that do nothing else.
const TIME: Duration = Duration::from_secs(20);

/// A pair to be written for, and when it was asked for.
pub(super) struct Task {
    pub key: Key,
    pub at: Timestamp,
}

/// Lets `author` write from now on, within a tokio runtime; a second one is not heard. Ends with the engine.
pub(crate) fn start(engine: &Arc<Engine>, author: Arc<dyn Author>) {
    let (sender, tasks) = mpsc::channel(QUEUE);
    if engine.wordings.tasks.set(sender).is_ok() {
        tokio::spawn(serve(Arc::downgrade(engine), author, tasks));
    }
}

async fn serve(weak: Weak<Engine>, author: Arc<dyn Author>, mut tasks: mpsc::Receiver<Task>) {
    while let Some(Task { key, at }) = tasks.recv().await {
        let result = write(&weak, &*author, &key, at).await;
        let Some(engine) = weak.upgrade() else { return };
        let (entry, outcome) = match result {
            Ok((wording, outcome)) => (Entry::Ready(Arc::new(wording)), outcome),
            Err(outcome) if outcome.passes() => (Entry::OwnUntil(Instant::now() + LEFT_ALONE), outcome),
            Err(outcome) => (Entry::Own, outcome),
        };
        tracing::debug!(
            ad = key.ad,
            version = key.version,
            outcome = outcome.as_str(),
            "asked for an ad text"
        );
        engine.wordings.known.insert(key, entry);
        metrics::counter!("bowerbird_ads_rewrites_total", "outcome" => outcome.as_str()).increment(1);
        engine.wordings.open.send_modify(|open| *open = open.saturating_sub(1));
    }
}

/// The text for `key`: as stored, else written, held to its fact and stored.
async fn write(
    engine: &Weak<Engine>,
    author: &dyn Author,
    key: &Key,
    at: Timestamp,
) -> Result<(Wording, Outcome), Outcome> {
    let facts = {
        let engine = engine.upgrade().ok_or(Outcome::Gone)?;
        let snapshot = engine.snapshot();
        let ad = shown_as(&snapshot.ads, key).ok_or(Outcome::Gone)?;
        if engine.config.log.queries {
            let found = stored_text(&engine, author, key, ad).await.map_err(failed)?;
            if let Some(wording) = found.filter(|found| accept(ad, &found.draft).is_ok()) {
                return Ok((wording, Outcome::Loaded));
            }
        }
        ad.facts.clone()
    };
    // Nothing of the engine is held meanwhile.
    let writing = author.write(key.query.to_string(), facts, TIME);
    let draft = match tokio::time::timeout(TIME, writing).await {
        Ok(Drafted::Written(draft)) => draft,
        Ok(Drafted::Unsupported) => return Err(Outcome::Unsupported),
        Ok(Drafted::Late) | Err(_) => return Err(Outcome::Late),
    };
    let engine = engine.upgrade().ok_or(Outcome::Gone)?;
    let snapshot = engine.snapshot();
    let ad = shown_as(&snapshot.ads, key).ok_or(Outcome::Gone)?;
    accept(ad, &draft)?;
    let wording = keep(&engine, author, key, ad, draft, at).await.map_err(failed)?;
    Ok((wording, Outcome::Written))
}

async fn stored_text(
    engine: &Engine,
    author: &dyn Author,
    key: &Key,
    ad: &Ad,
) -> Result<Option<Wording>, AdsError> {
    let mut reader = engine.store.reader.acquire().await?;
    stored::find(&mut reader, key, (author.model(), author.prompt()), &ad.facts).await
}

async fn keep(
    engine: &Engine,
    author: &dyn Author,
    key: &Key,
    ad: &Ad,
    draft: Draft,
    at: Timestamp,
) -> Result<Wording, AdsError> {
    let wording = Wording {
        id: stored::id(&engine.user_secret, key, &draft.text)?,
        fact: ad.facts.get(draft.fact).cloned().unwrap_or_default(),
        draft,
        model: author.model().to_owned(),
        prompt: author.prompt().to_owned(),
    };
    let query = if engine.config.log.queries { key.query.to_string() } else { String::new() };
    let (row, ad, version) = (wording.clone(), key.ad.clone(), key.version);
    let write = engine.writer.run(move |work| {
        Box::pin(async move { stored::insert(work.db(), (&ad, version), &query, &row, millis(at)).await })
    });
    write.await?;
    Ok(wording)
}

fn failed(error: AdsError) -> Outcome {
    tracing::warn!(error = %crate::error::chain(&error), "an ad text is not written: the database failed");
    Outcome::Failed
}
