//! The same queries in both generations, and every post of the store looked up in the new one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use bowerbird_live::{Building, GenerationShard, Live, Snapshot};
use bowerbird_posts::Ordinal;
use bowerbird_search::measure::{latency, quality};
use bowerbird_search::{Engine, SearchRequest};
use serde::{Deserialize, Serialize};

use crate::ReindexError;
use crate::plan::{Require, ShadowQuery, ShadowSource};

/// Ordinals of a shard.
const SHARD: u32 = 1 << 16;
/// Queries drawn when none are given.
const SAMPLE: usize = 200;
/// Words of a post that make a query.
const SAMPLE_WORDS: usize = 6;

/// One generation in a comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Its number.
    pub generation: u32,
    /// Mean nDCG@10 over the judged queries; absent when none is judged.
    pub ndcg_at_10: Option<f64>,
    /// Median latency, in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile of the latency, in milliseconds.
    pub p99_ms: f64,
    /// Queries that got an error, or an answer without one of the two retrievals.
    pub failed: usize,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Shadow queries.
    pub queries: usize,
    /// Where they came from.
    pub source: ShadowSource,
    /// Those with judged posts.
    pub judged: usize,
    /// Mean share of the first ten hits that both have; over the queries that have hits.
    pub overlap_at_10: f64,
    /// The generation that serves.
    pub old: Side,
    /// The generation that was built.
    pub new: Side,
    /// Live posts of the post store, less the newest that were still to be embedded.
    pub posts: u64,
    /// Those in its lexical index.
    pub lexical: u64,
    /// Those with a vector.
    pub vectors: u64,
    /// Those whose text the embedder refuses.
    pub refused: u64,
    /// Shards of 65,536 ordinals.
    pub shards: usize,
    /// First ordinals of the shards that differ from the post store, the first hundred.
    pub shards_that_differ: Vec<u32>,
    /// CRC-32 over the checksums of all shards of the post store.
    pub crc32: u32,
}

impl Comparison {
    /// What stands in the way of taking over.
    pub fn reasons(&self, require: &Require) -> Vec<String> {
        let mut reasons = Vec::new();
        if !self.shards_that_differ.is_empty() {
            reasons.push(format!(
                "{} of {} shards differ from the post store, the first from ordinal {}",
                self.shards_that_differ.len(),
                self.shards,
                self.shards_that_differ[0]
            ));
        }
        if self.new.failed > self.old.failed {
            reasons.push(format!("{} shadow queries failed, {} before", self.new.failed, self.old.failed));
        }
        if let Some(least) = require.overlap.filter(|least| self.overlap_at_10 < *least) {
            reasons.push(format!("overlap is {:.3}, required {least}", self.overlap_at_10));
        }
        if let Some(most) = require.ndcg_drop {
            match (self.old.ndcg_at_10, self.new.ndcg_at_10) {
                (Some(old), Some(new)) if old - new <= most => {}
                (Some(old), Some(new)) => {
                    reasons
                        .push(format!("nDCG@10 falls from {old:.4} to {new:.4}, at most {most} is allowed"));
                }
                _ => reasons.push("nDCG@10 is unknown: no query is judged".into()),
            }
        }
        if let Some(most) = require.p99_ratio.filter(|most| self.new.p99_ms > most * self.old.p99_ms) {
            reasons.push(format!(
                "p99 is {:.1} ms, {:.1} ms before: more than {most} times",
                self.new.p99_ms, self.old.p99_ms
            ));
        }
        reasons
    }
}

/// Compares the generation that serves with `building`. `go_on` is asked between queries.
pub(crate) async fn compare(
    live: &Live,
    engine: &Engine,
    building: &Building,
    (queries, source): (&[ShadowQuery], ShadowSource),
    go_on: &(dyn Fn() -> bool + Sync),
) -> Result<Comparison, ReindexError> {
    let snapshots = [Arc::new(live.snapshot()), Arc::new(building.snapshot())];
    let mut sides = snapshots.each_ref().map(|snapshot| Measured::new(snapshot.generation()));
    let (mut overlap, mut with_hits) = (0.0, 0usize);
    for (at, query) in queries.iter().enumerate() {
        if !go_on() {
            return Err(ReindexError::Stopped);
        }
        // The second to answer finds scores that the first computed: they take turns.
        let order = if at % 2 == 0 { [0, 1] } else { [1, 0] };
        let mut found = [Vec::new(), Vec::new()];
        for side in order {
            found[side] = sides[side].ask(engine, &snapshots[side], query).await;
        }
        let [old, new] = found.map(|ids| ids.into_iter().collect::<BTreeSet<String>>());
        let most = old.len().max(new.len());
        if most > 0 {
            overlap += old.intersection(&new).count() as f64 / most as f64;
            with_hits += 1;
        }
    }
    let shards = building.shards(SHARD, building.level())?;
    let sum = |count: fn(&GenerationShard) -> u64| shards.iter().map(count).sum();
    let crc: Vec<u8> = shards.iter().flat_map(|shard| shard.store_crc32.to_le_bytes()).collect();
    let differ = shards.iter().filter(|shard| !shard.agrees()).map(|shard| shard.from);
    let [old, new] = sides.map(Measured::finish);
    Ok(Comparison {
        queries: queries.len(),
        source,
        judged: queries.iter().filter(|query| is_judged(query)).count(),
        overlap_at_10: if with_hits > 0 { overlap / with_hits as f64 } else { 1.0 },
        old,
        new,
        posts: sum(|shard| shard.posts),
        lexical: sum(|shard| shard.lexical),
        vectors: sum(|shard| shard.vectors),
        refused: sum(|shard| shard.refused),
        shards: shards.len(),
        shards_that_differ: differ.take(100).collect(),
        crc32: crc32fast::hash(&crc),
    })
}

fn is_judged(query: &ShadowQuery) -> bool {
    query.relevant.values().any(|grade| *grade >= 1.0)
}

struct Measured {
    generation: u32,
    ms: Vec<f64>,
    ndcg: Vec<f64>,
    failed: usize,
}

impl Measured {
    fn new(generation: u32) -> Self {
        Self { generation, ms: Vec::new(), ndcg: Vec::new(), failed: 0 }
    }

    /// Ids of the first ten hits.
    async fn ask(&mut self, engine: &Engine, snapshot: &Arc<Snapshot>, query: &ShadowQuery) -> Vec<String> {
        let request = SearchRequest::new(query.q.clone());
        let begun = Instant::now();
        let page = engine.search_in(&request, Arc::clone(snapshot)).await;
        self.ms.push(begun.elapsed().as_secs_f64() * 1000.0);
        let ids: Vec<String> = match page {
            Ok(page) => {
                let lost = page.degraded.iter().any(|stage| stage.is_retrieval());
                self.failed += usize::from(lost);
                page.hits.iter().map(|hit| hit.post.id.as_str().to_owned()).collect()
            }
            Err(error) => {
                tracing::warn!(generation = self.generation, %error, "a shadow query failed");
                self.failed += 1;
                Vec::new()
            }
        };
        if is_judged(query) {
            self.ndcg.push(quality(&ids, &query.relevant).ndcg_10);
        }
        ids
    }

    fn finish(self) -> Side {
        let times = latency(self.ms);
        let judged = self.ndcg.len();
        Side {
            generation: self.generation,
            ndcg_at_10: (judged > 0).then(|| self.ndcg.iter().sum::<f64>() / judged as f64),
            p50_ms: times.p50,
            p99_ms: times.p99,
            failed: self.failed,
        }
    }
}

/// The first words of posts spread over the whole store, as queries.
pub(crate) fn from_posts(live: &Live) -> Result<Vec<ShadowQuery>, ReindexError> {
    let snapshot = live.snapshot();
    let posts = snapshot.live();
    let step = (posts.len() / SAMPLE as u64).max(1);
    let ordinals = posts.iter().step_by(usize::try_from(step).unwrap_or(usize::MAX)).take(SAMPLE);
    let ordinals: Vec<Ordinal> = ordinals.map(Ordinal).collect();
    let found = snapshot.posts(&ordinals)?;
    let words = |text: &str| {
        let plain = text.split_whitespace().filter(|word| word.chars().all(char::is_alphanumeric));
        plain.take(SAMPLE_WORDS).collect::<Vec<_>>().join(" ")
    };
    let queries = found.into_iter().flatten().map(|stored| words(&stored.post.text));
    Ok(queries.filter(|q| !q.is_empty()).map(|q| ShadowQuery { q, relevant: BTreeMap::new() }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_hold_is_a_reason_each() {
        let side =
            |generation, ndcg_at_10, p99_ms| Side { generation, ndcg_at_10, p99_ms, ..Side::default() };
        let sound = Comparison {
            queries: 10,
            source: ShadowSource::Given,
            judged: 10,
            overlap_at_10: 0.6,
            old: side(1, Some(0.5), 20.0),
            new: side(2, Some(0.49), 30.0),
            posts: 9,
            lexical: 9,
            vectors: 9,
            refused: 0,
            shards: 1,
            shards_that_differ: Vec::new(),
            crc32: 1,
        };
        let all = Require { overlap: Some(0.6), ndcg_drop: Some(0.02), p99_ratio: Some(1.5) };
        assert_eq!(sound.reasons(&all), Vec::<String>::new());
        assert_eq!(sound.reasons(&Require { overlap: Some(0.61), ..all }).len(), 1);
        assert_eq!(sound.reasons(&Require { ndcg_drop: Some(0.0), ..all }).len(), 1);
        assert_eq!(sound.reasons(&Require { p99_ratio: Some(1.4), ..all }).len(), 1);
        let differs = Comparison { shards_that_differ: vec![65536], ..sound.clone() };
        assert!(differs.reasons(&Require::default())[0].contains("ordinal 65536"));
        let mut failing = sound.clone();
        failing.new.failed = 1;
        assert_eq!(failing.reasons(&Require::default()).len(), 1);
        let unjudged = Comparison { new: side(2, None, 30.0), ..sound };
        assert!(unjudged.reasons(&all)[0].contains("no query is judged"));
    }
}
