//! Texts that a model writes for a query from an ad's facts: who writes, what is taken, and what is kept of it.
//!
//! The first decision for an ad and a query shows the advertiser's text and asks an [`Author`] for another, one at a
//! time and behind the page; later decisions show it. An author's word is not taken: [`accept`] holds every text to the
//! fact it names. Nothing here knows ranks, prices or posts, and a decision never waits for any of it.

mod faithful;
pub(crate) mod stored;
mod worker;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use moka::sync::Cache;
use tokio::sync::{mpsc, watch};

pub use self::stored::ShownWording;
pub(crate) use self::worker::start;

use crate::booking::Words;
use crate::decide::Scored;
use crate::import::{MAX_TEXT, has_hidden};
use crate::index::{Ad, AdIndex};
use crate::policy::judge;
use crate::served::{MAX_QUERY, kept_query};
use crate::text::words;
use crate::{AdRequest, BlockWording};

/// Most pairs of ad and query that are remembered, written or not.
const REMEMBERED: u64 = 16_384;
/// How long a pair is remembered; after that the stored text is read again, or another written.
const FOR: Duration = Duration::from_hours(24);
/// How long a pair is left alone when the author was not done in time.
const LEFT_ALONE: Duration = Duration::from_mins(10);

/// Writes texts from facts.
pub trait Author: Send + Sync {
    /// One sentence that says something of one of `facts` about `query`, checked against that fact, within `time`.
    fn write(&self, query: String, facts: Vec<String>, time: Duration) -> BoxFuture<'static, Drafted>;

    /// What writes, as it is stored with every text.
    fn model(&self) -> &str;

    /// Version of what it is asked with.
    fn prompt(&self) -> &str;
}

/// Whose texts a slate shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Texts {
    /// What was written from an advertiser's facts, where anything was; else the advertiser's own.
    #[default]
    Any,
    /// Advertisers' own only; nothing is written either.
    Own,
}

/// What an [`Author`] came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Drafted {
    /// A sentence that passed its check.
    Written(Draft),
    /// Nothing that passed.
    Unsupported,
    /// It had no time, or a model failed: worth trying again later.
    Late,
}

/// A sentence and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// The sentence.
    pub text: String,
    /// Place of the fact among those given, from 0.
    pub fact: usize,
    /// Exact part of that fact.
    pub quote: String,
    /// Probability that the quote supports the sentence.
    pub probability: f64,
}

/// A text to be shown in place of the advertiser's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wording {
    pub id: String,
    pub draft: Draft,
    /// The whole fact.
    pub fact: String,
    pub model: String,
    pub prompt: String,
}

impl Wording {
    /// What a block says of it.
    pub fn in_block(&self) -> BlockWording {
        BlockWording { origin: stored::GENERATED, fact: self.fact.clone(), model: self.model.clone() }
    }
}

/// What became of asking an author.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Written, accepted and stored.
    Written,
    /// Stored earlier.
    Loaded,
    /// No sentence that its facts support.
    Unsupported,
    /// A word, number or limit that is not as in the fact.
    Unfaithful,
    /// More than an ad may say.
    TooLong,
    /// What the ad says already.
    Same,
    /// The policy is not content.
    Policy,
    /// Not done in time.
    Late,
    /// The ad has changed or gone meanwhile.
    Gone,
    /// The database failed.
    Failed,
}

impl Outcome {
    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Loaded => "loaded",
            Self::Unsupported => "unsupported",
            Self::Unfaithful => "unfaithful",
            Self::TooLong => "too_long",
            Self::Same => "same",
            Self::Policy => "policy",
            Self::Late => "late",
            Self::Gone => "gone",
            Self::Failed => "failed",
        }
    }

    /// Whether another try may end otherwise.
    fn passes(self) -> bool {
        matches!(self, Self::Late | Self::Failed)
    }
}

/// An ad in one version, and a query.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    ad: String,
    version: u32,
    query: Arc<str>,
}

/// What is known of a pair.
#[derive(Clone)]
enum Entry {
    /// Somebody has been asked.
    Asked,
    /// This text is shown.
    Ready(Arc<Wording>),
    /// The advertiser's own is.
    Own,
    /// So it is, until then.
    OwnUntil(Instant),
}

/// Texts in memory, and the way to whoever writes more. Without an author nothing is ever looked up.
pub(crate) struct Wordings {
    tasks: OnceLock<mpsc::Sender<worker::Task>>,
    known: Cache<Key, Entry>,
    /// Asked for, and neither written nor given up yet.
    open: watch::Sender<usize>,
}

impl Default for Wordings {
    fn default() -> Self {
        let known = Cache::builder().max_capacity(REMEMBERED).time_to_live(FOR).build();
        Self { tasks: OnceLock::new(), known, open: watch::Sender::new(0) }
    }
}

impl Wordings {
    /// Gives every ad the text that was written for the query of `request`, if one was.
    pub fn give(&self, request: &AdRequest, index: &AdIndex, scored: &mut [Scored]) {
        let Some(query) = self.query(request) else { return };
        for scored in scored {
            let ad = &index.ads[scored.ad];
            if !ad.facts.is_empty()
                && let Some(Entry::Ready(wording)) = self.known.get(&key(ad, &query))
            {
                scored.wording = Some(wording);
            }
        }
    }

    /// Asks for texts of the ads at `shown` that nobody has been asked for yet. A test asks for nothing; what finds no
    /// room is asked for by a later decision.
    pub fn ask(&self, request: &AdRequest, index: &AdIndex, shown: impl Iterator<Item = usize>) {
        let (Some(query), Some(tasks)) = (self.query(request), self.tasks.get()) else { return };
        if request.test {
            return;
        }
        for ad in shown.map(|at| &index.ads[at]).filter(|ad| !ad.facts.is_empty()) {
            let key = key(ad, &query);
            if matches!(self.known.get(&key), Some(Entry::OwnUntil(then)) if then <= Instant::now()) {
                self.known.invalidate(&key);
            }
            if !self.known.entry(key.clone()).or_insert(Entry::Asked).is_fresh() {
                continue;
            }
            self.open.send_modify(|open| *open += 1);
            if tasks.try_send(worker::Task { key: key.clone(), at: request.now }).is_err() {
                self.known.invalidate(&key);
                self.open.send_modify(|open| *open = open.saturating_sub(1));
            }
        }
    }

    /// Waits until whatever was asked for is there or given up.
    pub async fn settled(&self) {
        // The sender lives as long as the engine.
        drop(self.open.subscribe().wait_for(|open| *open == 0).await);
    }

    /// Counts a block by who wrote its text, where models write any.
    pub fn count_shown(&self, wording: Option<&Wording>) {
        if self.tasks.get().is_some() {
            let origin = if wording.is_some() { stored::GENERATED } else { "own" };
            metrics::counter!("bowerbird_ads_texts_total", "origin" => origin).increment(1);
        }
    }

    /// Forgets texts of ads that `index` does not show, or not in that version.
    pub fn keep_shown(&self, index: &AdIndex) {
        for (key, _) in &self.known {
            if shown_as(index, &key).is_none() {
                self.known.invalidate(&*key);
            }
        }
    }

    /// The query as texts are kept by; none where no text is to be shown. A longer text than a query is a page's, and
    /// only its beginning would tell two of them apart.
    fn query(&self, request: &AdRequest) -> Option<Arc<str>> {
        let wanted = self.tasks.get().is_some() && request.texts == Texts::Any;
        if !wanted || request.text.chars().nth(MAX_QUERY).is_some() {
            return None;
        }
        let query = kept_query(&request.text, true);
        (!query.is_empty()).then(|| query.into())
    }
}

/// The ad of `key`, if it is shown and still says what it said then.
fn shown_as<'i>(index: &'i AdIndex, key: &Key) -> Option<&'i Ad> {
    // In the order of ids.
    let at = index.ads.binary_search_by(|ad| ad.id.as_str().cmp(&key.ad)).ok()?;
    index.ads.get(at).filter(|ad| ad.enabled && ad.version == key.version)
}

fn key(ad: &Ad, query: &Arc<str>) -> Key {
    Key { ad: ad.id.clone(), version: ad.version, query: query.clone() }
}

/// Whether `draft` may be shown as the text of `ad`; else why not.
fn accept(ad: &Ad, draft: &Draft) -> Result<(), Outcome> {
    let fact = ad.facts.get(draft.fact).filter(|fact| fact.contains(&draft.quote));
    let Some(fact) = fact.filter(|_| !draft.quote.is_empty()) else { return Err(Outcome::Unsupported) };
    if draft.text.chars().count() > MAX_TEXT {
        return Err(Outcome::TooLong);
    }
    let said = words(&draft.text, MAX_TEXT);
    if said == words(&ad.text, MAX_TEXT) || said == words(&ad.headline, MAX_TEXT) {
        return Err(Outcome::Same);
    }
    if has_hidden(&draft.text) || !faithful::keeps_to(&draft.text, fact) {
        return Err(Outcome::Unfaithful);
    }
    let whole = Words {
        headline: ad.headline.clone(),
        text: draft.text.clone(),
        landing_url: ad.landing_url.clone(),
        display_url: ad.display_url.clone(),
        facts: ad.facts.clone(),
        assets: Vec::new(),
    };
    // An operator may have approved what the rules would not; that was about other words than these.
    if judge(&whole).review > ad.review { Err(Outcome::Policy) } else { Ok(()) }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
