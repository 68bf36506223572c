//! Query and passage to one logit.

use std::num::NonZeroUsize;
use std::ops::Range;

use bowerbird_models_api::{ModelError, Pair, PairRead, RerankLogit, Reranker};

use rayon::prelude::*;

use crate::graph::Graph;
use crate::rows::{BatchShapes, Row, Rows};
use crate::tokens::Tokens;
use crate::{ModelFiles, OnnxError, Providers, Runtime, SessionOptions};

/// How a pair is cut into sequences. One pair costs at most `max_windows` runs of
/// `query_tokens + passage_tokens + 3` tokens.
#[derive(Clone, Debug)]
pub struct RerankerSpec {
    /// Name in the catalog.
    pub name: String,
    /// Longest sequence of the model in tokens, marks included.
    pub max_tokens: usize,
    /// Longest query; the rest of a longer one is not seen.
    pub query_tokens: usize,
    /// Tokens of the passage in one window. Windows overlap by a quarter, so that a sentence cut by one is whole in
    /// the next.
    pub passage_tokens: usize,
    /// Most windows; what a passage has beyond the last one is not seen.
    pub max_windows: usize,
}

impl RerankerSpec {
    /// Query of 128 tokens, three windows of 160: a post is one window, a long text is seen for 400 tokens.
    pub fn new(name: impl Into<String>, max_tokens: usize) -> Self {
        Self { name: name.into(), max_tokens, query_tokens: 128, passage_tokens: 160, max_windows: 3 }
    }

    fn check(&self) -> Result<(), String> {
        let needed = self.query_tokens.saturating_add(self.passage_tokens).saturating_add(3);
        if self.query_tokens == 0 || self.passage_tokens < 4 || self.max_windows == 0 {
            return Err("query_tokens and max_windows must be at least 1, passage_tokens at least 4".into());
        }
        if needed > self.max_tokens {
            return Err(format!(
                "query, window and marks take {needed} tokens, max_tokens is {}",
                self.max_tokens
            ));
        }
        Ok(())
    }

    fn stride(&self) -> usize {
        self.passage_tokens * 3 / 4
    }

    /// Tokens of a passage that any window can see.
    fn visible_tokens(&self) -> usize {
        self.passage_tokens.saturating_add(self.stride().saturating_mul(self.max_windows - 1))
    }

    /// Windows over a passage of `tokens` tokens; the last one ends with the passage, full as the others.
    fn windows(&self, tokens: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let (size, stride) = (self.passage_tokens, self.stride());
        let count = if tokens <= size { 1 } else { 1 + (tokens - size).div_ceil(stride) };
        (0..count.min(self.max_windows)).map(move |i| {
            let start = (i * stride).min(tokens.saturating_sub(size));
            start..(start + size).min(tokens)
        })
    }
}

/// A [`Reranker`] over one ONNX session.
pub struct OnnxReranker {
    graph: Graph,
    tokens: Tokens,
    spec: RerankerSpec,
}

impl OnnxReranker {
    /// Loads the model and scores one pair to see that it is a cross-encoder with one logit.
    pub fn open(
        runtime: &Runtime,
        files: &ModelFiles,
        spec: RerankerSpec,
        options: &SessionOptions,
    ) -> Result<Self, OnnxError> {
        spec.check().map_err(|message| OnnxError::Spec { model: spec.name.clone(), message })?;
        let graph = Graph::open(runtime, &spec.name, &files.model, "logits", options)?;
        let tokens = Tokens::open(&spec.name, &files.tokenizer)?;
        let mut reranker = Self { graph, tokens, spec };
        match reranker.score("query", "passage") {
            Ok(_) => Ok(reranker),
            Err(error) => Err(reranker.graph.unusable(&error)),
        }
    }

    /// What the session runs on.
    pub fn providers(&self) -> &Providers {
        self.graph.providers()
    }

    /// Runs every shape that batches have once, so that the first requests find memory and kernels in place.
    pub fn warm(&mut self) -> Result<(), ModelError> {
        self.graph.warm(&BatchShapes::default(), self.tokens.cls, self.spec.max_tokens)
    }
}

/// The sequences of a pair, one for each window: `[CLS] query [SEP] window [SEP]`, segment 0 up to the first `[SEP]`
/// and 1 after it.
fn rows(tokens: &Tokens, spec: &RerankerSpec, pair: Pair<'_>) -> Result<(Vec<Row>, PairRead), ModelError> {
    let visible = spec.visible_tokens();
    let visible = pair.passage_tokens.map_or(visible, |limit| visible.min(limit.get()));
    let (query, query_dropped) = tokens.of("", pair.query, spec.query_tokens)?;
    let (passage, passage_dropped) = tokens.of("", pair.passage, visible)?;
    let row = |window: Range<usize>| {
        let ids = [&[tokens.cls], query.as_slice(), &[tokens.sep], &passage[window], &[tokens.sep]].concat();
        let mut types = vec![0; query.len() + 2];
        types.resize(ids.len(), 1);
        Row { ids, types }
    };
    let rows: Vec<Row> = spec.windows(passage.len()).map(row).collect();
    let tokens = rows.iter().map(|row| row.ids.len()).sum();
    Ok((rows, PairRead { tokens, query_dropped, passage_dropped }))
}

/// The one logit of a row.
fn logit(values: &[f32], shape: &[i64], model: &str) -> Result<RerankLogit, ModelError> {
    let [logit] = values else {
        let message = format!("output has shape {shape:?}, expected [1, 1]");
        return Err(ModelError::Failed { model: model.into(), message });
    };
    RerankLogit::new(*logit)
}

/// The best of the windows; there is always a first.
fn best(windows: impl Iterator<Item = Result<RerankLogit, ModelError>>) -> Result<RerankLogit, ModelError> {
    let mut best: Option<RerankLogit> = None;
    for window in windows {
        let logit = window?;
        if best.is_none_or(|best| logit > best) {
            best = Some(logit);
        }
    }
    best.ok_or(ModelError::EmptyText)
}

impl Reranker for OnnxReranker {
    fn name(&self) -> &str {
        &self.spec.name
    }

    fn score(&mut self, query: &str, passage: &str) -> Result<RerankLogit, ModelError> {
        self.score_counted(query, passage, None).map(|(logit, _)| logit)
    }

    fn score_counted(
        &mut self,
        query: &str,
        passage: &str,
        passage_tokens: Option<NonZeroUsize>,
    ) -> Result<(RerankLogit, PairRead), ModelError> {
        let Self { graph, tokens, spec } = self;
        let (windows, read) = rows(tokens, spec, Pair { query, passage, passage_tokens })?;
        let logits = windows
            .iter()
            .map(|row| graph.run(&Rows::one(row), |shape, values| logit(values, shape, &spec.name))?);
        Ok((best(logits)?, read))
    }

    fn score_batch(&mut self, pairs: &[Pair<'_>]) -> Vec<Result<(RerankLogit, PairRead), ModelError>> {
        let Self { graph, tokens, spec } = self;
        // The device waits for the tokens: they are cut on all cores.
        let cut: Vec<Result<(Vec<Row>, PairRead), ModelError>> =
            pairs.par_iter().with_min_len(8).map(|pair| rows(tokens, spec, *pair)).collect();
        let mut all = Vec::with_capacity(cut.len());
        let reads: Vec<Result<(usize, PairRead), ModelError>> = cut
            .into_iter()
            .map(|cut| {
                let (rows, read) = cut?;
                let windows = rows.len();
                all.extend(rows);
                Ok((windows, read))
            })
            .collect();
        let mut logits = graph
            .run_many(&all, &BatchShapes::default(), |values, shape, _| logit(values, shape, &spec.name))
            .into_iter();
        reads
            .into_iter()
            .map(|read| {
                let (windows, read) = read?;
                let own: Vec<_> = logits.by_ref().take(windows).collect();
                Ok((best(own.into_iter())?, read))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use bowerbird_models_api::contract;

    #[test]
    fn windows_overlap_cover_the_passage_and_are_bounded() {
        let spec = RerankerSpec::new("m", 512);
        let windows = |tokens| spec.windows(tokens).map(|w| (w.start, w.end)).collect::<Vec<_>>();
        for (tokens, expected) in [
            (1, vec![(0, 1)]),
            (160, vec![(0, 160)]),
            (161, vec![(0, 160), (1, 161)]),
            (280, vec![(0, 160), (120, 280)]),
            (300, vec![(0, 160), (120, 280), (140, 300)]),
            (400, vec![(0, 160), (120, 280), (240, 400)]),
            (100_000, vec![(0, 160), (120, 280), (240, 400)]),
        ] {
            assert_eq!(windows(tokens), expected, "{tokens}");
        }
        assert_eq!(spec.visible_tokens(), 400);
        for tokens in 1..=400 {
            let windows = windows(tokens);
            assert_eq!(windows[0].0, 0);
            assert!(windows.windows(2).all(|pair| pair[1].0 <= pair[0].1), "{tokens}");
            assert_eq!(windows.last().map(|w| w.1), Some(tokens));
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        let good = RerankerSpec::new("m", 512);
        assert_eq!(good.check(), Ok(()));
        assert!(RerankerSpec { query_tokens: 350, ..good.clone() }.check().is_err_and(|m| m.contains("513")));
        assert!(RerankerSpec { max_windows: 0, ..good.clone() }.check().is_err());
        assert!(RerankerSpec { passage_tokens: usize::MAX, ..good }.check().is_err());
    }

    #[test]
    fn the_real_model_keeps_the_contract() {
        let Some(models) = testing::models() else { return };
        contract::reranker(&mut models.reranker());
    }

    /// The pairs of the model card (9.2189, -4.0780 in float; 9.154, -4.324 for this int8 file in a batch of two).
    #[test]
    fn the_model_card_pairs_score_as_published() {
        let Some(models) = testing::models() else { return };
        let mut model = models.reranker();
        let query = "How many people live in Berlin?";
        for (passage, expected) in [
            (
                "Berlin had a population of 3,520,031 registered inhabitants in an area of 891.82 square kilometers.",
                9.154,
            ),
            ("Berlin is well known for its museums.", -4.324),
            // Not on the card; measured on this file, one pair a call.
            ("New York City is famous for the Metropolitan Museum of Art.", -11.19),
        ] {
            let logit = model.score(query, passage).expect("scores").get();
            assert!((logit - expected).abs() < 0.6, "{logit}, expected {expected}: {passage}");
        }
    }

    #[test]
    fn a_score_does_not_depend_on_its_neighbours() {
        let Some(models) = testing::models() else { return };
        let query = "how to sleep better";
        let passages =
            ["Nine ways to fall asleep faster", "FDA nod for a new drug", &"long words ".repeat(300), "🙂"];
        let mut model = models.reranker();
        let forward: Vec<_> = passages.iter().map(|p| model.score(query, p).expect("scores")).collect();
        let mut backward: Vec<_> =
            passages.iter().rev().map(|p| model.score(query, p).expect("scores")).collect();
        backward.reverse();
        assert_eq!(forward, backward);
        let mut other = models.reranker();
        assert_eq!(
            other.score(query, passages[1]).expect("scores"),
            forward[1],
            "another session, the same bits"
        );
    }

    /// Why int8 graphs run one item a call: an activation scale is taken over all rows of a call.
    #[test]
    fn int8_scores_depend_on_batch_mates() {
        let Some(models) = testing::models() else { return };
        let mut model = models.reranker();
        let query = "how to sleep better";
        let pairs = [
            (query, "Nine ways to fall asleep faster"),
            (query, " "),
            (query, "FDA nod for a new drug"),
            (
                query,
                "Berlin had a population of 3,520,031 registered inhabitants in an area of 891.82 square km",
            ),
        ]
        .map(|(query, passage)| Pair { query, passage, passage_tokens: None });
        let together = model.score_batch(&pairs);
        assert!(matches!(together[1], Err(ModelError::EmptyText)), "a blank text spoils no other");
        let mut differ = 0;
        for (pair, batched) in pairs.iter().zip(&together) {
            let Ok((batched, _)) = batched else { continue };
            let alone = model.score(pair.query, pair.passage).expect("scores");
            let gap = (batched.get() - alone.get()).abs();
            assert!(gap < 1.5, "the same pair all the same: {gap}");
            differ += usize::from(gap > 1e-4);
        }
        assert!(differ > 0, "were this not so, batches would be safe on this graph");
        assert!(model.score_batch(&[]).is_empty());
    }

    #[test]
    fn a_long_passage_scores_by_its_best_window() {
        let Some(models) = testing::models() else { return };
        let mut model = models.reranker();
        let query = "How many people live in Berlin?";
        let answer = "Berlin has a population of 3,520,031 registered inhabitants.";
        let filler =
            "The committee met again on Tuesday to discuss the colour of the new curtains. ".repeat(12);
        let alone = model.score(query, &filler).expect("scores").get();
        let late = model.score(query, &format!("{filler} {answer}")).expect("scores").get();
        let beyond = model.score(query, &format!("{} {answer}", filler.repeat(4))).expect("scores").get();
        assert!(late > alone + 3.0, "filler {alone}, with the answer in a later window {late}");
        assert!((beyond - alone).abs() < 3.0, "what no window sees cannot count: {beyond}, filler {alone}");
    }

    #[test]
    fn a_model_that_gives_no_single_logit_is_refused() {
        let Some(models) = testing::models() else { return };
        let files = models.embedder_files();
        let spec = testing::reranker_spec();
        let error = OnnxReranker::open(&models.runtime(), &files, spec, &SessionOptions::default());
        let error = error.err().expect("an embedder is no reranker").to_string();
        assert!(error.contains("expected [1, 1]") && error.contains("bge-small"), "{error}");
    }
}
