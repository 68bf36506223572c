//! A generation is built beside the one that serves, is killed and goes on, takes over, and gives way again.

mod common;

use std::error::Error;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bowerbird_lexical::{Analyzer, BagQuery};
use bowerbird_live::{
    Building, GenerationSpec, Live, LiveError, Snapshot, VectorSource, check, current_space,
};
use bowerbird_posts::{Op, Ordinal};
use bowerbird_vector::{PointId, VectorConfig, VectorError};
use common::history::{Model, batch};
use common::{DIM, assert_holds, config, embed, id, lexical, nearest, open, post, stub, upsert, write};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Another space of the same size: the components of [`embed`] in the other order.
struct Reversed;

fn reversed(text: &str) -> Vec<f32> {
    embed(text).into_iter().rev().collect()
}

impl VectorSource for Reversed {
    fn space(&self) -> String {
        "reversed/32".into()
    }

    fn dim(&self) -> usize {
        DIM
    }

    fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Box<dyn Error + Send + Sync>> {
        Ok(texts.iter().map(|text| reversed(text)).collect())
    }
}

fn plain() -> GenerationSpec {
    GenerationSpec { analyzer: Analyzer::Plain, vector: None }
}

fn begin(live: &Live) -> Building {
    live.build(2, &plain(), Arc::new(Reversed)).expect("begun")
}

fn finish(building: &mut Building) {
    while building.add_words(50).expect("added").left > 0 {}
    while building.add_vectors(16, &|| false).left > 0 {}
}

#[test]
fn a_generation_is_built_while_writes_go_on_and_takes_over_in_one_step() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let live = open(dir.path());
    let mut model = Model::default();
    for n in 1..=40 {
        live.write_blocking(batch(0, n)).expect("written");
    }
    // Words follow with the next commit: on a busy machine every other post may be an edit that no commit has yet.
    let kept = post("kept", "common to all");
    write(&live, Op::Upsert(Box::new(kept.clone())));
    model.posts.insert(kept.id.clone(), kept);
    live.flush().expect("flushed");
    let stop = AtomicBool::new(false);
    let written = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut n = 40;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                live.write_blocking(batch(0, n)).expect("written");
                thread::sleep(Duration::from_millis(2));
            }
            n
        });
        let reader = scope.spawn(|| {
            let mut generations = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let snapshot = live.snapshot();
                generations.push(snapshot.generation());
                assert_eq!(snapshot.vectors().space() == "reversed/32", snapshot.generation() == 2, "mixed");
                assert!(!lexical(&snapshot, "common").is_empty(), "nothing found");
            }
            generations
        });
        let mut building = begin(&live);
        while building.add_words(50).expect("added").left > 20 {}
        while building.add_vectors(16, &|| false).left > 20 {}
        building.cut_over().expect("took over");
        thread::sleep(Duration::from_millis(100));
        stop.store(true, Ordering::Relaxed);
        let generations = reader.join().expect("no panic");
        assert!(generations.is_sorted() && generations.last() == Some(&2), "{generations:?}");
        writer.join().expect("no panic")
    });
    live.flush().expect("flushed");
    model.advance(0, written);
    let snapshot = live.snapshot();
    assert_eq!((snapshot.generation(), snapshot.lexical().doc_count()), (2, snapshot.live().len()));
    for stored in snapshot.posts(&snapshot.live().iter().map(Ordinal).collect::<Vec<_>>()).expect("read") {
        let stored = stored.expect("alive");
        let vector = snapshot.vectors().vector(PointId(stored.ordinal.0)).expect("read");
        assert_eq!(vector, Some(reversed(&stored.post.text)), "{}", stored.post.id);
        assert_eq!(model.posts.get(&stored.post.id), Some(&stored.post));
    }
    assert_eq!(model.posts.len() as u64, snapshot.live().len());
    drop((snapshot, live));

    let report = check(dir.path()).expect("examined");
    assert!(report.agrees(), "{report:?}");
    assert_eq!(current_space(dir.path()).expect("read").expect("there").0, "reversed/32");
    let wrong = Live::open(dir.path(), config(), stub()).map(drop);
    assert!(matches!(wrong, Err(LiveError::Vector(VectorError::SpaceMismatch { .. }))), "{wrong:?}");
    let again = Live::open(dir.path(), config(), Arc::new(Reversed)).expect("opens");
    assert_eq!(again.snapshot().generation(), 2);
}

#[test]
fn the_old_generation_answers_cursors_and_can_serve_again() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let live = open(dir.path());
    write(&live, upsert("a", "running shoes"));
    write(&live, upsert("b", "he runs at night"));
    live.flush().expect("flushed");
    let mut building = begin(&live);
    finish(&mut building);
    assert!(
        building.shards(1, u32::MAX).expect("compared").iter().all(bowerbird_live::GenerationShard::agrees)
    );
    assert_eq!(lexical(&building.snapshot(), "running"), ["a"], "no word loses its ending");
    building.cut_over().expect("took over");
    assert_eq!(lexical(&live.snapshot(), "running"), ["a"]);
    let old = live.snapshot_of(1).expect("kept for cursors");
    assert_eq!(lexical(&old, "running").len(), 2);
    assert_eq!(nearest(&old, "running shoes", 1), ["a"]);
    write(&live, Op::Delete(id("a")));
    write(&live, upsert("c", "run home"));
    live.flush().expect("flushed");
    assert_eq!(lexical(&live.snapshot_of(1).expect("kept"), "running"), ["b"], "a deletion wins everywhere");

    let of = |live: &Live| {
        let all = live.generations().expect("listed");
        all.into_iter().map(|g| (g.number, g.current)).collect::<Vec<_>>()
    };
    assert_eq!(of(&live), [(1, false), (2, true)]);
    let back = live.build(1, &GenerationSpec::default(), stub()).expect("opens");
    back.cut_over().expect("took over");
    live.flush().expect("what was written since has its vector");
    let snapshot = live.snapshot();
    assert_eq!(snapshot.generation(), 1);
    let mut found = lexical(&snapshot, "running");
    found.sort();
    assert_eq!(found, ["b", "c"]);
    assert_eq!(nearest(&snapshot, "run home", 1), ["c"]);
    assert!(matches!(live.remove_generation(1), Err(LiveError::Generation { .. })));
    assert!(live.remove_generation(2).expect("removed") > 0);
    assert!(live.snapshot_of(2).is_none(), "its cursors expire");
    assert_eq!(of(&live), [(1, true)]);
    drop((snapshot, old, live));
    assert!(check(dir.path()).expect("examined").agrees());
}

#[test]
fn what_does_not_fit_is_refused_and_what_is_missing_is_seen() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let live = open(dir.path());
    for n in 0..20 {
        write(&live, upsert(&format!("p{n}"), &format!("common word{n}")));
    }
    assert!(matches!(live.build(1, &plain(), stub()), Err(LiveError::Generation { number: 1, .. })));
    let mut building = begin(&live);
    building.add_words(7).expect("added");
    building.add_vectors(3, &|| false);
    drop(building);
    let other = GenerationSpec { vector: Some(VectorConfig { m: 8, ..VectorConfig::default() }), ..plain() };
    assert!(matches!(live.build(2, &other, Arc::new(Reversed)), Err(LiveError::Generation { .. })));
    let mixed = live.build(2, &plain(), stub()).map(drop);
    assert!(matches!(mixed, Err(LiveError::Vector(VectorError::SpaceMismatch { .. }))), "equal in size only");

    let mut building = begin(&live);
    assert_eq!(building.level(), 3);
    let shards = building.shards(4, 7).expect("compared");
    let seen: Vec<_> = shards.iter().map(|s| (s.from, s.posts, s.lexical, s.vectors, s.agrees())).collect();
    assert_eq!(seen, [(0, 4, 4, 3, false), (4, 3, 3, 0, false)], "below the horizon");
    finish(&mut building);
    assert_eq!(building.level(), 20);
    assert_eq!(building.shards(4, u32::MAX).expect("compared").len(), 5);
    assert!(
        building.shards(4, u32::MAX).expect("compared").iter().all(bowerbird_live::GenerationShard::agrees)
    );
}

#[test]
fn a_snapshot_of_the_second_generation_is_restored_with_its_analyser() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let live = open(&dir.path().join("data"));
    write(&live, upsert("a", "running shoes"));
    write(&live, upsert("b", "he runs at night"));
    let mut building = begin(&live);
    finish(&mut building);
    building.cut_over().expect("took over");
    let (taken, back) = (dir.path().join("taken"), dir.path().join("back"));
    let draft = bowerbird_live::SnapshotDraft::begin(&taken).expect("begun");
    let contents = live.copy_to(&draft).expect("copied");
    draft.finish(contents).expect("finished");
    bowerbird_live::restore(&taken, &back).expect("restored");
    let restored = Live::open(&back, config(), Arc::new(Reversed)).expect("opens");
    restored.flush().expect("flushed");
    assert_eq!(lexical(&restored.snapshot(), "running"), ["a"]);
    assert_eq!(restored.status().vectors, 2);
}

const DIRECTORY_VARIABLE: &str = "BOWERBIRD_REBUILD_TEST_DIRECTORY";

/// Does nothing unless it is the child of the test below.
#[test]
fn child_builds_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIRECTORY_VARIABLE).map(PathBuf::from) else { return };
    let live = open(&dir);
    let mut building = begin(&live);
    // Slow enough to be killed some dozens of times, fast enough to come on between two kills.
    loop {
        let words = building.add_words(3).expect("added");
        let vectors = building.add_vectors(1, &|| false);
        if words.left + vectors.left == 0 {
            building.cut_over().expect("took over");
            std::process::exit(0);
        }
    }
}

/// Hits and scores of both legs, and what the index holds.
fn answers(snapshot: &Snapshot, queries: &[String]) -> Vec<String> {
    let mut all = vec![format!("{:?} {}", snapshot.vectors().points(), snapshot.lexical().doc_count())];
    for query in queries {
        let words = snapshot.lexical().search(&BagQuery::words(query), Some(snapshot.live()), 20);
        let near = snapshot.vectors().search(&reversed(query), 20, Some(snapshot.live()));
        all.push(format!("{query}: {:?} {:?}", words.expect("searched").hits, near.expect("searched")));
    }
    all
}

#[test]
fn a_rebuild_that_is_killed_fifty_times_ends_like_one_that_is_not() {
    let seed: u64 = std::env::var("BOWERBIRD_CRASH_SEED")
        .map_or_else(|_| rand::random(), |s| s.parse().expect("a number"));
    let again = format!("BOWERBIRD_CRASH_SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let whole = tempfile::tempdir().expect("temporary directory");
    let killed = tempfile::tempdir().expect("temporary directory");
    let texts: Vec<String> = (0..4000)
        .map(|n| {
            let word = |random: &mut SmallRng| format!("w{}", random.random_range(0..300u32));
            let words: Vec<String> = (0..random.random_range(2..12)).map(|_| word(&mut random)).collect();
            format!("post{n} {}", words.join(" "))
        })
        .collect();
    for dir in [whole.path(), killed.path()] {
        let live = open(dir);
        for (n, texts) in (0u32..).zip(texts.chunks(500)) {
            let ops = (0u32..).zip(texts).map(|(at, text)| upsert(&format!("p{n}x{at}"), text));
            live.write_blocking(ops.collect()).expect("written");
        }
        // Deleted before the rebuild: dead ordinals lie between the others.
        for n in 0..8 {
            write(&live, Op::Delete(id(&format!("p{n}x{}", n * 7))));
        }
        live.flush().expect("flushed");
    }
    let live = open(whole.path());
    let mut building = begin(&live);
    finish(&mut building);
    building.cut_over().expect("took over");

    let mut kills = 0;
    while kills < 50 {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "child_builds_until_it_is_killed", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY_VARIABLE, killed.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("starts");
        // Also while it opens, and ever again in the same places.
        thread::sleep(Duration::from_micros(random.random_range(20_000..150_000)));
        child.kill().expect("killed");
        let ended = child.wait().expect("ended");
        if ended.signal() == Some(9) {
            kills += 1;
        } else {
            assert!(ended.success(), "{again}: the child failed by itself after {kills} kills");
            break;
        }
    }
    assert_eq!(kills, 50, "{again}: the rebuild was done before");
    let source =
        || -> Arc<dyn VectorSource> { if is_second(killed.path()) { Arc::new(Reversed) } else { stub() } };
    let resumed = Live::open(killed.path(), config(), source()).expect("opens");
    if resumed.snapshot().generation() == 1 {
        let mut building = begin(&resumed);
        finish(&mut building);
        building.cut_over().expect("took over");
    }
    let queries: Vec<String> =
        texts.iter().step_by(20).map(|text| text[text.find(' ').expect("words") + 1..].to_owned()).collect();
    assert_eq!(queries.len(), 200);
    let (expected, found) = (answers(&live.snapshot(), &queries), answers(&resumed.snapshot(), &queries));
    for (expected, found) in expected.iter().zip(&found) {
        assert_eq!(expected, found, "{again}");
    }
    drop(resumed);
    assert!(check(killed.path()).expect("examined").agrees(), "{again}");
}

fn is_second(dir: &Path) -> bool {
    current_space(dir).expect("read").is_some_and(|(space, _)| space == "reversed/32")
}

#[test]
fn a_first_generation_that_went_on_holds_what_was_acknowledged() {
    // The rebuild of another generation leaves the one that serves as it is.
    let dir = tempfile::tempdir().expect("temporary directory");
    let live = open(dir.path());
    let mut model = Model::default();
    for n in 1..=20 {
        live.write_blocking(batch(0, n)).expect("written");
        if n == 10 {
            let mut building = begin(&live);
            finish(&mut building);
        }
    }
    model.advance(0, 20);
    live.flush().expect("flushed");
    assert_holds(&live, &[model], "after a rebuild that nobody used");
}
