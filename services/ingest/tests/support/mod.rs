//! A NATS server of the tests' own, posts with made-up vectors, and histories of changes.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File, Permissions};
use std::io;
use std::net::TcpListener;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, Context, stream};
use bowerbird_catalog::{Catalog, Silent, Store};
use bowerbird_ingest::{Ingest, IngestConfig, IngestStatus};
use bowerbird_live::{Live, LiveConfig, VectorSource};
use bowerbird_posts::{Counts, CountsPatch, Op, Ordinal, Post, PostId};
use serde_json::json;
use tempfile::TempDir;

/// A server with its streams on disk, stopped when this is dropped.
pub struct Server {
    child: Child,
    program: PathBuf,
    folder: TempDir,
    port: u16,
    arguments: Vec<&'static str>,
}

impl Server {
    /// None when the test is to be skipped: there is no server to test against.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// As [`start`](Self::start), with more arguments.
    #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
    pub fn start_with(arguments: &[&'static str]) -> Option<Self> {
        match Self::try_start(arguments) {
            Ok(server) => Some(server),
            Err(reason) => {
                let message = format!(
                    "skipped: no NATS server to test against: {reason}; `bowerbird models fetch nats-server` gets it, or put \
                     it into a folder as nats-server/nats-server and set BOWERBIRD_MODELS_DIR"
                );
                let required = std::env::var_os("BOWERBIRD_REQUIRE_ALL").is_some_and(|value| value == "1");
                assert!(!required, "{message}");
                eprintln!("{message}");
                None
            }
        }
    }

    fn try_start(arguments: &[&'static str]) -> Result<Self, String> {
        let fetched = program()?;
        let failed = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        let folder = tempfile::Builder::new().prefix("nats").tempdir().map_err(failed("temporary folder"))?;
        let program = folder.path().join("nats-server");
        fs::copy(&fetched, &program).map_err(failed("copy"))?;
        fs::set_permissions(&program, Permissions::from_mode(0o755)).map_err(failed("permissions"))?;
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let port = free.map_err(failed("port"))?.port();
        let arguments = arguments.to_vec();
        let child = spawn(&program, folder.path(), port, &arguments).map_err(failed("nats-server"))?;
        Ok(Self { child, program, folder, port, arguments })
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    pub fn start_again(&mut self) {
        self.child = spawn(&self.program, self.folder.path(), self.port, &self.arguments).expect("starts");
    }

    pub async fn context(&self) -> Context {
        let options = async_nats::ConnectOptions::new().retry_on_initial_connect();
        let client = options.connect(self.url()).await.expect("a client");
        let begun = Instant::now();
        while client.connection_state() != async_nats::connection::State::Connected {
            assert!(begun.elapsed() < Duration::from_secs(30), "the server does not answer");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        jetstream::new(client)
    }

    pub fn config(&self) -> IngestConfig {
        IngestConfig { url: self.url(), batch: 100, ..IngestConfig::default() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(program: &Path, folder: &Path, port: u16, arguments: &[&str]) -> io::Result<Child> {
    loop {
        let started = Command::new(program)
            .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"])
            .arg(folder.join("data"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::options().create(true).append(true).open(folder.join("log"))?)
            .spawn();
        match started {
            // A process that another test starts at this moment still holds the file that was just copied.
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                thread::sleep(Duration::from_millis(5));
            }
            started => return started,
        }
    }
}

/// The pinned server, fetched when it is missing.
fn program() -> Result<PathBuf, String> {
    let catalog = Catalog::embedded().map_err(|error| error.to_string())?;
    let entry = catalog.entry("nats-server").map_err(|error| error.to_string())?;
    let store = if let Some(given) = std::env::var_os("BOWERBIRD_MODELS_DIR") {
        Store::given(given.into())
    } else {
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
        Store::new(cache.ok_or("no home directory")?.join("bowerbird/models"))
    };
    let folder = store.ensure(entry, &Silent).map_err(|error| error.to_string())?;
    Ok(folder.join("nats-server"))
}

/// The stream `POSTS` over `posts.>`.
pub async fn make_stream(context: &Context) {
    let config = stream::Config {
        name: "POSTS".into(),
        subjects: vec!["posts.>".into()],
        ..stream::Config::default()
    };
    context.create_stream(config).await.expect("a stream");
}

/// Publishes until the server has confirmed; its sequence.
pub async fn publish(context: &Context, payload: String) -> u64 {
    let begun = Instant::now();
    loop {
        if let Ok(sent) = context.publish("posts.a", payload.clone().into()).await
            && let Ok(stored) = sent.await
        {
            return stored.sequence;
        }
        assert!(begun.elapsed() < Duration::from_mins(1), "nothing is confirmed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One axis of eight for each first byte.
struct Stub;

impl VectorSource for Stub {
    fn space(&self) -> String {
        "stub/8".into()
    }

    fn dim(&self) -> usize {
        8
    }

    fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Box<dyn Error + Send + Sync>> {
        let axis = |text: &String| usize::from(text.bytes().next().unwrap_or_default() % 8);
        Ok(texts
            .iter()
            .map(|text| (0..8).map(|at| f32::from(u8::from(at == axis(text)))).collect())
            .collect())
    }
}

pub fn open(dir: &Path) -> Live {
    open_with(dir, LiveConfig::default())
}

pub fn open_with(dir: &Path, config: LiveConfig) -> Live {
    let begun = Instant::now();
    loop {
        match Live::open(dir, config.clone(), Arc::new(Stub)) {
            Err(_) if begun.elapsed() < Duration::from_secs(5) => thread::sleep(Duration::from_millis(10)),
            opened => return opened.expect("opens"),
        }
    }
}

pub async fn start(config: &IngestConfig, dir: &Path, live: &Live) -> Ingest {
    Ingest::start(config.clone(), dir, live.clone()).await.expect("starts")
}

/// Waits until `done` says so of the status.
pub async fn until(ingest: &Ingest, what: &str, done: impl Fn(&IngestStatus) -> bool) -> IngestStatus {
    let begun = Instant::now();
    loop {
        let status = ingest.status();
        if done(&status) {
            return status;
        }
        assert!(begun.elapsed() < Duration::from_mins(1), "not {what}: {status:#?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn post(id: &str, text: &str) -> Post {
    let at = "2026-01-02T03:04:05Z".parse().expect("a time");
    Post::new(PostId::new(id).expect("valid"), text, "Ann", at).validated().expect("valid")
}

/// So many posts.
pub fn posts(count: u32) -> Vec<Op> {
    (0..count).map(|n| Op::Upsert(Box::new(post(&format!("p{n}"), &format!("text {n}"))))).collect()
}

/// Whether everything up to `last` is applied, and nothing comes after it.
pub fn caught_up(last: u64) -> impl Fn(&IngestStatus) -> bool {
    move |status| status.applied_sequence >= last && status.lag == Some(0)
}

/// A change as a message says it.
pub fn message(op: &Op) -> String {
    match op {
        Op::Upsert(post) => serde_json::to_string(post).expect("JSON"),
        Op::Delete(id) => json!({"delete": id}).to_string(),
        Op::SetCounts { id, counts } => json!({"patch": id, "counts": counts}).to_string(),
    }
}

/// Everything that is stored.
pub fn contents(live: &Live) -> BTreeMap<PostId, Post> {
    let mut posts = BTreeMap::new();
    live.store()
        .scan(Ordinal(0), &mut |found| {
            assert!(posts.insert(found.post.id.clone(), found.post).is_none(), "a post twice");
            ControlFlow::Continue(())
        })
        .expect("scanned");
    assert_eq!(live.snapshot().live().len(), posts.len() as u64);
    posts
}

/// What posts are after `ops`.
pub fn outcome<'a>(ops: impl IntoIterator<Item = &'a Op>) -> BTreeMap<PostId, Post> {
    let mut posts: BTreeMap<PostId, Post> = BTreeMap::new();
    for op in ops {
        match op {
            Op::Upsert(post) => drop(posts.insert(post.id.clone(), (**post).clone())),
            Op::Delete(id) => drop(posts.remove(id)),
            Op::SetCounts { id, counts } => {
                if let Some(post) = posts.get_mut(id) {
                    post.counts = counts.apply(post.counts);
                }
            }
        }
    }
    posts
}

/// Change `n` of a history over 40 posts: mostly edits, with deletions and new counters between them.
pub fn change(n: u32) -> Op {
    let random = n.wrapping_mul(2_654_435_761).rotate_left(13);
    let id = format!("p{}", random % 40);
    match random / 40 % 7 {
        0 => Op::Delete(PostId::new(id).expect("valid")),
        1 => {
            let counts = CountsPatch { likes: Some(u64::from(n)), ..CountsPatch::default() };
            Op::SetCounts { id: PostId::new(id).expect("valid"), counts }
        }
        _ => {
            let counts = Counts { views: u64::from(n), ..Counts::default() };
            Op::Upsert(Box::new(Post { counts, ..post(&id, &format!("text {n} of {id}")) }))
        }
    }
}
