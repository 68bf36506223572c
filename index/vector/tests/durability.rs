//! What survives: torn tails, flipped bytes, another embedding space, damaged graph segments.

mod common;

use std::fs;
use std::path::Path;

use bowerbird_vector::{Engine, PointId, SegmentState, VectorConfig, VectorError, VectorIndex};
use common::{SPACE, clustered, insert_all, open, random_units};
use roaring::RoaringBitmap;

const DIM: usize = 5;
const RECORD: usize = 8 + 4 * DIM;

fn five_points(dir: &Path) -> (Vec<Vec<f32>>, Vec<u8>) {
    let index = open(dir, DIM, VectorConfig::default());
    let vectors = random_units(5, DIM, 31);
    insert_all(&index, &vectors);
    index.sync().expect("synced");
    drop(index);
    (vectors, fs::read(dir.join("vectors.log")).expect("read"))
}

fn try_open(dir: &Path) -> Result<VectorIndex, VectorError> {
    VectorIndex::open(dir, SPACE, DIM, VectorConfig::default())
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_the_rest_is_served() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (vectors, bytes) = five_points(dir.path());
    let log = dir.path().join("vectors.log");
    for missing in 1..=RECORD {
        fs::write(&log, &bytes[..bytes.len() - missing]).expect("written");
        let index = try_open(dir.path()).expect("a torn tail is no damage");
        assert_eq!(index.opened().torn_bytes, ((RECORD - missing) % RECORD) as u64);
        assert_eq!(index.len(), 4);
        assert!(!index.contains(PointId(4)));
        for (id, vector) in vectors.iter().enumerate().take(4) {
            assert_eq!(index.vector(PointId(id as u32)).expect("read").as_ref(), Some(vector));
        }
        // What is appended after the cut is there at the next open.
        index.insert(&[(PointId(4), &vectors[4])]).expect("inserted");
        drop(index);
        assert_eq!(fs::read(&log).expect("read"), bytes);
    }
    // The size was extended but the data never arrived.
    let mut zeros = bytes.clone();
    zeros.extend([0; 3 * RECORD + 2]);
    fs::write(&log, &zeros).expect("written");
    let index = try_open(dir.path()).expect("a torn tail is no damage");
    assert_eq!((index.len(), index.opened().torn_bytes), (5, (3 * RECORD + 2) as u64));
}

#[test]
fn a_byte_flipped_anywhere_is_never_served() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (vectors, bytes) = five_points(dir.path());
    let log = dir.path().join("vectors.log");
    let header = bytes.len() - 5 * RECORD;
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x40;
        fs::write(&log, &flipped).expect("written");
        let opened = try_open(dir.path());
        if at < header {
            let found = opened.err();
            let refused = matches!(
                found,
                Some(VectorError::Damaged { record: None, .. } | VectorError::UnsupportedVersion { .. })
            );
            assert!(refused, "byte {at}: {found:?}");
        } else if at < header + 4 * RECORD {
            let expected = ((at - header) / RECORD) as u64;
            match opened.err() {
                Some(VectorError::Damaged { path, record, .. }) => {
                    assert_eq!((path, record), (log.clone(), Some(expected)), "byte {at}");
                }
                other => panic!("byte {at}: {other:?}"),
            }
            assert_eq!(fs::read(&log).expect("read"), flipped, "a damaged log is left as it is");
            let report = VectorIndex::repair(dir.path()).expect("repaired");
            assert_eq!((report.kept, report.dropped, report.started_over), (4, 1, false));
            let index = try_open(dir.path()).expect("repaired");
            assert!(!index.contains(PointId(expected as u32)));
            assert_eq!(index.len(), 4);
        } else {
            let index = opened.expect("the last record is a torn tail");
            assert_eq!((index.len(), index.opened().torn_bytes), (4, RECORD as u64), "byte {at}");
            assert!(!index.contains(PointId(4)));
            assert_eq!(index.vector(PointId(3)).expect("read").as_ref(), Some(&vectors[3]));
        }
    }
}

#[test]
fn damage_that_happens_while_the_index_is_open_is_an_error_too() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (vectors, bytes) = five_points(dir.path());
    let index = try_open(dir.path()).expect("opens");
    let mut flipped = bytes.clone();
    let at = bytes.len() - 5 * RECORD + RECORD + 9;
    flipped[at] ^= 1;
    // Written in place: a new file would leave the open one untouched.
    fs::write(dir.path().join("vectors.log"), flipped).expect("written");
    assert!(matches!(index.vector(PointId(1)), Err(VectorError::Damaged { record: Some(1), .. })));
    assert!(matches!(index.search(&vectors[1], 1, None), Err(VectorError::Damaged { record: Some(1), .. })));
    assert_eq!(index.vector(PointId(0)).expect("read").as_ref(), Some(&vectors[0]));
}

#[test]
fn an_unreadable_header_is_set_aside_by_repair() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (_, bytes) = five_points(dir.path());
    fs::write(dir.path().join("vectors.log"), &bytes[3..]).expect("written");
    assert!(matches!(try_open(dir.path()), Err(VectorError::Damaged { record: None, .. })));
    assert!(VectorIndex::repair(dir.path()).expect("repaired").started_over);
    assert!(try_open(dir.path()).expect("begins again").is_empty());
    assert_eq!(fs::read(dir.path().join("vectors.log.damaged")).expect("kept"), &bytes[3..]);
    let intact = VectorIndex::repair(dir.path()).expect("nothing to do");
    assert_eq!((intact.kept, intact.dropped, intact.started_over), (0, 0, false));
}

#[test]
fn another_space_or_dimension_is_refused_with_both_sides() {
    let dir = tempfile::tempdir().expect("temporary directory");
    five_points(dir.path());
    match VectorIndex::open(dir.path(), "other", DIM, VectorConfig::default()).err() {
        Some(VectorError::SpaceMismatch { expected, found }) => {
            assert_eq!((expected.as_str(), found.as_str()), ("other", SPACE));
        }
        other => panic!("{other:?}"),
    }
    let opened = VectorIndex::open(dir.path(), SPACE, 6, VectorConfig::default());
    assert!(matches!(opened, Err(VectorError::DimensionMismatch { expected: 6, found: DIM })));
}

#[test]
fn last_record_of_a_point_counts_after_reopening() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (vectors, _) = five_points(dir.path());
    let index = try_open(dir.path()).expect("opens");
    index.insert(&[(PointId(2), &vectors[0]), (PointId(2), &vectors[4])]).expect("inserted");
    drop(index);
    let index = try_open(dir.path()).expect("opens");
    assert_eq!(index.len(), 5);
    assert_eq!(index.vector(PointId(2)).expect("read").as_ref(), Some(&vectors[4]));
    let found = index.search(&vectors[4], 5, None).expect("searched");
    assert_eq!(found.iter().map(|hit| hit.0.0).take(2).collect::<Vec<_>>(), [2, 4]);
    assert_eq!(found.len(), 5, "each point once");
}

type Damage<'a> = Box<dyn Fn() + 'a>;

#[test]
fn a_damaged_file_of_any_engine_is_named_set_aside_and_made_again() {
    for engine in Engine::all() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let config = VectorConfig {
            engine,
            seal_min_points: 100,
            graph_cost_codes: 0,
            ef_construction: 32,
            ..VectorConfig::default()
        };
        let vectors = clustered(400, 8, 10, 0.6, 41);
        let index = open(dir.path(), 8, config.clone());
        insert_all(&index, &vectors);
        assert!(index.seal(&RoaringBitmap::new()).expect("sealed").built);
        drop(index);
        let segment = dir.path().join("segment");
        let names = fs::read_dir(&segment).expect("listed").map(|entry| entry.expect("entry").path());
        let files: Vec<_> = names.map(|path| (path.clone(), fs::read(&path).expect("read"))).collect();
        assert!(files.len() >= 2, "{engine:?}: {files:?}");
        let restore = || {
            fs::create_dir_all(&segment).expect("made");
            for (path, bytes) in &files {
                fs::write(path, bytes).expect("written");
            }
        };
        let mut damages: Vec<(&Path, Damage)> = Vec::new();
        for (path, bytes) in &files {
            for at in [0, 3, 9, bytes.len() / 2, bytes.len() - 1] {
                let flip = move || {
                    let mut flipped = bytes.clone();
                    flipped[at] ^= 0x20;
                    fs::write(path, flipped).expect("written");
                };
                damages.push((path, Box::new(flip)));
            }
            let cut = |length: usize| move || fs::write(path, &bytes[..length]).expect("written");
            damages.push((path, Box::new(cut(bytes.len() / 2))));
            damages.push((path, Box::new(cut(0))));
            damages.push((path, Box::new(move || fs::remove_file(path).expect("removed"))));
        }
        for (at, (path, damage)) in damages.iter().enumerate() {
            restore();
            damage();
            let index = open(dir.path(), 8, config.clone());
            let SegmentState::Dropped { reason } = &index.opened().segment else {
                panic!("{engine:?}, damage {at}: {:?}", index.opened());
            };
            let name = path.file_name().expect("a name").to_str().expect("UTF-8");
            assert!(reason.contains(name), "{engine:?}, damage {at} to {name}: {reason}");
            assert_eq!(index.search(&vectors[7], 1, None).expect("searched")[0].0, PointId(7));
            assert!(
                !segment.exists() && dir.path().join("segment.damaged").exists(),
                "{engine:?}, damage {at}"
            );
            assert!(index.wants_seal(&RoaringBitmap::new()), "{engine:?}, damage {at}");
        }
        restore();
        let index = open(dir.path(), 8, config.clone());
        assert_eq!(index.opened().segment, SegmentState::Loaded { points: 400 }, "{engine:?}");

        // A segment of an earlier incarnation of the log is not used: its slots mean other points.
        index.retain(&(0..300).collect()).expect("compacted");
        drop(index);
        restore();
        let index = open(dir.path(), 8, config);
        assert!(matches!(index.opened().segment, SegmentState::Dropped { .. }));
        assert!(index.seal(&RoaringBitmap::new()).expect("sealed").built, "it can be built again");
        assert_eq!(index.search(&vectors[7], 1, None).expect("searched")[0].0, PointId(7));
    }
}

#[test]
fn a_log_shorter_than_its_segment_is_served_without_the_segment() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let config = VectorConfig { seal_min_points: 4, ..VectorConfig::default() };
    let vectors = random_units(8, DIM, 32);
    let index = open(dir.path(), DIM, config.clone());
    insert_all(&index, &vectors);
    assert!(index.seal(&RoaringBitmap::new()).expect("sealed").built);
    drop(index);
    let log = dir.path().join("vectors.log");
    let bytes = fs::read(&log).expect("read");
    fs::write(&log, &bytes[..bytes.len() - RECORD]).expect("written");
    let index = open(dir.path(), DIM, config);
    assert!(matches!(index.opened().segment, SegmentState::Dropped { .. }));
    assert_eq!(index.len(), 7);
    assert_eq!(index.search(&vectors[3], 1, None).expect("searched")[0].0, PointId(3));
}
