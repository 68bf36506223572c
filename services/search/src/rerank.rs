//! The cross-encoder over the best candidates.

use std::sync::Arc;
use std::time::Instant;

use bowerbird_live::Snapshot;
use bowerbird_posts::Ordinal;
use bowerbird_scheduler::{Job, Priority, SchedulerError};

use crate::engine::Engine;
use crate::error::SearchError;
use crate::fuse::{Blended, Candidates, Fused, blend};
use crate::gate::{Choice, Features, Gating, MIN_DEPTH, Reason};
use crate::plan::ParsedQuery;
use crate::request::RerankOptions;

/// A head the cross-encoder read.
#[derive(Default)]
pub(crate) struct Head {
    /// Positions in the candidates, best first: a permutation of the first of them. Empty when none was read.
    pub order: Vec<(usize, Blended)>,
    /// What was decided, and why.
    pub gating: Gating,
}

impl Engine {
    /// Decides how many of the best candidates the cross-encoder reads, and blends what it says of them.
    ///
    /// What is read is always an unbroken head of the fused list: one of which some posts have a logit and some have
    /// none has no honest order. When time runs out, the head ends before the first post without a logit.
    pub(crate) async fn rerank(
        &self,
        query: &ParsedQuery,
        snapshot: &Arc<Snapshot>,
        candidates: &Candidates,
        options: RerankOptions,
        deadline: Instant,
    ) -> Result<Head, SearchError> {
        let most = options.depth.min(candidates.list.len());
        if most < 2 || (options.blend <= 0.0 && !options.gated) {
            return Ok(Head::default());
        }
        let deadline = options.budget.map_or(deadline, |budget| deadline.min(Instant::now() + budget));
        let ordinals: Vec<Ordinal> = candidates.list[..most].iter().map(|c| c.ordinal).collect();
        let snapshot = snapshot.clone();
        let posts = self.pool.run(move || snapshot.posts(&ordinals)).await??;
        let texts: Option<Vec<Arc<str>>> =
            posts.into_iter().map(|post| post.map(|stored| stored.post.text.into())).collect();
        let texts = texts.ok_or_else(|| SearchError::Unavailable {
            reason: "a post was deleted while it was ranked".into(),
        })?;
        let bytes: Vec<usize> = texts.iter().map(|text| text.len()).collect();

        let features = Features::new(&query.text, candidates, &bytes);
        let mut gating = self.decide(features, options, &bytes, deadline);
        if gating.depth == 0 {
            return Ok(Head { order: Vec::new(), gating });
        }
        let job = Job { priority: Priority::Rerank, deadline: Some(deadline) };
        let begun = Instant::now();
        let scores = self.encoders.score(&query.text, &texts[..gating.depth], job).await;
        let mut logits = Vec::with_capacity(scores.len());
        for score in scores {
            match score {
                Ok(logit) => logits.push(logit.get()),
                // The posts before this one are a shorter head.
                Err(SchedulerError::DeadlineExceeded) => break,
                Err(error) => return Err(error.into()),
            }
        }
        // Where not even one was read, it took at least this long.
        self.pace.note(&bytes[..logits.len().max(1)], begun.elapsed());
        if logits.len() < gating.depth && logits.len() < MIN_DEPTH {
            (gating.depth, gating.reason) = (0, Reason::NoTime);
            return Ok(Head { order: Vec::new(), gating });
        }
        if logits.len() < gating.depth {
            (gating.depth, gating.reason) = (logits.len(), Reason::Shortened);
        }
        let fused: Vec<Fused> = candidates.list[..logits.len()].iter().map(|c| c.fused).collect();
        let blended = blend(&fused, &logits, gating.blend);
        let mut order: Vec<(usize, Blended)> = blended.into_iter().enumerate().collect();
        order.sort_by(|a, b| b.1.score.total_cmp(&a.1.score).then(a.0.cmp(&b.0)));
        Ok(Head { order, gating })
    }

    /// How many of the posts with texts of these sizes are read, and with which share.
    fn decide(
        &self,
        features: Features,
        options: RerankOptions,
        bytes: &[usize],
        deadline: Instant,
    ) -> Gating {
        let gate = self.config.gate.as_ref().filter(|_| options.gated);
        let always = Choice { probability: None, depth: bytes.len(), blend: options.blend };
        let choice = gate.map_or(always, |gate| gate.choose(&features));
        let wanted = if choice.blend > 0.0 { choice.depth.min(bytes.len()) } else { 0 };
        let left = deadline.saturating_duration_since(Instant::now());
        let affordable = self.pace.affordable(&bytes[..wanted], left);
        let (depth, reason) = match gate {
            Some(_) if wanted < 2 => (0, Reason::Confident),
            _ if affordable < wanted && affordable < MIN_DEPTH => {
                self.pace.doubt();
                (0, Reason::NoTime)
            }
            _ if affordable < wanted => (affordable, Reason::Shortened),
            Some(_) => (wanted, Reason::Useful),
            None => (wanted, Reason::Always),
        };
        Gating {
            gate: gate.map(|gate| gate.name.clone()),
            features,
            probability: choice.probability,
            wanted,
            depth,
            blend: choice.blend,
            reason,
            predicted: self.pace.predict(&bytes[..wanted]),
            left,
        }
    }
}
