//! Milliseconds from an acknowledged write to the post being found by words and by vector, with a stub vector source.
//!
//! `cargo run --release -p bowerbird-live --example lag -- 200`
#![expect(clippy::print_stdout, reason = "prints its table")]

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowerbird_lexical::BagQuery;
use bowerbird_live::{Live, LiveConfig, VectorSource};
use bowerbird_posts::{Op, Outcome, Post, PostId};
use bowerbird_vector::PointId;

struct Stub;

impl VectorSource for Stub {
    fn space(&self) -> String {
        "stub".into()
    }
    fn dim(&self) -> usize {
        384
    }
    fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Box<dyn Error + Send + Sync>> {
        Ok(texts.iter().map(|_| (0..384).map(|at| if at == 0 { 1.0 } else { 0.0 }).collect()).collect())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let posts: usize = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(200);
    let dir = tempfile::tempdir()?;
    let live = Live::open(dir.path(), LiveConfig::default(), Arc::new(Stub))?;
    let mut errors: Vec<String> = Vec::new();
    let (mut acknowledged, mut by_words, mut by_vector) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..posts {
        let post = Post::new(
            PostId::new(n.to_string())?,
            format!("post with word{n} in it"),
            "ann",
            jiff::Timestamp::now(),
        );
        let start = Instant::now();
        let outcome = live.write_blocking(vec![Op::Upsert(Box::new(post.validated()?))])?[0];
        let Outcome::Created { ordinal } = outcome else { return Err("not created".into()) };
        acknowledged.push(start.elapsed());
        let query = BagQuery::words(format!("word{n}"));
        let (mut words, mut vector) = (None, None);
        while words.is_none() || vector.is_none() {
            let snapshot = live.snapshot();
            if words.is_none() && snapshot.lexical().search(&query, Some(snapshot.live()), 1)?.total > 0 {
                words = Some(start.elapsed());
            }
            if vector.is_none() && snapshot.vectors().contains(PointId(ordinal.0)) {
                vector = Some(start.elapsed());
            }
            errors.extend(live.status().last_error);
            errors.dedup();
            std::thread::sleep(Duration::from_micros(500));
        }
        by_words.extend(words);
        by_vector.extend(vector);
    }
    for (name, mut times) in
        [("acknowledged", acknowledged), ("by words", by_words), ("by vector", by_vector)]
    {
        times.sort();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        println!("{name}: median {:.1} ms, p95 {:.1} ms, worst {:.1} ms", at(0.5), at(0.95), at(1.0));
    }
    println!("errors on the way: {errors:?}");
    let start = Instant::now();
    let bulk = 20_000;
    for first in (0..bulk).step_by(1000) {
        let post = |n: usize| -> Result<Op, Box<dyn Error>> {
            let id = PostId::new(format!("bulk{n}"))?;
            let text =
                format!("a post of the bulk load with word{} and #tag{} for @user{}", n, n % 500, n % 3000);
            Ok(Op::Upsert(Box::new(
                Post::new(id, text, format!("user{}", n % 3000), jiff::Timestamp::now()).validated()?,
            )))
        };
        live.write_blocking((first..first + 1000).map(post).collect::<Result<Vec<_>, _>>()?)?;
    }
    let stored = start.elapsed();
    live.flush()?;
    println!("bulk: {bulk} posts stored in {stored:.2?}, searchable both ways in {:.2?}", start.elapsed());
    println!("{:?}", live.status());
    drop(live);
    let start = Instant::now();
    drop(Live::open(dir.path(), LiveConfig::default(), Arc::new(Stub))?);
    println!("reopened and closed in {:.2?}", start.elapsed());
    Ok(())
}
