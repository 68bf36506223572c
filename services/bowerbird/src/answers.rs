//! Answers that were written before, for whoever asks the same of the same posts.
//!
//! The search always runs: it is what says which versions of which posts an answer would be written from, and these
//! are part of the key. So a kept answer is never older than its posts: one deletion, edit or better post among the
//! sources, and the key is another. What is saved is reading, writing and checking, by far the longer part.
//!
//! Two questions share an answer only when they are equal but for case, white space and sentence marks. Nearness of
//! query embeddings was measured and left out. Over 40 rewordings of the sample queries, which should share, and 80
//! changes of a number, a name, a negation or a group of people, which must not, bge-small-en-v1.5 gives rewordings
//! cosines of .762 to .994 (median .967) and changes a median of .856 and up to .989: two questions that differ in a
//! year alone are nearer than most rewordings. A threshold at the median of the rewordings has 2 false hits of 80; one
//! without false hits lies above .989, shares 3 of 40, and 0 of 80 still allows for nearly 4 in a hundred. With the
//! first 72 changes, of shorter questions, it lay at .983: the next pair moves it. `tests/it/answer_cache.rs` measures
//! this again.
//!
//! `bowerbird_answer_cache_total{result}` counts `hit`, `miss`, and `skip` where an answer cannot be kept.

use std::sync::Arc;
use std::time::Duration;

use bowerbird_answer::{
    AnswerEvent, AnswerRequest, Answerer, FinishReason, MAX_SENTENCES, PROMPT_VERSION, Sentence, Source,
    Summary,
};
use bowerbird_posts::Ordinal;
use bytesize::ByteSize;
use metrics::counter;
use moka::sync::Cache;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

/// Names everything an answer depends on.
pub type Key = [u8; 32];

/// Finished answers. Cheap to clone.
#[derive(Clone)]
pub struct Answers {
    kept: Cache<Key, Arc<Kept>>,
    enabled: bool,
    models: Arc<str>,
}

/// A finished answer without its sources: those are the caller's, and the same by the key.
struct Kept {
    sentences: Vec<Sentence>,
    summary: Summary,
}

impl Kept {
    /// Bytes it holds, about.
    fn bytes(&self) -> u32 {
        let sentence = |s: &Sentence| {
            let cited: usize =
                s.citations.iter().map(|c| 128 + c.post_id.len() + c.author.len() + c.quote.len()).sum();
            128 + s.text.len() + s.lead.as_ref().map_or(0, String::len) + cited
        };
        let sentences: usize = self.sentences.iter().map(sentence).sum();
        let nearest: usize = self.summary.nearest.iter().map(|n| 96 + n.post_id.len() + n.quote.len()).sum();
        let reason = self.summary.reason.as_ref().map_or(0, String::len);
        u32::try_from(256 + sentences + nearest + reason).unwrap_or(u32::MAX)
    }
}

impl Answers {
    /// At most `memory` of answers (0 keeps none), each for at most `ttl`. `models` names all that read and write.
    pub fn new(memory: ByteSize, ttl: Duration, models: &str) -> Self {
        let kept = Cache::builder()
            .max_capacity(memory.as_u64())
            .weigher(|_, kept: &Arc<Kept>| kept.bytes())
            .time_to_live(ttl)
            .build();
        Self { kept, enabled: memory.as_u64() > 0, models: models.into() }
    }

    /// The key of an answer; none when nothing is kept, or when a source is no longer what the search found.
    /// `versions` has one ordinal for each source.
    pub fn key(
        &self,
        question: &str,
        filter: Option<&str>,
        max_sentences: usize,
        sources: &[Source],
        versions: &[Option<Ordinal>],
    ) -> Option<Key> {
        if !self.enabled {
            return None;
        }
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            // With its length, so that two parts never read as two others.
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        part(PROMPT_VERSION.as_bytes());
        part(self.models.as_bytes());
        part(same(question).as_bytes());
        part(filter.unwrap_or_default().trim().as_bytes());
        part(&(max_sentences as u64).to_le_bytes());
        for (at, source) in sources.iter().enumerate() {
            let version = versions.get(at).copied().flatten()?;
            part(source.post_id.as_bytes());
            part(version.0.to_string().as_bytes());
        }
        Some(hash.finalize().into())
    }

    /// The answer under `key`, or a new one that is kept when it is whole. Dropping the receiver stops all model work.
    pub fn stream(
        &self,
        answerer: &Answerer,
        request: AnswerRequest,
        key: Option<Key>,
    ) -> mpsc::Receiver<AnswerEvent> {
        let Some(key) = key else {
            counter!("bowerbird_answer_cache_total", "result" => "skip").increment(1);
            return answerer.stream(request);
        };
        // Room for the whole answer: nothing here waits for a reader.
        let (events, receiver) = mpsc::channel(MAX_SENTENCES + 2);
        if let Some(kept) = self.kept.get(&key) {
            counter!("bowerbird_answer_cache_total", "result" => "hit").increment(1);
            let mut summary = kept.summary.clone();
            summary.usage.cached = true;
            let sentences = kept.sentences.iter().cloned().map(AnswerEvent::Sentence);
            let told = std::iter::once(AnswerEvent::Sources(request.sources));
            for event in told.chain(sentences).chain([AnswerEvent::Done(summary)]) {
                let _ = events.try_send(event);
            }
            return receiver;
        }
        counter!("bowerbird_answer_cache_total", "result" => "miss").increment(1);
        let mut written = answerer.stream(request);
        let answers = self.clone();
        tokio::spawn(async move {
            let mut sentences = Vec::new();
            while let Some(event) =
                tokio::select! { event = written.recv() => event, () = events.closed() => None }
            {
                match &event {
                    AnswerEvent::Sentence(sentence) => sentences.push(sentence.clone()),
                    AnswerEvent::Done(summary) if is_whole(summary) => {
                        let sentences = std::mem::take(&mut sentences);
                        answers.kept.insert(key, Arc::new(Kept { sentences, summary: summary.clone() }));
                    }
                    AnswerEvent::Sources(_) | AnswerEvent::Done(_) | AnswerEvent::Error(_) => {}
                }
                if events.send(event).await.is_err() {
                    break;
                }
            }
        });
        receiver
    }
}

/// Whether another attempt would give no more: a degraded or late answer is not kept.
fn is_whole(summary: &Summary) -> bool {
    let ended = matches!(summary.finish_reason, FinishReason::Stop | FinishReason::RefusedNoEvidence);
    ended && summary.degraded.is_empty()
}

/// `question` in lower case, its words apart by one space, without the marks around them that end or quote a sentence.
/// Signs that change what is meant (`+`, `-`, `%`, `$`, `#`) stay.
fn same(question: &str) -> String {
    let is_mark = |c: char| {
        matches!(c, '?' | '!' | '.' | ',' | ';' | ':' | '"' | '\'' | '(' | ')' | '…' | '¿' | '¡')
            || matches!(c, '\u{2018}'..='\u{201e}')
    };
    let words = question.split_whitespace().map(|word| word.trim_matches(is_mark).to_lowercase());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(n: usize, id: &str) -> Source {
        Source {
            n,
            post_id: id.into(),
            author: "ann".into(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            text: "text".into(),
            score: 1.0,
        }
    }

    #[test]
    fn case_space_and_sentence_marks_do_not_count_and_signs_and_numbers_do() {
        for (a, b) in [
            ("Is coffee  good?", "is coffee good"),
            ("“flu”, shot!", "Flu shot"),
            ("What is MERS…", "what is mers"),
        ] {
            assert_eq!(same(a), same(b), "{a} | {b}");
        }
        for (a, b) in [
            ("flu shot 2013", "flu shot 2014"),
            ("1.5 mg", "15 mg"),
            ("+5 kg", "5 kg"),
            ("vitamin b", "vitamin b+"),
            ("is it safe", "is it not safe"),
        ] {
            assert_ne!(same(a), same(b), "{a} | {b}");
        }
    }

    #[test]
    fn the_key_is_another_when_anything_else_is() {
        let answers = Answers::new(ByteSize::kib(1), Duration::from_secs(1), "models");
        let other = Answers::new(ByteSize::kib(1), Duration::from_secs(1), "other models");
        let sources = [source(1, "a"), source(2, "b")];
        let versions = [Some(Ordinal(1)), Some(Ordinal(2))];
        let key = answers.key("Flu shot?", None, 3, &sources, &versions);
        assert_eq!(key, answers.key("flu shot", Some(" "), 3, &sources, &versions));
        let others = [
            answers.key("flu shots", None, 3, &sources, &versions),
            answers.key("flu shot", Some("from:ann"), 3, &sources, &versions),
            answers.key("flu shot", None, 4, &sources, &versions),
            answers.key("flu shot", None, 3, &sources[..1], &versions),
            answers.key("flu shot", None, 3, &[source(1, "b"), source(2, "a")], &versions),
            answers.key("flu shot", None, 3, &sources, &[Some(Ordinal(1)), Some(Ordinal(3))]),
            other.key("flu shot", None, 3, &sources, &versions),
        ];
        assert!(others.iter().all(|other| other.is_some() && *other != key));
        assert_eq!(answers.key("flu shot", None, 3, &sources, &[Some(Ordinal(1)), None]), None);
    }
}
