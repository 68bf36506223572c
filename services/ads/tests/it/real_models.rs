//! The demo advertisers with the models that ship: does the right ad meet the right question?

use std::path::PathBuf;

use bowerbird_ads::{AdEngine, AdsConfig, NoFill, Topics};
use bowerbird_models_api::{ModelError, TextRole};
use bowerbird_onnx::{
    EmbedderSpec, ModelFiles, OnnxEmbedder, OnnxError, OnnxReranker, Pooling, ProviderRequest, RerankerSpec,
    Runtime, SessionOptions,
};
use bowerbird_scheduler::{Encoders, EncodersConfig, Job, Priority};
use uuid::Uuid;

use crate::support::{reasons, request, shown};

/// The models directory, or `None` after saying why a test does nothing.
fn models_or_skip() -> Option<PathBuf> {
    let found = models();
    if found.is_none() {
        assert!(
            std::env::var_os("BOWERBIRD_REQUIRE_ALL").is_none_or(|value| value != "1"),
            "the models are not there: run `cargo run --release -- models fetch`"
        );
        #[expect(clippy::print_stderr, reason = "says why the test did nothing")]
        {
            eprintln!("skipped: the models are not there; run `cargo run --release -- models fetch`");
        }
    }
    found
}

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
    let Some(models) = models_or_skip() else { return };
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
        let listed = matches!(slate.no_fill, Some(NoFill::SensitiveText { .. }));
        assert!(!listed, "{text} has no word of the list");
        assert!(slate.blocks.is_empty(), "{text}: {:?}\n{:#?}", shown(&slate), reasons(&slate));
    }
    let slate = ask("measles outbreak deaths").await;
    assert!(slate.blocks.is_empty());
    assert!(matches!(slate.no_fill, Some(NoFill::SensitiveText { .. })));
}

/// What somebody might ask or post, and the ids of the topics that a person would accept as the first one. Judged from
/// the list of names alone, before any was computed.
const SENTENCES: [(&str, &[u16]); 40] = [
    ("best running shoes for marathon training", &[225, 540, 483, 551]),
    ("how do I get my toddler to sleep through the night", &[192, 186, 224]),
    ("sourdough bread keeps coming out dense", &[217, 216, 210]),
    ("cheap flights to Lisbon in October", &[653, 663]),
    ("the new electric SUV has a range of 500 km", &[1, 30, 37]),
    ("my golden retriever won't stop pulling on the leash", &[425, 422]),
    ("should I refinance my mortgage now", &[391, 451, 405, 441]),
    ("the striker scored twice in the derby", &[533, 483]),
    ("how to fix a leaking kitchen tap", &[280, 274, 276]),
    ("tomato plants have yellow leaves", &[275, 274]),
    ("which index fund should a beginner buy", &[410, 391, 396]),
    ("symptoms of the flu in adults", &[287, 286]),
    ("how to prepare for a job interview", &[127, 125, 123, 126]),
    ("learning Spanish with an app", &[147, 148, 132]),
    ("the telescope found water on an exoplanet", &[472, 464]),
    ("lipstick that lasts all day", &[553, 552, 590]),
    ("wedding venues for a hundred guests", &[165, 163, 191]),
    ("the senate election is too close to call", &[387, 386]),
    ("large language models hallucinate less", &[597, 596]),
    ("new phone with the best camera", &[632, 596]),
    ("yoga stretches for lower back pain", &[225, 223, 232]),
    ("vegan curry with chickpeas", &[212, 216, 210, 213]),
    ("the director's latest film won at Cannes", &[324]),
    ("tickets for the jazz festival", &[338]),
    ("series finale disappointed the fans", &[640]),
    ("chess openings for club players", &[269, 239]),
    ("knitting patterns for a baby blanket", &[248, 239]),
    ("apartments for rent near the university", &[442, 452, 441]),
    ("how to speed up my gaming PC", &[684, 680, 599, 596]),
    ("the esports team lost the grand final", &[682, 680]),
    ("who won the formula one race", &[518, 483]),
    ("mountain bike trails for beginners", &[492, 483, 159]),
    ("does car insurance cover hail damage", &[31, 398, 1]),
    ("retire at fifty with a pension", &[416, 391, 396]),
    ("zodiac sign compatibility", &[456]),
    ("storm warning for the coast this weekend", &[390, 381]),
    ("robot vacuum for pet hair", &[278, 274, 277, 638]),
    ("novels like the one about the lighthouse keeper", &[48, 42]),
    ("hikers enjoy the national park in autumn", &[160, 159, 542, 653]),
    ("museum opens an exhibition of impressionists", &[155, 201, 150, 207]),
];

/// What is about nothing in particular.
const IDLE: [&str; 10] = [
    "ok see you tomorrow then",
    "lol same here",
    "what a day",
    "thanks for the follow",
    "I have no idea what to say",
    "good morning everyone",
    "this is the third time this week",
    "anybody awake?",
    "that is so true",
    "just woke up",
];

#[tokio::test]
async fn topics_of_forty_sentences() {
    let Some(models) = models_or_skip() else { return };
    let encoders = start(&models);
    let given = encoders.clone();
    let threshold = AdsConfig::default().topic_threshold;
    let topics = tokio::task::spawn_blocking(move || Topics::embed_blocking(&given, threshold))
        .await
        .expect("runs")
        .expect("embeds");
    let job = Job { priority: Priority::QueryEmbedding, deadline: None };
    let (mut right, mut named, mut report) = (0, 0, Vec::new());
    for (text, accepted) in SENTENCES {
        let found = topics.nearest(&encoders.embed(text, TextRole::Query, job).await.expect("embeds"));
        let first_is_right = found.first().is_some_and(|first| accepted.contains(&first.id));
        right += usize::from(first_is_right);
        named += usize::from(!found.is_empty());
        let names: Vec<_> = found.iter().map(|t| (Topics::name(t.id), t.cosine, t.centred)).collect();
        report.push(format!("{} {text}: {names:?}", if first_is_right { "right" } else { "WRONG" }));
    }
    let mut idle = 0;
    for text in IDLE {
        let found = topics.nearest(&encoders.embed(text, TextRole::Query, job).await.expect("embeds"));
        idle += usize::from(!found.is_empty());
        let names: Vec<_> = found.iter().map(|t| (Topics::name(t.id), t.cosine, t.centred)).collect();
        report.push(format!("idle {text}: {names:?}"));
    }
    let report = report.join("\n");
    // With bge-small-en-v1.5 34 are right and 1 is named; the threshold was chosen on these very texts.
    assert!(right >= 33, "{right} of 40 right, {named} named, {idle} of 10 idle named\n{report}");
    assert!(idle <= 2, "{idle} of 10 named\n{report}");
}
