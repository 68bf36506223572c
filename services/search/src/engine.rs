//! The pipeline, stage by stage.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bowerbird_live::{Live, Snapshot};
use bowerbird_scheduler::Encoders;
use parking_lot::RwLock;
use roaring::RoaringBitmap;
use tokio::sync::OnceCell;

use crate::arrange::Shapes;
use crate::compute::ComputePool;
use crate::config::SearchConfig;
use crate::cursor::{Cursors, Frozen, Pinned};
use crate::dress::Position;
use crate::error::SearchError;
use crate::exact::raise;
use crate::explain::SearchExplanation;
use crate::features::weigh;
use crate::fuse::Candidate;
use crate::gate::Pace;
use crate::list::{Matching, NEAREST, by_relevance, note_ranks, note_relevance, sorted};
use crate::page::{ResultPage, Total};
use crate::plan::{ParseOptions, ParsedQuery};
use crate::request::{Mode, Ranking, SearchRequest, Sort, check, key};
use crate::rerank::Head;
use crate::retrieve::Legs;
use crate::trace::{Stage, Trace};

/// Memory for the shapes of recent texts, bytes: some 100,000 short posts.
const SHAPE_BYTES: u64 = 32 << 20;

/// Searches one live generation. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(crate) live: Live,
    pub(crate) encoders: Encoders,
    /// Encoders by the space of their vectors: generations may be of different ones.
    embedders: Arc<RwLock<HashMap<String, Encoders>>>,
    pub(crate) pool: ComputePool,
    pub(crate) cursors: Arc<Cursors>,
    pub(crate) shapes: Shapes,
    pub(crate) pace: Arc<Pace>,
    /// Searches that people began.
    searches: Arc<AtomicU64>,
    pub(crate) config: Arc<SearchConfig>,
}

impl Engine {
    /// An engine over `live`. Queries are embedded by the encoders whose space the vectors of the generation are of:
    /// `encoders`, or others given to [`add_embedder`](Self::add_embedder).
    pub fn new(live: Live, encoders: Encoders, config: SearchConfig) -> Result<Self, SearchError> {
        let pool = ComputePool::new(config.threads, config.queue)?;
        let cursors = Arc::new(Cursors::new(config.cursor_bytes, config.cursor_ttl));
        let shapes = Shapes::new(SHAPE_BYTES);
        let pace = Arc::new(Pace::default());
        let embedders = Arc::new(RwLock::new(HashMap::new()));
        let engine = Self {
            live,
            encoders,
            embedders,
            pool,
            cursors,
            shapes,
            pace,
            searches: Arc::default(),
            config: Arc::new(config),
        };
        engine.add_embedder(engine.encoders.clone());
        Ok(engine)
    }

    /// Embeds queries for generations whose vectors are of the space of `encoders`.
    pub fn add_embedder(&self, encoders: Encoders) {
        self.embedders.write().insert(encoders.space().fingerprint(), encoders);
    }

    /// Lets go of the encoders of every space but the first one's and `space`.
    pub fn keep_embedder(&self, space: &str) {
        let first = self.encoders.space().fingerprint();
        self.embedders.write().retain(|known, _| *known == first || known == space);
    }

    /// Calls of [`search`](Self::search) since the start.
    pub fn searches(&self) -> u64 {
        self.searches.load(Ordering::Relaxed)
    }

    /// What embeds the queries of a snapshot.
    pub(crate) fn embedder(&self, snapshot: &Snapshot) -> Result<Encoders, SearchError> {
        let space = snapshot.vectors().space();
        let found = self.embedders.read().get(space).cloned();
        found.ok_or_else(|| SearchError::NoEmbedder { space: space.to_owned() })
    }

    /// The configuration in force.
    pub fn config(&self) -> &SearchConfig {
        &self.config
    }

    /// One query, one page. A later page is searched in the generation of the first.
    pub async fn search(&self, request: &SearchRequest) -> Result<ResultPage, SearchError> {
        check(request)?;
        self.searches.fetch_add(1, Ordering::Relaxed);
        let Some(cursor) = &request.cursor else {
            return self.search_in(request, Arc::new(self.live.snapshot())).await;
        };
        let mut trace = Trace::default();
        let (id, list, offset) = self.cursors.find(cursor, &key(request))?;
        let snapshot = self.live.snapshot_of(list.generation).ok_or(SearchError::ExpiredCursor)?;
        let query = self.parse(request, &snapshot, &mut trace)?;
        self.page(request, query, Arc::new(snapshot), Position { list, id: Some(id), offset }, trace).await
    }

    /// The first page of a query, in a snapshot of the caller's choice.
    pub async fn search_in(
        &self,
        request: &SearchRequest,
        snapshot: Arc<Snapshot>,
    ) -> Result<ResultPage, SearchError> {
        let mut trace = Trace::default();
        check(request)?;
        let query = self.parse(request, &snapshot, &mut trace)?;
        let list = self.rank(request, &query, &snapshot, &mut trace).await?;
        let position = Position { list: Arc::new(list), id: None, offset: 0 };
        self.page(request, query, snapshot, position, trace).await
    }

    fn parse(
        &self,
        request: &SearchRequest,
        snapshot: &Snapshot,
        trace: &mut Trace,
    ) -> Result<ParsedQuery, SearchError> {
        let mut query = trace.time(Stage::Parse, || {
            let options = ParseOptions { plain: request.plain, prefix_last: request.prefix_last };
            ParsedQuery::with(&request.text, options, request.filter.as_deref())
        })?;
        if self.config.proximity > 0.0 {
            query.bag = snapshot.lexical().with_proximity(query.bag, self.config.proximity, 0);
        }
        Ok(query)
    }

    /// The ranked list of a first page.
    async fn rank(
        &self,
        request: &SearchRequest,
        query: &ParsedQuery,
        snapshot: &Arc<Snapshot>,
        trace: &mut Trace,
    ) -> Result<Frozen, SearchError> {
        let ranking = Ranking::new(request, query, &self.config)?;
        let deadline = trace.started() + request.timeout.unwrap_or(self.config.timeout);
        let begun = Instant::now();
        let allowed = self.allowed(snapshot, query.filter.clone()).await?;
        let pinned = Pinned::new(snapshot, &allowed, query.filter.is_some());
        trace.took(Stage::Filter, begun.elapsed());

        if query.bag.is_empty() || ranking.sort != Sort::Relevance {
            let covering = self.matching_most(query, snapshot, &allowed).await?;
            if query.bag.is_empty() || !covering.is_empty() {
                return self.sorted_list(request, ranking, query, covering, snapshot, pinned, trace).await;
            }
        }

        let (lexical, dense) = tokio::join!(
            self.retrieve_lexical(&ranking, query, snapshot, &allowed),
            self.retrieve_dense(ranking.mode, query, snapshot, &allowed, deadline),
        );
        let legs = Legs::from_results(lexical, dense, trace)?;

        let begun = Instant::now();
        let candidates = self.fuse(snapshot, &legs, ranking.fusion).await?;
        trace.took(Stage::Fuse, begun.elapsed());

        if ranking.sort != Sort::Relevance {
            let nearest = candidates.list.iter().take(NEAREST).map(|c| c.ordinal.0).collect();
            let mut list =
                self.sorted_list(request, ranking, query, nearest, snapshot, pinned, trace).await?;
            list.total.exact = false;
            list.note = Some("no post holds most of the query: these are the nearest in meaning");
            return Ok(list);
        }

        let begun = Instant::now();
        let head = self.rerank(query, snapshot, &candidates, ranking.rerank, deadline).await;
        let Head { order: head, gating } = trace.or_fallback(Stage::Rerank, head, Head::default);
        if gating.reason.is_forced() {
            trace.shortened(Stage::Rerank, gating.depth, gating.wanted);
        }
        if !head.is_empty() {
            trace.took(Stage::Rerank, begun.elapsed());
        }

        let begun = Instant::now();
        let mut places = by_relevance(&candidates, &head, ranking.explain);
        // BM25 alone has no near-misses to guard against.
        let exact = if ranking.mode == Mode::Lexical { &[] } else { legs.exact() };
        raise(&mut places, exact, self.config.exact_rank);
        note_relevance(&mut places);
        weigh(&mut places, snapshot.columns(), ranking.recency, ranking.engagement, ranking.now);
        note_ranks(&mut places, |ranks, rank| ranks.weighed = rank);
        let (first, left_out) = self.arrange(places, ranking, snapshot).await?;
        trace.took(Stage::Arrange, begun.elapsed());

        let found = candidates.list.iter().filter(|c| c.lexical.is_some_and(|s| s.value() > 0.0)).count();
        let explanation = ranking.explain.then(|| {
            let count = |leg: fn(&Candidate) -> bool| candidates.list.iter().filter(|c| leg(c)).count();
            Box::new(SearchExplanation {
                now: ranking.now,
                depth: self.config.depth,
                lexical: count(|c| c.lexical_rank.is_some()),
                vector: count(|c| c.vector_rank.is_some()),
                candidates: candidates.list.len(),
                reranked: head.len(),
                gating,
                fusion: Some(ranking.fusion),
                shares: candidates.shares,
                ideal: legs.ideal(),
                exact: exact.len(),
                near_duplicates: left_out.near_duplicates,
                author_limit: left_out.author_limit,
                removed: left_out.named,
            })
        });
        Ok(Frozen {
            key: key(request),
            generation: snapshot.generation(),
            bag: legs.bag().unwrap_or(&query.bag).clone(),
            first,
            sort: None,
            more: legs.matched() > found as u64,
            tail: OnceCell::new(),
            taken: candidates.list.iter().map(|c| c.ordinal.0).collect(),
            rules: ranking.rules,
            most: ranking.most,
            total: legs.total(ranking.mode),
            matching: match legs.lexical {
                Some(_) => Matching::Words { alone: ranking.mode == Mode::Lexical },
                None => Matching::These(legs.nearest()),
            },
            pinned,
            note: None,
            explanation,
        })
    }

    /// A list in the order of time or engagement.
    #[expect(clippy::too_many_arguments, reason = "the same arrow as above, for lists without scores")]
    async fn sorted_list(
        &self,
        request: &SearchRequest,
        ranking: Ranking,
        query: &ParsedQuery,
        posts: RoaringBitmap,
        snapshot: &Arc<Snapshot>,
        pinned: Pinned,
        trace: &mut Trace,
    ) -> Result<Frozen, SearchError> {
        let begun = Instant::now();
        let matching = if query.bag.is_empty() { Matching::Allowed } else { Matching::These(posts.clone()) };
        let total = Total { value: posts.len(), exact: true };
        // As many as a list by relevance has candidates; what stands behind is sorted when a page reaches it.
        let most = ranking.most.min(2 * self.config.depth);
        let behind = posts.len() > most as u64;
        let (shot, sort) = (snapshot.clone(), ranking.sort);
        let places = self.pool.run(move || sorted(sort, &posts, &shot, most, ranking.explain)).await?;
        let taken = places.iter().map(|place| place.ordinal.0).collect();
        let (first, left_out) = self.arrange(places, Ranking { diversity: 0.0, ..ranking }, snapshot).await?;
        trace.took(Stage::Arrange, begun.elapsed());
        let explanation = ranking.explain.then(|| {
            Box::new(SearchExplanation {
                now: ranking.now,
                near_duplicates: left_out.near_duplicates,
                author_limit: left_out.author_limit,
                removed: left_out.named,
                ..SearchExplanation::default()
            })
        });
        Ok(Frozen {
            key: key(request),
            generation: snapshot.generation(),
            bag: query.bag.clone(),
            first,
            sort: Some(ranking.sort),
            more: behind,
            tail: OnceCell::new(),
            taken,
            rules: ranking.rules,
            most: ranking.most,
            total,
            matching,
            pinned,
            note: None,
            explanation,
        })
    }
}
