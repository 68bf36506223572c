//! What several of these tests need: the demo, served on a port of its own.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use axum::body::{Body, to_bytes};
use axum::http::Request;

use bowerbird::cli::PostCount;
use bowerbird::demo;
use bowerbird::http::router;
use bowerbird::stack::{Stack, cache_dir, model_store};
use bowerbird_catalog::{Catalog, Silent};
use bowerbird_models_api::{Finish, GenerateRequest, GenerationStream, Generator, Piece, Usage};
use bowerbird_tests::{post, test_config, write};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::{OnceCell, Semaphore, mpsc};
use tower::ServiceExt;

/// How many demo posts the tests index: enough for the sample queries, few enough for a minute.
const POSTS: usize = 2500;

/// What is shared lives here: the runtime of a single test ends with it.
fn shared() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().expect("a runtime"))
}

/// The demo's data is kept between runs, next to the models: embedding 2,500 posts takes a while.
fn data_dir() -> PathBuf {
    cache_dir().expect("a cache directory").join("test-data").join(format!("demo-{POSTS}"))
}

async fn open() -> Stack {
    let dir = data_dir();
    std::fs::create_dir_all(&dir).expect("a directory for test data");
    let stack = demo::prepare(&test_config(), &dir, PostCount::First(POSTS)).await;
    let stack = stack.unwrap_or_else(|error| panic!("{error:#}"));
    // The sample of 2,500 holds few posts on some subjects of the sample queries; these have all of theirs.
    let catalog = Catalog::embedded().expect("a catalog");
    let entry = catalog.entry("demo-posts").expect("demo posts");
    let store = model_store(&test_config()).expect("a store");
    let archive = store.ensure(entry, &Silent).expect("demo posts are fetched").join("healthtweets.zip");
    let subjects = ["back pain", "at your desk", "migraine", "headache"];
    let mut more = demo::corpus::read(&archive).expect("demo posts");
    more.retain(|post| subjects.iter().any(|subject| post.text.to_lowercase().contains(subject)));
    write(&stack, more).await;
    let text = "<script>document.title='owned'</script> <b>soda</b> hostile markup stays text";
    write(&stack, vec![post("hostile-1", "mallory", "2015-01-02", text)]).await;
    stack
}

/// The demo stack with real models, opened once per process.
pub async fn demo_stack() -> Stack {
    static STACK: OnceCell<Stack> = OnceCell::const_new();
    let stack = STACK.get_or_init(|| async { shared().spawn(open()).await.expect("the demo opens") });
    stack.await.clone()
}

/// The routes of the demo, to be called without a socket.
pub async fn demo_router() -> axum::Router {
    router(demo_stack().await, PrometheusBuilder::new().build_recorder().handle())
}

/// The address of the demo, served until the process ends.
pub async fn running_demo() -> &'static str {
    static ADDRESS: OnceCell<String> = OnceCell::const_new();
    let start = || async {
        let router = demo_router().await;
        shared().spawn(served(router)).await.expect("the server starts")
    };
    ADDRESS.get_or_init(start).await
}

/// The address of `router`, served as long as the runtime lives that this is called on.
pub async fn served(router: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });
    format!("http://{address}")
}

/// A server-sent event.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    /// Its id; empty when it has none.
    pub id: String,
    /// Its name; empty when it has none.
    pub name: String,
    /// Its data as JSON, or as a string.
    pub data: Value,
}

/// The events of `text`; comments are no events.
pub fn parse_events(text: &str) -> Vec<Sent> {
    let mut events = Vec::new();
    for block in text.split("\n\n") {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if let Some(data) = field("data:") {
            events.push(Sent {
                id: field("id:").unwrap_or_default().to_owned(),
                name: field("event:").unwrap_or_default().to_owned(),
                data: serde_json::from_str(data).unwrap_or_else(|_| data.into()),
            });
        }
    }
    events
}

/// All events of a stream.
pub async fn read_events(app: &axum::Router, request: Request<Body>) -> Vec<Sent> {
    let response = app.clone().oneshot(request).await.expect("routers do not fail");
    let (status, kind) = (response.status(), response.headers().get("content-type").cloned());
    let bytes = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
    let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
    assert_eq!(kind.expect("a type"), "text/event-stream", "{status} {text}");
    parse_events(&text)
}

/// The post that a prompt quotes.
fn quoted(request: &GenerateRequest) -> &str {
    let prompt = &request.messages.last().expect("a question").content;
    prompt.split_once('"').and_then(|(_, rest)| rest.rsplit_once('"')).expect("a quote").0
}

/// Copies the quoted post, each time it has a permit, and counts its beginnings.
#[derive(Clone)]
pub struct Permitted {
    /// One for each generation.
    pub permits: Arc<Semaphore>,
    /// Generations begun.
    pub begun: Arc<AtomicUsize>,
}

impl Permitted {
    /// A generator without a permit.
    pub fn new() -> Self {
        Self { permits: Arc::new(Semaphore::new(0)), begun: Arc::default() }
    }
}

impl Generator for Permitted {
    fn name(&self) -> &'static str {
        "permitted"
    }

    fn generate(&self, request: GenerateRequest) -> GenerationStream {
        let quote = quoted(&request).to_owned();
        let (sender, receiver) = mpsc::channel(2);
        self.begun.fetch_add(1, Ordering::SeqCst);
        let permits = Arc::clone(&self.permits);
        tokio::spawn(async move {
            tokio::select! {
                permit = permits.acquire() => permit.expect("open").forget(),
                () = sender.closed() => return,
            }
            let usage = Usage { prompt_tokens: 1, generated_tokens: 1, finish: Finish::Stop };
            for piece in [Piece::Text(format!("{quote}.")), Piece::Done(usage)] {
                if sender.send(Ok(piece)).await.is_err() {
                    return;
                }
            }
        });
        receiver
    }
}

/// A generator that copies the post it is given, and counts what it is asked.
#[derive(Default)]
pub struct Copying {
    /// Each prompt.
    pub prompts: Mutex<Vec<String>>,
}

impl Generator for Copying {
    fn name(&self) -> &'static str {
        "copying"
    }

    fn generate(&self, request: GenerateRequest) -> GenerationStream {
        let quote = quoted(&request);
        let (sender, receiver) = tokio::sync::mpsc::channel(2);
        let usage = Usage { prompt_tokens: 10, generated_tokens: 5, finish: Finish::Stop };
        for piece in [Piece::Text(format!("{quote}.")), Piece::Done(usage)] {
            sender.try_send(Ok(piece)).expect("room for two");
        }
        let all: Vec<&str> = request.messages.iter().map(|message| message.content.as_str()).collect();
        self.prompts.lock().expect("not poisoned").push(all.join("\n"));
        receiver
    }
}
