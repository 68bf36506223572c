//! Streams of answers: what they tell, how a reader comes back, and that nobody works for one who has left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use bowerbird_models_api::{GenerateRequest, GenerationStream, Generator, Piece};
use bowerbird_posts::{Op, PostId};
use bowerbird_tests::{Fixture, call, fixture_with, post, stub_models, test_config};
use futures::StreamExt;
use serde_json::json;
use tokio::sync::mpsc;
use tower::ServiceExt;

use crate::support::{Permitted, Sent, parse_events, read_events};

async fn open(generator: impl Generator + 'static) -> Fixture {
    let texts = [
        ("liver", "Coffee lowers the risk of liver disease in adults"),
        ("heart", "Coffee lowers the risk of heart disease in women"),
        ("kidney", "Coffee lowers the risk of kidney disease in men"),
    ];
    let mut models = stub_models("");
    models.generator = Some(Arc::new(generator));
    let mut config = test_config();
    // What is kept as an answer would be sent again without the generator.
    config.answer.cache_memory = bytesize::ByteSize(0);
    config.answer.resume_streams = 4;
    fixture_with(config, models, texts.iter().map(|(id, t)| post(id, "ann", "2015-01-01", t)).collect()).await
}

fn ask() -> Request<Body> {
    let body = json!({"q": "coffee lowers the risk of disease", "stream": true, "timeout_ms": 60_000});
    Request::post("/v1/answer").body(Body::from(body.to_string())).expect("a request")
}

/// `POST /v1/answer` as a client sends it that lost the connection after `id`.
fn go_on(id: &str) -> Request<Body> {
    Request::post("/v1/answer").header("Last-Event-ID", id).body(Body::empty()).expect("a request")
}

/// The events up to the first that `last` accepts; then the reader leaves.
async fn read_until(app: &Router, request: Request<Body>, last: impl Fn(&Sent) -> bool) -> Vec<Sent> {
    let mut stream = app.clone().oneshot(request).await.expect("answers").into_body().into_data_stream();
    let mut text = String::new();
    loop {
        let chunk = stream.next().await.expect("more").expect("read");
        text.push_str(std::str::from_utf8(&chunk).expect("text"));
        let whole = text.rfind("\n\n").map_or("", |end| &text[..end + 2]);
        let mut events = parse_events(whole);
        if let Some(at) = events.iter().position(&last) {
            events.truncate(at + 1);
            return events;
        }
    }
}

fn deltas(events: &[Sent]) -> Vec<&Sent> {
    events.iter().filter(|event| event.name == "delta").collect()
}

/// Every span of the answer is that of its sentence in what the reader has, and every quote stands where it says.
fn assert_spans(events: &[Sent]) {
    let mut text = String::new();
    let mut sentence = "";
    let sources = &events.iter().find(|event| event.name == "sources").expect("sources").data;
    let part = |text: &str, start: &serde_json::Value, end: &serde_json::Value| {
        let (start, end) = (start.as_u64().expect("a place"), end.as_u64().expect("a place"));
        text.chars().skip(start as usize).take((end - start) as usize).collect::<String>()
    };
    for Sent { name, data, .. } in events {
        if name == "delta" {
            sentence = data["text"].as_str().expect("text");
            let space = if text.is_empty() { "" } else { " " };
            text = format!("{text}{space}{sentence} {}", data["marks"].as_str().expect("marks"));
            assert_eq!(part(&text, &data["start"], &data["end"]), sentence);
        } else if name == "citation" {
            assert_eq!(part(&text, &data["answer_start"], &data["answer_end"]), sentence);
            let source = sources.as_array().expect("a list").iter().find(|s| s["n"] == data["n"]);
            let post = source.expect("a source")["text"].as_str().expect("text");
            assert_eq!(part(post, &data["start"], &data["end"]), data["quote"].as_str().expect("a quote"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_comes_back_gets_the_rest_of_the_same_answer() {
    let generator = Permitted::new();
    let fixture = open(generator.clone()).await;
    let app = &fixture.router;
    generator.permits.add_permits(3);
    let whole = read_events(app, ask()).await;
    assert_spans(&whole);
    assert_eq!(deltas(&whole).len(), 3, "{whole:?}");
    let stream = whole[0].data["stream"].as_str().expect("an id").to_owned();
    for (at, event) in (1..).zip(&whole) {
        assert_eq!(event.id, format!("{stream}:{at}"));
    }

    // One sentence is written, then the connection breaks.
    generator.permits.add_permits(1);
    let before = read_until(app, ask(), |event| event.name == "delta").await;
    generator.permits.add_permits(8);
    let after = read_events(app, go_on(&before.last().expect("an event").id)).await;
    assert!(
        deltas(&after).len() == 2 && !after.iter().any(|e| e.name == "meta" || e.name == "sources"),
        "{after:?}"
    );
    let all: Vec<Sent> = before.into_iter().chain(after).collect();
    assert_spans(&all);
    let told = |events: &[Sent]| {
        let kept = events.iter().filter(|event| event.name != "meta" && event.name != "done");
        kept.map(|event| (event.name.clone(), event.data.clone())).collect::<Vec<_>>()
    };
    assert_eq!(told(&all), told(&whole));
    assert_eq!(all.last().map(|event| event.name.as_str()), Some("done"));

    // A finished stream is sent again without any work, by either call, as often as asked.
    let begun = generator.begun.load(Ordering::SeqCst);
    let again = read_events(app, go_on(&format!("{stream}:0"))).await;
    assert_eq!(again, whole);
    let get = Request::get(format!("/v1/answer/{stream}")).header("Last-Event-ID", format!("{stream}:2"));
    assert_eq!(read_events(app, get.body(Body::empty()).expect("a request")).await, whole[2..]);
    let get = Request::get(format!("/v1/answer/{stream}")).body(Body::empty()).expect("a request");
    assert_eq!(read_events(app, get).await, whole);
    assert_eq!(generator.begun.load(Ordering::SeqCst), begun);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cites_a_post_deleted_meanwhile_is_not_sent_to_a_reader_that_comes_back() {
    let generator = Permitted::new();
    let fixture = open(generator.clone()).await;
    generator.permits.add_permits(3);
    let whole = read_events(&fixture.router, ask()).await;
    fixture.stack.live.write(vec![Op::Delete(PostId::new("heart").expect("valid"))]).await.expect("deleted");
    let again = read_events(&fixture.router, go_on(&whole[0].id)).await;
    assert_spans(&again);
    assert_eq!(deltas(&again).len(), 2);
    assert!(again.iter().all(|event| !event.data.to_string().contains("heart")), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_or_forgotten_stream_and_a_wrong_id_are_told() {
    let generator = Permitted::new();
    let fixture = open(generator.clone()).await;
    generator.permits.add_permits(100);
    let mut first = String::new();
    for n in 0..5 {
        let events = read_events(&fixture.router, ask()).await;
        if n == 0 {
            first.clone_from(&events[0].id);
        } else if n == 4 {
            let past = events[0].id.replace(":1", ":99");
            for (id, status, code) in [
                (first.as_str(), StatusCode::GONE, "stream_gone"),
                ("nothing:1", StatusCode::GONE, "stream_gone"),
                (past.as_str(), StatusCode::BAD_REQUEST, "invalid_event_id"),
                ("7", StatusCode::BAD_REQUEST, "invalid_event_id"),
                ("a:b", StatusCode::BAD_REQUEST, "invalid_event_id"),
            ] {
                let response = fixture.router.clone().oneshot(go_on(id)).await.expect("answers");
                assert_eq!(response.status(), status, "{id}");
                let bytes = axum::body::to_bytes(response.into_body(), 1 << 16).await.expect("a body");
                let body: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
                let error = &body["error"];
                assert_eq!(
                    (&error["code"], &error["param"]),
                    (&json!(code), &json!("last-event-id")),
                    "{id}: {body}"
                );
            }
        }
    }
    let (status, _) = call(&fixture.router, Method::GET, "/v1/answer/nothing", "").await;
    assert_eq!(status, StatusCode::GONE);
}

/// Writes word after word and never ends a sentence; counts what it wrote, and says when it was stopped.
#[derive(Clone, Default)]
struct Endless {
    tokens: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
}

impl Generator for Endless {
    fn name(&self) -> &'static str {
        "endless"
    }

    fn generate(&self, _: GenerateRequest) -> GenerationStream {
        let (sender, receiver) = mpsc::channel(1);
        let this = self.clone();
        // A model computes a token before it can see whether anybody wants it.
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_millis(100));
                this.tokens.fetch_add(1, Ordering::SeqCst);
                if sender.blocking_send(Ok(Piece::Text("a ".into()))).is_err() {
                    this.stopped.store(true, Ordering::SeqCst);
                    return;
                }
            }
        });
        receiver
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_generator_stops_within_one_token_after_the_reader_leaves() {
    for path in ["/v1/answer", "/v1/chat/completions"] {
        let generator = Endless::default();
        let fixture = open(generator.clone()).await;
        let q = "coffee lowers the risk of disease";
        let body = json!({
            "q": q, "messages": [{"role": "user", "content": q}], "stream": true, "timeout_ms": 60_000,
        });
        let body =
            if path == "/v1/answer" { json!({"q": q, "stream": true, "timeout_ms": 60_000}) } else { body };
        let request = Request::post(path).body(Body::from(body.to_string())).expect("a request");
        let mut stream =
            fixture.router.clone().oneshot(request).await.expect("answers").into_body().into_data_stream();
        stream.next().await.expect("a beginning").expect("read");
        while generator.tokens.load(Ordering::SeqCst) < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let before = generator.tokens.load(Ordering::SeqCst);
        drop(stream);
        for _ in 0..500 {
            if generator.stopped.load(Ordering::SeqCst) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(generator.stopped.load(Ordering::SeqCst), "{path}: the generator still writes");
        // The one that was under way.
        let more = generator.tokens.load(Ordering::SeqCst) - before;
        assert!(more <= 1, "{path}: {more} tokens after the reader had left");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reader_before_gets_no_more_when_another_has_come() {
    let generator = Permitted::new();
    let fixture = open(generator.clone()).await;
    generator.permits.add_permits(1);
    let response = fixture.router.clone().oneshot(ask()).await.expect("answers");
    let mut old = response.into_body().into_data_stream();
    let mut text = String::new();
    while !text.contains("event: citation") {
        text.push_str(std::str::from_utf8(&old.next().await.expect("more").expect("read")).expect("text"));
    }
    let events = parse_events(&text);
    let resumed = tokio::spawn({
        let (app, request) = (fixture.router.clone(), go_on(&events[1].id));
        async move { read_events(&app, request).await }
    });
    // The old stream ends without an end of the answer.
    while let Some(chunk) = old.next().await {
        text.push_str(std::str::from_utf8(&chunk.expect("read")).expect("text"));
    }
    assert!(!text.contains("event: done"), "{text}");
    generator.permits.add_permits(8);
    let rest = resumed.await.expect("not cancelled");
    assert_eq!((deltas(&rest).len(), rest.last().map(|e| e.name.as_str())), (3, Some("done")), "{rest:?}");
}
