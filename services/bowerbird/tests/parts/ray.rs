//! The driver for Ray, on a real cluster of three nodes on this machine, one of which is killed.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bowerbird_parts::part_files;
use serde_json::json;

use crate::processes::{is_embedding, kill_tree, wait};
use crate::support::{PROGRAM, path_text, posts_parts, python, summary_from};
use crate::{assert_builds_and_searches, assert_each_once};

/// What is installed, in the versions that were tried.
const PACKAGES: [&str; 2] = ["ray==2.60.0", "pyarrow"];
const DRIVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../reindex/engines/ray/embed_parts.py");
const POSTS: usize = 600;
const PARTS: usize = 12;
/// Parts that are there when a node is killed.
const BEFORE: usize = 3;

/// A node of the cluster: `ray start --block` and everything below it, killed when dropped.
struct Node(Child);

impl Node {
    fn start(python: &Path, token: &str, log: &Path, args: &[&str]) -> Self {
        let log = File::create(log).expect("created");
        let command = authorised(&mut Command::new(python.with_file_name("ray")), token)
            .args(["start", "--block", "--disable-usage-stats", "--object-store-memory=80000000"])
            .args(args)
            // A dead node is noticed within seconds.
            .env("RAY_health_check_period_ms", "1000")
            .env("RAY_health_check_failure_threshold", "3")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("cloned"))
            .stderr(log)
            .spawn();
        Self(command.expect("ray starts"))
    }

    fn kill(&mut self) {
        kill_tree(self.0.id());
        drop(self.0.wait());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// A cluster runs what it is told to: it listens to those who know its token only.
fn authorised<'a>(command: &'a mut Command, token: &str) -> &'a mut Command {
    command.env("RAY_AUTH_MODE", "token").env("RAY_AUTH_TOKEN", token)
}

/// A head without cores and `nodes` workers of one, and the address of the head.
fn start(python: &Path, token: &str, home: &Path, nodes: usize) -> (Vec<Node>, String) {
    let address = format!("127.0.0.1:{}", free_port());
    let port = format!("--port={}", address.rsplit_once(':').expect("a port").1);
    let sessions = format!("--temp-dir={}", path_text(home));
    let head = ["--head", &port, "--num-cpus=0", "--include-dashboard=false", &sessions];
    let mut cluster = vec![Node::start(python, token, &home.join("head.log"), &head)];
    let joined = format!("--address={address}");
    wait("the head listens", || std::net::TcpStream::connect(&address).is_ok());
    for node in 0..nodes {
        let log = home.join(format!("node{node}.log"));
        cluster.push(Node::start(python, token, &log, &[&joined, "--num-cpus=1"]));
        wait("the node joins", || {
            fs::read_to_string(&log).is_ok_and(|said| said.contains("Ray runtime started"))
        });
    }
    (cluster, address)
}

#[test]
fn a_node_of_a_ray_cluster_dies_and_every_post_is_embedded_once() {
    let Some(python) = python(&PACKAGES) else { return };
    // Names of sockets below it must be short.
    let home = tempfile::Builder::new().prefix("ray").tempdir_in("/tmp").expect("a directory");
    let (parts, out): (PathBuf, PathBuf) = (home.path().join("parts"), home.path().join("vectors"));
    posts_parts(&parts, POSTS, POSTS / PARTS);
    let token = format!("{}{}", uuid::Uuid::now_v7().simple(), uuid::Uuid::now_v7().simple());
    let (mut cluster, address) = start(&python, &token, home.path(), 2);
    let driver = authorised(&mut Command::new(&python), &token)
        .args([DRIVER, "--parts", path_text(&parts), "--out", path_text(&out)])
        .args(["--bowerbird", PROGRAM, "--address", &address])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the driver starts");
    wait("some parts are there", || part_files(&out).is_ok_and(|files| files.len() >= BEFORE));
    wait("the node has work", || is_embedding(cluster[2].0.id()));
    cluster.remove(2).kill();
    let there = part_files(&out).expect("listed").len();
    assert!(there < PARTS, "the node was to die in the middle");
    let summary = summary_from(driver);
    assert_eq!(
        (&summary["parts"], &summary["posts"], &summary["failed"]),
        (&json!(PARTS), &json!(POSTS), &json!([])),
        "{summary}"
    );
    assert!(summary["retries"].as_u64().is_some_and(|retries| retries >= 1), "{summary}");
    drop(cluster);
    assert_each_once(&out, POSTS);
    assert_builds_and_searches(home.path(), &out, POSTS);
}
