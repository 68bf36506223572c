//! `bowerbird eval retrieval`: quality and latency of every stage, from one run of the real pipeline.
#![expect(clippy::print_stdout, reason = "the output of a command line program")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use bowerbird_posts::{Post, PostId};
use bowerbird_search::{Collapse, Mode, RerankOptions, SearchRequest};
use bytesize::ByteSize;
use jiff::Timestamp;
use serde::Serialize;

use crate::cli::{EvalRetrievalArgs, EvalStage};
use crate::commands::index::{Loaded, finish, write};
use crate::config::Config;
use crate::eval::beir::{Qrels, qrels, rows};
use crate::eval::measure::{Latency, Quality, latency, mean, quality};
use crate::progress::{Bars, counting};
use crate::stack::{Parts, Stack};

/// Hits judged per query.
const DEPTH: usize = 100;

/// The report.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Name of the folder.
    pub dataset: String,
    /// Name of the qrels file.
    pub split: String,
    /// Judged queries.
    pub queries: usize,
    /// Documents indexed.
    pub documents: u64,
    /// Quality by stage.
    pub stages: BTreeMap<&'static str, Quality>,
    /// Latency by stage of the whole pipeline, in milliseconds.
    pub latency_ms: BTreeMap<String, Latency>,
    /// Share of queries where the reranker raised and lowered nDCG@10 of the fused list.
    pub rerank: RerankEffect,
}

/// What the reranker did query by query.
#[derive(Debug, Serialize)]
pub struct RerankEffect {
    /// Share of queries with a higher nDCG@10.
    pub helped: f64,
    /// Share of queries with a lower nDCG@10.
    pub hurt: f64,
}

/// Runs `bowerbird eval retrieval`.
pub async fn run(config: &Config, args: EvalRetrievalArgs) -> anyhow::Result<()> {
    let judged = qrels(&args.dataset, &args.split)?;
    let mut config = config.clone();
    // A cache would measure itself: every query must be encoded, every pair scored.
    config.models.query_cache = ByteSize(0);
    config.models.score_cache = ByteSize(0);
    let temporary = tempfile::tempdir().context("temporary directory for the index")?;
    let dir = args.index_dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    let stack = Stack::open(&config, &dir, Parts::SEARCH, &Bars::default()).await?;
    index(&stack, &args.dataset).await?;
    let report = measure(&stack, &args, &judged).await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

/// Loads the corpus; a kept index that has it all is left as it is.
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

async fn measure(stack: &Stack, args: &EvalRetrievalArgs, judged: &Qrels) -> anyhow::Result<Report> {
    let texts: BTreeMap<String, String> =
        rows(&args.dataset.join("queries.jsonl"))?.collect::<anyhow::Result<_>>()?;
    let judged: Vec<_> = judged.iter().take(args.queries.unwrap_or(usize::MAX)).collect();
    let mut run_file = match &args.run_file {
        Some(path) => {
            let file =
                std::fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
            Some(std::io::BufWriter::new(file))
        }
        None => None,
    };
    let bar = counting("answering queries", judged.len() as u64);
    let mut all: BTreeMap<&'static str, Vec<Quality>> = BTreeMap::new();
    let mut times: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (id, grades) in &judged {
        let text = texts.get(*id).with_context(|| format!("queries.jsonl has no query {id}"))?;
        for (stage, name, request) in stages(stack, text) {
            let page = stack.engine.search(&request).await?;
            let ranking: Vec<String> = page.hits.iter().map(|hit| hit.post.id.to_string()).collect();
            all.entry(name).or_default().push(quality(&ranking, grades));
            if stage == EvalStage::Reranked {
                anyhow::ensure!(
                    page.degraded.is_empty(),
                    "query {id}: a stage was skipped: {:?}",
                    page.degraded
                );
                for (stage, time) in &page.stages {
                    times.entry(stage.name().to_owned()).or_default().push(time.as_secs_f64() * 1e3);
                }
                times.entry("total".into()).or_default().push(page.took.as_secs_f64() * 1e3);
            }
            if let Some(out) = run_file.as_mut().filter(|_| stage == args.run_stage) {
                for hit in &page.hits {
                    writeln!(out, "{id} Q0 {} {} {} bowerbird", hit.post.id, hit.rank, hit.scores.r#final)?;
                }
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if let Some(mut out) = run_file {
        out.flush()?;
    }
    let pairs = || all["fused"].iter().zip(&all["reranked"]);
    let share = |count: usize| count as f64 / judged.len() as f64;
    Ok(Report {
        dataset: args
            .dataset
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        split: args.split.clone(),
        queries: judged.len(),
        documents: stack.live.status().posts,
        rerank: RerankEffect {
            helped: share(
                pairs().filter(|(fused, reranked)| reranked.ndcg_10 > fused.ndcg_10 + 1e-9).count(),
            ),
            hurt: share(pairs().filter(|(fused, reranked)| reranked.ndcg_10 < fused.ndcg_10 - 1e-9).count()),
        },
        stages: all.into_iter().map(|(name, qualities)| (name, mean(&qualities))).collect(),
        latency_ms: times.into_iter().map(|(stage, ms)| (stage, latency(ms))).collect(),
    })
}

/// The request that ends after each stage. The cross-encoder has all the time it needs.
fn stages(stack: &Stack, text: &str) -> [(EvalStage, &'static str, SearchRequest); 4] {
    let rerank = RerankOptions { budget: None, ..stack.engine.config().rerank };
    let off = RerankOptions { depth: 0, ..rerank };
    let request = |mode, rerank| SearchRequest {
        plain: true,
        limit: DEPTH,
        mode,
        // Judges graded near-duplicates each by itself.
        collapse: Some(Collapse::None),
        rerank: Some(rerank),
        timeout: Some(std::time::Duration::from_mins(10)),
        ..SearchRequest::new(text)
    };
    [
        (EvalStage::Lexical, "lexical", request(Mode::Lexical, off)),
        (EvalStage::Vector, "vector", request(Mode::Vector, off)),
        (EvalStage::Fused, "fused", request(Mode::Hybrid, off)),
        (EvalStage::Reranked, "reranked", request(Mode::Hybrid, rerank)),
    ]
}

fn print(report: &Report) {
    println!(
        "{} · {} · {} documents, {} queries",
        report.dataset, report.split, report.documents, report.queries
    );
    println!("{:<10} {:>8} {:>8} {:>8}", "stage", "nDCG@10", "MRR@10", "R@100");
    for stage in ["lexical", "vector", "fused", "reranked"] {
        let quality = report.stages[stage];
        println!("{stage:<10} {:>8.4} {:>8.4} {:>8.4}", quality.ndcg_10, quality.mrr_10, quality.recall_100);
    }
    let effect = &report.rerank;
    println!("rerank helped {:.1} % of queries, hurt {:.1} %", effect.helped * 100.0, effect.hurt * 100.0);
    println!("{:<10} {:>8} {:>8} {:>8}", "ms", "p50", "p95", "p99");
    for (stage, latency) in &report.latency_ms {
        println!("{stage:<10} {:>8.2} {:>8.2} {:>8.2}", latency.p50, latency.p95, latency.p99);
    }
}
