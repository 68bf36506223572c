//! Claims with evidence and a judgement: three public sets, and JSONL of one's own.
//!
//! | folder | claim | evidence | supported | group |
//! |---|---|---|---|---|
//! | `begin-wow` | `response` | `knowledge` | `Fully attributable`; `Generic` says nothing of the evidence, so it is not | `knowledge` |
//! | `expertqa-citations` | `claim` | cited passages | `Complete`; rows whose evidence is only links are left out | `question` |
//! | `summedits` | `summary` | `doc` | label 1; half of the documents are used | `doc` |
//!
//! Pairs of one group are on one side of every split: what is held out has no document, passage or question in common
//! with what is learnt from.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use flate2::read::GzDecoder;
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// Of a hundred groups so many are learnt from; the others are held out.
const TRAIN_PERCENT: u64 = 60;
/// Of a hundred documents of summedits so many are used: they are long, and scoring a pair takes a fifth of a second.
const SUMMEDITS_PERCENT: u64 = 50;
/// Folds of the part that is learnt from.
pub const FOLDS: usize = 5;

/// What a pair may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// To learn from; the number says which fold it is in, below [`FOLDS`].
    Train(usize),
    /// To measure on, once.
    HeldOut,
}

/// A judged pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// What is claimed.
    pub claim: String,
    /// The texts it cites.
    pub evidence: Vec<String>,
    /// Whether the evidence supports all of it.
    pub supported: bool,
    /// What it may be used for.
    pub part: Part,
}

/// A set of judged pairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairSet {
    /// Name of the folder or file.
    pub name: String,
    /// SHA-256 of its data files one after the other, in hexadecimal.
    pub sha256: String,
    /// Its pairs in the order of the files.
    pub pairs: Vec<Pair>,
}

/// The sets in a folder; those absent are left out, and none at all is an error.
pub fn read_sets(data: &Path) -> anyhow::Result<Vec<PairSet>> {
    let mut sets = Vec::new();
    for (name, read) in [
        ("begin-wow", begin as fn(&Path) -> anyhow::Result<PairSet>),
        ("expertqa-citations", expertqa),
        ("summedits", summedits),
    ] {
        let dir = data.join(name);
        if dir.is_dir() {
            let set = read(&dir).with_context(|| format!("cannot use {}", dir.display()))?;
            ensure!(!set.pairs.is_empty(), "{} has no pair that can be used", dir.display());
            sets.push(set);
        }
    }
    if sets.is_empty() {
        bail!(
            "{} has none of begin-wow, expertqa-citations, summedits: give the folder that holds them",
            data.display()
        );
    }
    Ok(sets)
}

/// `{"claim", "evidence", "label": 0|1}` lines; all of them held out.
pub fn read_file(path: &Path) -> anyhow::Result<PairSet> {
    #[derive(Deserialize)]
    struct Row {
        claim: String,
        evidence: String,
        label: u8,
    }
    let (bytes, sha256) = read(&[path])?;
    let mut pairs = Vec::new();
    for (line, number) in lines(&bytes) {
        let place = || format!("{}:{number}", path.display());
        let row: Row = serde_json::from_str(line).with_context(place)?;
        ensure!(row.label <= 1, "{}: label is {}, expected 0 or 1", place(), row.label);
        pairs.push(Pair {
            claim: row.claim,
            evidence: vec![row.evidence],
            supported: row.label == 1,
            part: Part::HeldOut,
        });
    }
    ensure!(!pairs.is_empty(), "{} has no pair", path.display());
    let name = path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Ok(PairSet { name, sha256, pairs })
}

fn begin(dir: &Path) -> anyhow::Result<PairSet> {
    #[derive(Deserialize)]
    struct Row {
        knowledge: String,
        response: String,
        begin_label: String,
    }
    let (dev, test) = (dir.join("begin_dev_wow.tsv"), dir.join("begin_test_wow.tsv"));
    let rows = |path: &Path| -> anyhow::Result<Vec<Row>> {
        let (bytes, _) = read(&[path])?;
        let mut reader =
            csv::ReaderBuilder::new().delimiter(b'\t').quoting(false).from_reader(bytes.as_slice());
        let rows: Result<Vec<Row>, _> = reader.deserialize().collect();
        rows.with_context(|| path.display().to_string())
    };
    let (dev_rows, test_rows) = (rows(&dev)?, rows(&test)?);
    let learnt: BTreeSet<String> = dev_rows.iter().map(|row| row.knowledge.clone()).collect();
    let mut pairs = Vec::new();
    for row in dev_rows.into_iter().chain(test_rows) {
        let part = if learnt.contains(&row.knowledge) { train(&row.knowledge) } else { part(&row.knowledge) };
        pairs.push(Pair {
            part,
            claim: row.response,
            evidence: vec![row.knowledge],
            supported: match row.begin_label.as_str() {
                "Fully attributable" => true,
                "Not fully attributable" | "Generic" => false,
                other => bail!(
                    "begin_label is {other:?}, expected Fully attributable, Not fully attributable or Generic"
                ),
            },
        });
    }
    let (_, sha256) = read(&[&dev, &test])?;
    Ok(PairSet { name: "begin-wow".into(), sha256, pairs })
}

fn expertqa(dir: &Path) -> anyhow::Result<PairSet> {
    #[derive(Deserialize)]
    struct Row {
        question: String,
        claim: String,
        evidence: Vec<String>,
        support: Option<String>,
    }
    let path = dir.join("claims.jsonl");
    let (bytes, sha256) = read(&[&path])?;
    let mut pairs = Vec::new();
    for (line, number) in lines(&bytes) {
        let row: Row = serde_json::from_str(line).with_context(|| format!("{}:{number}", path.display()))?;
        let supported = match row.support.as_deref() {
            Some("Complete") => true,
            Some("Incomplete" | "Partial") => false,
            _ => continue,
        };
        let evidence: Vec<String> = row.evidence.iter().filter_map(|text| passage(text)).collect();
        if !evidence.is_empty() {
            pairs.push(Pair {
                claim: without_marks(&row.claim),
                evidence,
                supported,
                part: part(&row.question),
            });
        }
    }
    Ok(PairSet { name: "expertqa-citations".into(), sha256, pairs })
}

fn summedits(dir: &Path) -> anyhow::Result<PairSet> {
    #[derive(Deserialize)]
    struct Row {
        doc: String,
        summary: String,
        label: u8,
    }
    let path = dir.join("summedits.jsonl.gz");
    let (bytes, sha256) = read(&[&path])?;
    let mut pairs = Vec::new();
    for (line, number) in lines(&bytes) {
        let row: Row = serde_json::from_str(line).with_context(|| format!("{}:{number}", path.display()))?;
        if bucket("sample\n", &row.doc, 100) >= SUMMEDITS_PERCENT {
            continue;
        }
        let part = part(&row.doc);
        pairs.push(Pair { claim: row.summary, evidence: vec![row.doc], supported: row.label == 1, part });
    }
    Ok(PairSet { name: "summedits".into(), sha256, pairs })
}

/// The text of a cited passage without its number and address; `None` when there is no more than those.
fn passage(text: &str) -> Option<String> {
    let text = text.trim();
    let text = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((number, rest)) if number.chars().all(|c| c.is_ascii_digit()) => rest.trim_start(),
        _ => text,
    };
    let text = if text.starts_with("http") {
        text.split_once(char::is_whitespace).map_or("", |(_, rest)| rest).trim()
    } else {
        text
    };
    (text.contains(char::is_whitespace)).then(|| text.to_owned())
}

/// A claim without `[1]`.
fn without_marks(claim: &str) -> String {
    let mut out = String::with_capacity(claim.len());
    let mut rest = claim;
    while let Some(at) = rest.find('[') {
        let mark = rest[at + 1..].find(']').map(|end| at + 1 + end);
        match mark {
            Some(end) if end > at + 1 && rest[at + 1..end].chars().all(|c| c.is_ascii_digit()) => {
                out.push_str(rest[..at].trim_end());
                rest = &rest[end + 1..];
            }
            _ => {
                out.push_str(&rest[..=at]);
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    out.trim().to_owned()
}

fn bucket(salt: &str, group: &str, buckets: u64) -> u64 {
    let digest = Sha256::new().chain_update(salt).chain_update(group).finalize();
    let first = digest.iter().take(8).fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    first % buckets
}

fn part(group: &str) -> Part {
    if bucket("part\n", group, 100) < TRAIN_PERCENT { train(group) } else { Part::HeldOut }
}

fn train(group: &str) -> Part {
    let fold = bucket("fold\n", group, FOLDS as u64);
    Part::Train(usize::try_from(fold).unwrap_or(0))
}

/// The files' bytes, unpacked where a name ends in `.gz`, and the SHA-256 of the bytes as they lie on disk.
fn read(paths: &[&Path]) -> anyhow::Result<(Vec<u8>, String)> {
    let mut hash = Sha256::new();
    let mut all = Vec::new();
    for path in paths {
        let mut bytes = Vec::new();
        let place = || format!("cannot read {}", path.display());
        BufReader::new(File::open(path).with_context(place)?).read_to_end(&mut bytes).with_context(place)?;
        hash.update(&bytes);
        if path.extension().is_some_and(|end| end == "gz") {
            GzDecoder::new(bytes.as_slice()).read_to_end(&mut all).with_context(place)?;
        } else {
            all.append(&mut bytes);
        }
    }
    Ok((all, format!("{:x}", hash.finalize())))
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = (&str, usize)> {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_addresses_are_taken_off() {
        assert_eq!(
            without_marks("It works [1]. So does [this] one [2] [13]"),
            "It works. So does [this] one"
        );
        assert_eq!(passage("[1] https://a.b/c\n\nIt works well.").as_deref(), Some("It works well."));
        assert_eq!(passage("It works well.").as_deref(), Some("It works well."));
        for only_an_address in ["[2] https://a.b/c", "https://a.b/c", "", "[3]"] {
            assert_eq!(passage(only_an_address), None, "{only_an_address:?}");
        }
    }

    #[test]
    fn a_group_is_on_one_side_and_the_split_stays() {
        assert_eq!(part("a group"), part("a group"));
        let parts: Vec<Part> = (0..1_000).map(|i| part(&format!("group {i}"))).collect();
        let held_out = parts.iter().filter(|part| **part == Part::HeldOut).count();
        assert!((350..450).contains(&held_out), "{held_out}");
        for fold in 0..FOLDS {
            let inside = parts.iter().filter(|part| **part == Part::Train(fold)).count();
            assert!((80..160).contains(&inside), "fold {fold}: {inside}");
        }
    }

    #[test]
    fn what_the_development_part_knows_is_learnt_from() {
        let dir = tempfile::tempdir().expect("a directory");
        let head = "model_name\tdata_source\tknowledge\tmessage\tresponse\tbegin_label\n";
        let rows = |from: usize, to: usize, label: &str| -> String {
            let row = |i: usize| format!("m\twow\tfact {i} \"quoted\tm\tsaid {i}\t{label}\n");
            (from..to).map(row).collect()
        };
        let begin = dir.path().join("begin-wow");
        std::fs::create_dir(&begin).expect("made");
        let write = |name: &str, text: String| std::fs::write(begin.join(name), text).expect("written");
        write("begin_dev_wow.tsv", head.to_owned() + &rows(0, 20, "Fully attributable"));
        write("begin_test_wow.tsv", head.to_owned() + &rows(0, 40, "Generic"));
        let sets = read_sets(dir.path()).expect("reads");
        assert_eq!((sets.len(), sets[0].pairs.len()), (1, 60));
        for pair in &sets[0].pairs {
            let number: usize = pair.claim[5..].parse().expect("a number");
            assert!(number >= 20 || pair.part != Part::HeldOut, "{pair:?}");
        }
        assert!(sets[0].pairs.iter().any(|pair| pair.part == Part::HeldOut));
        assert_eq!(
            sets[0].pairs.iter().filter(|pair| pair.supported).count(),
            20,
            "generic is not supported"
        );
        write("begin_test_wow.tsv", head.to_owned() + &rows(0, 1, "Perhaps"));
        let error = read_sets(dir.path()).expect_err("an unknown label");
        assert!(format!("{error:#}").contains("\"Perhaps\""), "{error:#}");
    }

    #[test]
    fn a_folder_without_sets_says_what_is_wanted() {
        let dir = tempfile::tempdir().expect("a directory");
        let error = read_sets(dir.path()).expect_err("nothing there").to_string();
        assert!(error.contains("begin-wow, expertqa-citations, summedits"), "{error}");
        let file = dir.path().join("own.jsonl");
        std::fs::write(&file, r#"{"claim": "a", "evidence": "b", "label": 2}"#).expect("written");
        assert!(read_file(&file).expect_err("label 2").to_string().contains("label is 2, expected 0 or 1"));
    }
}
