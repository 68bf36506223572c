//! One file a command. Only these print.
#![expect(clippy::print_stdout, reason = "the output of a command line program")]

pub mod ads;
pub mod ask;
pub mod build;
pub mod convert;
pub mod doctor;
pub mod embed;
pub mod export;
pub mod index;
pub mod models;
pub mod reindex;
pub mod search;
pub mod serve;
pub mod snapshot;

use std::path::Path;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command, EvalCommand, TrainCommand};
use crate::config::Config;
use crate::progress::Bars;
use crate::stack::{Parts, Stack};
use crate::{demo, eval, train};

/// Exit code of a command that failed: 1, or 2 when a data directory could not be examined.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<doctor::NotExamined>() { 2 } else { 1 }
}

/// Runs a command to its end.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&cli.common.log).with_context(|| format!("--log {}", cli.common.log))?;
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi).with_writer(std::io::stderr).init();
    let mut config = Config::load(cli.common.config.as_deref())?;
    if let Some(dir) = cli.common.models_dir {
        config.models.dir = Some(dir);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(crate::config::cores().clamp(2, 8))
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        match cli.command {
            Command::Demo(args) => demo::run(config, args).await,
            Command::Serve(args) => serve::run(config, args).await,
            Command::Index(args) => index::run(&config, args).await,
            Command::Search(args) => search::run(&config, args).await,
            Command::Ask(args) => ask::run(&config, args).await,
            Command::Eval(args) => match args.what {
                EvalCommand::Retrieval(args) => eval::retrieval::run(&config, args).await,
                EvalCommand::Answers(args) => eval::answers::run(&config, args).await,
                EvalCommand::Auction(args) => eval::auction::run(&args),
                EvalCommand::Policy(args) => eval::policy::run(&args),
                EvalCommand::Clicks(args) => eval::clicks::run(&args),
                EvalCommand::Safety(args) => eval::safety::run(&config, args).await,
            },
            Command::Train(args) => match args.what {
                TrainCommand::Support(args) => train::support::run(&config, args).await,
                TrainCommand::Safety(args) => train::safety::run(&config, args).await,
            },
            Command::Tune(args) => eval::tune::run(&config, args).await,
            Command::Ads(args) => ads::run(&config, args.what).await,
            Command::Models(args) => models::run(&config, args.what),
            Command::Doctor(args) => doctor::run(&config, args).await,
            Command::Reindex(args) => reindex::run(&config, args).await,
            Command::Snapshot(args) => snapshot::snapshot(&config, args).await,
            Command::Restore(args) => snapshot::restore(&config, args).await,
            Command::Export(args) => blocking(move || export::run(&args)).await,
            Command::Embed(args) => blocking(move || embed::run(config, args)).await,
            Command::Build(args) => blocking(move || build::run(&config, &args)).await,
        }
    })
}

/// Opens an existing data directory; every post in it is found by word and meaning.
async fn open(config: &Config, data_dir: &Path, parts: Parts) -> anyhow::Result<Stack> {
    std::fs::metadata(data_dir).with_context(|| {
        format!("data directory {}: load posts into it with `bowerbird index` first", data_dir.display())
    })?;
    let stack = Stack::open(config, data_dir, parts, &Bars::default()).await?;
    let live = stack.live.clone();
    tokio::task::spawn_blocking(move || index::finish(&live)).await??;
    Ok(stack)
}

/// Runs a command that only computes.
async fn blocking(work: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> anyhow::Result<()> {
    tokio::task::spawn_blocking(work).await?
}

/// Words of the command line as one query.
fn joined(words: &[String]) -> String {
    words.join(" ")
}
