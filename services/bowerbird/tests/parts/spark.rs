//! The driver for Spark, on two local threads.

use std::process::Command;

use serde_json::json;

use crate::support::{PROGRAM, all_required, path_text, posts_parts, python, summary_of};
use crate::{assert_builds_and_searches, assert_each_once};

/// What is installed, in the versions that were tried.
const PACKAGES: [&str; 3] = ["pyspark==4.1.0", "pyarrow", "pandas"];
const DRIVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../reindex/engines/spark/embed_parts.py");
const POSTS: usize = 120;

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn spark_embeds_every_post_once() {
    if Command::new("java").arg("-version").output().is_err() {
        let remedy = "no Java for Spark: install openjdk-17-jre-headless";
        assert!(!all_required(), "{remedy}");
        eprintln!("skipped: {remedy}");
        return;
    }
    let Some(python) = python(&PACKAGES) else { return };
    let home = tempfile::tempdir().expect("a directory");
    let (parts, out) = (home.path().join("parts"), home.path().join("vectors"));
    posts_parts(&parts, POSTS, 40);
    let summary = summary_of(
        Command::new(&python)
            .args([DRIVER, "--parts", path_text(&parts), "--out", path_text(&out)])
            .args(["--bowerbird", PROGRAM, "--master", "local[2]"])
            .env("PYSPARK_PYTHON", &python)
            .env("SPARK_LOCAL_IP", "127.0.0.1"),
    );
    assert_eq!(
        (&summary["parts"], &summary["posts"], &summary["retries"]),
        (&json!(3), &json!(POSTS), &json!(0)),
        "{summary}"
    );
    assert_each_once(&out, POSTS);
    assert_builds_and_searches(home.path(), &out, POSTS);
}
