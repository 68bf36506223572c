//! Writing, finding, editing, deleting, reopening, refusing, recovering.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use bowerbird_live::{Filter, Live, LiveConfig, LiveError, VectorSource};
use bowerbird_posts::{Counts, CountsPatch, Op, Ordinal, Outcome};
use common::{Stub, config, embed, id, is_locked, lexical, nearest, open, post, upsert, write};

#[test]
fn what_is_written_is_found_by_words_and_by_vector_after_a_flush() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let live = open(dir.path());
    assert_eq!(write(&live, upsert("a", "sleep well tonight")), Outcome::Created { ordinal: Ordinal(0) });
    assert_eq!(write(&live, upsert("b", "coffee in the morning")), Outcome::Created { ordinal: Ordinal(1) });
    assert_eq!(live.snapshot().live().len(), 2, "alive at once");
    live.flush().expect("flushed");
    let snapshot = live.snapshot();
    assert_eq!(lexical(&snapshot, "coffee"), ["b"]);
    assert_eq!(nearest(&snapshot, "sleep well tonight", 1), ["a"]);
    let posts = snapshot.posts(&[Ordinal(1), Ordinal(7)]).expect("read");
    assert_eq!(posts[0].as_ref().map(|stored| stored.post.text.as_str()), Some("coffee in the morning"));
    assert!(posts[1].is_none());
    let status = live.status();
    assert_eq!((status.posts, status.vectors, status.vectors_pending, status.lexical_next), (2, 2, 0, 2));
    assert_eq!((status.sequence, status.lexical_sequence, status.last_error), (2, 2, None));
    assert_eq!(live.write_blocking(Vec::new()).expect("nothing"), []);
}

#[test]
fn a_deleted_post_is_gone_at_once_and_a_snapshot_keeps_what_it_had() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let live = open(dir.path());
    write(&live, upsert("a", "sleep well"));
    write(&live, upsert("b", "sleep badly"));
    live.flush().expect("flushed");
    let before = live.snapshot();
    assert_eq!(write(&live, Op::Delete(id("a"))), Outcome::Deleted { ordinal: Ordinal(0) });
    let after = live.snapshot();
    assert_eq!(lexical(&after, "sleep"), ["b"], "before any lexical commit");
    assert_eq!(nearest(&after, "sleep well", 5), ["b"]);
    assert!(after.allowed(Some(&Filter::Id(id("a")))).expect("evaluated").bitmap.is_empty());
    assert_eq!(lexical(&before, "sleep").len(), 2);
    assert!(before.sequence() < after.sequence());
    assert!(before.posts(&[Ordinal(0)]).expect("read")[0].is_none(), "its text is gone for good");
    assert_eq!(write(&live, Op::Delete(id("a"))), Outcome::NotFound);
    live.flush().expect("flushed");
    assert_eq!(live.snapshot().lexical().doc_count(), 1);
}

#[test]
fn an_edit_replaces_the_text_and_counters_change_in_place() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let live = open(dir.path());
    write(&live, upsert("a", "about pineapples"));
    live.flush().expect("flushed");
    let edited = write(&live, upsert("a", "about mangos"));
    assert_eq!(edited, Outcome::Replaced { ordinal: Ordinal(1), old: Ordinal(0) });
    assert!(lexical(&live.snapshot(), "pineapples").is_empty(), "the old text is gone at once");
    live.flush().expect("flushed");
    let snapshot = live.snapshot();
    assert_eq!(lexical(&snapshot, "mangos"), ["a"]);
    assert!(lexical(&snapshot, "pineapples").is_empty());
    assert_eq!(nearest(&snapshot, "about mangos", 3), ["a"]);

    let popular =
        |live: &Live| live.snapshot().allowed(Some(&Filter::MinLikes(10))).expect("evaluated").bitmap.len();
    assert_eq!(popular(&live), 0);
    let patch = CountsPatch { likes: Some(10), ..CountsPatch::default() };
    let changed = write(&live, Op::SetCounts { id: id("a"), counts: patch });
    let counts = Counts { likes: 10, ..Counts::default() };
    assert_eq!(changed, Outcome::CountsChanged { ordinal: Ordinal(1), counts });
    assert_eq!(popular(&live), 1);
    assert_eq!(live.snapshot().columns().counts(Ordinal(1)), counts);
    assert_eq!(snapshot.columns().counts(Ordinal(1)), Counts::default(), "an older snapshot does not change");
    live.flush().expect("a change of counters needs no commit but is flushed");
    assert_eq!(live.status().vectors, 2, "no new vector for it");
    drop((live, snapshot));
    assert_eq!(popular(&open(dir.path())), 1);
}

#[test]
fn several_changes_of_one_post_in_one_transaction_end_as_the_last_says() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let live = open(dir.path());
    let ops = vec![
        upsert("a", "first apple"),
        upsert("a", "second banana"),
        upsert("b", "gone cherry"),
        Op::Delete(id("b")),
        upsert("c", "kept date"),
        Op::Delete(id("c")),
        upsert("c", "kept elderberry"),
    ];
    live.write_blocking(ops).expect("written");
    live.flush().expect("flushed");
    let snapshot = live.snapshot();
    assert_eq!(snapshot.live().len(), 2);
    for (word, expected) in [
        ("apple", vec![]),
        ("banana", vec!["a"]),
        ("cherry", vec![]),
        ("date", vec![]),
        ("elderberry", vec!["c"]),
    ] {
        assert_eq!(lexical(&snapshot, word), expected, "{word}");
    }
    assert_eq!(snapshot.lexical().doc_count(), 2);
    assert_eq!(live.status().vectors_pending, 0);
}

#[test]
fn reopening_replays_and_a_second_opener_is_refused() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let live = open(dir.path());
    assert!(is_locked(Live::open(dir.path(), config(), Arc::new(Stub::default()))));
    let first: Vec<Op> =
        (0..300).map(|n| upsert(&format!("p{n}"), &format!("text number{n} alpha"))).collect();
    live.write_blocking(first).expect("written");
    write(&live, Op::Delete(id("p7")));
    // No flush: whatever the threads have not done is done after the next start.
    let snapshot = live.snapshot();
    drop(live);
    assert!(is_locked(Live::open(dir.path(), config(), Arc::new(Stub::default()))), "a snapshot holds it");
    drop(snapshot);
    for _ in 0..2 {
        let live = open(dir.path());
        live.flush().expect("flushed");
        let snapshot = live.snapshot();
        assert_eq!((snapshot.live().len(), snapshot.lexical().doc_count()), (299, 299));
        assert_eq!(lexical(&snapshot, "number42"), ["p42"]);
        assert!(lexical(&snapshot, "number7").is_empty());
        assert_eq!(live.status().vectors_pending, 0);
        let allowed = snapshot.allowed(Some(&Filter::From("@ANN".into()))).expect("evaluated");
        assert!(allowed.all && allowed.bitmap.len() == 299);
    }
}

#[test]
fn indexes_that_were_lost_or_belong_to_other_posts_are_made_again() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let other = tempfile::tempdir().expect("temporary directory");
    let live = open(dir.path());
    write(&live, upsert("a", "sleep well"));
    live.flush().expect("flushed");
    drop(live);
    let more = open(other.path());
    for n in 0..5 {
        write(&more, upsert(&n.to_string(), "foreign words"));
    }
    more.flush().expect("flushed");
    drop(more);
    // The caches of a store that is further on.
    let (mine, theirs) = (dir.path().join("generation"), other.path().join("generation"));
    std::fs::remove_dir_all(&mine).expect("removed");
    std::fs::rename(&theirs, &mine).expect("moved");
    let live = open(dir.path());
    live.flush().expect("flushed");
    assert_eq!(lexical(&live.snapshot(), "foreign sleep"), ["a"]);
    assert_eq!(live.snapshot().lexical().doc_count(), 1);
    assert_eq!(nearest(&live.snapshot(), "sleep well", 9), ["a"]);
    drop(live);
    std::fs::remove_dir_all(&mine).expect("removed");
    let live = open(dir.path());
    live.flush().expect("flushed");
    assert_eq!(lexical(&live.snapshot(), "sleep"), ["a"]);
    assert_eq!(nearest(&live.snapshot(), "sleep well", 9), ["a"]);
}

#[test]
fn repair_makes_damaged_indexes_usable_again() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let live = open(dir.path());
    for n in 0..4 {
        write(&live, upsert(&n.to_string(), &format!("sleep number{n}")));
    }
    live.flush().expect("flushed");
    assert!(matches!(bowerbird_live::repair(dir.path()), Err(LiveError::Locked { .. })));
    drop(live);
    let log = dir.path().join("generation/vector/vectors.log");
    let mut bytes = std::fs::read(&log).expect("read");
    let at = bytes.len() - 3 * (8 + 4 * common::DIM);
    bytes[at + 20] ^= 1;
    std::fs::write(&log, bytes).expect("written");
    let meta = dir.path().join("generation/lexical/meta.json");
    assert!(meta.exists());
    std::fs::write(&meta, "{").expect("written");
    assert!(Live::open(dir.path(), config(), Arc::new(Stub::default())).is_err());
    let repair = bowerbird_live::repair(dir.path()).expect("repaired");
    assert_eq!((repair.vectors.kept, repair.vectors.dropped), (3, 1));
    let why = repair.lexical_rebuilt.as_deref().expect("made again");
    assert!(why.contains("meta.json") && repair.damaged_posts.is_empty(), "{why}");
    assert!(repair.check.agrees(), "{:?}", repair.check);
    assert_eq!((repair.check.posts, repair.check.vectors.map(|vectors| vectors.pending)), (4, Some(1)));
    let live = open(dir.path());
    live.flush().expect("flushed");
    assert_eq!(live.snapshot().lexical().doc_count(), 4);
    assert_eq!(nearest(&live.snapshot(), "sleep number1", 9).len(), 4);
}

#[test]
fn a_failing_vector_source_is_tried_again_and_a_refused_text_is_counted() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let stub = Arc::new(Stub::default());
    stub.failures.store(25, Ordering::Release);
    let live = Live::open(dir.path(), config(), Arc::clone(&stub) as Arc<dyn VectorSource>).expect("opens");
    let mut ops: Vec<Op> = (0..50).map(|n| upsert(&n.to_string(), &format!("text number{n}"))).collect();
    ops.push(upsert("bad", "this one is refused"));
    ops.extend((60..90).map(|n| upsert(&n.to_string(), &format!("text number{n}"))));
    live.write_blocking(ops).expect("written");
    live.flush().expect("flushed");
    let status = live.status();
    assert_eq!((status.vectors, status.vectors_pending, status.vectors_refused), (80, 0, 1));
    assert_eq!(status.last_error, None, "it recovered");
    assert!(stub.calls.load(Ordering::Acquire) > 25);
    assert_eq!(lexical(&live.snapshot(), "refused"), ["bad"], "found by words all the same");
    write(&live, Op::Delete(id("bad")));
    assert_eq!(live.status().vectors_refused, 0);
}

#[test]
fn a_vector_source_that_stays_away_is_named_and_words_still_find() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let stub = Arc::new(Stub::default());
    stub.failures.store(usize::MAX, Ordering::Release);
    let config = LiveConfig { stall_timeout: Duration::from_millis(50), ..config() };
    let live = Live::open(dir.path(), config, Arc::clone(&stub) as Arc<dyn VectorSource>).expect("opens");
    write(&live, upsert("a", "sleep well"));
    match live.flush() {
        Err(LiveError::Stalled { vectors_pending: 1, message, .. }) => assert_eq!(message, "model is away"),
        other => panic!("{other:?}"),
    }
    // The words do not wait for the vectors; on a busy machine they may take longer than the stall.
    while live.status().lexical_sequence < 1 {
        std::thread::yield_now();
    }
    assert_eq!(lexical(&live.snapshot(), "sleep"), ["a"]);
    assert_eq!(live.status().last_error.as_deref(), Some("model is away"));
    stub.failures.store(0, Ordering::Release);
    live.flush().expect("flushed");
    assert_eq!(nearest(&live.snapshot(), "sleep well", 1), ["a"]);
}

/// A vector source that waits for permission.
struct Gate(std::sync::Mutex<mpsc::Receiver<()>>);

impl VectorSource for Gate {
    fn space(&self) -> String {
        "gate".into()
    }
    fn dim(&self) -> usize {
        common::DIM
    }
    fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Box<dyn std::error::Error + Send + Sync>> {
        self.0.lock().expect("no panic").recv()?;
        Ok(texts.iter().map(|text| embed(text)).collect())
    }
}

#[test]
fn a_post_that_dies_while_it_is_embedded_does_not_come_back() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (permit, gate) = mpsc::channel();
    let live = Live::open(dir.path(), config(), Arc::new(Gate(std::sync::Mutex::new(gate)))).expect("opens");
    write(&live, upsert("a", "sleep well"));
    write(&live, Op::Delete(id("a")));
    write(&live, upsert("b", "coffee"));
    for _ in 0..4 {
        permit.send(()).expect("the thread is there");
    }
    live.flush().expect("flushed");
    assert_eq!(nearest(&live.snapshot(), "sleep well", 9), ["b"]);
    assert_eq!(live.status().vectors_pending, 0);
    drop(permit);
}

#[test]
fn eight_writers_are_each_answered_once_and_all_indexes_agree() {
    const WRITERS: usize = 8;
    const POSTS: usize = 60;
    let dir = tempfile::tempdir().expect("temporary directory");
    let live = open(dir.path());
    let ordinals: Vec<u32> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let live = live.clone();
                scope.spawn(move || {
                    let mut ordinals = Vec::new();
                    for n in 0..POSTS {
                        let name = format!("w{writer}n{n}");
                        let ops = vec![
                            upsert(&name, &format!("post {name}")),
                            upsert("shared", &format!("by {name}")),
                        ];
                        let outcomes = live.write_blocking(ops).expect("written");
                        assert_eq!(outcomes.len(), 2);
                        let Outcome::Created { ordinal } = outcomes[0] else { panic!("{outcomes:?}") };
                        assert!(live.snapshot().live().contains(ordinal.0), "seen by its writer at once");
                        ordinals.push(ordinal.0);
                        if n % 3 == 0 {
                            let deleted = live.write_blocking(vec![Op::Delete(id(&name))]).expect("written");
                            assert_eq!(deleted, [Outcome::Deleted { ordinal }]);
                            assert!(!live.snapshot().live().contains(ordinal.0));
                        }
                    }
                    ordinals
                })
            })
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().expect("no panic")).collect()
    });
    assert_eq!(ordinals.iter().collect::<BTreeSet<_>>().len(), WRITERS * POSTS, "each post its own ordinal");
    live.flush().expect("flushed");
    let snapshot = live.snapshot();
    let expected = (WRITERS * POSTS * 2 / 3 + 1) as u64;
    assert_eq!(snapshot.live(), &live.store().live_ordinals().expect("read"));
    assert_eq!((snapshot.live().len(), snapshot.lexical().doc_count()), (expected, expected));
    assert!(snapshot.live().is_subset(&snapshot.vectors().points()));
    assert_eq!(live.store().len().expect("read"), expected);
    assert!(lexical(&snapshot, "w3n4").contains(&"w3n4".to_owned()));
    assert!(!lexical(&snapshot, "w3n3").contains(&"w3n3".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_is_overloaded_and_everything_admitted_is_written() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let config = LiveConfig { queue_ops: 4, group_ops: 1, ..config() };
    let live = Live::open(dir.path(), config, Arc::new(Stub::default())).expect("opens");
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            let live = live.clone();
            tokio::spawn(async move {
                live.write(vec![upsert(&n.to_string(), "text"), upsert("x", &n.to_string())]).await
            })
        })
        .collect();
    let (mut written, mut refused) = (0, 0);
    for task in tasks {
        match task.await.expect("no panic") {
            Ok(outcomes) => {
                assert_eq!(outcomes.len(), 2);
                written += 1;
            }
            Err(LiveError::Overloaded { limit_ops: 4, queued_ops, .. }) => {
                assert!(queued_ops <= 4);
                refused += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(written > 0 && refused > 0, "{written} written, {refused} refused");
    assert_eq!(live.store().len().expect("read"), written + 1);
    let status = live.status();
    assert_eq!((status.queued_ops, status.queued_bytes), (0, 0));
    tokio::task::spawn_blocking(move || drop(live)).await.expect("closed");
}

#[test]
fn a_post_in_another_space_is_refused_at_open() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let live = open(dir.path());
    write(&live, Op::Upsert(Box::new(post("a", "sleep"))));
    drop(live);
    let (_permit, gate) = mpsc::channel();
    let opened = Live::open(dir.path(), config(), Arc::new(Gate(std::sync::Mutex::new(gate))));
    assert!(matches!(opened, Err(LiveError::Vector(bowerbird_vector::VectorError::SpaceMismatch { .. }))));
    assert_eq!(open(dir.path()).snapshot().live().len(), 1, "nothing was changed");
}
