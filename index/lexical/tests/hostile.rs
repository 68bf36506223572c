//! Posts and queries that nobody would write, but somebody will send: an answer to each, never a panic.

use std::ops::Range;

use bowerbird_lexical::{
    BagQuery, Checkpoint, FeedbackOptions, FeedbackText, LexicalIndex, LexicalSearcher, Near, TextClause,
    has_words,
};
use bowerbird_posts::{Ordinal, Post, PostId};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

const QUERIES: usize = 4000;

/// What odd texts are made of.
const PIECES: &[&str] = &[
    "a",
    "the",
    "flu",
    "Shots",
    "running",
    "l'été",
    "d’",
    "’s",
    "'",
    "''",
    "U.S.",
    "1,000.5",
    "3.",
    "#",
    "#tag",
    "##",
    "#_",
    "＃全角",
    "@",
    "@bob",
    "@_",
    "$",
    "$AAPL",
    "$5",
    "http://",
    "https://a.example/x?y#z",
    "www.",
    "http://é",
    "👍🏽",
    "👨‍👩‍👧",
    "🇫🇷",
    "🇫",
    "❤️",
    "\u{fe0f}",
    "\u{200d}",
    "\u{200c}",
    "\u{301}",
    "\u{345}\u{345}",
    "e\u{301}",
    "睡眠は大事",
    "한국",
    "ภาษาไทย",
    "हिन्दी",
    "العَرَبِيَّة",
    "\u{202e}abc\u{202c}",
    "\u{2066}",
    "\u{feff}",
    "\u{0}",
    "\u{7}",
    "\u{ad}",
    "ﬁ",
    "ß",
    "İ",
    "ſ",
    "\u{e0067}",
    "\u{10ffff}",
    "*",
    "\"",
];

fn odd(random: &mut SmallRng, pieces: Range<usize>) -> String {
    let mut text = String::new();
    for _ in 0..random.random_range(pieces) {
        text.push_str(PIECES.choose(random).expect("pieces"));
        if random.random_bool(0.6) {
            text.push_str([" ", "\n", "\u{a0}", "\t", ","].choose(random).expect("gaps"));
        }
    }
    text
}

fn ask(searcher: &LexicalSearcher, bag: &BagQuery, text: &str) {
    let hits = searcher.search(bag, None, 10).expect("searches");
    let every = searcher.search_exhaustively(bag, None, 10).expect("searches");
    assert_eq!(hits.hits, every.hits, "{bag:?}");
    assert!(hits.hits.iter().all(|(_, score)| score.value().is_finite() && score.value() > 0.0), "{bag:?}");
    assert_eq!(searcher.matching_any(bag, None).expect("matches").len(), hits.total, "{bag:?}");
    if let Some((ordinal, score)) = hits.hits.first() {
        let parts = searcher.explain(bag, *ordinal).expect("explains");
        let sum: f32 = parts.iter().map(|part| part.score).sum();
        assert!((sum - score.value()).abs() <= 1e-4 * sum, "{bag:?}: {sum} is not {score:?}");
    }
    let mut end = 0;
    for range in searcher.highlight(bag, text, None) {
        assert!(
            range.start >= end && text.get(range.clone()).is_some_and(|part| !part.is_empty()),
            "{bag:?}"
        );
        end = range.end;
    }
    let feedback = [FeedbackText { text, lang: None, score: 1.0 }];
    let wide = searcher.expand(bag, &feedback, &FeedbackOptions::default()).expect("expands");
    searcher.search(&wide, None, 5).expect("searches");
}

#[test]
fn hostile_posts_and_queries_are_answered() {
    let mut random = SmallRng::seed_from_u64(17);
    let dir = tempfile::tempdir().expect("a directory");
    let index = LexicalIndex::open(dir.path()).expect("opens");
    let mut texts: Vec<String> = (0..600).map(|_| odd(&mut random, 0..30)).collect();
    texts.push("a".repeat(60_000));
    texts.push("e\u{301}".repeat(20_000));
    texts.push("#".repeat(50_000));
    texts.push("\u{200d}👍".repeat(8_000));
    texts.push("睡".repeat(20_000));
    texts.push("a.".repeat(20_000));
    texts.push(String::new());
    for (ordinal, text) in texts.iter().enumerate() {
        // Not validated: an index is made again from what a store holds, whatever that is.
        let post = Post::new(PostId::new("x").expect("an id"), text.clone(), "", jiff::Timestamp::UNIX_EPOCH);
        index.add(Ordinal(ordinal as u32), &post).expect("adds");
    }
    index.commit(Checkpoint { next_ordinal: texts.len() as u32, sequence: 1 }).expect("commits");
    let searcher = index.searcher();
    for round in 0..QUERIES {
        let pieces = if round % 50 == 0 { 0..400 } else { 0..8 };
        let (one, other) = (odd(&mut random, pieces), odd(&mut random, 0..3));
        let mut bag = BagQuery::words(one.clone());
        match round % 7 {
            0 => bag.phrases.push(other.clone()),
            1 => bag.near.push(Near::new(format!("{one} {other}"), random.random_range(0..9))),
            2 => bag.near.push(Near { share: f32::NAN, ..Near::new(other.clone(), u32::MAX) }),
            3 => bag.prefixes.push(other.clone()),
            4 => bag.tags.push(other.clone()),
            5 => bag.mentions.push(other.clone()),
            _ => bag = searcher.with_proximity(bag, 0.1, 3),
        }
        ask(&searcher, &bag, texts.choose(&mut random).expect("texts"));
        for clause in [
            TextClause::Word(one.clone()),
            TextClause::Phrase(other.clone()),
            TextClause::Near { text: one.clone(), within: 4 },
            TextClause::Prefix(other.clone()),
            TextClause::Tag(other.clone()),
            TextClause::Mention(one.clone()),
        ] {
            let found = searcher.matching(&clause).expect("matches");
            assert!(found.max().is_none_or(|last| (last as usize) < texts.len()), "{clause:?}");
        }
        let word = searcher.matching(&TextClause::Word(one.clone())).expect("matches");
        assert!(has_words(&one) || word.is_empty(), "{one:?}");
    }
    let long = [
        "a ".repeat(50_000),
        "\"".repeat(100_000),
        "(".repeat(100_000),
        "\u{301}".repeat(50_000),
        "👩‍".repeat(10_000),
        "#a ".repeat(30_000),
        "睡".repeat(30_000),
    ];
    for text in long {
        ask(&searcher, &BagQuery::words(text.clone()), &text);
        ask(
            &searcher,
            &BagQuery { phrases: vec![text.clone()], prefixes: vec![text.clone()], ..BagQuery::default() },
            &text,
        );
    }
}
