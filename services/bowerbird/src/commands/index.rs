//! `bowerbird index`

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, anyhow, bail};
use bowerbird_live::Live;
use bowerbird_parts::PartReader;
use bowerbird_posts::{Op, Outcome, Post, ReadError, read_jsonl};
use indicatif::ProgressBar;

use crate::cli::IndexArgs;
use crate::config::Config;
use crate::progress::{Bars, counting};
use crate::stack::{Parts, Stack};

/// Posts written together.
const BATCH: usize = 1000;
/// Refused lines and rows that are told one by one.
const TOLD: usize = 10;

/// What a bulk load did.
#[derive(Debug, Default, serde::Serialize)]
pub struct Loaded {
    /// New posts.
    pub created: u64,
    /// Posts whose text or counts changed.
    pub changed: u64,
    /// Posts that were there already.
    pub unchanged: u64,
    /// Lines or rows refused.
    pub refused: u64,
    /// Why, for the first ten.
    pub problems: Vec<String>,
    /// Seconds until every post was found by word and meaning.
    pub seconds: f64,
}

/// Runs `bowerbird index`.
pub async fn run(config: &Config, args: IndexArgs) -> anyhow::Result<()> {
    for file in &args.files {
        std::fs::File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    }
    let stack = Stack::open(config, &args.data_dir, Parts::SEARCH, &Bars::default()).await?;
    let live = stack.live.clone();
    let files = args.files;
    let loaded = tokio::task::spawn_blocking(move || {
        let mut all = Loaded::default();
        let begun = Instant::now();
        for file in &files {
            load(&live, file, &mut all)?;
        }
        finish(&live)?;
        all.seconds = begun.elapsed().as_secs_f64();
        anyhow::Ok(all)
    })
    .await??;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&loaded)?);
    } else {
        println!(
            "{} new, {} changed, {} unchanged, {} refused in {:.1} s",
            loaded.created, loaded.changed, loaded.unchanged, loaded.refused, loaded.seconds
        );
    }
    if loaded.refused > 0 {
        let told = loaded.problems.join("\n  ");
        bail!("{} posts were refused; every other post is in. The first:\n  {told}", loaded.refused);
    }
    Ok(())
}

fn load(live: &Live, file: &Path, loaded: &mut Loaded) -> anyhow::Result<()> {
    let bar = counting(&file.display().to_string(), 0);
    let mut batch = Vec::with_capacity(BATCH);
    for post in posts_of(file)? {
        match post {
            Ok(post) => batch.push(post),
            Err(Unread::File(error)) => return Err(error),
            Err(Unread::Post(problem)) => {
                loaded.refused += 1;
                if loaded.problems.len() < TOLD {
                    loaded.problems.push(problem);
                }
            }
        }
        if batch.len() == BATCH {
            write(live, &mut batch, loaded)?;
            bar.inc(BATCH as u64);
        }
    }
    write(live, &mut batch, loaded)?;
    bar.finish_and_clear();
    Ok(())
}

/// What could not be read.
enum Unread {
    /// One post; the next can be read.
    Post(String),
    /// The rest of the file.
    File(anyhow::Error),
}

/// The posts of a file, whose name says how it is written.
fn posts_of(file: &Path) -> anyhow::Result<Box<dyn Iterator<Item = Result<Post, Unread>>>> {
    if file.extension().is_some_and(|end| end.eq_ignore_ascii_case("parquet")) {
        return Ok(Box::new(PartReader::open(file)?.map(|row| match row {
            Ok(row) => Ok(row.post),
            Err(error) if error.is_row() => Err(Unread::Post(error.to_string())),
            Err(error) => Err(Unread::File(error.into())),
        })));
    }
    let lines = read_jsonl(file).map_err(|error| match error {
        ReadError::UnknownFormat { path } => anyhow!(
            "{}: expected a name that ends in .jsonl, .ndjson, .jsonl.gz, .ndjson.gz or .parquet: rename or convert \
             the file",
            path.display()
        ),
        error => error.into(),
    })?;
    Ok(Box::new(lines.map(|line| match line {
        Ok(post) => Ok(post),
        Err(error @ ReadError::Broken { .. }) => Err(Unread::File(error.into())),
        Err(error) => Err(Unread::Post(error.to_string())),
    })))
}

/// Writes `batch` durably and empties it.
pub fn write(live: &Live, batch: &mut Vec<Post>, loaded: &mut Loaded) -> anyhow::Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    let ops = batch.drain(..).map(|post| Op::Upsert(Box::new(post))).collect();
    for outcome in live.write_blocking(ops)? {
        match outcome {
            Outcome::Created { .. } => loaded.created += 1,
            Outcome::Replaced { .. } | Outcome::CountsChanged { .. } => loaded.changed += 1,
            Outcome::Unchanged { .. } => loaded.unchanged += 1,
            Outcome::Deleted { .. } | Outcome::NotFound => {}
        }
    }
    Ok(())
}

/// Waits, with a bar, until every post is found by word and by meaning.
pub fn finish(live: &Live) -> anyhow::Result<()> {
    let pending = live.status().vectors_pending;
    let bar: ProgressBar = counting("embedding posts", pending);
    std::thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let shown = bar.clone();
        scope.spawn(move || {
            while stopped.recv_timeout(std::time::Duration::from_millis(200))
                == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                shown.set_position(pending.saturating_sub(live.status().vectors_pending));
            }
        });
        let flushed = live.flush();
        drop(stop);
        flushed
    })?;
    bar.finish_and_clear();
    Ok(())
}
