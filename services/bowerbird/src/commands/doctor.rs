//! `bowerbird doctor`

use anyhow::{Context, bail};
use bowerbird_catalog::Catalog;
use bowerbird_lexical::LexicalIndex;
use bowerbird_posts::PostStore;

use crate::cli::DoctorArgs;
use crate::config::Config;
use crate::stack::model_store;

/// Runs `bowerbird doctor`.
pub fn run(config: &Config, args: &DoctorArgs) -> anyhow::Result<()> {
    std::fs::metadata(&args.data_dir)
        .with_context(|| format!("data directory {}", args.data_dir.display()))?;
    let store = model_store(config)?;
    let mut wrong = 0;
    let mut say = |what: &str, found: Result<String, String>| match found {
        Ok(found) => println!("{what:<14} {found}"),
        Err(found) => {
            wrong += 1;
            println!("{what:<14} {found}");
        }
    };
    for entry in Catalog::embedded()?.entries().iter().filter(|entry| !entry.optional) {
        say(
            "model files",
            match store.verify(entry) {
                Ok(()) => Ok(format!("{} good", entry.name)),
                Err(error) => Err(error.to_string()),
            },
        );
    }
    if args.repair {
        let done = bowerbird_live::repair(&args.data_dir)?;
        say("vector index", Ok(format!("{:?}", done.vectors)));
        say("lexical index", Ok(done.lexical_removed.map_or("good".into(), |why| format!("removed: {why}"))));
        say(
            "post store",
            match done.damaged_posts.len() {
                0 => Ok("good".into()),
                count => Err(format!("{count} posts cannot be read: load them again")),
            },
        );
        println!("the next start makes again what was removed");
    } else {
        say(
            "post store",
            match PostStore::open(&args.data_dir.join("posts")) {
                Ok(store) => match store.damaged_records() {
                    Ok(damaged) if damaged.is_empty() => Ok(format!("{} posts, good", store.len()?)),
                    Ok(damaged) => Err(format!("{} posts cannot be read: load them again", damaged.len())),
                    Err(error) => Err(error.to_string()),
                },
                Err(error) => Err(error.to_string()),
            },
        );
        let lexical = args.data_dir.join("generation").join("lexical");
        say(
            "lexical index",
            match LexicalIndex::open(&lexical).and_then(|index| index.verify()) {
                Ok(()) => Ok("good".into()),
                Err(error) => Err(error.to_string()),
            },
        );
    }
    if wrong > 0 {
        bail!("{wrong} things are wrong; `--repair` mends indexes, `bowerbird models fetch` model files");
    }
    Ok(())
}
