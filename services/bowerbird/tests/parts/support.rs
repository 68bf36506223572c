//! What these tests share: posts, the binary, and Python environments.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, ensure};
use bowerbird_parts::PartWriter;
use bowerbird_posts::{Post, PostId};
use jiff::Timestamp;
use serde_json::Value;

const WHO: [&str; 7] =
    ["A new study", "My doctor", "The clinic", "A nurse I know", "Our team", "This book", "The app"];
const WHAT: [&str; 9] = [
    "shows nine ways to fall asleep faster",
    "praises running shoes that go the extra mile",
    "warns of headaches after too much coffee",
    "counts every step with a cheap tracker",
    "says that children need their measles vaccine",
    "explains back pain at the desk",
    "links soda to tooth decay",
    "tested electronic cigarettes on teenagers",
    "recommends yoga against stress",
];
const WHEN: [&str; 5] = ["this week", "again", "after ten years", "for the first time", "in New York"];

/// The texts of posts; one in a thousand holds nothing that a model can read.
pub fn texts(range: Range<usize>) -> impl Iterator<Item = String> {
    range.map(|n| {
        if n % 1000 == 42 {
            return "\u{200b}".to_owned();
        }
        let (who, what, when) = (WHO[n % 7], WHAT[n % 9], WHEN[n % 5]);
        format!("{who} {what} {when}, says report {n} #health{}", n % 11)
    })
}

/// The ids of posts.
pub fn ids(range: Range<usize>) -> impl Iterator<Item = String> {
    range.map(|n| format!("post-{n:05}"))
}

/// Posts, the same ones each time.
pub fn posts(range: Range<usize>) -> impl Iterator<Item = Post> {
    ids(range.clone()).zip(texts(range.clone())).zip(range).map(|((id, text), n)| {
        let at = Timestamp::from_second(1_420_070_400 + 3600 * i64::try_from(n).expect("small"))
            .expect("in range");
        let id = PostId::new(id).expect("an id");
        Post::new(id, text, format!("author{}", n % 13), at).validated().expect("a valid post")
    })
}

/// Writes posts as a part.
pub fn posts_part(path: &Path, range: Range<usize>) {
    let mut writer = PartWriter::posts(path).expect("begins");
    for post in posts(range) {
        writer.push(&post, None).expect("a row");
    }
    writer.finish().expect("written");
}

/// Writes posts to parts of `each`.
pub fn posts_parts(dir: &Path, number: usize, each: usize) {
    std::fs::create_dir(dir).expect("created");
    for (part, from) in (0..number).step_by(each).enumerate() {
        posts_part(&dir.join(format!("part-{part:05}.parquet")), from..number.min(from + each));
    }
}

/// Indexes posts in `data`.
pub fn indexed(data: &Path, number: usize) {
    let file = data.with_file_name("posts.jsonl");
    let lines = posts(0..number).map(|post| serde_json::to_string(&post).expect("JSON") + "\n");
    std::fs::write(&file, lines.collect::<String>()).expect("written");
    check(&mut bowerbird(["index", "--data-dir", path_text(data), path_text(&file)]), 0, &["0 refused"]);
}

/// The program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_bowerbird");

/// The program, to be run.
pub fn bowerbird<const N: usize>(args: [&str; N]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(args);
    command
}

pub fn path_text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs, and checks the exit code and that the output holds each of `parts`.
pub fn check(command: &mut Command, code: i32, parts: &[&str]) -> String {
    let output = command.output().expect("the program runs");
    let text = text(&output);
    assert_eq!(output.status.code(), Some(code), "{command:?}: {text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
    text
}

/// Runs a command that must succeed, and reads the JSON it prints.
pub fn json_of(mut command: Command) -> Value {
    let output = command.output().expect("the program runs");
    assert!(output.status.success(), "{command:?}: {}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)))
}

/// Waits for the driver of an engine, and reads the summary on its last line.
pub fn summary_from(driver: Child) -> Value {
    let output = driver.wait_with_output().expect("the driver ends");
    assert!(output.status.success(), "{}", text(&output));
    let printed = String::from_utf8_lossy(&output.stdout);
    let summary = printed.lines().last().and_then(|line| serde_json::from_str(line).ok());
    summary.unwrap_or_else(|| panic!("no summary: {}", text(&output)))
}

/// The interpreter of an environment with `packages`, made once for each set of versions; none when it cannot be had,
/// which fails where `BOWERBIRD_REQUIRE_ALL=1` asks that no test be skipped.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub fn python(packages: &[&str]) -> Option<PathBuf> {
    match environment(packages) {
        Ok(python) => Some(python),
        Err(error) => {
            let remedy = format!(
                "no Python environment with {}: needs python3 with venv, and PyPI once ({error:#})",
                packages.join(", ")
            );
            assert!(!all_required(), "{remedy}");
            eprintln!("skipped: {remedy}");
            None
        }
    }
}

/// Whether a test may be skipped.
pub fn all_required() -> bool {
    std::env::var_os("BOWERBIRD_REQUIRE_ALL").is_some_and(|value| value == "1")
}

fn environment(packages: &[&str]) -> anyhow::Result<PathBuf> {
    let cache = directories::BaseDirs::new().context("no home directory")?.cache_dir().join("bowerbird");
    let root = cache.join("test-python");
    let dir = root.join(packages.join("-").replace("==", "-"));
    let (python, ready) = (dir.join("bin/python"), dir.join("ready"));
    std::fs::create_dir_all(&root)?;
    // Several test runs may find it missing at once.
    let lock = std::fs::File::create(root.join("lock"))?;
    lock.lock()?;
    if ready.is_file() {
        return Ok(python);
    }
    quietly(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--prefer-binary"];
    quietly(Command::new(&python).args(pip).args(packages))?;
    std::fs::write(ready, "")?;
    Ok(python)
}

fn quietly(command: &mut Command) -> anyhow::Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", said.lines().last().unwrap_or_default());
    Ok(())
}
