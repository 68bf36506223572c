//! How fast a stream is applied, with vectors that cost nothing.
#![cfg(unix)]

mod support;

use std::time::{Duration, Instant};

use bowerbird_ingest::IngestConfig;
use bowerbird_posts::Op;
use support::{Server, caught_up, make_stream, message, open, post, publish, start, until};

/// `cargo test --release -p bowerbird-ingest --test speed -- --ignored --nocapture`
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
    let ops: Vec<Op> = (0..COUNT)
        .map(|n| Op::Upsert(Box::new(post(&format!("p{n}"), &format!("{n} {}", text(n))))))
        .collect();
    let messages: Vec<String> = ops.iter().map(message).collect();
    let bytes: usize = messages.iter().map(String::len).sum();
    let config = IngestConfig { batch: IngestConfig::default().batch, ..server.config() };

    // The same posts without a stream.
    let dir = tempfile::tempdir_in(".").expect("temporary directory");
    let live = open(dir.path());
    let begun = Instant::now();
    for part in ops.chunks(config.batch) {
        live.write(part.to_vec()).await.expect("written");
    }
    let bare = f64::from(COUNT) / begun.elapsed().as_secs_f64();
    eprintln!("{COUNT} posts written without a stream, in batches as large: {bare:.0}/s");
    drop(live);

    // Everything is in the stream already.
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
