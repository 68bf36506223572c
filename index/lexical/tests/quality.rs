//! Retrieval quality and speed on real collections, where they are at hand.

use std::collections::HashMap;
use std::fs;
use std::io::{Write, stderr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bowerbird_lexical::{BagQuery, Checkpoint, LexicalConfig, LexicalIndex};
use bowerbird_posts::{Ordinal, Post, PostId};
use jiff::Timestamp;
use serde::Deserialize;

const POINT: Checkpoint = Checkpoint { next_ordinal: 0, sequence: 0 };

fn say(line: &str) {
    writeln!(stderr().lock(), "{line}").expect("standard error is open");
}

/// The data folder beside the checkout, or `None` with a line that says so.
fn data(folder: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(folder);
    if path.is_dir() {
        return Some(path);
    }
    say(&format!("skipped: {} is not here", path.display()));
    None
}

#[derive(Deserialize)]
struct Record {
    #[serde(rename = "_id")]
    id: String,
    #[serde(default)]
    title: String,
    text: String,
}

fn records(path: &Path) -> Vec<Record> {
    let text = fs::read_to_string(path).expect("reads");
    text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
}

/// Relevance by query and document.
fn judgments(path: &Path) -> HashMap<String, HashMap<String, f64>> {
    let mut judged: HashMap<String, HashMap<String, f64>> = HashMap::new();
    for line in fs::read_to_string(path).expect("reads").lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let gain = fields[2].parse().expect("a number");
        judged.entry(fields[0].to_owned()).or_default().insert(fields[1].to_owned(), gain);
    }
    judged
}

fn post(id: &str, text: &str) -> Option<Post> {
    let mut post = Post::new(PostId::new(id).ok()?, text, "", Timestamp::UNIX_EPOCH);
    post.lang = Some("en".to_owned());
    post.validated().ok()
}

/// Mean nDCG@10 with gain = relevance, over the judged queries.
fn ndcg_at_10(folder: &Path, qrels: &str, config: LexicalConfig) -> f64 {
    let dir = tempfile::tempdir().expect("a directory");
    let index = LexicalIndex::open_with(dir.path(), config).expect("opens");
    let corpus = records(&folder.join("corpus.jsonl"));
    for (ordinal, record) in corpus.iter().enumerate() {
        // Two documents of Cranfield are empty.
        if let Some(post) = post(&record.id, format!("{} {}", record.title, record.text).trim()) {
            index.add(Ordinal(ordinal as u32), &post).expect("adds");
        }
    }
    index.commit(POINT).expect("commits");
    let searcher = index.searcher();
    let judged = judgments(&folder.join("qrels").join(qrels));
    let (mut sum, mut queries) = (0.0, 0);
    for query in records(&folder.join("queries.jsonl")) {
        let Some(gains) = judged.get(&query.id) else { continue };
        let hits = searcher.search(&BagQuery::words(query.text), None, 10).expect("searches").hits;
        let discounted = |at: usize, gain: f64| gain / (at as f64 + 2.0).log2();
        let gain = |ordinal: Ordinal| gains.get(&corpus[ordinal.0 as usize].id).copied().unwrap_or(0.0);
        let found: f64 =
            hits.iter().enumerate().map(|(at, (ordinal, _))| discounted(at, gain(*ordinal))).sum();
        let mut ideal: Vec<f64> = gains.values().copied().collect();
        ideal.sort_by(|a, b| b.total_cmp(a));
        let ideal: f64 = ideal.into_iter().take(10).enumerate().map(|(at, gain)| discounted(at, gain)).sum();
        queries += 1;
        sum += if ideal > 0.0 { found / ideal } else { 0.0 };
    }
    sum / f64::from(queries)
}

#[test]
fn quality_is_that_of_published_bm25() {
    // Floors: what bm25s with the same k1, b, stop words and stemmer reaches, less .006.
    for (folder, qrels, floor) in [
        ("retrieval/scifact", "test.tsv", 0.670),
        ("retrieval/vaswani", "test.tsv", 0.439),
        ("retrieval/cranfield", "test-binary.tsv", 0.479),
    ] {
        let Some(path) = data(folder) else { continue };
        let found = ndcg_at_10(&path, qrels, LexicalConfig::default());
        say(&format!("{folder}: nDCG@10 {found:.4}"));
        assert!(found >= floor, "{folder}: nDCG@10 is {found:.4}, expected at least {floor}");
    }
}

#[derive(Deserialize)]
struct Reddit {
    title: String,
    #[serde(default)]
    text: String,
}

/// Prints speeds; not a check. `cargo test -p bowerbird-lexical --test quality -- --ignored --nocapture`
#[test]
#[ignore = "a measurement over a million posts"]
fn speed() {
    let Some(path) = data("posts/reddit-top") else { return };
    let mut texts = Vec::new();
    for entry in fs::read_dir(path).expect("lists") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|end| end != "gz") {
            continue;
        }
        let reader = flate2::read::MultiGzDecoder::new(fs::File::open(path).expect("opens"));
        for line in std::io::BufRead::lines(std::io::BufReader::new(reader)) {
            let Ok(record) = serde_json::from_str::<Reddit>(&line.expect("reads")) else { continue };
            let text: String = format!("{} {}", record.title, record.text).chars().take(280).collect();
            texts.push(text);
        }
    }
    for posts in [46_000, 1_000_000] {
        measure(&texts, posts);
    }
}

fn measure(texts: &[String], posts: usize) {
    let dir = tempfile::tempdir().expect("a directory");
    let index = LexicalIndex::open(dir.path()).expect("opens");
    let mut all = Vec::with_capacity(posts);
    for at in 0..posts {
        // Past the end of the corpus, halves of two posts are put together.
        let (first, second) = (&texts[at % texts.len()], &texts[(at * 31 + at / texts.len()) % texts.len()]);
        let text = if at < texts.len() {
            first.clone()
        } else {
            let half = |text: &str, from: usize| {
                text.split_whitespace().skip(from).take(12).collect::<Vec<_>>().join(" ")
            };
            format!("{} {}", half(first, 0), half(second, 6))
        };
        all.extend(post("x", &text));
    }
    let start = Instant::now();
    for (ordinal, post) in all.iter().enumerate() {
        index.add(Ordinal(ordinal as u32), post).expect("adds");
    }
    index.commit(POINT).expect("commits");
    let took = start.elapsed();
    say(&format!(
        "{} posts: indexed in {took:.2?}, {:.0} posts/s",
        all.len(),
        all.len() as f64 / took.as_secs_f64()
    ));
    let bytes: u64 =
        fs::read_dir(dir.path()).expect("lists").filter_map(|e| Some(e.ok()?.metadata().ok()?.len())).sum();
    let per_post = bytes as f64 / all.len() as f64;
    let searcher = index.searcher();
    say(&format!("  {:.1} MB, {per_post:.0} bytes a post", bytes as f64 / 1e6));
    let start = Instant::now();
    let guessed = texts.iter().take(2000).map(|text| post("x", text)).filter_map(|post| {
        let mut post = post?;
        post.lang = None;
        Some(post)
    });
    let scratch = tempfile::tempdir().expect("a directory");
    let other = LexicalIndex::open(scratch.path()).expect("opens");
    for (ordinal, post) in guessed.enumerate() {
        other.add(Ordinal(ordinal as u32), &post).expect("adds");
    }
    say(&format!("  2,000 adds with the language guessed: {:.2?}", start.elapsed()));
    let allowed: roaring::RoaringBitmap = (0..all.len() as u32).filter(|n| n % 100 != 0).collect();
    let ordinals: Vec<Ordinal> = (0..200).map(|n| Ordinal(n * (all.len() as u32 / 200))).collect();
    let queries = [
        "sleep anxiety",
        "people time",
        "new year",
        "what is the best way to learn python",
        "why do dogs eat grass when they are sick and should I worry about it",
        "zebra",
    ];
    for query in queries {
        let bag = BagQuery::words(query);
        let phrase = BagQuery { phrases: vec![query.to_owned()], ..BagQuery::default() };
        let total = searcher.search(&bag, None, 0).expect("searches").total;
        let timed = |work: &dyn Fn()| {
            let mut times: Vec<Duration> = (0..40)
                .map(|_| {
                    let start = Instant::now();
                    work();
                    start.elapsed()
                })
                .collect();
            times.sort();
            format!("{:.2?}/{:.2?}", times[20], times[38])
        };
        let plain = timed(&|| drop(searcher.search(&bag, None, 100)));
        let filtered = timed(&|| drop(searcher.search(&bag, Some(&allowed), 100)));
        let scored = timed(&|| drop(searcher.score(&bag, &ordinals)));
        let phrased = timed(&|| drop(searcher.search(&phrase, Some(&allowed), 100)));
        say(&format!(
            "  {total:>7} hits, p50/p95: top 100 {plain}, filtered {filtered}, with phrase {phrased}, 200 scored {scored}: {query}"
        ));
    }
    let start = Instant::now();
    drop(searcher);
    drop(index);
    let closed = start.elapsed();
    let start = Instant::now();
    let index = LexicalIndex::open(dir.path()).expect("opens");
    say(&format!("  closed in {closed:.2?}, opened in {:.2?}", start.elapsed()));
    let start = Instant::now();
    for n in 0..20u32 {
        index.add(Ordinal(2_000_000 + n), &all[n as usize]).expect("adds");
        index.commit(POINT).expect("commits");
    }
    say(&format!("  add and commit of one post: {:.2?}", start.elapsed() / 20));
}
