//! The demo advertisers with the models that ship: does the right ad meet the right question?

use std::path::PathBuf;

use bowerbird_ads::{AdEngine, AdsConfig, NoFill};
use bowerbird_models_api::ModelError;
use bowerbird_onnx::{
    EmbedderSpec, ModelFiles, OnnxEmbedder, OnnxError, OnnxReranker, Pooling, ProviderRequest, RerankerSpec,
    Runtime, SessionOptions,
};
use bowerbird_scheduler::{Encoders, EncodersConfig};
use uuid::Uuid;

use crate::support::{reasons, request, shown};

/// The models directory, if it holds what is needed.
fn models() -> Option<PathBuf> {
    let from_cache = || {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
        cache.map(|cache| cache.join("bowerbird").join("models"))
    };
    let folder = std::env::var_os("BOWERBIRD_MODELS_DIR").map(PathBuf::from).or_else(from_cache)?;
    let needed = ["bge-small-en-v1.5/model.onnx", "ms-marco-MiniLM-L-12-v2/model.onnx"];
    (needed.iter().all(|file| folder.join(file).exists()) && library(&folder).is_some()).then_some(folder)
}

fn library(models: &std::path::Path) -> Option<PathBuf> {
    let names = ["libonnxruntime.so", "libonnxruntime.dylib"];
    names.iter().map(|name| models.join("onnxruntime").join(name)).find(|path| path.exists())
}

fn start(models: &std::path::Path) -> Encoders {
    let failed = |error: OnnxError| ModelError::Failed { model: "test".into(), message: error.to_string() };
    let runtime = Runtime::load(&library(models).expect("checked")).expect("loads");
    let files = |name: &str| ModelFiles {
        model: models.join(name).join("model.onnx"),
        tokenizer: models.join(name).join("tokenizer.json"),
        checksum: "unchecked".into(),
    };
    let options = SessionOptions { providers: ProviderRequest::Cpu, ..SessionOptions::default() };
    Encoders::start(EncodersConfig { workers: 2, ..EncodersConfig::default() }, |_| {
        let spec = EmbedderSpec {
            name: "bge-small-en-v1.5".into(),
            dim: 384,
            pooling: Pooling::Cls,
            query_prefix: "Represent this sentence for searching relevant passages: ".into(),
            passage_prefix: String::new(),
            max_tokens: 512,
        };
        let embedder =
            OnnxEmbedder::open(&runtime, &files("bge-small-en-v1.5"), spec, &options).map_err(failed)?;
        let spec = RerankerSpec::new("ms-marco-MiniLM-L-12-v2", 512);
        let reranker = OnnxReranker::open(&runtime, &files("ms-marco-MiniLM-L-12-v2"), spec, &options)
            .map_err(failed)?;
        Ok((Box::new(embedder), Box::new(reranker)))
    })
    .expect("starts")
}

#[tokio::test]
async fn questions_meet_their_ads() {
    let Some(models) = models() else {
        assert!(
            std::env::var_os("BOWERBIRD_REQUIRE_ALL").is_none_or(|value| value != "1"),
            "the models are not there: run `cargo run --release -- models fetch`"
        );
        #[expect(clippy::print_stderr, reason = "says why the test did nothing")]
        {
            eprintln!("skipped: the models are not there; run `cargo run --release -- models fetch`");
        }
        return;
    };
    let folder = tempfile::tempdir().expect("temporary folder");
    let engine = AdEngine::open(folder.path().join("ads.sqlite"), AdsConfig::default(), start(&models))
        .await
        .expect("opens");
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../bowerbird/demo/ads.json");
    engine.import_json(&std::fs::read_to_string(demo).expect("shipped")).await.expect("imports");

    let mut auction = 0;
    let mut ask = async |text: &str| {
        let mut asked = request(text);
        asked.explain = true;
        auction += 1;
        asked.auction_id = Uuid::from_u128(auction);
        engine.decide(asked).await.expect("decides")
    };
    for (text, start_of_first) in [
        ("shoes for jogging", "fernquist-"),
        ("running shoes", "fernquist-"),
        ("can't nod off at night", "lullwater-"),
        ("my head is throbbing", "tallystep-diary"),
        ("office job aching spine", "quillback-spine"),
        ("gadgets that count your steps", "tallystep-"),
        ("healthy recipes for dinner", "sagebasket-"),
        ("which sunscreen is best", "solglint-spf"),
        ("concerts too loud for my ears", "larkhollow-concert"),
    ] {
        let slate = ask(text).await;
        let first = shown(&slate).first().copied().unwrap_or("nothing");
        assert!(
            first.starts_with(start_of_first),
            "{text}: {first}, expected {start_of_first}\n{:#?}",
            reasons(&slate)
        );
    }
    for text in [
        "new york large soda ban",
        "hospital nurse infected in Texas",
        "mosquito disease caribbean",
        "FDA approves psoriasis drug",
        "health insurance premiums",
        "who won the world cup",
    ] {
        let slate = ask(text).await;
        assert_eq!(slate.no_fill, None, "{text} is not sensitive");
        assert!(slate.blocks.is_empty(), "{text}: {:?}\n{:#?}", shown(&slate), reasons(&slate));
    }
    let slate = ask("measles outbreak deaths").await;
    assert!(slate.blocks.is_empty());
    assert!(matches!(slate.no_fill, Some(NoFill::SensitiveText { .. })));
}
