//! The ingest log against a real NATS server: killed servers and nodes, deliveries that go astray, several nodes.
#![cfg(unix)]

mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::PullConsumer;
use bowerbird_ingest::{FILE, IngestConfig, State};
use bowerbird_posts::Op;
use futures::StreamExt;
use serde_json::Value;
use support::{
    Server, caught_up, change, contents, make_stream, message, open, outcome, posts, publish, start, until,
};

const DIRECTORY_VARIABLE: &str = "BOWERBIRD_INGEST_TEST_DIRECTORY";
const URL_VARIABLE: &str = "BOWERBIRD_INGEST_TEST_URL";

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_and_doubles_nothing() {
    let Some(mut server) = Server::start() else { return };
    let context = server.context().await;
    make_stream(&context).await;
    let dir = tempfile::tempdir().expect("temporary directory");
    let live = open(dir.path());
    let ingest = start(&server.config(), dir.path(), &live).await;

    let ops = posts(2000);
    let messages: Vec<String> = ops.iter().map(message).collect();
    let publisher = tokio::spawn(async move {
        let mut last = 0;
        for payload in messages {
            last = publish(&context, payload).await;
        }
        last
    });
    until(&ingest, "halfway", |status| status.messages_applied >= 700).await;
    server.kill();
    let status = until(&ingest, "without a connection", |status| !status.connected).await;
    assert_eq!(status.state, State::Connecting, "{status:?}");
    server.start_again();
    let last = publisher.await.expect("published");
    let status = until(&ingest, "at the end", caught_up(last)).await;
    assert!(status.connected && status.messages_missed == 0 && status.messages_refused == 0, "{status:?}");
    assert_eq!(contents(&live), outcome(&ops));
    // Each text was given an ordinal once.
    assert_eq!(live.status().next_ordinal, 2000);
    ingest.stop().await;
    assert_eq!(ingest.status().state, State::Stopped);
}

/// Does nothing unless it is the child of the test below.
#[tokio::test(flavor = "multi_thread")]
async fn child_follows_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIRECTORY_VARIABLE).map(PathBuf::from) else { return };
    let url = std::env::var(URL_VARIABLE).expect("an address");
    let live = open(&dir);
    // Small batches, for many moments between two of them.
    let config = IngestConfig { url, batch: 7, ..IngestConfig::default() };
    let _ingest = start(&config, &dir, &live).await;
    tokio::time::sleep(Duration::from_mins(10)).await;
}

fn child(dir: &Path, url: &str) -> Child {
    Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "child_follows_until_it_is_killed", "--test-threads=1"])
        .env(DIRECTORY_VARIABLE, dir)
        .env(URL_VARIABLE, url)
        .stdout(Stdio::null())
        .spawn()
        .expect("starts")
}

/// What `ingest.json` says.
fn record(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join(FILE)).unwrap_or_default()).unwrap_or_default()
}

/// How far a data directory says it is.
fn recorded(dir: &Path) -> u64 {
    record(dir)["followed"]["applied"].as_u64().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_goes_on_in_order_where_it_stopped() {
    let Some(server) = Server::start() else { return };
    let context = server.context().await;
    make_stream(&context).await;
    let dir = tempfile::tempdir().expect("temporary directory");
    let ops: Vec<Op> = (0..3000).map(change).collect();
    let mut published = 0;
    for (round, part) in ops.chunks(300).enumerate() {
        for op in part {
            published = publish(&context, message(op)).await;
        }
        let before = recorded(dir.path());
        let reached = |recorded: u64| recorded >= (before + 40 + 17 * round as u64).min(published);
        let begun = Instant::now();
        if round % 2 == 0 {
            let mut child = child(dir.path(), &server.url());
            while !reached(recorded(dir.path())) {
                assert!(begun.elapsed() < Duration::from_mins(1), "round {round}: the child does nothing");
                tokio::time::sleep(Duration::from_micros(300)).await;
            }
            child.kill().expect("killed");
            assert_eq!(child.wait().expect("ended").signal(), Some(9), "the child ended by itself");
        } else {
            let live = open(dir.path());
            let ingest = start(&server.config(), dir.path(), &live).await;
            until(&ingest, "further", |status| reached(status.applied_sequence)).await;
            // Dropped without a word in some rounds.
            if round % 4 == 1 {
                ingest.stop().await;
            }
        }
        if round % 3 == 0 {
            // The server forgets the consumer.
            let stream = context.get_stream("POSTS").await.expect("there");
            let node = record(dir.path())["node"].as_str().expect("a name").to_owned();
            stream.delete_consumer(&format!("bowerbird-{node}")).await.expect("deleted");
        }
    }
    let live = open(dir.path());
    let ingest = start(&server.config(), dir.path(), &live).await;
    until(&ingest, "at the end", caught_up(published)).await;
    assert_eq!(contents(&live), outcome(&ops));
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_applied_and_not_recorded_is_applied_again_to_the_same_end() {
    let Some(server) = Server::start() else { return };
    let context = server.context().await;
    make_stream(&context).await;
    let dir = tempfile::tempdir().expect("temporary directory");
    let ops: Vec<Op> = (0..600).map(change).collect();
    let mut early = None;
    for part in ops.chunks(200) {
        let mut last = 0;
        for op in part {
            last = publish(&context, message(op)).await;
        }
        let live = open(dir.path());
        let ingest = start(&server.config(), dir.path(), &live).await;
        until(&ingest, "applied", caught_up(last)).await;
        ingest.stop().await;
        early.get_or_insert_with(|| fs::read(dir.path().join(FILE)).expect("read"));
    }
    fs::write(dir.path().join(FILE), early.expect("a record")).expect("written");
    let live = open(dir.path());
    assert_eq!(contents(&live), outcome(&ops));
    let ingest = start(&server.config(), dir.path(), &live).await;
    let status = until(&ingest, "applied again", caught_up(600)).await;
    assert_eq!(status.messages_applied, 400);
    assert_eq!(contents(&live), outcome(&ops));
    ingest.stop().await;
    // The same with the record of nothing at all.
    fs::remove_file(dir.path().join(FILE)).expect("removed");
    let ingest = start(&server.config(), dir.path(), &live).await;
    until(&ingest, "applied from the beginning", caught_up(600)).await;
    assert_eq!(contents(&live), outcome(&ops));
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_hold_the_same_posts() {
    let Some(server) = Server::start() else { return };
    let context = server.context().await;
    make_stream(&context).await;
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("temporary directory"));
    let lives = [open(dirs[0].path()), open(dirs[1].path())];
    let first = start(&server.config(), dirs[0].path(), &lives[0]).await;
    let ops: Vec<Op> = (0..800).map(change).collect();
    let mut last = 0;
    for (n, op) in ops.iter().enumerate() {
        last = publish(&context, message(op)).await;
        if n == 400 {
            until(&first, "halfway", |status| status.messages_applied > 100).await;
        }
    }
    // The second comes late, and reads in other batches.
    let config = IngestConfig { batch: 33, name: Some("late".into()), ..server.config() };
    let second = start(&config, dirs[1].path(), &lives[1]).await;
    until(&first, "at the end", caught_up(last)).await;
    until(&second, "at the end", caught_up(last)).await;
    assert_ne!(first.status().consumer, second.status().consumer);
    assert_eq!(contents(&lives[0]), outcome(&ops));
    assert_eq!(contents(&lives[0]), contents(&lives[1]));
    for ingest in [first, second] {
        ingest.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_that_another_took_are_read_again() {
    let Some(server) = Server::start() else { return };
    let context = server.context().await;
    make_stream(&context).await;
    let dir = tempfile::tempdir().expect("temporary directory");
    let live = open(dir.path());
    let config = IngestConfig { name: Some("shared".into()), ..server.config() };
    let ingest = start(&config, dir.path(), &live).await;
    let ops: Vec<Op> = (0..300).map(change).collect();
    until(&ingest, "following", |status| status.state == State::Following).await;
    let stream = context.get_stream("POSTS").await.expect("there");
    let mut last = 0;
    for (n, op) in ops.iter().enumerate() {
        if n % 50 == 0 {
            // Asks for five of what comes, which then do not come to the node.
            let consumer: PullConsumer = stream.get_consumer("shared").await.expect("there");
            let taken = consumer.batch().max_messages(5).expires(Duration::from_secs(5)).messages();
            let taken = taken.await.expect("asked");
            tokio::spawn(taken.count());
        }
        last = publish(&context, message(op)).await;
    }
    let status = until(&ingest, "at the end", caught_up(last)).await;
    assert!(status.restarts > 0, "{status:?}");
    assert_eq!(contents(&live), outcome(&ops));
    ingest.stop().await;
}
