//! `bowerbird ads`

use anyhow::Context;
use bowerbird_ads::{AdEngine, OtherRules};
use bowerbird_auction::Micros;

use super::open;
use crate::cli::{AdsCommand, AdsFormat, AdsJudgeArgs};
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
        AdsCommand::Judge(args) => {
            let stack = open(config, &args.data_dir, parts).await?;
            let ads = stack.ads.as_ref().context("ads are off: set ads.enabled = true")?;
            judge(ads, &args).await?;
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

/// Prints what the log says of other rules.
async fn judge(ads: &AdEngine, args: &AdsJudgeArgs) -> anyhow::Result<()> {
    let other = OtherRules {
        temperature: args.temperature,
        no_ad_micros: args.no_ad_micros.map(Micros),
        reserve_micros: args.reserve_micros.map(Micros),
    };
    let now = jiff::Timestamp::now();
    let judged = ads.judge(other, now.as_millisecond() - args.days * 86_400_000, now).await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&judged)?);
        return Ok(());
    }
    println!("{} answers, worth {:.0} under the other rules", judged.answers, judged.clicks.effective_sample);
    for (what, unit, found) in
        [("clicks an answer", 1.0, &judged.clicks), ("value an answer", 1e6, &judged.value_micros)]
    {
        println!("{what}: {:.5} as it was", found.logged / unit);
        for (name, estimate) in [("IPS", found.ips), ("SNIPS", found.snips), ("DR", found.dr)] {
            let [value, low, high] = [estimate.value, estimate.low, estimate.high].map(|v| v / unit);
            println!("  {name:<6} {value:.5}  95 % interval {low:.5} to {high:.5}");
        }
    }
    for reason in &judged.refused {
        println!("no verdict: {reason}");
    }
    Ok(())
}
