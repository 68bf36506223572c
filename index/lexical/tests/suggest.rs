//! What the dictionary says, against a plain look at every post.

use std::collections::{BTreeMap, BTreeSet};

use bowerbird_lexical::suggest::{PrefixTables, Vocabulary};
use bowerbird_lexical::{Checkpoint, LexicalIndex, LexicalSearcher};
use bowerbird_posts::{Ordinal, Post, PostId};
use jiff::Timestamp;
use proptest::prelude::*;
use roaring::RoaringBitmap;
use tempfile::TempDir;

const POINT: Checkpoint = Checkpoint { next_ordinal: 0, sequence: 0 };

struct Fixture {
    searcher: LexicalSearcher,
    _index: LexicalIndex,
    _dir: TempDir,
}

/// `texts` in segments of `commit_every`, without those in `dead`.
fn fixture(texts: &[String], commit_every: usize, dead: &BTreeSet<u32>) -> Fixture {
    let dir = tempfile::tempdir().expect("a directory");
    let index = LexicalIndex::open(dir.path()).expect("opens");
    for (at, text) in texts.iter().enumerate() {
        let mut post = Post::new(PostId::new("x").expect("valid"), text, "", Timestamp::UNIX_EPOCH);
        // No stems, so that a word is a word in every field.
        post.lang = Some("de".to_owned());
        index.add(Ordinal(at as u32), &post.validated().expect("valid")).expect("adds");
        if at % commit_every == commit_every - 1 {
            index.commit(POINT).expect("commits");
        }
    }
    for &ordinal in dead {
        index.delete(Ordinal(ordinal)).expect("deletes");
    }
    index.commit(POINT).expect("commits");
    Fixture { searcher: index.searcher(), _index: index, _dir: dir }
}

/// Posts by word.
fn by_word(texts: &[String]) -> BTreeMap<&str, BTreeSet<u32>> {
    let mut posts: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    for (at, text) in (0..).zip(texts) {
        for word in text.split(' ') {
            posts.entry(word).or_default().insert(at);
        }
    }
    posts
}

/// Edits between two words, a swap of neighbours being one: the textbook table.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i][j] = match (i, j) {
                (0, n) | (n, 0) => n,
                _ => {
                    let replaced = table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    let mut best = replaced.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1);
                    if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                        best = best.min(table[i - 2][j - 2] + 1);
                    }
                    best
                }
            };
        }
    }
    table[a.len()][b.len()]
}

/// Three thousand words under one prefix, in two segments of which one has tables: the most frequent are found.
#[test]
fn heavy_prefixes_come_from_tables_and_light_ones_from_a_walk() {
    let mut texts: Vec<String> = (0..3000).map(|n| format!("mau{n:04}x é{n:04}")).collect();
    texts.extend((0..40).flat_map(|n| vec![format!("mau{:04}x", 2959 + n); n]));
    let one = fixture(&texts, texts.len(), &BTreeSet::new());
    let tables = PrefixTables::default();
    assert!(!tables.is_current(&one.searcher));
    tables.refresh(&one.searcher).expect("made");
    assert!(tables.is_current(&one.searcher));
    for prefix in ["m", "ma", "mau", "mau2", "MAU29"] {
        let found = one.searcher.complete(&tables, Vocabulary::Words, prefix, 32).expect("completes");
        let expected: Vec<(String, u64)> =
            (8..40).rev().map(|n| (format!("mau{:04}x", 2959 + n), n + 1)).collect();
        let found: Vec<(String, u64)> = found.into_iter().map(|found| (found.term, found.posts)).collect();
        assert_eq!(found, expected, "{prefix}");
    }
    let found = one.searcher.complete(&tables, Vocabulary::Words, "mau0007", 9).expect("completes");
    assert_eq!(found.len(), 1);
    assert_eq!(one.searcher.complete(&tables, Vocabulary::Words, "É0", 2).expect("completes").len(), 2);
    assert!(one.searcher.complete(&tables, Vocabulary::Words, "", 9).expect("completes").is_empty());
    let long = "x".repeat(100_000);
    assert!(one.searcher.complete(&tables, Vocabulary::Words, &long, 9).expect("completes").is_empty());
    assert!(one.searcher.near(&long, 2, 0, 9).expect("near").is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn answers_are_those_of_a_look_at_every_post(
        texts in prop::collection::vec(prop::collection::vec("[ab]{1,5}", 1..6), 1..60),
        commit_every in 1..30usize,
        dead in prop::collection::btree_set(0..60u32, 0..30),
        hidden in prop::collection::btree_set(0..60u32, 0..10),
        prefix in "[ab]{1,3}",
        word in "[ab]{2,6}",
        distance in 1..=2u8,
        kept in 0..3usize,
        together in prop::collection::vec("[ab]{1,2}", 1..3),
    ) {
        // `a` is a stop word.
        let texts: Vec<String> = texts.iter().map(|words| words.iter().map(|w| format!("{w}q")).collect::<Vec<_>>().join(" ")).collect();
        let (word, together): (String, Vec<String>) =
            (format!("{word}q"), together.iter().map(|w| format!("{w}q")).collect());
        let dead: BTreeSet<u32> = dead.into_iter().filter(|at| (*at as usize) < texts.len()).collect();
        let one = fixture(&texts, commit_every, &dead);
        let searcher = &one.searcher;
        // Deleted a moment ago: the index does not know yet.
        let live: RoaringBitmap = (0..texts.len() as u32).filter(|at| !dead.contains(at) && !hidden.contains(at)).collect();
        let posts = by_word(&texts);

        let tables = PrefixTables::default();
        for made in [false, true] {
            if made {
                tables.refresh(searcher).expect("made");
            }
            let found = searcher.complete(&tables, Vocabulary::Words, &prefix, 1000).expect("completes");
            // Merging may already have dropped what was deleted.
            for completion in &found {
                let every = posts.get(completion.term.as_str()).map_or(0, |posts| posts.len() as u64);
                prop_assert!(completion.term.starts_with(&prefix) && completion.posts <= every);
            }
            for (word, posts) in posts.iter().filter(|(word, _)| word.starts_with(&prefix)) {
                let alive = posts.iter().filter(|at| live.contains(**at)).count() as u64;
                let listed = found.iter().find(|completion| completion.term == *word).map_or(0, |c| c.posts);
                prop_assert!(listed >= alive, "{} has {} of {}", word, listed, alive);
            }
        }

        let near = searcher.near(&word, distance, kept, 1000).expect("near");
        let near: BTreeSet<&str> = near.iter().map(|completion| completion.term.as_str()).collect();
        for (other, posts) in &posts {
            let starts = other.starts_with(&word[..kept.min(word.len())]);
            let close = *other != word && starts && edits(&word, other) <= usize::from(distance);
            let alive = posts.iter().any(|at| live.contains(*at));
            prop_assert!(!near.contains(other) || close, "{} is not near {}", other, word);
            prop_assert!(!(close && alive) || near.contains(other), "{} is near {}", other, word);
        }

        for (word, posts) in &posts {
            let alive: Vec<u32> = posts.iter().copied().filter(|at| live.contains(*at)).collect();
            let living = searcher.living(Vocabulary::Words, word, &live, 3).expect("living");
            prop_assert_eq!(living.posts, alive.len() as u64);
            prop_assert_eq!(living.examples.len(), alive.len().min(3));
            prop_assert!(living.examples.iter().all(|ordinal| alive.contains(&ordinal.0)));
        }

        let sample = searcher.together(&together, &live, 1000).expect("together");
        let holds = |at: &u32| together.iter().all(|word| posts.get(word.as_str()).is_some_and(|posts| posts.contains(at)));
        let expected: BTreeSet<u32> = live.iter().filter(holds).collect();
        let found: BTreeSet<u32> = sample.ordinals.iter().map(|ordinal| ordinal.0).collect();
        prop_assert_eq!((&found, sample.len(), sample.truncated), (&expected, expected.len(), false));
        for (word, posts) in &posts {
            let held = searcher.holding(Vocabulary::Words, word, &sample).expect("holding");
            prop_assert_eq!(held, posts.intersection(&expected).count() as u64);
        }
        prop_assert!(searcher.together(&together, &live, 1).expect("together").len() <= 1);
    }
}
