//! Snapshots on disk: taken while everything goes on, whole or not at all, and put back.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bowerbird_live::{Live, LiveError, SnapshotDraft, SnapshotManifest, check, copy_closed, restore, verify};
use common::history::{Model, batch, marker, progress};
use common::{assert_holds, lexical, nearest, open, upsert, write};

fn take(live: &Live, target: &Path) -> Result<SnapshotManifest, LiveError> {
    let draft = SnapshotDraft::begin(target)?;
    let contents = live.copy_to(&draft)?;
    draft.finish(contents)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let manifest = verify(dir).expect("whole");
    manifest.files.iter().map(|file| dir.join(&file.path)).chain([dir.join("MANIFEST")]).collect()
}

#[test]
fn snapshots_of_a_generation_that_is_written_and_searched_hold_one_transaction_each() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let live = open(&dir.path().join("data"));
    let (stop, searches) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1.. {
                if stop.load(Ordering::Acquire) {
                    break;
                }
                live.write_blocking(batch(0, n)).expect("written");
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Acquire) {
                let mut found = lexical(&live.snapshot(), "common");
                let count = found.len();
                found.sort();
                found.dedup();
                assert_eq!(found.len(), count, "each post once");
                searches.fetch_add(1, Ordering::AcqRel);
            }
        });
        for round in 0..6 {
            let (before, searched) = (live.status().sequence, searches.load(Ordering::Acquire));
            let target = dir.path().join(format!("shelf/s{round}"));
            let manifest = take(&live, &target).expect("taken");
            let after = live.status().sequence;
            assert!((before..=after).contains(&manifest.sequence), "{before} {} {after}", manifest.sequence);
            while searches.load(Ordering::Acquire) == searched || live.status().sequence == before {
                std::thread::yield_now();
            }
            let restored = dir.path().join(format!("restored{round}"));
            assert_eq!(restore(&target, &restored).expect("restored"), manifest);
            let report = check(&restored).expect("examined");
            assert!(report.agrees(), "{report:?}");
            assert_eq!((report.sequence, report.posts), (manifest.sequence, manifest.posts));

            let copy = open(&restored);
            copy.flush().expect("flushed");
            let mut model = Model::default();
            let found = copy.store().get(&marker(0)).expect("read");
            // One writer, so one transaction a batch.
            model.advance(0, found.map_or(0, |stored| progress(&stored.post)));
            assert_eq!(model.done, manifest.sequence);
            assert_holds(&copy, &[model], &format!("snapshot {round}"));
            write(&copy, upsert("later", "written to the copy"));
        }
        stop.store(true, Ordering::Release);
    });
    assert!(live.store().get(&common::id("later")).expect("read").is_none(), "the copy is on its own");
    live.flush().expect("flushed");
    drop(live);
    assert!(check(&dir.path().join("data")).expect("examined").agrees());
}

#[test]
fn a_snapshot_of_a_closed_directory_and_of_an_empty_one() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (data, at) = (dir.path().join("data"), |name: &str| dir.path().join(name));
    let closed = |target: &Path| {
        let draft = SnapshotDraft::begin(target)?;
        let contents = copy_closed(&data, &draft)?;
        draft.finish(contents)
    };
    assert!(matches!(closed(&at("none")), Err(LiveError::Io { .. })), "there is no such directory");
    let live = open(&data);
    assert!(matches!(closed(&at("open")), Err(LiveError::Locked { .. })));
    assert_eq!(take(&live, &at("empty")).expect("taken").posts, 0);
    write(&live, upsert("a", "sleep well"));
    live.flush().expect("flushed");
    drop(live);
    assert_eq!(closed(&at("one")).expect("taken").posts, 1);
    restore(&at("one"), &at("back")).expect("restored");
    let back = open(&at("back"));
    assert_eq!(
        (lexical(&back.snapshot(), "sleep"), nearest(&back.snapshot(), "sleep", 1)),
        (vec!["a".into()], vec!["a".into()])
    );
    restore(&at("empty"), &at("back to nothing")).expect("restored");
    assert_eq!(open(&at("back to nothing")).status().posts, 0);
}

#[test]
fn a_restored_directory_that_is_written_to_opens_again_and_again() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let live = open(&dir.path().join("data"));
    write(&live, upsert("a", "sleep well"));
    live.flush().expect("flushed");
    take(&live, &dir.path().join("taken")).expect("taken");
    let managed = dir.path().join("taken/generation/lexical/.managed.json");
    assert!(!std::fs::read_to_string(managed).expect("read").contains("lexical.format"));
    let back = dir.path().join("back");
    restore(&dir.path().join("taken"), &back).expect("restored");
    // As snapshots of earlier versions have it: tantivy would delete the file with its next segment.
    let managed = back.join("generation/lexical/.managed.json");
    let mut names: Vec<String> =
        serde_json::from_slice(&std::fs::read(&managed).expect("read")).expect("a list");
    names.push("lexical.format".into());
    std::fs::write(&managed, serde_json::to_vec(&names).expect("JSON")).expect("written");
    for round in 0..3 {
        let live = open(&back);
        for n in 0..20 {
            // Edits leave segments without a post, which are cleared away.
            write(&live, upsert("a", &format!("sleep {round} {n}")));
            live.flush().expect("flushed");
        }
        assert_eq!(lexical(&live.snapshot(), "sleep"), ["a"]);
    }
    assert!(check(&back).expect("examined").agrees());
}

#[test]
fn what_is_not_as_it_was_written_is_named_and_nothing_is_touched() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let live = open(&dir.path().join("data"));
    for n in 0..20 {
        write(&live, upsert(&n.to_string(), &format!("sleep number{n}")));
    }
    live.flush().expect("flushed");
    let (snapshot, target) = (dir.path().join("s"), dir.path().join("new"));
    take(&live, &snapshot).expect("taken");
    drop(live);
    let all = files(&snapshot);
    assert!(all.len() > 8, "{all:?}");
    for path in all {
        let good = fs::read(&path).expect("read");
        // Not through the link that the index may share.
        let replace = |bytes: &[u8]| {
            fs::remove_file(&path).expect("removed");
            fs::write(&path, bytes).expect("written");
        };
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let refused = |what: &str| {
            let error = restore(&snapshot, &target).expect_err(what).to_string();
            assert!(error.contains(&name), "{what} {name}: {error}");
            assert!(!target.exists(), "nothing was made");
        };
        let mut bad = good.clone();
        bad[good.len() / 2] ^= 4;
        replace(&bad);
        refused("a flipped bit in");
        replace(&good[..good.len() - 1]);
        refused("the last byte missing of");
        fs::remove_file(&path).expect("removed");
        refused("the loss of");
        fs::write(&path, &good).expect("written");
    }
    fs::create_dir(&target).expect("made");
    restore(&snapshot, &target).expect("an empty directory will do");
    assert!(matches!(restore(&snapshot, &target), Err(LiveError::NotEmpty { .. })));
    assert!(check(&target).expect("examined").agrees());
    let mut left = fs::read_dir(dir.path()).expect("read").flatten().map(|entry| entry.file_name());
    assert!(left.all(|name| !name.to_string_lossy().starts_with('.')), "nothing unfinished stays behind");
}

#[test]
fn a_draft_that_is_given_up_leaves_nothing_and_a_name_is_taken_once() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let live = open(&dir.path().join("data"));
    write(&live, upsert("a", "sleep well"));
    let target = dir.path().join("shelf/s");
    let draft = SnapshotDraft::begin(&target).expect("begun");
    live.copy_to(&draft).expect("copied");
    assert!(!target.exists(), "not before it is finished");
    drop(draft);
    assert_eq!(fs::read_dir(dir.path().join("shelf")).expect("read").count(), 0);
    take(&live, &target).expect("taken");
    assert!(matches!(SnapshotDraft::begin(&target), Err(LiveError::SnapshotExists { .. })));
    let entries: Vec<_> = fs::read_dir(dir.path().join("shelf")).expect("read").flatten().collect();
    assert_eq!(entries.len(), 1);
}
