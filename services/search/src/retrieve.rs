//! Retrieval: what may be found, the two legs, and the pool of candidates they give.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bowerbird_lexical::{BagQuery, FeedbackOptions, FeedbackText, LexicalHits};
use bowerbird_live::{Allowed, Filter, Snapshot};
use bowerbird_models_api::{Embedding, TextRole};
use bowerbird_posts::{Ordinal, StoredPost};
use bowerbird_scheduler::{Job, Priority, SchedulerError};
use bowerbird_vector::{Cosine, PointId};
use roaring::RoaringBitmap;

use crate::engine::Engine;
use crate::error::SearchError;
use crate::fuse::{Candidate, Candidates, Fusion, fuse};
use crate::page::Total;
use crate::plan::ParsedQuery;
use crate::request::{Mode, Ranking};
use crate::smooth::{WINDOW, smooth};
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
        ranking: &Ranking,
        query: &ParsedQuery,
        snapshot: &Arc<Snapshot>,
        allowed: &Allowed,
    ) -> Leg<Lexical> {
        if ranking.mode == Mode::Vector {
            return Leg::Off;
        }
        let begun = Instant::now();
        let (snapshot, bag, allowed) = (snapshot.clone(), query.bag.clone(), allowed.bitmap.clone());
        let (depth, feedback) = (self.config.depth, ranking.feedback);
        let found = self.pool.run(move || -> Result<Lexical, SearchError> {
            let hits = snapshot.lexical().search(&bag, Some(&allowed), depth)?;
            match feedback {
                Some(options) => widened(&snapshot, bag, hits, &allowed, depth, &options),
                None => Ok(Lexical { matched: hits.total, bag, hits }),
            }
        });
        match found.await.flatten() {
            Ok(hits) => Leg::Ran { hits, times: vec![(Stage::Lexical, begun.elapsed())] },
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
        let embedded = match self.embedder(snapshot) {
            Ok(encoders) => encoders.embed(&query.text, TextRole::Query, job).await.map_err(Into::into),
            Err(error) => Err(error),
        };
        let embedding = match embedded {
            Ok(embedding) => embedding,
            Err(error) => return Leg::Failed { stage: Stage::Embed, error },
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
        snapshot: &Arc<Snapshot>,
        legs: &Legs,
        fusion: Fusion,
    ) -> Result<Candidates, SearchError> {
        let pool = legs.pool(self.config.depth);
        let (snapshot, bag) = (snapshot.clone(), legs.bag().cloned());
        let embedding = legs.dense.as_ref().map(|dense| dense.embedding.clone());
        let ideal = legs.ideal();
        let smoothing = if legs.lexical.is_some() { self.config.smoothing } else { 0.0 };
        let fused = move || {
            let pool = back_fill(pool, &snapshot, bag.as_ref(), embedding.as_ref())?;
            let mut candidates = fuse(pool, fusion, ideal);
            if smoothing > 0.0 && embedding.is_some() {
                let nearest = candidates.list.iter().take(WINDOW);
                let vectors: Vec<_> = nearest
                    .map(|candidate| snapshot.vectors().vector(PointId(candidate.ordinal.0)))
                    .collect::<Result<_, _>>()?;
                smooth(&mut candidates, &vectors, smoothing);
            }
            Ok(candidates)
        };
        self.pool.run(fused).await?
    }
}

/// What one leg did.
pub(crate) enum Leg<T> {
    Off,
    Ran { hits: T, times: Vec<(Stage, Duration)> },
    Failed { stage: Stage, error: SearchError },
}

/// The lexical list, and what its scores are of.
pub(crate) struct Lexical {
    /// The words of the query, and those that feedback added.
    pub bag: BagQuery,
    pub hits: LexicalHits,
    /// Allowed posts in which any of `bag` occurs, at least; the total of `hits` counts the words of the query alone.
    pub matched: u64,
}

/// The list again, with words of the best posts of `hits` beside those of the query. What is rare, and how many posts
/// match, is said of the query as it was typed.
fn widened(
    snapshot: &Snapshot,
    bag: BagQuery,
    hits: LexicalHits,
    allowed: &RoaringBitmap,
    depth: usize,
    options: &FeedbackOptions,
) -> Result<Lexical, SearchError> {
    let best: Vec<Ordinal> = hits.hits.iter().take(options.posts).map(|(ordinal, _)| *ordinal).collect();
    let posts: Vec<Option<StoredPost>> = snapshot.posts(&best)?;
    let texts = posts.iter().zip(&hits.hits).filter_map(|(stored, (_, score))| {
        let post = &stored.as_ref()?.post;
        Some(FeedbackText { text: &post.text, lang: post.lang.as_deref(), score: score.value() })
    });
    let bag = snapshot.lexical().expand(&bag, &texts.collect::<Vec<_>>(), options)?;
    let again = snapshot.lexical().search(&bag, Some(allowed), depth)?;
    let matched = again.total;
    let hits = LexicalHits { total: hits.total, exact: hits.exact, rare: hits.rare, ..again };
    Ok(Lexical { bag, hits, matched })
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
        for ordinal in self.lexical.iter().flat_map(|l| &l.hits.rare) {
            place(*ordinal, &mut pool);
        }
        pool
    }

    /// What BM25 gives a post with every word of the query; 0 when unknown.
    pub fn ideal(&self) -> f32 {
        self.lexical.as_ref().map_or(0.0, |lexical| lexical.hits.ideal)
    }

    /// What lexical scores are of; none when the leg did not run.
    pub fn bag(&self) -> Option<&BagQuery> {
        self.lexical.as_ref().map(|lexical| &lexical.bag)
    }

    /// Posts that hold every rare word of the query.
    pub fn exact(&self) -> &[Ordinal] {
        self.lexical.as_ref().map_or(&[], |lexical| &lexical.hits.rare)
    }

    /// Allowed posts that the lexical leg matches, at least; 0 when it did not run.
    pub fn matched(&self) -> u64 {
        self.lexical.as_ref().map_or(0, |lexical| lexical.matched)
    }

    /// The posts of the dense list.
    pub fn nearest(&self) -> RoaringBitmap {
        self.dense.iter().flat_map(|dense| &dense.hits).map(|(point, _)| point.0).collect()
    }

    pub fn total(&self, mode: Mode) -> Total {
        match (&self.lexical, &self.dense) {
            (Some(lexical), _) => {
                Total { value: lexical.hits.total, exact: mode == Mode::Lexical && lexical.hits.exact }
            }
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
