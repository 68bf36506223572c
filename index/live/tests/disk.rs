//! A full disk, a read-only one, files that were cut short, clocks that go backwards.
//!
//! Full and read-only disks are small file systems in memory, which only root may mount. Where that is not allowed,
//! those tests say so and end.
#![expect(clippy::print_stderr, reason = "a test that cannot run here says so")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bowerbird_live::{
    Filter, Live, LiveConfig, LiveError, Part, Remedy, SnapshotDraft, check, repair, restore,
};
use bowerbird_posts::{Op, Outcome, StoreError};
use bytesize::ByteSize;
use common::{config, id, lexical, nearest, open, post, stub, upsert, write};

/// A file system in memory, taken away at the end.
struct Disk(tempfile::TempDir);

impl Disk {
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("temporary directory");
        let options = format!("size={size}");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir.path()).output();
        match mount {
            Ok(output) if output.status.success() => Some(Self(dir)),
            Ok(output) => {
                eprintln!(
                    "skipped: mounting is not allowed here: {}",
                    String::from_utf8_lossy(&output.stderr)
                );
                None
            }
            Err(error) => {
                eprintln!("skipped: no `mount`: {error}");
                None
            }
        }
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn remount(&self, how: &str) -> bool {
        let options = format!("remount,{how}");
        Command::new("mount").args(["-o", &options]).arg(self.0.path()).status().is_ok_and(|s| s.success())
    }

    /// Leaves so many bytes free.
    fn fill(&self, leave: u64) -> PathBuf {
        let filler = self.0.path().join("filler");
        let free = || {
            let stat = rustix::fs::statvfs(self.0.path()).expect("measured");
            stat.f_bavail * stat.f_frsize
        };
        let bytes = usize::try_from(free().saturating_sub(leave)).expect("small");
        fs::write(&filler, vec![7; bytes]).expect("filled");
        assert!(free() <= leave, "{} bytes are left", free());
        filler
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a file may still be open when a test fails.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn numbered(n: u64) -> Op {
    upsert(&format!("p{n}"), &format!("common word{n} {}", "filling ".repeat(60)))
}

fn all_there(live: &Live, count: u64) {
    assert_eq!(live.store().len().expect("read"), count);
    live.flush().expect("flushed");
    let snapshot = live.snapshot();
    assert_eq!(snapshot.lexical().doc_count(), count);
    assert!(snapshot.live().is_subset(&snapshot.vectors().points()));
    for n in 0..count {
        assert_eq!(lexical(&snapshot, &format!("word{n}")), [format!("p{n}")]);
    }
}

#[test]
fn before_the_disk_is_full_writes_are_refused_and_go_on_when_there_is_room() {
    let Some(disk) = Disk::mount("128m") else { return };
    let config = LiveConfig { reserve: ByteSize::mib(16), ..config() };
    let live = Live::open(&disk.data(), config, stub()).expect("opens");
    for n in 0..50 {
        write(&live, numbered(n));
    }
    live.flush().expect("flushed");
    let filler = disk.fill(10 << 20);
    for _ in 0..3 {
        match live.write_blocking(vec![numbered(50)]) {
            Err(error @ LiveError::NoRoom { .. }) => {
                assert!(error.to_string().contains("bytes free"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(lexical(&live.snapshot(), "word7"), ["p7"], "reads go on");
    assert!(live.store().get(&id("p7")).expect("read").is_some());
    let draft = SnapshotDraft::begin(&disk.0.path().join("s")).expect("begun");
    assert!(
        matches!(live.copy_to(&draft), Err(LiveError::NoRoom { .. })),
        "a snapshot says so before it begins"
    );
    drop(draft);
    fs::remove_file(filler).expect("removed");
    write(&live, numbered(50));
    all_there(&live, 51);
    drop(live);
    let report = check(&disk.data()).expect("examined");
    assert!(report.agrees() && report.posts == 51, "{report:?}");
}

#[test]
fn a_disk_that_fills_up_in_the_middle_loses_nothing_and_heals_without_a_restart() {
    let Some(disk) = Disk::mount("96m") else { return };
    let config = LiveConfig { reserve: ByteSize(0), ..config() };
    let live = Live::open(&disk.data(), config, stub()).expect("opens");
    let mut acknowledged = 0;
    for _ in 0..50 {
        write(&live, numbered(acknowledged));
        acknowledged += 1;
    }
    live.flush().expect("flushed");
    for round in 0..3 {
        let filler = disk.fill(round * 300_000);
        let refused = loop {
            match live.write_blocking(vec![numbered(acknowledged)]) {
                Ok(_) => acknowledged += 1,
                Err(error) => break error,
            }
            assert!(acknowledged < 100_000, "the disk never filled up");
        };
        let said = refused.to_string();
        assert!(
            matches!(&refused, LiveError::NoRoom { .. })
                || matches!(&refused, LiveError::Store(error) if matches!(**error, StoreError::Io { .. })),
            "{refused:?}"
        );
        assert!(said.contains("space") || said.contains("bytes free"), "{said}");
        for n in [0, acknowledged / 2, acknowledged - 1] {
            let read = live.store().get(&id(&format!("p{n}"))).expect("reads go on");
            assert!(read.is_some(), "p{n} was acknowledged");
        }
        assert_eq!(lexical(&live.snapshot(), "word7"), ["p7"], "searches go on");
        fs::remove_file(filler).expect("removed");
        write(&live, numbered(acknowledged));
        acknowledged += 1;
        all_there(&live, acknowledged);
    }
    drop(live);
    let report = check(&disk.data()).expect("examined");
    assert!(report.agrees() && report.posts == acknowledged, "{report:?}");
    all_there(&open(&disk.data()), acknowledged);
}

#[test]
fn a_read_only_disk_is_named_and_nothing_is_lost() {
    let Some(disk) = Disk::mount("128m") else { return };
    let live = open(&disk.data());
    write(&live, numbered(0));
    live.flush().expect("flushed");
    drop(live);
    if !disk.remount("ro") {
        eprintln!("skipped: remounting is not allowed here");
        return;
    }
    for result in [
        Live::open(&disk.data(), config(), stub()).map(drop),
        check(&disk.data()).map(drop),
        repair(&disk.data()).map(drop),
        restore(&disk.data(), &disk.0.path().join("new")).map(drop),
    ] {
        let said = result.expect_err("read-only").to_string();
        assert!(said.contains(&*disk.0.path().to_string_lossy()), "{said}");
    }
    assert!(disk.remount("rw"));
    all_there(&open(&disk.data()), 1);
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("read").flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a kind").is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("copied");
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("read").flatten() {
        if entry.file_type().expect("a kind").is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// How a file is spoiled: its bytes to the bytes that are left, none when it goes.
type Spoil = (&'static str, fn(&[u8]) -> Option<Vec<u8>>);

#[test]
fn every_file_that_is_cut_short_or_lost_is_named_and_indexes_are_made_again() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let live = open(&dir.path().join("data"));
    for n in 0..40 {
        write(&live, numbered(n));
    }
    live.flush().expect("flushed");
    write(&live, Op::Delete(id("p39")));
    live.flush().expect("flushed");
    let draft = SnapshotDraft::begin(&dir.path().join("s")).expect("begun");
    let contents = live.copy_to(&draft).expect("copied");
    draft.finish(contents).expect("taken");
    drop(live);
    let spoils: [Spoil; 3] = [
        ("its last bytes cut off", |bytes| Some(bytes[..bytes.len() - 3].to_vec())),
        ("its second half cut off", |bytes| Some(bytes[..bytes.len() / 2].to_vec())),
        ("gone", |_| None),
    ];
    let mut kinds = 0;
    for file in files(&dir.path().join("data")) {
        let relative = file.strip_prefix(dir.path().join("data")).expect("inside").to_path_buf();
        let name = relative.file_name().expect("a name").to_string_lossy().into_owned();
        let good = fs::read(&file).expect("read");
        if good.len() < 4 {
            continue; // Locks are empty.
        }
        kinds += 1;
        for (how, spoil) in spoils {
            let root = dir.path().join("spoiled");
            let _ = fs::remove_dir_all(&root);
            copy_tree(&dir.path().join("data"), &root);
            let path = root.join(&relative);
            match spoil(&good) {
                Some(bytes) => fs::write(&path, bytes).expect("written"),
                None => fs::remove_file(&path).expect("removed"),
            }
            examine(&root, &relative, &name, how, &dir.path().join("s"));
        }
    }
    assert!(kinds >= 10, "{kinds} files of the data directory were spoiled");
}

fn examine(root: &Path, relative: &Path, name: &str, how: &str, snapshot: &Path) {
    let what = format!("{} {how}", relative.display());
    if name == "FORMAT" {
        // A missing one is written again; another one is no directory of ours until it is mended.
        if let Err(error) = check(root) {
            assert!(error.to_string().contains("FORMAT"), "{what}: {error}");
        } else {
            assert_eq!(how, "gone", "{what}");
        }
    } else if relative.starts_with("posts") {
        let report = check(root).expect("examined");
        if name == "posts.format" && how == "gone" {
            return assert!(report.agrees(), "{what}: it is made again from what the store says: {report:?}");
        }
        let problem = report.problems.first().unwrap_or_else(|| panic!("{what}: {report:?}"));
        assert_eq!((problem.part, problem.remedy), (Part::Posts, Remedy::Restore), "{what}");
        assert!(problem.message.contains(name), "{what}: {}", problem.message);
        assert!(repair(root).is_err(), "{what}: posts are not made of nothing");
        fs::remove_dir_all(root).expect("removed");
        restore(snapshot, root).expect("restored");
    } else if name == "vectors.log" && how == "its last bytes cut off" {
        // What a crash leaves, too: no damage, one vector to be made.
        let report = check(root).expect("examined");
        let vectors = report.vectors.unwrap_or_default();
        assert!(report.agrees() && vectors.torn_bytes > 0, "{what}: {report:?}");
    } else {
        let report = check(root).expect("examined");
        // A log cut in the middle of a record is a log that lost its tail.
        let shorter = name == "vectors.log" && how == "its second half cut off";
        if shorter {
            assert!(report.vectors.is_some_and(|vectors| vectors.pending >= 15), "{what}: {report:?}");
        } else if relative.ends_with("lexical.format") || !report.agrees() {
            let said: Vec<&str> = report.problems.iter().map(|problem| problem.message.as_str()).collect();
            let names = said.iter().any(|said| said.contains(name) || said.contains("log in"));
            assert!(names, "{what}: {said:?}");
        } else {
            panic!("{what} was not noticed: {report:?}");
        }
    }
    let repaired = repair(root).expect("repaired");
    let lost_log = repaired.check.problems.iter().all(|problem| problem.message.contains("log in"));
    assert!(repaired.check.agrees() || (name == "vectors.log" && lost_log), "{what}: {:?}", repaired.check);
    let live = open(root);
    all_there(&live, 39);
    drop(live);
    assert!(check(root).expect("examined").agrees(), "{what}");
}

#[test]
fn what_arrives_last_counts_whatever_its_clock_says() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let live = open(dir.path());
    let at = |name: &str, text: &str, time: &str| {
        let mut post = post(name, text);
        post.created_at = time.parse().expect("a time");
        Op::Upsert(Box::new(post))
    };
    // Each post is older than the one before it, and the last edit is of the year 1969.
    let times =
        ["2030-01-01T00:00:00Z", "2020-01-01T00:00:00Z", "1970-01-01T00:00:01Z", "1969-01-01T00:00:00Z"];
    let mut sequence = 0;
    for (n, time) in times.iter().enumerate() {
        write(&live, at(&format!("p{n}"), &format!("post number{n}"), time));
        let outcome = write(&live, at("edited", &format!("edit number{n}"), time));
        assert!(matches!((n, outcome), (0, Outcome::Created { .. }) | (1.., Outcome::Replaced { .. })));
        assert!(live.status().sequence > sequence, "transactions are counted, not timed");
        sequence = live.status().sequence;
    }
    live.flush().expect("flushed");
    let snapshot = live.snapshot();
    assert_eq!(
        (lexical(&snapshot, "edit"), nearest(&snapshot, "edit number3", 1)),
        (vec!["edited".into()], vec!["edited".into()])
    );
    let since = |second| snapshot.allowed(Some(&Filter::Since(second))).expect("evaluated").bitmap.len();
    assert_eq!((since(0), since(-40_000_000)), (3, 5));
    drop(snapshot);
    drop(live);
    let live = open(dir.path());
    assert_eq!(live.status().posts, 5);
    assert_eq!(live.store().get(&id("edited")).expect("read").expect("there").post.text, "edit number3");
    drop(live);
    assert!(check(dir.path()).expect("examined").agrees());
}
