//! Ranking that skips gives what adding up every posting gives: the same posts, scores and order.

use bowerbird_lexical::{BagQuery, COUNTED, Checkpoint, LexicalConfig, LexicalIndex, Near};
use bowerbird_posts::{Ordinal, Post, PostId};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use roaring::RoaringBitmap;

const POSTS: u32 = 24_000;
const WORDS: usize = 60;

/// Words as common as in a language: the `n`-th is drawn about `1 / n` as often as the first.
fn word(random: &mut SmallRng) -> String {
    let x: f64 = random.random();
    format!("w{}", ((WORDS as f64).powf(x) - 1.0) as usize)
}

fn text(random: &mut SmallRng) -> String {
    let length = random.random_range(4..30);
    let mut words: Vec<String> = (0..length).map(|_| word(random)).collect();
    if random.random_bool(0.3) {
        words.push("#Tag".into());
    }
    words.join(" ")
}

fn post(text: &str, lang: &str) -> Post {
    let mut post = Post::new(PostId::new("x").expect("an id"), text, "", jiff::Timestamp::UNIX_EPOCH);
    post.lang = Some(lang.to_owned());
    post.validated().expect("valid")
}

#[test]
fn what_is_skipped_changes_nothing() {
    let mut random = SmallRng::seed_from_u64(5);
    for config in [LexicalConfig::default(), LexicalConfig { k1: 1.6, b: 0.9, ..LexicalConfig::default() }] {
        let dir = tempfile::tempdir().expect("a directory");
        let index = LexicalIndex::open_with(dir.path(), config).expect("opens");
        let commit = |index: &LexicalIndex| {
            index.commit(Checkpoint { next_ordinal: POSTS, sequence: 1 }).expect("commits");
        };
        let langs = ["en", "en", "en", "en", "fr", "de"];
        // Ordinals neither ascend nor start at 0 in every segment.
        for n in 0..POSTS {
            let ordinal = (n * 7919) % POSTS;
            let lang = langs[random.random_range(0..langs.len())];
            index.add(Ordinal(ordinal), &post(&text(&mut random), lang)).expect("adds");
            if [9_000, 21_000].contains(&n) {
                commit(&index);
            }
        }
        commit(&index);
        for _ in 0..500 {
            index.delete(Ordinal(random.random_range(0..POSTS))).expect("deletes");
        }
        commit(&index);
        let searcher = index.searcher();
        let most: RoaringBitmap = (0..POSTS).filter(|n| n % 5 != 0).collect();
        let few: RoaringBitmap = (0..POSTS).filter(|n| n % 997 == 0).collect();
        let mut counted_in_part = 0;
        for round in 0..36 {
            let mut bag = BagQuery::default();
            for _ in 0..random.random_range(1..7) {
                bag.terms.push(word(&mut random));
            }
            match round % 6 {
                1 => bag.tags.push("tag".into()),
                2 => bag.phrases.push(format!("{} {}", word(&mut random), word(&mut random))),
                3 => bag.near.push(Near::new(format!("{} {}", word(&mut random), word(&mut random)), 3)),
                4 => bag.prefixes.push("w1".into()),
                _ => {}
            }
            for allowed in [None, Some(&most), Some(&few)] {
                let every = searcher.search_exhaustively(&bag, allowed, usize::MAX).expect("searches");
                for limit in [0, 1, 10, 100, 1000] {
                    let found = searcher.search(&bag, allowed, limit).expect("searches");
                    let expected = &every.hits[..limit.min(every.hits.len())];
                    assert_eq!(found.hits, expected, "{bag:?}, limit {limit}");
                    if found.exact {
                        assert_eq!(found.total, every.total, "{bag:?}");
                    } else {
                        counted_in_part += 1;
                        assert!(COUNTED < found.total && found.total <= every.total, "{bag:?}");
                    }
                }
                let any = searcher.matching_any(&bag, allowed).expect("matches");
                assert_eq!(any.len(), every.total);
                for share in [0.3, 0.6, 1.0] {
                    let found = searcher.matching_most(&bag, allowed, share).expect("matches");
                    let enough = every.hits.iter().filter(|(_, score)| score.value() >= share * every.ideal);
                    let expected: RoaringBitmap = enough.map(|(ordinal, _)| ordinal.0).collect();
                    assert_eq!(found, expected, "{bag:?}, share {share}");
                }
                let ordinals: Vec<Ordinal> =
                    every.hits.iter().take(50).map(|(ordinal, _)| *ordinal).collect();
                let scores = searcher.score(&bag, &ordinals).expect("scores");
                let expected: Vec<_> = every.hits.iter().take(50).map(|(_, score)| *score).collect();
                assert_eq!(scores, expected, "{bag:?}");
            }
        }
        assert!(counted_in_part > 30, "the long lists were never met: {counted_in_part}");
    }
}
