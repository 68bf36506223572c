//! `kill -9` in the middle of writing loses nothing that was acknowledged.
//!
//! The test starts itself as a child that writes and prints what was acknowledged, and kills it.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bowerbird_live::Live;
use bowerbird_posts::Op;
use common::{Stub, config, id, is_locked, lexical, nearest, open, upsert};

const DIRECTORY_VARIABLE: &str = "BOWERBIRD_CRASH_TEST_DIRECTORY";

/// Does nothing unless it is the child of the test below.
#[test]
fn child_writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIRECTORY_VARIABLE).map(PathBuf::from) else { return };
    let live = open(&dir);
    let mut out = std::io::stdout().lock();
    for n in live.status().next_ordinal.. {
        let name = format!("post{n}");
        live.write_blocking(vec![upsert(&name, &format!("text of {name} word{n}"))]).expect("written");
        writeln!(out, "\nwrote {name} {n}").and_then(|()| out.flush()).expect("the parent reads");
        if n % 4 == 3 {
            let dead = format!("post{}", n - 1);
            live.write_blocking(vec![Op::Delete(id(&dead))]).expect("written");
            writeln!(out, "\ndeleted {dead} {}", n - 1).and_then(|()| out.flush()).expect("the parent reads");
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut alive: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();
    let mut dead = Vec::new();
    for lines_until_kill in [1, 17, 60] {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "child_writes_until_it_is_killed", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY_VARIABLE, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut acknowledged = 0;
        let mut take = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["wrote", name, n] => {
                    alive.insert(name.to_owned(), format!("word{n}"));
                    true
                }
                ["deleted", name, n] => {
                    alive.remove(name);
                    dead.push((name.to_owned(), format!("word{n}")));
                    true
                }
                _ => false,
            }
        };
        for line in lines.by_ref() {
            acknowledged += usize::from(take(&line.expect("text")));
            if acknowledged == lines_until_kill {
                break;
            }
        }
        assert_eq!(acknowledged, lines_until_kill, "the child ended by itself");
        assert!(
            is_locked(Live::open(dir.path(), config(), Arc::new(Stub::default()))),
            "the child holds the lock"
        );
        child.kill().expect("killed");
        child.wait().expect("ended");
        // What it printed before it died was acknowledged too.
        for line in lines {
            take(&line.expect("text"));
        }

        let live = open(dir.path());
        live.flush().expect("flushed");
        let snapshot = live.snapshot();
        for (name, word) in &alive {
            assert!(live.store().get(&id(name)).expect("read").is_some(), "{name} is lost");
            assert_eq!(&lexical(&snapshot, word)[..], std::slice::from_ref(name));
            assert!(
                nearest(&snapshot, &format!("text of {name} {word}"), 20).contains(name),
                "{name} has no vector"
            );
        }
        for (name, word) in &dead {
            assert!(live.store().get(&id(name)).expect("read").is_none(), "{name} came back");
            assert!(lexical(&snapshot, word).is_empty(), "{name} is still found");
        }
        assert_eq!(snapshot.live(), &live.store().live_ordinals().expect("read"));
        assert_eq!(snapshot.lexical().doc_count(), snapshot.live().len());
        assert!(snapshot.live().is_subset(&snapshot.vectors().points()));
    }
}
