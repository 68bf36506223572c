//! BEIR folders: `corpus.jsonl`, `queries.jsonl`, `qrels/SPLIT.tsv`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, bail};
use serde::Deserialize;

/// Grades by document, by query.
pub type Qrels = BTreeMap<String, BTreeMap<String, f64>>;

#[derive(Deserialize)]
struct Row {
    #[serde(rename = "_id")]
    id: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    text: String,
}

/// `(id, text)` of each line; a title stands before the text.
pub fn rows(path: &Path) -> anyhow::Result<impl Iterator<Item = anyhow::Result<(String, String)>>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let name = path.display().to_string();
    Ok(BufReader::new(file).lines().zip(1..).map(move |(line, number)| {
        let place = || format!("{name}:{number}");
        let row: Row = serde_json::from_str(&line.with_context(place)?).with_context(place)?;
        Ok((row.id, format!("{} {}", row.title, row.text).trim().to_owned()))
    }))
}

/// Judgements of `dataset/qrels/SPLIT.tsv`: a head line, then query, document and grade.
pub fn qrels(dataset: &Path, split: &str) -> anyhow::Result<Qrels> {
    let path = dataset.join("qrels").join(format!("{split}.tsv"));
    let file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut qrels = Qrels::new();
    for (line, number) in BufReader::new(file).lines().zip(1..).skip(1) {
        let line = line?;
        let place = || format!("{}:{number}", path.display());
        let mut fields = line.split('\t');
        let (Some(query), Some(document), Some(grade)) = (fields.next(), fields.next(), fields.next()) else {
            bail!("{}: expected query, document and grade between tabs, found {line:?}", place());
        };
        let grade: f64 = grade.trim().parse().with_context(place)?;
        qrels.entry(query.to_owned()).or_default().insert(document.to_owned(), grade);
    }
    // A query without a relevant document says nothing about a ranking.
    qrels.retain(|_, grades| grades.values().any(|grade| *grade >= 1.0));
    if qrels.is_empty() {
        bail!("{} has no relevant document", path.display());
    }
    Ok(qrels)
}
