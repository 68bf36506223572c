//! Texts labelled as hateful, offensive, toxic or grave: two public sets and the demo's posts, and their vectors.
//!
//! | folder | text | label |
//! |---|---|---|
//! | `davidson-hate-offensive` | `tweet` | `class` 0: hate and offensive; 1: offensive, of which there are many: a quarter is used; 2: neither |
//! | `surge-toxicity` | `text` | `is_toxic`: toxic |
//! | the demo's posts | `text` | a word of the list of [`bowerbird_ads::sensitive_term`] occurs: grave |
//!
//! Nobody judged the demo's posts: what is learnt from them is what surrounds the words of the list, so that a post is
//! known by its subject when none of the words is there.
//!
//! Texts that are the same but for case, names of users and links are on one side of every split.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use bowerbird_ads::sensitive_term;
use bowerbird_models_api::{Embedding, TextRole};
use bowerbird_posts::Post;
use bowerbird_scheduler::{Encoders, Job, Priority};
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::demo::corpus;
use crate::progress::counting;

/// Labels in the order of [`Text::labels`].
pub const LABELS: [&str; 4] = ["hate", "offensive", "toxic", "grave"];
/// Of a hundred texts so many are learnt from, and so many choose penalty and threshold; the others are held out.
const TRAIN_PERCENT: u64 = 60;
const VALIDATION_PERCENT: u64 = 20;
/// The demo's posts that are used, spread over all.
const POSTS: usize = 12_000;
/// Texts looked at together: enough to keep every worker busy, few enough for the queue.
const TOGETHER: usize = 4;

/// What a text may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// To learn from.
    Train,
    /// To choose by.
    Validation,
    /// To measure on, once.
    HeldOut,
}

/// A labelled text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// As a reader sees it.
    pub text: String,
    /// For each of [`LABELS`] whether it applies; `None` where the set does not say.
    pub labels: [Option<bool>; LABELS.len()],
    /// What it may be used for.
    pub part: Use,
}

impl Text {
    /// Whether any label applies.
    pub fn is_unsafe(&self) -> bool {
        self.labels.contains(&Some(true))
    }
}

/// A set of labelled texts.
#[derive(Clone, Debug)]
pub struct TextSet {
    /// Name of the folder.
    pub name: &'static str,
    /// SHA-256 of the data file, in hexadecimal.
    pub sha256: String,
    /// In the order of the file.
    pub texts: Vec<Text>,
}

/// The sets in a folder; those absent are left out, and none at all is an error.
pub fn read_sets(data: &Path) -> anyhow::Result<Vec<TextSet>> {
    let mut sets = Vec::new();
    for (name, file, read) in [
        ("davidson-hate-offensive", "labeled_data.csv", davidson as fn(&[u8]) -> anyhow::Result<Vec<Text>>),
        ("surge-toxicity", "toxicity_en.csv", surge),
    ] {
        let path = data.join(name).join(file);
        if path.is_file() {
            let place = || format!("cannot use {}", path.display());
            let bytes = std::fs::read(&path).with_context(place)?;
            let texts = read(&bytes).with_context(place)?;
            ensure!(!texts.is_empty(), "{} has no text", path.display());
            sets.push(TextSet { name, sha256: hex::encode(Sha256::digest(&bytes)), texts });
        }
    }
    if sets.is_empty() {
        bail!(
            "{} has none of davidson-hate-offensive, surge-toxicity: give the folder that holds them",
            data.display()
        );
    }
    Ok(sets)
}

/// The demo's posts in the archive at `path`, as many as `POSTS` says.
pub fn demo_posts(path: &Path) -> anyhow::Result<TextSet> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let posts = corpus::spread(corpus::read(path)?, POSTS);
    let one = |post: Post| {
        let grave = sensitive_term(&post.text).is_some();
        Text { part: part(&post.text), labels: [None, None, None, Some(grave)], text: post.text }
    };
    let texts = posts.into_iter().map(one).collect();
    Ok(TextSet { name: "demo-posts", sha256: hex::encode(Sha256::digest(&bytes)), texts })
}

fn davidson(bytes: &[u8]) -> anyhow::Result<Vec<Text>> {
    #[derive(Deserialize)]
    struct Row {
        class: u8,
        tweet: String,
    }
    let rows = csv::Reader::from_reader(bytes).into_deserialize();
    let mut texts = Vec::new();
    for (at, row) in rows.enumerate() {
        let Row { class, tweet } = row?;
        ensure!(class <= 2, "class is {class}, expected 0 to 2");
        if class != 1 || at % 4 == 0 {
            texts.push(text(&tweet, [Some(class == 0), Some(class <= 1), None, None]));
        }
    }
    Ok(texts)
}

fn surge(bytes: &[u8]) -> anyhow::Result<Vec<Text>> {
    #[derive(Deserialize)]
    struct Row {
        text: String,
        is_toxic: String,
    }
    let rows = csv::Reader::from_reader(bytes).into_deserialize();
    rows.map(|row| {
        let Row { text: found, is_toxic } = row?;
        let toxic = match is_toxic.as_str() {
            "Toxic" => true,
            "Not Toxic" => false,
            other => bail!("is_toxic is {other:?}, expected \"Toxic\" or \"Not Toxic\""),
        };
        Ok(text(&found, [None, None, Some(toxic), None]))
    })
    .collect()
}

fn text(raw: &str, labels: [Option<bool>; LABELS.len()]) -> Text {
    let text = html_escape::decode_html_entities(raw).trim().to_owned();
    let part = part(&text);
    Text { text, labels, part }
}

/// Chosen by the hash of the words that are neither names of users nor links.
fn part(text: &str) -> Use {
    let lower = text.to_lowercase();
    let words = lower.split_whitespace().map(|word| word.trim_matches(|c: char| "!\":“”.".contains(c)));
    let kept: Vec<&str> = words
        .filter(|word| {
            !word.is_empty() && !word.starts_with(['@', '#']) && !word.contains("http") && *word != "rt"
        })
        .collect();
    let hash = Sha256::digest(kept.join(" "));
    let percent = u64::from(u16::from_be_bytes([hash[0], hash[1]])) * 100 / 65_536;
    if percent < TRAIN_PERCENT {
        Use::Train
    } else if percent < TRAIN_PERCENT + VALIDATION_PERCENT {
        Use::Validation
    } else {
        Use::HeldOut
    }
}

/// The embedder with a memory.
pub struct Vectors {
    encoders: Encoders,
    known: Mutex<HashMap<[u8; 16], Embedding>>,
    file: Option<Mutex<File>>,
}

impl Vectors {
    /// Remembers in `file`, if one is given: 16 bytes of key and the components as `f32`, little-endian, one after the
    /// other. What a run that was cut off left at the end is computed again.
    pub fn new(encoders: Encoders, file: Option<&Path>) -> anyhow::Result<Self> {
        let mut known = HashMap::new();
        let file = match file {
            None => None,
            Some(path) => {
                let place = || format!("cannot use the file of vectors {}", path.display());
                let mut file =
                    OpenOptions::new().create(true).read(true).append(true).open(path).with_context(place)?;
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).with_context(place)?;
                let rows = bytes.chunks_exact(16 + 4 * encoders.space().dim);
                let whole = bytes.len() - rows.remainder().len();
                for row in rows {
                    let (key, values) = row.split_first_chunk::<16>().with_context(place)?;
                    let values = values
                        .chunks_exact(4)
                        .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
                    known.insert(*key, Embedding::normalized(values.collect()).with_context(place)?);
                }
                file.set_len(whole as u64).with_context(place)?;
                Some(Mutex::new(file))
            }
        };
        Ok(Self { encoders, known: Mutex::new(known), file })
    }

    /// Vectors of `texts` in the query role, in order.
    pub async fn of(&self, what: &str, texts: &[&str]) -> anyhow::Result<Vec<Embedding>> {
        let bar = counting(&format!("embedding {what}"), texts.len() as u64);
        let found = futures::stream::iter(texts)
            .map(|text| async {
                let vector = self.one(text).await?;
                bar.inc(1);
                anyhow::Ok(vector)
            })
            .buffered(TOGETHER)
            .try_collect()
            .await;
        bar.finish_and_clear();
        found
    }

    async fn one(&self, text: &str) -> anyhow::Result<Embedding> {
        let mut hash = Sha256::new();
        hash.update(self.encoders.space().fingerprint());
        hash.update("\nquery\n");
        hash.update(text);
        let digest = hash.finalize();
        let key = *digest.first_chunk::<16>().context("32 bytes")?;
        if let Some(vector) = self.known.lock().get(&key) {
            return Ok(vector.clone());
        }
        let job = Job { priority: Priority::AnswerCheck, deadline: None };
        let (vector, _) = self.encoders.embed_counted(text, TextRole::Query, job).await?;
        if let Some(file) = &self.file {
            let mut row = key.to_vec();
            row.extend(vector.as_slice().iter().flat_map(|value| value.to_le_bytes()));
            file.lock().write_all(&row).context("cannot write the file of vectors")?;
        }
        self.known.lock().insert(key, vector.clone());
        Ok(vector)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_and_split_by_text() {
        let csv = b",count,hate_speech,offensive_language,neither,class,tweet\n0,3,0,0,3,2,\"one &amp; two\"\n1,3,3,0,0,0,three\n";
        let texts = davidson(csv).expect("reads");
        assert_eq!(texts[0].text, "one & two");
        assert_eq!(texts[0].labels, [Some(false), Some(false), None, None]);
        assert_eq!(texts[1].labels, [Some(true), Some(true), None, None]);
        assert!(!texts[0].is_unsafe() && texts[1].is_unsafe());
        let texts = surge(b"text,is_toxic\nfine,Not Toxic\nfoul,Toxic\n").expect("reads");
        assert_eq!((texts[0].labels[2], texts[1].labels[2]), (Some(false), Some(true)));
        assert!(surge(b"text,is_toxic\nfine,perhaps\n").is_err());
        assert!(
            davidson(b",count,hate_speech,offensive_language,neither,class,tweet\n0,3,0,0,3,7,x\n").is_err()
        );
    }

    #[test]
    fn what_is_said_again_stays_on_its_side() {
        for text in ["so that is how it is", "nothing to see", "one more"] {
            assert_eq!(part(text), part(&format!("RT @someone: {} http://t.co/x", text.to_uppercase())));
        }
        let held_out = (0..1000).filter(|n| part(&format!("text {n}")) == Use::HeldOut).count();
        assert!((150..250).contains(&held_out), "{held_out} of 1000");
    }
}
