//! The pipeline, stage by stage.

use std::sync::Arc;
use std::time::Instant;

use bowerbird_live::{Live, Snapshot};
use bowerbird_scheduler::Encoders;
use roaring::RoaringBitmap;

use crate::compute::ComputePool;
use crate::config::SearchConfig;
use crate::cursor::{Cursors, Frozen};
use crate::error::SearchError;
use crate::list::{NEAREST, ranked_list, sorted};
use crate::page::{ResultPage, Total};
use crate::plan::ParsedQuery;
use crate::request::{SearchRequest, Sort, check, key};
use crate::retrieve::Legs;
use crate::trace::{Stage, Trace};

/// Searches one live generation. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(crate) live: Live,
    pub(crate) encoders: Encoders,
    pub(crate) pool: ComputePool,
    pub(crate) cursors: Arc<Cursors>,
    pub(crate) config: Arc<SearchConfig>,
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
}
