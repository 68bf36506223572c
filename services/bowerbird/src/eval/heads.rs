//! What a gate is learned from: for each judged query the features of the first stage, the fused scores and logits of
//! its head, and what the judges said of it. Reading the heads takes minutes, so they are kept in the cache.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use bowerbird_search::gate::FEATURE_COUNT;
use bowerbird_search::{Fused, Mode, RerankOptions, ResultPage, blend};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::eval::beir::{Qrels, qrels, rows};
use crate::eval::load::{name_of, open, request};
use crate::eval::measure::{Judged, judged};
use crate::progress::counting;
use crate::stack::{Stack, cache_dir};

/// Version of the lines in the cache.
const FORMAT: u32 = 1;

/// A judged query and its head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// The query.
    pub id: String,
    /// Values of [`bowerbird_search::gate::Features`].
    pub features: [f32; FEATURE_COUNT],
    /// Fused scores, best first.
    pub fused: Vec<f32>,
    /// What the cross-encoder says of each.
    pub logits: Vec<f32>,
    /// Gain of each place of the fused list, of ten places more than the head has.
    pub gains: Vec<f64>,
    /// The discounted gain of the best order there is, over ten places.
    pub ideal: f64,
}

/// Judged heads of one set.
#[derive(Clone, Debug, PartialEq)]
pub struct Heads {
    /// Name of the set.
    pub dataset: String,
    /// Name of its qrels file.
    pub split: String,
    /// By query.
    pub list: Vec<Head>,
}

impl Head {
    /// nDCG@10 when the first `depth` are read and blended with `share`; of the fused list with depth 0.
    pub fn ndcg(&self, depth: usize, share: f32) -> f64 {
        let depth = depth.min(self.logits.len());
        let fused: Vec<Fused> = self.fused[..depth].iter().copied().map(Fused).collect();
        let scores = blend(&fused, &self.logits[..depth], share);
        let mut order: Vec<usize> = (0..depth).collect();
        order.sort_by(|a, b| scores[*b].score.total_cmp(&scores[*a].score).then(a.cmp(b)));
        order.extend(depth..self.gains.len());
        let gains = order.iter().map(|at| self.gains[*at]);
        Judged::discounted(gains) / self.ideal
    }

    /// The head of a page whose whole head was read.
    fn new(id: &str, page: &ResultPage, grades: &BTreeMap<String, f64>) -> anyhow::Result<Self> {
        let explanation = page.explanation.as_ref().context("the page was not explained")?;
        let mut listed: Vec<_> = page
            .hits
            .iter()
            .filter_map(|hit| Some((hit.explanation.as_ref()?.parts.as_ref()?.ranks.fused, hit)))
            .filter(|(rank, _)| *rank > 0)
            .collect();
        listed.sort_by_key(|(rank, _)| *rank);
        let read = explanation.gating.depth;
        let judged = judged(grades);
        let head = || listed.iter().take(read).map(|(_, hit)| hit.scores);
        Ok(Self {
            id: id.to_owned(),
            features: explanation.gating.features.values(),
            fused: head().filter_map(|scores| scores.fused).collect(),
            logits: head().filter_map(|scores| scores.rerank).collect(),
            gains: listed.iter().take(read + 10).map(|(_, hit)| judged.gain(hit.post.id.as_str())).collect(),
            ideal: judged.ideal,
        })
    }
}

/// The heads of a judged set, from the cache when they are there. `most` judged queries, by hash of their ids.
pub async fn heads(
    config: &Config,
    dataset: &Path,
    split: &str,
    most: Option<usize>,
    index_dir: Option<&Path>,
) -> anyhow::Result<Heads> {
    let judged = sampled(qrels(dataset, split)?, most);
    let name = name_of(dataset);
    let key = key(config, dataset, split, &judged)?;
    let file = cache_dir()?.join("tune").join(format!("{name}-{split}-{key}.jsonl"));
    let found = fs::read_to_string(&file)
        .ok()
        .and_then(|text| text.lines().map(serde_json::from_str).collect::<Result<Vec<Head>, _>>().ok());
    // A file that is cut off or damaged is made again.
    if let Some(list) = found.filter(|list| list.len() == judged.len()) {
        return Ok(Heads { dataset: name, split: split.to_owned(), list });
    }
    let temporary = tempfile::tempdir().context("temporary directory for the index")?;
    let dir = index_dir.map_or_else(|| temporary.path().to_owned(), |dir| dir.join(&name));
    let stack = open(config, dataset, &dir).await?;
    let list = read(&stack, dataset, &judged).await?;
    keep(&file, &list)?;
    Ok(Heads { dataset: name, split: split.to_owned(), list })
}

/// `most` of the judged queries, those with the lowest hash of their id: the same ones each time, in no order of
/// theirs.
fn sampled(mut judged: Qrels, most: Option<usize>) -> Qrels {
    let mut ids: Vec<String> = judged.keys().cloned().collect();
    ids.sort_by_key(|id| hash(id));
    for id in ids.split_off(most.unwrap_or(usize::MAX).min(ids.len())) {
        judged.remove(&id);
    }
    judged
}

/// SHA-256 of a text.
pub fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// What the heads depend on, as a short name.
fn key(config: &Config, dataset: &Path, split: &str, judged: &Qrels) -> anyhow::Result<String> {
    let search = &config.search;
    let mut sha = Sha256::new();
    let settings =
        (search.depth, search.rerank_depth, search.vector_weight.to_bits(), search.proximity.to_bits());
    let models = (&config.models.embedder, &config.models.reranker);
    sha.update(format!("{FORMAT} {split} {settings:?} {models:?}"));
    for name in ["corpus.jsonl", "queries.jsonl"] {
        let path = dataset.join(name);
        sha.update(fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    sha.update(serde_json::to_vec(judged)?);
    let digest: [u8; 32] = sha.finalize().into();
    Ok(format!("{:016x}", digest.iter().take(8).fold(0u64, |name, byte| name << 8 | u64::from(*byte))))
}

async fn read(stack: &Stack, dataset: &Path, judged: &Qrels) -> anyhow::Result<Vec<Head>> {
    let texts: BTreeMap<String, String> =
        rows(&dataset.join("queries.jsonl"))?.collect::<anyhow::Result<_>>()?;
    let bar = counting("reading heads", judged.len() as u64);
    let options = RerankOptions { gated: false, ..stack.engine.config().rerank };
    let mut list = Vec::with_capacity(judged.len());
    for (id, grades) in judged {
        let text = texts.get(id).with_context(|| format!("queries.jsonl has no query {id}"))?;
        let mut request = request(text, Mode::Hybrid, options);
        request.explain = true;
        let page = stack.engine.search(&request).await?;
        anyhow::ensure!(page.degraded.is_empty(), "query {id}: a stage was skipped: {:?}", page.degraded);
        list.push(Head::new(id, &page, grades)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(list)
}

/// Writes the heads so that a file under its name is whole.
fn keep(file: &Path, list: &[Head]) -> anyhow::Result<()> {
    let dir = file.parent().context("a file in the cache has a directory")?;
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let mut out = tempfile::NamedTempFile::new_in(dir)?;
    for head in list {
        writeln!(out, "{}", serde_json::to_string(head)?)?;
    }
    out.persist(file).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_deeper_moves_what_the_cross_encoder_likes() {
        let head = Head {
            id: "1".into(),
            features: [0.0; FEATURE_COUNT],
            fused: vec![0.9, 0.8, 0.7],
            logits: vec![-5.0, -5.0, 5.0],
            gains: vec![0.0, 0.0, 1.0, 0.0],
            ideal: 1.0,
        };
        assert!((head.ndcg(0, 1.0) - 0.5).abs() < 1e-12);
        assert!((head.ndcg(2, 1.0) - 0.5).abs() < 1e-12, "the third was not read");
        assert!((head.ndcg(3, 1.0) - 1.0).abs() < 1e-12);
        assert!((head.ndcg(99, 0.0) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn a_sample_is_the_same_each_time() {
        let one = |id: u32| (id.to_string(), BTreeMap::from([("d".to_owned(), 1.0)]));
        let all: Qrels = (0..50).map(one).collect();
        let some = sampled(all.clone(), Some(20));
        assert_eq!((some.len(), sampled(all.clone(), Some(20))), (20, some));
        assert_eq!(sampled(all.clone(), None), all);
    }
}
