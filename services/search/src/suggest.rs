//! Suggestions for what is being typed, past queries behind them, and corrections of what was mistyped.
//!
//! [`Suggester::suggest`] completes; [`correct`] is "did you mean". Both show only what live posts hold, so a word,
//! tag or account that deleted posts took with them is never offered. [`QueryLog`] keeps past queries such that one
//! is known to others only when several people asked it.

mod channel;
mod complete;
mod correct;
mod file;
mod log;
mod private;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bowerbird_lexical::suggest::PrefixTables;
use bowerbird_live::Live;

use crate::{ComputePool, ParsedQuery, SearchError};

pub use complete::{Suggestion, SuggestionKind};
pub use correct::{Change, Correction, correct};
pub use log::{PastQuery, QueryLog, QueryLogConfig, QueryLogError};
pub use private::loggable;

/// Most suggestions of one call.
pub const MAX_SUGGESTIONS: usize = 20;
/// Longest text that is completed, in bytes.
pub const MAX_TYPED_BYTES: usize = 512;
/// Calls that wait or run before another is refused.
const QUEUE: usize = 64;
/// Longest time a proven query is only in memory.
const FLUSH_EVERY: Duration = Duration::from_secs(30);

/// Completes what is being typed. Cheap to clone.
#[derive(Clone)]
pub struct Suggester(Arc<Parts>);

struct Parts {
    live: Live,
    /// Of its own, so that typing never waits behind a search, nor a search behind typing.
    pool: ComputePool,
    tables: Arc<PrefixTables>,
    refreshing: AtomicBool,
    log: QueryLog,
    flushing: AtomicBool,
    flushed: parking_lot::Mutex<Instant>,
}

impl Suggester {
    /// A suggester over `live`, with one thread.
    pub fn new(live: Live, log: QueryLog) -> Result<Self, SearchError> {
        Ok(Self(Arc::new(Parts {
            live,
            pool: ComputePool::new(1, QUEUE)?,
            tables: Arc::default(),
            refreshing: AtomicBool::new(false),
            log,
            flushing: AtomicBool::new(false),
            flushed: parking_lot::Mutex::new(Instant::now()),
        })))
    }

    /// Up to `limit` (1 to [`MAX_SUGGESTIONS`]) completions of `typed`, best first: past queries that continue all of
    /// it, then words, or after `#` tags, or after `@` accounts, that continue its last word.
    ///
    /// `day` is today in days since 1970. A text that ends in a space, a link or an emoji has no completions but past
    /// queries.
    pub async fn suggest(&self, typed: &str, limit: usize, day: u32) -> Result<Vec<Suggestion>, SearchError> {
        if limit == 0 || limit > MAX_SUGGESTIONS {
            return Err(SearchError::Limit { limit: MAX_SUGGESTIONS, found: limit });
        }
        if typed.len() > MAX_TYPED_BYTES {
            return Err(SearchError::QueryTooLong { limit: MAX_TYPED_BYTES, found: typed.len() });
        }
        let (parts, typed) = (Arc::clone(&self.0), typed.to_owned());
        let begun = Instant::now();
        let work = move || {
            let snapshot = parts.live.snapshot();
            complete::complete(&snapshot, &parts.tables, &parts.log, &typed, limit, day)
        };
        let found = self.0.pool.run(work).await??;
        metrics::histogram!("bowerbird_suggest_seconds").record(begun.elapsed().as_secs_f64());
        for suggestion in &found {
            metrics::counter!("bowerbird_suggestions_total", "kind" => suggestion.kind.name()).increment(1);
        }
        self.refresh_in_background();
        Ok(found)
    }

    /// What was probably meant by `query`, a mistyped word of which is replaced; `None` when nothing better is known.
    /// `filter` is the one of the search. See [`correct`].
    ///
    /// For the first page of a search, after it: a query whose words posts know is told from others in microseconds.
    pub async fn did_you_mean(
        &self,
        query: &str,
        filter: Option<&str>,
    ) -> Result<Option<Correction>, SearchError> {
        let restriction = ParsedQuery::new(query, false, filter)?.filter;
        let (parts, query) = (Arc::clone(&self.0), query.to_owned());
        let begun = Instant::now();
        let work = move || {
            let snapshot = parts.live.snapshot();
            correct(&snapshot, &query, restriction.as_ref())
        };
        let found = self.0.pool.run(work).await??;
        metrics::histogram!("bowerbird_did_you_mean_seconds").record(begun.elapsed().as_secs_f64());
        metrics::counter!("bowerbird_did_you_mean_total", "offered" => if found.is_some() { "yes" } else { "no" })
            .increment(1);
        Ok(found)
    }

    /// Notes that someone asked `text` and got results. `client` names them in any way; only a keyed hash of it is
    /// used, see [`QueryLog`].
    pub fn asked(&self, text: &str, client: &str, day: u32) {
        self.0.log.asked(text, client, day);
        let due = self.0.flushed.lock().elapsed() >= FLUSH_EVERY;
        if due && !self.0.flushing.swap(true, Ordering::AcqRel) {
            let parts = Arc::clone(&self.0);
            tokio::task::spawn_blocking(move || {
                if let Err(error) = parts.log.flush() {
                    tracing::warn!(%error, "past queries are kept in memory only for now");
                }
                *parts.flushed.lock() = Instant::now();
                parts.flushing.store(false, Ordering::Release);
            });
        }
    }

    /// The past queries.
    pub fn log(&self) -> &QueryLog {
        &self.0.log
    }

    /// Makes the prefix tables of the present index; suggestions are the same without, but slower to come and, under
    /// a short prefix of a large index, from fewer words.
    pub fn warm(&self) -> Result<(), SearchError> {
        Ok(self.0.tables.refresh(self.0.live.snapshot().lexical())?)
    }

    fn refresh_in_background(&self) {
        let stale = !self.0.tables.is_current(self.0.live.snapshot().lexical());
        if stale && !self.0.refreshing.swap(true, Ordering::AcqRel) {
            let parts = Arc::clone(&self.0);
            tokio::task::spawn_blocking(move || {
                let snapshot = parts.live.snapshot();
                if let Err(error) = parts.tables.refresh(snapshot.lexical()) {
                    tracing::error!(%error, "prefix tables were not made");
                }
                parts.refreshing.store(false, Ordering::Release);
            });
        }
    }
}
