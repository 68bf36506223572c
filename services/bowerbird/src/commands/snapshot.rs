//! `bowerbird snapshot` and `bowerbird restore`

use anyhow::Context;
use bowerbird_live::{LiveError, SnapshotManifest, copy_closed};

use crate::cli::{RestoreArgs, SnapshotArgs};
use crate::config::Config;
use crate::snapshots::{ADS_FILE, SnapshotError, take};

/// Runs `bowerbird snapshot`.
pub async fn snapshot(config: &Config, args: SnapshotArgs) -> anyhow::Result<()> {
    std::fs::metadata(&args.data_dir)
        .with_context(|| format!("data directory {}", args.data_dir.display()))?;
    let root = args.data_dir.clone();
    let taken =
        take(&config.ads.database.under(&args.data_dir), &args.to, move |draft| copy_closed(&root, draft))
            .await;
    let manifest = match taken {
        Err(SnapshotError::Live(error @ LiveError::Locked { .. })) => {
            return Err(error).context("a server is using it: take the snapshot with `POST /v1/snapshots`");
        }
        other => other?,
    };
    say(&manifest, args.json, &format!("snapshot {}", args.to.display()))
}

/// Runs `bowerbird restore`.
pub async fn restore(config: &Config, args: RestoreArgs) -> anyhow::Result<()> {
    let (from, to) = (args.from.clone(), args.data_dir.clone());
    let manifest = tokio::task::spawn_blocking(move || bowerbird_live::restore(&from, &to)).await??;
    say(&manifest, args.json, &format!("restored to {}", args.data_dir.display()))?;
    let (ads, served) = (args.data_dir.join(ADS_FILE), config.ads.database.under(&args.data_dir));
    if ads.is_file() && served.file() != Some(&ads) {
        tracing::warn!("the ads of the snapshot are in {}, but ads.database is {served}", ads.display());
    }
    Ok(())
}

fn say(manifest: &SnapshotManifest, json: bool, done: &str) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(manifest)?);
    } else {
        let SnapshotManifest { posts, sequence, bytes, files, .. } = manifest;
        println!("{done}: {posts} posts as of transaction {sequence}, {} files, {bytes} bytes", files.len());
    }
    Ok(())
}
