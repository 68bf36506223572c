//! The path of a GPU, on a machine that has one; how to get the runtime is in `models/README.md`:
//! `BOWERBIRD_MODELS__RUNTIME=…/libonnxruntime.so.1.31.1 cargo test --release -p bowerbird-onnx --test gpu -- --ignored --nocapture`.
#![expect(clippy::print_stderr, reason = "the throughput is half of what it is for")]

use std::path::{Path, PathBuf};
use std::time::Instant;

use bowerbird_models_api::{Embedder as _, Pair, Reranker as _, TextRole};
use bowerbird_onnx::{
    EmbedderSpec, ModelFiles, OnnxEmbedder, OnnxReranker, Pooling, ProviderRequest, RerankerSpec, Runtime,
    SessionOptions, convert::to_float,
};

const EMBEDDER: &str = "bge-small-en-v1.5";
const RERANKER: &str = "ms-marco-MiniLM-L-12-v2";

/// The fetched int8 model as a float one in `dir`.
fn float(dir: &Path, entry: &str) -> ModelFiles {
    let root = std::env::var_os("BOWERBIRD_MODELS_DIR").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("is set")).join(".cache/bowerbird/models"),
        PathBuf::from,
    );
    let int8 =
        std::fs::read(root.join(entry).join("model.onnx")).expect("`bowerbird models fetch` brings it");
    let model = dir.join(format!("{entry}.onnx"));
    std::fs::write(&model, to_float(&int8).expect("converts").bytes).expect("writes");
    ModelFiles { model, tokenizer: root.join(entry).join("tokenizer.json"), checksum: "float".into() }
}

/// Runs `call`, which does `items` items, until it is warm, and then for its speed.
fn rate(what: &str, items: usize, mut call: impl FnMut()) {
    for _ in 0..3 {
        call();
    }
    let started = Instant::now();
    for _ in 0..10 {
        call();
    }
    eprintln!("{what}: {:.0} a second", (10 * items) as f64 / started.elapsed().as_secs_f64());
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_gpu_gives_what_the_processor_gives_in_batches() {
    let library = std::env::var_os("BOWERBIRD_MODELS__RUNTIME").expect("names a libonnxruntime with CUDA");
    let runtime = Runtime::load(Path::new(&library)).expect("loads");
    let dir = tempfile::tempdir().expect("temp dir");
    let (embedder, reranker) = (float(dir.path(), EMBEDDER), float(dir.path(), RERANKER));
    let on = |providers| SessionOptions {
        require_gpu: providers != ProviderRequest::Cpu,
        providers,
        threads: 8,
        engine_cache: Some(dir.path().into()),
    };
    let spec = || EmbedderSpec {
        name: EMBEDDER.into(),
        dim: 384,
        pooling: Pooling::Cls,
        query_prefix: "Represent this sentence for searching relevant passages: ".into(),
        passage_prefix: String::new(),
        max_tokens: 512,
    };
    let gpu = match std::env::var("BOWERBIRD_MODELS__PROVIDER").as_deref() {
        Ok("tensorrt") => ProviderRequest::TensorRt,
        _ => ProviderRequest::Cuda,
    };
    let texts: Vec<String> = (0..256)
        .map(|n| "can't sleep? try this meditation tonight ".repeat(1 + n % 12) + &n.to_string())
        .collect();

    let open = |providers| OnnxEmbedder::open(&runtime, &embedder, spec(), &on(providers)).expect("opens");
    let (mut cpu, mut fast) = (open(ProviderRequest::Cpu), open(gpu));
    assert!(fast.providers().used.is_gpu(), "{:?}", fast.providers());
    fast.warm().expect("every shape runs");
    let batch: Vec<(&str, TextRole)> = texts.iter().map(|text| (text.as_str(), TextRole::Passage)).collect();
    for ((text, role), found) in batch.iter().zip(fast.embed_batch(&batch)).step_by(8) {
        let expected = cpu.embed(text, *role).expect("embeds");
        let cosine = found.expect("embeds").0.cosine(&expected).expect("one space");
        assert!(cosine > 0.999, "{cosine} for {text}");
    }
    rate("texts embedded one a call", 1, || drop(fast.embed(&texts[0], TextRole::Passage).expect("embeds")));
    rate("texts embedded in batches", texts.len(), || drop(fast.embed_batch(&batch)));

    let open = |providers| {
        let spec = RerankerSpec::new(RERANKER, 512);
        OnnxReranker::open(&runtime, &reranker, spec, &on(providers)).expect("opens")
    };
    let (mut cpu, mut fast) = (open(ProviderRequest::Cpu), open(gpu));
    fast.warm().expect("every shape runs");
    let pair = |passage| Pair { query: "how to sleep better", passage, passage_tokens: None };
    let pairs: Vec<Pair<'_>> = texts.iter().map(|text| pair(text.as_str())).collect();
    for (Pair { query, passage, .. }, found) in pairs.iter().zip(fast.score_batch(&pairs)).step_by(8) {
        let expected = cpu.score(query, passage).expect("scores").get();
        let found = found.expect("scores").0.get();
        assert!((found - expected).abs() < 0.05, "{found}, on the processor {expected}: {passage}");
    }
    rate("pairs scored one a call", 1, || drop(fast.score(pairs[0].query, pairs[0].passage)));
    rate("pairs scored in batches", pairs.len(), || drop(fast.score_batch(&pairs)));
}
