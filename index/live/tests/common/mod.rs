//! A stub vector source and small posts for the tests of the live generation.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bowerbird_lexical::BagQuery;
use bowerbird_live::{Live, LiveConfig, LiveError, Snapshot, VectorSource};
use bowerbird_posts::{Op, Ordinal, Outcome, Post, PostId};
use bowerbird_vector::PointId;

pub mod history;

pub const DIM: usize = 32;

/// Hashed words on the unit sphere: texts that share words are near each other.
pub fn embed(text: &str) -> Vec<f32> {
    let mut vector = [0.01f32; DIM];
    for word in text.split_whitespace() {
        let hash = word.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        vector[(hash % DIM as u64) as usize] += 1.0;
        vector[((hash >> 32) % DIM as u64) as usize] += 0.5;
    }
    let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
    vector.iter().map(|v| v / length).collect()
}

/// Embeds by [`embed`]; fails the first `failures` calls, and refuses texts with the word `refused`.
#[derive(Debug, Default)]
pub struct Stub {
    pub failures: AtomicUsize,
    pub calls: AtomicUsize,
}

#[derive(Debug, thiserror::Error)]
pub enum StubError {
    #[error("model is away")]
    Away,
    #[error("text has no tokens")]
    Refused,
}

impl VectorSource for Stub {
    fn space(&self) -> String {
        "stub/32".into()
    }

    fn dim(&self) -> usize {
        DIM
    }

    fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Box<dyn Error + Send + Sync>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if self.failures.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok()
        {
            return Err(StubError::Away.into());
        }
        if texts.iter().any(|text| text.contains("refused")) {
            return Err(StubError::Refused.into());
        }
        Ok(texts.iter().map(|text| embed(text)).collect())
    }

    fn refuses(&self, error: &(dyn Error + Send + Sync + 'static)) -> bool {
        matches!(error.downcast_ref(), Some(StubError::Refused))
    }
}

pub fn config() -> LiveConfig {
    LiveConfig {
        retry_min: Duration::from_millis(1),
        retry_max: Duration::from_millis(4),
        lexical_interval: Duration::from_millis(10),
        ..LiveConfig::default()
    }
}

pub fn stub() -> Arc<dyn VectorSource> {
    Arc::new(Stub::default())
}

pub fn open(dir: &Path) -> Live {
    Live::open(dir, config(), stub()).expect("opens")
}

pub fn id(id: &str) -> PostId {
    PostId::new(id).expect("valid")
}

pub fn post(id: &str, text: &str) -> Post {
    let at = "2026-01-02T03:04:05Z".parse().expect("a time");
    Post::new(self::id(id), text, "Ann", at).validated().expect("valid")
}

pub fn upsert(id: &str, text: &str) -> Op {
    Op::Upsert(Box::new(post(id, text)))
}

pub fn write(live: &Live, op: Op) -> Outcome {
    live.write_blocking(vec![op]).expect("written")[0]
}

/// Ids of what words find, in order of rank.
pub fn lexical(snapshot: &Snapshot, words: &str) -> Vec<String> {
    let hits =
        snapshot.lexical().search(&BagQuery::words(words), Some(snapshot.live()), 100).expect("searched");
    hits.hits.iter().map(|(ordinal, _)| snapshot.columns().id(*ordinal).expect("alive").to_string()).collect()
}

/// Ids of the nearest `k` live posts.
pub fn nearest(snapshot: &Snapshot, text: &str, k: usize) -> Vec<String> {
    let hits = snapshot.vectors().search(&embed(text), k, Some(snapshot.live())).expect("searched");
    let name = |ordinal| snapshot.columns().id(Ordinal(ordinal)).expect("alive").to_string();
    hits.iter().map(|(point, _)| name(point.0)).collect()
}

pub fn is_locked(result: Result<Live, LiveError>) -> bool {
    matches!(result, Err(LiveError::Locked { .. }))
}

/// The word of a text that no other text has.
fn own_word(text: &str) -> &str {
    text.split(' ').nth(1).expect("two words")
}

/// Asserts that the generation holds exactly `models`, in the store and in both indexes, after a flush.
pub fn assert_holds(live: &Live, models: &[history::Model], when: &str) {
    let mut stored = BTreeMap::new();
    let mut ordinals = BTreeMap::new();
    live.store()
        .scan(Ordinal(0), &mut |found| {
            ordinals.insert(found.post.id.clone(), found.ordinal);
            stored.insert(found.post.id.clone(), found.post);
            ControlFlow::Continue(())
        })
        .expect("scanned");
    let expected: BTreeMap<_, _> = models.iter().flat_map(|model| model.posts.clone()).collect();
    assert!(stored == expected, "{when}: other posts than were acknowledged");
    let snapshot = live.snapshot();
    assert_eq!(snapshot.live(), &ordinals.values().map(|ordinal| ordinal.0).collect(), "{when}");
    assert_eq!(snapshot.lexical().doc_count(), snapshot.live().len(), "{when}");
    for (id, post) in &expected {
        let ordinal = ordinals[id];
        assert_eq!(snapshot.columns().counts(ordinal), post.counts, "{when}: {id}");
        let vector = snapshot.vectors().vector(PointId(ordinal.0)).expect("read");
        assert_eq!(vector, Some(embed(&post.text)), "{when}: {id} has another vector");
        if post.text.starts_with("common ") {
            assert_eq!(lexical(&snapshot, own_word(&post.text)), [id.as_str()], "{when}");
        }
    }
    let alive: BTreeSet<&str> = expected.values().map(|post| post.text.as_str()).collect();
    let recent = models.iter().flat_map(|model| model.dead.iter().rev().take(40));
    for text in recent.filter(|text| text.starts_with("common ") && !alive.contains(text.as_str())) {
        assert!(lexical(&snapshot, own_word(text)).is_empty(), "{when}: {text:?} came back");
    }
}
