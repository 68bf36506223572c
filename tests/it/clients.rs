//! The real Python clients of OpenAI and Cohere against a served port, with the real models.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, ensure};
use bowerbird::stack::cache_dir;
use bowerbird_models_api::TextRole;
use bowerbird_scheduler::{Job, Priority};
use bowerbird_tests::{fixture, post, real_models};
use serde_json::{Value, json};

/// What is installed, in the versions that were tried.
const PACKAGES: [&str; 2] = ["openai==3.57.0", "cohere==7.3.1"];

const QUERY: &str = "how to sleep better";

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
async fn the_clients_of_openai_and_cohere_get_what_the_models_give() {
    let python = match tokio::task::spawn_blocking(environment).await.expect("not cancelled") {
        Ok(python) => python,
        Err(error) => {
            let remedy = format!(
                "no Python environment with {}: needs python3 with venv, and PyPI once ({error:#})",
                PACKAGES.join(" and ")
            );
            assert!(std::env::var_os("BOWERBIRD_REQUIRE_ALL").is_none_or(|value| value != "1"), "{remedy}");
            eprintln!("skipped: {remedy}");
            return;
        }
    };
    let mut coffee =
        post("coffee", "ann", "2014-05-01", "Drinking coffee every day may lower the risk of liver disease");
    coffee.links = vec!["https://example.org/coffee".into()];
    let children = "Doctors say that children should not drink coffee because it disturbs their sleep";
    let posts = vec![coffee, post("children", "bob", "2014-05-02", children)];
    let fixture = fixture(real_models(), posts).await;
    let encoders = &fixture.stack.encoders;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    let router = fixture.router.clone();
    let server = tokio::spawn(async move { axum::serve(listener, router).await });

    let long = "sleep well ".repeat(400);
    let texts = ["a post about sleep", "NUL \0 inside", "🙂 emoji, naïve café, 睡眠", &long];
    let documents = [
        "Quarterly earnings rose at the steel maker",
        "How to sleep better: nine ways to fall asleep faster",
        &long,
        "Can't sleep? Try this soothing meditation for a sounder snooze",
        "Quarterly earnings rose at the steel maker",
    ];
    let work = json!({
        "embedder": encoders.space().model, "reranker": encoders.reranker_name(),
        "query": QUERY, "texts": texts, "documents": documents,
        "question": "Does coffee lower the risk of liver disease?", "follow_up": "and for children?",
        "unanswerable": "How tall is the Eiffel Tower in Paris?",
    });
    let got = tokio::task::spawn_blocking(move || run(&python, &base, &work)).await.expect("not cancelled");
    let got = got.unwrap_or_else(|error| panic!("{error:?}"));

    let job = Job { priority: Priority::Bulk, deadline: None };
    let mut tokens = 0;
    for (n, text) in texts.iter().enumerate() {
        let (expected, read) = encoders.embed_counted(text, TextRole::Passage, job).await.expect("embeds");
        tokens += read.tokens;
        assert_eq!(vector(&got["usual"][n]), expected.as_slice(), "base64, text {n}");
        assert_eq!(vector(&got["floats"][n]), expected.as_slice(), "numbers, text {n}");
    }
    let query = encoders.embed(QUERY, TextRole::Query, job).await.expect("embeds");
    assert_eq!(vector(&got["query"]), query.as_slice());
    assert_eq!((&got["model"], &got["prompt_tokens"]), (&json!(encoders.space().model), &json!(tokens)));
    assert_eq!(got["truncated"], json!([3]));

    let passages: Vec<Arc<str>> = documents.iter().map(|text| Arc::from(*text)).collect();
    let logits = encoders.score(QUERY, &passages, job).await;
    let mut expected: Vec<(usize, f32)> =
        logits.into_iter().map(|logit| logit.expect("scores").sigmoid()).enumerate().collect();
    expected.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    assert_eq!(ranking(&got["v1"]), expected);
    assert_eq!(ranking(&got["v2"]), expected[..3]);
    for result in got["v1"].as_array().expect("results") {
        let index = usize::try_from(result[0].as_u64().expect("an index")).expect("small");
        assert_eq!(result[2].as_str(), Some(documents[index]));
    }
    assert_eq!(
        (&got["v2_meta"]["version"], got["v2_meta"]["search_units"].as_f64()),
        (&json!("2"), Some(1.0))
    );
    assert!(
        got["v2_meta"]["warnings"][0].as_str().is_some_and(|w| w.starts_with("1 of 5 documents")),
        "{got}"
    );

    chats(&got);
    for (name, kind, status, part) in [
        ("unknown_model", "NotFoundError", 404, "text-embedding-3-small"),
        ("empty", "BadRequestError", 400, "input[1] is empty"),
        ("tokens", "BadRequestError", 400, "token ids are not taken"),
        ("no_documents", "BadRequestError", 400, "documents is empty"),
        ("chat_model", "NotFoundError", 404, "gpt-4o"),
        ("chat_last", "BadRequestError", 400, "expected user"),
        ("unknown_reranker", "NotFoundError", 404, encoders.reranker_name()),
    ] {
        let refusal = &got["refusals"][name];
        assert_eq!(
            (&refusal["kind"], &refusal["status"]),
            (&json!(kind), &json!(status)),
            "{name}: {refusal}"
        );
        assert!(refusal["message"].as_str().is_some_and(|text| text.contains(part)), "{name}: {refusal}");
    }
    server.abort();
}

/// What the client of OpenAI made of a chat: an answer with its places, a streamed follow-up, a refusal.
fn chats(got: &Value) {
    let chat = &got["chat"];
    assert_eq!(chat["finish_reason"], "stop", "{chat}");
    let note = &chat["annotations"][0];
    let place = |field: &str| usize::try_from(note[field].as_u64().expect("a place")).expect("small");
    let content: Vec<char> = chat["content"].as_str().expect("words").chars().collect();
    let cited: String = content[place("start_index")..place("end_index")].iter().collect();
    assert!(cited.contains("liver disease"), "{cited}");
    assert_eq!(
        (&note["url"], &note["title"]),
        (&json!("https://example.org/coffee"), &json!("@ann, 2014-05-01"))
    );
    assert!(
        chat["usage"]["total_tokens"].is_u64() && chat["search_results"][0]["post_id"].is_string(),
        "{chat}"
    );

    let stream = &got["stream"];
    assert_eq!(stream["finish_reasons"], json!(["stop"]), "{stream}");
    assert_eq!(stream["search_query"], "coffee lower risk liver disease for children");
    assert!(stream["content"].as_str().is_some_and(|text| text.contains("coffee")), "{stream}");
    assert!(stream["usage"]["total_tokens"].is_u64(), "{stream}");

    let refused = &got["refused"];
    assert_eq!(refused["finish_reason"], "stop", "{refused}");
    assert_eq!(refused["bowerbird"]["finish_reason"], "refused_no_evidence", "{refused}");
    assert!(refused["bowerbird"]["nearest"][0]["post_id"].is_string(), "{refused}");
}

fn vector(value: &Value) -> Vec<f32> {
    let numbers = value.as_array().expect("a vector");
    numbers.iter().map(|number| number.as_f64().expect("a number") as f32).collect()
}

fn ranking(results: &Value) -> Vec<(usize, f32)> {
    let pair = |result: &Value| {
        let index = usize::try_from(result[0].as_u64().expect("an index")).expect("small");
        (index, result[1].as_f64().expect("a score") as f32)
    };
    results.as_array().expect("results").iter().map(pair).collect()
}

/// Runs the script and reads what it printed.
fn run(python: &Path, base: &str, work: &Value) -> anyhow::Result<Value> {
    let mut child = Command::new(python)
        .args(["-c", include_str!("clients/check.py"), base])
        .env("NO_PROXY", "127.0.0.1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("stdin is piped")?.write_all(work.to_string().as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The interpreter of an environment with [`PACKAGES`], made once for each set of versions.
fn environment() -> anyhow::Result<PathBuf> {
    let root = cache_dir()?.join("test-python");
    let dir = root.join(PACKAGES.join("-").replace("==", "-"));
    let (python, ready) = (dir.join("bin/python"), dir.join("ready"));
    std::fs::create_dir_all(&root)?;
    // Several test runs may find it missing at once.
    let lock = std::fs::File::create(root.join("lock"))?;
    lock.lock()?;
    if ready.is_file() {
        return Ok(python);
    }
    quietly(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"];
    quietly(Command::new(&python).args(pip).args(PACKAGES))?;
    std::fs::write(ready, "")?;
    Ok(python)
}

fn quietly(command: &mut Command) -> anyhow::Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", said.lines().last().unwrap_or_default());
    Ok(())
}
