//! The pipeline, stage by stage.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bowerbird_lexical::{Bm25, LexicalHits};
use bowerbird_live::{Allowed, Filter, Live, Snapshot};
use bowerbird_models_api::{Embedding, TextRole};
use bowerbird_posts::{Counts, Ordinal};
use bowerbird_scheduler::{Encoders, Job, Priority, SchedulerError};
use bowerbird_vector::{Cosine, PointId};
use roaring::RoaringBitmap;

use crate::compute::ComputePool;
use crate::cursor::{Cursors, Frozen};
use crate::error::SearchError;
use crate::fuse::{Candidate, Candidates, FULL_COVERAGE, Fused, Fusion, blend, fuse};
use crate::page::{Hit, ResultPage, Scores, Total};
use crate::plan::ParsedQuery;
use crate::request::{Mode, RerankOptions, SearchRequest, Sort};
use crate::trace::{Stage, Trace};

/// Largest page.
pub const MAX_LIMIT: usize = 100;
/// Most facet fields of one search.
const MAX_FACETS: usize = 8;
/// Best candidates that are sorted by time or engagement when no post holds most of the query.
const NEAREST: usize = 30;
/// Values counted per facet field.
const FACET_VALUES: usize = 20;

/// How searches are run.
#[derive(Clone, Debug)]
pub struct SearchConfig {
    /// Candidates each leg gives to fusion.
    pub depth: usize,
    /// Lexical hits kept behind the fused ones, so that later pages reach them.
    pub tail: usize,
    /// Most hits of a list sorted by time or engagement.
    pub sorted: usize,
    /// How the legs are joined.
    pub fusion: Fusion,
    /// How the cross-encoder is used.
    pub rerank: RerankOptions,
    /// Most time of a search that states none.
    pub timeout: Duration,
    /// Threads for index work.
    pub threads: usize,
    /// Index work waiting or running before a search is refused.
    pub queue: usize,
    /// Hits kept for cursors, over all lists.
    pub cursor_hits: u64,
    /// Age at which a cursor expires.
    pub cursor_ttl: Duration,
}

impl Default for SearchConfig {
    /// Depth 16 and blend .3: deeper reranking gained nothing measurable on five judged sets, and a larger share
    /// lost on most.
    fn default() -> Self {
        Self {
            depth: 100,
            tail: 1000,
            sorted: 10_000,
            fusion: Fusion::default(),
            rerank: RerankOptions { depth: 16, blend: 0.3, budget: Some(Duration::from_millis(400)) },
            timeout: Duration::from_secs(5),
            threads: 2,
            queue: 256,
            cursor_hits: 2_000_000,
            cursor_ttl: Duration::from_mins(10),
        }
    }
}

/// A place in a ranked list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reranked {
    /// The post.
    pub ordinal: Ordinal,
    /// Its scores.
    pub scores: Scores,
}

/// Searches one live generation. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    live: Live,
    encoders: Encoders,
    pool: ComputePool,
    cursors: Arc<Cursors>,
    config: Arc<SearchConfig>,
}

impl Engine {
    /// An engine over `live`, whose vectors must be of the space of `encoders`.
    pub fn new(live: Live, encoders: Encoders, config: SearchConfig) -> Result<Self, SearchError> {
        let pool = ComputePool::new(config.threads, config.queue)?;
        let cursors = Arc::new(Cursors::new(config.cursor_hits, config.cursor_ttl));
        Ok(Self { live, encoders, pool, cursors, config: Arc::new(config) })
    }

    /// The configuration in force.
    pub fn config(&self) -> &SearchConfig {
        &self.config
    }

    /// One query, one page.
    pub async fn search(&self, request: &SearchRequest) -> Result<ResultPage, SearchError> {
        let mut trace = Trace::default();
        check(request)?;
        let query = trace.time(Stage::Parse, || {
            ParsedQuery::new(&request.text, request.plain, request.filter.as_deref())
        })?;
        let snapshot = Arc::new(self.live.snapshot());

        let (frozen, cursor_id, offset) = match &request.cursor {
            Some(cursor) => {
                let (id, frozen, offset) = self.cursors.find(cursor, &key(request))?;
                (frozen, Some(id), offset)
            }
            None => (Arc::new(self.rank(request, &query, &snapshot, &mut trace).await?), None, 0),
        };

        self.page(request, query, snapshot, frozen, cursor_id, offset, trace).await
    }

    /// The whole ranked list of a first page.
    async fn rank(
        &self,
        request: &SearchRequest,
        query: &ParsedQuery,
        snapshot: &Arc<Snapshot>,
        trace: &mut Trace,
    ) -> Result<Frozen, SearchError> {
        let deadline = trace.started() + request.timeout.unwrap_or(self.config.timeout);
        let begun = Instant::now();
        let allowed = self.allowed(snapshot, query.filter.clone()).await?;
        trace.took(Stage::Filter, begun.elapsed());

        if query.bag.is_empty() || request.sort != Sort::Relevance {
            let matching = self.matching_most(query, snapshot, &allowed).await?;
            if query.bag.is_empty() || !matching.is_empty() {
                let total = Total { value: matching.len(), exact: true };
                let (sort, most, snapshot) = (request.sort, self.config.sorted, snapshot.clone());
                let ranked = self.pool.run(move || sorted(sort, &matching, &snapshot, most)).await?;
                return Ok(Frozen { key: key(request), ranked, total, note: None });
            }
        }

        let (lexical, dense) = tokio::join!(
            self.retrieve_lexical(request.mode, query, snapshot, &allowed),
            self.retrieve_dense(request.mode, query, snapshot, &allowed, deadline),
        );
        let legs = Legs::from_results(lexical, dense, trace)?;

        let begun = Instant::now();
        let fusion = request.fusion.unwrap_or(self.config.fusion);
        let candidates = self.fuse(query, snapshot, &legs, fusion).await?;
        trace.took(Stage::Fuse, begun.elapsed());

        if request.sort != Sort::Relevance {
            let best: RoaringBitmap = candidates.0.iter().take(NEAREST).map(|c| c.ordinal.0).collect();
            let ranked = sorted(request.sort, &best, snapshot, NEAREST);
            let note = Some("no post holds most of the query: these are the nearest in meaning");
            return Ok(Frozen { key: key(request), ranked, total: Total { value: 0, exact: true }, note });
        }

        let begun = Instant::now();
        let options = request.rerank.unwrap_or(self.config.rerank);
        let head = self.rerank(query, snapshot, &candidates, options, deadline).await;
        let head = trace.or_fallback(Stage::Rerank, head, Vec::new);
        if !head.is_empty() {
            trace.took(Stage::Rerank, begun.elapsed());
        }

        let total = legs.total(request.mode);
        let ranked = ranked_list(&candidates, head, legs.lexical.as_ref());
        Ok(Frozen { key: key(request), ranked, total, note: None })
    }

    async fn allowed(
        &self,
        snapshot: &Arc<Snapshot>,
        filter: Option<Filter>,
    ) -> Result<Allowed, SearchError> {
        let snapshot = snapshot.clone();
        Ok(self.pool.run(move || snapshot.allowed(filter.as_ref())).await??)
    }

    async fn retrieve_lexical(
        &self,
        mode: Mode,
        query: &ParsedQuery,
        snapshot: &Arc<Snapshot>,
        allowed: &Allowed,
    ) -> Leg<LexicalHits> {
        if mode == Mode::Vector {
            return Leg::Off;
        }
        let begun = Instant::now();
        let (snapshot, bag, allowed) = (snapshot.clone(), query.bag.clone(), allowed.bitmap.clone());
        let limit = self.config.depth.max(self.config.tail);
        let found = self.pool.run(move || snapshot.lexical().search(&bag, Some(&allowed), limit)).await;
        match found {
            Ok(Ok(hits)) => Leg::Ran { hits, times: vec![(Stage::Lexical, begun.elapsed())] },
            Ok(Err(error)) => Leg::Failed { stage: Stage::Lexical, error: error.into() },
            Err(error) => Leg::Failed { stage: Stage::Lexical, error },
        }
    }

    async fn retrieve_dense(
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
    async fn fuse(
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
        let ideal = legs.lexical.as_ref().map_or(0.0, |lexical| lexical.ideal);
        self.pool
            .run(move || back_fill(pool, &snapshot, lexical_ran.then_some(&bag), embedding.as_ref()))
            .await?
            .map(|pool| fuse(pool, fusion, ideal))
    }

    /// Scores the best candidates with the cross-encoder. Empty when the stage is off.
    ///
    /// All or nothing: a head of which some posts have a logit and some have none has no honest order.
    async fn rerank(
        &self,
        query: &ParsedQuery,
        snapshot: &Arc<Snapshot>,
        candidates: &Candidates,
        options: RerankOptions,
        deadline: Instant,
    ) -> Result<Vec<(usize, f32, f32)>, SearchError> {
        let head = &candidates.0[..options.depth.min(candidates.0.len())];
        if head.len() < 2 || options.blend <= 0.0 {
            return Ok(Vec::new());
        }
        let ordinals: Vec<Ordinal> = head.iter().map(|c| c.ordinal).collect();
        let snapshot = snapshot.clone();
        let posts = self.pool.run(move || snapshot.posts(&ordinals)).await??;
        let texts: Option<Vec<Arc<str>>> =
            posts.into_iter().map(|post| post.map(|stored| stored.post.text.into())).collect();
        let texts = texts.ok_or_else(|| SearchError::Unavailable {
            reason: "a post was deleted while it was ranked".into(),
        })?;
        let deadline = options.budget.map_or(deadline, |budget| deadline.min(Instant::now() + budget));
        let job = Job { priority: Priority::Rerank, deadline: Some(deadline) };
        let mut logits = Vec::with_capacity(texts.len());
        for score in self.encoders.score(&query.text, &texts, job).await {
            logits.push(score?.get());
        }
        let fused: Vec<Fused> = head.iter().map(|c| c.fused).collect();
        let scores = blend(&fused, &logits, options.blend);
        let mut order: Vec<(usize, f32, f32)> = scores
            .into_iter()
            .zip(logits)
            .enumerate()
            .map(|(at, (score, logit))| (at, logit, score))
            .collect();
        order.sort_by(|a, b| b.2.total_cmp(&a.2).then(a.0.cmp(&b.0)));
        Ok(order)
    }

    /// Allowed posts that hold most of the query by weight; all of them when it has no word.
    async fn matching_most(
        &self,
        query: &ParsedQuery,
        snapshot: &Arc<Snapshot>,
        allowed: &Allowed,
    ) -> Result<RoaringBitmap, SearchError> {
        if query.bag.is_empty() {
            return Ok((*allowed.bitmap).clone());
        }
        let (snapshot, bag, allowed) = (snapshot.clone(), query.bag.clone(), allowed.bitmap.clone());
        let most = self.config.sorted;
        let found = self.pool.run(move || snapshot.lexical().search(&bag, Some(&allowed), most)).await??;
        let enough = FULL_COVERAGE * found.ideal;
        let covering = found.hits.iter().filter(|(_, score)| score.value() >= enough);
        Ok(covering.map(|(ordinal, _)| ordinal.0).collect())
    }

    /// Cuts the page out of the list and dresses it.
    #[expect(
        clippy::too_many_arguments,
        reason = "the last arrow of the pipeline takes what all others made"
    )]
    async fn page(
        &self,
        request: &SearchRequest,
        mut query: ParsedQuery,
        snapshot: Arc<Snapshot>,
        frozen: Arc<Frozen>,
        cursor_id: Option<u64>,
        offset: usize,
        mut trace: Trace,
    ) -> Result<ResultPage, SearchError> {
        let begun = Instant::now();
        query.note = query.note.or_else(|| frozen.note.map(str::to_owned));
        let limit = request.limit;
        let (list, bag) = (frozen.clone(), query.bag.clone());
        let facet_fields = request.facets.clone();
        let filter = query.filter.clone();
        let dressed = self
            .pool
            .run(move || -> Result<_, SearchError> {
                let (hits, end) = dress(&snapshot, &list.ranked, offset, limit, &bag)?;
                let facets = if facet_fields.is_empty() {
                    Vec::new()
                } else {
                    let matching = matching_any(&snapshot, &bag, snapshot.allowed(filter.as_ref())?)?;
                    let count = |field: String| {
                        let counts = snapshot.facets(&field, &matching, FACET_VALUES);
                        (field, counts)
                    };
                    facet_fields.into_iter().map(count).collect()
                };
                Ok((hits, end, facets))
            })
            .await?;
        let (hits, end, facets) = dressed?;
        let next_cursor = (end < frozen.ranked.len()).then(|| match cursor_id {
            Some(id) => Cursors::cursor(id, end),
            None => self.cursors.keep(frozen.clone(), end),
        });
        trace.took(Stage::Page, begun.elapsed());
        let took = trace.started().elapsed();
        metrics::histogram!("bowerbird_search_seconds").record(took.as_secs_f64());
        Ok(ResultPage {
            hits,
            total: frozen.total,
            facets,
            next_cursor,
            degraded: trace.degraded().to_vec(),
            query,
            took,
            stages: trace.times().to_vec(),
        })
    }
}

/// What one leg did.
enum Leg<T> {
    Off,
    Ran { hits: T, times: Vec<(Stage, Duration)> },
    Failed { stage: Stage, error: SearchError },
}

/// The dense list and the vector it is nearest to.
struct Dense {
    embedding: Embedding,
    hits: Vec<(PointId, Cosine)>,
}

/// What retrieval gave: at least one leg.
struct Legs {
    lexical: Option<LexicalHits>,
    dense: Option<Dense>,
}

impl Legs {
    /// One leg may fail, and the trace says so; both failing is an outage.
    fn from_results(
        lexical: Leg<LexicalHits>,
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

    /// The best `depth` of each leg, each post once, leg scores filled where the leg found it.
    fn pool(&self, depth: usize) -> Vec<Candidate> {
        let mut pool: Vec<Candidate> = Vec::with_capacity(2 * depth);
        let mut at = std::collections::HashMap::new();
        let mut place = |ordinal: Ordinal, pool: &mut Vec<Candidate>| {
            *at.entry(ordinal).or_insert_with(|| {
                pool.push(Candidate {
                    ordinal,
                    lexical: None,
                    vector: None,
                    lexical_rank: None,
                    vector_rank: None,
                    fused: Fused(0.0),
                });
                pool.len() - 1
            })
        };
        for (rank, (ordinal, score)) in (1..).zip(self.lexical.iter().flat_map(|l| &l.hits).take(depth)) {
            let at = place(*ordinal, &mut pool);
            pool[at].lexical = Some(*score);
            pool[at].lexical_rank = Some(rank);
        }
        for (rank, (point, score)) in (1..).zip(self.dense.iter().flat_map(|d| &d.hits).take(depth)) {
            let at = place(Ordinal(point.0), &mut pool);
            pool[at].vector = Some(*score);
            pool[at].vector_rank = Some(rank);
        }
        pool
    }

    fn total(&self, mode: Mode) -> Total {
        match (&self.lexical, &self.dense) {
            (Some(lexical), _) => Total { value: lexical.total, exact: mode == Mode::Lexical },
            (None, dense) => Total { value: dense.as_ref().map_or(0, |d| d.hits.len() as u64), exact: false },
        }
    }
}

/// Scores every candidate by the legs that ran and did not find it.
fn back_fill(
    mut pool: Vec<Candidate>,
    snapshot: &Snapshot,
    bag: Option<&bowerbird_lexical::BagQuery>,
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

/// The reranked head, the rest of the candidates, and then the lexical hits that fusion did not take.
///
/// Final scores fall from part to part: a head scores 1 to 2, other candidates 0 to 1, the tail below 0.
fn ranked_list(
    candidates: &Candidates,
    head: Vec<(usize, f32, f32)>,
    lexical: Option<&LexicalHits>,
) -> Vec<Reranked> {
    let scores = |candidate: &Candidate, rerank: Option<f32>, last: f32| Scores {
        lexical: candidate.lexical.map(Bm25::value),
        vector: candidate.vector.map(Cosine::get),
        fused: Some(candidate.fused.0),
        rerank,
        r#final: last,
    };
    let mut ranked = Vec::with_capacity(candidates.0.len());
    for (at, logit, blended) in &head {
        let candidate = &candidates.0[*at];
        let scores = scores(candidate, Some(*logit), 1.0 + blended);
        ranked.push(Reranked { ordinal: candidate.ordinal, scores });
    }
    for candidate in &candidates.0[head.len()..] {
        ranked.push(Reranked {
            ordinal: candidate.ordinal,
            scores: scores(candidate, None, candidate.fused.0),
        });
    }
    if let Some(lexical) = lexical {
        let taken: RoaringBitmap = candidates.0.iter().map(|c| c.ordinal.0).collect();
        for (ordinal, score) in lexical.hits.iter().filter(|(ordinal, _)| !taken.contains(ordinal.0)) {
            let score = score.value();
            let scores =
                Scores { lexical: Some(score), r#final: -1.0 / (1.0 + score.max(0.0)), ..Scores::default() };
            ranked.push(Reranked { ordinal: *ordinal, scores });
        }
    }
    ranked
}

/// Hits from `offset` on, skipping posts that are gone, and where in the list they end.
fn dress(
    snapshot: &Snapshot,
    ranked: &[Reranked],
    offset: usize,
    limit: usize,
    bag: &bowerbird_lexical::BagQuery,
) -> Result<(Vec<Hit>, usize), SearchError> {
    let mut hits = Vec::with_capacity(limit);
    let mut end = offset;
    while hits.len() < limit && end < ranked.len() {
        let chunk = &ranked[end..(end + limit - hits.len()).min(ranked.len())];
        let ordinals: Vec<Ordinal> = chunk.iter().map(|r| r.ordinal).collect();
        for (place, stored) in chunk.iter().zip(snapshot.posts(&ordinals)?) {
            end += 1;
            let alive = snapshot.live().contains(place.ordinal.0);
            let Some(stored) = stored.filter(|_| alive) else { continue };
            let ranges = snapshot.lexical().highlight(bag, &stored.post.text, stored.post.lang.as_deref());
            hits.push(Hit {
                rank: end,
                scores: place.scores,
                highlights: code_points(&stored.post.text, &ranges),
                vector_pending: !snapshot.vectors().contains(PointId(place.ordinal.0)),
                post: stored.post,
            });
        }
    }
    Ok((hits, end))
}

/// The first `most` of `posts` by time or engagement, newest ordinal first among equals.
fn sorted(sort: Sort, posts: &RoaringBitmap, snapshot: &Snapshot, most: usize) -> Vec<Reranked> {
    let columns = snapshot.columns();
    let key = |ordinal| match sort {
        Sort::Engagement => engagement(columns.counts(Ordinal(ordinal))),
        Sort::Recent | Sort::Relevance => columns.created_at(Ordinal(ordinal)),
    };
    let mut keyed: Vec<(i64, u32)> = posts.iter().map(|ordinal| (key(ordinal), ordinal)).collect();
    keyed.sort_unstable_by(|a, b| b.cmp(a));
    keyed.truncate(most);
    let place = |(key, ordinal): (i64, u32)| Reranked {
        ordinal: Ordinal(ordinal),
        scores: Scores { r#final: key as f32, ..Scores::default() },
    };
    keyed.into_iter().map(place).collect()
}

/// Posts that pass the filter and hold a word of the query; every allowed post when there is no word.
fn matching_any(
    snapshot: &Snapshot,
    bag: &bowerbird_lexical::BagQuery,
    allowed: Allowed,
) -> Result<RoaringBitmap, SearchError> {
    if bag.is_empty() {
        return Ok((*allowed.bitmap).clone());
    }
    // The leg itself says what matches, so that counts and totals agree: it knows which words are too common to ask.
    let every = usize::try_from(allowed.bitmap.len()).unwrap_or(usize::MAX);
    let found = snapshot.lexical().search(bag, Some(&allowed.bitmap), every)?;
    Ok(found.hits.iter().map(|(ordinal, _)| ordinal.0).collect())
}

/// Byte ranges to ranges of code points; both ascend.
fn code_points(text: &str, bytes: &[std::ops::Range<usize>]) -> Vec<std::ops::Range<usize>> {
    let (mut at, mut counted) = (0, 0);
    let mut upto = |byte: usize| {
        counted += text[at..byte].chars().count();
        at = byte;
        counted
    };
    bytes.iter().map(|range| upto(range.start)..upto(range.end)).collect()
}

/// `likes + 2·reposts + 2·replies`: an act that others see counts twice one that they do not.
fn engagement(counts: Counts) -> i64 {
    let sum = counts
        .likes
        .saturating_add(counts.reposts.saturating_mul(2))
        .saturating_add(counts.replies.saturating_mul(2));
    i64::try_from(sum).unwrap_or(i64::MAX)
}

fn check(request: &SearchRequest) -> Result<(), SearchError> {
    if request.limit == 0 || request.limit > MAX_LIMIT {
        return Err(SearchError::Limit { limit: MAX_LIMIT, found: request.limit });
    }
    let known = |field: &str| {
        matches!(field, "author" | "lang" | "tags" | "mentions")
            || field.strip_prefix("attributes.").is_some_and(|name| !name.is_empty())
    };
    if let Some(found) = request.facets.iter().find(|field| !known(field)) {
        return Err(SearchError::Facet { found: found.clone() });
    }
    if request.facets.len() > MAX_FACETS {
        return Err(SearchError::Facet { found: format!("{} fields", request.facets.len()) });
    }
    Ok(())
}

/// What two pages must agree on.
fn key(request: &SearchRequest) -> String {
    format!(
        "{}\n{}\n{:?}\n{:?}\n{:?}",
        request.text, request.plain, request.filter, request.mode, request.sort
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::single_range_in_vec_init, reason = "one range is meant")]
    fn highlights_count_code_points() {
        let text = "🙂 é sleep";
        let at = text.find("sleep").expect("present");
        assert_eq!(code_points(text, &[at..at + 5]), [4..9]);
        assert_eq!(code_points("ab cd", &[0..2, 3..5]), [0..2, 3..5]);
    }

    #[test]
    fn engagement_never_overflows() {
        let counts = Counts { likes: 1, reposts: 2, replies: 3, views: 1000 };
        assert_eq!(engagement(counts), 11);
        assert_eq!(engagement(Counts { likes: u64::MAX, reposts: u64::MAX, replies: 0, views: 0 }), i64::MAX);
    }
}
