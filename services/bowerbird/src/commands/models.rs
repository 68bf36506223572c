//! `bowerbird models`

use anyhow::bail;
use bowerbird_catalog::{Catalog, Entry};

use super::convert;
use crate::cli::ModelsCommand;
use crate::config::Config;
use crate::progress::Bars;
use crate::stack::model_store;

/// Runs `bowerbird models`.
pub fn run(config: &Config, command: ModelsCommand) -> anyhow::Result<()> {
    let catalog = Catalog::embedded()?;
    let store = model_store(config)?;
    match command {
        ModelsCommand::Fetch { names } => {
            for entry in chosen(&catalog, &names)? {
                let dir = store.ensure(entry, &Bars::default())?;
                println!("{:<28} {}", entry.name, dir.display());
            }
        }
        ModelsCommand::List { json } => {
            let here = |entry: &Entry| store.verify(entry).is_ok();
            if json {
                let rows: Vec<_> = catalog
                    .entries()
                    .iter()
                    .map(|e| serde_json::json!({"name": e.name, "kind": format!("{:?}", e.kind).to_lowercase(), "licence": e.licence, "here": here(e)}))
                    .collect();
                println!("{}", serde_json::to_string_pretty(&rows)?);
            } else {
                for entry in catalog.entries() {
                    let kind = format!("{:?}", entry.kind).to_lowercase();
                    let state = if here(entry) { "here" } else { "missing" };
                    println!("{:<28} {kind:<10} {:<12} {state}", entry.name, entry.licence);
                }
                println!("in {}", store.root().display());
            }
        }
        ModelsCommand::Verify { names } => {
            let mut bad = 0;
            for entry in chosen(&catalog, &names)? {
                match store.verify(entry) {
                    Ok(()) => println!("{:<28} good", entry.name),
                    Err(error) => {
                        bad += 1;
                        println!("{:<28} {error}", entry.name);
                    }
                }
            }
            if bad > 0 {
                bail!(
                    "{bad} entries are not as the catalog says: `bowerbird models fetch` brings them again"
                );
            }
        }
        ModelsCommand::Convert { model, out, json } => {
            let report = convert::convert(&catalog, &store, &model, &out)?;
            if json {
                println!("{}", serde_json::to_string_pretty(&report)?);
            } else {
                println!("{report}");
            }
        }
    }
    Ok(())
}

fn chosen<'a>(catalog: &'a Catalog, names: &[String]) -> anyhow::Result<Vec<&'a Entry>> {
    if names.is_empty() {
        return Ok(catalog.entries().iter().filter(|entry| !entry.optional).collect());
    }
    names.iter().map(|name| Ok(catalog.entry(name)?)).collect()
}
