//! Past queries, k-anonymous: one is shown only when at least `min_clients` people asked it within the window.
//!
//! A person is known by the first 64 bits of an HMAC-SHA256 of what the caller names them by, under a random key that
//! lives in memory only and changes with every window and every start. Of each query the `min_clients` people who
//! asked it last are kept, each with a day: the oldest of these days is the last on which the query was proven, so no
//! count is ever taken twice and the set never grows. These sets are never written; the file holds queries that are
//! proven already, and tells nothing about one person (`file.rs`). A new key empties the sets, because the same
//! person looks like another one under it: what is not proven by then starts again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use bowerbird_lexical::suggest::folded;
use hmac::{Hmac, Mac};
use parking_lot::Mutex;
use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::Sha256;

use super::file::QueryFile;
use super::private::loggable;

/// What is remembered and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryLogConfig {
    /// Whether queries are remembered at all.
    pub enabled: bool,
    /// People who must have asked a query before it is shown to others; at least 2.
    pub min_clients: usize,
    /// Days within which they must have.
    pub window_days: u32,
    /// Queries that are remembered: so many that are proven, and so many that are not. Past it the one that was asked
    /// longest ago is forgotten.
    pub max_queries: usize,
}

impl Default for QueryLogConfig {
    fn default() -> Self {
        Self { enabled: true, min_clients: 5, window_days: 30, max_queries: 20_000 }
    }
}

/// Why past queries cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum QueryLogError {
    /// The file cannot be read or written.
    #[error("{path}: {message}; it holds only past queries for suggestions and may be removed")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// Another version wrote the file.
    #[error(
        "{path} has format {found}, this build reads {expected}: it holds only past queries for suggestions and may \
         be removed"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Format this build reads.
        expected: u64,
        /// Format found.
        found: u64,
    },
    /// The system gives no random bytes.
    #[error("no random bytes for the key that hides who asked: {0}")]
    Randomness(String),
}

/// A query that enough people asked.
#[derive(Clone, Debug, PartialEq)]
pub struct PastQuery {
    /// In lower case, single spaces.
    pub text: String,
    /// How often it is asked, in people and days, halved with each window.
    pub weight: f32,
}

/// What is stored of a proven query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Proof {
    /// Last day on which it may be shown, in days since 1970.
    pub until: u32,
    /// Last day on which it was asked.
    pub asked: u32,
    /// See [`PastQuery::weight`], as of that day.
    pub weight: f32,
}

/// The past queries. Threads may share it.
pub struct QueryLog {
    config: QueryLogConfig,
    state: Mutex<State>,
    file: Option<QueryFile>,
}

struct State {
    key: [u8; 32],
    /// Day on which the key was made.
    key_day: u32,
    queries: HashMap<String, Query>,
    /// Queries by when they were asked last, proven ones apart.
    recent: [BTreeMap<u64, String>; 2],
    /// Folded text and text of the proven ones.
    shown: BTreeSet<(String, String)>,
    asked: u64,
    /// Texts whose stored form is out of date.
    changed: BTreeSet<String>,
}

struct Query {
    /// Hash and last day of the people who asked last, at most `min_clients`.
    clients: Vec<(u64, u32)>,
    proof: Option<Proof>,
    weight: f32,
    day: u32,
    order: u64,
}

impl QueryLog {
    /// The log kept in `file`; in memory only without one. A file that is damaged is set aside under another name,
    /// and one that cannot be used (a read-only directory) is left alone; both are said in the log of the process.
    pub fn open(file: Option<&Path>, config: QueryLogConfig) -> Result<Self, QueryLogError> {
        let mut log = Self { state: Mutex::new(State::new()?), file: None, config };
        let Some(path) = file.filter(|_| log.config.enabled) else { return Ok(log) };
        match QueryFile::open(path) {
            Ok((file, stored)) => {
                log.state.get_mut().restore(stored, log.config.max_queries);
                log.file = Some(file);
            }
            Err(error) => tracing::warn!(%error, "past queries are kept in memory only"),
        }
        Ok(log)
    }

    /// A log in memory.
    pub fn in_memory(config: QueryLogConfig) -> Result<Self, QueryLogError> {
        Self::open(None, config)
    }

    /// The configuration in force.
    pub fn config(&self) -> &QueryLogConfig {
        &self.config
    }

    /// Notes that `client` asked `text` on `day`. What must not be remembered is not, see [`loggable`].
    pub fn asked(&self, text: &str, client: &str, day: u32) {
        if !self.config.enabled {
            return;
        }
        let Some(text) = loggable(text) else { return };
        self.state.lock().ask(text, client, day, &self.config);
    }

    /// Proven queries that go on from `typed`, whatever its case and accents, the most asked first, ties by text.
    pub fn starting_with(&self, typed: &str, limit: usize, day: u32) -> Vec<PastQuery> {
        let prefix = folded(&typed.split_whitespace().collect::<Vec<_>>().join(" "));
        // After a space a new word starts.
        let space = if typed.ends_with(char::is_whitespace) && !prefix.is_empty() { " " } else { "" };
        let prefix = prefix + space;
        if prefix.is_empty() {
            return Vec::new();
        }
        self.shown(&prefix, limit, day)
    }

    /// The proven queries that were asked most, ties by text.
    pub fn most_asked(&self, limit: usize, day: u32) -> Vec<PastQuery> {
        self.shown("", limit, day)
    }

    /// Proven queries whose folded form goes on from `prefix`.
    fn shown(&self, prefix: &str, limit: usize, day: u32) -> Vec<PastQuery> {
        let state = self.state.lock();
        let under = state.shown.range((prefix.to_owned(), String::new())..);
        let mut found: Vec<PastQuery> = under
            .take_while(|(folded, _)| folded.starts_with(prefix))
            .filter(|(folded, _)| folded != prefix)
            .filter_map(|(_, text)| {
                let query = state.queries.get(text)?;
                let proof = query.proof?;
                // A day far ahead was stamped by a clock that was wrong.
                let shown = proof.until >= day && proof.until <= day.saturating_add(self.config.window_days);
                let weight = faded(query.weight, query.day, day, self.config.window_days);
                shown.then(|| PastQuery { text: text.clone(), weight })
            })
            .collect();
        found.sort_by(|a, b| b.weight.total_cmp(&a.weight).then_with(|| a.text.cmp(&b.text)));
        found.truncate(limit);
        found
    }

    /// Forgets a query, also on disk; whether it was known.
    pub fn forget(&self, text: &str) -> Result<bool, QueryLogError> {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        let known = self.state.lock().forget(&text);
        self.flush()?;
        Ok(known)
    }

    /// Proven queries that are remembered, whether or not their time is over.
    pub fn proven(&self) -> usize {
        self.state.lock().shown.len()
    }

    /// Writes what changed. On an error it is tried again with the next call.
    pub fn flush(&self) -> Result<(), QueryLogError> {
        let Some(file) = &self.file else { return Ok(()) };
        let changes: Vec<(String, Option<Proof>)> = {
            let mut state = self.state.lock();
            let changed = std::mem::take(&mut state.changed);
            let proof = |text: &String| state.queries.get(text).and_then(|query| query.proof);
            changed.into_iter().map(|text| (proof(&text), text)).map(|(proof, text)| (text, proof)).collect()
        };
        if changes.is_empty() {
            return Ok(());
        }
        file.write(&changes).inspect_err(|_| {
            self.state.lock().changed.extend(changes.iter().map(|(text, _)| text.clone()));
        })
    }
}

impl Drop for QueryLog {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            tracing::warn!(%error, "the last past queries were not stored");
        }
    }
}

impl State {
    fn new() -> Result<Self, QueryLogError> {
        Ok(Self {
            key: random_key()?,
            key_day: 0,
            queries: HashMap::new(),
            recent: [BTreeMap::new(), BTreeMap::new()],
            shown: BTreeSet::new(),
            asked: 0,
            changed: BTreeSet::new(),
        })
    }

    fn restore(&mut self, mut stored: Vec<(String, Proof)>, most: usize) {
        stored.sort_by(|a, b| a.1.asked.cmp(&b.1.asked).then_with(|| a.0.cmp(&b.0)));
        for (text, proof) in stored.split_off(stored.len().saturating_sub(most)) {
            self.asked += 1;
            self.recent[1].insert(self.asked, text.clone());
            self.shown.insert((folded(&text), text.clone()));
            let (weight, day, order) = (proof.weight, proof.asked, self.asked);
            self.queries.insert(text, Query { clients: Vec::new(), proof: Some(proof), weight, day, order });
        }
        // The others are gone from memory, so they go from the file.
        self.changed.extend(stored.into_iter().map(|(text, _)| text));
    }

    fn ask(&mut self, text: String, client: &str, day: u32, config: &QueryLogConfig) {
        self.turn_key(day, config.window_days);
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key) else { return };
        mac.update(client.as_bytes());
        let mut hash = [0; 8];
        hash.copy_from_slice(&mac.finalize().into_bytes()[..8]);
        let client = u64::from_le_bytes(hash);

        self.asked += 1;
        let order = self.asked;
        let known = self.queries.contains_key(&text);
        let query = self.queries.entry(text.clone()).or_insert_with(|| Query {
            clients: Vec::new(),
            proof: None,
            weight: 0.0,
            day,
            order,
        });
        if known {
            self.recent[usize::from(query.proof.is_some())].remove(&query.order);
        }
        query.order = order;
        // Someone who asks all day counts once.
        let again = query.clients.iter().any(|(hash, last)| *hash == client && *last == day);
        if !again {
            query.weight = faded(query.weight, query.day, day, config.window_days) + 1.0;
            query.day = query.day.max(day);
            query.meet(client, day, config);
            if query.proof.is_some() {
                self.changed.insert(text.clone());
                self.shown.insert((folded(&text), text.clone()));
            }
        }
        let proven = usize::from(query.proof.is_some());
        self.recent[proven].insert(order, text);
        if self.recent[proven].len() > config.max_queries
            && let Some((_, oldest)) = self.recent[proven].pop_first()
        {
            self.forget(&oldest);
        }
    }

    fn turn_key(&mut self, day: u32, window_days: u32) {
        if self.key_day == 0 {
            self.key_day = day;
        }
        if day.abs_diff(self.key_day) < window_days.max(1) {
            return;
        }
        // Without random bytes the old key stays; the sets are emptied in any case.
        if let Ok(key) = random_key() {
            self.key = key;
        }
        self.key_day = day;
        for query in self.queries.values_mut() {
            query.clients.clear();
        }
    }

    fn forget(&mut self, text: &str) -> bool {
        let Some(query) = self.queries.remove(text) else { return false };
        self.recent[usize::from(query.proof.is_some())].remove(&query.order);
        if query.proof.is_some() {
            self.shown.remove(&(folded(text), text.to_owned()));
            self.changed.insert(text.to_owned());
        }
        true
    }
}

impl Query {
    /// Puts a person among those who asked last, and proves the query when they are enough.
    fn meet(&mut self, client: u64, day: u32, config: &QueryLogConfig) {
        let full = self.clients.len() >= config.min_clients;
        if let Some((_, last)) = self.clients.iter_mut().find(|(hash, _)| *hash == client) {
            *last = day.max(*last);
        } else if !full {
            self.clients.push((client, day));
        } else if let Some(oldest) = self.clients.iter_mut().min_by_key(|(hash, last)| (*last, *hash)) {
            *oldest = (client, day);
        }
        let oldest = self.clients.iter().map(|(_, last)| *last).min().unwrap_or(0);
        let until = oldest.saturating_add(config.window_days);
        if self.clients.len() >= config.min_clients && until >= day {
            let until = self.proof.map_or(until, |proof| proof.until.max(until));
            self.proof = Some(Proof { until, asked: day, weight: self.weight });
        } else if let Some(proof) = &mut self.proof {
            (proof.asked, proof.weight) = (day, self.weight);
        }
    }
}

/// A weight of `then`, seen from `now`: halved with each window.
fn faded(weight: f32, then: u32, now: u32, window_days: u32) -> f32 {
    weight * (-(now.saturating_sub(then) as f32) / window_days.max(1) as f32).exp2()
}

fn random_key() -> Result<[u8; 32], QueryLogError> {
    let mut key = [0; 32];
    OsRng.try_fill_bytes(&mut key).map_err(|error| QueryLogError::Randomness(error.to_string()))?;
    Ok(key)
}

#[cfg(test)]
mod tests;
