//! Text to unit vector.

use std::path::Path;

use bowerbird_models_api::{Embedder, Embedding, EmbeddingSpace, ModelError, TextRead, TextRole};

use rayon::prelude::*;

use crate::graph::Graph;
use crate::rows::{BatchShapes, Row, Rows};
use crate::tokens::Tokens;
use crate::{ModelFiles, OnnxError, Providers, Runtime, SessionOptions};

/// How the vectors of the tokens become the vector of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The vector of the first token, `[CLS]`.
    Cls,
    /// The mean over all tokens.
    Mean,
}

/// What the vectors of a model mean; a mistake here gives vectors that look right and rank wrong.
#[derive(Clone, Debug)]
pub struct EmbedderSpec {
    /// Name in the catalog.
    pub name: String,
    /// Components of each vector; another length of the graph's output is refused.
    pub dim: usize,
    /// How token vectors become one.
    pub pooling: Pooling,
    /// Put before a query.
    pub query_prefix: String,
    /// Put before a passage.
    pub passage_prefix: String,
    /// Longest input in tokens, both marks and the prefix included; the rest of a longer text is not seen.
    pub max_tokens: usize,
}

/// An [`Embedder`] over one ONNX session.
pub struct OnnxEmbedder {
    graph: Graph,
    tokens: Tokens,
    spec: EmbedderSpec,
    space: EmbeddingSpace,
}

impl OnnxEmbedder {
    /// Loads the model and runs it once to compare its dimensions with the specification.
    pub fn open(
        runtime: &Runtime,
        files: &ModelFiles,
        spec: EmbedderSpec,
        options: &SessionOptions,
    ) -> Result<Self, OnnxError> {
        let graph = Graph::open(runtime, &spec.name, &files.model, "last_hidden_state", options)?;
        let tokens = Tokens::open(&spec.name, &files.tokenizer)?;
        for prefix in [&spec.query_prefix, &spec.passage_prefix] {
            let taken = 2 + tokens.count(prefix).map_err(|error| graph.unusable(&error))?;
            if spec.max_tokens <= taken {
                let message =
                    format!("marks and prefix take {taken} tokens, max_tokens is {}", spec.max_tokens);
                return Err(OnnxError::Spec { model: spec.name, message });
            }
        }
        let space = EmbeddingSpace {
            model: spec.name.clone(),
            checksum: files.checksum.clone(),
            dim: spec.dim,
            pooling: match spec.pooling {
                Pooling::Cls => "cls".into(),
                Pooling::Mean => "mean".into(),
            },
        };
        let mut embedder = Self { graph, tokens, spec, space };
        match embedder.embed("dimensions", TextRole::Passage) {
            Ok(_) => Ok(embedder),
            Err(ModelError::DimensionMismatch { expected, found }) => {
                Err(OnnxError::Dimensions { path: embedder.graph.path().into(), expected, found })
            }
            Err(error) => Err(embedder.graph.unusable(&error)),
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

    /// The file the model was loaded from.
    pub fn path(&self) -> &Path {
        self.graph.path()
    }
}

impl Embedder for OnnxEmbedder {
    fn space(&self) -> &EmbeddingSpace {
        &self.space
    }

    fn embed(&mut self, text: &str, role: TextRole) -> Result<Embedding, ModelError> {
        self.embed_counted(text, role).map(|(embedding, _)| embedding)
    }

    fn embed_counted(&mut self, text: &str, role: TextRole) -> Result<(Embedding, TextRead), ModelError> {
        let (row, read) = row(&self.tokens, &self.spec, text, role)?;
        let Self { graph, spec, .. } = self;
        let name = graph.name().to_owned();
        let pooled = graph.run(&Rows::one(&row), |shape, hidden| match shape {
            [1, rest @ ..] => pool(rest, hidden, spec, row.ids.len(), &name),
            _ => Err(wrong_shape(shape, spec, row.ids.len(), &name)),
        })??;
        Ok((Embedding::normalized(pooled)?, read))
    }

    fn embed_batch(&mut self, texts: &[(&str, TextRole)]) -> Vec<Result<(Embedding, TextRead), ModelError>> {
        let Self { graph, tokens, spec, .. } = self;
        // The device waits for the tokens: they are cut on all cores.
        let cut: Vec<Result<(Row, TextRead), ModelError>> =
            texts.par_iter().with_min_len(8).map(|(text, role)| row(tokens, spec, text, *role)).collect();
        let mut rows = Vec::with_capacity(cut.len());
        let reads: Vec<Result<TextRead, ModelError>> = cut
            .into_iter()
            .map(|cut| {
                let (row, read) = cut?;
                rows.push(row);
                Ok(read)
            })
            .collect();
        let name = graph.name().to_owned();
        let mut embedded = graph
            .run_many(&rows, &BatchShapes::default(), |hidden, shape, tokens| {
                Embedding::normalized(pool(shape, hidden, spec, tokens, &name)?)
            })
            .into_iter();
        let missing = || ModelError::Failed { model: name.clone(), message: "a row got no result".into() };
        reads
            .into_iter()
            .map(|read| {
                let read = read?;
                Ok((embedded.next().unwrap_or_else(|| Err(missing()))?, read))
            })
            .collect()
    }
}

/// `[CLS] prefix text [SEP]`, cut to the window of the model.
fn row(
    tokens: &Tokens,
    spec: &EmbedderSpec,
    text: &str,
    role: TextRole,
) -> Result<(Row, TextRead), ModelError> {
    let prefix = match role {
        TextRole::Query => &spec.query_prefix,
        TextRole::Passage => &spec.passage_prefix,
    };
    let (mut seen, dropped) = tokens.of(prefix, text, spec.max_tokens - 2)?;
    let mut ids = vec![tokens.cls];
    ids.append(&mut seen);
    ids.push(tokens.sep);
    let types = vec![0; ids.len()];
    let read = TextRead { tokens: ids.len(), dropped };
    Ok((Row { ids, types }, read))
}

/// `shape` is that of a row, or of a whole output that is not of one row.
fn wrong_shape(shape: &[i64], spec: &EmbedderSpec, tokens: usize, name: &str) -> ModelError {
    let message = format!("a row of the output has shape {shape:?}, expected [{tokens}, {}]", spec.dim);
    ModelError::Failed { model: name.into(), message }
}

/// Reduces `hidden: [length, dim]` of one row, of whose tokens the first `tokens` are no padding, to `[dim]`.
fn pool(
    shape: &[i64],
    hidden: &[f32],
    spec: &EmbedderSpec,
    tokens: usize,
    name: &str,
) -> Result<Vec<f32>, ModelError> {
    let &[length, found] = shape else { return Err(wrong_shape(shape, spec, tokens, name)) };
    if usize::try_from(found) != Ok(spec.dim) {
        let found = usize::try_from(found).unwrap_or_default();
        return Err(ModelError::DimensionMismatch { expected: spec.dim, found });
    }
    let length = usize::try_from(length).unwrap_or_default();
    if length < tokens || hidden.len() != length * spec.dim {
        return Err(wrong_shape(shape, spec, tokens, name));
    }
    match spec.pooling {
        Pooling::Cls => Ok(hidden[..spec.dim].to_vec()), // there is at least `[CLS]`
        Pooling::Mean => {
            let mut sum = vec![0.0f64; spec.dim];
            for token in hidden.chunks_exact(spec.dim).take(tokens) {
                for (total, value) in sum.iter_mut().zip(token) {
                    *total += f64::from(*value);
                }
            }
            Ok(sum.into_iter().map(|total| (total / tokens as f64) as f32).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Provider, ProviderRequest, testing};
    use bowerbird_models_api::contract;

    fn cosine(model: &mut OnnxEmbedder, query: &str, passage: &str) -> f32 {
        let query = model.embed(query, TextRole::Query).expect("embeds");
        let passage = model.embed(passage, TextRole::Passage).expect("embeds");
        query.cosine(&passage).expect("one space")
    }

    #[test]
    fn the_real_model_keeps_the_contract() {
        let Some(models) = testing::models() else { return };
        contract::embedder(&mut models.embedder());
    }

    #[test]
    fn meaning_beats_words_and_the_prefix_is_used() {
        let Some(models) = testing::models() else { return };
        let mut model = models.embedder();
        let query = "can't nod off at night";
        let sleep =
            cosine(&mut model, query, "Can't sleep? Try this soothing meditation for a sounder snooze");
        let nod = cosine(&mut model, query, "FDA nod for a new drug");
        let shoes = cosine(&mut model, query, "Five new running shoes that aim to go the extra mile");
        assert!(sleep > nod + 0.05 && sleep > shoes + 0.1, "sleep {sleep}, nod {nod}, shoes {shoes}");
        let as_query = model.embed(query, TextRole::Query).expect("embeds");
        let as_passage = model.embed(query, TextRole::Passage).expect("embeds");
        assert!(
            as_query.cosine(&as_passage).expect("one space") < 0.999,
            "a query is embedded with its prefix"
        );
    }

    #[test]
    fn what_lies_beyond_the_window_is_not_seen_and_the_end_mark_stays() {
        let Some(models) = testing::models() else { return };
        let mut model = models.embedder();
        let long = "sleep well ".repeat(400);
        let a = model.embed(&format!("{long} alpha"), TextRole::Passage).expect("embeds");
        let b = model.embed(&format!("{long} omega beta gamma"), TextRole::Passage).expect("embeds");
        assert_eq!(a, b);
        let short = model.embed("sleep well alpha", TextRole::Passage).expect("embeds");
        assert!(short.cosine(&a).expect("one space") < 0.999);
    }

    #[test]
    fn another_dimension_or_a_damaged_file_is_refused_at_loading() {
        let Some(models) = testing::models() else { return };
        let (runtime, files) = (models.runtime(), models.embedder_files());
        let options = SessionOptions::default();
        let spec = |dim| EmbedderSpec { dim, ..testing::embedder_spec() };
        let cramped = EmbedderSpec { max_tokens: 10, ..spec(384) };
        let error = OnnxEmbedder::open(&runtime, &files, cramped, &options).err().expect("is refused");
        assert!(matches!(error, OnnxError::Spec { .. }), "{error}");
        for dim in [383, 768, 100_000] {
            let error = OnnxEmbedder::open(&runtime, &files, spec(dim), &options).err().expect("is refused");
            assert!(matches!(error, OnnxError::Dimensions { found: 384, .. }), "{error}");
            assert!(error.to_string().contains(&dim.to_string()), "{error}");
        }

        let dir = tempfile::tempdir().expect("temp dir");
        let whole = std::fs::read(&files.model).expect("reads");
        let mut garbled = whole.clone();
        garbled[..1000].fill(0xff);
        for (name, bytes) in
            [("half", &whole[..whole.len() / 2]), ("text", b"no model"), ("garbled", &garbled)]
        {
            let model = dir.path().join(name);
            std::fs::write(&model, bytes).expect("writes");
            let files = ModelFiles { model, ..files.clone() };
            let error = OnnxEmbedder::open(&runtime, &files, spec(384), &options).err().expect("is refused");
            let text = error.to_string();
            assert!(matches!(error, OnnxError::Model { .. }), "{text}");
            assert!(text.contains(name) && text.contains("bowerbird models verify"), "{text}");
        }
        // The reranker is a sound graph, but no embedder.
        let files = ModelFiles { model: models.reranker_files().model, ..files };
        let error = OnnxEmbedder::open(&runtime, &files, spec(384), &options).err().expect("is refused");
        assert!(error.to_string().contains("shape [1]"), "{error}");
    }

    #[test]
    fn asked_for_a_gpu_the_cpu_library_falls_back_with_a_note_or_refuses() {
        let Some(models) = testing::models() else { return };
        let (runtime, files) = (models.runtime(), models.embedder_files());
        let open = |providers, require_gpu| {
            let options = SessionOptions { providers, require_gpu, ..SessionOptions::default() };
            OnnxEmbedder::open(&runtime, &files, testing::embedder_spec(), &options)
        };
        let on_cpu = open(ProviderRequest::Cpu, false).expect("opens");
        assert_eq!(on_cpu.providers().note, None);
        for request in [ProviderRequest::Cuda, ProviderRequest::TensorRt, ProviderRequest::Auto] {
            let model = open(request, false).expect("opens");
            let Providers { requested, used, note } = model.providers();
            assert_eq!(*requested, request);
            // A machine with a GPU and its libraries is allowed to use them.
            assert!(*used != Provider::Cpu || note.is_some(), "{note:?}");
            if let (ProviderRequest::TensorRt, Some(note)) = (request, note) {
                assert!(note.contains("tensorrt: ") && note.contains("cuda: "), "both were tried: {note}");
            }
            if *used == Provider::Cpu {
                let error = open(request, true).err().expect("no GPU").to_string();
                assert!(error.contains(note.as_deref().expect("has one")), "{error}");
            }
        }
        let error = open(ProviderRequest::Cpu, true).err().expect("contradiction").to_string();
        assert!(error.contains("a GPU is required"), "{error}");
    }

    #[test]
    fn both_poolings_read_the_right_values() {
        let hidden = [1.0, 2.0, 3.0, 6.0];
        let spec = |pooling| EmbedderSpec { dim: 2, pooling, ..testing::embedder_spec() };
        let check = |pooling, expected: [f32; 2]| {
            assert_eq!(pool(&[2, 2], &hidden, &spec(pooling), 2, "m").expect("fits"), expected);
            let padded = [&hidden[..], &[9.0, 9.0]].concat();
            assert_eq!(pool(&[3, 2], &padded, &spec(pooling), 2, "m").expect("fits"), expected, "no padding");
        };
        check(Pooling::Cls, [1.0, 2.0]);
        check(Pooling::Mean, [2.0, 4.0]);
        for shape in [&[4][..], &[2, 1, 2], &[1, 2], &[2, -1], &[]] {
            assert!(pool(shape, &hidden, &spec(Pooling::Cls), 2, "m").is_err(), "{shape:?}");
        }
    }
}
