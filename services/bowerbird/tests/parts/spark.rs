//! The driver for Spark, on a real cluster of two executors on this machine, one of which is killed.

use std::process::{Command, Stdio};

use bowerbird_parts::part_files;
use serde_json::json;

use crate::processes::{is_embedding, kill_tree, wait, with_argument};
use crate::support::{PROGRAM, all_required, path_text, posts_parts, python, summary_from};
use crate::{assert_builds_and_searches, assert_each_once};

/// What is installed, in the versions that were tried.
const PACKAGES: [&str; 3] = ["pyspark==4.1.0", "pyarrow", "pandas"];
const DRIVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../reindex/engines/spark/embed_parts.py");
/// What the command line of an executor holds.
const EXECUTOR: &str = "org.apache.spark.executor.CoarseGrainedExecutorBackend";
const POSTS: usize = 240;
const PARTS: usize = 12;

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn an_executor_of_spark_dies_and_every_post_is_embedded_once() {
    if Command::new("java").arg("-version").output().is_err() {
        let remedy = "no Java for Spark: install openjdk-17-jre-headless";
        assert!(!all_required(), "{remedy}");
        eprintln!("skipped: {remedy}");
        return;
    }
    let Some(python) = python(&PACKAGES) else { return };
    let home = tempfile::tempdir().expect("a directory");
    let (parts, out) = (home.path().join("parts"), home.path().join("vectors"));
    posts_parts(&parts, POSTS, POSTS / PARTS);
    let driver = Command::new(&python)
        .args([DRIVER, "--parts", path_text(&parts), "--out", path_text(&out)])
        // Two executors of one core and 1,024 MiB.
        .args(["--bowerbird", PROGRAM, "--master", "local-cluster[2,1,1024]"])
        .env("PYSPARK_PYTHON", &python)
        .env("SPARK_LOCAL_IP", "127.0.0.1")
        // Executors keep their logs in `work` below it.
        .current_dir(home.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the driver starts");
    wait("some parts are there", || part_files(&out).is_ok_and(|files| files.len() >= 2));
    let mut executors = Vec::new();
    wait("an executor has work", || {
        executors = with_argument(driver.id(), EXECUTOR);
        executors.retain(|executor| is_embedding(*executor));
        !executors.is_empty()
    });
    kill_tree(executors[0]);
    assert!(part_files(&out).expect("listed").len() < PARTS, "the executor was to die in the middle");
    let summary = summary_from(driver);
    assert_eq!((&summary["parts"], &summary["posts"]), (&json!(PARTS), &json!(POSTS)), "{summary}");
    assert!(summary["retries"].as_u64().is_some_and(|retries| retries >= 1), "{summary}");
    assert_each_once(&out, POSTS);
    assert_builds_and_searches(home.path(), &out, POSTS);
}
