//! `bowerbird models convert`: float models for devices that have no int8 operators.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use bowerbird_catalog::{Catalog, Kind, Store};
use bowerbird_models_api::{Embedder, Reranker, TextRole};
use bowerbird_onnx::{
    ModelFiles, OnnxEmbedder, OnnxReranker, ProviderRequest, Runtime, SessionOptions, convert::to_float,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::progress::Bars;
use crate::stack::{Located, first_file};

const MODEL: &str = "model.onnx";
const REPORT: &str = "converted.json";

/// Texts that both graphs are run on: posts, a question, other scripts, something long.
const SAMPLE: [&str; 12] = [
    "Can't sleep? Try this soothing meditation for a sounder snooze",
    "FDA nod for a new drug",
    "yes",
    "🙂🙂 ¿qué?",
    "RT @nprhealth: To Fight Meningitis Outbreak, Princeton Tries European Vaccine #health",
    "How many people live in Berlin?",
    "Berlin had a population of 3,520,031 registered inhabitants in an area of 891.82 square kilometers.",
    "Flu shots: what you need to know about this year's nasal spray vaccine and who should not take it",
    "Le café réduit-il le risque de maladies ?",
    "Coffee may lower the risk of several diseases, a large study of older adults suggests. Researchers followed half a \
     million people for ten years; those who drank two to three cups a day were less likely to die early.",
    "Quarterly earnings rose at the steel maker",
    "Nine ways to fall asleep faster: dim the lights, cool the room, put the phone away, and get up at the same time \
     every day, on weekends as well. If nothing helps for a month, talk to a doctor.",
];
/// Each is scored with every text of the sample.
const QUERIES: [&str; 3] =
    ["how to sleep better", "does coffee lower the risk of disease", "How many people live in Berlin?"];
/// What must hold, or nothing is written: cosine of the two vectors of a text, and logits of a pair as a share of the
/// range that logits of the sample have.
const LEAST_COSINE: f32 = 0.99;
const LARGEST_SHARE: f32 = 0.1;

/// What was converted, and how far the two graphs are apart.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConvertReport {
    /// Catalog name.
    pub model: String,
    /// SHA-256 of the quantised graph.
    pub source_sha256: String,
    /// SHA-256 of the float graph.
    pub sha256: String,
    /// Quantised products that became float ones.
    pub products: usize,
    /// Quantised tables that became float ones.
    pub tables: usize,
    /// Nodes needed no more.
    pub nodes_removed: usize,
    /// Size before, and after.
    pub bytes: (u64, u64),
    /// Texts or pairs that both graphs were run on.
    pub compared: usize,
    /// Embedder: least cosine of the two vectors of a text.
    pub least_cosine: Option<f32>,
    /// Reranker: largest difference of the two logits of a pair.
    pub largest_difference: Option<f32>,
    /// Reranker: pairs of passages that the two graphs order differently, of all pairs.
    pub reordered: Option<(usize, usize)>,
}

impl fmt::Display for ConvertReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} products and {} tables are float now, {} nodes less, {} -> {} bytes",
            self.model, self.products, self.tables, self.nodes_removed, self.bytes.0, self.bytes.1
        )?;
        if let Some(cosine) = self.least_cosine {
            write!(f, "{} texts: least cosine to the quantised graph {cosine:.5}", self.compared)?;
        }
        if let (Some(difference), Some((swapped, pairs))) = (self.largest_difference, self.reordered) {
            write!(
                f,
                "{} pairs: logits differ by {difference:.3} at most; {swapped} of {pairs} orders of two passages differ",
                self.compared
            )?;
        }
        Ok(())
    }
}

/// Converts the model `name` of the catalog into `out/name`.
pub fn convert(catalog: &Catalog, store: &Store, name: &str, out: &Path) -> anyhow::Result<ConvertReport> {
    let entry = catalog.entry(name)?;
    ensure!(
        matches!(entry.kind, Kind::Embedder | Kind::Reranker),
        "{name} is neither an embedder nor a reranker: only those are ONNX graphs"
    );
    let bars = Bars::default();
    let runtime_entry = catalog.entry("onnxruntime")?;
    let runtime = Runtime::load(&store.ensure(runtime_entry, &bars)?.join(&first_file(runtime_entry)?.name))?;
    let located = Located::new(entry, store, None, &bars)?;
    let source = fs::read(&located.files.model)
        .with_context(|| format!("cannot read {}", located.files.model.display()))?;
    let converted = match to_float(&source) {
        Ok(converted) => converted,
        Err(message) => bail!("{}: {message}", located.files.model.display()),
    };
    let dir = out.join(name);
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let unproven = dir.join("model.onnx.new");
    fs::write(&unproven, &converted.bytes).with_context(|| format!("cannot write {}", unproven.display()))?;
    let mut report = ConvertReport {
        model: name.to_owned(),
        source_sha256: located.files.checksum.clone(),
        sha256: hex::encode(Sha256::digest(&converted.bytes)),
        products: converted.products,
        tables: converted.tables,
        nodes_removed: converted.nodes_removed,
        bytes: (source.len() as u64, converted.bytes.len() as u64),
        compared: 0,
        least_cosine: None,
        largest_difference: None,
        reordered: None,
    };
    let float = ModelFiles { model: unproven.clone(), ..located.files.clone() };
    let compared = match entry.kind {
        Kind::Embedder => compare_embedders(&runtime, &located, &float, &mut report),
        _ => compare_rerankers(&runtime, &located, &float, &mut report),
    };
    if let Err(error) = compared {
        drop(fs::remove_file(&unproven)); // what is wrong is in the error
        return Err(error);
    }
    fs::rename(&unproven, dir.join(MODEL))?;
    fs::write(dir.join(REPORT), serde_json::to_vec_pretty(&report)?)?;
    Ok(report)
}

fn cpu() -> SessionOptions {
    SessionOptions { providers: ProviderRequest::Cpu, ..SessionOptions::default() }
}

fn compare_embedders(
    runtime: &Runtime,
    located: &Located<'_>,
    float: &ModelFiles,
    report: &mut ConvertReport,
) -> anyhow::Result<()> {
    let mut ours = OnnxEmbedder::open(runtime, float, located.embedder_spec(), &cpu())?;
    let mut theirs = OnnxEmbedder::open(runtime, &located.files, located.embedder_spec(), &cpu())?;
    let mut least = f32::INFINITY;
    for text in SAMPLE {
        for role in [TextRole::Query, TextRole::Passage] {
            least = least.min(ours.embed(text, role)?.cosine(&theirs.embed(text, role)?)?);
            report.compared += 1;
        }
    }
    report.least_cosine = Some(least);
    ensure!(
        least >= LEAST_COSINE,
        "the float graph gives other vectors: a cosine of {least}, expected {LEAST_COSINE}"
    );
    Ok(())
}

fn compare_rerankers(
    runtime: &Runtime,
    located: &Located<'_>,
    float: &ModelFiles,
    report: &mut ConvertReport,
) -> anyhow::Result<()> {
    let mut ours = OnnxReranker::open(runtime, float, located.reranker_spec(), &cpu())?;
    let mut theirs = OnnxReranker::open(runtime, &located.files, located.reranker_spec(), &cpu())?;
    let (mut largest, mut low, mut high) = (0.0f32, f32::INFINITY, f32::NEG_INFINITY);
    let (mut swapped, mut orders) = (0, 0);
    for query in QUERIES {
        let mut logits = Vec::new();
        for text in SAMPLE {
            let pair = (ours.score(query, text)?.get(), theirs.score(query, text)?.get());
            largest = largest.max((pair.0 - pair.1).abs());
            (low, high) = (low.min(pair.1), high.max(pair.1));
            logits.push(pair);
            report.compared += 1;
        }
        for (n, a) in logits.iter().enumerate() {
            for b in &logits[n + 1..] {
                orders += 1;
                swapped += usize::from(a.0.total_cmp(&b.0) != a.1.total_cmp(&b.1));
            }
        }
    }
    report.largest_difference = Some(largest);
    report.reordered = Some((swapped, orders));
    let bound = LARGEST_SHARE * (high - low);
    ensure!(
        largest <= bound,
        "the float graph gives other scores: they differ by {largest}, expected {bound} at most"
    );
    Ok(())
}

/// The float graph in `dir`, and its checksum, when it was made of the graph that the catalog names today.
pub fn converted(dir: &Path, name: &str, source_sha256: &str) -> anyhow::Result<(PathBuf, String)> {
    let remedy = || {
        let out = dir.parent().unwrap_or(dir).display();
        format!("make it with `bowerbird models convert --model {name} --out {out}`")
    };
    let path = dir.join(REPORT);
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}: {}", path.display(), remedy()))?;
    let report: ConvertReport = serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is not readable: {}", path.display(), remedy()))?;
    ensure!(
        report.source_sha256 == source_sha256,
        "{} was made of another version of {name}: {}",
        dir.display(),
        remedy()
    );
    let model = dir.join(MODEL);
    let mut file = fs::File::open(&model).with_context(|| format!("{}: {}", model.display(), remedy()))?;
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut hash)?;
    let found = hex::encode(hash.finalize());
    ensure!(
        found == report.sha256,
        "{} has SHA-256 {found}, expected {}: {}",
        model.display(),
        report.sha256,
        remedy()
    );
    Ok((model, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_made_of_todays_model_and_is_whole_is_loaded() {
        let dir = tempfile::tempdir().expect("temp dir");
        let error = |source: &str| {
            let error = converted(dir.path(), "m", source).expect_err("is refused");
            format!("{error:#}")
        };
        assert!(error("a").contains("bowerbird models convert --model m --out"), "{}", error("a"));
        let report = ConvertReport {
            model: "m".into(),
            source_sha256: "a".into(),
            sha256: hex::encode(Sha256::digest(b"graph")),
            products: 1,
            tables: 0,
            nodes_removed: 3,
            bytes: (1, 5),
            compared: 24,
            least_cosine: Some(0.9991),
            largest_difference: None,
            reordered: None,
        };
        fs::write(dir.path().join(REPORT), serde_json::to_vec(&report).expect("JSON")).expect("writes");
        assert!(error("b").contains("another version"), "{}", error("b"));
        assert!(error("a").contains(MODEL), "{}", error("a"));
        fs::write(dir.path().join(MODEL), "grap").expect("writes");
        assert!(error("a").contains("expected"), "{}", error("a"));
        fs::write(dir.path().join(MODEL), "graph").expect("writes");
        let (path, checksum) = converted(dir.path(), "m", "a").expect("is whole");
        assert_eq!((path, checksum), (dir.path().join(MODEL), report.sha256.clone()));
        assert!(report.to_string().contains("least cosine to the quantised graph 0.99910"), "{report}");
    }
}
