//! `bowerbird tune`: learns from judgements when the cross-encoder is worth its time, and writes a profile.
#![expect(clippy::print_stdout, reason = "the output of a command line program")]

use anyhow::Context;

use crate::cli::TuneArgs;
use crate::config::Config;
use crate::eval::heads::heads;
use crate::eval::learn::learn;
use crate::profile::{Figures, Profile, TrainedOn};

/// Runs `bowerbird tune`.
pub async fn run(config: &Config, args: TuneArgs) -> anyhow::Result<()> {
    let mut sets = Vec::new();
    for (n, dataset) in args.datasets.iter().enumerate() {
        let split = args.splits.get(n).or(args.splits.last()).map_or("train", String::as_str);
        let read = heads(config, dataset, split, args.queries, args.index_dir.as_deref()).await;
        sets.push(read.with_context(|| format!("dataset {}", dataset.display()))?);
    }
    let mut learned = learn(&sets)?;
    learned.gate.name = args.name.unwrap_or_else(|| {
        args.out.file_stem().map_or_else(|| "profile".into(), |stem| stem.to_string_lossy().into_owned())
    });
    let trained_on = sets.iter().map(|set| TrainedOn {
        dataset: set.dataset.clone(),
        split: set.split.clone(),
        queries: set.list.len(),
    });
    let profile = Profile::new(&learned.gate, trained_on.collect(), learned.gated);
    let text = serde_json::to_string_pretty(&profile)?;
    // What is written must be what can be read.
    Profile::parse(&text).context("the learned profile is not valid")?;
    std::fs::write(&args.out, format!("{text}\n"))
        .with_context(|| format!("cannot write {}", args.out.display()))?;
    if args.json {
        println!("{text}");
        return Ok(());
    }
    print("learned on other queries", &profile.cross_validation.folds);
    print("learned on other sets", &profile.cross_validation.held_out);
    if learned.gate_won {
        println!("a gate is worth more than reading every query, and the profile holds one:");
    } else {
        println!("no gate was worth more than reading every query, so the profile reads every query:");
    }
    for step in &profile.steps {
        println!(
            "  from probability {:.2}: {} candidates, share {:.2}",
            step.probability, step.depth, step.blend
        );
    }
    println!("written to {}: name it in [search] rerank_profile", args.out.display());
    Ok(())
}

fn print(title: &str, figures: &[Figures]) {
    if figures.is_empty() {
        return;
    }
    println!("{title:<26} {:>8} {:>8} {:>8} {:>6}", "fused", "blended", "gated", "depth");
    for row in figures {
        println!(
            "  {:<24} {:>8.4} {:>8.4} {:>8.4} {:>6.1}",
            row.dataset, row.fused, row.blended, row.gated, row.depth
        );
    }
}
