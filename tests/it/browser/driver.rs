//! Headless Chromium behind ChromeDriver, started for one test and gone after it, also when the test fails.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use fantoccini::elements::Element;
use fantoccini::{Client, ClientBuilder, Locator};
use futures::FutureExt;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::sync::Mutex;

/// Longest wait for something on the page; an answer on a busy machine without GPU takes some ten seconds.
const PATIENCE: Duration = Duration::from_mins(2);

/// Browsers run one at a time: several would fight over the cores with the models they talk to.
static TURN: Mutex<()> = Mutex::const_new(());

/// What the page is looked at with.
#[derive(Clone, Copy)]
pub enum Screen {
    /// 1280 × 900.
    Desktop,
    /// 360 × 740, touch.
    Phone,
}

/// Runs `visit` to the demo in a fresh browser, or says what to install and returns when there is none.
///
/// # Panics
/// When the visit fails, and when there is no browser although `BOWERBIRD_REQUIRE_ALL=1`.
pub async fn in_browser(screen: Screen, visit: impl AsyncFnOnce(&Page) -> anyhow::Result<()>) {
    in_browser_at(screen, async || crate::support::running_demo().await.to_owned(), visit).await;
}

/// The same to a server of the test's own, which `serve` starts and whose address it tells.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub async fn in_browser_at(
    screen: Screen,
    serve: impl AsyncFnOnce() -> String,
    visit: impl AsyncFnOnce(&Page) -> anyhow::Result<()>,
) {
    let (Some(driver), Some(browser)) = (
        program("CHROMEDRIVER", &["chromedriver"]),
        program("CHROMIUM", &["chromium", "chromium-browser", "google-chrome"]),
    ) else {
        let remedy = "no chromedriver or chromium on PATH: apt-get install chromium chromium-driver";
        assert!(std::env::var_os("BOWERBIRD_REQUIRE_ALL").is_none_or(|value| value != "1"), "{remedy}");
        eprintln!("skipped: {remedy}");
        return;
    };
    let base = serve().await;
    let _turn = TURN.lock().await;
    let profile = tempfile::tempdir().expect("a directory for the browser's profile");
    let driver = Driver::start(&driver).expect("chromedriver starts");
    let client = driver.connect(&browser, profile.path(), screen).await.expect("the browser starts");
    let page = Page { client, base };
    let outcome = AssertUnwindSafe(visit(&page)).catch_unwind().await;
    let seen = if matches!(outcome, Ok(Ok(()))) { String::new() } else { page.what_is_shown().await };
    let closed = page.client.close().await;
    drop(driver);
    match outcome {
        Ok(Ok(())) => closed.expect("the browser closes"),
        Ok(Err(error)) => panic!("{error:?}\n{seen}"),
        Err(panic) => {
            eprintln!("{seen}");
            std::panic::resume_unwind(panic)
        }
    }
}

/// The program named by the variable, else the first of `names` on `PATH`.
fn program(variable: &str, names: &[&str]) -> Option<PathBuf> {
    if let Some(given) = std::env::var_os(variable) {
        return Some(given.into());
    }
    let path = std::env::var_os("PATH")?;
    names
        .iter()
        .find_map(|name| std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file()))
}

/// A running ChromeDriver; dropping it ends it and every process it started.
struct Driver {
    child: Child,
    port: u16,
    /// Held open: the driver must be able to go on writing.
    _output: BufReader<ChildStdout>,
}

impl Driver {
    fn start(program: &Path) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("{} does not start", program.display()))?;
        let mut output = BufReader::new(child.stdout.take().context("stdout is piped")?);
        let mut line = String::new();
        while output.read_line(&mut line)? > 0 {
            let port = line.trim().trim_end_matches('.').rsplit_once("started successfully on port ");
            if let Some((_, port)) = port {
                return Ok(Self { child, port: port.parse()?, _output: output });
            }
            line.clear();
        }
        let status = child.wait()?;
        anyhow::bail!("{} ended before it named its port: {status}", program.display())
    }

    async fn connect(&self, browser: &Path, profile: &Path, screen: Screen) -> anyhow::Result<Client> {
        let mut options = json!({
            "binary": browser,
            "args": [
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--disable-dev-shm-usage", "--force-prefers-reduced-motion", "--window-size=1280,900",
                format!("--user-data-dir={}", profile.display()),
            ],
        });
        if matches!(screen, Screen::Phone) {
            options["mobileEmulation"] =
                json!({"deviceMetrics": {"width": 360, "height": 740, "pixelRatio": 2.0}});
        }
        let mut capabilities = serde_json::Map::new();
        capabilities.insert("goog:chromeOptions".into(), options);
        let address = format!("http://127.0.0.1:{}", self.port);
        let mut builder = ClientBuilder::new(HttpConnector::new());
        Ok(builder.capabilities(capabilities).connect(&address).await?)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The whole group, so that no browser outlives a driver that was not asked to close it.
        let group = format!("-{}", self.child.id());
        let killed = Command::new("kill").args(["-KILL", "--", &group]).status();
        if !killed.is_ok_and(|status| status.success()) {
            self.child.kill().ok();
        }
        self.child.wait().ok();
    }
}

/// A tab that shows a page of the server.
pub struct Page {
    /// The session.
    pub client: Client,
    /// Address of the server, without a slash at the end.
    pub base: String,
}

impl Page {
    /// Opens `path` of the server.
    pub async fn open(&self, path: &str) -> anyhow::Result<()> {
        Ok(self.client.goto(&format!("{}{path}", self.base)).await?)
    }

    /// Types a query into the box of the start page and searches for it.
    pub async fn search(&self, query: &str) -> anyhow::Result<()> {
        self.open("/").await?;
        self.type_query(query).await
    }

    /// The same on the start page that is open.
    pub async fn type_query(&self, query: &str) -> anyhow::Result<()> {
        self.wait("#examples [data-query]").await?;
        let input = self.wait("#q").await?;
        input.send_keys(query).await?;
        input.send_keys(&fantoccini::key::Key::Enter).await?;
        self.wait(".hit").await?;
        Ok(())
    }

    /// The first element that the selector finds, as soon as there is one.
    pub async fn wait(&self, selector: &str) -> anyhow::Result<Element> {
        let found = self.client.wait().at_most(PATIENCE).every(Duration::from_millis(25));
        found.for_element(Locator::Css(selector)).await.with_context(|| format!("waiting for {selector}"))
    }

    /// All elements that the selector finds now.
    pub async fn all(&self, selector: &str) -> anyhow::Result<Vec<Element>> {
        Ok(self.client.find_all(Locator::Css(selector)).await?)
    }

    /// Presses a key where the focus is.
    pub async fn press(&self, key: &str) -> anyhow::Result<()> {
        Ok(self.client.active_element().await?.send_keys(key).await?)
    }

    /// The value of a JavaScript expression.
    pub async fn eval(&self, expression: &str) -> anyhow::Result<Value> {
        Ok(self.client.execute(&format!("return ({expression});"), Vec::new()).await?)
    }

    /// Waits until a JavaScript expression is true: for what has no selector, such as a colour that is drawn.
    pub async fn until(&self, expression: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.eval(expression).await? != true {
            ensure!(Instant::now() < deadline, "waiting for {expression}");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        Ok(())
    }

    /// The attribute `name` of every element that the selector finds; each has to have it.
    pub async fn attributes(&self, selector: &str, name: &str) -> anyhow::Result<Vec<String>> {
        let mut values = Vec::new();
        for element in self.all(selector).await? {
            let value = element.attr(name).await?;
            values.push(value.with_context(|| format!("a {selector} has no {name}"))?);
        }
        Ok(values)
    }

    /// Checks that nothing sticks out of the window sideways.
    pub async fn fits(&self) -> anyhow::Result<()> {
        let sizes = self.eval("[document.documentElement.scrollWidth, window.innerWidth]").await?;
        ensure!(sizes[0].as_u64() <= sizes[1].as_u64(), "the page is wider than the window: {sizes}");
        Ok(())
    }

    /// For the report of a failure.
    async fn what_is_shown(&self) -> String {
        match self.eval("location.href + '\\n' + document.body.innerText.slice(0, 2000)").await {
            Ok(text) => format!("the page shows:\n{}", text.as_str().unwrap_or_default()),
            Err(error) => format!("the page cannot be read: {error:#}"),
        }
    }
}
