//! `bowerbird doctor`

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use bowerbird_ads::DatabaseAddress;
use bowerbird_catalog::Catalog;
use bowerbird_live::{CheckReport, Live, LiveError, LiveRepair, Remedy, check, repair};
use bowerbird_reindex::Passages;
use serde_json::json;

use crate::cli::DoctorArgs;
use crate::config::Config;
use crate::progress::Bars;
use crate::stack::{Parts, chain, index_encoders, load_models, model_store};

/// The data directory could not be examined at all: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub struct NotExamined(anyhow::Error);

/// Something is wrong: exit code 1.
#[derive(Debug, thiserror::Error)]
#[error("{0} things are wrong; `--repair` mends indexes, `bowerbird models fetch` model files")]
struct Wrong(usize);

/// One line of the report.
struct Line {
    what: &'static str,
    /// What was found, or what is wrong.
    found: Result<String, String>,
}

/// Runs `bowerbird doctor`.
pub async fn run(config: &Config, args: DoctorArgs) -> anyhow::Result<()> {
    std::fs::metadata(&args.data_dir)
        .with_context(|| format!("data directory {}", args.data_dir.display()))
        .map_err(NotExamined)?;
    let mut lines = models(config)?;
    let (root, mend) = (args.data_dir.clone(), args.repair);
    let examined = tokio::task::spawn_blocking(move || -> Result<_, LiveError> {
        if mend {
            repair(&root).map(|done| (done.check.clone(), Some(done)))
        } else {
            Ok((check(&root)?, None))
        }
    });
    let (mut report, repaired) = examined.await?.map_err(|error| NotExamined(error.into()))?;
    if let Some(repaired) = &repaired {
        lines.extend(mended(repaired));
        report = match with_vectors(config, &args.data_dir, &report).await {
            Ok(report) => report,
            Err(error) => {
                let message = format!("missing vectors are made at the next start: {error:#}");
                lines.push(Line { what: "vector index", found: Ok(message) });
                report
            }
        };
    }
    lines.extend(generation(&report));
    lines.extend(ads(&config.ads.database.under(&args.data_dir)).await);

    let wrong = lines.iter().filter(|line| line.found.is_err()).count();
    if args.json {
        println!(
            "{}",
            serde_json::to_string_pretty(&as_json(&report, repaired.as_ref(), &lines, wrong == 0))?
        );
    } else {
        for Line { what, found } in &lines {
            let found = match found {
                Ok(found) | Err(found) => found,
            };
            println!("{what:<14} {found}");
        }
    }
    if wrong > 0 { Err(Wrong(wrong).into()) } else { Ok(()) }
}

fn models(config: &Config) -> anyhow::Result<Vec<Line>> {
    let store = model_store(config)?;
    let catalog = Catalog::embedded()?;
    let entries = catalog.entries().iter().filter(|entry| !entry.optional);
    let line = |entry| Line {
        what: "model files",
        found: match store.verify(entry) {
            Ok(()) => Ok(format!("{} good", entry.name)),
            Err(error) => Err(chain(&error)),
        },
    };
    Ok(entries.map(line).collect())
}

/// What `--repair` did before the check.
fn mended(done: &LiveRepair) -> Vec<Line> {
    let mut said = Vec::new();
    if done.format_rewritten {
        said.push(("FORMAT", "was unreadable, written again".to_owned()));
    }
    if let Some(why) = &done.lexical_rebuilt {
        said.push(("lexical index", format!("made again from the posts, because {why}")));
    }
    if done.vectors.started_over {
        said.push(("vector index", "its log was unreadable and set aside as vectors.log.damaged".to_owned()));
    } else if done.vectors.dropped > 0 {
        let (kept, dropped) = (done.vectors.kept, done.vectors.dropped);
        said.push(("vector index", format!("{dropped} damaged vectors taken out, {kept} kept")));
    }
    said.into_iter().map(|(what, found)| Line { what, found: Ok(found) }).collect()
}

/// Makes the vectors that are missing, now that the models can be had, and checks again.
async fn with_vectors(config: &Config, data_dir: &Path, before: &CheckReport) -> anyhow::Result<CheckReport> {
    let missing = before.vectors.is_none_or(|vectors| vectors.pending > 0);
    if !missing || before.posts == 0 {
        return Ok(before.clone());
    }
    let encoders = load_models(config, Parts::SEARCH, &Bars::default())?.encoders;
    let encoders = index_encoders(config, data_dir, &encoders, &Bars::default())?;
    let (root, settings) = (data_dir.to_path_buf(), config.index.clone());
    tokio::task::spawn_blocking(move || {
        let live = Live::open(&root, settings, Arc::new(Passages::fresh(encoders)))?;
        super::index::finish(&live)?;
        drop(live);
        anyhow::Ok(check(&root)?)
    })
    .await?
}

/// Store and indexes, and each thing that is wrong with them.
fn generation(report: &CheckReport) -> Vec<Line> {
    let good = |what| report.problems.iter().all(|problem| problem.part.name() != what);
    let mut lines = Vec::new();
    if good("post store") {
        let found = format!("{} posts, good, as of transaction {}", report.posts, report.sequence);
        lines.push(Line { what: "post store", found: Ok(found) });
    }
    if let Some(lexical) = report.lexical.filter(|_| good("lexical index")) {
        let mut found = format!("{} posts, agrees with the post store", lexical.posts);
        if lexical.sequence < report.sequence {
            found = format!(
                "{found} up to transaction {}; the next start brings it up to {}",
                lexical.sequence, report.sequence
            );
        }
        lines.push(Line { what: "lexical index", found: Ok(found) });
    }
    if let Some(vectors) = report.vectors.filter(|_| good("vector index")) {
        let mut found = format!("{} vectors, agrees with the post store", vectors.points);
        if vectors.pending > 0 {
            found = format!("{found}; {} posts have none yet", vectors.pending);
        }
        if vectors.torn_bytes > 0 {
            found = format!("{found}; {} bytes of an unfinished write were cut off", vectors.torn_bytes);
        }
        lines.push(Line { what: "vector index", found: Ok(found) });
    }
    lines.extend(report.problems.iter().map(|problem| {
        let remedy = match problem.remedy {
            Remedy::Repair => "run `bowerbird doctor --repair`",
            Remedy::LoadAgain => "load those posts again",
            Remedy::Restore => "restore a snapshot with `bowerbird restore`",
        };
        Line { what: problem.part.name(), found: Err(format!("{}: {remedy}", problem.message)) }
    }));
    lines
}

async fn ads(database: &DatabaseAddress) -> Option<Line> {
    let Some(path) = database.file() else {
        let found =
            format!("not examined: {database} is a server with its own means (pg_amcheck, data checksums)");
        return Some(Line { what: "ad database", found: Ok(found) });
    };
    if !path.exists() {
        return None;
    }
    let found = match bowerbird_ads::check_database(path).await {
        Ok(wrong) if wrong.is_empty() => Ok("good".to_owned()),
        Ok(wrong) => Err(format!(
            "{} is damaged ({}): restore a snapshot with `bowerbird restore`",
            path.display(),
            wrong.join("; ")
        )),
        Err(error) => Err(format!("{}: {}: restore a snapshot", path.display(), chain(&error))),
    };
    Some(Line { what: "ad database", found })
}

fn as_json(
    report: &CheckReport,
    repaired: Option<&LiveRepair>,
    lines: &[Line],
    good: bool,
) -> serde_json::Value {
    let problems: Vec<_> = lines
        .iter()
        .filter_map(|line| Some(json!({"part": line.what, "message": line.found.as_ref().err()?})))
        .collect();
    json!({
        "good": good,
        "sequence": report.sequence,
        "next_ordinal": report.next_ordinal,
        "posts": report.posts,
        "damaged_posts": report.damaged_posts,
        "lexical": report.lexical.map(|lexical| json!({
            "posts": lexical.posts, "sequence": lexical.sequence, "stale": lexical.stale,
        })),
        "vectors": report.vectors.map(|vectors| json!({
            "points": vectors.points, "dead": vectors.dead, "pending": vectors.pending,
            "torn_bytes": vectors.torn_bytes, "sealed": vectors.sealed,
        })),
        "repaired": repaired.map(|done| json!({
            "lexical_rebuilt": done.lexical_rebuilt,
            "vectors_kept": done.vectors.kept,
            "vectors_dropped": done.vectors.dropped,
            "vector_log_started_over": done.vectors.started_over,
            "format_rewritten": done.format_rewritten,
            "damaged_posts": done.damaged_posts.iter().map(|ordinal| ordinal.0).collect::<Vec<_>>(),
        })),
        "problems": problems,
    })
}
