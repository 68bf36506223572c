//! The ingest log against a real NATS server, which is killed, loses streams, and is followed by nodes that are killed.
#![cfg(unix)]

mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::stream::{self, RetentionPolicy};
use bowerbird_ingest::{FILE, IngestConfig, IngestStatus, State};
use bowerbird_live::LiveConfig;
use bowerbird_posts::Op;
use bytesize::ByteSize;
use futures::StreamExt;
use serde_json::Value;
use support::{
    Server, change, contents, make_stream, message, open, open_with, outcome, post, publish, start, until,
};

const DIRECTORY_VARIABLE: &str = "BOWERBIRD_INGEST_TEST_DIRECTORY";
const URL_VARIABLE: &str = "BOWERBIRD_INGEST_TEST_URL";

fn posts(count: u32) -> Vec<Op> {
    (0..count).map(|n| Op::Upsert(Box::new(post(&format!("p{n}"), &format!("text {n}"))))).collect()
}

fn caught_up(last: u64) -> impl Fn(&IngestStatus) -> bool {
    move |status| status.applied_sequence >= last && status.lag == Some(0)
}

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
async fn messages_that_are_no_posts_are_refused_and_block_nothing() {
    let Some(server) = Server::start() else { return };
    let context = server.context().await;
    make_stream(&context).await;
    let dir = tempfile::tempdir().expect("temporary directory");
    let live = open(dir.path());
    let good = posts(3);
    let bad = [
        "",
        "{",
        "{\"delete\":7}",
        "{\"id\":\"x\"}",
        "{\"patch\":\"p0\",\"counts\":{\"like\":1}}",
        "\u{0}\u{1}",
    ];
    let mut last = 0;
    for at in 0..30 {
        publish(&context, bad[at % bad.len()].to_owned()).await;
        last = publish(&context, message(&good[at % good.len()])).await;
    }
    let ingest = start(&server.config(), dir.path(), &live).await;
    let status = until(&ingest, "at the end", caught_up(last)).await;
    assert_eq!((status.messages_applied, status.messages_refused), (30, 30));
    assert_eq!(status.rejected.len(), 20);
    let newest = status.rejected.back().expect("one");
    assert_eq!((newest.sequence, newest.subject.as_str()), (last - 1, "posts.a"));
    assert!(status.rejected.iter().any(|one| one.reason.contains("unknown field `like`")), "{status:?}");
    assert_eq!((contents(&live), status.last_error), (outcome(&good), None));
    // All of it is acknowledged.
    let stream = context.get_stream("POSTS").await.expect("there");
    let begun = Instant::now();
    loop {
        let info = stream.consumer_info(&status.consumer).await.expect("there");
        if info.num_ack_pending == 0 && info.ack_floor.stream_sequence == last {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{info:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn posts_wait_for_room_and_are_acknowledged_when_they_are_durable() {
    let Some(server) = Server::start() else { return };
    let context = server.context().await;
    make_stream(&context).await;
    let dir = tempfile::tempdir().expect("temporary directory");
    let ops = posts(250);
    for op in &ops {
        publish(&context, message(op)).await;
    }
    let full = LiveConfig { reserve: ByteSize::eib(1), ..LiveConfig::default() };
    let live = open_with(dir.path(), full);
    let ingest = start(&server.config(), dir.path(), &live).await;
    let status = until(&ingest, "waiting", |status| status.state == State::Waiting).await;
    assert!(status.last_error.is_some_and(|error| error.contains("free space")));
    let stream = context.get_stream("POSTS").await.expect("there");
    let info = stream.consumer_info(&status.consumer).await.expect("there");
    assert!(info.num_ack_pending >= 100 && info.ack_floor.stream_sequence == 0, "{info:?}");
    assert_eq!(status.applied_sequence, 0);
    until(&ingest, "behind", |status| status.lag == Some(250)).await;
    ingest.stop().await;
    drop(live);
    let live = open(dir.path());
    let ingest = start(&server.config(), dir.path(), &live).await;
    until(&ingest, "at the end", caught_up(250)).await;
    assert_eq!(contents(&live), outcome(&ops));
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_stream_under_the_name_is_noticed() {
    let Some(server) = Server::start() else { return };
    let context = server.context().await;
    let dir = tempfile::tempdir().expect("temporary directory");
    let live = open(dir.path());
    // The stream is not there yet; it is looked for until it is.
    let ingest = start(&server.config(), dir.path(), &live).await;
    let status = until(&ingest, "without a stream", |status| status.state == State::Halted).await;
    assert!(status.last_error.is_some_and(|error| error.contains("make it")));
    make_stream(&context).await;
    let ops = posts(20);
    let mut last = 0;
    for op in &ops[..10] {
        last = publish(&context, message(op)).await;
    }
    until(&ingest, "at the end", caught_up(last)).await;

    // Deleted and made again while it is followed.
    context.delete_stream("POSTS").await.expect("deleted");
    make_stream(&context).await;
    for op in &ops[10..] {
        publish(&context, message(op)).await;
    }
    let noticed = |status: &IngestStatus| {
        status.state == State::Halted
            && status.last_error.as_ref().is_some_and(|error| error.contains("made again"))
    };
    let status = until(&ingest, "noticed", noticed).await;
    assert_eq!((status.streams_recreated, status.applied_sequence, status.lag), (1, last, None));
    assert!(status.last_error.is_some_and(|error| error.contains("remove") && error.contains(FILE)));
    assert_eq!(contents(&live), outcome(&ops[..10]), "nothing is mixed in");
    // What the message says to do, without a new start.
    fs::remove_file(dir.path().join(FILE)).expect("removed");
    let status = until(&ingest, "at the end of the other", |status| status.messages_applied == 20).await;
    assert_eq!((status.state, status.applied_sequence), (State::Following, 10), "{status:?}");
    assert_eq!(contents(&live), outcome(&ops));
    ingest.stop().await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_the_stream_can_be_followed_and_holes_are_none_of_its_concern() {
    let Some(server) = Server::start() else { return };
    let context = server.context().await;
    make_stream(&context).await;
    let ops = posts(60);
    for (n, op) in ops.iter().enumerate() {
        let subject = if n % 3 == 0 { "posts.b" } else { "posts.a" };
        let sent = context.publish(subject, message(op).into()).await.expect("sent");
        sent.await.expect("stored");
    }
    let stream = context.get_stream("POSTS").await.expect("there");
    stream.delete_message(5).await.expect("deleted");
    let dir = tempfile::tempdir().expect("temporary directory");
    let live = open(dir.path());
    let config = IngestConfig { subject: Some("posts.a".into()), batch: 7, ..server.config() };
    let ingest = start(&config, dir.path(), &live).await;
    let status = until(&ingest, "at the end", caught_up(60)).await;
    let expected = ops.iter().enumerate().filter(|(n, _)| n % 3 != 0 && *n != 4).map(|(_, op)| op);
    assert_eq!(contents(&live), outcome(expected));
    assert_eq!((status.restarts, status.messages_applied, status.messages_missed), (0, 39, 0));
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_wants_a_token_gets_it() {
    let Some(server) = Server::start_with(&["--auth", "geheim"]) else { return };
    let with = IngestConfig { token: Some("geheim".into()), ..server.config() };
    let dir = tempfile::tempdir().expect("temporary directory");
    let live = open(dir.path());
    let ingest = start(&with, dir.path(), &live).await;
    until(&ingest, "connected", |status| status.connected && status.state == State::Halted).await;
    ingest.stop().await;
    let ingest = start(&server.config(), dir.path(), &live).await;
    let refused = |status: &IngestStatus| {
        status.last_error.as_ref().is_some_and(|error| error.to_lowercase().contains("authorization"))
    };
    let status = until(&ingest, "refused", refused).await;
    assert!(!status.connected, "{status:?}");
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_and_lost_messages_are_noticed() {
    let Some(server) = Server::start() else { return };
    let context = server.context().await;
    make_stream(&context).await;
    let dir = tempfile::tempdir().expect("temporary directory");
    let live = open(dir.path());
    let ops = posts(30);
    for op in &ops[..10] {
        publish(&context, message(op)).await;
    }
    let ingest = start(&server.config(), dir.path(), &live).await;
    until(&ingest, "at the end", caught_up(10)).await;
    ingest.stop().await;
    for op in &ops[10..] {
        publish(&context, message(op)).await;
    }
    // Dropped by the limits of the stream before they were read: five are gone, the others are applied.
    let stream = context.get_stream("POSTS").await.expect("there");
    stream.purge().sequence(16).await.expect("purged");
    let ingest = start(&server.config(), dir.path(), &live).await;
    let status = until(&ingest, "at the end", caught_up(30)).await;
    assert_eq!((status.messages_missed, status.messages_applied), (5, 15));
    assert_eq!(contents(&live).len(), 25);
    ingest.stop().await;

    // A server that is behind what is applied here.
    let path = dir.path().join(FILE);
    let record = fs::read_to_string(&path).expect("read");
    fs::write(&path, record.replace("\"applied\":30", "\"applied\":31")).expect("written");
    let ingest = start(&server.config(), dir.path(), &live).await;
    let status = until(&ingest, "halted", |status| status.state == State::Halted).await;
    assert!(status.last_error.is_some_and(|error| error.contains("ends at sequence 30, but 31")));
    ingest.stop().await;

    // A stream that forgets what was read.
    let config = stream::Config {
        name: "QUEUE".into(),
        subjects: vec!["queue".into()],
        retention: RetentionPolicy::WorkQueue,
        ..stream::Config::default()
    };
    context.create_stream(config).await.expect("made");
    let other = tempfile::tempdir().expect("temporary directory");
    let live = open(other.path());
    let config = IngestConfig { stream: "QUEUE".into(), ..server.config() };
    let ingest = start(&config, other.path(), &live).await;
    let status = until(&ingest, "halted", |status| status.state == State::Halted).await;
    assert!(status.last_error.is_some_and(|error| error.contains("retention workqueue")));
    ingest.stop().await;
}

/// `cargo test --release -p bowerbird-ingest --test nats -- --ignored --nocapture throughput`
#[expect(clippy::print_stderr, reason = "it prints figures")]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn throughput() {
    const COUNT: u32 = 50_000;
    let Some(server) = Server::start() else { return };
    let context = server.context().await;
    make_stream(&context).await;
    let words =
        ["coffee", "sleep", "running", "a study of", "vitamin", "the risk of", "nurses say", "hospital"];
    let text = |n: u32| -> String {
        (0..16)
            .map(|at| words[(n.wrapping_mul(31).rotate_left(at * 3) % 8) as usize])
            .collect::<Vec<_>>()
            .join(" ")
    };
    let messages: Vec<String> = (0..COUNT)
        .map(|n| message(&Op::Upsert(Box::new(post(&format!("p{n}"), &format!("{n} {}", text(n)))))))
        .collect();
    let bytes: usize = messages.iter().map(String::len).sum();
    let config = IngestConfig { batch: IngestConfig::default().batch, ..server.config() };

    // Everything is there already.
    let begun = Instant::now();
    let mut confirmations = Vec::new();
    for payload in messages {
        confirmations.push(context.publish("posts.a", payload.into()).await.expect("sent").into_future());
        if confirmations.len() == 256 {
            for confirmation in confirmations.drain(..) {
                confirmation.await.expect("confirmed");
            }
        }
    }
    for confirmation in confirmations {
        confirmation.await.expect("confirmed");
    }
    let publishing = begun.elapsed().as_secs_f64();
    let dir = tempfile::tempdir_in(".").expect("temporary directory");
    let live = open(dir.path());
    let begun = Instant::now();
    let ingest = start(&config, dir.path(), &live).await;
    until(&ingest, "at the end", caught_up(u64::from(COUNT))).await;
    let took = begun.elapsed().as_secs_f64();
    eprintln!(
        "{COUNT} messages of {} bytes: published in {publishing:.1} s; applied and durable in {took:.2} s, {:.0}/s",
        bytes / COUNT as usize,
        f64::from(COUNT) / took
    );

    // One at a time: from the call of the publisher to the post in the store.
    let mut waits = Vec::new();
    for n in 0..500 {
        let begun = Instant::now();
        let sequence =
            publish(&context, message(&Op::Upsert(Box::new(post(&format!("q{n}"), &text(n)))))).await;
        while ingest.status().applied_sequence < sequence {
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        waits.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    waits.sort_by(f64::total_cmp);
    eprintln!("one by one, publish to durable: p50 {:.1} ms, p99 {:.1} ms", waits[250], waits[494]);
    ingest.stop().await;
}
