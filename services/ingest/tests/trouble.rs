//! What a person hears of: messages that are refused, full disks, streams that are not what they were, and settings.
#![cfg(unix)]

mod support;

use std::fs;
use std::time::{Duration, Instant};

use async_nats::jetstream::stream::{self, RetentionPolicy};
use bowerbird_ingest::{FILE, IngestConfig, IngestStatus, State};
use bowerbird_live::LiveConfig;
use bytesize::ByteSize;
use support::{
    Server, caught_up, contents, make_stream, message, open, open_with, outcome, posts, publish, start, until,
};

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
