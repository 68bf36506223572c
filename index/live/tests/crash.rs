//! `kill -9` at random moments loses nothing that was acknowledged and brings back nothing that was deleted.
//!
//! The test starts itself as a child in which several threads write, edit, change counters and delete while others
//! search and read, kills it, opens what it left, and looks at everything. Again, 50 times
//! (`BOWERBIRD_KILLS=500` for more). A kill is not a power cut: it proves the order of writes and the recovery, not
//! that the disk keeps what it was told to sync.

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bowerbird_live::{Live, check};
use bowerbird_posts::Ordinal;
use common::history::{Model, batch, marker, progress};
use common::{assert_holds, embed, is_locked, lexical, open};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const DIRECTORY_VARIABLE: &str = "BOWERBIRD_CRASH_TEST_DIRECTORY";
const KILLS_VARIABLE: &str = "BOWERBIRD_KILLS";
const SEED_VARIABLE: &str = "BOWERBIRD_CRASH_SEED";
const WRITERS: u32 = 3;

/// Does nothing unless it is the child of the test below.
#[test]
fn child_writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIRECTORY_VARIABLE).map(PathBuf::from) else { return };
    let live = open(&dir);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let live = live.clone();
            scope.spawn(move || {
                let found = live.store().get(&marker(writer)).expect("read");
                for n in found.map_or(0, |stored| progress(&stored.post)) + 1.. {
                    live.write_blocking(batch(writer, n)).expect("written");
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "\nacknowledged {writer} {n}").and_then(|()| out.flush()).expect("read");
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    read(&live);
                }
            });
        }
    });
}

/// What every reader may rely on at any moment; a failure ends the child, which the parent notices.
fn read(live: &Live) {
    let abort = |why: &str| {
        let _ = writeln!(std::io::stderr(), "a reader found: {why}");
        std::process::abort();
    };
    let snapshot = live.snapshot();
    let mut found = lexical(&snapshot, "common");
    let count = found.len();
    found.sort();
    found.dedup();
    if found.len() != count {
        abort("a post twice");
    }
    let nearest = snapshot.vectors().search(&embed("common progress"), 20, Some(snapshot.live()));
    let Ok(nearest) = nearest else { return abort("no vector search") };
    let ordinals: Vec<Ordinal> = nearest.iter().map(|(point, _)| Ordinal(point.0)).collect();
    match snapshot.posts(&ordinals) {
        Ok(posts) => {
            for (ordinal, post) in ordinals.into_iter().zip(posts) {
                // One that has died since the snapshot is gone from the store, a moment before later snapshots say so.
                let begun = Instant::now();
                while post.is_none() && live.is_live(ordinal) {
                    if begun.elapsed() > Duration::from_secs(20) {
                        abort("a live post without a record");
                    }
                    thread::yield_now();
                }
                if snapshot.columns().id(ordinal).is_none() {
                    abort("a live post without a row");
                }
            }
        }
        Err(_) => abort("no record"),
    }
}

/// A child, and what it has acknowledged: by writer, its last batch.
struct Writing {
    child: Child,
    first: mpsc::Receiver<()>,
    acknowledged: JoinHandle<BTreeMap<u32, u64>>,
}

fn start(dir: &Path) -> Writing {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "child_writes_until_it_is_killed", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY_VARIABLE, dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let (tell, first) = mpsc::channel();
    let acknowledged = thread::spawn(move || {
        let mut last = BTreeMap::new();
        for line in lines.map_while(Result::ok) {
            if let Some((writer, n)) =
                line.strip_prefix("acknowledged ").and_then(|rest| rest.split_once(' '))
            {
                // The last line may be cut short by the kill; a shorter number is a smaller one.
                if let (Ok(writer), Ok(n)) = (writer.parse(), n.parse::<u64>()) {
                    let known: &mut u64 = last.entry(writer).or_default();
                    *known = n.max(*known);
                    let _ = tell.send(());
                }
            }
        }
        last
    });
    Writing { child, first, acknowledged }
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_deleted_comes_back() {
    let number = |name, default| {
        std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
    };
    let kills = number(KILLS_VARIABLE, 50);
    let seed = number(SEED_VARIABLE, rand::random());
    let again = format!("{SEED_VARIABLE}={seed} {KILLS_VARIABLE}={kills}");
    let mut random = SmallRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut models = vec![Model::default(); WRITERS as usize];
    for kill in 0..kills {
        let mut writing = start(dir.path());
        if random.random_ratio(1, 5) {
            // While it starts and recovers.
            thread::sleep(Duration::from_micros(random.random_range(0..60_000)));
        } else {
            writing
                .first
                .recv_timeout(Duration::from_mins(1))
                .unwrap_or_else(|_| panic!("{again}: no write"));
            assert!(is_locked(Live::open(dir.path(), common::config(), common::stub())), "{again}");
            thread::sleep(Duration::from_micros(random.random_range(0..150_000)));
        }
        writing.child.kill().expect("killed");
        let ended = writing.child.wait().expect("ended");
        assert_eq!(ended.signal(), Some(9), "{again}: the child ended by itself in round {kill}");
        let acknowledged = writing.acknowledged.join().expect("read");

        let when = format!("{again}, after kill {kill}");
        let left = check(dir.path()).expect("examined");
        assert!(left.agrees(), "{when}: as the kill left it: {left:?}");
        let live = open(dir.path());
        live.flush().expect("flushed");
        for (writer, model) in (0..).zip(&mut models) {
            let found = live.store().get(&marker(writer)).expect("read");
            let found = found.map_or(0, |stored| progress(&stored.post));
            // A batch is in it whole or not at all, and the last one may be in without having been told.
            let told = acknowledged.get(&writer).copied().unwrap_or(model.done);
            assert!(
                (told..=told + 1).contains(&found),
                "{when}: writer {writer} told {told}, stored {found}"
            );
            model.advance(writer, found);
        }
        assert_holds(&live, &models, &when);
        drop(live);
        let report = check(dir.path()).expect("examined");
        assert!(report.agrees(), "{when}: {report:?}");
        let (lexical, vectors) = (report.lexical.expect("there"), report.vectors.expect("there"));
        assert_eq!((lexical.sequence, lexical.stale), (report.sequence, 0), "{when}");
        assert_eq!(lexical.posts, report.posts, "{when}");
        assert_eq!(vectors.pending, 0, "{when}");
    }
    assert!(models.iter().all(|model| model.done > 0), "{again}: {kills} kills before anything was written");
}
