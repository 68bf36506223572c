//! Retrieval: what may be found, the two legs, and the pool of candidates they give.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bowerbird_lexical::{BagQuery, LexicalError, LexicalHits};
use bowerbird_live::{Allowed, Filter, Snapshot};
use bowerbird_models_api::{Embedding, TextRole};
use bowerbird_posts::Ordinal;
use bowerbird_scheduler::{Job, Priority, SchedulerError};
use bowerbird_vector::{Cosine, PointId};
use roaring::RoaringBitmap;

use crate::engine::Engine;
use crate::error::SearchError;
use crate::exact::Exact;
use crate::fuse::{Candidate, Candidates, Fusion, fuse};
use crate::page::Total;
use crate::plan::ParsedQuery;
use crate::request::Mode;
use crate::trace::{Stage, Trace};

impl Engine {
    pub(crate) async fn allowed(
        &self,
        snapshot: &Arc<Snapshot>,
        filter: Option<Filter>,
    ) -> Result<Allowed, SearchError> {
        let snapshot = snapshot.clone();
        Ok(self.pool.run(move || snapshot.allowed(filter.as_ref())).await??)
    }

    pub(crate) async fn retrieve_lexical(
        &self,
        mode: Mode,
        query: &ParsedQuery,
        snapshot: &Arc<Snapshot>,
        allowed: &Allowed,
    ) -> Leg<Lexical> {
        if mode == Mode::Vector {
            return Leg::Off;
        }
        let begun = Instant::now();
        let (snapshot, bag, allowed) = (snapshot.clone(), query.bag.clone(), allowed.bitmap.clone());
        let (depth, exact_rank) = (self.config.depth, self.config.exact_rank);
        let found = self.pool.run(move || -> Result<Lexical, LexicalError> {
            let hits = snapshot.lexical().search(&bag, Some(&allowed), depth)?;
            // BM25 alone has no near-misses to guard against.
            let guarded = mode != Mode::Lexical && exact_rank > 0;
            let exact =
                if guarded { Exact::find(snapshot.lexical(), &bag, &allowed)? } else { Exact::default() };
            Ok(Lexical { hits, exact })
        });
        match found.await {
            Ok(Ok(hits)) => Leg::Ran { hits, times: vec![(Stage::Lexical, begun.elapsed())] },
            Ok(Err(error)) => Leg::Failed { stage: Stage::Lexical, error: error.into() },
            Err(error) => Leg::Failed { stage: Stage::Lexical, error },
        }
    }

    pub(crate) async fn retrieve_dense(
        &self,
        mode: Mode,
        query: &ParsedQuery,
        snapshot: &Arc<Snapshot>,
        allowed: &Allowed,
        deadline: Instant,
    ) -> Leg<Dense> {
        if mode == Mode::Lexical {
            return Leg::Off;
        }
        let begun = Instant::now();
        let job = Job { priority: Priority::QueryEmbedding, deadline: Some(deadline) };
        let embedding = match self.encoders.embed(&query.text, TextRole::Query, job).await {
            Ok(embedding) => embedding,
            Err(error) => return Leg::Failed { stage: Stage::Embed, error: error.into() },
        };
        let mut times = vec![(Stage::Embed, begun.elapsed())];
        let begun = Instant::now();
        let (snapshot, vector, allowed) = (snapshot.clone(), embedding.clone(), allowed.clone());
        let depth = self.config.depth;
        let found = self.pool.run(move || {
            // The live set restricts even a search without a filter: a deleted post keeps its vector for a while.
            snapshot.vectors().search(vector.as_slice(), depth, Some(&allowed.bitmap))
        });
        match found.await {
            Ok(Ok(hits)) => {
                times.push((Stage::Vector, begun.elapsed()));
                Leg::Ran { hits: Dense { embedding, hits }, times }
            }
            Ok(Err(error)) => Leg::Failed { stage: Stage::Vector, error: error.into() },
            Err(error) => Leg::Failed { stage: Stage::Vector, error },
        }
    }

    /// Joins the legs; a post that one leg missed is scored by it now.
    pub(crate) async fn fuse(
        &self,
        query: &ParsedQuery,
        snapshot: &Arc<Snapshot>,
        legs: &Legs,
        fusion: Fusion,
    ) -> Result<Candidates, SearchError> {
        let pool = legs.pool(self.config.depth);
        let (snapshot, bag) = (snapshot.clone(), query.bag.clone());
        let embedding = legs.dense.as_ref().map(|dense| dense.embedding.clone());
        let lexical_ran = legs.lexical.is_some();
        let ideal = legs.ideal();
        self.pool
            .run(move || back_fill(pool, &snapshot, lexical_ran.then_some(&bag), embedding.as_ref()))
            .await?
            .map(|pool| fuse(pool, fusion, ideal))
    }
}

/// What one leg did.
pub(crate) enum Leg<T> {
    Off,
    Ran { hits: T, times: Vec<(Stage, Duration)> },
    Failed { stage: Stage, error: SearchError },
}

/// The lexical list, and the posts that hold every rare word.
pub(crate) struct Lexical {
    pub hits: LexicalHits,
    pub exact: Exact,
}

/// The dense list and the vector it is nearest to.
pub(crate) struct Dense {
    pub embedding: Embedding,
    pub hits: Vec<(PointId, Cosine)>,
}

/// What retrieval gave: at least one leg.
pub(crate) struct Legs {
    pub lexical: Option<Lexical>,
    pub dense: Option<Dense>,
}

impl Legs {
    /// One leg may fail, and the trace says so; both failing is an outage.
    pub fn from_results(
        lexical: Leg<Lexical>,
        dense: Leg<Dense>,
        trace: &mut Trace,
    ) -> Result<Self, SearchError> {
        let mut failures = Vec::new();
        let mut legs = Self { lexical: None, dense: None };
        match lexical {
            Leg::Off => {}
            Leg::Ran { hits, times } => {
                for (stage, time) in times {
                    trace.took(stage, time);
                }
                legs.lexical = Some(hits);
            }
            Leg::Failed { stage, error } => failures.push((stage, error)),
        }
        match dense {
            Leg::Off => {}
            Leg::Ran { hits, times } => {
                for (stage, time) in times {
                    trace.took(stage, time);
                }
                legs.dense = Some(hits);
            }
            Leg::Failed { stage, error } => failures.push((stage, error)),
        }
        if legs.lexical.is_none() && legs.dense.is_none() {
            let full = |error: &SearchError| {
                matches!(
                    error,
                    SearchError::Overloaded | SearchError::Model(SchedulerError::Overloaded { .. })
                )
            };
            if failures.iter().all(|(_, error)| full(error)) {
                return Err(SearchError::Overloaded);
            }
            let late =
                |error: &SearchError| matches!(error, SearchError::Model(SchedulerError::DeadlineExceeded));
            if failures.iter().all(|(_, error)| late(error)) {
                return Err(SearchError::Timeout);
            }
            let reason =
                failures.iter().map(|(stage, e)| format!("{}: {e}", stage.name())).collect::<Vec<_>>();
            return Err(SearchError::Unavailable { reason: reason.join("; ") });
        }
        for (stage, error) in failures {
            trace.skipped(stage, &error);
        }
        Ok(legs)
    }

    /// The best `depth` of each leg and the holders of every rare word, each post once, leg scores filled where the leg found it.
    fn pool(&self, depth: usize) -> Vec<Candidate> {
        let mut pool: Vec<Candidate> = Vec::with_capacity(2 * depth);
        let mut at = std::collections::HashMap::new();
        let mut place = |ordinal: Ordinal, pool: &mut Vec<Candidate>| {
            *at.entry(ordinal).or_insert_with(|| {
                pool.push(Candidate::new(ordinal));
                pool.len() - 1
            })
        };
        for (rank, (ordinal, score)) in (1..).zip(self.lexical.iter().flat_map(|l| &l.hits.hits).take(depth))
        {
            let at = place(*ordinal, &mut pool);
            pool[at].lexical = Some(*score);
            pool[at].lexical_rank = Some(rank);
        }
        for (rank, (point, score)) in (1..).zip(self.dense.iter().flat_map(|d| &d.hits).take(depth)) {
            let at = place(Ordinal(point.0), &mut pool);
            pool[at].vector = Some(*score);
            pool[at].vector_rank = Some(rank);
        }
        for ordinal in self.lexical.iter().flat_map(|l| &l.exact.holders) {
            place(*ordinal, &mut pool);
        }
        pool
    }

    /// What BM25 gives a post with every word of the query; 0 when unknown.
    pub fn ideal(&self) -> f32 {
        self.lexical.as_ref().map_or(0.0, |lexical| lexical.hits.ideal)
    }

    /// The rare words of the query and their holders.
    pub fn exact(&self) -> Exact {
        self.lexical.as_ref().map_or_else(Exact::default, |lexical| lexical.exact.clone())
    }

    /// Allowed posts that hold a word of the query; 0 when the lexical leg did not run.
    pub fn matched(&self) -> u64 {
        self.lexical.as_ref().map_or(0, |lexical| lexical.hits.total)
    }

    /// The posts of the dense list.
    pub fn nearest(&self) -> RoaringBitmap {
        self.dense.iter().flat_map(|dense| &dense.hits).map(|(point, _)| point.0).collect()
    }

    pub fn total(&self, mode: Mode) -> Total {
        match (&self.lexical, &self.dense) {
            (Some(lexical), _) => Total { value: lexical.hits.total, exact: mode == Mode::Lexical },
            (None, dense) => Total { value: dense.as_ref().map_or(0, |d| d.hits.len() as u64), exact: false },
        }
    }
}

/// Scores every candidate by the legs that ran and did not find it.
fn back_fill(
    mut pool: Vec<Candidate>,
    snapshot: &Snapshot,
    bag: Option<&BagQuery>,
    embedding: Option<&Embedding>,
) -> Result<Vec<Candidate>, SearchError> {
    if let Some(bag) = bag {
        let missing: Vec<usize> = (0..pool.len()).filter(|n| pool[*n].lexical.is_none()).collect();
        let ordinals: Vec<Ordinal> = missing.iter().map(|n| pool[*n].ordinal).collect();
        for (n, score) in missing.into_iter().zip(snapshot.lexical().score(bag, &ordinals)?) {
            pool[n].lexical = Some(score);
        }
    }
    if let Some(embedding) = embedding {
        let missing: Vec<usize> = (0..pool.len()).filter(|n| pool[*n].vector.is_none()).collect();
        let points: Vec<PointId> = missing.iter().map(|n| PointId(pool[*n].ordinal.0)).collect();
        for (n, score) in missing.into_iter().zip(snapshot.vectors().score(embedding.as_slice(), &points)?) {
            pool[n].vector = score;
        }
    }
    Ok(pool)
}
