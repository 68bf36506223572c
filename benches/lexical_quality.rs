//! How well does lexical search rank, and what do k1 and b, proximity and feedback change?
//!
//! `cargo bench -p bowerbird-benches --bench lexical_quality -- --folder ../shared/data/retrieval` over the BEIR
//! folders in it (`scifact`, `vaswani`, `cranfield`), plus two sets of short posts without judgements, in which the one
//! relevant post of a query is the one the query was made from:
//!
//! - *known item*: 500 demo posts, each asked for by 4 of its words that are no stop words, drawn at random;
//! - *titles*: 500 posts of `../posts/reddit-top` with 10 words of text or more, cut to 280 characters, each asked for
//!   by its title, which is not indexed.
//!
//! A value of k1 and b is judged on sets it was not chosen on: for each set the pair that is best by the mean of the
//! others is named with what it scores there.
#![expect(clippy::print_stdout, reason = "the output of a bench")]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Instant;

use bowerbird::eval::beir::{qrels, rows};
use bowerbird::eval::measure::{latency, quality};
use bowerbird_benches::demo_texts;
use bowerbird_lexical::{
    BagQuery, Checkpoint, FeedbackOptions, FeedbackText, LexicalConfig, LexicalIndex, LexicalSearcher,
    has_words,
};
use bowerbird_posts::{Ordinal, Post, PostId};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde::Deserialize;

const SEED: u64 = 11;
const KNOWN_ITEMS: usize = 500;
const K1: [f32; 6] = [0.3, 0.5, 0.7, 0.9, 1.2, 1.6];
const B: [f32; 5] = [0.1, 0.25, 0.4, 0.55, 0.75];

/// Texts with their ids, and queries with the grades of the texts judged for them.
struct Set {
    name: &'static str,
    ids: Vec<String>,
    texts: Vec<String>,
    queries: Vec<(String, BTreeMap<String, f64>)>,
}

fn main() {
    let folder = std::env::args().skip_while(|argument| argument != "--folder").nth(1);
    let folder = folder.map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/retrieval"),
        PathBuf::from,
    );
    let mut sets = vec![known_items()];
    sets.extend(titles(&folder.join("../posts/reddit-top/posts.jsonl.gz")));
    for (name, set, split) in [
        ("SciFact train", "scifact", "train"),
        ("SciFact test", "scifact", "test"),
        ("Vaswani", "vaswani", "test"),
        ("Cranfield", "cranfield", "test-binary"),
    ] {
        sets.extend(beir(name, &folder.join(set), split));
    }
    for set in &sets {
        println!("{}: {} texts, {} queries", set.name, set.texts.len(), set.queries.len());
    }
    let dirs: Vec<tempfile::TempDir> = sets.iter().map(build).collect();
    parameters(&sets, &dirs);
    variants(&sets, &dirs);
}

fn build(set: &Set) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let index = LexicalIndex::open(dir.path()).expect("opens");
    for (ordinal, text) in set.texts.iter().enumerate() {
        let mut post = Post::new(PostId::new("x").expect("an id"), text, "", jiff::Timestamp::UNIX_EPOCH);
        post.lang = Some("en".to_owned());
        index.add(Ordinal(ordinal as u32), &post).expect("adds");
    }
    index.commit(Checkpoint { next_ordinal: set.texts.len() as u32, sequence: 1 }).expect("commits");
    dir
}

fn parameters(sets: &[Set], dirs: &[tempfile::TempDir]) {
    let pairs: Vec<(f32, f32)> = K1.iter().flat_map(|&k1| B.iter().map(move |&b| (k1, b))).collect();
    let mut found: Vec<Vec<f64>> = Vec::new();
    for (set, dir) in sets.iter().zip(dirs) {
        let mut scores = Vec::new();
        for &(k1, b) in &pairs {
            let config = LexicalConfig { k1, b, ..LexicalConfig::default() };
            let index = LexicalIndex::open_with(dir.path(), config).expect("opens");
            scores.push(mean(set, &index.searcher(), |_, bag| bag));
        }
        found.push(scores);
    }
    println!("\nnDCG@10 by k1 and b\n{:<10}{}", "k1 b", header(sets));
    for (at, (k1, b)) in pairs.iter().enumerate() {
        let row: Vec<String> = found.iter().map(|scores| format!("{:>15.4}", scores[at])).collect();
        println!("{:<10}{}", format!("{k1} {b}"), row.concat());
    }
    println!("\nchosen on the other collections, beside the default");
    let default = LexicalConfig::default();
    let default = pairs
        .iter()
        .position(|&(k1, b)| k1.total_cmp(&default.k1).is_eq() && b.total_cmp(&default.b).is_eq());
    for (held, set) in sets.iter().enumerate() {
        // Two splits of one collection are one collection.
        let collection = |name: &str| name.split(' ').next().unwrap_or_default().to_owned();
        let others: Vec<usize> =
            (0..sets.len()).filter(|&at| collection(sets[at].name) != collection(set.name)).collect();
        let score = |pair: usize| others.iter().map(|&at| found[at][pair]).sum::<f64>();
        let best = (0..pairs.len()).max_by(|&a, &b| score(a).total_cmp(&score(b)).then(b.cmp(&a)));
        let best = best.expect("pairs");
        let beside = default.map_or(f64::NAN, |at| found[held][at]);
        println!(
            "{:<15} k1 {} b {}: {:.4}, default {beside:.4}",
            set.name, pairs[best].0, pairs[best].1, found[held][best]
        );
    }
}

fn header(sets: &[Set]) -> String {
    sets.iter().map(|set| format!("{:>15}", set.name)).collect::<Vec<_>>().concat()
}

/// Changes a query before it is asked.
type Change<'a> = Box<dyn Fn(&LexicalSearcher, BagQuery) -> BagQuery + 'a>;

fn variants(sets: &[Set], dirs: &[tempfile::TempDir]) {
    let mut names: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    for (at, (set, dir)) in sets.iter().zip(dirs).enumerate() {
        let mut changes: Vec<(String, Change)> = vec![("plain".into(), Box::new(|_, bag| bag))];
        for (share, within) in [(0.05, 0), (0.1, 0), (0.2, 0), (0.05, 6), (0.1, 6), (0.2, 6)] {
            changes.push((
                format!("pairs within {within}, share {share}"),
                Box::new(move |searcher, bag| searcher.with_proximity(bag, share, within)),
            ));
        }
        for (posts, terms, original) in
            [(10, 10, 0.5), (10, 10, 0.7), (5, 10, 0.8), (10, 20, 0.8), (10, 10, 0.9)]
        {
            let options = FeedbackOptions { posts, terms, original };
            changes.push((
                format!("RM3 {posts} posts, {terms} words, {original}"),
                Box::new(move |searcher, bag| feedback(set, searcher, &bag, &options)),
            ));
        }
        let index = LexicalIndex::open(dir.path()).expect("opens");
        let searcher = index.searcher();
        for (row, (name, change)) in changes.iter().enumerate() {
            let score = mean(set, &searcher, change);
            let mut times = Vec::new();
            for (query, _) in &set.queries {
                let begun = Instant::now();
                let bag = change(&searcher, BagQuery::words(query));
                searcher.search(&bag, None, 10).expect("searches");
                times.push(begun.elapsed().as_secs_f64() * 1e3);
            }
            if at == 0 {
                names.push((name.clone(), Vec::new()));
            }
            names[row].1.push((score, latency(times).p50));
        }
    }
    println!("\nnDCG@10 and p50 ms with the default k1 and b\n{:<32}{}", "", header(sets));
    for (name, scores) in names {
        let row: Vec<String> =
            scores.iter().map(|(score, ms)| format!("{:>15}", format!("{score:.4} {ms:.2}"))).collect();
        println!("{name:<32}{}", row.concat());
    }
}

fn feedback(set: &Set, searcher: &LexicalSearcher, bag: &BagQuery, options: &FeedbackOptions) -> BagQuery {
    let first = searcher.search(bag, None, options.posts).expect("searches").hits;
    let texts: Vec<FeedbackText<'_>> = first
        .iter()
        .map(|(ordinal, score)| FeedbackText {
            text: &set.texts[ordinal.0 as usize],
            lang: Some("en"),
            score: score.value(),
        })
        .collect();
    searcher.expand(bag, &texts, options).expect("expands")
}

/// Mean nDCG@10.
fn mean(
    set: &Set,
    searcher: &LexicalSearcher,
    change: impl Fn(&LexicalSearcher, BagQuery) -> BagQuery,
) -> f64 {
    let ndcg = |(query, grades): &(String, BTreeMap<String, f64>)| {
        let bag = change(searcher, BagQuery::words(query));
        let hits = searcher.search(&bag, None, 10).expect("searches").hits;
        let ranking: Vec<String> =
            hits.iter().map(|(ordinal, _)| set.ids[ordinal.0 as usize].clone()).collect();
        quality(&ranking, grades).ndcg_10
    };
    set.queries.iter().map(ndcg).sum::<f64>() / set.queries.len().max(1) as f64
}

fn beir(name: &'static str, folder: &Path, split: &str) -> Option<Set> {
    let judged = match qrels(folder, split) {
        Ok(judged) => judged,
        Err(error) => {
            println!("skipped: {error:#}");
            return None;
        }
    };
    let read = |file: &str| -> Vec<(String, String)> {
        let path = folder.join(file);
        rows(&path).expect("a BEIR folder").map(|row| row.expect("a row")).collect()
    };
    let (ids, texts) = read("corpus.jsonl").into_iter().unzip();
    let queries: HashMap<String, String> = read("queries.jsonl").into_iter().collect();
    let queries = judged.into_iter().map(|(id, grades)| (queries[&id].clone(), grades)).collect();
    Some(Set { name, ids, texts, queries })
}

/// A set whose texts are named by their places, with the place of the one relevant text of each query.
fn one_relevant(name: &'static str, texts: Vec<String>, queries: Vec<(String, usize)>) -> Set {
    let ids = (0..texts.len()).map(|at| at.to_string()).collect();
    let judged = |(query, at): (String, usize)| (query, BTreeMap::from([(at.to_string(), 1.0)]));
    Set { name, ids, texts, queries: queries.into_iter().map(judged).collect() }
}

fn known_items() -> Set {
    let texts = demo_texts();
    let mut random = SmallRng::seed_from_u64(SEED);
    let mut queries = Vec::new();
    while queries.len() < KNOWN_ITEMS {
        let at = random.random_range(0..texts.len());
        let mut words: Vec<&str> = texts[at]
            .split_whitespace()
            .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()))
            .filter(|word| {
                word.chars().count() > 3 && word.chars().all(char::is_alphabetic) && has_words(word)
            })
            .collect();
        words.shuffle(&mut random);
        words.truncate(4);
        if words.len() == 4 {
            queries.push((words.join(" "), at));
        }
    }
    one_relevant("known item", texts, queries)
}

#[derive(Deserialize)]
struct Submission {
    title: String,
    #[serde(default)]
    text: String,
}

fn titles(path: &Path) -> Option<Set> {
    let Ok(file) = fs::File::open(path) else {
        println!("skipped: {} is not here", path.display());
        return None;
    };
    let (mut texts, mut titles) = (Vec::new(), Vec::new());
    for line in BufReader::new(flate2::read::MultiGzDecoder::new(file)).lines() {
        let Ok(post) = serde_json::from_str::<Submission>(&line.expect("reads")) else { continue };
        let text: String = post.text.chars().take(280).collect();
        if text.split_whitespace().count() >= 10 {
            texts.push(text);
            titles.push(post.title);
        }
    }
    let mut random = SmallRng::seed_from_u64(SEED);
    let asked = (0..KNOWN_ITEMS.min(texts.len())).map(|_| random.random_range(0..texts.len()));
    let queries = asked.map(|at| (titles[at].clone(), at)).collect();
    Some(one_relevant("titles", texts, queries))
}
