//! `bowerbird build`

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use bowerbird_live::{BulkReport, WithVector, bulk_build};
use bowerbird_parts::{PartError, PartReader, VectorSpec, part_files, part_info};

use crate::cli::BuildArgs;
use crate::config::Config;
use crate::progress::counting;
use crate::usage::{peak_memory_bytes, rate};

/// What was built.
#[derive(Debug, serde::Serialize)]
struct Built {
    parts: usize,
    /// Posts read.
    read: u64,
    /// Posts in the directory.
    posts: u64,
    duplicates: u64,
    without_vector: u64,
    sealed_points: u64,
    space: String,
    seconds: f64,
    /// Posts read a second.
    posts_per_second: f64,
    bytes: u64,
    peak_memory_bytes: Option<u64>,
}

/// Runs `bowerbird build`.
pub fn run(config: &Config, args: &BuildArgs) -> anyhow::Result<()> {
    let begun = Instant::now();
    let files = part_files(&args.parts)?;
    if files.is_empty() {
        bail!("{} holds no .parquet files: make them with `bowerbird embed`", args.parts.display());
    }
    let (spec, rows) = one_space(&files)?;
    let bar = counting("building", rows);
    let expected = spec.space.clone();
    let posts = files.iter().flat_map(|file| rows_of(file.clone(), &expected));
    let mut progress = |read| bar.set_position(read);
    let report = bulk_build(&args.data_dir, &spec.space, spec.dim, &config.index, posts, &mut progress)?;
    bar.finish_and_clear();
    let BulkReport { read, posts, duplicates, without_vector, sealed_points, bytes } = report;
    let seconds = begun.elapsed().as_secs_f64();
    let built = Built {
        parts: files.len(),
        read,
        posts,
        duplicates,
        without_vector,
        sealed_points,
        space: spec.space,
        seconds,
        posts_per_second: rate(read, seconds),
        bytes,
        peak_memory_bytes: peak_memory_bytes(),
    };
    if args.json {
        println!("{}", serde_json::to_string(&built)?);
    } else {
        println!(
            "{posts} posts from {} parts in {seconds:.1} s, {:.0} posts/s, {bytes} bytes; {duplicates} read again \
             later, {without_vector} without a vector",
            built.parts, built.posts_per_second
        );
    }
    Ok(())
}

/// What all vectors are, and how many rows there are; read before anything is written.
fn one_space(files: &[PathBuf]) -> anyhow::Result<(VectorSpec, u64)> {
    let mut spec: Option<VectorSpec> = None;
    let mut rows = 0;
    for file in files {
        let info = part_info(file)?;
        rows += info.rows;
        match &spec {
            None => {
                let vectors = info.vectors.ok_or_else(|| PartError::NoVectors { path: file.clone() })?;
                spec = Some(vectors);
            }
            Some(first) => {
                let found = info.expect_space(file, &first.space)?;
                if found.dim != first.dim {
                    bail!("{}: vectors of {} components, expected {}", file.display(), found.dim, first.dim);
                }
            }
        }
    }
    spec.map(|spec| (spec, rows)).context("no parts")
}

type Row = Result<WithVector, Box<dyn Error + Send + Sync>>;

/// The rows of a part; one error when it cannot be opened.
fn rows_of(file: PathBuf, space: &str) -> Box<dyn Iterator<Item = Row>> {
    match PartReader::open_vectors(&file, space) {
        Ok(reader) => Box::new(reader.map(|row| {
            let row = row?;
            Ok((row.post, row.vector))
        })),
        Err(error) => Box::new(std::iter::once(Err(error.into()))),
    }
}
