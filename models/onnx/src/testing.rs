//! Real models for the tests of this crate.

use std::path::{Path, PathBuf};

use crate::{
    EmbedderSpec, ModelFiles, OnnxEmbedder, OnnxReranker, Pooling, ProviderRequest, RerankerSpec, Runtime,
    SessionOptions,
};

const EMBEDDER: &str = "bge-small-en-v1.5";
const RERANKER: &str = "ms-marco-MiniLM-L-12-v2";
const CPU: SessionOptions =
    SessionOptions { providers: ProviderRequest::Cpu, require_gpu: false, threads: 1, engine_cache: None };

/// A directory laid out as `<entry>/<file>`.
pub(crate) struct Models(PathBuf);

/// The models of this machine; `None` (after a line that says how to get them) when they are absent, unless
/// `BOWERBIRD_REQUIRE_ALL` is 1.
pub(crate) fn models() -> Option<Models> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let root = variable("BOWERBIRD_MODELS_DIR").unwrap_or_else(|| {
        let home = || variable("HOME").unwrap_or_default().join(".cache");
        variable("XDG_CACHE_HOME").unwrap_or_else(home).join("bowerbird/models")
    });
    let models = Models(root);
    let needed = [models.runtime_library(), models.embedder_files().model, models.reranker_files().model];
    let Some(absent) = needed.iter().find(|path| !path.is_file()) else { return Some(models) };
    let message =
        format!("not run: {} is absent, get it with `cargo run --release -- models fetch`", absent.display());
    assert!(std::env::var_os("BOWERBIRD_REQUIRE_ALL").is_none_or(|value| value != "1"), "{message}");
    #[expect(clippy::print_stderr, reason = "the one way a test can say that it did not run")]
    {
        eprintln!("{message}");
    }
    None
}

impl Models {
    pub(crate) fn runtime_library(&self) -> PathBuf {
        let name = if cfg!(target_os = "macos") { "libonnxruntime.dylib" } else { "libonnxruntime.so" };
        self.0.join("onnxruntime").join(name)
    }

    pub(crate) fn embedder_files(&self) -> ModelFiles {
        files(&self.0, EMBEDDER)
    }

    pub(crate) fn reranker_files(&self) -> ModelFiles {
        files(&self.0, RERANKER)
    }

    pub(crate) fn runtime(&self) -> Runtime {
        Runtime::load(&self.runtime_library()).expect("the fetched library loads")
    }

    pub(crate) fn embedder(&self) -> OnnxEmbedder {
        OnnxEmbedder::open(&self.runtime(), &self.embedder_files(), embedder_spec(), &CPU).expect("opens")
    }

    pub(crate) fn reranker(&self) -> OnnxReranker {
        OnnxReranker::open(&self.runtime(), &self.reranker_files(), reranker_spec(), &CPU).expect("opens")
    }
}

fn files(root: &Path, entry: &str) -> ModelFiles {
    let dir = root.join(entry);
    ModelFiles {
        model: dir.join("model.onnx"),
        tokenizer: dir.join("tokenizer.json"),
        checksum: "test".into(),
    }
}

pub(crate) fn embedder_spec() -> EmbedderSpec {
    EmbedderSpec {
        name: EMBEDDER.into(),
        dim: 384,
        pooling: Pooling::Cls,
        query_prefix: "Represent this sentence for searching relevant passages: ".into(),
        passage_prefix: String::new(),
        max_tokens: 512,
    }
}

pub(crate) fn reranker_spec() -> RerankerSpec {
    RerankerSpec::new(RERANKER, 512)
}
