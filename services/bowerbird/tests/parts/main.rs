//! A rebuild in portable stages, through the binary and with the real model: export, embed, build.
//!
//! Here and not beside the other tests because only the package of a binary is told where the binary is.

mod processes;
mod ray;
mod reindex;
mod spark;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bowerbird_parts::{PartReader, PartWriter, VectorSpec, part_files};
use serde_json::{Value, json};
use support::{bowerbird, check, ids, indexed, json_of, path_text, posts_part, texts};

/// Ids and scores of a query, as `bowerbird search --json` gives them.
fn hits(data: &Path, query: &str) -> Vec<(String, f64)> {
    let page = json_of(bowerbird(["search", "--data-dir", path_text(data), "--json", query]));
    let hits = page["hits"].as_array().expect("hits").iter();
    hits.map(|hit| {
        (hit["id"].as_str().expect("an id").to_owned(), hit["scores"]["final"].as_f64().expect("a score"))
    })
    .collect()
}

fn embed(input: &Path, out: &Path) -> Value {
    json_of(bowerbird(["embed", "--in", path_text(input), "--out", path_text(out), "--json"]))
}

fn embed_with(input: &Path, out: &Path, embedder: &str) {
    let files = ["embed", "--in", path_text(input), "--out", path_text(out), "--embedder", embedder];
    check(&mut bowerbird(files), 0, &[]);
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

#[test]
fn a_directory_built_from_parts_finds_what_its_source_finds() {
    let home = tempfile::tempdir().expect("a directory");
    let (data, parts) = (home.path().join("data"), home.path().join("parts"));
    let (with, built) = (home.path().join("vectors"), home.path().join("built"));
    fs::create_dir(&with).expect("created");
    indexed(&data, 150);
    let export = ["export", "--data-dir", path_text(&data), "--out", path_text(&parts), "--part-posts", "80"];
    let said = check(&mut bowerbird(export), 0, &["150 posts in 2 parts"]);
    assert_eq!(names(&parts), ["part-00000.parquet", "part-00001.parquet"], "{said}");
    check(&mut bowerbird(export), 1, &["parts is not empty: give a directory that is absent or empty"]);

    for (name, posts) in [("part-00000.parquet", 80), ("part-00001.parquet", 70)] {
        let done = embed(&parts.join(name), &with.join(name));
        assert_eq!((&done["posts"], &done["kept"]), (&json!(posts), &json!(false)), "{done}");
        let again = embed(&parts.join(name), &with.join(name));
        assert_eq!((&again["posts"], &again["kept"]), (&json!(posts), &json!(true)), "{again}");
        assert!(done["posts_per_second"].as_f64().is_some_and(|rate| rate > 0.0), "{done}");
        assert_eq!((&again["refused"], &again["bytes"]), (&done["refused"], &done["bytes"]), "{again}");
    }
    // A whole part of other posts is not kept.
    let done = embed(&parts.join("part-00001.parquet"), &with.join("part-00000.parquet"));
    assert_eq!((&done["posts"], &done["kept"]), (&json!(70), &json!(false)), "{done}");
    embed(&parts.join("part-00000.parquet"), &with.join("part-00000.parquet"));

    let build = ["build", "--parts", path_text(&with), "--data-dir", path_text(&built), "--json"];
    let report = json_of(bowerbird(build));
    assert_eq!((&report["posts"], &report["read"], &report["parts"]), (&json!(150), &json!(150), &json!(2)));
    // The text without a token, which the model refuses.
    assert_eq!(report["without_vector"], 1, "{report}");
    check(&mut bowerbird(build), 1, &["built is there already"]);
    check(&mut bowerbird(["doctor", "--data-dir", path_text(&built)]), 0, &["150 posts, good"]);
    for query in ["cannot sleep at night", "shoes for jogging", "gadgets that count steps"] {
        let found = hits(&built, query);
        assert!(found.len() >= 5, "{query}: {found:?}");
        assert_eq!(found, hits(&data, query), "{query}");
    }

    let other = home.path().join("other");
    let part = parts.join("part-00001.parquet");
    let index = ["index", "--data-dir", path_text(&other), path_text(&part)];
    check(&mut bowerbird(index), 0, &["70 new, 0 changed, 0 unchanged, 0 refused"]);
}

#[test]
fn a_directory_that_a_server_has_open_is_not_exported() {
    let home = tempfile::tempdir().expect("a directory");
    let (data, parts) = (home.path().join("data"), home.path().join("parts"));
    indexed(&data, 2);
    let lock = fs::File::open(data.join("LOCK")).expect("a lock");
    lock.lock().expect("locked");
    let export = ["export", "--data-dir", path_text(&data), "--out", path_text(&parts)];
    check(&mut bowerbird(export), 1, &["a server is using it", "/v1/snapshots", "LOCK is held"]);
    let nowhere = home.path().join("nowhere");
    let export = ["export", "--data-dir", path_text(&nowhere), "--out", path_text(&parts)];
    check(&mut bowerbird(export), 1, &["nowhere"]);
    assert_eq!(names(home.path()), ["data", "posts.jsonl"]);
}

/// A vector part of a space that no model of the catalog has, of as many components.
fn foreign_part(path: &Path, posts: &Path) {
    let spec = VectorSpec { space: "other-model/mean/384/abcd".into(), dim: 384, source: "00".repeat(32) };
    let mut writer = PartWriter::vectors(path, &spec).expect("begins");
    let mut vector = vec![0.0; 384];
    vector[7] = 1.0;
    for row in PartReader::open(posts).expect("opens") {
        writer.push(&row.expect("a row").post, Some(&vector)).expect("a row");
    }
    writer.finish().expect("written");
}

#[test]
fn vectors_of_another_space_are_refused_by_name() {
    let home = tempfile::tempdir().expect("a directory");
    let (posts, with) = (home.path().join("posts.parquet"), home.path().join("vectors"));
    fs::create_dir(&with).expect("created");
    posts_part(&posts, 0..20);
    let space = embed(&posts, &with.join("a.parquet"))["space"].as_str().expect("a space").to_owned();
    foreign_part(&with.join("b.parquet"), &posts);
    let built = home.path().join("built");
    let build = ["build", "--parts", path_text(&with), "--data-dir", path_text(&built)];
    check(&mut bowerbird(build), 1, &["b.parquet", "other-model/mean/384/abcd", &space]);
    // Alone they can be built, and not be opened with this model.
    fs::remove_file(with.join("a.parquet")).expect("removed");
    check(&mut bowerbird(build), 0, &["20 posts from 1 parts"]);
    let search = ["search", "--data-dir", path_text(&built), "sleep"];
    check(&mut bowerbird(search), 1, &["other-model/mean/384/abcd", &space]);
    fs::copy(&posts, with.join("c.parquet")).expect("copied");
    let other = home.path().join("other");
    let build = ["build", "--parts", path_text(&with), "--data-dir", path_text(&other)];
    check(&mut bowerbird(build), 1, &["c.parquet is no vector part", "bowerbird embed"]);
    fs::remove_dir_all(&with).expect("removed");
    fs::create_dir(&with).expect("created");
    check(&mut bowerbird(build), 1, &["holds no .parquet files"]);
    assert!(!other.exists());
}

#[test]
fn damaged_parts_are_refused_by_name() {
    let home = tempfile::tempdir().expect("a directory");
    let (good, with) = (home.path().join("good.parquet"), home.path().join("vectors"));
    fs::create_dir(&with).expect("created");
    posts_part(&good, 0..50);
    let bytes = fs::read(&good).expect("read");
    let (cut, flipped, other) =
        (home.path().join("cut.parquet"), home.path().join("flipped.parquet"), home.path().join("x.parquet"));
    fs::write(&cut, &bytes[..bytes.len() / 2]).expect("written");
    let mut changed = bytes.clone();
    changed[bytes.len() / 3] ^= 4;
    fs::write(&flipped, changed).expect("written");
    fs::write(&other, "{\"id\":\"1\"}").expect("written");
    let out = with.join("out.parquet");
    for bad in [&cut, &flipped, &other] {
        let name = bad.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        let told = format!("{name} is damaged, cut short or no Parquet file");
        check(&mut bowerbird(["embed", "--in", path_text(bad), "--out", path_text(&out)]), 1, &[&told]);
        let data = home.path().join("data");
        check(&mut bowerbird(["index", "--data-dir", path_text(&data), path_text(bad)]), 1, &[&told]);
    }
    assert_eq!(names(&with), Vec::<String>::new());
    let missing = home.path().join("missing.parquet");
    check(
        &mut bowerbird(["embed", "--in", path_text(&missing), "--out", path_text(&out)]),
        1,
        &["missing.parquet"],
    );
    let embed_onto_itself = ["embed", "--in", path_text(&good), "--out", path_text(&good)];
    check(&mut bowerbird(embed_onto_itself), 1, &["are the same file"]);

    // The second part is bad: nothing of the first is left.
    embed(&good, &with.join("a.parquet"));
    let mut bytes = fs::read(with.join("a.parquet")).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(with.join("b.parquet"), bytes).expect("written");
    let built = home.path().join("built");
    let build = ["build", "--parts", path_text(&with), "--data-dir", path_text(&built)];
    check(&mut bowerbird(build), 1, &["b.parquet is damaged"]);
    assert!(names(home.path()).iter().all(|name| !name.contains("built")), "{:?}", names(home.path()));
}

#[test]
fn a_killed_embed_leaves_no_part_and_can_be_run_again() {
    let home = tempfile::tempdir().expect("a directory");
    let (posts, with) = (home.path().join("posts.parquet"), home.path().join("vectors"));
    fs::create_dir(&with).expect("created");
    posts_part(&posts, 0..1500);
    let out = with.join("out.parquet");
    let mut running =
        bowerbird(["embed", "--in", path_text(&posts), "--out", path_text(&out)]).spawn().expect("starts");
    let begun = Instant::now();
    while names(&with).is_empty() {
        assert!(begun.elapsed() < Duration::from_mins(1), "it writes nothing");
        assert!(running.try_wait().expect("asked").is_none(), "it ended early");
        std::thread::sleep(Duration::from_millis(20));
    }
    running.kill().expect("killed");
    running.wait().expect("gone");
    assert!(names(&with).iter().all(|name| name.starts_with('.')), "{:?}", names(&with));
    assert_eq!(part_files(&with).expect("listed"), Vec::<PathBuf>::new());
    // The next one is of fewer posts, to be quick; it takes away what the first left.
    posts_part(&posts, 0..20);
    assert_eq!(embed(&posts, &out)["posts"], 20);
    assert_eq!(names(&with), ["out.parquet"]);
}

/// Asserts that the parts of `dir` hold posts `0..number` once each, all with vectors but the one without a token.
fn assert_each_once(dir: &Path, number: usize) {
    let mut found: BTreeMap<String, u32> = BTreeMap::new();
    let mut without = 0;
    for file in part_files(dir).expect("listed") {
        for row in PartReader::open(&file).expect("opens") {
            let row = row.expect("a row");
            without += usize::from(row.vector.is_none());
            *found.entry(row.post.id.to_string()).or_default() += 1;
        }
    }
    let expected: BTreeMap<String, u32> = ids(0..number).map(|id| (id, 1)).collect();
    assert!(found == expected, "{} of {number} ids, {:?}", found.len(), found.iter().find(|(_, n)| **n != 1));
    assert_eq!(without, texts(0..number).filter(|text| text.chars().count() == 1).count());
}

/// Builds a directory of the parts of `dir` and searches it.
fn assert_builds_and_searches(home: &Path, dir: &Path, number: usize) {
    let built = home.join("built");
    let report =
        json_of(bowerbird(["build", "--parts", path_text(dir), "--data-dir", path_text(&built), "--json"]));
    assert_eq!((&report["posts"], &report["duplicates"]), (&json!(number), &json!(0)), "{report}");
    check(
        &mut bowerbird(["doctor", "--data-dir", path_text(&built)]),
        0,
        &[&format!("{number} posts, good")],
    );
    let search = ["search", "--data-dir", path_text(&built), "cannot", "fall", "asleep"];
    check(&mut bowerbird(search), 0, &["sleep"]);
}
