//! What each stage took, and which were skipped.

use std::time::{Duration, Instant};

use crate::SearchError;

/// A step of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Text to [`crate::ParsedQuery`].
    Parse,
    /// Filters to the set of posts a leg may return.
    Filter,
    /// BM25.
    Lexical,
    /// Query to vector.
    Embed,
    /// Nearest vectors.
    Vector,
    /// Joining the legs, with back-fill.
    Fuse,
    /// Cross-encoder.
    Rerank,
    /// Features, near-duplicates, authors, diversity.
    Arrange,
    /// The hits behind the first list.
    Tail,
    /// Posts, highlights, facets.
    Page,
}

impl Stage {
    /// Name in responses and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Filter => "filter",
            Self::Lexical => "lexical",
            Self::Embed => "embed",
            Self::Vector => "vector",
            Self::Fuse => "fuse",
            Self::Rerank => "rerank",
            Self::Arrange => "arrange",
            Self::Tail => "tail",
            Self::Page => "page",
        }
    }

    /// Whether a leg is lost without it.
    pub fn is_retrieval(self) -> bool {
        matches!(self, Self::Lexical | Self::Embed | Self::Vector)
    }
}

/// The record of one search: times by stage, and stages that were skipped.
#[derive(Debug)]
pub struct Trace {
    started: Instant,
    times: Vec<(Stage, Duration)>,
    degraded: Vec<Stage>,
}

impl Default for Trace {
    fn default() -> Self {
        Self { started: Instant::now(), times: Vec::with_capacity(8), degraded: Vec::new() }
    }
}

impl Trace {
    /// When the search began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Notes that `stage` took `time`.
    pub fn took(&mut self, stage: Stage, time: Duration) {
        metrics::histogram!("bowerbird_search_stage_seconds", "stage" => stage.name())
            .record(time.as_secs_f64());
        self.times.push((stage, time));
    }

    /// Runs `work` and notes its time.
    pub fn time<T>(&mut self, stage: Stage, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = work();
        self.took(stage, begun.elapsed());
        result
    }

    /// Notes that `stage` was skipped, and says why in the log.
    pub fn skipped(&mut self, stage: Stage, error: &SearchError) {
        tracing::warn!(stage = stage.name(), error = ?error, "stage skipped");
        self.degrade(stage);
    }

    /// Notes that `stage` had the time for `done` of `wanted` items.
    pub fn shortened(&mut self, stage: Stage, done: usize, wanted: usize) {
        tracing::debug!(stage = stage.name(), done, wanted, "stage shortened for lack of time");
        self.degrade(stage);
    }

    fn degrade(&mut self, stage: Stage) {
        metrics::counter!("bowerbird_search_degraded_total", "stage" => stage.name()).increment(1);
        if !self.degraded.contains(&stage) {
            self.degraded.push(stage);
        }
    }

    /// The value, or `fallback` with `stage` noted as skipped.
    pub fn or_fallback<T>(
        &mut self,
        stage: Stage,
        result: Result<T, SearchError>,
        fallback: impl FnOnce() -> T,
    ) -> T {
        result.unwrap_or_else(|error| {
            self.skipped(stage, &error);
            fallback()
        })
    }

    /// Time by stage, in the order the stages ended.
    pub fn times(&self) -> &[(Stage, Duration)] {
        &self.times
    }

    /// Stages that were skipped.
    pub fn degraded(&self) -> &[Stage] {
        &self.degraded
    }
}
