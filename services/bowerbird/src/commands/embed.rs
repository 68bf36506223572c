//! `bowerbird embed`

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, bail};
use bowerbird_models_api::{ModelError, TextRole};
use bowerbird_parts::{PartReader, PartWriter, VectorSpec, file_sha256};
use bowerbird_posts::Post;
use bowerbird_scheduler::{Encoders, Priority, SchedulerError};

use crate::cli::EmbedArgs;
use crate::config::Config;
use crate::progress::{Bars, counting};
use crate::stack::{self, load_models};
use crate::usage::{peak_memory_bytes, rate};

/// Posts embedded between two looks at the part.
const BATCH: usize = 512;

/// What was done.
#[derive(Debug, Default, serde::Serialize)]
struct Embedded {
    posts: u64,
    /// Posts whose text the model refuses: they have no vector.
    refused: u64,
    /// Whether the part was there already, whole, of these posts and of this model.
    kept: bool,
    space: String,
    dim: usize,
    threads: usize,
    /// Without loading the model.
    seconds: f64,
    posts_per_second: f64,
    load_seconds: f64,
    bytes: u64,
    peak_memory_bytes: Option<u64>,
}

/// Runs `bowerbird embed`.
pub fn run(mut config: Config, args: EmbedArgs) -> anyhow::Result<()> {
    let same = std::fs::canonicalize(&args.input).ok();
    if same.is_some() && same == std::fs::canonicalize(&args.out).ok() {
        bail!("--in and --out are the same file: write to another one");
    }
    let source = file_sha256(&args.input)?;
    let reader = PartReader::open(&args.input)?;
    if let Some(name) = args.embedder {
        config.models.embedder = name;
    }
    if let Some(threads) = args.threads {
        config.models.workers = usize::from(threads);
    }
    let begun = Instant::now();
    let encoders = load_models(&config, stack::Parts::SEARCH, &Bars::default())?.encoders;
    let load_seconds = begun.elapsed().as_secs_f64();
    let (space, dim) = (encoders.space().fingerprint(), encoders.space().dim);
    let spec = VectorSpec { space, dim, source };

    let begun = Instant::now();
    let mut done = match kept(&args.out, &spec, reader.info().rows) {
        Some(kept) => kept,
        None => embed(reader, &args.out, &spec, &encoders)?,
    };
    done.seconds = begun.elapsed().as_secs_f64();
    done.posts_per_second = rate(if done.kept { 0 } else { done.posts }, done.seconds);
    done.load_seconds = load_seconds;
    done.threads = config.models.worker_threads();
    done.peak_memory_bytes = peak_memory_bytes();
    (done.space, done.dim) = (spec.space, dim);
    if args.json {
        println!("{}", serde_json::to_string(&done)?);
    } else if done.kept {
        println!("{} is there already, whole, of these {} posts", args.out.display(), done.posts);
    } else {
        println!(
            "{} posts in {:.1} s, {:.1} posts/s; {} without a vector",
            done.posts, done.seconds, done.posts_per_second, done.refused
        );
    }
    Ok(())
}

/// A part that an earlier try left whole: of the same posts and of the same space, its bytes as they were written.
fn kept(out: &Path, spec: &VectorSpec, rows: u64) -> Option<Embedded> {
    let found = PartReader::open(out).ok()?;
    let info = found.info();
    if info.vectors.as_ref() != Some(spec) || info.rows != rows {
        return None;
    }
    let bytes = info.bytes;
    let mut kept = Embedded { posts: rows, kept: true, bytes, ..Embedded::default() };
    for row in found {
        kept.refused += u64::from(row.ok()?.vector.is_none());
    }
    Some(kept)
}

fn embed(
    mut reader: PartReader,
    out: &Path,
    spec: &VectorSpec,
    encoders: &Encoders,
) -> anyhow::Result<Embedded> {
    let mut writer = PartWriter::vectors(out, spec)?;
    let bar = counting("embedding posts", reader.info().rows);
    let mut done = Embedded::default();
    loop {
        let posts = reader.by_ref().take(BATCH).map(|row| row.map(|row| row.post));
        let posts: Vec<Post> = posts.collect::<Result<_, _>>()?;
        if posts.is_empty() {
            break;
        }
        let texts: Vec<String> = posts.iter().map(|post| post.text.clone()).collect();
        let vectors = encoders.embed_each_blocking(&texts, TextRole::Passage, Priority::Bulk);
        for (post, vector) in posts.iter().zip(vectors) {
            let vector = match vector {
                Ok(vector) => Some(vector),
                Err(SchedulerError::Model(ModelError::EmptyText | ModelError::TextTooLong { .. })) => None,
                Err(error) => return Err(error).with_context(|| format!("cannot embed post {}", post.id)),
            };
            done.refused += u64::from(vector.is_none());
            writer.push(post, vector.as_ref().map(bowerbird_models_api::Embedding::as_slice))?;
        }
        bar.inc(posts.len() as u64);
    }
    bar.finish_and_clear();
    let written = writer.finish()?;
    (done.posts, done.bytes) = (written.rows, written.bytes);
    Ok(done)
}
