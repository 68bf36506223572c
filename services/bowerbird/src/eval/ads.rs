//! Whether scores tell relevant ads from random ones, over all queries at once: what a relevance gate needs.
//!
//! Only scores that mean the same for every query can be judged so; fused scores are scaled within a query.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use bowerbird_models_api::TextRole;
use bowerbird_posts::{Ordinal, PostId};
use bowerbird_scheduler::{Job, Priority};
use bowerbird_search::ParsedQuery;
use bowerbird_vector::PointId;
use serde::Serialize;

use crate::eval::beir::{Qrels, rows};
use crate::eval::heads::hash;
use crate::progress::counting;
use crate::stack::Stack;

/// Random documents for each query.
const RANDOM: usize = 5;
/// Recall at which precision is told.
const RECALL: f64 = 0.95;

/// How well a score tells relevant from random.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Separation {
    /// Probability that a relevant document scores above a random one; ties count half.
    pub auc: f64,
    /// Precision at the highest threshold that finds 95 % of the relevant ones.
    #[serde(rename = "precision@recall.95")]
    pub precision: f64,
}

/// Scores of one kind: of a pair, and whether it is relevant.
type Scores = Vec<(f64, bool)>;

/// BM25, cosine, the cross-encoder's logit, and the gate that ads must pass, of every relevant pair and of five random documents a query, which the
/// hash of query and document chooses among those that were not judged relevant.
pub async fn separation(
    stack: &Stack,
    dataset: &Path,
    judged: &Qrels,
) -> anyhow::Result<BTreeMap<&'static str, Separation>> {
    let queries: BTreeMap<String, String> =
        rows(&dataset.join("queries.jsonl"))?.collect::<anyhow::Result<_>>()?;
    let mut documents: BTreeMap<String, String> =
        rows(&dataset.join("corpus.jsonl"))?.collect::<anyhow::Result<_>>()?;
    documents.retain(|_, text| !text.is_empty());
    let snapshot = stack.live.snapshot();
    let gate = stack.config.ads.engine.gate;
    let bar = counting("scoring random documents", judged.len() as u64);
    let mut all: BTreeMap<&'static str, Scores> = BTreeMap::new();
    for (id, grades) in judged {
        let query = queries.get(id).with_context(|| format!("queries.jsonl has no query {id}"))?;
        let relevant = |document: &str| grades.get(document).is_some_and(|grade| *grade >= 1.0);
        let mut random: Vec<&String> = documents.keys().filter(|document| !relevant(document)).collect();
        random.sort_by_cached_key(|document| hash(&format!("{id}\n{document}")));
        random.truncate(RANDOM);
        let pairs: Vec<(&str, bool)> = documents
            .keys()
            .filter(|document| relevant(document))
            .map(|document| (document.as_str(), true))
            .chain(random.into_iter().map(|document| (document.as_str(), false)))
            .collect();

        let ordinals: Vec<Ordinal> = pairs
            .iter()
            .map(|(document, _)| {
                let found = stack.live.store().ordinal(&PostId::new(*document)?)?;
                found.with_context(|| format!("document {document} is not in the index"))
            })
            .collect::<anyhow::Result<_>>()?;
        let points: Vec<PointId> = ordinals.iter().map(|ordinal| PointId(ordinal.0)).collect();
        let texts: Vec<Arc<str>> =
            pairs.iter().map(|(document, _)| documents[*document].as_str().into()).collect();
        let parsed = ParsedQuery::new(query, true, None)?;
        let job = Job { priority: Priority::Rerank, deadline: None };
        let vector = stack.encoders.embed(&parsed.text, TextRole::Query, job).await?;
        let lexical = snapshot.lexical().score(&parsed.bag, &ordinals)?;
        let cosines = snapshot.vectors().score(vector.as_slice(), &points)?;
        let logits = stack.encoders.score(&parsed.text, &texts, job).await;
        for ((((_, relevant), lexical), cosine), logit) in
            pairs.into_iter().zip(lexical).zip(cosines).zip(logits)
        {
            let cosine = cosine.context("a document has no vector")?;
            let logit = logit?;
            let scores = [
                ("lexical", f64::from(lexical.value())),
                ("vector", f64::from(cosine.get())),
                ("reranked_alone", f64::from(logit.get())),
                ("gate", gate.log_odds(logit, cosine.get())),
            ];
            for (name, score) in scores {
                all.entry(name).or_default().push((score, relevant));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(all.into_iter().map(|(name, scores)| (name, separated(scores))).collect())
}

/// AUC and precision at recall .95 of scored pairs, with at least one relevant.
fn separated(mut scores: Scores) -> Separation {
    scores.sort_by(|a, b| b.0.total_cmp(&a.0));
    let relevant = scores.iter().filter(|(_, relevant)| *relevant).count() as f64;
    let random = scores.len() as f64 - relevant;
    let needed = RECALL * relevant;
    let (mut found, mut wrong) = (0.0, 0.0);
    let (mut wins, mut precision) = (0.0, None);
    // Pairs with the same score stand on the same side of every threshold.
    for alike in scores.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
        let good = alike.iter().filter(|(_, relevant)| *relevant).count() as f64;
        let bad = alike.len() as f64 - good;
        wins += good * (random - wrong - bad / 2.0);
        found += good;
        wrong += bad;
        if precision.is_none() && found + 1e-9 >= needed {
            precision = Some(found / (found + wrong));
        }
    }
    Separation { auc: wins / (relevant * random).max(1.0), precision: precision.unwrap_or(0.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separation_counts_pairs() {
        let check = |scores: &[(f64, bool)], auc: f64, precision: f64| {
            let found = separated(scores.to_vec());
            assert!((found.auc - auc).abs() < 1e-12, "{found:?}");
            assert!((found.precision - precision).abs() < 1e-12, "{found:?}");
        };
        check(&[(0.1, false), (0.9, true), (0.8, true)], 1.0, 1.0);
        check(&[(0.1, true), (0.9, false)], 0.0, 0.5);
        check(&[(0.5, true), (0.5, false), (0.5, false)], 0.5, 1.0 / 3.0);
        check(&[(4.0, true), (3.0, false), (2.0, true), (1.0, false)], 0.75, 2.0 / 3.0);
    }
}
