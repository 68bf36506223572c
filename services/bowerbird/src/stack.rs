//! Everything a query needs, put together: the one place that chooses implementations.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use bowerbird_ads::AdEngine;
use bowerbird_answer::Answerer;
use bowerbird_catalog::{
    Catalog, Entry, FileSpec, Pooling as CatalogPooling, Progress, Silent, Store, current_platform,
};
use bowerbird_ingest::Ingest;
use bowerbird_live::Live;
use bowerbird_llm::{EmbeddedConfig, EmbeddedGenerator, RemoteConfig, RemoteGenerator};
use bowerbird_models_api::{Embedder, Generator, ModelError, Reranker};
use bowerbird_onnx::{
    EmbedderSpec, ModelFiles, OnnxEmbedder, OnnxReranker, Pooling, ProviderRequest, RerankerSpec, Runtime,
    SessionOptions,
};
use bowerbird_reindex::{LoadEmbedder, Passages, PastQueries, Reindexer, embedder_of};
use bowerbird_scheduler::{BatchPolicy, Encoders, EncodersConfig};
use bowerbird_search::suggest::{QueryLog, QueryLogConfig, Suggester};
use bowerbird_search::{Engine, Fusion, Gate, Recency, RerankOptions, SearchConfig};
use parking_lot::Mutex;
use serde::Serialize;

use crate::ad_text::FactWriter;
use crate::answers::Answers;
use crate::commands::convert;
use crate::config::{Batching, Config, DEFAULT_BLEND, GeneratorKind, ModelsConfig, Provider, cores};
use crate::profile::{Profile, ProfileChoice};
use crate::snapshots::Snapshots;

/// Which models answer, and where they run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ModelReport {
    /// Embedder.
    pub embedder: String,
    /// Reranker.
    pub reranker: String,
    /// Generator, when one is loaded.
    pub generator: Option<String>,
    /// Execution provider asked for.
    pub requested: String,
    /// Execution provider in use.
    pub used: String,
    /// Why the two differ.
    pub note: Option<String>,
    /// Whether embedder and reranker run many texts in one call.
    pub batches: bool,
}

/// The assembled product over one data directory.
#[derive(Clone)]
pub struct Stack {
    /// The configuration in force.
    pub config: Arc<Config>,
    /// Posts and indexes.
    pub live: Live,
    /// Embedder and reranker.
    pub encoders: Encoders,
    /// Search.
    pub engine: Engine,
    /// Completions of what is typed, and past queries.
    pub suggester: Suggester,
    /// Answers, when a generator is loaded.
    pub answerer: Option<Answerer>,
    /// Answers that were written before.
    pub answers: Answers,
    /// Makes follow-ups of a chat into questions that stand alone, when a remote generator is configured: the embedded
    /// one is too small for it.
    pub rewriter: Option<Arc<dyn Generator>>,
    /// Ads, when they are served.
    pub ads: Option<AdEngine>,
    /// Which models answer.
    pub models: Arc<ModelReport>,
    /// Rebuilds of the indexes.
    pub reindexer: Reindexer,
    /// Snapshots of the data directory.
    pub snapshots: Snapshots,
    /// Posts from a stream, while serving and when one is configured.
    pub ingest: Option<Ingest>,
    /// Whether the posts are the demo's.
    pub demo: bool,
}

/// Which optional parts a command needs.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    /// Load the generator.
    pub answer: bool,
    /// Open the ad engine.
    pub ads: bool,
}

impl Parts {
    /// Everything.
    pub const ALL: Self = Self { answer: true, ads: true };
    /// Retrieval and reranking only.
    pub const SEARCH: Self = Self { answer: false, ads: false };
}

/// The models of a configuration, loaded.
pub struct Models {
    /// Embedder and reranker.
    pub encoders: Encoders,
    /// Generator, when asked for.
    pub generator: Option<Arc<dyn Generator>>,
    /// What was loaded.
    pub report: ModelReport,
}

/// Where model files are: `--models-dir`, else the user's cache.
pub fn model_store(config: &Config) -> anyhow::Result<Store> {
    if let Some(dir) = &config.models.dir {
        return Ok(Store::given(dir.clone()));
    }
    Ok(Store::new(cache_dir()?.join("models")))
}

/// What can be fetched or made again lives here: `bowerbird` in the user's cache directory.
pub fn cache_dir() -> anyhow::Result<PathBuf> {
    let dirs =
        directories::BaseDirs::new().context("no home directory: set HOME, or give --models-dir DIR")?;
    Ok(dirs.cache_dir().join("bowerbird"))
}

/// Loads the models, fetching files that are missing.
pub fn load_models(config: &Config, parts: Parts, progress: &dyn Progress) -> anyhow::Result<Models> {
    let catalog = Catalog::embedded()?;
    let store = model_store(config)?;
    let runtime = load_runtime(config, &catalog, &store, progress)?;

    let float = config.models.float_dir.as_deref();
    let embedder = Located::new(catalog.entry(&config.models.embedder)?, &store, float, progress)?;
    let reranker = Located::new(catalog.entry(&config.models.reranker)?, &store, float, progress)?;
    let options = session_options(&config.models)?;
    let open = || {
        let failed = |model: &str, error: &dyn Error| ModelError::Failed {
            model: model.to_owned(),
            message: chain(error),
        };
        let embed = OnnxEmbedder::open(&runtime, &embedder.files, embedder.embedder_spec(), &options)
            .map_err(|error| failed(&embedder.name, &error))?;
        let rerank = OnnxReranker::open(&runtime, &reranker.files, reranker.reranker_spec(), &options)
            .map_err(|error| failed(&reranker.name, &error))?;
        Ok::<_, ModelError>((embed, rerank))
    };
    // What the sessions run on is known from the first pair, and decides how many there are.
    let (mut embed, mut rerank) = open()?;
    let providers = embed.providers().clone();
    let on_gpu = providers.used.is_gpu() && rerank.providers().used.is_gpu();
    let batches = match config.models.batching {
        Batching::Off => false,
        Batching::On => true,
        Batching::Auto => on_gpu && float.is_some(),
    };
    if on_gpu && float.is_none() {
        tracing::warn!(
            "quantised models on a GPU mostly run on the processor: make float ones with `bowerbird models convert` \
             and set models.float_dir"
        );
    }
    if on_gpu && batches {
        embed.warm()?;
        rerank.warm()?;
    }
    let first = Mutex::new(Some((embed, rerank)));
    let encoders = Encoders::start(
        EncodersConfig {
            workers: if batches { 1 } else { config.models.worker_threads() },
            batching: batches.then(BatchPolicy::default),
            queue_items: config.models.queue,
            query_cache_bytes: config.models.query_cache.as_u64(),
            score_cache_bytes: config.models.score_cache.as_u64(),
            ..EncodersConfig::default()
        },
        |_| {
            let taken = first.lock().take();
            let (embed, rerank) = taken.map_or_else(&open, Ok)?;
            Ok((Box::new(embed) as Box<dyn Embedder>, Box::new(rerank) as Box<dyn Reranker>))
        },
    )?;
    let generator =
        if parts.answer { Some(load_generator(config, &catalog, &store, progress)?) } else { None };
    let report = ModelReport {
        embedder: embedder.name.clone(),
        reranker: reranker.name.clone(),
        generator: generator.as_ref().map(|g| g.name().to_owned()),
        requested: providers.requested.to_string(),
        used: providers.used.to_string(),
        note: providers.note,
        batches,
    };
    if let Some(note) = report.note.as_ref().filter(|_| config.models.provider != Provider::Auto) {
        tracing::warn!(requested = report.requested, used = report.used, "{note}");
    }
    Ok(Models { encoders, generator, report })
}

/// The embedder `name` of the catalog by itself, on one thread: to compare with, or to migrate to.
pub fn load_embedder(config: &Config, name: &str, progress: &dyn Progress) -> anyhow::Result<OnnxEmbedder> {
    let catalog = Catalog::embedded()?;
    let (runtime, located, options) = embedder_files(config, &catalog, name, None, progress)?;
    Ok(OnnxEmbedder::open(&runtime, &located.files, located.embedder_spec(), &options)?)
}

/// What a session of the embedder `name` is opened with.
fn embedder_files<'a>(
    config: &Config,
    catalog: &'a Catalog,
    name: &str,
    float_dir: Option<&Path>,
    progress: &dyn Progress,
) -> anyhow::Result<(Runtime, Located<'a>, SessionOptions)> {
    let entry = catalog.entry(name)?;
    if entry.dimensions.is_none() {
        anyhow::bail!("{name:?} is not an embedder: `bowerbird models list` shows which are");
    }
    let store = model_store(config)?;
    let runtime = load_runtime(config, catalog, &store, progress)?;
    let located = Located::new(entry, &store, float_dir, progress)?;
    Ok((runtime, located, session_options(&config.models)?))
}

fn load_runtime(
    config: &Config,
    catalog: &Catalog,
    store: &Store,
    progress: &dyn Progress,
) -> anyhow::Result<Runtime> {
    let dylib = if let Some(path) = &config.models.runtime {
        path.clone()
    } else {
        let entry = catalog.entry("onnxruntime")?;
        store.ensure(entry, progress)?.join(&first_file(entry)?.name)
    };
    Ok(Runtime::load(&dylib)?)
}

fn session_options(models: &ModelsConfig) -> anyhow::Result<SessionOptions> {
    let (providers, engine_cache) = match models.provider {
        Provider::Cpu => (ProviderRequest::Cpu, None),
        Provider::Cuda => (ProviderRequest::Cuda, None),
        Provider::Auto => (ProviderRequest::Auto, None),
        Provider::Tensorrt => {
            let dir = cache_dir()?.join("tensorrt");
            std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
            (ProviderRequest::TensorRt, Some(dir))
        }
    };
    Ok(SessionOptions { providers, require_gpu: models.require_gpu, threads: threads(models), engine_cache })
}

/// Threads inside a session: one beside a session on each core, all cores where one session takes batches.
fn threads(models: &ModelsConfig) -> usize {
    if models.batching == Batching::On { models.worker_threads() } else { 1 }
}

fn load_generator(
    config: &Config,
    catalog: &Catalog,
    store: &Store,
    progress: &dyn Progress,
) -> anyhow::Result<Arc<dyn Generator>> {
    let settings = &config.generator;
    Ok(match settings.kind {
        GeneratorKind::Embedded => {
            let entry = catalog.entry(&settings.model)?;
            let dir = store.ensure(entry, progress)?;
            let shipped = dir.join(&first_file(entry)?.name);
            let fast = bowerbird_llm::ensure_q8_0(&shipped, &converted_dir(config, &dir)?)?;
            let threads = if settings.threads > 0 { settings.threads } else { cores().min(4) };
            Arc::new(EmbeddedGenerator::open(
                &fast,
                EmbeddedConfig { name: entry.name.clone(), threads, ..EmbeddedConfig::default() },
            )?)
        }
        GeneratorKind::Remote => Arc::new(RemoteGenerator::new(RemoteConfig {
            api_key: settings.api_key.clone(),
            connect_timeout: settings.connect_timeout,
            request_timeout: settings.request_timeout,
            ..RemoteConfig::new(&settings.base_url, &settings.model)
        })?),
    })
}

/// The file of an entry that has one on this platform.
pub(crate) fn first_file(entry: &Entry) -> anyhow::Result<&FileSpec> {
    let files = entry.files_for(&current_platform())?;
    files.first().copied().with_context(|| format!("catalog entry {} has no file", entry.name))
}

/// Where converted weights go: beside the shipped ones, or the user's cache when the directory was handed over and
/// must stay as it is.
fn converted_dir(config: &Config, shipped: &Path) -> anyhow::Result<PathBuf> {
    if config.models.dir.is_none() {
        return Ok(shipped.to_owned());
    }
    let dir = cache_dir()?.join("converted");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}

/// A model whose files are there and verified.
pub(crate) struct Located<'a> {
    name: String,
    entry: &'a Entry,
    pub(crate) files: ModelFiles,
}

impl<'a> Located<'a> {
    /// The files of the catalog; with `float` the graph that was converted into that directory.
    pub(crate) fn new(
        entry: &'a Entry,
        store: &Store,
        float: Option<&Path>,
        progress: &dyn Progress,
    ) -> anyhow::Result<Self> {
        let dir = store.ensure(entry, progress)?;
        let checksum = entry
            .files_for(&current_platform())?
            .into_iter()
            .find(|file| file.name == "model.onnx")
            .with_context(|| format!("catalog entry {} has no model.onnx", entry.name))?
            .sha256
            .clone();
        let (model, checksum) = match float {
            None => (dir.join("model.onnx"), checksum),
            Some(float) => convert::converted(&float.join(&entry.name), &entry.name, &checksum)?,
        };
        let files = ModelFiles { model, tokenizer: dir.join("tokenizer.json"), checksum };
        Ok(Self { name: entry.name.clone(), entry, files })
    }

    pub(crate) fn embedder_spec(&self) -> EmbedderSpec {
        EmbedderSpec {
            name: self.name.clone(),
            dim: self.entry.dimensions.unwrap_or(384),
            pooling: match self.entry.pooling {
                Some(CatalogPooling::Mean) => Pooling::Mean,
                Some(CatalogPooling::Cls) | None => Pooling::Cls,
            },
            query_prefix: self.entry.query_prefix.clone(),
            passage_prefix: self.entry.passage_prefix.clone(),
            max_tokens: self.entry.max_tokens.unwrap_or(512),
        }
    }

    pub(crate) fn reranker_spec(&self) -> RerankerSpec {
        RerankerSpec::new(&self.name, self.entry.max_tokens.unwrap_or(512))
    }
}

/// Encoders whose vectors are of the space that the index in `data_dir` has: `encoders`, or the model that its vectors
/// name, on the same threads. A new index has the space of `encoders`.
pub fn index_encoders(
    config: &Config,
    data_dir: &Path,
    encoders: &Encoders,
    progress: &dyn Progress,
) -> anyhow::Result<Encoders> {
    let Some((space, _)) = bowerbird_live::current_space(data_dir)? else { return Ok(encoders.clone()) };
    if space == encoders.space().fingerprint() {
        return Ok(encoders.clone());
    }
    let name = embedder_of(&space);
    // With another file of the same model, opening says what is wrong.
    if name == encoders.space().model {
        return Ok(encoders.clone());
    }
    embed_with(config, name, encoders, progress).with_context(|| {
        let configured = encoders.space().fingerprint();
        format!(
            "the vectors in {} are of {space}, which is not {configured} and cannot be loaded beside it",
            data_dir.display()
        )
    })
}

/// Encoders that embed with the model `name` of the catalog, on the threads of `encoders`.
pub fn embed_with(
    config: &Config,
    name: &str,
    encoders: &Encoders,
    progress: &dyn Progress,
) -> anyhow::Result<Encoders> {
    if name == encoders.space().model {
        return Ok(encoders.clone());
    }
    let catalog = Catalog::embedded()?;
    let float_dir = config.models.float_dir.as_deref();
    let (runtime, located, options) = embedder_files(config, &catalog, name, float_dir, progress)?;
    Ok(encoders.with_embedder(|_| {
        OnnxEmbedder::open(&runtime, &located.files, located.embedder_spec(), &options)
            .map(|embedder| Box::new(embedder) as Box<dyn Embedder>)
            .map_err(|error| ModelError::Failed { model: name.to_owned(), message: chain(&error) })
    })?)
}

impl Stack {
    /// Loads models and opens `data_dir`.
    pub async fn open(
        config: &Config,
        data_dir: &Path,
        parts: Parts,
        progress: &dyn Progress,
    ) -> anyhow::Result<Self> {
        let models = load_models(config, parts, progress)?;
        Self::assemble(config, data_dir, models, parts).await
    }

    /// Catalog name of the model whose vectors the present generation has.
    pub fn index_embedder(&self) -> String {
        let snapshot = self.live.snapshot();
        embedder_of(snapshot.vectors().space()).to_owned()
    }

    /// Puts loaded models and `data_dir` together.
    pub async fn assemble(
        config: &Config,
        data_dir: &Path,
        models: Models,
        parts: Parts,
    ) -> anyhow::Result<Self> {
        let Models { encoders, generator, report } = models;
        let indexed = index_encoders(config, data_dir, &encoders, &Silent)?;
        let source = Arc::new(Passages::fresh(indexed.clone()));
        let live = Live::open(data_dir, config.index.clone(), source)?;
        let engine = Engine::new(live.clone(), encoders.clone(), search_config(config)?)?;
        engine.add_embedder(indexed);
        let queries = QueryLog::open(Some(&data_dir.join("queries.redb")), query_log_config(config))?;
        let suggester = Suggester::new(live.clone(), queries)?;
        let reindexer = {
            let (config, encoders, suggester) = (config.clone(), encoders.clone(), suggester.clone());
            let load: LoadEmbedder = Arc::new(move |name| Ok(embed_with(&config, name, &encoders, &Silent)?));
            let past: PastQueries = Arc::new(move |limit| {
                let asked = suggester.log().most_asked(limit, today());
                asked.into_iter().map(|past| past.text).collect()
            });
            Reindexer::new(live.clone(), engine.clone(), past, load)
        };
        let rewriter = generator.clone().filter(|_| config.generator.kind == GeneratorKind::Remote);
        let names = [
            encoders.space().fingerprint(),
            encoders.reranker_name().to_owned(),
            generator.as_ref().map_or_else(String::new, |generator| generator.name().to_owned()),
        ];
        let answers = Answers::new(config.answer.cache_memory, config.answer.cache_ttl, &names.join("\n"));
        let ad_writer = generator.clone().filter(|_| config.ads.rewrite);
        let answerer = generator
            .map(|generator| Answerer::new(generator, encoders.clone(), config.answer.compose.clone()));
        let ads = if parts.ads && config.ads.enabled {
            let database = config.ads.database.under(data_dir);
            let opened = AdEngine::connect(&database, config.ads.engine.clone(), encoders.clone()).await;
            Some(opened.with_context(|| format!("cannot open the ad database at {database}"))?)
        } else {
            None
        };
        if let (Some(ads), Some(generator)) = (&ads, ad_writer) {
            ads.write_texts_with(Arc::new(FactWriter::new(
                generator,
                encoders.clone(),
                &config.answer.compose,
            )));
        }
        Ok(Self {
            config: Arc::new(config.clone()),
            live,
            encoders,
            engine,
            suggester,
            answerer,
            answers,
            rewriter,
            ads,
            models: Arc::new(report),
            reindexer,
            snapshots: Snapshots::new(
                data_dir,
                config.ads.database.clone(),
                config.snapshots.dir.as_deref(),
                config.snapshots.most,
            ),
            ingest: None,
            demo: false,
        })
    }
}

/// Days since 1970, as the log of past queries counts.
pub fn today() -> u32 {
    u32::try_from(jiff::Timestamp::now().as_second() / 86_400).unwrap_or(0)
}

fn query_log_config(config: &Config) -> QueryLogConfig {
    let settings = &config.suggest;
    QueryLogConfig {
        enabled: settings.log_queries,
        min_clients: settings.min_clients,
        window_days: settings.window_days(),
        max_queries: settings.max_queries,
    }
}

/// The gate of the configured profile, none when every query is read.
fn gate(config: &Config) -> anyhow::Result<Option<Gate>> {
    let profile = match &config.search.rerank_profile {
        ProfileChoice::None => return Ok(None),
        ProfileChoice::Default => Profile::embedded()?,
        ProfileChoice::File(path) => Profile::read(path)?,
    };
    let mut gate = profile.gate();
    if let Some(blend) = config.search.rerank_blend {
        gate.steps.iter_mut().for_each(|step| step.blend = blend);
    }
    Ok(Some(gate))
}

fn search_config(config: &Config) -> anyhow::Result<SearchConfig> {
    Ok(SearchConfig {
        depth: config.search.depth,
        fusion: Fusion::Normalized { weight: config.search.vector_weight },
        rerank: RerankOptions {
            depth: config.search.rerank_depth,
            blend: config.search.rerank_blend.unwrap_or(DEFAULT_BLEND),
            gated: true,
            budget: Some(config.search.rerank_budget),
        },
        gate: gate(config)?,
        max_hits: config.search.max_hits,
        recency: (config.search.recency_weight > 0.0).then_some(Recency {
            half_life: config.search.recency_half_life,
            weight: config.search.recency_weight,
        }),
        engagement: config.search.engagement_weight,
        collapse: config.search.collapse.into(),
        max_per_author: config.search.max_per_author,
        diversity: config.search.diversity,
        proximity: config.search.proximity,
        smoothing: config.search.smoothing,
        exact_rank: config.search.exact_rank,
        cursor_bytes: config.search.cursor_memory.as_u64(),
        cursor_ttl: config.search.cursor_ttl,
        timeout: config.search.timeout,
        threads: cores().clamp(2, 16),
        ..SearchConfig::default()
    })
}

/// An error with all its causes in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}
