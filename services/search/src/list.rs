//! The ranked list: candidates with their relevance, the lexical hits behind them, or posts in the order of a column.

use std::sync::Arc;

use bowerbird_lexical::{BagQuery, Bm25};
use bowerbird_live::{Allowed, Snapshot};
use bowerbird_posts::Ordinal;
use bowerbird_vector::Cosine;
use roaring::RoaringBitmap;

use crate::engine::Engine;
use crate::error::SearchError;
use crate::explain::{Part, Parts, Ranks};
use crate::features::engagement;
use crate::fuse::{Blended, Candidates, FULL_COVERAGE};
use crate::page::Scores;
use crate::plan::ParsedQuery;
use crate::request::Sort;

/// Best candidates that are sorted by time or engagement when no post holds most of the query.
pub(crate) const NEAREST: usize = 30;

/// A place in a ranked list.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// The post.
    pub ordinal: Ordinal,
    /// Its scores.
    pub scores: Scores,
    /// Near-duplicates that were folded into it, best first; they have none of their own.
    pub folded: Vec<Place>,
    /// How the score arose, when that was asked for.
    pub parts: Option<Box<Parts>>,
}

impl Place {
    /// A place with its scores.
    pub fn new(ordinal: Ordinal, scores: Scores) -> Self {
        Self { ordinal, scores, folded: Vec::new(), parts: None }
    }

    /// Changes the explanation, if there is one.
    pub fn note(&mut self, change: impl FnOnce(&mut Parts)) {
        if let Some(parts) = &mut self.parts {
            change(parts);
        }
    }
}

/// Writes down where each of `places` stands now.
pub(crate) fn note_ranks(places: &mut [Place], note: impl Fn(&mut Ranks, usize)) {
    for (rank, place) in (1..).zip(places) {
        place.note(|parts| note(&mut parts.ranks, rank));
    }
}

/// Writes down relevance and its order.
pub(crate) fn note_relevance(places: &mut [Place]) {
    for (rank, place) in (1..).zip(places) {
        let relevance = place.scores.r#final;
        place.note(|parts| {
            parts.relevance = relevance;
            parts.ranks.relevance = rank;
        });
    }
}

/// The posts that a list was made from, by a word, a filter or their nearness.
#[derive(Clone, Debug)]
pub(crate) enum Matching {
    /// Allowed posts that hold a word of the query.
    Words {
        /// Whether no hit was found by meaning, so that their number is the total.
        alone: bool,
    },
    /// Every allowed post.
    Allowed,
    /// These.
    These(RoaringBitmap),
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
        let most = move || snapshot.lexical().matching_most(&bag, Some(&allowed), FULL_COVERAGE);
        Ok(self.pool.run(most).await??)
    }
}

/// The reranked head and then the rest of the candidates, by relevance; see [`crate::explain`] for the formula.
///
/// `head` holds positions in `candidates`, best first.
pub(crate) fn by_relevance(candidates: &Candidates, head: &[(usize, Blended)], explain: bool) -> Vec<Place> {
    let place = |at: usize, rerank: Option<Blended>| {
        let candidate = &candidates.list[at];
        let fused = candidate.fused.0;
        let relevance = match rerank {
            Some(blended) => f32::midpoint(1.0, blended.score),
            None if head.is_empty() => fused,
            None => fused / 2.0,
        };
        let scores = Scores {
            lexical: candidate.lexical.map(Bm25::value),
            vector: candidate.vector.map(Cosine::get),
            fused: Some(fused),
            rerank: rerank.map(|blended| blended.raw_logit),
            r#final: relevance,
        };
        let mut place = Place::new(candidate.ordinal, scores);
        place.parts = explain.then(|| {
            Box::new(Parts {
                part: if rerank.is_some() { Part::Head } else { Part::Candidate },
                scaled: candidate.scaled,
                shares: candidates.shares,
                rerank,
                relevance,
                ranks: Ranks {
                    lexical: candidate.lexical_rank,
                    vector: candidate.vector_rank,
                    fused: at + 1,
                    ..Ranks::default()
                },
                ..Parts::default()
            })
        });
        place
    };
    let mut places = Vec::with_capacity(candidates.list.len());
    places.extend(head.iter().map(|(at, blended)| place(*at, Some(*blended))));
    places.extend((head.len()..candidates.list.len()).map(|at| place(at, None)));
    places
}

/// The best lexical hits among `allowed` that are not `taken`, at most `most`, and whether there are more.
///
/// Their final scores lie below 0, behind every candidate.
pub(crate) fn lexical_tail(
    snapshot: &Snapshot,
    bag: &BagQuery,
    allowed: RoaringBitmap,
    taken: &RoaringBitmap,
    most: usize,
    explain: bool,
) -> Result<(Vec<Place>, bool), SearchError> {
    let found = snapshot.lexical().search(bag, Some(&(allowed - taken)), most)?;
    let more = found.total > found.hits.len() as u64;
    let place = |(ordinal, score): (Ordinal, Bm25)| {
        let score = score.value();
        let r#final = -1.0 / (1.0 + score.max(0.0));
        let mut place = Place::new(ordinal, Scores { lexical: Some(score), r#final, ..Scores::default() });
        place.parts =
            explain.then(|| Box::new(Parts { part: Part::Tail, relevance: r#final, ..Parts::default() }));
        place
    };
    Ok((found.hits.into_iter().map(place).collect(), more))
}

/// The first `most` of `posts` by time or engagement, newest ordinal first among equals.
pub(crate) fn sorted(
    sort: Sort,
    posts: &RoaringBitmap,
    snapshot: &Snapshot,
    most: usize,
    explain: bool,
) -> Vec<Place> {
    let columns = snapshot.columns();
    let key = |ordinal| match sort {
        Sort::Engagement => engagement(columns.counts(Ordinal(ordinal))),
        Sort::Recent | Sort::Relevance => columns.created_at(Ordinal(ordinal)),
    };
    let mut keyed: Vec<(i64, u32)> = posts.iter().map(|ordinal| (key(ordinal), ordinal)).collect();
    keyed.sort_unstable_by(|a, b| b.cmp(a));
    keyed.truncate(most);
    let place = |(key, ordinal): (i64, u32)| {
        let r#final = key as f32;
        let mut place = Place::new(Ordinal(ordinal), Scores { r#final, ..Scores::default() });
        place.parts =
            explain.then(|| Box::new(Parts { part: Part::Sorted, relevance: r#final, ..Parts::default() }));
        place
    };
    keyed.into_iter().map(place).collect()
}
