//! What the models say of judged pairs, computed once and kept in a file.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use bowerbird_answer::support::{Alignment, Scores};
use bowerbird_models_api::{Embedding, TextRole};
use bowerbird_scheduler::{Encoders, Job, Priority};
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::pairs::Pair;
use crate::progress::counting;

/// Pairs looked at together: enough to keep every worker busy, few enough for the queue.
const TOGETHER: usize = 4;

/// The models with a memory.
pub struct Scorer {
    encoders: Encoders,
    /// Models the values are of; part of every key.
    models: String,
    known: Mutex<HashMap<String, f32>>,
    vectors: Mutex<HashMap<String, Embedding>>,
    file: Option<Mutex<File>>,
}

impl Scorer {
    /// A scorer that remembers in `file`, if one is given: lines of key, tab, value. Lines that cannot be read (a run
    /// was cut off) are computed again.
    pub fn new(encoders: Encoders, file: Option<&Path>) -> anyhow::Result<Self> {
        let models = format!("{} {}", encoders.reranker_name(), encoders.space().fingerprint());
        let mut known = HashMap::new();
        let file = match file {
            None => None,
            Some(path) => {
                let place = || format!("cannot use the file of scores {}", path.display());
                if let Ok(file) = File::open(path) {
                    for line in BufReader::new(file).lines() {
                        let line = line.with_context(place)?;
                        if let Some((key, value)) = line.split_once('\t')
                            && let Ok(value) = value.parse()
                        {
                            known.insert(key.to_owned(), value);
                        }
                    }
                }
                let file = OpenOptions::new().create(true).append(true).open(path).with_context(place)?;
                Some(Mutex::new(file))
            }
        };
        Ok(Self { encoders, models, known: Mutex::new(known), vectors: Mutex::default(), file })
    }

    /// Alignment and scores of every pair, in order.
    pub async fn score(&self, what: &str, pairs: &[Pair]) -> anyhow::Result<Vec<(Alignment, Scores)>> {
        let bar = counting(&format!("scoring {what}"), pairs.len() as u64);
        let scored = futures::stream::iter(pairs)
            .map(|pair| async {
                let evidence: Vec<&str> = pair.evidence.iter().map(String::as_str).collect();
                let alignment = Alignment::new(&pair.claim, &evidence);
                let scores = self.one(&alignment).await?;
                bar.inc(1);
                anyhow::Ok((alignment, scores))
            })
            .buffered(TOGETHER)
            .try_collect()
            .await;
        bar.finish_and_clear();
        scored
    }

    async fn one(&self, alignment: &Alignment) -> anyhow::Result<Scores> {
        let mut missing_logits = Vec::new();
        let mut missing_cosines = Vec::new();
        let known = |key: &str| self.known.lock().get(key).copied();
        let scores = alignment.scores(
            true,
            |query, passage| {
                let found = known(&self.key("logit", query, passage));
                if found.is_none() {
                    missing_logits.push((query.to_owned(), passage.to_owned()));
                }
                found.unwrap_or(0.0)
            },
            |a, b| {
                let found = known(&self.key("cosine", a, b));
                if found.is_none() {
                    missing_cosines.push((a.to_owned(), b.to_owned()));
                }
                found.unwrap_or(0.0)
            },
        );
        if missing_logits.is_empty() && missing_cosines.is_empty() {
            return Ok(scores);
        }
        let job = Job { priority: Priority::AnswerCheck, deadline: None };
        for (query, passage) in &missing_logits {
            let passages = [Arc::from(passage.as_str())];
            for logit in self.encoders.score(query, &passages, job).await {
                self.keep(self.key("logit", query, passage), logit?.get())?;
            }
        }
        for (a, b) in &missing_cosines {
            let (left, right) = (self.vector(a).await?, self.vector(b).await?);
            let cosine = left.cosine(&right)?;
            self.keep(self.key("cosine", a, b), cosine)?;
        }
        let value = |key: String| known(&key).unwrap_or(0.0);
        Ok(alignment.scores(
            true,
            |query, passage| value(self.key("logit", query, passage)),
            |a, b| value(self.key("cosine", a, b)),
        ))
    }

    async fn vector(&self, text: &str) -> anyhow::Result<Embedding> {
        if let Some(vector) = self.vectors.lock().get(text) {
            return Ok(vector.clone());
        }
        let job = Job { priority: Priority::AnswerCheck, deadline: None };
        let (vector, _) = self.encoders.embed_counted(text, TextRole::Passage, job).await?;
        self.vectors.lock().insert(text.to_owned(), vector.clone());
        Ok(vector)
    }

    fn key(&self, kind: &str, a: &str, b: &str) -> String {
        let mut hash = Sha256::new();
        for part in [self.models.as_str(), kind, a, b] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let mut key = format!("{:x}", hash.finalize());
        key.truncate(24);
        key
    }

    fn keep(&self, key: String, value: f32) -> anyhow::Result<()> {
        if let Some(file) = &self.file {
            writeln!(file.lock(), "{key}\t{value}").context("cannot write the file of scores")?;
        }
        self.known.lock().insert(key, value);
        Ok(())
    }
}
