//! A judged set as an index that can be searched.

use std::path::Path;

use bowerbird_posts::{Post, PostId};
use bowerbird_search::{Collapse, Mode, RerankOptions, SearchRequest};
use bytesize::ByteSize;
use jiff::Timestamp;

use crate::commands::index::{Loaded, finish, write};
use crate::config::Config;
use crate::eval::beir::rows;
use crate::progress::{Bars, counting};
use crate::stack::{Parts, Stack};

/// Hits judged per query.
pub const DEPTH: usize = 100;

/// Opens an index of `dataset` in `dir`; one that is kept there and has it all is left as it is.
///
/// Query vectors are not remembered, so that every search is timed with its encoding.
pub async fn open(config: &Config, dataset: &Path, dir: &Path) -> anyhow::Result<Stack> {
    let mut config = config.clone();
    config.models.query_cache = ByteSize(0);
    let stack = Stack::open(&config, dir, Parts::SEARCH, &Bars::default()).await?;
    index(&stack, dataset).await?;
    Ok(stack)
}

/// Name of a data set: that of its folder.
pub fn name_of(dataset: &Path) -> String {
    let name = dataset.canonicalize().ok().and_then(|path| {
        // `.../gembench/beir` is gembench.
        let named = if path.ends_with("beir") { path.parent()?.to_owned() } else { path };
        Some(named.file_name()?.to_string_lossy().into_owned())
    });
    name.unwrap_or_default()
}

/// The request of a judged query up to one stage, with all the time it needs.
pub fn request(text: &str, mode: Mode, rerank: RerankOptions) -> SearchRequest {
    SearchRequest {
        plain: true,
        limit: DEPTH,
        mode,
        // Judges graded near-duplicates each by itself.
        collapse: Some(Collapse::None),
        rerank: Some(RerankOptions { budget: None, ..rerank }),
        timeout: Some(std::time::Duration::from_mins(10)),
        ..SearchRequest::new(text)
    }
}

async fn index(stack: &Stack, dataset: &Path) -> anyhow::Result<()> {
    let live = stack.live.clone();
    let corpus = dataset.join("corpus.jsonl");
    tokio::task::spawn_blocking(move || {
        let total = rows(&corpus)?.count() as u64;
        let bar = counting("writing documents", total);
        let mut loaded = Loaded::default();
        let mut batch = Vec::with_capacity(500);
        for row in rows(&corpus)? {
            let (id, text) = row?;
            // A document without text cannot be found; judged sets hold a few.
            if !text.is_empty() {
                let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
                let post = Post::new(PostId::new(id)?, text, "", Timestamp::UNIX_EPOCH);
                batch.push(Post { lang: Some("en".into()), ..post }.validated()?);
            }
            if batch.len() == 500 {
                write(&live, &mut batch, &mut loaded)?;
                bar.inc(500);
            }
        }
        write(&live, &mut batch, &mut loaded)?;
        bar.finish_and_clear();
        finish(&live)
    })
    .await?
}
