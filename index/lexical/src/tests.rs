//! The index as a whole: what is found, in which order, with which scores, and what survives.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use bowerbird_posts::{Ordinal, Post, PostId};
use jiff::Timestamp;
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use roaring::RoaringBitmap;
use tempfile::TempDir;

use super::*;
use crate::analysis::{Purpose, tokens};
use crate::language::Family;

const POINT: Checkpoint = Checkpoint { next_ordinal: 0, sequence: 0 };

fn post(text: &str, lang: Option<&str>) -> Post {
    let mut post = Post::new(PostId::new("x").expect("valid"), text, "", Timestamp::UNIX_EPOCH);
    post.lang = lang.map(str::to_owned);
    post.validated().expect("valid")
}

struct Fixture {
    dir: TempDir,
    index: LexicalIndex,
}

fn fixture(posts: &[Post]) -> Fixture {
    let dir = tempfile::tempdir().expect("a directory");
    let index = LexicalIndex::open(dir.path()).expect("opens");
    for (ordinal, post) in posts.iter().enumerate() {
        index.add(Ordinal(ordinal as u32), post).expect("adds");
    }
    index.commit(POINT).expect("commits");
    Fixture { dir, index }
}

fn english(texts: &[&str]) -> Fixture {
    fixture(&texts.iter().map(|text| post(text, Some("en"))).collect::<Vec<_>>())
}

fn ranked(searcher: &LexicalSearcher, query: &BagQuery) -> Vec<u32> {
    let hits = searcher.search(query, None, 100).expect("searches");
    assert_eq!(hits.total, hits.hits.len() as u64);
    hits.hits.iter().map(|(ordinal, _)| ordinal.0).collect()
}

fn matching(searcher: &LexicalSearcher, clause: &TextClause) -> Vec<u32> {
    searcher.matching(clause).expect("matches").iter().collect()
}

#[test]
fn what_a_query_finds() {
    let check = |text: &str, lang: &str, query: &str, matches: bool| {
        let one = fixture(&[post(text, Some(lang)), post("nothing of that", Some("en"))]);
        let searcher = one.index.searcher();
        let found = ranked(&searcher, &BagQuery::words(query)).contains(&0);
        assert_eq!(found, matches, "{query:?} in {text:?} ({lang})");
        let words = searcher.matching(&TextClause::Word(query.to_owned())).expect("matches").contains(0);
        assert!(!words || matches, "a word clause {query:?} found {text:?}, the bag did not");
        let highlights = searcher.highlight(&BagQuery::words(query), text, Some(lang));
        assert_eq!(!highlights.is_empty(), matches, "highlight {query:?} in {text:?}");
    };
    // Endings, case, accents, apostrophes.
    check("She sleeps badly", "en", "sleeping", true);
    check("She sleeps badly", "de", "sleeping", false);
    check("She sleeps badly", "de", "SLEEPS", true);
    check("Café Zoë", "en", "cafe zoe", true);
    check("cafe", "en", "CAFÉ", true);
    check("the dog's bed", "en", "dog", true);
    check("the dogs bed", "en", "dog’s", true);
    check("I don't know", "en", "dont", true);
    check("I dont know", "en", "don’t", true);
    check("Made in the U.S.A. today", "en", "usa", true);
    // Stop words count only alone.
    check("To be or not to be", "en", "to be", true);
    check("to be asleep", "en", "the awake", false);
    // Tags, mentions, cashtags, links.
    check("Tired #Sleep", "en", "sleep", true);
    check("Tired #Sleep", "en", "#sleep", true);
    check("Tired sleep", "en", "#sleep", true);
    check("Tired #sleepless", "en", "#sleep", false);
    check("My #WeightLoss diary", "en", "weight", true);
    check("My #WeightLoss diary", "en", "losses", true);
    check("My #weight_loss diary", "en", "weightloss", true);
    check("Thanks @BBCHealth!", "en", "@bbchealth", true);
    check("Thanks @BBCHealth!", "en", "bbchealth", true);
    check("Thanks @BBCHealth!", "en", "health", false);
    check("Buy $AAPL now", "en", "$aapl", true);
    check("Buy $AAPL now", "en", "AAPL", true);
    check("It cost $5", "en", "5", true);
    check("See https://www.nytimes.com/well/x?y=1.", "en", "nytimes", true);
    check("See https://www.nytimes.com/well/x?y=1.", "en", "http://nytimes.com", true);
    check("See https://www.nytimes.com/well/x?y=1.", "en", "well", false);
    // Numbers, emoji.
    check("up 3.5 percent", "en", "3.5", true);
    check("up 3.5 percent", "en", "3", false);
    check("1,000 steps", "en", "1000", true);
    check("great 👍🏽", "en", "👍", true);
    check("family 👨‍👩‍👧", "en", "👩", false);
    check("family 👨‍👩‍👧", "en", "👨‍👩‍👧", true);
    check("in 🇫🇷🇩🇪 today", "en", "🇩🇪", true);
    check("in 🇫🇷🇩🇪 today", "en", "🇫🇷", true);
    check("in 🇫🇷 today", "en", "🇫🇮", false);
    check("thumbs 👍🏿", "en", "👍🏻", true);
    check("pirate 🏴‍☠️", "en", "🏴‍☠️", true);
    check("flag 🏴󠁧󠁢󠁥󠁮󠁧󠁿", "en", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", true);
    check("key 1️⃣ two", "en", "1", true);
    check("no space😀here", "en", "😀", true);
    check("#été à Paris", "fr", "#ETE", true);
    check("#été à Paris", "fr", "ete", true);
    check("#été à Paris", "fr", "#ÉTÉ", true);
    check("ping @foo_bar.", "en", "@FOO_BAR", true);
    check("$btc and $TSLA!", "en", "$BTC", true);
    check("https://example.org/a?b=c#d", "en", "https://EXAMPLE.org/a?b=c#d", true);
    check("http://www.example.org/", "en", "example.org", true);
    check("http://www.example.org/", "en", "www.example.org", true);
    check("love ❤", "en", "❤️", true);
    // Scripts without spaces.
    check("睡眠は大事です", "ja", "睡眠", true);
    check("睡眠は大事です", "ja", "眠", true);
    check("睡眠は大事です", "ja", "睡事", false);
    check("수면은 중요하다", "ko", "수면", true);
    check("#睡眠大事", "ja", "睡眠", true);
    // French, also asked in English letters.
    check("Les enfants mangeaient des légumes", "fr", "manger", true);
    check("Les enfants mangeaient des légumes", "fr", "legume", true);
    check("L’hôpital d'Amiens", "fr", "hopital", true);
    check("L’hôpital d'Amiens", "fr", "amiens", true);
    check("Boire du thé vert", "fr", "thé", true);
    check("La vie est belle", "fr", "la plage", false);
    check("Дети плохо спят", "ru", "ДЕТИ", true);
    // Nothing to look for.
    check("anything", "en", "!!! ... ?", false);
    check("anything", "en", "", false);
}

#[test]
fn index_and_searcher_may_be_shared() {
    fn shared<T: Send + Sync>() {}
    shared::<LexicalIndex>();
    shared::<LexicalSearcher>();
}

#[test]
fn names_match_exactly() {
    let one = english(&["Tired #Sleep @Bob", "sleep bob", "#sleepy @bobby"]);
    let searcher = one.index.searcher();
    let tag = |name: &str| BagQuery { tags: vec![name.into()], ..BagQuery::default() };
    let mention = |name: &str| BagQuery { mentions: vec![name.into()], ..BagQuery::default() };
    assert_eq!(ranked(&searcher, &tag("SLEEP")), [0]);
    assert_eq!(ranked(&searcher, &tag("#sleep")), [0]);
    assert_eq!(ranked(&searcher, &mention("@BOB")), [0]);
    assert_eq!(matching(&searcher, &TextClause::Tag("#Sleepy".into())), [2]);
    assert_eq!(matching(&searcher, &TextClause::Mention("bobby".into())), [2]);
    assert_eq!(matching(&searcher, &TextClause::Mention("nobody".into())), [0; 0]);
    assert!(tag(" ").is_empty() && ranked(&searcher, &tag(" ")).is_empty());
    let text = "Tired #Sleep @Bob";
    let both = BagQuery { mentions: vec!["bob".into()], ..tag("sleep") };
    assert_eq!(searcher.highlight(&both, text, Some("en")), [6..12, 13..17]);
}

#[test]
fn better_matches_rank_higher_and_ties_go_by_ordinal() {
    let one = english(&[
        "apple banana",
        "apple cherry",
        "apple banana cherry",
        "apple apple apple apple",
        "apple and a good deal of other words that make this a long post about quite different things today",
        "banana apple",
    ]);
    let searcher = one.index.searcher();
    assert_eq!(ranked(&searcher, &BagQuery::words("apple")), [3, 0, 1, 5, 2, 4]);
    assert_eq!(ranked(&searcher, &BagQuery::words("cherry apple"))[..2], [1, 2]);
    assert_eq!(ranked(&searcher, &BagQuery::words("banana"))[..2], [0, 5]);
    // The same word twice, or in another inflection, is one term.
    let once = searcher.search(&BagQuery::words("apple"), None, 9).expect("searches");
    let twice = searcher.search(&BagQuery::words("apples APPLE apple"), None, 9).expect("searches");
    assert_eq!(once, twice);
    // A phrase lifts the post that has it, and only that.
    let phrase = BagQuery { phrases: vec!["banana apple".into()], ..BagQuery::default() };
    let hits = searcher.search(&phrase, None, 9).expect("searches");
    assert_eq!(hits.hits[0].0, Ordinal(5));
    assert_eq!(hits.total, 6);
    let words = searcher.score(&BagQuery::words("banana apple"), &[Ordinal(0), Ordinal(5)]).expect("scores");
    let phrases = searcher.score(&phrase, &[Ordinal(0), Ordinal(5)]).expect("scores");
    assert_eq!(words[0], phrases[0]);
    let parts = searcher.explain(&phrase, Ordinal(5)).expect("explains");
    let bonus = parts.iter().find(|part| part.kind == TermKind::Phrase).expect("a phrase").score;
    let idf: f32 = parts.iter().filter(|part| part.kind == TermKind::Word).map(|part| part.idf).sum();
    assert!((bonus - 0.5 * idf).abs() < 1e-6, "{bonus} is not half of {idf}");
    assert!((phrases[1].value() - words[1].value() - bonus).abs() < 1e-6);
}

#[test]
fn languages_share_one_scale() {
    let texts = ["the sleep study", "la sommeil étude", "das schlaf studie"];
    let posts = [post(texts[0], Some("en")), post(texts[1], Some("fr")), post(texts[2], Some("de"))];
    let one = fixture(&posts);
    let searcher = one.index.searcher();
    let all = [Ordinal(0), Ordinal(1), Ordinal(2)];
    let english = searcher.score(&BagQuery::words("sleep"), &all).expect("scores");
    let french = searcher.score(&BagQuery::words("sommeil"), &all).expect("scores");
    let german = searcher.score(&BagQuery::words("schlaf"), &all).expect("scores");
    assert_eq!((english[0], english[0]), (french[1], german[2]), "equally rare, equally long");
    // One word in posts of two languages is one term: rarer than either count alone would say.
    let two = fixture(&[post("radio", Some("en")), post("radio", Some("fr")), post("tv", Some("en"))]);
    let scores = two.index.searcher().score(&BagQuery::words("radio"), &all).expect("scores");
    assert_eq!(scores[0], scores[1]);
    let expected = bm25::idf(3, 2);
    assert!((scores[0].value() - expected).abs() < 1e-6, "{} is not {expected}", scores[0].value());
}

#[test]
fn clauses_are_exact() {
    let one = english(&[
        "a state-of-the-art sleep tracker",
        "the art of a sleeping state",
        "Sleepless nights, sleepers and sleep",
        "state of art",
        "#WeightLoss tips",
    ]);
    let searcher = one.index.searcher();
    let word = |text: &str| matching(&searcher, &TextClause::Word(text.into()));
    let phrase = |text: &str| matching(&searcher, &TextClause::Phrase(text.into()));
    let prefix = |text: &str| matching(&searcher, &TextClause::Prefix(text.into()));
    assert_eq!(word("sleep"), [0, 1, 2]);
    assert_eq!(word("the"), [0, 1]);
    assert_eq!(word("state-of-the-art"), [0]);
    assert_eq!(word("!"), [0; 0]);
    assert_eq!(phrase("state of the art"), [0]);
    assert_eq!(phrase("art state"), [0; 0]);
    assert_eq!(phrase("state of art"), [3]);
    assert_eq!(phrase("weight loss"), [4]);
    assert_eq!(phrase("#weightloss tips"), [4]);
    assert_eq!(phrase(""), [0; 0]);
    assert_eq!(prefix("sleepl"), [2]);
    assert_eq!(prefix("SLEEPi"), [1]);
    assert_eq!(prefix("sle"), [0, 1, 2]);
    assert_eq!(prefix("#weigh"), [4]);
    assert_eq!(prefix(" "), [0; 0]);
    let expansion = searcher.expand_prefix("sleep").expect("expands");
    let counted = [("sleep", 2), ("sleepers", 1), ("sleeping", 1), ("sleepless", 1)];
    assert_eq!(expansion.words, counted.map(|(word, df)| (word.to_owned(), df)));
    assert!(!expansion.truncated);
    let config = LexicalConfig { prefix_expansions: 2, ..LexicalConfig::default() };
    let dir = one.dir;
    drop((searcher, one.index));
    let index = LexicalIndex::open_with(dir.path(), config).expect("opens");
    let expansion = index.searcher().expand_prefix("sleep").expect("expands");
    assert_eq!((expansion.words.len(), expansion.truncated), (2, true));
}

#[test]
fn highlights_are_whole_words_in_order() {
    let one = english(&["x"]);
    let searcher = one.index.searcher();
    let check = |query: &BagQuery, text: &str, lang: Option<&str>, expected: &[&str]| {
        let found = searcher.highlight(query, text, lang);
        assert!(found.is_sorted_by(|a, b| a.end <= b.start), "{found:?}");
        let found: Vec<&str> = found.into_iter().map(|range| &text[range]).collect();
        assert_eq!(found, expected, "{text}");
    };
    let bag = |text: &str| BagQuery::words(text);
    check(&bag("sleep the dog"), "The dog’s SLEEPING; it slept", Some("en"), &["dog’s", "SLEEPING"]);
    check(&bag("the"), "The end of the day", Some("en"), &["The", "the"]);
    check(
        &bag("loss"),
        "My #WeightLoss 👍 https://loss.example/a",
        Some("en"),
        &["#WeightLoss", "https://loss.example/a"],
    );
    check(&bag("睡眠大"), "これは睡眠大事", Some("ja"), &["睡眠大"]);
    check(&bag("hôpitaux"), "L’hôpital, les hôpitaux", Some("fr"), &["L’hôpital", "hôpitaux"]);
    let phrase = BagQuery { phrases: vec!["night shift".into()], ..BagQuery::default() };
    check(&phrase, "Night shifts at night", Some("en"), &["Night", "shifts", "night"]);
}

#[test]
fn deletes_and_replacements_show_after_the_commit() {
    let one = english(&["apple one", "apple two", "apple three"]);
    let before = one.index.searcher();
    one.index.delete(Ordinal(1)).expect("deletes");
    one.index.delete(Ordinal(77)).expect("nothing to delete is no error");
    one.index.add(Ordinal(2), &post("pear three", Some("en"))).expect("replaces");
    one.index.add(Ordinal(9), &post("apple nine", Some("en"))).expect("adds");
    assert_eq!(ranked(&one.index.searcher(), &BagQuery::words("apple")), [0, 1, 2]);
    one.index.commit(Checkpoint { next_ordinal: 10, sequence: 4 }).expect("commits");
    let after = one.index.searcher();
    assert_eq!(ranked(&after, &BagQuery::words("apple")), [0, 9]);
    assert_eq!(ranked(&after, &BagQuery::words("pear")), [2]);
    assert_eq!(after.doc_count(), 3);
    assert_eq!(ranked(&before, &BagQuery::words("apple")), [0, 1, 2], "a snapshot stays");
    assert_eq!(matching(&after, &TextClause::Word("apple".into())), [0, 9]);
    let scores = after.score(&BagQuery::words("apple pear"), &[1, 2, 9, 50].map(Ordinal)).expect("scores");
    assert_eq!(
        scores.iter().map(|score| score.value() > 0.0).collect::<Vec<_>>(),
        [false, true, true, false]
    );
    assert!(after.explain(&BagQuery::words("apple"), Ordinal(1)).expect("explains").is_empty());
}

#[test]
fn an_index_comes_back_with_its_last_checkpoint() {
    let dir = tempfile::tempdir().expect("a directory");
    let index = LexicalIndex::open(dir.path()).expect("opens");
    assert_eq!(index.checkpoint(), None);
    assert_eq!(index.searcher().search(&BagQuery::words("a"), None, 9).expect("searches").total, 0);
    index.add(Ordinal(0), &post("kept", None)).expect("adds");
    let point = Checkpoint { next_ordinal: 1, sequence: 5 };
    index.commit(point).expect("commits");
    index.add(Ordinal(1), &post("lost", None)).expect("adds");
    assert!(matches!(LexicalIndex::open(dir.path()), Err(LexicalError::Locked { .. })));
    drop(index);
    let index = LexicalIndex::open(dir.path()).expect("opens again");
    assert_eq!(index.checkpoint(), Some(point));
    assert_eq!(ranked(&index.searcher(), &BagQuery::words("kept lost")), [0]);
    // Replaying what was committed already changes nothing.
    index.add(Ordinal(0), &post("kept", None)).expect("adds");
    index.add(Ordinal(1), &post("lost", None)).expect("adds");
    index.commit(Checkpoint { next_ordinal: 2, sequence: 6 }).expect("commits");
    assert_eq!(ranked(&index.searcher(), &BagQuery::words("kept lost")), [0, 1]);
    index.verify().expect("undamaged");
}

#[test]
fn parameters_and_directories_that_mean_nothing_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    for config in [
        LexicalConfig { k1: f32::NAN, ..LexicalConfig::default() },
        LexicalConfig { k1: -1.0, ..LexicalConfig::default() },
        LexicalConfig { b: 1.5, ..LexicalConfig::default() },
        LexicalConfig { writer_memory_bytes: 1, ..LexicalConfig::default() },
        LexicalConfig { writer_threads: 0, ..LexicalConfig::default() },
    ] {
        assert!(matches!(LexicalIndex::open_with(dir.path(), config), Err(LexicalError::Config { .. })));
    }
    let file = dir.path().join("file");
    fs::write(&file, "x").expect("writes");
    assert!(matches!(LexicalIndex::open(&file), Err(LexicalError::Directory { .. })));
    let other = dir.path().join("other");
    fs::create_dir(&other).expect("creates");
    fs::write(other.join("lexical.format"), "bowerbird lexical 0\n").expect("writes");
    assert!(matches!(LexicalIndex::open(&other), Err(LexicalError::WrongFormat { .. })));
}

#[test]
fn long_queries_and_texts_are_bounded() {
    let words: Vec<String> = (0..200).map(|n| format!("w{n}")).collect();
    let one = english(&[&words.join(" "), &"x".repeat(60_000), &"é1 ".repeat(15_000)]);
    let searcher = one.index.searcher();
    let parts = searcher.explain(&BagQuery::words(words.join(" ")), Ordinal(0)).expect("explains");
    assert_eq!(parts.len(), MAX_QUERY_TERMS);
    let many = BagQuery {
        terms: words.clone(),
        phrases: words.clone(),
        tags: words.clone(),
        mentions: words,
        ..BagQuery::default()
    };
    assert_eq!(ranked(&searcher, &many), [0]);
    assert_eq!(ranked(&searcher, &BagQuery::words("x".repeat(60_000))), [1]);
    let odd = BagQuery { phrases: vec!["é1 ".repeat(20_000)], ..BagQuery::default() };
    assert_eq!(ranked(&searcher, &odd), [2]);
    searcher.highlight(&odd, &"é1 ".repeat(20_000), None);
}

#[test]
fn near_words_may_stand_in_any_order_within_a_window() {
    let one = english(&[
        "flu shot",
        "shot against the flu",
        "flu one two three four five six shot",
        "flu",
        "a shot of whisky and then much later on came flu",
        "flu flu flu",
    ]);
    let searcher = one.index.searcher();
    let near = |text: &str, within| matching(&searcher, &TextClause::Near { text: text.into(), within });
    assert_eq!(near("flu shot", 0), [0]);
    assert_eq!(near("shot flu", 0), [0]);
    assert_eq!(near("flu shot", 2), [0, 1]);
    assert_eq!(near("flu shot", 5), [0, 1]);
    assert_eq!(near("flu shots", 6), [0, 1, 2]);
    assert_eq!(near("shot flu", u32::MAX), [0, 1, 2, 4]);
    assert_eq!(near("flu", 3), [0, 1, 2, 3, 4, 5]);
    assert_eq!(near("flu flu", 3), [0, 1, 2, 3, 4, 5]);
    assert_eq!(near("", 3), [0; 0]);
    let bag = BagQuery { near: vec![Near::new("flu shot", 2)], ..BagQuery::default() };
    assert_eq!(ranked(&searcher, &bag)[..2], [0, 1]);
    let parts = searcher.explain(&bag, Ordinal(1)).expect("explains");
    assert_eq!(parts.iter().filter(|part| part.kind == TermKind::Near).count(), 1);
}

#[test]
fn a_prefix_ranks_every_word_it_begins_and_the_word_itself_first() {
    let one = english(&["vaccination today", "a vaccine", "vacc", "nothing", "Vaccinés vaccine vaccination"]);
    let searcher = one.index.searcher();
    let bag = BagQuery { prefixes: vec!["vacc".into()], ..BagQuery::default() };
    assert_eq!(ranked(&searcher, &bag), [2, 0, 1, 4]);
    assert_eq!(searcher.matching_any(&bag, None).expect("matches").len(), 4);
    let hits = searcher.search(&bag, None, 9).expect("searches");
    let best = hits.hits[0].1.value();
    assert!(best > 1.5 * hits.ideal, "{best} is not well above {}", hits.ideal);
    assert_eq!(searcher.highlight(&bag, "A Vaccine now", Some("en")).first(), Some(&(2..9)));
    let absent = BagQuery { prefixes: vec!["zzz".into()], ..BagQuery::default() };
    assert!(ranked(&searcher, &absent).is_empty());
}

#[test]
fn posts_with_every_rare_term_are_named() {
    let mut texts: Vec<String> = (0..50).map(|n| format!("common words of post {n} alpha")).collect();
    texts.push("alpha report CVE2014 leaked".into());
    texts.push("alpha CVE2014".into());
    let one = english(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    let searcher = one.index.searcher();
    let rare = |text: &str, allowed: Option<&RoaringBitmap>| {
        let rare = searcher.search(&BagQuery::words(text), allowed, 3).expect("searches").rare;
        rare.into_iter().map(|ordinal| ordinal.0).collect::<Vec<_>>()
    };
    assert_eq!(rare("alpha cve2014", None), [51, 50]);
    assert_eq!(rare("alpha cve2014 leaked", None), [50]);
    assert_eq!(rare("alpha cve2014", Some(&RoaringBitmap::from([50]))), [50]);
    assert_eq!(rare("common alpha", None), [0; 0]);
    assert_eq!(rare("cve2014 absent", None), [51, 50]);
}

#[test]
fn feedback_adds_the_words_of_what_was_found() {
    let one = english(&[
        "jogging shoes for marathon runners",
        "marathon training with good shoes",
        "marathon winner in Boston",
        "the weather in Boston",
        "nothing at all",
    ]);
    let searcher = one.index.searcher();
    let bag = BagQuery::words("jogging");
    let text = "jogging shoes for marathon runners, marathon!";
    let feedback = [FeedbackText { text, lang: Some("en"), score: 2.0 }];
    // A tenth of five posts is less than one: nothing is rare enough to be added.
    let options = FeedbackOptions { original: 0.5, ..FeedbackOptions::default() };
    assert!(searcher.expand(&bag, &feedback, &options).expect("expands").expansions.is_empty());
    let many: Vec<String> = (0..60).map(|n| format!("filler {n}")).collect();
    for (n, text) in many.iter().enumerate() {
        one.index.add(Ordinal(100 + n as u32), &post(text, Some("en"))).expect("adds");
    }
    one.index.commit(POINT).expect("commits");
    let searcher = one.index.searcher();
    let wide = searcher.expand(&bag, &feedback, &options).expect("expands");
    let words: BTreeSet<&str> = wide.expansions.iter().map(|e| e.text.as_str()).collect();
    assert_eq!(words, BTreeSet::from(["jog", "marathon", "runner", "shoe"]));
    let sum: f32 = wide.expansions.iter().map(|e| e.weight).sum();
    assert!((sum - 1.0).abs() < 1e-5, "half of the weight is theirs: {sum}");
    assert_eq!(ranked(&searcher, &wide), [0, 1, 2]);
    // The same without weight, feedback or words.
    for (bag, feedback, options) in [
        (&bag, &feedback[..], FeedbackOptions { original: 1.0, ..options }),
        (&bag, &[], options),
        (&BagQuery::default(), &feedback[..], options),
    ] {
        assert_eq!(searcher.expand(bag, feedback, &options).expect("expands"), *bag);
    }
}

/// Every file of an index, cut short, emptied, removed or with a bit flipped: an error that names a file, or no
/// difference. Never a panic.
#[test]
fn damage_is_an_error_and_never_a_panic() {
    let dir = tempfile::tempdir().expect("a directory");
    let good = dir.path().join("good");
    let index = LexicalIndex::open(&good).expect("opens");
    for ordinal in 0..300u32 {
        let text = format!("apple banana{} #tag{} @user{}", ordinal % 7, ordinal % 3, ordinal % 5);
        index.add(Ordinal(ordinal), &post(&text, Some("en"))).expect("adds");
        if ordinal % 100 == 99 {
            index.commit(Checkpoint { next_ordinal: ordinal + 1, sequence: 1 }).expect("commits");
        }
    }
    index.delete(Ordinal(5)).expect("deletes");
    index.commit(Checkpoint { next_ordinal: 300, sequence: 2 }).expect("commits");
    drop(index);
    let query = BagQuery {
        terms: vec!["apple banana3".into()],
        phrases: vec!["apple banana2".into()],
        tags: vec!["tag1".into()],
        prefixes: vec!["ban".into()],
        ..BagQuery::default()
    };
    let answer = |index: &LexicalIndex| -> Result<_, LexicalError> {
        let searcher = index.searcher();
        let hits = searcher.search(&query, None, 1000)?;
        let prefix = searcher.matching(&TextClause::Prefix("banana".into()))?;
        let scores = searcher.score(&query, &[Ordinal(3), Ordinal(150), Ordinal(299)])?;
        Ok((hits, prefix, scores, index.checkpoint()))
    };
    let open = |path: &Path, verify_bytes| {
        LexicalIndex::open_with(path, LexicalConfig { verify_bytes, ..LexicalConfig::default() })
    };
    let expected = answer(&open(&good, u64::MAX).expect("opens")).expect("answers");
    let names: Vec<String> = fs::read_dir(&good)
        .expect("lists")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .filter(|name| !name.starts_with(".tantivy-"))
        .collect();
    assert!(names.len() > 10, "{names:?}");
    let mut random = SmallRng::seed_from_u64(3);
    let (mut found, mut cases) = (0, 0);
    for name in &names {
        let bytes = fs::read(good.join(name)).expect("reads");
        let mut variants: Vec<Option<Vec<u8>>> =
            vec![None, Some(Vec::new()), Some(bytes[..bytes.len() / 2].to_vec())];
        variants.push(Some(bytes[..bytes.len() - 1].to_vec()));
        for _ in 0..4 {
            let mut flipped = bytes.clone();
            let at = random.random_range(0..bytes.len());
            flipped[at] ^= 1 << random.random_range(0..8);
            variants.push(Some(flipped));
        }
        for (variant, content) in variants.iter().enumerate() {
            // Odd cases rely on what is noticed without reading everything.
            let verify_bytes = if variant % 2 == 0 { u64::MAX } else { 0 };
            let bad = dir.path().join("bad");
            copy(&good, &bad);
            match content {
                Some(content) => fs::write(bad.join(name), content).expect("writes"),
                None => fs::remove_file(bad.join(name)).expect("removes"),
            }
            cases += 1;
            match open(&bad, verify_bytes).and_then(|index| answer(&index)) {
                Ok(same) => {
                    let unseen = verify_bytes == 0 || name == ".managed.json" || name == "meta.json";
                    assert!(same == expected || unseen, "{name}, variant {variant}: another answer");
                }
                Err(LexicalError::Damaged { path, message }) => {
                    found += 1;
                    assert!(path.starts_with(&bad) && !message.is_empty(), "{path:?} {message}");
                    // Of `meta.json` a flipped id shows as another file that is missing.
                    let named = path.ends_with(name) || name == "meta.json" || name == ".managed.json";
                    assert!(named, "{name}, variant {variant}: {path:?} is blamed: {message}");
                    let text = LexicalError::Damaged { path, message }.to_string();
                    assert!(text.contains("bowerbird doctor --repair"), "{text}");
                }
                Err(LexicalError::WrongFormat { .. } | LexicalError::Engine { .. }) => found += 1,
                Err(other) => panic!("{name}, variant {variant}: {other}"),
            }
            fs::remove_dir_all(&bad).expect("removes");
        }
    }
    assert!(found * 4 > cases * 3, "{found} of {cases} were noticed");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("creates");
    for entry in fs::read_dir(from).expect("lists") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copies");
    }
}

/// BM25 by the book, over the tokens of every post.
struct Naive {
    posts: Vec<Vec<String>>,
}

impl Naive {
    fn scores(&self, query: &[String], config: &LexicalConfig) -> Vec<f64> {
        let n = self.posts.len() as f64;
        let average = self.posts.iter().map(Vec::len).sum::<usize>() as f64 / n;
        let (k1, b) = (f64::from(config.k1), f64::from(config.b));
        let terms: BTreeSet<&String> = query.iter().collect();
        let mut scores = vec![0.0; self.posts.len()];
        for term in terms {
            let tf = |post: &Vec<String>| post.iter().filter(|token| *token == term).count() as f64;
            let df = self.posts.iter().filter(|post| tf(post) > 0.0).count() as f64;
            let idf = (1.0 + (n - df + 0.5) / (df + 0.5)).ln();
            for (score, post) in scores.iter_mut().zip(&self.posts) {
                let norm = k1 * (1.0 - b + b * post.len() as f64 / average);
                *score += idf * tf(post) * (k1 + 1.0) / (tf(post) + norm);
            }
        }
        scores
    }
}

fn any_text() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "alpha", "beta", "gamma", "delta", "#zeta", "eta", "theta", "@iota", "kappa",
    ]);
    prop::collection::vec(word, 1..20).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn search_and_score_are_bm25_by_the_book(
        texts in prop::collection::vec((any_text(), 0..3usize), 1..40),
        commit_every in 1..12usize,
        query in any_text(),
        allowed in prop::collection::btree_set(0..40u32, 0..40),
        limit in 0..12usize,
        (k1, b) in (0.0..2.0f32, 0.0..=1.0f32),
    ) {
        let dir = tempfile::tempdir().expect("a directory");
        let config = LexicalConfig { k1, b, ..LexicalConfig::default() };
        let index = LexicalIndex::open_with(dir.path(), config).expect("opens");
        let langs = ["en", "fr", "de"];
        for (at, (text, lang)) in texts.iter().enumerate() {
            index.add(Ordinal(at as u32), &post(text, Some(langs[*lang]))).expect("adds");
            if at % commit_every == commit_every - 1 {
                index.commit(POINT).expect("commits");
            }
        }
        index.commit(POINT).expect("commits");
        let searcher = index.searcher();
        // None of these words has a stem that differs between families.
        let words = |text: &str| tokens(text, Family::Other, Purpose::Index).into_iter().map(|t| t.text).collect::<Vec<_>>();
        let naive = Naive { posts: texts.iter().map(|(text, _)| words(text)).collect() };
        let expected = naive.scores(&words(&query), &config);
        let bag = BagQuery::words(query);

        let all: Vec<Ordinal> = (0..texts.len() as u32).map(Ordinal).collect();
        let scores = searcher.score(&bag, &all).expect("scores");
        for (ordinal, (found, expected)) in scores.iter().zip(&expected).enumerate() {
            prop_assert!((f64::from(found.value()) - expected).abs() < 1e-4 * (1.0 + expected), "{ordinal}: {found:?} is not {expected}");
            let parts: f32 = searcher.explain(&bag, Ordinal(ordinal as u32)).expect("explains").iter().map(|p| p.score).sum();
            prop_assert!((parts - found.value()).abs() < 1e-5 * (1.0 + parts));
        }

        let allowed_set: BTreeSet<u32> = allowed.into_iter().collect();
        let bitmap: RoaringBitmap = allowed_set.iter().copied().collect();
        let mut ranking: Vec<(Ordinal, Bm25)> = all
            .iter()
            .copied()
            .zip(scores.iter().copied())
            .filter(|(ordinal, score)| score.value() > 0.0 && allowed_set.contains(&ordinal.0))
            .collect();
        ranking.sort_by(|a, b| b.1.total_cmp(a.1).then_with(|| a.0.cmp(&b.0)));
        let hits = searcher.search(&bag, Some(&bitmap), limit).expect("searches");
        prop_assert_eq!((hits.total, hits.exact), (ranking.len() as u64, true));
        let any: BTreeSet<u32> = searcher.matching_any(&bag, Some(&bitmap)).expect("matches").into_iter().collect();
        prop_assert_eq!(any, ranking.iter().map(|(ordinal, _)| ordinal.0).collect::<BTreeSet<_>>());
        let most = searcher.matching_most(&bag, Some(&bitmap), 0.6).expect("matches");
        for (ordinal, score) in &ranking {
            prop_assert_eq!(most.contains(ordinal.0), score.value() >= 0.6 * hits.ideal);
        }
        ranking.truncate(limit);
        prop_assert_eq!(hits.hits, ranking);
    }

    #[test]
    fn phrases_are_words_side_by_side(
        texts in prop::collection::vec(prop::collection::vec(0..3u8, 0..12), 1..30),
        phrase in prop::collection::vec(0..3u8, 1..4),
        commit_every in 1..12usize,
    ) {
        let dir = tempfile::tempdir().expect("a directory");
        let index = LexicalIndex::open(dir.path()).expect("opens");
        let text = |words: &[u8]| words.iter().map(|w| ["alpha", "beta", "gamma"][usize::from(*w)]).collect::<Vec<_>>().join(" ");
        for (at, words) in texts.iter().enumerate() {
            index.add(Ordinal(at as u32), &post(&format!(". {}", text(words)), Some("en"))).expect("adds");
            if at % commit_every == 0 {
                index.commit(POINT).expect("commits");
            }
        }
        index.commit(POINT).expect("commits");
        let searcher = index.searcher();
        let contains = |words: &Vec<u8>| words.windows(phrase.len()).any(|window| window == phrase);
        let expected: Vec<u32> = (0..texts.len()).filter(|&at| contains(&texts[at])).map(|at| at as u32).collect();
        prop_assert_eq!(matching(&searcher, &TextClause::Phrase(text(&phrase))), expected.clone());
        // The bonus reaches exactly these posts, and `score` gives what `search` ranks by.
        let bag = BagQuery { phrases: vec![text(&phrase)], ..BagQuery::default() };
        let all: Vec<Ordinal> = (0..texts.len() as u32).map(Ordinal).collect();
        let scores = searcher.score(&bag, &all).expect("scores");
        let hits: BTreeMap<Ordinal, Bm25> = searcher.search(&bag, None, 100).expect("searches").hits.into_iter().collect();
        for ordinal in all {
            let score = scores[ordinal.0 as usize];
            prop_assert_eq!(hits.get(&ordinal).copied().unwrap_or(Bm25::ZERO), score);
            let parts = searcher.explain(&bag, ordinal).expect("explains");
            let bonus = parts.iter().any(|part| part.kind == TermKind::Phrase);
            prop_assert_eq!(bonus, phrase.len() > 1 && expected.contains(&ordinal.0));
        }
    }
}
