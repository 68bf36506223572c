//! Settings of a live generation.

use std::time::Duration;

use bowerbird_vector::VectorConfig;
use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::LiveError;

/// Settings of one [`Live`](crate::Live).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LiveConfig {
    /// Changes that may wait to be committed.
    pub queue_ops: usize,
    /// Bytes of changes that may wait to be committed.
    pub queue_bytes: usize,
    /// Changes of several callers that share one durable transaction; one caller's changes are never split.
    pub group_ops: usize,
    /// Longest pause between two lexical commits while posts arrive; shorter after a short commit. A write on an idle
    /// index is committed at once, a stream of them in groups.
    #[serde(with = "humantime_serde")]
    pub lexical_interval: Duration,
    /// Space that must stay free on the disk: a write that would leave less is refused, reads go on. Room for what
    /// was acknowledged to reach the indexes.
    pub reserve: ByteSize,
    /// Texts given to the vector source at a time.
    pub embed_batch: usize,
    /// First pause after the vector source failed; doubled up to `retry_max`.
    #[serde(with = "humantime_serde")]
    pub retry_min: Duration,
    /// Longest pause after the vector source or the lexical index failed.
    #[serde(with = "humantime_serde")]
    pub retry_max: Duration,
    /// After how long without progress, while an error is known, [`flush`](crate::Live::flush) gives up.
    #[serde(with = "humantime_serde")]
    pub stall_timeout: Duration,
    /// How long the indexes of a generation that was replaced stay open for cursors that lead into it.
    #[serde(with = "humantime_serde")]
    pub retired_for: Duration,
    /// The vector index.
    pub vector: VectorConfig,
}

impl Default for LiveConfig {
    fn default() -> Self {
        Self {
            queue_ops: 16_384,
            queue_bytes: 64 << 20,
            group_ops: 2048,
            lexical_interval: Duration::from_millis(100),
            reserve: ByteSize::mib(64),
            embed_batch: 32,
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(30),
            stall_timeout: Duration::from_mins(1),
            retired_for: Duration::from_mins(10),
            vector: VectorConfig::default(),
        }
    }
}

impl LiveConfig {
    /// Refuses sizes that could never make progress.
    pub fn validate(&self) -> Result<(), LiveError> {
        let sizes = [
            ("queue_ops", self.queue_ops),
            ("queue_bytes", self.queue_bytes),
            ("group_ops", self.group_ops),
            ("embed_batch", self.embed_batch),
        ];
        for (name, found) in sizes {
            if found == 0 {
                return Err(LiveError::Config { name, expected: "at least 1", found });
            }
        }
        Ok(self.vector.validate()?)
    }

    /// Pause before the `attempt`th retry, counted from 0.
    pub(crate) fn pause(&self, attempt: u32) -> Duration {
        self.retry_min.saturating_mul(1 << attempt.min(16)).min(self.retry_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit() {
        let config = LiveConfig::default();
        config.validate().expect("defaults are valid");
        assert_eq!([0, 1, 2].map(|n| config.pause(n).as_millis()), [100, 200, 400]);
        assert_eq!(config.pause(u32::MAX), config.retry_max);
        let none = LiveConfig { embed_batch: 0, ..LiveConfig::default() };
        assert!(matches!(none.validate(), Err(LiveError::Config { name: "embed_batch", found: 0, .. })));
    }
}
