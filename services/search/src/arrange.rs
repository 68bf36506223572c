//! What happens to a ranked list before it is cut into pages: near-duplicates fold into the best of them, an author
//! has at most so many hits, and the first hits differ from each other.
//!
//! Every hit is held against all hits before it, so that each rule holds over the whole list and on every page.

use std::collections::HashMap;
use std::sync::Arc;

use bowerbird_live::Snapshot;
use bowerbird_posts::Ordinal;
use bowerbird_vector::PointId;
use moka::sync::Cache;

use crate::diversity::{WINDOW, mmr};
use crate::engine::Engine;
use crate::error::SearchError;
use crate::explain::{MAX_REMOVED, Removed, RemovedFor};
use crate::list::{Place, note_ranks};
use crate::request::{Collapse, Ranking};
use crate::similar::{Near, Shape};

/// Most hits of a list whose near-duplicates are folded: every text of it is read.
pub(crate) const MAX_COLLAPSED: usize = 2000;
/// Most near-duplicates that a hit carries; more are folded, and counted by nobody.
const MAX_FOLDED: usize = 100;

/// The rules of one list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rules {
    pub collapse: Collapse,
    pub max_per_author: Option<usize>,
}

/// What the rules left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LeftOut {
    pub near_duplicates: usize,
    pub author_limit: usize,
    pub named: Vec<Removed>,
}

/// Shapes of recent texts by ordinal: the text of an ordinal never changes.
#[derive(Clone)]
pub(crate) struct Shapes(Cache<u32, Arc<Shape>>);

impl Shapes {
    /// Keeps up to `bytes`.
    pub fn new(bytes: u64) -> Self {
        let weigh = |_: &u32, shape: &Arc<Shape>| u32::try_from(shape.bytes()).unwrap_or(u32::MAX);
        Self(Cache::builder().max_capacity(bytes).weigher(weigh).build())
    }

    /// The shape of each of `ordinals`; none for a post that is gone.
    fn of(&self, snapshot: &Snapshot, ordinals: &[Ordinal]) -> Result<Vec<Option<Arc<Shape>>>, SearchError> {
        let mut shapes: Vec<Option<Arc<Shape>>> = ordinals.iter().map(|o| self.0.get(&o.0)).collect();
        let missing: Vec<usize> = (0..shapes.len()).filter(|at| shapes[*at].is_none()).collect();
        let read: Vec<Ordinal> = missing.iter().map(|at| ordinals[*at]).collect();
        for (at, stored) in missing.into_iter().zip(snapshot.posts(&read)?) {
            if let Some(stored) = stored {
                let shape = Arc::new(Shape::of(&stored.post.text));
                self.0.insert(ordinals[at].0, shape.clone());
                shapes[at] = Some(shape);
            }
        }
        Ok(shapes)
    }
}

/// Applies the rules to the parts of one list, one after the other.
pub(crate) struct Arranger<'a> {
    snapshot: &'a Snapshot,
    shapes: &'a Shapes,
    rules: Rules,
    near: Near,
    /// Number of a shape in `near` to the ordinal of its hit.
    kept: Vec<Ordinal>,
    authors: HashMap<String, usize>,
    /// What was left out so far.
    pub left_out: LeftOut,
}

impl<'a> Arranger<'a> {
    pub fn new(snapshot: &'a Snapshot, shapes: &'a Shapes, rules: Rules) -> Self {
        Self {
            snapshot,
            shapes,
            rules,
            near: Near::default(),
            kept: Vec::new(),
            authors: HashMap::new(),
            left_out: LeftOut::default(),
        }
    }

    /// The hits of `places` that stay, in their order. Near-duplicates of a hit of this call fold into it; those of
    /// an earlier part are left out.
    ///
    /// A post whose author is not known (no name) is not counted to an author.
    pub fn admit(&mut self, places: Vec<Place>) -> Result<Vec<Place>, SearchError> {
        let collapse = self.rules.collapse == Collapse::NearDuplicates;
        if !collapse && self.rules.max_per_author.is_none() {
            return Ok(places);
        }
        let ordinals: Vec<Ordinal> = places.iter().map(|place| place.ordinal).collect();
        let shapes =
            if collapse { self.shapes.of(self.snapshot, &ordinals)? } else { vec![None; ordinals.len()] };
        let mut hits: Vec<Place> = Vec::with_capacity(places.len());
        // Where in `hits` an ordinal of this call is.
        let mut at: HashMap<Ordinal, usize> = HashMap::new();
        for (place, shape) in places.into_iter().zip(shapes) {
            if let Some(best) = shape.as_ref().and_then(|shape| self.near.find(shape)) {
                let best = self.kept[best];
                self.left_out.near_duplicates += 1;
                self.name(place.ordinal, Some(best));
                if let Some(hit) = at.get(&best).map(|at| &mut hits[*at])
                    && hit.folded.len() < MAX_FOLDED
                {
                    hit.folded.push(place);
                }
                continue;
            }
            if let Some(most) = self.rules.max_per_author {
                let author = self.snapshot.columns().author(place.ordinal).to_lowercase();
                if !author.is_empty() {
                    let count = self.authors.entry(author).or_default();
                    if *count >= most {
                        self.left_out.author_limit += 1;
                        self.name(place.ordinal, None);
                        continue;
                    }
                    *count += 1;
                }
            }
            if let Some(shape) = shape {
                self.near.push(shape);
                self.kept.push(place.ordinal);
            }
            at.insert(place.ordinal, hits.len());
            hits.push(place);
        }
        Ok(hits)
    }

    fn name(&mut self, removed: Ordinal, duplicate_of: Option<Ordinal>) {
        if self.left_out.named.len() == MAX_REMOVED {
            return;
        }
        let columns = self.snapshot.columns();
        let why = match duplicate_of {
            Some(best) => columns.id(best).cloned().map(RemovedFor::NearDuplicateOf),
            None => Some(RemovedFor::AuthorLimit),
        };
        if let (Some(id), Some(why)) = (columns.id(removed).cloned(), why) {
            self.left_out.named.push(Removed { id, why });
        }
    }
}

impl Engine {
    /// Folds, limits and diversifies; what is left, and what was left out.
    pub(crate) async fn arrange(
        &self,
        places: Vec<Place>,
        ranking: Ranking,
        snapshot: &Arc<Snapshot>,
    ) -> Result<(Vec<Place>, LeftOut), SearchError> {
        let (snapshot, shapes) = (snapshot.clone(), self.shapes.clone());
        self.pool
            .run(move || {
                let mut arranger = Arranger::new(&snapshot, &shapes, ranking.rules);
                let mut places = arranger.admit(places)?;
                note_ranks(&mut places, |ranks, rank| ranks.collapsed = rank);
                let mut places = diversify(places, &snapshot, ranking.diversity)?;
                note_ranks(&mut places, |ranks, rank| ranks.diverse = rank);
                Ok((places, arranger.left_out))
            })
            .await?
    }
}

/// Orders the first hits by relevance and unlikeness; see [`crate::diversity`].
pub(crate) fn diversify(
    places: Vec<Place>,
    snapshot: &Snapshot,
    diversity: f32,
) -> Result<Vec<Place>, SearchError> {
    if diversity <= 0.0 || places.len() < 3 {
        return Ok(places);
    }
    let relevance: Vec<f32> = places.iter().map(|place| place.scores.r#final).collect();
    let window = &places[..places.len().min(WINDOW)];
    let read = |place: &Place| snapshot.vectors().vector(PointId(place.ordinal.0));
    let vectors = window.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let order = mmr(&relevance, &vectors, diversity);
    let mut places: Vec<Option<Place>> = places.into_iter().map(Some).collect();
    Ok(order.into_iter().filter_map(|at| places[at].take()).collect())
}
