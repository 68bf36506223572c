use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;

use jiff::Timestamp;
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::{CountsPatch, Outcome, Post};

fn id(name: &str) -> PostId {
    PostId::new(name).expect("valid")
}

fn post(name: &str, text: &str, likes: u64) -> Post {
    let mut post = Post::new(id(name), text, "Ann", Timestamp::UNIX_EPOCH);
    post.counts.likes = likes;
    post
}

fn upsert(name: &str, text: &str, likes: u64) -> Op {
    Op::Upsert(Box::new(post(name, text, likes)))
}

fn likes(name: &str, likes: u64) -> Op {
    Op::SetCounts { id: id(name), counts: CountsPatch { likes: Some(likes), ..CountsPatch::default() } }
}

fn all(store: &PostStore) -> Result<Vec<StoredPost>, StoreError> {
    let mut posts = Vec::new();
    store.scan(Ordinal(0), &mut |post| {
        posts.push(post);
        ControlFlow::Continue(())
    })?;
    Ok(posts)
}

#[test]
fn ops_of_one_batch_act_in_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = PostStore::open(dir.path()).expect("opens");
    let ops = [
        upsert("a", "one", 1),
        upsert("a", "one", 1),
        upsert("a", "one", 2),
        upsert("a", "two", 2),
        likes("a", 5),
        likes("a", 5),
        upsert("b", "b", 0),
        Op::Delete(id("a")),
        Op::Delete(id("a")),
        likes("a", 1),
        upsert("a", "two", 0),
    ];
    let applied = store.apply(&ops).expect("applies");
    let at = Ordinal;
    let counts = |likes| Counts { likes, ..Counts::default() };
    let expected = [
        Outcome::Created { ordinal: at(0) },
        Outcome::Unchanged { ordinal: at(0) },
        Outcome::CountsChanged { ordinal: at(0), counts: counts(2) },
        Outcome::Replaced { ordinal: at(1), old: at(0) },
        Outcome::CountsChanged { ordinal: at(1), counts: counts(5) },
        Outcome::Unchanged { ordinal: at(1) },
        Outcome::Created { ordinal: at(2) },
        Outcome::Deleted { ordinal: at(1) },
        Outcome::NotFound,
        Outcome::NotFound,
        Outcome::Created { ordinal: at(3) },
    ];
    assert_eq!(applied.outcomes, expected);
    assert_eq!(applied.sequence, 1);
    assert_eq!(store.len().expect("reads"), 2);
    assert_eq!(store.next_ordinal().expect("reads"), Ordinal(4));
    assert_eq!(store.live_ordinals().expect("reads").iter().collect::<Vec<_>>(), [2, 3]);
    assert_eq!(store.ordinal(&id("a")).expect("reads"), Some(Ordinal(3)));
    assert_eq!(store.get(&id("a")).expect("reads").expect("alive").post, post("a", "two", 0));
    let many = store.get_many(&[Ordinal(3), Ordinal(0), Ordinal(2), Ordinal(99)]).expect("reads");
    assert_eq!(many.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true, false]);
    assert_eq!(store.apply(&[]).expect("nothing").sequence, 1);
    assert!(store.damaged_records().expect("reads").is_empty());
}

#[test]
fn a_scan_is_a_snapshot_and_stops_when_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = PostStore::open(dir.path()).expect("opens");
    let ops: Vec<_> = (0..1000).map(|n| upsert(&format!("p{n}"), &format!("text {n}"), n)).collect();
    store.apply(&ops).expect("applies");
    let mut seen = Vec::new();
    store
        .scan(Ordinal(5), &mut |post| {
            if seen.is_empty() {
                store.apply(&[Op::Delete(id("p900"))]).expect("a writer does not wait for a reader");
            }
            seen.push(post.ordinal.0);
            if seen.len() == 990 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .expect("scans");
    assert_eq!(seen, (5..995).collect::<Vec<_>>());
    assert_eq!(all(&store).expect("scans").len(), 999);
}

#[test]
fn what_cannot_be_opened_is_told_apart() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);

    fs::write(path("file"), "x").expect("writes");
    assert!(matches!(PostStore::open(&path("file")), Err(StoreError::Directory { .. })));

    let store = PostStore::open(&path("locked")).expect("opens");
    let error = PostStore::open(&path("locked")).expect_err("open already");
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    drop(store);
    PostStore::open(&path("locked")).expect("opens after the first is closed");

    fs::create_dir(path("other")).expect("creates");
    fs::write(path("other/posts.redb"), "not a database at all").expect("writes");
    let error = PostStore::open(&path("other")).expect_err("no database");
    assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");

    fs::create_dir(path("foreign")).expect("creates");
    let foreign = Database::create(path("foreign/posts.redb")).expect("creates");
    let transaction = foreign.begin_write().expect("begins");
    transaction.open_table(TableDefinition::<u8, u8>::new("x")).expect("opens");
    transaction.commit().expect("commits");
    drop(foreign);
    let error = PostStore::open(&path("foreign")).expect_err("tables of somebody else");
    assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");

    drop(PostStore::open(&path("newer")).expect("opens"));
    let newer = Database::open(path("newer/posts.redb")).expect("opens");
    let transaction = newer.begin_write().expect("begins");
    transaction.open_table(META).expect("opens").insert("format", 7).expect("inserts");
    transaction.commit().expect("commits");
    drop(newer);
    let error = PostStore::open(&path("newer")).expect_err("another format");
    assert!(matches!(error, StoreError::WrongFormat { expected: 1, found: 7, .. }), "{error}");

    for (name, bytes) in [("empty", Some("")), ("gone", None)] {
        drop(PostStore::open(&path(name)).expect("opens"));
        fs::remove_file(path(name).join("posts.redb")).expect("removes");
        if let Some(bytes) = bytes {
            fs::write(path(name).join("posts.redb"), bytes).expect("writes");
        }
        let error = PostStore::open(&path(name)).expect_err("the store is lost");
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    }
}

#[test]
fn a_damaged_record_is_named_and_loading_the_post_again_repairs_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = PostStore::open(dir.path()).expect("opens");
    store.apply(&[upsert("a", "one", 0), upsert("b", "two", 0)]).expect("applies");
    drop(store);
    let database = Database::open(dir.path().join("posts.redb")).expect("opens");
    let transaction = database.begin_write().expect("begins");
    transaction.open_table(POSTS).expect("opens").insert(1, &[1u8, 2, 3, 4, 5, 6][..]).expect("inserts");
    transaction.commit().expect("commits");
    drop(database);
    let store = PostStore::open(dir.path()).expect("opens");
    let error = store.get(&id("b")).expect_err("damaged");
    assert!(matches!(error, StoreError::DamagedRecord { ordinal: 1, .. }), "{error}");
    assert!(store.get(&id("a")).expect("reads").is_some());
    assert!(all(&store).is_err());
    assert_eq!(store.damaged_records().expect("reads"), [Ordinal(1)]);
    let applied = store.apply(&[upsert("b", "two", 0)]).expect("applies");
    assert_eq!(applied.outcomes, [Outcome::Replaced { ordinal: Ordinal(2), old: Ordinal(1) }]);
    assert!(store.damaged_records().expect("reads").is_empty());
}

/// Whatever happens to the file, a store either says that it is damaged or gives back all that was acknowledged.
#[test]
fn a_damaged_file_is_an_error_and_never_a_panic_or_a_loss() {
    let dir = tempfile::tempdir().expect("a directory");
    let good = dir.path().join("good");
    let store = PostStore::open(&good).expect("opens");
    for batch in 0..8 {
        let ops: Vec<_> = (0..60)
            .map(|n| upsert(&format!("p{}", batch * 60 + n), &format!("text {n} of {batch}"), n))
            .collect();
        store.apply(&ops).expect("applies");
    }
    let expected = all(&store).expect("scans");
    drop(store);
    let bytes = fs::read(good.join("posts.redb")).expect("reads");
    let mut random = SmallRng::seed_from_u64(7);
    let mut damaged: Vec<Vec<u8>> = Vec::new();
    for length in [1, 100, 4096, 5000, bytes.len() / 2, bytes.len() - 1] {
        damaged.push(bytes[..length].to_vec());
    }
    let header = (0..24).map(|n| n * 12);
    let anywhere: Vec<usize> = (0..40).map(|_| random.random_range(0..bytes.len())).collect();
    for at in header.chain(anywhere) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << random.random_range(0..8);
        damaged.push(flipped);
    }
    let (mut refused, mut harmless) = (0, 0);
    for (n, file) in damaged.iter().enumerate() {
        let bad = dir.path().join("bad");
        fs::create_dir(&bad).expect("creates");
        fs::copy(good.join("posts.format"), bad.join("posts.format")).expect("copies");
        fs::write(bad.join("posts.redb"), file).expect("writes");
        match PostStore::open(&bad).and_then(|store| all(&store)) {
            Ok(found) => {
                assert!(
                    found == expected,
                    "case {n}: {} posts of {} without an error",
                    found.len(),
                    expected.len()
                );
                harmless += 1;
            }
            Err(
                StoreError::Damaged { .. }
                | StoreError::NotAStore { .. }
                | StoreError::WrongFormat { .. }
                | StoreError::DamagedRecord { .. }
                | StoreError::Database { .. },
            ) => refused += 1,
            Err(other) => panic!("case {n}: {other}"),
        }
        fs::remove_dir_all(&bad).expect("removes");
    }
    assert!(refused >= 10, "{refused} refused, {harmless} harmless");
}

#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<Op>),
    Reopen,
}

fn any_op() -> impl Strategy<Value = Op> {
    let name = (0..6u8).prop_map(|n| format!("p{n}"));
    prop_oneof![
        4 => (name.clone(), 0..3u8, 0..3u64).prop_map(|(name, text, likes)| upsert(&name, &format!("t{text}"), likes)),
        2 => (name.clone(), 0..3u64).prop_map(|(name, n)| likes(&name, n)),
        1 => name.prop_map(|name| Op::Delete(id(&name))),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(any_op(), 1..8).prop_map(Step::Apply),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Default)]
struct Model {
    posts: BTreeMap<PostId, (u32, Post)>,
    next: u32,
    sequence: u64,
}

impl Model {
    fn new_ordinal(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }

    fn apply(&mut self, op: &Op) -> Outcome {
        match (op, self.posts.get(op.id()).cloned()) {
            (Op::Upsert(post), None) => {
                let ordinal = self.new_ordinal();
                self.posts.insert(post.id.clone(), (ordinal, (**post).clone()));
                Outcome::Created { ordinal: Ordinal(ordinal) }
            }
            (Op::Upsert(post), Some((old, found))) => {
                let same = Post { counts: post.counts, ..found.clone() } == **post;
                let ordinal = if same { old } else { self.new_ordinal() };
                self.posts.insert(post.id.clone(), (ordinal, (**post).clone()));
                match (same, found.counts == post.counts) {
                    (true, true) => Outcome::Unchanged { ordinal: Ordinal(old) },
                    (true, false) => Outcome::CountsChanged { ordinal: Ordinal(old), counts: post.counts },
                    (false, _) => Outcome::Replaced { ordinal: Ordinal(ordinal), old: Ordinal(old) },
                }
            }
            (Op::SetCounts { id, counts }, Some((ordinal, mut found))) => {
                let new = counts.apply(found.counts);
                let changed = new != found.counts;
                found.counts = new;
                self.posts.insert(id.clone(), (ordinal, found));
                if changed {
                    Outcome::CountsChanged { ordinal: Ordinal(ordinal), counts: new }
                } else {
                    Outcome::Unchanged { ordinal: Ordinal(ordinal) }
                }
            }
            (Op::Delete(id), Some((ordinal, _))) => {
                self.posts.remove(id);
                Outcome::Deleted { ordinal: Ordinal(ordinal) }
            }
            (_, None) => Outcome::NotFound,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_store_does_what_a_map_does(steps in prop::collection::vec(any_step(), 1..12)) {
        let dir = tempfile::tempdir().expect("a directory");
        let mut store = PostStore::open(dir.path()).expect("opens");
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Reopen => {
                    drop(store);
                    store = PostStore::open(dir.path()).expect("opens again");
                }
                Step::Apply(ops) => {
                    let applied = store.apply(&ops).expect("applies");
                    model.sequence += 1;
                    let expected: Vec<_> = ops.iter().map(|op| model.apply(op)).collect();
                    prop_assert_eq!(applied.outcomes, expected);
                    prop_assert_eq!(applied.sequence, model.sequence);
                }
            }
            let mut expected: Vec<_> = model
                .posts
                .values()
                .map(|(ordinal, post)| StoredPost { ordinal: Ordinal(*ordinal), post: post.clone() })
                .collect();
            expected.sort_by_key(|stored| stored.ordinal);
            prop_assert_eq!(all(&store).expect("scans"), expected);
            prop_assert_eq!(store.len().expect("reads"), model.posts.len() as u64);
            prop_assert_eq!(store.next_ordinal().expect("reads"), Ordinal(model.next));
        }
    }
}

#[test]
fn a_copy_holds_one_transaction_and_opens_as_a_store() {
    let (dir, target) =
        (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let store = PostStore::open(dir.path()).expect("opens");
    let ops: Vec<Op> = (0..700).map(|n| upsert(&format!("p{n}"), &format!("text {n}"), n)).collect();
    store.apply(&ops).expect("applies");
    store.apply(&[Op::Delete(id("p5")), likes("p6", 99)]).expect("applies");
    let copied = store.copy_to(&target.path().join("posts")).expect("copies");
    assert_eq!(copied, StoreCopy { sequence: 2, next_ordinal: Ordinal(700), posts: 699 });
    store.apply(&[upsert("late", "after the copy", 0)]).expect("applies");
    assert!(store.copy_to(&target.path().join("posts")).is_err(), "it would overwrite a store");

    let copy = PostStore::open(&target.path().join("posts")).expect("opens");
    let mut expected = all(&store).expect("reads");
    expected.retain(|stored| stored.post.id != id("late"));
    assert_eq!(all(&copy).expect("reads"), expected);
    let check = copy.check().expect("checks");
    assert_eq!((check.sequence, check.next_ordinal, check.live.len()), (2, 700, 699));
    assert!(check.problems.is_empty() && check.damaged.is_empty());
    let applied = copy.apply(&[upsert("new", "in the copy", 0)]).expect("applies");
    assert_eq!((applied.sequence, &applied.outcomes[0]), (3, &Outcome::Created { ordinal: Ordinal(700) }));
}

#[test]
fn tables_that_disagree_are_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = PostStore::open(dir.path()).expect("opens");
    store.apply(&[upsert("a", "one", 1), upsert("b", "two", 2), upsert("c", "three", 3)]).expect("applies");
    store
        .guarded(|database| {
            let transaction = database.begin_write().map_err(|e| store.fault(e))?;
            {
                let mut ids = transaction.open_table(IDS).map_err(|e| store.fault(e))?;
                ids.insert("a", 1).map_err(|e| store.fault(e))?;
                ids.insert("ghost", 9).map_err(|e| store.fault(e))?;
                let mut posts = transaction.open_table(POSTS).map_err(|e| store.fault(e))?;
                posts.insert(2, [1, 2, 3, 4, 5].as_slice()).map_err(|e| store.fault(e))?;
                posts.insert(7, [1, 2, 3, 4, 5].as_slice()).map_err(|e| store.fault(e))?;
            }
            transaction.commit().map_err(|e| store.fault(e))
        })
        .expect("spoils");
    let check = store.check().expect("checks");
    let said = check.problems.join("\n");
    for part in [
        "id \"a\" of ordinal 0 leads to Some(1)",
        "ordinal 2",
        "ordinal 7 was never given out",
        "table counts has 3",
    ] {
        assert!(said.contains(part), "{part} is not in:\n{said}");
    }
    assert_eq!(check.damaged.into_iter().collect::<Vec<_>>(), [2, 7]);
}

#[test]
fn after_an_io_error_the_store_is_opened_again_and_old_reads_are_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = PostStore::open(dir.path()).expect("opens");
    let ops: Vec<Op> = (0..2000).map(|n| upsert(&n.to_string(), &"words ".repeat(40), n)).collect();
    store.apply(&ops).expect("applies");
    let mut seen = 0;
    let cut = store.scan(Ordinal(0), &mut |_| {
        seen += 1;
        if seen == 10 {
            // What an I/O error of another thread sets.
            store.failed.store(true, std::sync::atomic::Ordering::Release);
            assert!(store.get(&id("1999")).expect("reads go on").is_some());
        }
        ControlFlow::Continue(())
    });
    assert!(
        matches!(cut, Ok(()) | Err(StoreError::Reopened { .. })),
        "a scan of before ends whole or says why: {cut:?}"
    );
    assert_eq!(store.apply(&[Op::Delete(id("0"))]).expect("applies").sequence, 2);
    assert_eq!(store.len().expect("reads"), 1999);
}
