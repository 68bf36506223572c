//! The page: hits with their posts and highlights, facets, and where the next page begins.

use std::sync::Arc;
use std::time::Instant;

use bowerbird_live::{Allowed, Snapshot};
use bowerbird_posts::Ordinal;
use bowerbird_vector::PointId;
use roaring::RoaringBitmap;

use crate::cursor::{Cursors, Frozen};
use crate::engine::Engine;
use crate::error::SearchError;
use crate::list::Reranked;
use crate::page::{Hit, ResultPage};
use crate::plan::ParsedQuery;
use crate::request::SearchRequest;
use crate::trace::{Stage, Trace};

/// Values counted per facet field.
const FACET_VALUES: usize = 20;

impl Engine {
    /// Cuts the page out of the list and dresses it.
    #[expect(
        clippy::too_many_arguments,
        reason = "the last arrow of the pipeline takes what all others made"
    )]
    pub(crate) async fn page(
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
