//! What every engine must do, whatever it is made of. Damage to its files is in `durability.rs`.

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use bowerbird_vector::{Engine, PointId, VectorConfig, VectorError, VectorIndex};
use common::{clustered, insert_all, normalised, open, random_units, recall};
use proptest::prelude::*;
use roaring::RoaringBitmap;

const DIM: usize = 48;

/// Always through the engine: no cost keeps a query from it.
fn config(engine: Engine) -> VectorConfig {
    VectorConfig {
        engine,
        seal_min_points: 64,
        graph_cost_codes: 0,
        ef_construction: 100,
        ..VectorConfig::default()
    }
}

fn sealed(dir: &Path, engine: Engine, vectors: &[Vec<f32>]) -> VectorIndex {
    let index = open(dir, vectors[0].len(), config(engine));
    insert_all(&index, vectors);
    assert!(index.wants_seal(&RoaringBitmap::new()), "{engine:?}");
    let report = index.seal(&RoaringBitmap::new()).expect("sealed");
    assert_eq!(
        (report.built, report.sealed_points, report.flat_records),
        (true, vectors.len(), 0),
        "{engine:?}"
    );
    assert!(!index.wants_seal(&RoaringBitmap::new()), "{engine:?}");
    index
}

fn ids(found: &[(PointId, bowerbird_vector::Cosine)]) -> Vec<u32> {
    found.iter().map(|hit| hit.0.0).collect()
}

#[test]
fn finds_what_is_there_before_and_after_reopening() {
    let vectors = clustered(5000, DIM, 60, 0.7, 51);
    let queries = clustered(60, DIM, 60, 0.7, 52);
    for engine in Engine::all() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let index = sealed(dir.path(), engine, &vectors);
        for index in [index, open(dir.path(), DIM, config(engine))] {
            let recall = recall(&index, &queries, 10);
            assert!(recall >= 0.97, "{engine:?}: recall@10 is {recall}, seeds 51 and 52");
            assert!(index.memory().mapped >= 5000 * DIM, "{engine:?}: {:?}", index.memory());
        }
    }
}

#[test]
fn replaced_deleted_and_new_points_are_seen_at_once() {
    let vectors = clustered(1000, DIM, 20, 0.7, 53);
    for engine in Engine::all() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let index = sealed(dir.path(), engine, &vectors);
        let fresh = random_units(3, DIM, 54);
        // Point 5 moves, twice in one batch; its old code stays in the segment and must not answer.
        index.insert(&[(PointId(5), &fresh[0]), (PointId(5), &fresh[1])]).expect("inserted");
        index.insert(&[(PointId(7000), &fresh[2])]).expect("inserted");
        assert!(!ids(&index.search(&vectors[5], 20, None).expect("searched")).contains(&5), "{engine:?}");
        assert_ne!(ids(&index.search(&fresh[0], 1, None).expect("searched")), [5], "{engine:?}");
        assert_eq!(ids(&index.search(&fresh[1], 1, None).expect("searched")), [5], "{engine:?}");
        assert_eq!(ids(&index.search(&fresh[2], 1, None).expect("searched")), [7000], "{engine:?}");
        // Deleted points are those the caller leaves out.
        let allowed: RoaringBitmap = (0..1000).filter(|id| id % 2 == 0).collect();
        let found = index.search(&vectors[9], 1000, Some(&allowed)).expect("searched");
        assert_eq!(
            ids(&found).into_iter().collect::<RoaringBitmap>(),
            allowed,
            "{engine:?}: all of them, once"
        );
        drop(index);
        let index = open(dir.path(), DIM, config(engine));
        assert_eq!(ids(&index.search(&fresh[1], 1, None).expect("searched")), [5], "{engine:?}");
        assert_eq!(index.len(), 1001);
    }
}

#[test]
fn filters_of_any_width_give_the_best_of_what_they_allow() {
    let vectors = clustered(4000, DIM, 40, 0.7, 55);
    let queries = clustered(30, DIM, 40, 0.7, 56);
    for engine in Engine::all() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let index = sealed(dir.path(), engine, &vectors);
        for step in [1u32, 2, 10, 100, 1000] {
            let allowed: RoaringBitmap = (0..4000).filter(|id| id % step == 0).collect();
            let (mut hits, mut wanted) = (0, 0);
            for query in &queries {
                let exact = index.search_exact(query, 10, Some(&allowed)).expect("searched");
                let found = index.search(query, 10, Some(&allowed)).expect("searched");
                assert_eq!(found.len(), exact.len(), "{engine:?}, one in {step}");
                assert!(ids(&found).iter().all(|id| allowed.contains(*id)), "{engine:?}, one in {step}");
                hits += found.iter().filter(|hit| exact.contains(hit)).count();
                wanted += exact.len();
            }
            let recall = hits as f64 / f64::from(wanted as u32);
            assert!(recall >= 0.95, "{engine:?}, one in {step}: recall@10 is {recall}, seeds 55 and 56");
        }
        // Nothing allowed, only points that are not there, more than there are.
        let query = &queries[0];
        let absent: RoaringBitmap = (9000..9100).collect();
        assert!(index.search(query, 10, Some(&RoaringBitmap::new())).expect("searched").is_empty());
        assert!(index.search(query, 10, Some(&absent)).expect("searched").is_empty());
        assert_eq!(index.search(query, 10_000, None).expect("searched").len(), 4000, "{engine:?}");
        assert!(index.search(query, 0, None).expect("searched").is_empty());
    }
}

#[test]
fn bad_vectors_are_refused_before_an_engine_sees_them() {
    let vectors = random_units(200, 3, 57);
    for engine in Engine::all() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let index = sealed(dir.path(), engine, &vectors);
        let check = |bad: &[f32]| {
            let inserted = index.insert(&[(PointId(900), bad)]).expect_err("refused");
            let searched = index.search(bad, 1, None).expect_err("refused");
            assert_eq!(inserted.to_string(), searched.to_string(), "{engine:?}");
            assert!(!index.contains(PointId(900)));
            inserted
        };
        assert!(matches!(check(&[f32::NAN, 0.0, 0.0]), VectorError::NotFinite { component: 0 }));
        assert!(matches!(check(&[0.0, f32::NEG_INFINITY, 0.0]), VectorError::NotFinite { component: 1 }));
        assert!(matches!(check(&[1.0, 0.0]), VectorError::DimensionMismatch { expected: 3, found: 2 }));
        assert!(matches!(check(&[]), VectorError::DimensionMismatch { expected: 3, found: 0 }));
        assert!(matches!(check(&[2.0, 0.0, 0.0]), VectorError::NotUnit { .. }));
        assert!(matches!(check(&[0.0; 3]), VectorError::NotUnit { .. }));
    }
}

#[test]
fn dead_points_leave_the_segment_past_a_share_and_stay_away_after_reopening() {
    let vectors = clustered(1000, DIM, 20, 0.7, 58);
    for engine in Engine::all() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let index = sealed(dir.path(), engine, &vectors);
        let some: RoaringBitmap = (0..150).collect();
        assert!(!index.wants_seal(&some), "{engine:?}: 15 % is not enough");
        let many: RoaringBitmap = (0..250).collect();
        assert!(index.wants_seal(&many), "{engine:?}: 25 % is");
        let before = index.memory();
        let report = index.seal(&many).expect("sealed");
        assert_eq!((report.built, report.extended, report.sealed_points), (true, false, 750), "{engine:?}");
        assert!(index.memory().mapped < before.mapped, "{engine:?}");
        assert!(!index.wants_seal(&many), "{engine:?}");
        assert_eq!((index.len(), index.records()), (750, 1000), "the log keeps them");
        for index in [index, open(dir.path(), DIM, config(engine))] {
            let found = index.search(&vectors[3], 1000, None).expect("searched");
            assert_eq!(
                ids(&found).into_iter().collect::<RoaringBitmap>(),
                (250..1000).collect(),
                "{engine:?}"
            );
            assert!(!index.contains(PointId(3)) && index.contains(PointId(300)));
        }
        let index = open(dir.path(), DIM, config(engine));
        assert_eq!(index.retain(&(250..1000).collect()).expect("compacted"), 0, "no point was forgotten");
        assert_eq!((index.len(), index.records()), (750, 750));
    }
}

#[test]
fn superseded_points_leave_the_segment_too() {
    let vectors = random_units(400, DIM, 59);
    let moved = random_units(150, DIM, 60);
    for engine in Engine::all() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let index = sealed(dir.path(), engine, &vectors);
        insert_all(&index, &moved);
        assert!(index.wants_seal(&RoaringBitmap::new()), "{engine:?}");
        let report = index.seal(&RoaringBitmap::new()).expect("sealed");
        assert_eq!((report.sealed_points, report.extended, index.records()), (400, false, 550), "{engine:?}");
        assert_eq!(ids(&index.search(&moved[9], 1, None).expect("searched")), [9], "{engine:?}");
        assert!(!index.wants_seal(&RoaringBitmap::new()), "{engine:?}");
    }
}

#[test]
fn our_graph_is_extended_and_keeps_its_recall() {
    let vectors = clustered(6000, DIM, 60, 0.7, 61);
    let queries = clustered(60, DIM, 60, 0.7, 62);
    let dir = tempfile::tempdir().expect("temporary directory");
    let index = sealed(dir.path(), Engine::Graph, &vectors[..2000]);
    let dead: RoaringBitmap = (0..100).collect();
    for (round, chunk) in vectors[2000..].chunks(1000).enumerate() {
        let first = 2000 + 1000 * round as u32;
        let batch: Vec<_> = chunk.iter().zip(first..).map(|(v, id)| (PointId(id), v.as_slice())).collect();
        index.insert(&batch).expect("inserted");
        assert!(index.wants_seal(&dead));
        let report = index.seal(&dead).expect("sealed");
        assert_eq!((report.built, report.extended, report.flat_records), (true, true, 0), "round {round}");
        assert_eq!(report.sealed_points, first as usize + 1000 - 100);
    }
    for index in [index, open(dir.path(), DIM, config(Engine::Graph))] {
        let recall = recall(&index, &queries, 10);
        assert!(recall >= 0.97, "recall@10 is {recall}, seeds 61 and 62");
        assert!(!index.contains(PointId(50)));
        assert!(ids(&index.search(&vectors[50], 100, None).expect("searched")).iter().all(|id| *id >= 100));
    }
    // Another engine builds its own from the same log.
    let index = open(dir.path(), DIM, config(Engine::Flat));
    assert!(index.wants_seal(&dead), "the engine was changed");
    assert!(!index.seal(&dead).expect("sealed").extended);
    assert!(!index.wants_seal(&dead));
}

#[test]
fn equal_posts_do_not_cut_the_graph_apart() {
    // Half of the points are the same three vectors, as reposts are.
    let mut vectors = clustered(3000, DIM, 30, 0.7, 63);
    let repeated = clustered(3, DIM, 30, 0.7, 64);
    for at in 0..3000 {
        vectors.insert(2 * at, repeated[at % 3].clone());
    }
    let queries = clustered(60, DIM, 30, 0.7, 65);
    for engine in [Engine::Graph, Engine::Flat] {
        let dir = tempfile::tempdir().expect("temporary directory");
        let index = sealed(dir.path(), engine, &vectors);
        let mut near = 0;
        for query in &queries {
            let exact = index.search_exact(query, 10, None).expect("searched");
            let found = index.search(query, 10, None).expect("searched");
            assert_eq!(ids(&found).into_iter().collect::<BTreeSet<_>>().len(), 10, "each point once");
            // Equal points are equally good, so what counts is the cosine.
            let last = exact[9].1.get();
            near += found.iter().filter(|hit| hit.1.get() >= last).count();
        }
        assert!(near >= 582, "{engine:?}: {near} of 600 are as near as the tenth, seeds 63 to 65");
        for (at, vector) in repeated.iter().enumerate() {
            let found = index.search(vector, 500, None).expect("searched");
            let equal = found.iter().filter(|hit| ids(&[**hit])[0] as usize / 2 % 3 == at).count();
            assert!(equal >= 490, "{engine:?}: {equal} of 500 reposts found");
        }
    }
}

#[test]
fn sealing_can_be_stopped_and_leaves_nothing_behind() {
    for engine in Engine::all() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let index = open(dir.path(), 384, VectorConfig { threads: 1, ..config(engine) });
        insert_all(&index, &random_units(20_000, 384, 66));
        std::thread::scope(|scope| {
            let sealing = scope.spawn(|| index.seal(&RoaringBitmap::new()).expect("no failure"));
            std::thread::sleep(Duration::from_millis(30));
            index.stop_sealing();
            let report = sealing.join().expect("no panic");
            // Whether it was done before is chance; either way nothing stays half done.
            assert_eq!(report.built, dir.path().join("segment").exists(), "{engine:?}");
        });
        assert!(!dir.path().join("segment.tmp").exists(), "{engine:?}");
        assert!(!index.wants_seal(&RoaringBitmap::new()));
        assert_eq!(index.search(&random_units(1, 384, 66)[0], 5, None).expect("searched").len(), 5);
    }
}

#[test]
fn one_thread_builds_the_same_graph_from_the_same_points() {
    let vectors = clustered(1500, DIM, 20, 0.7, 67);
    let files = [0, 1].map(|_| {
        let dir = tempfile::tempdir().expect("temporary directory");
        let index = open(dir.path(), DIM, VectorConfig { threads: 1, ..config(Engine::Graph) });
        insert_all(&index, &vectors);
        index.seal(&RoaringBitmap::new()).expect("sealed");
        std::fs::read(dir.path().join("segment/links")).expect("read")
    });
    assert!(files[0] == files[1], "the links differ");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever is inserted, replaced, sealed or filtered: results are allowed, each once, best first, with their
    /// exact cosine, as many as there can be; and nearly all of the best are among them.
    #[test]
    fn results_are_allowed_distinct_exact_and_near(
        seed in 0u64..1_000_000,
        count in 100usize..600,
        replaced in 0usize..60,
        late in 0usize..60,
        step in 1u32..6,
        k in 1usize..30,
    ) {
        let vectors = clustered(count, 16, 12, 0.8, seed);
        let moved = random_units(replaced, 16, seed + 1);
        let new = random_units(late, 16, seed + 2);
        let query = normalised(clustered(1, 16, 12, 0.8, seed + 3).remove(0));
        let allowed: RoaringBitmap = (0..20_000).filter(|id| id % step == 0).collect();
        for engine in Engine::all() {
            let dir = tempfile::tempdir().expect("temporary directory");
            let index = open(dir.path(), 16, config(engine));
            insert_all(&index, &vectors);
            insert_all(&index, &moved);
            index.seal(&RoaringBitmap::new()).expect("sealed");
            for (vector, id) in new.iter().zip((0u32..).step_by(7)) {
                index.insert(&[(PointId(id), vector)]).expect("inserted");
            }
            let exact = index.search_exact(&query, k, Some(&allowed)).expect("searched");
            let found = index.search(&query, k, Some(&allowed)).expect("searched");
            prop_assert_eq!(found.len(), exact.len());
            let distinct: BTreeSet<u32> = ids(&found).into_iter().collect();
            prop_assert_eq!(distinct.len(), found.len());
            prop_assert!(distinct.iter().all(|id| allowed.contains(*id)));
            prop_assert!(found.windows(2).all(|pair| pair[0].1 > pair[1].1
                || (pair[0].1 == pair[1].1 && pair[0].0 < pair[1].0)));
            let points: Vec<PointId> = found.iter().map(|hit| hit.0).collect();
            let scores = index.score(&query, &points).expect("scored");
            prop_assert!(found.iter().zip(scores).all(|(hit, score)| score == Some(hit.1)));
            let near = found.iter().filter(|hit| exact.contains(hit)).count();
            prop_assert!(near * 10 >= exact.len() * 9, "{engine:?}: {near} of {} with seed {seed}", exact.len());
        }
    }
}
