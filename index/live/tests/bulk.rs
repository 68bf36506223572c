//! A data directory that was built at once is as any other.

mod common;

use std::fs;
use std::ops::ControlFlow;

use bowerbird_live::{BulkError, Live, LiveConfig, LiveError, bulk_build, check, read_closed};
use bowerbird_posts::Post;
use bowerbird_vector::VectorConfig;
use common::{DIM, config, embed, id, lexical, nearest, open, post, stub};

type Item = Result<(Post, Option<Vec<f32>>), Box<dyn std::error::Error + Send + Sync>>;

fn with_vectors(posts: impl IntoIterator<Item = Post>) -> impl Iterator<Item = Item> {
    posts.into_iter().map(|post| {
        let vector = (!post.text.contains("refused")).then(|| embed(&post.text));
        Ok((post, vector))
    })
}

fn texts(range: std::ops::Range<usize>) -> impl Iterator<Item = Post> {
    range.map(|n| post(&format!("p{n}"), &format!("common word{n} about subject{}", n % 50)))
}

#[test]
fn it_opens_and_both_indexes_find_what_was_put_in() {
    let home = tempfile::tempdir().expect("a directory");
    let target = home.path().join("built");
    let mut posts: Vec<Post> = texts(0..9000).collect();
    // Read again: with another text, within the batch and over batches; with other counters; as it was.
    posts.push(post("p8999", "common edited8999 last"));
    posts.push(post("p5", "common edited5 last"));
    let mut liked = post("p6", &posts[6].text);
    liked.counts.likes = 9;
    posts.push(liked);
    posts.push(posts[7].clone());
    posts.push(post("odd", "common refused by the model"));
    let vector = VectorConfig { seal_min_points: 2000, ..VectorConfig::default() };
    let settings = LiveConfig { vector, ..config() };
    let mut seen = Vec::new();
    let report = bulk_build(&target, "stub/32", DIM, &settings, with_vectors(posts), &mut |read| {
        seen.push(read);
    })
    .expect("built");
    assert_eq!((report.read, report.posts, report.duplicates, report.without_vector), (9005, 9001, 4, 1));
    assert!(report.bytes > 1_000_000 && report.sealed_points >= 8999, "{report:?}");
    assert_eq!(seen, [4096, 8192, 9005]);
    assert_eq!(fs::read_dir(home.path()).expect("listed").count(), 1, "nothing is left beside it");

    let checked = check(&target).expect("examined");
    assert!(checked.agrees(), "{:?}", checked.problems);
    assert_eq!((checked.posts, checked.vectors.expect("vectors").pending), (9001, 1));

    let live = Live::open(&target, settings, stub()).expect("opens");
    live.flush().expect("flushed");
    assert_eq!(live.status().vectors_refused, 1);
    let snapshot = live.snapshot();
    // Of the 32 numbers of a stub's vector, some are alike: the nearest post has the same.
    let nearest = |text: &str| {
        let nearest = id(&nearest(&snapshot, text, 1)[0]);
        embed(&live.store().get(&nearest).expect("read").expect("there").post.text)
    };
    for (n, word) in [(0, "word0"), (4095, "word4095"), (4096, "word4096"), (8998, "word8998")] {
        assert_eq!(lexical(&snapshot, word), [format!("p{n}")]);
        let text = format!("common word{n} about subject{}", n % 50);
        assert_eq!(nearest(&text), embed(&text));
    }
    for (name, old, new) in [("p5", "word5", "edited5"), ("p8999", "word8999", "edited8999")] {
        assert_eq!(lexical(&snapshot, new), [name]);
        let text = format!("common {new} last");
        assert_eq!(nearest(&text), embed(&text));
        assert!(lexical(&snapshot, old).is_empty());
    }
    assert_eq!(live.store().get(&id("p6")).expect("read").expect("there").post.counts.likes, 9);
    common::write(&live, common::upsert("later", "common later"));
    live.flush().expect("flushed");
    assert_eq!(lexical(&live.snapshot(), "later"), ["later"]);
}

#[test]
fn a_target_that_exists_is_refused_and_a_failure_leaves_nothing() {
    let home = tempfile::tempdir().expect("a directory");
    let target = home.path().join("built");
    let names = || {
        let entries = fs::read_dir(home.path()).expect("listed");
        entries
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
            .collect::<Vec<_>>()
    };
    let build = |items: Vec<Item>| bulk_build(&target, "stub/32", DIM, &config(), items, &mut |_| {});
    let posts = || with_vectors(texts(0..3));
    let broken = posts().chain([Err("the file ends".into())]).collect();
    assert!(matches!(build(broken), Err(BulkError::Input(error)) if error.to_string() == "the file ends"));
    let short = vec![Ok((post("a", "a"), Some(vec![1.0; 3])))];
    assert!(matches!(build(short), Err(BulkError::Live(LiveError::Vector(_)))));
    assert_eq!(names(), Vec::<String>::new());

    // What a killed build left, its lock free.
    let left = home.path().join(".built.building");
    drop(bowerbird_live::Live::open(&left, config(), stub()).expect("opens"));
    build(posts().collect()).expect("built");
    assert_eq!(names(), ["built"]);
    assert!(matches!(build(posts().collect()), Err(BulkError::Exists { .. })));
    let held = open(&left);
    fs::remove_dir_all(&target).expect("removed");
    assert!(matches!(build(posts().collect()), Err(BulkError::Live(LiveError::Locked { .. }))));
    drop(held);
}

#[test]
fn posts_are_read_without_a_model_from_a_closed_directory_only() {
    let home = tempfile::tempdir().expect("a directory");
    let missing = home.path().join("none");
    assert!(matches!(
        read_closed(&missing, &mut |_, _| ControlFlow::Continue(())),
        Err(LiveError::Io { .. })
    ));
    assert!(!missing.exists());
    let dir = home.path().join("data");
    let live = open(&dir);
    for n in 0..5 {
        common::write(&live, common::upsert(&format!("p{n}"), &format!("common word{n}")));
    }
    let locked = read_closed(&dir, &mut |_, _| ControlFlow::Continue(()));
    assert!(matches!(locked, Err(LiveError::Locked { .. })));
    drop(live);
    let mut read = Vec::new();
    read_closed(&dir, &mut |post, total| {
        assert_eq!(total, 5);
        read.push(post.id.to_string());
        if read.len() == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .expect("read");
    assert_eq!(read, ["p0", "p1", "p2", "p3"]);
}
