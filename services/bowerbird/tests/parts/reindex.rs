//! A rebuild on the command line, with vectors from part files.

use std::fs;

use serde_json::json;

use crate::support::{bowerbird, check, indexed, json_of, path_text};
use crate::{embed_with, hits};

#[test]
fn a_rebuild_takes_vectors_from_parts_and_can_be_undone() {
    let home = tempfile::tempdir().expect("a directory");
    let (data, parts, with) =
        (home.path().join("data"), home.path().join("posts"), home.path().join("vectors"));
    fs::create_dir(&with).expect("created");
    indexed(&data, 60);
    let queries = ["cannot sleep at night", "shoes for jogging"];
    let before = queries.map(|query| hits(&data, query));
    let data = path_text(&data);
    check(
        &mut bowerbird(["export", "--data-dir", data, "--out", path_text(&parts), "--part-posts", "40"]),
        0,
        &[],
    );
    // The second part stays away: its posts are embedded by the rebuild itself.
    embed_with(&parts.join("part-00000.parquet"), &with.join("part-00000.parquet"), "e5-small-v2");

    let reindex = |more: &[&str]| {
        let mut command = bowerbird(["reindex", "--data-dir", data]);
        command.args(more);
        command
    };
    check(&mut reindex(&[]), 1, &["has this embedder, analyser and vector settings already"]);
    check(&mut reindex(&["--embedder", "nobody"]), 1, &["nobody"]);
    check(&mut reindex(&["rollback"]), 1, &["there is no earlier generation"]);
    let wrong = ["--analyzer", "plain", "--parts", path_text(&with)];
    check(&mut reindex(&wrong), 1, &["part-00000.parquet", "e5-small-v2/", "bge-small-en-v1.5/"]);
    check(&mut reindex(&["cancel"]), 0, &["reindex-2 is cancelled"]);

    let migrate =
        ["--embedder", "e5-small-v2", "--parts", path_text(&with), "--require", "overlap=0.05", "--json"];
    let done = json_of(reindex(&migrate));
    assert_eq!(
        (&done["state"], &done["generation"], &done["replaced"]),
        (&json!("done"), &json!(2), &json!(1))
    );
    assert_eq!(
        (&done["comparison"]["posts"], &done["comparison"]["refused"]),
        (&json!(60), &json!(1)),
        "{done}"
    );
    assert_eq!(done["comparison"]["source"], "posts", "there are no past queries");
    check(&mut bowerbird(["doctor", "--data-dir", data]), 0, &["60 posts, good"]);
    let status = json_of(reindex(&["--json", "status"]));
    assert_eq!(status["generations"][1]["current"], true, "{status}");
    let after = queries.map(|query| hits(data.as_ref(), query));
    assert_ne!(before, after);

    check(&mut reindex(&["rollback"]), 0, &["generation 1 serves"]);
    assert_eq!(queries.map(|query| hits(data.as_ref(), query)), before);
    check(&mut reindex(&["prune"]), 0, &["bytes freed"]);
    check(&mut bowerbird(["doctor", "--data-dir", data]), 0, &["60 posts, good"]);
}
