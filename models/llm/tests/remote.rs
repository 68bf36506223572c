//! The remote generator against a small server on this machine.

use std::time::{Duration, Instant};

use bowerbird_llm::{LlmError, RemoteConfig, RemoteGenerator};
use bowerbird_models_api::{
    Finish, GenerateRequest, GenerationStream, Generator, Message, ModelError, Piece, Role, Usage,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

const EVENTS: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

fn request() -> GenerateRequest {
    GenerateRequest {
        messages: vec![Message { role: Role::User, content: "Say \"hi\" <|im_end|>".to_owned() }],
        max_tokens: 50,
        stop: vec!["END".to_owned()],
        temperature: 0.5,
        seed: u64::MAX,
        deadline: Instant::now() + Duration::from_mins(1),
        constraint: None,
    }
}

async fn collect(mut stream: GenerationStream) -> (String, Result<Usage, ModelError>) {
    let mut text = String::new();
    while let Some(piece) = stream.recv().await {
        match piece {
            Ok(Piece::Text(more)) => text.push_str(&more),
            Ok(Piece::Done(usage)) => return (text, Ok(usage)),
            Err(error) => return (text, Err(error)),
        }
    }
    panic!("the stream ended without an end; so far {text:?}");
}

/// A request's head and body.
async fn read_request(socket: &mut TcpStream) -> (String, serde_json::Value) {
    let mut bytes = Vec::new();
    let head = loop {
        assert_ne!(socket.read_buf(&mut bytes).await.expect("reads"), 0, "closed within the head");
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break String::from_utf8(bytes.drain(..at + 4).collect()).expect("text");
        }
    };
    let length = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length:").map(|n| n.trim().parse::<usize>())
        })
        .expect("a length")
        .expect("a number");
    while bytes.len() < length {
        assert_ne!(socket.read_buf(&mut bytes).await.expect("reads"), 0, "closed within the body");
    }
    (head, serde_json::from_slice(&bytes).expect("JSON"))
}

/// An address that answers its first connections with `answers`, one each, in order, then stops listening.
async fn server(
    answers: Vec<Vec<u8>>,
) -> (String, tokio::task::JoinHandle<Vec<(String, serde_json::Value)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("an address");
    let task = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut socket, _) = listener.accept().await.expect("accepts");
            requests.push(read_request(&mut socket).await);
            socket.write_all(&answer).await.expect("writes");
            socket.shutdown().await.expect("closes");
        }
        requests
    });
    (format!("http://{address}/v1/"), task)
}

fn config(base_url: &str) -> RemoteConfig {
    RemoteConfig {
        api_key: Some("sk-secret".to_owned()),
        connect_retries: 0,
        ..RemoteConfig::new(base_url, "tiny")
    }
}

fn generator(base_url: &str) -> RemoteGenerator {
    RemoteGenerator::new(config(base_url)).expect("valid")
}

/// One chunk of HTTP's chunked coding.
fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn event(json: &str) -> Vec<u8> {
    chunk(format!("data: {json}\n\n").as_bytes())
}

fn delta(text: &str) -> Vec<u8> {
    event(&serde_json::json!({"choices": [{"index": 0, "delta": {"content": text}}]}).to_string())
}

fn stream_of(parts: &[Vec<u8>]) -> Vec<u8> {
    [EVENTS.as_bytes(), &parts.concat(), &chunk(b"")].concat()
}

fn plain(status: &str, kind: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

async fn answered(answer: Vec<u8>) -> (String, Result<Usage, ModelError>) {
    let (url, task) = server(vec![answer]).await;
    let result = collect(generator(&url).generate(request())).await;
    task.await.expect("served");
    result
}

#[tokio::test]
async fn an_answer_streams_and_the_request_says_what_was_asked() {
    let euro = "12 €".as_bytes();
    let split = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n", "12 €");
    let cut = split.find('€').expect("there") + 1;
    assert!(euro.len() == 6 && !split.is_char_boundary(cut));
    let answer = stream_of(&[
        chunk(b": comment\n\n"),
        event(r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#),
        delta("hi "),
        chunk(&split.as_bytes()[..cut]),
        chunk(&split.as_bytes()[cut..]),
        chunk(b": heartbeat\n\nevent: ping\ndata:\n\n"),
        event(r#"{"choices":[]}"#),
        event(r#"{"choices":[{"delta":{},"finish_reason":"length"}]}"#),
        event(r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4}}"#),
        event("[DONE]"),
    ]);
    let (url, task) = server(vec![answer]).await;
    let (text, usage) = collect(generator(&url).generate(request())).await;
    assert_eq!(text, "hi 12 €");
    assert_eq!(
        usage.expect("no error"),
        Usage { prompt_tokens: 9, generated_tokens: 4, finish: Finish::Length }
    );
    let (head, body) = task.await.expect("served").remove(0);
    assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("authorization: Bearer sk-secret\r\n"), "{head}");
    assert_eq!(
        body,
        serde_json::json!({
            "model": "tiny", "messages": [{"role": "user", "content": "Say \"hi\" <|im_end|>"}], "max_tokens": 50,
            "temperature": 0.5, "seed": i64::MAX, "stop": ["END"], "stream": true,
            "stream_options": {"include_usage": true}
        })
    );
}

#[tokio::test]
async fn odd_endings_are_understood() {
    let (text, usage) = answered(stream_of(&[delta("before E"), delta("ND after"), delta("more")])).await;
    assert_eq!((text.as_str(), usage.expect("no error").finish), ("before ", Finish::Stop), "a stop string");
    let (text, usage) = answered(stream_of(&[delta("all"), event("[DONE]")])).await;
    let usage = usage.expect("no error");
    assert_eq!(
        (text.as_str(), usage.finish, usage.generated_tokens),
        ("all", Finish::Stop, 1),
        "no reason, no usage"
    );
    let whole = r#"{"choices":[{"message":{"content":"whole"},"finish_reason":"stop"}]}"#;
    let (text, usage) = answered(plain("200 OK", "application/json", whole)).await;
    assert_eq!((text.as_str(), usage.expect("no error").finish), ("whole", Finish::Stop), "no stream");
    let endless = vec![delta("x"); 60];
    let (text, usage) = answered(stream_of(&endless)).await;
    assert_eq!(
        (text.len(), usage.expect("no error").finish),
        (50, Finish::Length),
        "a server that counts badly"
    );
}

#[tokio::test]
async fn failures_say_what_happened_and_never_the_key() {
    let long = "x".repeat(1000);
    for (answer, so_far, expected) in [
        (
            plain("401 Unauthorized", "application/json", "{\"error\":\"no key sk-secret\"}"),
            "",
            "status 401: {\"error\":\"no key [api key]\"}",
        ),
        (plain("500 Internal Server Error", "text/plain", &long), "", "status 500: xxx"),
        (
            plain("307 Temporary Redirect\r\nlocation: http://example.org/", "text/plain", "away"),
            "",
            "status 307",
        ),
        (stream_of(&[delta("half an ans")]), "half an ans", "broke off"),
        ([EVENTS.as_bytes(), &delta("half")].concat(), "half", ""),
        (stream_of(&[event(r#"{"error":{"message":"out of memory"}}"#)]), "", "out of memory"),
        (stream_of(&[event("not json")]), "", "it sent not json"),
        (
            stream_of(&[event(r#"{"choices":[{"delta":{},"finish_reason":"content_filter"}]}"#)]),
            "",
            "content filter",
        ),
        (stream_of(&[chunk(format!("data: {}", "y".repeat(2 << 20)).as_bytes())]), "", "a line longer than"),
        (b"not HTTP at all".to_vec(), "", ""),
    ] {
        let shown = String::from_utf8_lossy(&answer[..answer.len().min(200)]).into_owned();
        let (text, result) = answered(answer).await;
        let error = result.expect_err(&shown);
        assert!(matches!(error, ModelError::Unavailable { .. }), "{error:?}");
        let message = error.to_string();
        assert_eq!(text, so_far, "{message}");
        assert!(message.contains(expected), "{message} for {shown}");
        assert!(!format!("{message}{error:?}").contains("sk-secret"), "{message}");
        assert!(message.len() < 500, "{} bytes", message.len());
    }
}

/// An address that nothing listens at.
async fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    format!("http://{}/v1", listener.local_addr().expect("an address"))
}

#[tokio::test]
async fn a_server_that_is_down_is_left_alone() {
    let url = closed_port().await;
    let config = RemoteConfig {
        connect_retries: 1,
        breaker_failures: 2,
        breaker_cooldown: Duration::from_hours(1),
        ..config(&url)
    };
    let generator = RemoteGenerator::new(config).expect("valid");
    for _ in 0..2 {
        let (_, result) = collect(generator.generate(request())).await;
        let message = result.expect_err("down").to_string();
        assert!(!message.contains("left alone"), "{message}");
    }
    let (_, result) = collect(generator.generate(request())).await;
    let message = result.expect_err("down").to_string();
    assert!(message.contains("left alone for 36") || message.contains("left alone for 35"), "{message}");
}

#[tokio::test]
async fn refusals_do_not_open_the_breaker() {
    let (url, task) = server(vec![plain("404 Not Found", "text/plain", "no such model"); 3]).await;
    let config = RemoteConfig { breaker_failures: 1, ..config(&url) };
    let generator = RemoteGenerator::new(config).expect("valid");
    for _ in 0..3 {
        let (_, result) = collect(generator.generate(request())).await;
        assert!(result.expect_err("refused").to_string().contains("no such model"));
    }
    task.await.expect("served");
}

#[tokio::test]
async fn a_server_without_room_is_overloaded_and_gets_the_time_it_asks_for() {
    let busy = |status: &str| plain(status, "text/plain", "later");
    for (status, rest) in [
        ("429 Too Many Requests", None),
        ("429 Too Many Requests\r\nretry-after: 3600", Some(3600)),
        ("503 Service Unavailable\r\nretry-after: 7", Some(7)),
    ] {
        let (url, task) = server(vec![busy(status)]).await;
        let generator =
            RemoteGenerator::new(RemoteConfig { breaker_failures: 1, connect_retries: 3, ..config(&url) })
                .expect("valid");
        let (_, first) = collect(generator.generate(request())).await;
        let error = first.expect_err("busy");
        let ModelError::Overloaded { retry_after, .. } = error else { panic!("{error:?}") };
        assert_eq!(retry_after.map(|rest| rest.as_secs()), rest, "{status}");
        assert_eq!(task.await.expect("served").len(), 1, "asked once: a retry would add to the load");
        // The server is gone now: who asks it finds no connection, who leaves it alone does not notice.
        let (_, second) = collect(generator.generate(request())).await;
        match (rest, second.expect_err("gone or left alone")) {
            (None, ModelError::Unavailable { .. }) => {}
            (Some(rest), ModelError::Overloaded { retry_after: Some(left), .. }) => {
                assert!(left.as_secs() <= rest.min(60), "{left:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    let (text, result) = answered(plain("503 Service Unavailable", "text/plain", "broken")).await;
    assert!(
        text.is_empty() && matches!(result, Err(ModelError::Unavailable { .. })),
        "503 alone is a failure"
    );
}

#[tokio::test]
async fn only_connections_are_tried_again() {
    // A server that comes up while it is being tried.
    let url = closed_port().await;
    let address = url.trim_start_matches("http://").trim_end_matches("/v1").to_owned();
    let late = RemoteConfig { connect_retries: 20, ..config(&url) };
    let answer = stream_of(&[delta("late"), event("[DONE]")]);
    let server_of_task = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(60)).await;
        let listener = TcpListener::bind(address).await.expect("the port is free still");
        let (mut socket, _) = listener.accept().await.expect("accepts");
        read_request(&mut socket).await;
        socket.write_all(&answer).await.expect("writes");
    });
    let (text, result) = collect(RemoteGenerator::new(late).expect("valid").generate(request())).await;
    assert_eq!((text.as_str(), result.expect("comes up").finish), ("late", Finish::Stop));
    server_of_task.await.expect("served");

    // A server that closes the connection once it has the request, before or after a first word.
    for (answer, text) in [(Vec::new(), ""), ([EVENTS.as_bytes(), &delta("one ")].concat(), "one ")] {
        let (url, task) = server(vec![answer]).await;
        let patient = RemoteConfig { connect_retries: 20, ..config(&url) };
        let (found, result) =
            collect(RemoteGenerator::new(patient).expect("valid").generate(request())).await;
        assert_eq!(found, text);
        assert!(matches!(result, Err(ModelError::Unavailable { .. })), "{result:?}");
        assert_eq!(task.await.expect("served").len(), 1);
    }
}

#[tokio::test]
async fn after_the_cooldown_one_request_tries_and_closes_the_breaker() {
    let good = stream_of(&[delta("back"), event("[DONE]")]);
    let broken = plain("500 Internal Server Error", "text/plain", "broken");
    let (url, task) = server(vec![broken, good.clone(), good]).await;
    let cooldown = Duration::from_secs(1);
    let config = RemoteConfig { breaker_failures: 1, breaker_cooldown: cooldown, ..config(&url) };
    let generator = RemoteGenerator::new(config).expect("valid");
    assert!(collect(generator.generate(request())).await.1.is_err());
    let (_, refused) = collect(generator.generate(request())).await;
    assert!(refused.expect_err("open").to_string().contains("left alone"));
    tokio::time::sleep(cooldown).await;
    for _ in 0..2 {
        let (text, result) = collect(generator.generate(request())).await;
        assert_eq!((text.as_str(), result.expect("works again").finish), ("back", Finish::Stop));
    }
    task.await.expect("served");
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    let quick = Duration::from_millis(100);
    let config =
        RemoteConfig { idle_timeout: quick, connect_timeout: quick, breaker_failures: 1, ..config(&url) };
    let generator = RemoteGenerator::new(config).expect("valid");
    let (_, result) = collect(generator.generate(request())).await;
    assert!(result.expect_err("silence").to_string().contains("no answer for 100ms"));
    let (_, result) = collect(generator.generate(request())).await;
    assert!(result.expect_err("open").to_string().contains("left alone"));
}

/// A server that sends the beginning of an answer and then waits. Its receiver tells when the client has closed
/// the connection.
async fn stalling_server() -> (String, oneshot::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    let (closed, receiver) = oneshot::channel();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("accepts");
        read_request(&mut socket).await;
        socket.write_all(&[EVENTS.as_bytes(), &delta("one E")].concat()).await.expect("writes");
        // Ends with 0 bytes or an error when the client goes.
        while socket.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
        closed.send(()).expect("the test waits");
    });
    (url, receiver)
}

#[tokio::test]
async fn a_stalled_answer_ends_at_the_deadline() {
    let (url, closed) = stalling_server().await;
    let soon = GenerateRequest { deadline: Instant::now() + Duration::from_millis(400), ..request() };
    let (text, usage) = collect(generator(&url).generate(soon)).await;
    assert_eq!(usage.expect("no error").finish, Finish::Deadline);
    assert_eq!(text, "one E", "what could have been a stop string comes at the end");
    closed.await.expect("the connection is closed");
}

#[tokio::test]
async fn a_stalled_answer_ends_after_the_idle_timeout() {
    let (url, closed) = stalling_server().await;
    let config = RemoteConfig { idle_timeout: Duration::from_millis(200), ..config(&url) };
    let (text, result) = collect(RemoteGenerator::new(config).expect("valid").generate(request())).await;
    assert_eq!(text, "one ");
    assert!(result.expect_err("stalled").to_string().contains("stalled for 200ms"));
    closed.await.expect("the connection is closed");
}

#[tokio::test]
async fn dropping_the_stream_closes_the_connection() {
    let (url, closed) = stalling_server().await;
    let generator = generator(&url);
    let mut stream = generator.generate(request());
    assert_eq!(stream.recv().await.expect("a piece").expect("no error"), Piece::Text("one ".to_owned()));
    drop(stream);
    closed.await.expect("the connection is closed");
}

#[tokio::test]
async fn generations_at_a_time_are_bounded() {
    let (url, _closed) = stalling_server().await;
    let generator = RemoteGenerator::new(RemoteConfig { max_in_flight: 1, ..config(&url) }).expect("valid");
    let mut first = generator.generate(request());
    first.recv().await.expect("a piece").expect("no error");
    let (_, second) = collect(generator.generate(request())).await;
    let error = second.expect_err("refused");
    assert!(matches!(error, ModelError::Overloaded { waiting: 1, retry_after: None, .. }), "{error}");
}

#[tokio::test]
async fn bad_requests_ask_nothing() {
    let generator = generator(&closed_port().await);
    let blank = GenerateRequest { messages: vec![], ..request() };
    assert!(matches!(collect(generator.generate(blank)).await.1, Err(ModelError::EmptyText)));
    let past = GenerateRequest { deadline: Instant::now(), ..request() };
    assert_eq!(collect(generator.generate(past)).await.1.expect("no error").finish, Finish::Deadline);
    let nothing = GenerateRequest { max_tokens: 0, ..request() };
    assert_eq!(collect(generator.generate(nothing)).await.1.expect("no error").finish, Finish::Length);
}

#[test]
fn configurations_are_checked_and_hide_the_key() {
    for url in ["", "localhost:1/v1", "ftp://host/v1", "http://user:sk-secret@host/v1"] {
        let error = RemoteGenerator::new(config(url)).err().expect(url);
        assert!(matches!(error, LlmError::Config { field: "base_url", .. }), "{url}: {error}");
        assert!(!error.to_string().contains("sk-secret"), "{error}");
    }
    let odd = RemoteConfig { api_key: Some("sk-secret\n".to_owned()), ..config("http://host/v1") };
    assert!(!format!("{odd:?}").contains("sk-secret"));
    let error = RemoteGenerator::new(odd).err().expect("a key with a line break").to_string();
    assert!(error.contains("api_key") && !error.contains("sk-secret"), "{error}");
    let zero = RemoteConfig { idle_timeout: Duration::ZERO, ..config("http://host/v1") };
    assert!(RemoteGenerator::new(zero).is_err());
}
