//! `kill -9` at random moments loses nothing that was acknowledged.

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader, Write, stdout};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use bowerbird_posts::{CountsPatch, Op, Ordinal, Post, PostId, PostStore};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const DIRECTORY: &str = "BOWERBIRD_CRASH_TEST_DIRECTORY";

/// The batch that makes transaction `sequence`: a function of the number, so that the parent can replay it.
fn batch(sequence: u64) -> Vec<Op> {
    let mut random = SmallRng::seed_from_u64(sequence);
    (0..random.random_range(1..20))
        .map(|_| {
            let id = PostId::new(format!("p{}", random.random_range(0..200))).expect("valid");
            match random.random_range(0..6) {
                0 => Op::Delete(id),
                1 => Op::SetCounts {
                    id,
                    counts: CountsPatch { likes: Some(sequence), ..CountsPatch::default() },
                },
                _ => {
                    let text = format!("{sequence} {}", "word ".repeat(random.random_range(1..60)));
                    Op::Upsert(Box::new(Post::new(id, text, "ann", jiff::Timestamp::UNIX_EPOCH)))
                }
            }
        })
        .collect()
}

fn replay(sequence: u64) -> BTreeMap<PostId, Post> {
    let mut posts = BTreeMap::new();
    for op in (1..=sequence).flat_map(batch) {
        match op {
            Op::Delete(id) => {
                posts.remove(&id);
            }
            Op::SetCounts { id, counts } => {
                if let Some(post) = posts.get_mut(&id) {
                    let post: &mut Post = post;
                    post.counts = counts.apply(post.counts);
                }
            }
            Op::Upsert(post) => {
                posts.insert(post.id.clone(), *post);
            }
        }
    }
    posts
}

/// Runs only as the child of the test below, and then until it is killed.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Ok(dir) = env::var(DIRECTORY) else { return };
    let store = PostStore::open(Path::new(&dir)).expect("opens after a kill");
    let mut sequence = store.sequence().expect("reads");
    loop {
        let applied = store.apply(&batch(sequence + 1)).expect("applies");
        sequence = applied.sequence;
        let mut out = stdout().lock();
        writeln!(out, "acknowledged {sequence}").and_then(|()| out.flush()).expect("the parent listens");
    }
}

#[test]
fn killing_the_writer_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut random = SmallRng::seed_from_u64(11);
    let mut acknowledged = 0;
    for round in 0..12 {
        let mut child = Command::new(env::current_exe().expect("this test"))
            .args(["--exact", "child_that_writes_until_it_is_killed", "--nocapture"])
            .env(DIRECTORY, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let mut left = random.random_range(1..40);
        let mut lines = out.lines();
        // The harness prints lines of its own, and may put one before ours.
        let number =
            |line: &str| line.split("acknowledged ").nth(1).and_then(|n| n.trim().parse::<u64>().ok());
        while left > 0 {
            let line = lines.next().expect("the child writes until it is killed").expect("reads");
            if let Some(sequence) = number(&line) {
                acknowledged = sequence;
                left -= 1;
            }
        }
        thread::sleep(Duration::from_micros(random.random_range(0..6000)));
        child.kill().expect("kills");
        child.wait().expect("ends");
        for line in lines.map_while(Result::ok) {
            acknowledged = number(&line).unwrap_or(acknowledged);
        }

        let store = PostStore::open(dir.path()).expect("opens after a kill");
        let sequence = store.sequence().expect("reads");
        assert!(
            sequence == acknowledged || sequence == acknowledged + 1,
            "round {round}: acknowledged {acknowledged}, found {sequence}"
        );
        let mut found = BTreeMap::new();
        store
            .scan(Ordinal(0), &mut |stored| {
                found.insert(stored.post.id.clone(), stored.post);
                ControlFlow::Continue(())
            })
            .expect("scans");
        assert!(
            found == replay(sequence),
            "round {round}: other posts than transactions 1 to {sequence} make"
        );
    }
    assert!(acknowledged > 12, "only {acknowledged} transactions in 12 rounds");
}
