//! The page: hits with their posts and highlights, the total, facets, and where the next page begins.

use std::sync::Arc;
use std::time::Instant;

use bowerbird_lexical::BagQuery;
use bowerbird_live::Snapshot;
use bowerbird_posts::{Ordinal, Post};
use bowerbird_vector::PointId;

use crate::arrange::Arranger;
use crate::cursor::{Cursors, Frozen, Tail};
use crate::engine::Engine;
use crate::error::SearchError;
use crate::explain::Explanation;
use crate::list::{Matching, Place, lexical_tail, note_ranks, sorted};
use crate::page::{Collapsed, Hit, ResultPage, Total};
use crate::plan::ParsedQuery;
use crate::request::SearchRequest;
use crate::trace::{Stage, Trace};

/// Values counted per facet field.
const FACET_VALUES: usize = 20;
/// Most near-duplicates that a hit names.
const COLLAPSED_IDS: usize = 10;

/// A list and where in it a page begins.
pub(crate) struct Position {
    pub list: Arc<Frozen>,
    /// Number under which the list is kept; none on a first page.
    pub id: Option<u64>,
    pub offset: usize,
}

/// Counts by facet field.
type Facets = Vec<(String, Vec<(String, u64)>)>;

impl Engine {
    /// Cuts the page out of the list and dresses it.
    pub(crate) async fn page(
        &self,
        request: &SearchRequest,
        mut query: ParsedQuery,
        snapshot: Arc<Snapshot>,
        position: Position,
        mut trace: Trace,
    ) -> Result<ResultPage, SearchError> {
        let Position { list, id, offset } = position;
        query.note = query.note.or_else(|| list.note.map(str::to_owned));
        let limit = request.limit;
        if list.is_open() && offset + limit > list.first.len() {
            let begun = Instant::now();
            self.rank_tail(&list, &snapshot).await?;
            if let Some(id) = id {
                self.cursors.grown(id, list.clone());
            }
            trace.took(Stage::Tail, begun.elapsed());
        }

        let begun = Instant::now();
        let (frozen, bag) = (list.clone(), query.bag.clone());
        let (facet_fields, explain, first) = (request.facets.clone(), request.explain, id.is_none());
        let dressed = self
            .pool
            .run(move || -> Result<_, SearchError> {
                let (hits, end) = dress(&snapshot, &frozen, offset, limit, &bag, explain)?;
                let (total, facets) = count(&snapshot, &frozen, &bag, facet_fields, first)?;
                Ok((hits, end, total, facets))
            })
            .await?;
        let (hits, end, total, facets) = dressed?;
        let more = end < list.len() || list.is_open();
        let next_cursor =
            more.then(|| Cursors::cursor(id.unwrap_or_else(|| self.cursors.keep(list.clone())), end));
        trace.took(Stage::Page, begun.elapsed());
        let took = trace.started().elapsed();
        metrics::histogram!("bowerbird_search_seconds").record(took.as_secs_f64());
        Ok(ResultPage {
            hits,
            total,
            facets,
            truncated: next_cursor.is_none() && list.is_truncated(),
            next_cursor,
            degraded: trace.degraded().to_vec(),
            query,
            took,
            stages: trace.times().to_vec(),
            explanation: list.explanation.clone().filter(|_| request.explain),
        })
    }

    /// Ranks the hits behind the first list, once for a list, whoever asks.
    async fn rank_tail(&self, list: &Arc<Frozen>, snapshot: &Arc<Snapshot>) -> Result<(), SearchError> {
        let rank = || async {
            let (list, snapshot) = (list.clone(), snapshot.clone());
            let shapes = self.shapes.clone();
            self.pool
                .run(move || {
                    let allowed = list.pinned.now(&snapshot);
                    let room = list.most.saturating_sub(list.first.len());
                    let explain = list.explanation.is_some();
                    let (places, more) = if let Some(sort) = list.sort {
                        let left = match &list.matching {
                            Matching::These(posts) => &allowed & posts,
                            Matching::Words { .. } | Matching::Allowed => allowed,
                        } - &list.taken;
                        (sorted(sort, &left, &snapshot, room, explain), left.len() > room as u64)
                    } else {
                        lexical_tail(&snapshot, &list.bag, allowed, &list.taken, room, explain)?
                    };
                    let mut arranger = Arranger::new(&snapshot, &shapes, list.rules);
                    arranger.admit(list.first.clone())?;
                    let mut places = arranger.admit(places)?;
                    let behind = list.first.len();
                    note_ranks(&mut places, |ranks, rank| ranks.diverse = behind + rank);
                    Ok(Tail { places, more })
                })
                .await?
        };
        list.tail.get_or_try_init(rank).await.map(drop)
    }
}

/// Hits from `offset` on, skipping posts that are gone, and where in the list they end.
fn dress(
    snapshot: &Snapshot,
    list: &Frozen,
    offset: usize,
    limit: usize,
    bag: &BagQuery,
    explain: bool,
) -> Result<(Vec<Hit>, usize), SearchError> {
    let mut hits = Vec::with_capacity(limit);
    let mut end = offset;
    while hits.len() < limit {
        let chunk: Vec<&Place> = list.from(end).take(limit - hits.len()).collect();
        if chunk.is_empty() {
            break;
        }
        // The next of a group takes the place of a hit that died. It would be counted to its own author, so where
        // hits per author are limited the group ends with its hit.
        let promote = list.rules.max_per_author.is_none();
        let group = |place: &Place| -> Vec<Place> {
            let alive = |place: &&Place| snapshot.live().contains(place.ordinal.0);
            let others = place.folded.iter().filter(alive).cloned();
            match snapshot.live().contains(place.ordinal.0) {
                true => std::iter::once(place.clone()).chain(others).collect(),
                false if promote => others.collect(),
                false => Vec::new(),
            }
        };
        let groups: Vec<Vec<Place>> = chunk.into_iter().map(group).collect();
        let ordinals: Vec<Ordinal> = groups.iter().filter_map(|g| g.first()).map(|p| p.ordinal).collect();
        let mut posts = snapshot.posts(&ordinals)?.into_iter();
        for group in groups {
            end += 1;
            let Some((place, others)) = group.split_first() else { continue };
            let Some(stored) = posts.next().flatten() else { continue };
            let scored = explain.then_some(&list.bag);
            hits.push(hit(snapshot, place, others, end, stored.post, bag, scored)?);
        }
    }
    Ok((hits, end))
}

fn hit(
    snapshot: &Snapshot,
    place: &Place,
    others: &[Place],
    rank: usize,
    post: Post,
    bag: &BagQuery,
    scored: Option<&BagQuery>,
) -> Result<Hit, SearchError> {
    let ranges = snapshot.lexical().highlight(bag, &post.text, post.lang.as_deref());
    let ids = others.iter().filter_map(|other| snapshot.columns().id(other.ordinal).cloned());
    let explanation = if let Some(scored) = scored {
        let terms = snapshot.lexical().explain(scored, place.ordinal)?;
        Some(Box::new(Explanation { terms, parts: place.parts.as_deref().cloned() }))
    } else {
        None
    };
    Ok(Hit {
        rank,
        scores: place.scores,
        highlights: code_points(&post.text, &ranges),
        vector_pending: !snapshot.vectors().contains(PointId(place.ordinal.0)),
        collapsed: Collapsed { count: others.len(), ids: ids.take(COLLAPSED_IDS).collect() },
        explanation,
        post,
    })
}

/// The total and the facets: on a first page of all that matches, later of what is left of it.
fn count(
    snapshot: &Snapshot,
    list: &Frozen,
    bag: &BagQuery,
    fields: Vec<String>,
    first: bool,
) -> Result<(Total, Facets), SearchError> {
    if first && fields.is_empty() {
        return Ok((list.total, Vec::new()));
    }
    let (left, exact) = match &list.matching {
        Matching::These(posts) => (posts & snapshot.live(), list.total.exact),
        Matching::Allowed => (list.pinned.now(snapshot), list.total.exact),
        // The leg itself says what matches: it knows which words are too common to ask.
        Matching::Words { alone } => {
            (snapshot.lexical().matching_any(bag, Some(&list.pinned.now(snapshot)))?, *alone)
        }
    };
    let total = Total { value: left.len(), exact };
    let count = |field: String| {
        let counts = snapshot.facets(&field, &left, FACET_VALUES);
        (field, counts)
    };
    Ok((total, fields.into_iter().map(count).collect()))
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
}
