//! What the index finds: recall, filters, ties, duplicates, refusals, and searching while inserting.

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use bowerbird_vector::{PointId, SegmentState, VectorConfig, VectorError, VectorIndex};
use common::{clustered, insert_all, normalised, open, random_units, recall};
use proptest::prelude::*;
use roaring::RoaringBitmap;

#[test]
fn codes_with_rescoring_find_what_an_exact_search_finds() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let index = open(dir.path(), 384, VectorConfig::default());
    insert_all(&index, &clustered(6000, 384, 60, 0.7, 1));
    let recall = recall(&index, &clustered(60, 384, 60, 0.7, 2), 10);
    assert!(recall >= 0.99, "recall@10 is {recall}, seeds 1 and 2");
}

#[test]
fn graph_finds_nearly_all_and_serves_what_was_inserted_after_it() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let config = VectorConfig {
        seal_min_points: 1000,
        graph_cost_codes: 0,
        ef_construction: 100,
        ..VectorConfig::default()
    };
    let vectors = clustered(6000, 64, 60, 0.7, 3);
    let queries = clustered(60, 64, 60, 0.7, 4);
    let index = open(dir.path(), 64, config.clone());
    assert!(!index.seal(&RoaringBitmap::new()).expect("sealed").built, "an empty index has no graph");
    insert_all(&index, &vectors);
    assert!(index.wants_seal(&RoaringBitmap::new()));
    let report = index.seal(&RoaringBitmap::new()).expect("sealed");
    assert!(report.built);
    assert_eq!((report.sealed_points, report.flat_records), (6000, 0));
    assert!(!index.wants_seal(&RoaringBitmap::new()));
    let sealed = recall(&index, &queries, 10);
    assert!(sealed >= 0.95, "recall@10 is {sealed}, seeds 3 and 4");

    // New points are scanned flat beside the graph; a replaced point is found by its new vector only.
    let late = random_units(50, 64, 5);
    for (vector, id) in late.iter().zip(10_000..) {
        index.insert(&[(PointId(id), vector)]).expect("inserted");
        assert_eq!(index.search(vector, 1, None).expect("searched")[0].0, PointId(id));
    }
    index.insert(&[(PointId(0), &late[0])]).expect("inserted");
    let found = index.search(&late[0], 2, None).expect("searched");
    assert_eq!(
        found.iter().map(|hit| hit.0.0).collect::<Vec<_>>(),
        [0, 10_000],
        "equal cosines are ordered by id"
    );
    let old = index.search(&vectors[0], 10, None).expect("searched");
    assert!(old.iter().all(|hit| hit.0 != PointId(0)), "the replaced vector still answers");

    drop(index);
    let index = open(dir.path(), 64, config);
    assert_eq!(index.opened().segment, SegmentState::Loaded { points: 6000 });
    let reopened = recall(&index, &queries, 10);
    assert!(reopened >= 0.95, "recall@10 is {reopened} after loading, seeds 3 and 4");

    // Compaction forgets points for good, drops the graph and keeps everything else.
    let live: RoaringBitmap = (0..3000).collect();
    assert_eq!(index.retain(&live).expect("compacted"), 3050);
    assert_eq!((index.len(), index.points()), (3000, live.clone()));
    assert_eq!(index.retain(&live).expect("compacted"), 0);
    assert!((recall(&index, &queries, 10) - 1.0).abs() < 0.01);
    assert_eq!(index.vector(PointId(0)).expect("read"), Some(late[0].clone()));
    let index = {
        drop(index);
        open(dir.path(), 64, VectorConfig::default())
    };
    assert_eq!((index.len(), &index.opened().segment), (3000, &SegmentState::Absent));
}

#[test]
fn what_has_no_direction_or_the_wrong_size_is_refused_and_leaves_no_trace() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let index = open(dir.path(), 3, VectorConfig::default());
    let good = [1.0, 0.0, 0.0];
    let refuse = |bad: &[f32]| {
        let inserted = index.insert(&[(PointId(1), &good), (PointId(2), bad)]).expect_err("refused");
        assert_eq!(index.len(), 0, "a refused batch leaves nothing");
        assert!(index.search(bad, 1, None).is_err());
        assert!(index.search_exact(bad, 1, None).is_err());
        assert!(index.score(bad, &[]).is_err());
        inserted
    };
    assert!(matches!(refuse(&[f32::NAN, 0.0, 0.0]), VectorError::NotFinite { component: 0 }));
    assert!(matches!(refuse(&[1.0, 0.0, f32::INFINITY]), VectorError::NotFinite { component: 2 }));
    assert!(matches!(refuse(&[1.0, 0.0]), VectorError::DimensionMismatch { expected: 3, found: 2 }));
    assert!(matches!(refuse(&[]), VectorError::DimensionMismatch { expected: 3, found: 0 }));
    assert!(matches!(refuse(&[0.0, 0.0, 0.0]), VectorError::NotUnit { .. }));
    assert!(matches!(refuse(&[1.0, 1.0, 0.0]), VectorError::NotUnit { .. }));
    assert!(matches!(refuse(&[f32::MAX, 0.0, 0.0]), VectorError::NotUnit { .. }));
    index.insert(&[(PointId(1), &good)]).expect("inserted");
    assert_eq!(index.score(&good, &[PointId(9), PointId(1)]).expect("scored")[0], None);
    assert_eq!(index.vector(PointId(9)).expect("read"), None);
    assert!(index.search(&good, 0, None).expect("searched").is_empty());
    assert!(index.search(&good, 5, Some(&RoaringBitmap::new())).expect("searched").is_empty());
}

#[test]
fn searches_see_whole_batches_while_others_insert() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let index = open(
        dir.path(),
        32,
        VectorConfig { seal_min_points: 500, graph_cost_codes: 0, ..VectorConfig::default() },
    );
    let vectors = random_units(3000, 32, 21);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|reader| {
                let (index, vectors, done) = (&index, &vectors, &done);
                scope.spawn(move || {
                    let mut searches = 0;
                    while !done.load(Ordering::Acquire) || searches == 0 {
                        let present = index.len();
                        if let Some(last) = present.checked_sub(1 + reader) {
                            let found = index.search(&vectors[last], 1, None).expect("searched");
                            assert_eq!(
                                found[0].0,
                                PointId(last as u32),
                                "an inserted point is found at once"
                            );
                        }
                        searches += 1;
                    }
                    searches
                })
            })
            .collect();
        let sealer = scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                index.seal(&RoaringBitmap::new()).expect("sealed");
            }
        });
        for (batch_at, chunk) in vectors.chunks(7).enumerate() {
            let first = (batch_at * 7) as u32;
            let batch: Vec<_> =
                chunk.iter().zip(first..).map(|(v, id)| (PointId(id), v.as_slice())).collect();
            index.insert(&batch).expect("inserted");
        }
        done.store(true, Ordering::Release);
        sealer.join().expect("no panic");
        assert!(readers.into_iter().map(|reader| reader.join().expect("no panic")).sum::<usize>() >= 2);
    });
    assert_eq!(index.len(), 3000);
}

/// Exact answer over plain vectors, in double precision, with the tolerance that summing in floats needs.
fn naive(
    vectors: &BTreeMap<u32, Vec<f32>>,
    query: &[f32],
    allowed: Option<&RoaringBitmap>,
) -> Vec<(u32, f64)> {
    let mut scored: Vec<(u32, f64)> = vectors
        .iter()
        .filter(|(id, _)| allowed.is_none_or(|allowed| allowed.contains(**id)))
        .map(|(id, v)| (*id, v.iter().zip(query).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()))
        .collect();
    scored.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    scored
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// With every candidate rescored, a filtered search is a naive scan, whatever was inserted twice, sealed,
    /// reopened or compacted.
    #[test]
    fn filtered_search_equals_a_naive_scan(
        points in prop::collection::vec((0u32..400, prop::collection::vec(-1.0f32..1.0, 8)), 1..300),
        allowed in prop::option::of(prop::collection::btree_set(0u32..400, 0..400)),
        query in prop::collection::vec(-1.0f32..1.0, 8),
        k in 1usize..40,
        steps in 0usize..4,
    ) {
        let usable = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>() > 0.01;
        prop_assume!(usable(&query) && points.iter().all(|(_, v)| usable(v)));
        let query = normalised(query);
        let dir = tempfile::tempdir().expect("temporary directory");
        let config = VectorConfig { rescore: 1000, seal_min_points: 1, graph_cost_codes: 0, ..VectorConfig::default() };
        let mut index = open(dir.path(), 8, config.clone());
        let mut expected = BTreeMap::new();
        for (at, (id, vector)) in points.iter().enumerate() {
            let vector = normalised(vector.clone());
            index.insert(&[(PointId(*id), &vector)]).expect("inserted");
            expected.insert(*id, vector);
            if at == points.len() / 2 && steps >= 1 {
                index.seal(&RoaringBitmap::new()).expect("sealed");
            }
        }
        if steps >= 2 {
            let live: RoaringBitmap = expected.keys().copied().filter(|id| id % 5 != 0).collect();
            let before = expected.len();
            expected.retain(|id, _| live.contains(*id));
            prop_assert_eq!(index.retain(&live).expect("compacted"), before - expected.len());
        }
        if steps >= 3 {
            drop(index);
            index = open(dir.path(), 8, config);
        }
        let allowed: Option<RoaringBitmap> = allowed.map(|ids| ids.into_iter().collect());
        let naive = naive(&expected, &query, allowed.as_ref());
        let exact = index.search_exact(&query, k, allowed.as_ref()).expect("searched");
        let found = index.search(&query, k, allowed.as_ref()).expect("searched");
        prop_assert_eq!(&found, &exact);
        prop_assert_eq!(found.len(), k.min(naive.len()));
        for ((id, cosine), (_, expected_cosine)) in found.iter().zip(&naive) {
            prop_assert!((f64::from(cosine.get()) - expected_cosine).abs() < 1e-6);
            let vector = index.vector(*id).expect("read");
            prop_assert_eq!(vector.as_ref(), expected.get(&id.0));
            prop_assert!(allowed.as_ref().is_none_or(|allowed| allowed.contains(id.0)));
        }
        let ids: Vec<PointId> = (0..400).map(PointId).collect();
        for (id, score) in ids.iter().zip(index.score(&query, &ids).expect("scored")) {
            prop_assert_eq!(score.is_some(), expected.contains_key(&id.0));
            prop_assert_eq!(index.contains(*id), expected.contains_key(&id.0));
        }
    }
}

#[test]
fn settings_that_the_graph_library_would_end_the_process_on_are_refused() {
    let dir = tempfile::tempdir().expect("temporary directory");
    for config in [
        VectorConfig { m: 300, ..VectorConfig::default() },
        VectorConfig { ef_construction: 0, ..VectorConfig::default() },
        VectorConfig { threads: 0, ..VectorConfig::default() },
    ] {
        let opened = VectorIndex::open(dir.path(), "s", 4, config);
        assert!(matches!(opened, Err(VectorError::Config { .. })));
    }
    for (space, dim) in [("s", 0), ("s", 1 << 20), ("", 4)] {
        let opened = VectorIndex::open(dir.path(), space, dim, VectorConfig::default());
        assert!(matches!(opened, Err(VectorError::Config { .. })));
    }
}
