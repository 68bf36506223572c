//! `bowerbird eval retrieval`: quality and latency of every stage, from one run of the real pipeline.
#![expect(clippy::print_stdout, reason = "the output of a command line program")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};

use anyhow::Context;
use bowerbird_search::{Mode, RerankOptions, ResultPage};
use serde::Serialize;

use crate::cli::{EvalRetrievalArgs, EvalStage};
use crate::config::Config;
use crate::eval::ads::{Separation, separation};
use crate::eval::beir::{Qrels, qrels, rows};
use crate::eval::load::{name_of, open, request};
use crate::eval::measure::{Latency, Quality, latency, mean, quality};
use crate::progress::counting;
use crate::stack::Stack;

/// Rows of the table: name in JSON, and as printed.
const STAGES: [(&str, &str); 6] = [
    ("lexical", "lexical"),
    ("vector", "vector"),
    ("fused", "fused"),
    ("reranked_alone", "reranked alone"),
    ("reranked", "blended"),
    ("gated", "gated"),
];

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
    /// Quality by stage. `reranked` has the cross-encoder blended in for every query, `reranked_alone` has the same
    /// head in the order of the cross-encoder, `gated` is the pipeline as configured.
    pub stages: BTreeMap<&'static str, Quality>,
    /// Latency by stage of the whole pipeline as configured, in milliseconds.
    pub latency_ms: BTreeMap<String, Latency>,
    /// What blending for every query did to nDCG@10 of the fused list.
    pub rerank: RerankEffect,
    /// What the gate did to it.
    pub gate: RerankEffect,
    /// Profile of the gate; `null` when there is none.
    pub profile: Option<String>,
    /// Scores of relevant documents against those of random ones, with `--ads`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ads: Option<BTreeMap<&'static str, Separation>>,
    /// Query by query.
    pub per_query: Vec<QueryRow>,
}

/// What the cross-encoder did query by query.
#[derive(Debug, Serialize)]
pub struct RerankEffect {
    /// Share of queries with a higher nDCG@10.
    pub helped: f64,
    /// Share of queries with a lower nDCG@10.
    pub hurt: f64,
    /// Share of queries that were read.
    pub read: f64,
    /// Candidates read, in the mean.
    pub depth: f64,
}

/// nDCG@10 of one query, and what the gate decided.
#[derive(Debug, Serialize)]
pub struct QueryRow {
    /// The query.
    pub id: String,
    /// Of the fused list.
    pub fused: f64,
    /// With the cross-encoder blended in.
    pub reranked: f64,
    /// As the gate decided.
    pub gated: f64,
    /// Candidates read.
    pub depth: usize,
    /// Why.
    pub reason: &'static str,
}

/// Runs `bowerbird eval retrieval`.
pub async fn run(config: &Config, args: EvalRetrievalArgs) -> anyhow::Result<()> {
    let judged = qrels(&args.dataset, &args.split)?;
    let temporary = tempfile::tempdir().context("temporary directory for the index")?;
    let dir = args.index_dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    let stack = open(config, &args.dataset, &dir).await?;
    let mut report = measure(&stack, &args, &judged).await?;
    if args.ads {
        report.ads = Some(separation(&stack, &args.dataset, &judged).await?);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

async fn measure(stack: &Stack, args: &EvalRetrievalArgs, judged: &Qrels) -> anyhow::Result<Report> {
    let texts: BTreeMap<String, String> =
        rows(&args.dataset.join("queries.jsonl"))?.collect::<anyhow::Result<_>>()?;
    let judged: Vec<_> = judged.iter().take(args.queries.unwrap_or(usize::MAX)).collect();
    let mut run_file = match &args.run_file {
        Some(path) => {
            let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
            Some(BufWriter::new(file))
        }
        None => None,
    };
    let bar = counting("answering queries", judged.len() as u64);
    let mut all: BTreeMap<&'static str, Vec<Quality>> = BTreeMap::new();
    let mut times: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut per_query = Vec::with_capacity(judged.len());
    let (mut read, mut profile) = (Vec::new(), None);
    let gated = stack.engine.config().rerank;
    let off = RerankOptions { depth: 0, ..gated };
    // The gated search comes first and is the one that is timed: no pair of the query was scored before. The pairs
    // that it scored are remembered, so that each costs its time once.
    let searches = [
        (EvalStage::Lexical, "lexical", Mode::Lexical, off),
        (EvalStage::Vector, "vector", Mode::Vector, off),
        (EvalStage::Fused, "fused", Mode::Hybrid, off),
        (EvalStage::Gated, "gated", Mode::Hybrid, gated),
        (EvalStage::Reranked, "reranked", Mode::Hybrid, RerankOptions { gated: false, ..gated }),
    ];
    for (id, grades) in &judged {
        let text = texts.get(*id).with_context(|| format!("queries.jsonl has no query {id}"))?;
        let mut row = BTreeMap::new();
        let (mut depth, mut reason) = (0, "off");
        for (stage, name, mode, rerank) in searches {
            let mut request = request(text, mode, rerank);
            request.explain = stage == EvalStage::Gated;
            let page = stack.engine.search(&request).await?;
            anyhow::ensure!(page.degraded.is_empty(), "query {id}: a stage was skipped: {:?}", page.degraded);
            row.insert(name, quality(&ids(&page), grades));
            match stage {
                EvalStage::Gated => {
                    let gating = page.explanation.as_ref().map(|explanation| &explanation.gating);
                    let gating = gating.context("the page was not explained")?;
                    (depth, reason) = (gating.depth, gating.reason.name());
                    profile.clone_from(&gating.gate);
                    for (stage, time) in &page.stages {
                        times.entry(stage.name().to_owned()).or_default().push(time.as_secs_f64() * 1e3);
                    }
                    times.entry("total".into()).or_default().push(page.took.as_secs_f64() * 1e3);
                }
                EvalStage::Reranked => {
                    read.push(page.hits.iter().filter(|hit| hit.scores.rerank.is_some()).count());
                    row.insert("reranked_alone", quality(&alone(&page), grades));
                }
                EvalStage::Lexical | EvalStage::Vector | EvalStage::Fused => {}
            }
            if let Some(out) = run_file.as_mut().filter(|_| stage == args.run_stage) {
                for hit in &page.hits {
                    writeln!(out, "{id} Q0 {} {} {} bowerbird", hit.post.id, hit.rank, hit.scores.r#final)?;
                }
            }
        }
        per_query.push(QueryRow {
            id: (*id).clone(),
            fused: row["fused"].ndcg_10,
            reranked: row["reranked"].ndcg_10,
            gated: row["gated"].ndcg_10,
            depth,
            reason,
        });
        for (name, quality) in row {
            all.entry(name).or_default().push(quality);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if let Some(mut out) = run_file {
        out.flush()?;
    }
    let spent: Vec<usize> = per_query.iter().map(|row| row.depth).collect();
    Ok(Report {
        dataset: name_of(&args.dataset),
        split: args.split.clone(),
        queries: judged.len(),
        documents: stack.live.status().posts,
        rerank: effect(&all["fused"], &all["reranked"], &read),
        gate: effect(&all["fused"], &all["gated"], &spent),
        profile,
        ads: None,
        stages: all.into_iter().map(|(name, qualities)| (name, mean(&qualities))).collect(),
        latency_ms: times.into_iter().map(|(stage, ms)| (stage, latency(ms))).collect(),
        per_query,
    })
}

fn ids(page: &ResultPage) -> Vec<String> {
    page.hits.iter().map(|hit| hit.post.id.to_string()).collect()
}

/// The head of a page in the order of the cross-encoder, then the rest as it is.
fn alone(page: &ResultPage) -> Vec<String> {
    let logit = |at: &usize| page.hits[*at].scores.rerank.unwrap_or(f32::NEG_INFINITY);
    let mut order: Vec<usize> = (0..page.hits.len()).collect();
    order.sort_by(|a, b| logit(b).total_cmp(&logit(a)).then(a.cmp(b)));
    order.into_iter().map(|at| page.hits[at].post.id.to_string()).collect()
}

fn effect(fused: &[Quality], other: &[Quality], depths: &[usize]) -> RerankEffect {
    let n = fused.len().max(1) as f64;
    let share = |counts: &dyn Fn(f64) -> bool| {
        fused.iter().zip(other).filter(|(f, o)| counts(o.ndcg_10 - f.ndcg_10)).count() as f64 / n
    };
    RerankEffect {
        helped: share(&|gain| gain > 1e-9),
        hurt: share(&|gain| gain < -1e-9),
        read: depths.iter().filter(|depth| **depth > 0).count() as f64 / n,
        depth: depths.iter().sum::<usize>() as f64 / n,
    }
}

fn print(report: &Report) {
    println!(
        "{} · {} · {} documents, {} queries · gate {}",
        report.dataset,
        report.split,
        report.documents,
        report.queries,
        report.profile.as_deref().unwrap_or("none")
    );
    println!("{:<14} {:>8} {:>8} {:>8}", "stage", "nDCG@10", "MRR@10", "R@100");
    for (stage, name) in STAGES {
        let quality = report.stages[stage];
        println!("{name:<14} {:>8.4} {:>8.4} {:>8.4}", quality.ndcg_10, quality.mrr_10, quality.recall_100);
    }
    for (name, effect) in [("blending", &report.rerank), ("the gate", &report.gate)] {
        println!(
            "{name} helped {:.1} % of queries, hurt {:.1} %; read {:.1} %, {:.1} candidates in the mean",
            effect.helped * 100.0,
            effect.hurt * 100.0,
            effect.read * 100.0,
            effect.depth
        );
    }
    if let Some(ads) = &report.ads {
        println!("{:<14} {:>8} {:>8}", "against random", "AUC", "P@R.95");
        for (name, figures) in ads {
            println!("{name:<14} {:>8.4} {:>8.4}", figures.auc, figures.precision);
        }
    }
    println!("{:<10} {:>8} {:>8} {:>8}", "ms", "p50", "p95", "p99");
    for (stage, latency) in &report.latency_ms {
        println!("{stage:<10} {:>8.2} {:>8.2} {:>8.2}", latency.p50, latency.p95, latency.p99);
    }
}
