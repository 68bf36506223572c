//! How long does a suggestion take under every kind of prefix, how good is "did you mean", and what does it cost?
//!
//! `cargo bench -p bowerbird-benches --bench suggest`; `BOWERBIRD_BENCH_SIZE=100000` for another size. One process, no
//! models. The demo's 46,728 headlines, the last tenth held out, are repeated up to a million posts; in the copies one
//! word in ten is replaced by a word of another post, and one in two hundred is mistyped, so that rare words and the
//! slips of others are there as on a real platform.
//!
//! Slips of the fingers are made by a seeded model: 30 % a neighbouring key, 30 % a letter left out, 20 % two letters
//! swapped, 20 % a letter doubled; two slips in one of five words of eight letters and more; the first letter in one
//! of twenty.
#![expect(clippy::print_stdout, reason = "the output of a bench")]

use std::collections::HashSet;
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use bowerbird::demo::corpus;
use bowerbird::eval::measure::latency;
use bowerbird::stack::model_store;
use bowerbird_catalog::{Catalog, Silent};
use bowerbird_lexical::suggest::{is_stop_word, single_word, stem};
use bowerbird_live::{Live, LiveConfig, Snapshot, VectorSource};
use bowerbird_posts::{Op, Post, PostId};
use bowerbird_search::suggest::{QueryLog, QueryLogConfig, Suggester, correct};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

const SEED: u64 = 11;
/// Texts typed letter by letter, and words mistyped.
const SAMPLES: usize = 4000;
const TODAY: u32 = 20_000;

/// Refuses every text: this bench needs no vectors.
#[derive(Debug, thiserror::Error)]
#[error("no vectors here")]
struct NoVectors;

impl VectorSource for NoVectors {
    fn space(&self) -> String {
        "none/2".into()
    }

    fn dim(&self) -> usize {
        2
    }

    fn embed(&self, _: &[String]) -> Result<Vec<Vec<f32>>, Box<dyn Error + Send + Sync>> {
        Err(NoVectors.into())
    }

    fn refuses(&self, _: &(dyn Error + Send + Sync + 'static)) -> bool {
        true
    }
}

fn main() {
    let size = std::env::var("BOWERBIRD_BENCH_SIZE").ok().and_then(|size| size.parse().ok());
    let size: usize = size.unwrap_or(1_000_000);
    let mut random = SmallRng::seed_from_u64(SEED);
    let mut posts = demo_posts();
    let held_out = posts.split_off(posts.len() / 10 * 9);
    let dir = tempfile::tempdir().expect("a directory");
    let live = Live::open(dir.path(), LiveConfig::default(), Arc::new(NoVectors)).expect("opens");
    let begun = Instant::now();
    load(&live, &posts, size, &mut random);
    println!("{size} posts from {} loaded in {:.0} s", posts.len(), begun.elapsed().as_secs_f64());

    let log = QueryLog::in_memory(QueryLogConfig::default()).expect("a log");
    let suggester = Suggester::new(live.clone(), log).expect("a suggester");
    let begun = Instant::now();
    suggester.warm().expect("tables");
    println!("prefix tables made in {:.2} s", begun.elapsed().as_secs_f64());

    let runtime = tokio::runtime::Builder::new_multi_thread().build().expect("a runtime");
    runtime.block_on(typing(&suggester, &posts, &mut random));
    correcting(&live.snapshot(), &posts, &held_out, &mut random);
}

fn demo_posts() -> Vec<String> {
    let config = bowerbird_tests::test_config();
    let catalog = Catalog::embedded().expect("a catalog");
    let entry = catalog.entry("demo-posts").expect("demo posts");
    let store = model_store(&config).expect("a store");
    let archive = store.ensure(entry, &Silent).expect("demo posts are fetched").join("healthtweets.zip");
    let posts = corpus::read(&archive).expect("demo posts");
    posts.into_iter().map(|post| post.text).collect()
}

fn load(live: &Live, texts: &[String], size: usize, random: &mut SmallRng) {
    let vocabulary: Vec<&str> = texts.iter().flat_map(|text| text.split_whitespace()).collect();
    let at = "2015-01-01T00:00:00Z".parse().expect("a time");
    let mut ops = Vec::new();
    for (n, text) in (0..size).zip(texts.iter().cycle()) {
        let text = if n < texts.len() { text.clone() } else { perturbed(text, &vocabulary, random) };
        let id = PostId::new(n.to_string()).expect("an id");
        // A text may be too long after a word was replaced; then there is one post less.
        ops.extend(Post::new(id, text, "ann", at).validated().map(|post| Op::Upsert(Box::new(post))));
        if ops.len() == 2000 {
            live.write_blocking(std::mem::take(&mut ops)).expect("written");
        }
    }
    live.write_blocking(ops).expect("written");
    live.flush().expect("searchable");
}

fn perturbed(text: &str, vocabulary: &[&str], random: &mut SmallRng) -> String {
    let words = text.split_whitespace().map(|word| match random.random_range(0..200) {
        0..20 => (*vocabulary.choose(random).expect("words")).to_owned(),
        20 => mistyped(word, random),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Every text typed letter by letter from its second word on, by what is being typed.
async fn typing(suggester: &Suggester, posts: &[String], random: &mut SmallRng) {
    let mut times: [(&str, Vec<f64>, usize); 5] = [
        ("one letter", Vec::new(), 0),
        ("two or three", Vec::new(), 0),
        ("more", Vec::new(), 0),
        ("after words", Vec::new(), 0),
        ("# and @", Vec::new(), 0),
    ];
    let (mut offered, mut words, mut letters) = (0, 0, 0);
    for text in posts.choose_multiple(random, SAMPLES / 10).collect::<Vec<_>>() {
        let first: Vec<&str> = text.split_whitespace().filter(|word| word.len() > 3).take(3).collect();
        let text = first.join(" ");
        for (end, _) in text.char_indices().skip(1).chain([(text.len(), ' ')]) {
            let typed = &text[..end];
            let last = typed.rsplit(' ').next().unwrap_or_default();
            if last.is_empty() {
                continue;
            }
            let kind = match last.chars().count() {
                _ if last.starts_with(['#', '@']) => 4,
                _ if typed.len() > last.len() => 3,
                1 => 0,
                2 | 3 => 1,
                _ => 2,
            };
            let begun = Instant::now();
            let found = suggester.suggest(typed, 8, TODAY).await.expect("an answer");
            times[kind].1.push(begun.elapsed().as_secs_f64() * 1e3);
            times[kind].2 += usize::from(!found.is_empty());
        }
        // How many letters of the last of three words have to be typed before it is in the list.
        if let [_, _, last] = first.as_slice()
            && let Some(word) = single_word(last)
        {
            words += 1;
            for letter in 1..word.len() {
                let typed = format!("{} {}", first[..2].join(" "), &word[..word.floor_char_boundary(letter)]);
                let found = suggester.suggest(&typed, 8, TODAY).await.expect("an answer");
                let same =
                    |text: &str| text.rsplit(' ').next().is_some_and(|found| stem(found) == stem(&word));
                if found.iter().any(|suggestion| same(&suggestion.text)) {
                    offered += 1;
                    letters += letter;
                    break;
                }
            }
        }
    }
    println!(
        "\n{:<14} {:>6} {:>8} {:>8} {:>8} {:>10}",
        "typing", "calls", "p50 ms", "p95", "p99", "with any"
    );
    for (name, ms, any) in times {
        if ms.is_empty() {
            continue;
        }
        let (calls, quantiles) = (ms.len(), latency(ms));
        println!(
            "{name:<14} {calls:>6} {:>8.2} {:>8.2} {:>8.2} {:>10.2}",
            quantiles.p50,
            quantiles.p95,
            quantiles.p99,
            any as f64 / calls as f64
        );
    }
    println!(
        "third words: {:.1} % offered among 8 before they are complete, after {:.1} letters",
        100.0 * f64::from(offered) / f64::from(words),
        letters as f64 / f64::from(offered)
    );
}

/// A word of a post with the words around it.
struct Sample {
    words: Vec<String>,
    at: usize,
}

impl Sample {
    fn with(&self, word: &str) -> String {
        let mut words = self.words.clone();
        word.clone_into(&mut words[self.at]);
        words.join(" ")
    }
}

/// Words that are corrected at all, drawn as often as posts use them; up to two words before stand with each.
fn samples_of(posts: &[String], random: &mut SmallRng) -> Vec<Sample> {
    let mut samples = Vec::new();
    while samples.len() < SAMPLES {
        let text = posts.choose(random).expect("posts");
        let words: Vec<String> = text
            .split_whitespace()
            .filter(|word| word.bytes().all(|byte| byte.is_ascii_alphabetic()))
            .map(str::to_lowercase)
            .collect();
        let Some(word) = words.choose(random) else { continue };
        if word.len() >= 4 && !is_stop_word(word) {
            let at = words.iter().position(|other| other == word).expect("it is one of them");
            let from = at.saturating_sub(2);
            samples.push(Sample { words: words[from..=at].to_vec(), at: at - from });
        }
    }
    samples
}

fn correcting(snapshot: &Snapshot, posts: &[String], held_out: &[String], random: &mut SmallRng) {
    let samples = samples_of(posts, random);
    let known: HashSet<String> = posts
        .iter()
        .flat_map(|text| text.split_whitespace())
        .filter_map(|word| single_word(word.trim_matches(|c: char| !c.is_alphanumeric())))
        .collect();
    println!(
        "\n{:<26} {:>7} {:>11} {:>9} {:>8} {:>8} {:>8} {:>8}",
        "did you mean", "queries", "precision@1", "corrected", "p50 ms", "p95", "p99", "max"
    );
    for (name, alone) in [("mistyped, alone", true), ("mistyped, after two words", false)] {
        let (mut times, mut offered, mut right, mut asked) = (Vec::new(), 0, 0, 0);
        for sample in &samples {
            let word = &sample.words[sample.at];
            let slip = mistyped(word, random);
            // A slip that makes another word cannot be seen.
            if known.contains(&slip) {
                continue;
            }
            asked += 1;
            let query = if alone { slip.clone() } else { sample.with(&slip) };
            let meant = if alone { word.clone() } else { sample.with(word) };
            let found = timed(snapshot, &query, &mut times);
            offered += usize::from(found.is_some());
            right += usize::from(found.is_some_and(|text| same_posts(&text, &meant)));
        }
        report(name, asked, Some(right as f64 / f64::from(offered.max(1) as u32)), right, times);
    }
    // Of these, "corrected" is the share that should have been left alone.
    for (name, alone) in [("right, alone", true), ("right, three words", false)] {
        let (mut times, mut wrong) = (Vec::new(), 0);
        for sample in &samples {
            let word = &sample.words[sample.at];
            let query = if alone { word.clone() } else { sample.with(word) };
            wrong += usize::from(timed(snapshot, &query, &mut times).is_some());
        }
        report(name, samples.len(), None, wrong, times);
    }
    // Right words as the posts that were held out use them: what a correct query meets.
    let (mut times, mut wrong) = (Vec::new(), 0);
    let fresh = samples_of(held_out, random);
    for sample in &fresh {
        wrong += usize::from(timed(snapshot, &sample.words[sample.at], &mut times).is_some());
    }
    report("right, of other posts", fresh.len(), None, wrong, times);
    let unknown: HashSet<String> = held_out
        .iter()
        .flat_map(|text| text.split_whitespace())
        .filter(|word| word.bytes().all(|byte| byte.is_ascii_alphabetic()))
        .map(str::to_lowercase)
        .filter(|word| word.len() >= 4 && !known.contains(word))
        .collect();
    let mut unknown: Vec<String> = unknown.into_iter().collect();
    unknown.sort_unstable();
    let (mut times, mut wrong) = (Vec::new(), 0);
    for word in &unknown {
        wrong += usize::from(timed(snapshot, word, &mut times).is_some());
    }
    report("of these in no post", unknown.len(), None, wrong, times);
}

fn timed(snapshot: &Snapshot, query: &str, times: &mut Vec<f64>) -> Option<String> {
    let begun = Instant::now();
    let found = correct(snapshot, query, None).expect("an answer");
    times.push(begun.elapsed().as_secs_f64() * 1e3);
    found.map(|correction| correction.text)
}

fn report(name: &str, queries: usize, precision: Option<f64>, corrected: usize, times: Vec<f64>) {
    let max = times.iter().copied().fold(0.0, f64::max);
    let quantiles = latency(times);
    println!(
        "{name:<26} {queries:>7} {:>11} {:>8.2}% {:>8.3} {:>8.3} {:>8.3} {max:>8.2}",
        precision.map_or_else(String::new, |precision| format!("{precision:.3}")),
        100.0 * corrected as f64 / queries as f64,
        quantiles.p50,
        quantiles.p95,
        quantiles.p99,
    );
}

/// Whether two queries have the same words but for endings.
fn same_posts(a: &str, b: &str) -> bool {
    let stems = |text: &str| text.split_whitespace().map(stem).collect::<Vec<_>>();
    stems(a) == stems(b)
}

/// `word` with a slip of the fingers, or two.
fn mistyped(word: &str, random: &mut SmallRng) -> String {
    let mut letters: Vec<char> = word.chars().collect();
    let slips = if letters.len() >= 8 && random.random_bool(0.2) { 2 } else { 1 };
    for _ in 0..slips {
        slip(&mut letters, random);
    }
    letters.into_iter().collect()
}

fn slip(letters: &mut Vec<char>, random: &mut SmallRng) {
    if letters.len() < 2 {
        return;
    }
    let first = random.random_bool(0.05);
    let at = if first { 0 } else { random.random_range(1..letters.len()) };
    match random.random_range(0..10) {
        0..3 => {
            let beside = NEIGHBOURS.iter().find(|(key, _)| key.eq_ignore_ascii_case(&letters[at]));
            if let Some((_, keys)) = beside {
                letters[at] = *keys.as_bytes().choose(random).expect("every key has neighbours") as char;
            } else {
                letters.remove(at);
            }
        }
        3..6 => {
            letters.remove(at);
        }
        6..8 => {
            let at = at.min(letters.len() - 2);
            letters.swap(at, at + 1);
        }
        _ => letters.insert(at, letters[at]),
    }
}

/// Keys of a QWERTY keyboard and those that touch them. Written out, so that the model of errors does not lean on the
/// one that corrects them.
const NEIGHBOURS: [(char, &str); 26] = [
    ('a', "qwsz"),
    ('b', "vghn"),
    ('c', "xdfv"),
    ('d', "serfcx"),
    ('e', "wsdr"),
    ('f', "drtgvc"),
    ('g', "ftyhbv"),
    ('h', "gyujnb"),
    ('i', "ujko"),
    ('j', "huikmn"),
    ('k', "jiolm"),
    ('l', "kop"),
    ('m', "njk"),
    ('n', "bhjm"),
    ('o', "iklp"),
    ('p', "ol"),
    ('q', "wa"),
    ('r', "edft"),
    ('s', "awedxz"),
    ('t', "rfgy"),
    ('u', "yhji"),
    ('v', "cfgb"),
    ('w', "qase"),
    ('x', "zsdc"),
    ('y', "tghu"),
    ('z', "asx"),
];
