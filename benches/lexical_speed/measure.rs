//! Ours against raw tantivy, over the same open index, in the same process, taking turns.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use bowerbird_lexical::{BagQuery, Checkpoint, LexicalIndex, LexicalSearcher};
use bowerbird_posts::{Ordinal, Post, PostId};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use roaring::RoaringBitmap;

/// What to measure.
pub struct Options {
    /// Posts in the index.
    pub posts: usize,
    /// Rounds over the queries after the first, which warms up.
    pub rounds: usize,
    /// Single posts added and committed at the end; 0 for none.
    pub commits: usize,
}

/// Queries by number of words: this many of each from 1 to 8.
const QUERIES_PER_LENGTH: usize = 25;
const SEED: u64 = 7;

/// Text `n` of a collection made from `texts`: theirs first, then halves of two of them put together.
pub fn text(texts: &[String], n: usize) -> String {
    if n < texts.len() {
        return texts[n].clone();
    }
    let mut random = SmallRng::seed_from_u64(n as u64);
    let mut half = |second: bool| {
        let words: Vec<&str> = texts[random.random_range(0..texts.len())].split_whitespace().collect();
        let middle = words.len() / 2;
        if second { words[middle..].join(" ") } else { words[..middle].join(" ") }
    };
    format!("{} {}", half(false), half(true))
}

/// The index over `posts` texts in `dir`, made when it is not there.
pub fn index(dir: &Path, texts: &[String], posts: usize) -> LexicalIndex {
    let index = LexicalIndex::open(dir).expect("the index opens; delete its folder when its format is old");
    let done = Checkpoint { next_ordinal: posts as u32, sequence: 1 };
    if index.checkpoint() == Some(done) {
        return index;
    }
    let begun = Instant::now();
    for n in 0..posts {
        index.add(Ordinal(n as u32), &post(&text(texts, n))).expect("adds");
        // As a live index gets them: in commits, not in one.
        if n % 50_000 == 49_999 {
            index.commit(Checkpoint { next_ordinal: n as u32 + 1, sequence: 0 }).expect("commits");
        }
    }
    index.commit(done).expect("commits");
    let took = begun.elapsed().as_secs_f64();
    println!("indexed {posts} posts in {took:.1} s, {:.0} posts/s", posts as f64 / took);
    // Closing waits for merges.
    drop(index);
    LexicalIndex::open(dir).expect("opens again")
}

fn post(text: &str) -> Post {
    let mut post = Post::new(PostId::new("x").expect("an id"), text, "", jiff::Timestamp::UNIX_EPOCH);
    post.lang = Some("en".to_owned());
    post
}

/// Runs of 1 to 8 words out of real posts, so of mixed frequency; no signs.
fn queries(texts: &[String]) -> Vec<String> {
    let mut random = SmallRng::seed_from_u64(SEED);
    let mut queries = Vec::new();
    for length in 1..=8 {
        while queries.len() < length * QUERIES_PER_LENGTH {
            let text = &texts[random.random_range(0..texts.len())];
            let words: Vec<&str> = text
                .split_whitespace()
                .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()))
                .filter(|word| !word.is_empty() && word.chars().all(char::is_alphabetic))
                .collect();
            if words.len() >= length {
                let start = random.random_range(0..=words.len() - length);
                queries.push(words[start..start + length].join(" "));
            }
        }
    }
    queries
}

/// Prints the tables.
pub fn run(dir: &Path, texts: &[String], options: &Options) {
    let index = index(dir, texts, options.posts);
    let searcher = index.searcher();
    let queries = queries(texts);
    let bytes: u64 = std::fs::read_dir(dir)
        .expect("lists")
        .filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()))
        .sum();
    println!(
        "{} posts in {} segments, {} bytes a post on disk; {} queries of 1 to 8 words, {} rounds",
        options.posts,
        searcher.segments(),
        bytes / options.posts as u64,
        queries.len(),
        options.rounds
    );
    compare(&searcher, &queries, options);
    drop(searcher);
    if options.commits > 0 {
        commits(&index, texts, options);
        println!("after {} commits of one post each:", options.commits);
        let searcher = index.searcher();
        println!("{} segments", searcher.segments());
        compare(&searcher, &queries, options);
    }
}

fn compare(searcher: &LexicalSearcher, queries: &[String], options: &Options) {
    // As the engine asks: with the set of live posts, of which some are gone.
    let allowed: RoaringBitmap = (0..options.posts as u32 + 1_000_000).filter(|n| n % 100 != 7).collect();
    let narrow: RoaringBitmap = (0..options.posts as u32).filter(|n| n % 1000 == 7).collect();
    let bags: Vec<BagQuery> = queries.iter().map(BagQuery::words).collect();
    let mut times: BTreeMap<(usize, &str), Vec<f64>> = BTreeMap::new();
    let (mut agree, mut asked, mut total, mut exact) = (0, 0, 0, 0);
    for round in 0..=options.rounds {
        for (at, bag) in bags.iter().enumerate() {
            for limit in [10, 100, 1000] {
                let mut time = |name, work: &mut dyn FnMut()| {
                    let begun = Instant::now();
                    work();
                    if round > 0 || name == "first time" {
                        times.entry((limit, name)).or_default().push(ms(begun.elapsed()));
                    }
                };
                let mut ours = None;
                let name = if round == 0 { "first time" } else { "ours" };
                let mut with = |name, time: &mut dyn FnMut(&'static str, &mut dyn FnMut())| {
                    time(name, &mut || ours = Some(searcher.search(bag, None, limit).expect("searches")));
                };
                // Turns change sides, so that neither always comes second to warm caches.
                if (at + round) % 2 == 0 {
                    with(name, &mut time);
                    time("tantivy", &mut || drop(searcher.raw_tantivy(bag, limit).expect("searches")));
                } else {
                    time("tantivy", &mut || drop(searcher.raw_tantivy(bag, limit).expect("searches")));
                    with(name, &mut time);
                }
                time("ours, live set", &mut || drop(searcher.search(bag, Some(&allowed), limit)));
                time("ours, 1 in 1000", &mut || drop(searcher.search(bag, Some(&narrow), limit)));
                let mut all = None;
                time("every posting", &mut || all = Some(searcher.search_exhaustively(bag, None, limit)));
                let (ours, all) = (ours.expect("ran"), all.expect("ran").expect("searches"));
                if round == 0 {
                    asked += 1;
                    agree += usize::from(ours.hits == all.hits);
                    assert!(ours.total <= all.total && (!ours.exact || ours.total == all.total));
                    total += 1;
                    exact += usize::from(ours.exact);
                }
                if limit == 10 {
                    time("matching any", &mut || drop(searcher.matching_any(bag, Some(&allowed))));
                    time("matching most", &mut || drop(searcher.matching_most(bag, Some(&allowed), 0.6)));
                    let near = searcher.with_proximity(bag.clone(), 0.1, 6);
                    time("with proximity", &mut || drop(searcher.search(&near, None, limit)));
                }
            }
        }
    }
    println!("same posts and scores as adding up every posting: {agree} of {asked}");
    println!("counted exactly: {exact} of {total}, all others past the limit");
    println!("{:<6} {:<16} {:>9} {:>9} {:>9} {:>11}", "limit", "", "p50 ms", "p95", "p99", "p50 / raw");
    for limit in [10, 100, 1000] {
        let raw = quantile(&mut times[&(limit, "tantivy")].clone(), 0.5);
        for ((_, name), times) in times.iter_mut().filter(|((of, _), _)| *of == limit) {
            let at: Vec<f64> = [0.5, 0.95, 0.99].into_iter().map(|q| quantile(times, q)).collect();
            println!(
                "{limit:<6} {name:<16} {:>9.3} {:>9.3} {:>9.3} {:>11.2}",
                at[0],
                at[1],
                at[2],
                at[0] / raw
            );
        }
    }
}

fn commits(index: &LexicalIndex, texts: &[String], options: &Options) {
    let (mut adds, mut commits) = (Vec::new(), Vec::new());
    let mut widest = 0;
    for n in 0..options.commits {
        let ordinal = (options.posts + n) as u32;
        let begun = Instant::now();
        index.add(Ordinal(ordinal), &post(&text(texts, n))).expect("adds");
        adds.push(ms(begun.elapsed()));
        let begun = Instant::now();
        index.commit(Checkpoint { next_ordinal: ordinal + 1, sequence: 2 }).expect("commits");
        commits.push(ms(begun.elapsed()));
        widest = widest.max(index.searcher().segments());
    }
    for (name, times) in [("add", &mut adds), ("commit", &mut commits)] {
        let at: Vec<f64> = [0.5, 0.95, 0.99].into_iter().map(|q| quantile(times, q)).collect();
        println!("{name:<8} one post: p50 {:.2} ms, p95 {:.2}, p99 {:.2}", at[0], at[1], at[2]);
    }
    println!("most segments at a time: {widest}");
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn quantile(times: &mut [f64], q: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    let rank = (q * times.len() as f64).ceil().max(1.0) as usize;
    times.get(rank - 1).copied().unwrap_or(0.0)
}
