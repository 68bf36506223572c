//! How long one call takes on one thread. A measurement, run by hand on a quiet machine:
//! `cargo test --release -p bowerbird-onnx --test speed -- --ignored --nocapture`.
#![expect(clippy::print_stderr, reason = "its output is what it is for")]

use std::path::PathBuf;
use std::time::Instant;

use bowerbird_models_api::{Embedder as _, Reranker as _, TextRole};
use bowerbird_onnx::{
    EmbedderSpec, ModelFiles, OnnxEmbedder, OnnxReranker, Pooling, ProviderRequest, RerankerSpec, Runtime,
    SessionOptions,
};

const POST: &str = "Can't sleep? Try this soothing meditation for a sounder snooze";

fn report<T>(what: &str, mut call: impl FnMut() -> T) {
    let mut ms: Vec<f64> = (0..200)
        .map(|_| {
            let started = Instant::now();
            std::hint::black_box(call());
            started.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    ms.sort_by(f64::total_cmp);
    eprintln!("{what}: best {:.2} ms, median {:.2} ms, p95 {:.2} ms", ms[0], ms[100], ms[190]);
}

#[test]
#[ignore = "a measurement, not a check"]
fn milliseconds_per_call_on_one_thread() {
    let root = std::env::var_os("BOWERBIRD_MODELS_DIR").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("is set")).join(".cache/bowerbird/models"),
        PathBuf::from,
    );
    let files = |entry: &str| ModelFiles {
        model: root.join(entry).join("model.onnx"),
        tokenizer: root.join(entry).join("tokenizer.json"),
        checksum: "unverified".into(),
    };
    let library = if cfg!(target_os = "macos") { "libonnxruntime.dylib" } else { "libonnxruntime.so" };
    let runtime = Runtime::load(&root.join("onnxruntime").join(library)).expect("loads");
    let options = SessionOptions { providers: ProviderRequest::Cpu, ..SessionOptions::default() };
    let spec = EmbedderSpec {
        name: "bge-small-en-v1.5".into(),
        dim: 384,
        pooling: Pooling::Cls,
        query_prefix: "Represent this sentence for searching relevant passages: ".into(),
        passage_prefix: String::new(),
        max_tokens: 512,
    };
    let started = Instant::now();
    let mut embedder =
        OnnxEmbedder::open(&runtime, &files("bge-small-en-v1.5"), spec, &options).expect("opens");
    eprintln!("open embedder: {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
    let started = Instant::now();
    let reranker = RerankerSpec::new("ms-marco-MiniLM-L-12-v2", 512);
    let mut reranker =
        OnnxReranker::open(&runtime, &files("ms-marco-MiniLM-L-12-v2"), reranker, &options).expect("opens");
    eprintln!("open reranker: {:.0} ms", started.elapsed().as_secs_f64() * 1e3);

    let query = "can't nod off at night";
    let long = format!("{POST} ").repeat(5);
    let article = format!("{POST} ").repeat(60);
    report("embed a query (with its prefix)", || embedder.embed(query, TextRole::Query).expect("embeds"));
    report("embed a post of 11 words", || embedder.embed(POST, TextRole::Passage).expect("embeds"));
    report("embed a post of 55 words", || embedder.embed(&long, TextRole::Passage).expect("embeds"));
    report("score a post of 11 words", || reranker.score(query, POST).expect("scores"));
    report("score a post of 55 words", || reranker.score(query, &long).expect("scores"));
    report("score an article by three windows", || reranker.score(query, &article).expect("scores"));
}
