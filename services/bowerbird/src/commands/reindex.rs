//! `bowerbird reindex`: a rebuild of a data directory that no server has open.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use bowerbird_live::LiveError;
use bowerbird_reindex::{CutOver, Phase, Plan, Rebuild, Require, ShadowQuery, State};
use indicatif::ProgressBar;

use crate::cli::{ReindexArgs, ReindexCommand};
use crate::config::Config;
use crate::eval::beir;
use crate::progress::{Bars, counting};
use crate::stack::{Parts, Stack};
use crate::wire::reindex::{GenerationPage, TaskInfo};

/// How often the bar moves.
const TICK: Duration = Duration::from_millis(200);

/// Runs `bowerbird reindex`.
pub async fn run(config: &Config, args: ReindexArgs) -> anyhow::Result<()> {
    let dir = &args.data_dir;
    std::fs::metadata(dir).with_context(|| {
        format!("data directory {}: load posts into it with `bowerbird index` first", dir.display())
    })?;
    let queries = shadow_queries(&args)?;
    let opened = Stack::open(config, dir, Parts::SEARCH, &Bars::default()).await;
    let stack = opened.map_err(|error| match error.downcast_ref::<LiveError>() {
        Some(LiveError::Locked { .. }) => error.context("a server is using it: call its `POST /v1/reindex`"),
        _ => error,
    })?;
    match args.what {
        None => rebuild(&stack, &args, queries).await,
        Some(ReindexCommand::Rollback) => {
            let reindexer = stack.reindexer.clone();
            let generation = tokio::task::spawn_blocking(move || reindexer.rollback()).await??;
            let live = stack.live.clone();
            tokio::task::spawn_blocking(move || super::index::finish(&live)).await??;
            say(
                args.json,
                &serde_json::json!({ "generation": generation }),
                &format!("generation {generation} serves"),
            )
        }
        Some(ReindexCommand::Prune) => {
            let reindexer = stack.reindexer.clone();
            let bytes = tokio::task::spawn_blocking(move || reindexer.prune()).await??;
            say(args.json, &serde_json::json!({ "bytes": bytes }), &format!("{bytes} bytes freed"))
        }
        Some(ReindexCommand::Cancel) => {
            let open = stack.reindexer.list()?.into_iter().rfind(|rebuild| !rebuild.plan.state.has_served());
            let id = open.context("there is no rebuild to cancel")?.plan.id();
            let (reindexer, doomed) = (stack.reindexer.clone(), id.clone());
            tokio::task::spawn_blocking(move || reindexer.cancel(&doomed)).await??;
            say(args.json, &serde_json::json!({ "cancelled": id }), &format!("{id} is cancelled"))
        }
        Some(ReindexCommand::Status) => {
            let tasks: Vec<TaskInfo> = stack.reindexer.list()?.into_iter().map(Into::into).collect();
            let generations: Vec<GenerationPage> =
                stack.reindexer.generations()?.into_iter().map(Into::into).collect();
            let mut lines = Vec::new();
            for g in &generations {
                let (number, bytes) = (g.generation, g.bytes);
                let space = g.space.as_deref().unwrap_or("no vectors yet");
                let serves = if g.current { "serves" } else { "" };
                lines.push(format!("generation {number}  {serves:6}  {bytes:>12} bytes  {space}"));
            }
            for task in &tasks {
                lines.push(format!("{}  {}  {}", task.id, task.state, task.reasons.join("; ")));
            }
            say(
                args.json,
                &serde_json::json!({ "generations": generations, "tasks": tasks }),
                &lines.join("\n"),
            )
        }
    }
}

async fn rebuild(stack: &Stack, args: &ReindexArgs, queries: Vec<ShadowQuery>) -> anyhow::Result<()> {
    let mut plan = Plan::new(args.embedder.clone().unwrap_or_else(|| stack.index_embedder()));
    plan.analyzer = args.analyzer.map(Into::into).unwrap_or_default();
    plan.vector = vector_settings(stack, args)?;
    plan.require = requirements(&args.require)?;
    plan.cut_over = CutOver::Auto;
    plan.queries = queries;
    plan.vectors = args.parts.as_deref().map(std::path::absolute).transpose()?;
    let reindexer = stack.reindexer.clone();
    let id = tokio::task::spawn_blocking(move || reindexer.start(plan)).await??;
    let bar = counting("embedding posts", stack.live.status().posts);
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::pin!(interrupted);
    let ended = loop {
        let now = stack.reindexer.status(&id)?;
        show(&bar, &now);
        if now.progress.phase == Phase::Ended {
            break now;
        }
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            () = &mut interrupted => {
                bar.finish_and_clear();
                bail!("stopped; run the same command again to go on, or `bowerbird reindex cancel`");
            }
        }
    };
    bar.finish_and_clear();
    let task = TaskInfo::from(ended);
    let told = match &task.comparison {
        Some(found) => format!(
            "{} {}: {} posts in {} shards agree with the post store; overlap@10 {:.3} over {} queries; p50 {:.1} → \
             {:.1} ms, p99 {:.1} → {:.1} ms",
            task.id,
            task.state,
            found.posts,
            found.shards,
            found.overlap_at_10,
            found.queries,
            found.old.p50_ms,
            found.new.p50_ms,
            found.old.p99_ms,
            found.new.p99_ms
        ),
        None => format!("{} {}", task.id, task.state),
    };
    if task.state != State::Done.name() {
        if args.json {
            println!("{}", serde_json::to_string_pretty(&task)?);
        }
        bail!("{told}: {}", task.reasons.join("; "));
    }
    let live = stack.live.clone();
    tokio::task::spawn_blocking(move || super::index::finish(&live)).await??;
    say(args.json, &task, &told)
}

fn show(bar: &ProgressBar, now: &Rebuild) {
    let progress = &now.progress;
    bar.set_length(progress.posts);
    bar.set_position(progress.posts.saturating_sub(progress.vectors_left));
    bar.set_message(match progress.phase {
        Phase::Opening => "opening",
        Phase::Reading => "taking vectors from part files",
        Phase::Adding => "embedding posts",
        Phase::Sealing => "building the vector graph",
        Phase::Comparing => "comparing the generations",
        Phase::Level | Phase::Ended => "taking over",
    });
}

/// Queries of `--queries FILE` (one a line) or of `--judged DIR` (a BEIR folder whose documents are posts).
fn shadow_queries(args: &ReindexArgs) -> anyhow::Result<Vec<ShadowQuery>> {
    if let Some(dir) = &args.judged {
        let qrels = beir::qrels(dir, "test")?;
        let mut queries = Vec::new();
        for row in beir::rows(&dir.join("queries.jsonl"))? {
            let (id, q) = row?;
            if let Some(relevant) = qrels.get(&id) {
                queries.push(ShadowQuery { q, relevant: relevant.clone() });
            }
        }
        return Ok(queries);
    }
    let Some(file) = &args.queries else { return Ok(Vec::new()) };
    lines(file).with_context(|| format!("cannot read {}", file.display()))
}

fn lines(file: &Path) -> std::io::Result<Vec<ShadowQuery>> {
    let mut queries = Vec::new();
    for line in std::io::BufReader::new(std::fs::File::open(file)?).lines() {
        let q = line?.trim().to_owned();
        if !q.is_empty() {
            queries.push(ShadowQuery { q, relevant: BTreeMap::new() });
        }
    }
    Ok(queries)
}

/// `overlap=0.3`, `ndcg_drop=0.01`, `p99_ratio=1.5`
fn requirements(given: &[String]) -> anyhow::Result<Require> {
    let mut require = Require::default();
    for text in given {
        let expected = "expected overlap=NUMBER, ndcg_drop=NUMBER or p99_ratio=NUMBER";
        let (name, value) = text.split_once('=').with_context(|| format!("--require {text}: {expected}"))?;
        let value: f64 = value.parse().with_context(|| format!("--require {text}: {expected}"))?;
        match name {
            "overlap" => require.overlap = Some(value),
            "ndcg_drop" => require.ndcg_drop = Some(value),
            "p99_ratio" => require.p99_ratio = Some(value),
            _ => bail!("--require {text}: {expected}"),
        }
    }
    Ok(require)
}

/// The configured settings with those of the command line; none when there are none of those.
fn vector_settings(
    stack: &Stack,
    args: &ReindexArgs,
) -> anyhow::Result<Option<bowerbird_vector::VectorConfig>> {
    if args.vector.is_empty() {
        return Ok(None);
    }
    let mut settings = serde_json::to_value(&stack.config.index.vector)?;
    for text in &args.vector {
        let (name, value) =
            text.split_once('=').with_context(|| format!("--vector {text}: expected NAME=VALUE"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        settings[name] = value;
    }
    serde_json::from_value(settings).map(Some).context("--vector")
}

fn say(json: bool, value: &impl serde::Serialize, text: &str) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(value)?);
    } else {
        println!("{text}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_and_others_refused() {
        let read =
            |given: &[&str]| requirements(&given.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        let found = read(&["overlap=0.3", "p99_ratio=1.5"]).expect("reads");
        assert_eq!(found, Require { overlap: Some(0.3), ndcg_drop: None, p99_ratio: Some(1.5) });
        for bad in ["overlap", "overlap=x", "recall=1"] {
            let error = read(&[bad]).expect_err(bad);
            assert!(format!("{error:#}").contains("--require"), "{error:#}");
        }
    }
}
