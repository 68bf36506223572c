//! `bowerbird ads`

use anyhow::Context;

use super::open;
use crate::cli::{AdsCommand, AdsFormat};
use crate::config::Config;
use crate::progress::Bars;
use crate::stack::{Parts, Stack};

/// Largest file of ads.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Runs `bowerbird ads`.
pub async fn run(config: &Config, command: AdsCommand) -> anyhow::Result<()> {
    let parts = Parts { answer: false, ads: true };
    match command {
        AdsCommand::Import { data_dir, file } => {
            let size =
                std::fs::metadata(&file).with_context(|| format!("cannot read {}", file.display()))?.len();
            anyhow::ensure!(
                size <= MAX_FILE_BYTES,
                "{} has {size} bytes, the limit is {MAX_FILE_BYTES}",
                file.display()
            );
            let text =
                std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let table = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
            let stack = Stack::open(config, &data_dir, parts, &Bars::default()).await?;
            let ads = stack.ads.as_ref().context("ads are off: set ads.enabled = true")?;
            let report = if table { ads.import_csv(&text).await? } else { ads.import_json(&text).await? };
            println!("{}", serde_json::to_string_pretty(&report)?);
        }
        AdsCommand::Audit { data_dir, json } => {
            let stack = open(config, &data_dir, parts).await?;
            let ads = stack.ads.as_ref().context("ads are off: set ads.enabled = true")?;
            let audit = ads.audit().await?;
            if json {
                println!("{}", serde_json::to_string_pretty(&audit)?);
            } else {
                println!(
                    "{} scopes and accounts compared with {} events, {} ledger entries and {} holds",
                    audit.compared, audit.events, audit.entries, audit.holds
                );
                for found in &audit.differences {
                    println!(
                        "{} {}: booked {}, expected {}",
                        found.invariant, found.of, found.booked, found.expected
                    );
                }
            }
            anyhow::ensure!(
                audit.compared > 0,
                "nothing was compared: no ad was ever shown from this directory"
            );
            anyhow::ensure!(
                audit.passed(),
                "{} differences: the books are not right",
                audit.differences.len()
            );
        }
        AdsCommand::RotateKey { data_dir } => {
            let stack = open(config, &data_dir, parts).await?;
            let ads = stack.ads.as_ref().context("ads are off: set ads.enabled = true")?;
            println!("key {} signs from now on", ads.rotate_key(jiff::Timestamp::now()).await?);
        }
        AdsCommand::Prune { data_dir } => {
            let stack = open(config, &data_dir, parts).await?;
            let ads = stack.ads.as_ref().context("ads are off: set ads.enabled = true")?;
            let (now, mut gone) = (jiff::Timestamp::now(), 0);
            loop {
                match ads.prune(now).await? {
                    0 => break,
                    some => gone += some,
                }
            }
            println!("{gone} decisions taken out of the log");
        }
        AdsCommand::Export { data_dir, format } => {
            let stack = open(config, &data_dir, parts).await?;
            let ads = stack.ads.as_ref().context("ads are off: set ads.enabled = true")?;
            let text = match format {
                AdsFormat::Json => ads.export_json().await?,
                AdsFormat::Csv => ads.export_csv().await?,
            };
            println!("{}", text.trim_end());
        }
        AdsCommand::Report { data_dir, json } => {
            let stack = open(config, &data_dir, parts).await?;
            let ads = stack.ads.as_ref().context("ads are off: set ads.enabled = true")?;
            let rows = ads.campaigns(jiff::Timestamp::now()).await?;
            if json {
                println!("{}", serde_json::to_string_pretty(&rows)?);
            } else {
                println!(
                    "{:<28} {:>12} {:>12} {:>12} {:>7} {:>7}",
                    "campaign", "budget/day", "spent today", "reserved", "shown", "clicks"
                );
                for row in rows {
                    println!(
                        "{:<28} {:>12} {:>12} {:>12} {:>7} {:>7}",
                        row.campaign,
                        row.daily_budget.to_string(),
                        row.spent_today.to_string(),
                        row.reserved.to_string(),
                        row.impressions,
                        row.clicks
                    );
                }
            }
        }
    }
    Ok(())
}
