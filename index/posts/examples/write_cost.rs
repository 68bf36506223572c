//! What a durable write costs: time and bytes given to write calls for a post, alone and in groups, in a small store and
//! in a large one.
//!
//! `cargo run --release -p bowerbird-posts --example write_cost -- 100000 1000000`
#![expect(clippy::print_stdout, reason = "prints its table")]

use std::error::Error;
use std::time::Instant;

use bowerbird_posts::{CountsPatch, Op, Post, PostId, PostStore};

/// Bytes this process has given to write calls so far; 0 where the system does not say. Not `write_bytes`, which counts
/// the whole folio of the page cache that a changed page is part of, up to 2 MiB.
fn written_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("wchar: "));
    line.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0)
}

fn post(n: usize) -> Result<Op, Box<dyn Error>> {
    let id = PostId::new(format!("{}", 1_000_000_000_000_000_000 + n as u64 * 7919))?;
    let text = format!(
        "a post of some fifteen words about number {n} and #tag{} for @user{} to read",
        n % 999,
        n % 3001
    );
    let post = Post::new(id, text, format!("user{}", n % 3001), jiff::Timestamp::now());
    Ok(Op::Upsert(Box::new(post.validated()?)))
}

fn main() -> Result<(), Box<dyn Error>> {
    let sizes = std::env::args().skip(1).map(|size| size.parse()).collect::<Result<Vec<usize>, _>>()?;
    let dir = tempfile::tempdir()?;
    let store = PostStore::open(dir.path())?;
    let mut next = 0;
    println!(
        "{:>9} {:>7} {:>9} {:>12} {:>14} {:>10}",
        "posts", "group", "ops", "µs an op", "bytes an op", "what"
    );
    for size in if sizes.is_empty() { vec![100_000] } else { sizes } {
        let begun = Instant::now();
        let first = next;
        while next < size {
            let group = (next..size.min(next + 1000)).map(post).collect::<Result<Vec<_>, _>>()?;
            next += group.len();
            store.apply(&group)?;
        }
        println!("filled {} posts in {:.1?}", next - first, begun.elapsed());
        for (group, rounds) in [(1, 200), (20, 50), (1000, 5)] {
            for what in ["new", "counts", "delete"] {
                let (begun, before) = (Instant::now(), written_bytes());
                let mut building = std::time::Duration::ZERO;
                for round in 0..rounds {
                    let built = Instant::now();
                    let ops = (0..group)
                        .map(|n| {
                            // Spread over all posts, as likes are.
                            let at = (round * group + n) * 7919 % size;
                            let Op::Upsert(old) = post(at)? else { return Err("a post".into()) };
                            Ok(match what {
                                "new" => {
                                    next += 1;
                                    post(next)?
                                }
                                "counts" => Op::SetCounts {
                                    id: old.id,
                                    counts: CountsPatch {
                                        likes: Some(built.elapsed().as_nanos() as u64 + 1),
                                        ..CountsPatch::default()
                                    },
                                },
                                _ => Op::Delete(old.id),
                            })
                        })
                        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
                    building += built.elapsed();
                    store.apply(&ops)?;
                }
                let ops = group * rounds;
                let micros = begun.elapsed().saturating_sub(building).as_micros() as f64 / ops as f64;
                let bytes = (written_bytes() - before) as f64 / ops as f64;
                println!("{size:>9} {group:>7} {ops:>9} {micros:>12.1} {bytes:>14.0} {what:>10}");
            }
        }
        next = next.max(size);
    }
    println!("{} bytes a post in the file", store.file_bytes()? / store.len()?);
    Ok(())
}
