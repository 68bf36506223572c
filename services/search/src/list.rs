//! The ranked list: candidates with their last score, or posts in the order of a column.

use std::sync::Arc;

use bowerbird_lexical::{Bm25, LexicalHits};
use bowerbird_live::{Allowed, Snapshot};
use bowerbird_posts::{Counts, Ordinal};
use bowerbird_vector::Cosine;
use roaring::RoaringBitmap;

use crate::engine::Engine;
use crate::error::SearchError;
use crate::fuse::{Candidate, Candidates, FULL_COVERAGE};
use crate::page::Scores;
use crate::plan::ParsedQuery;
use crate::request::Sort;

/// Best candidates that are sorted by time or engagement when no post holds most of the query.
pub(crate) const NEAREST: usize = 30;

/// A place in a ranked list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reranked {
    /// The post.
    pub ordinal: Ordinal,
    /// Its scores.
    pub scores: Scores,
}

impl Engine {
    /// Allowed posts that hold most of the query by weight; all of them when it has no word.
    pub(crate) async fn matching_most(
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
}

/// The reranked head, the rest of the candidates, and then the lexical hits that fusion did not take.
///
/// Final scores fall from part to part: a head scores 1 to 2, other candidates 0 to 1, the tail below 0.
pub(crate) fn ranked_list(
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

/// The first `most` of `posts` by time or engagement, newest ordinal first among equals.
pub(crate) fn sorted(sort: Sort, posts: &RoaringBitmap, snapshot: &Snapshot, most: usize) -> Vec<Reranked> {
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

/// `likes + 2·reposts + 2·replies`: an act that others see counts twice one that they do not.
fn engagement(counts: Counts) -> i64 {
    let sum = counts
        .likes
        .saturating_add(counts.reposts.saturating_mul(2))
        .saturating_add(counts.replies.saturating_mul(2));
    i64::try_from(sum).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engagement_never_overflows() {
        let counts = Counts { likes: 1, reposts: 2, replies: 3, views: 1000 };
        assert_eq!(engagement(counts), 11);
        assert_eq!(engagement(Counts { likes: u64::MAX, reposts: u64::MAX, replies: 0, views: 0 }), i64::MAX);
    }
}
