//! `bowerbird demo`: real posts and models, sample queries in the terminal, then the server.
#![expect(clippy::print_stdout, reason = "the output of a command line program")]

pub mod corpus;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use bowerbird_catalog::Catalog;

use crate::cli::{DemoArgs, PostCount};
use crate::commands::index::{Loaded, finish, write};
use crate::commands::{ask, search, serve};
use crate::config::Config;
use crate::flow;
use crate::progress::{Bars, counting};
use crate::stack::{Parts, Stack, model_store};
use crate::wire::ads::Sponsored;
use crate::wire::search::SearchBody;

/// About forty ads of invented brands.
pub const ADS: &str = include_str!("../../demo/ads.json");

/// What the samples show: paraphrases that words alone miss, exact names, and questions.
const SAMPLES: [(&str, bool); 5] = [
    ("can't nod off at night", false),
    ("shoes for jogging", false),
    ("gadgets that count your steps", false),
    ("hospital nurse infected in Texas", false),
    ("Does coffee lower the risk of disease?", true),
];

/// Runs `bowerbird demo`.
pub async fn run(config: Config, args: DemoArgs) -> anyhow::Result<()> {
    let listener = if args.no_serve { None } else { Some(serve::listen(args.listen).await?) };
    let data_dir = match args.data_dir {
        Some(dir) => dir,
        None => default_dir(args.posts)?,
    };
    let stack = prepare(&config, &data_dir, args.posts).await?;
    samples(&stack).await?;
    match listener {
        Some(listener) => serve::serve(stack, listener).await,
        None => Ok(()),
    }
}

fn default_dir(posts: PostCount) -> anyhow::Result<PathBuf> {
    let dirs = directories::BaseDirs::new().context("no home directory: give --data-dir DIR")?;
    let name = match posts {
        PostCount::All => "demo-all".to_owned(),
        PostCount::First(count) => format!("demo-{count}"),
    };
    Ok(dirs.data_local_dir().join("bowerbird").join(name))
}

/// Fetches what is missing, and indexes what is not there yet.
pub async fn prepare(config: &Config, data_dir: &Path, posts: PostCount) -> anyhow::Result<Stack> {
    let begun = Instant::now();
    let mut stack = Stack::open(config, data_dir, Parts::ALL, &Bars::default()).await?;
    stack.demo = true;
    let wanted = match posts {
        PostCount::All => 46_728,
        PostCount::First(count) => count.min(46_728) as u64,
    };
    if stack.live.status().posts < wanted || stack.live.status().vectors_pending > 0 {
        let store = model_store(config)?;
        let entry = Catalog::embedded()?.entry("demo-posts")?.clone();
        let archive = store.ensure(&entry, &Bars::default())?.join("healthtweets.zip");
        let live = stack.live.clone();
        let loaded = tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            let mut posts = corpus::read(&archive)?;
            posts = corpus::spread(posts, wanted as usize);
            let bar = counting("writing posts", posts.len() as u64);
            let mut loaded = Loaded::default();
            for chunk in posts.chunks(1000) {
                write(&live, &mut chunk.to_vec(), &mut loaded)?;
                bar.inc(chunk.len() as u64);
            }
            bar.finish_and_clear();
            finish(&live)?;
            loaded.seconds = begun.elapsed().as_secs_f64();
            anyhow::Ok(loaded)
        })
        .await??;
        println!("indexed {} posts in {:.1} s", loaded.created + loaded.unchanged, loaded.seconds);
    }
    if let Some(ads) = &stack.ads {
        ads.import_json(ADS).await?;
    }
    println!(
        "{} posts, ready after {:.1} s · {} · {} · {} · on {}",
        stack.live.status().posts,
        begun.elapsed().as_secs_f64(),
        stack.models.embedder,
        stack.models.reranker,
        stack.models.generator.as_deref().unwrap_or("no generator"),
        stack.models.used,
    );
    println!(
        "headlines of 2011 to 2015 by news desks; not medical advice. Brands of the ads are invented.\n"
    );
    Ok(stack)
}

async fn samples(stack: &Stack) -> anyhow::Result<()> {
    for (q, question) in SAMPLES {
        println!("── {q}");
        let body = SearchBody { limit: 3, ads: true, ..search::plain(q) };
        let page = flow::search(stack, &body, "demo").await?;
        search::print(&page);
        if question {
            let begun = Instant::now();
            let (answer, _) = ask::ask(stack, q, false).await?;
            println!("  answer, every sentence checked against the posts it cites:");
            ask::print(&answer);
            println!("     {:.1} s", begun.elapsed().as_secs_f64());
        }
        if let Some(ads) = &page.ads {
            print_ads(ads);
        }
        println!();
    }
    Ok(())
}

fn print_ads(ads: &Sponsored) {
    let text = |block: &serde_json::Value, field: &str| block[field].as_str().unwrap_or_default().to_owned();
    for block in &ads.blocks {
        println!(
            "  ┌ Sponsored · {} · paid for by {} ({:.1} ms)",
            text(block, "advertiser"),
            text(block, "paid_by"),
            ads.took_ms
        );
        println!("  │ {} — {}", text(block, "headline"), text(block, "text"));
        println!("  └ {} · {}", text(block, "display_url"), text(block, "why"));
    }
}
