//! The cross-encoder over the best candidates.

use std::sync::Arc;
use std::time::Instant;

use bowerbird_live::Snapshot;
use bowerbird_posts::Ordinal;
use bowerbird_scheduler::{Job, Priority};

use crate::engine::Engine;
use crate::error::SearchError;
use crate::fuse::{Blended, Candidates, Fused, blend};
use crate::plan::ParsedQuery;
use crate::request::RerankOptions;

impl Engine {
    /// Scores the best candidates with the cross-encoder: positions in `candidates`, best first. Empty when the stage
    /// is off.
    ///
    /// All or nothing: a head of which some posts have a logit and some have none has no honest order.
    pub(crate) async fn rerank(
        &self,
        query: &ParsedQuery,
        snapshot: &Arc<Snapshot>,
        candidates: &Candidates,
        options: RerankOptions,
        deadline: Instant,
    ) -> Result<Vec<(usize, Blended)>, SearchError> {
        let head = &candidates.list[..options.depth.min(candidates.list.len())];
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
        let blended = blend(&fused, &logits, options.blend);
        let mut order: Vec<(usize, Blended)> = blended.into_iter().enumerate().collect();
        order.sort_by(|a, b| b.1.score.total_cmp(&a.1.score).then(a.0.cmp(&b.0)));
        Ok(order)
    }
}
