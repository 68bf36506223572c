//! The configuration: one TOML file, then environment overrides, read once.
//!
//! `BOWERBIRD_SEARCH__DEPTH=50` overrides `[search] depth`. Unknown keys are refused, and every problem of a value
//! is reported at once.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use bowerbird_ads::{AdsConfig, DatabaseAddress};
use bowerbird_answer::AnswerConfig;
use bowerbird_ingest::IngestConfig;
use bowerbird_live::LiveConfig;
use bytesize::ByteSize;
use figment::Figment;
use figment::providers::{Env, Format, Toml};
use serde::Deserialize;

use crate::profile::ProfileChoice;
use crate::snapshots::ADS_FILE;
use crate::wire::search::CollapseName;

/// Everything that can be set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The HTTP server.
    pub server: ServerConfig,
    /// Models that encode.
    pub models: ModelsConfig,
    /// The model that writes.
    pub generator: GeneratorConfig,
    /// Post store and indexes.
    pub index: LiveConfig,
    /// Search.
    pub search: SearchSettings,
    /// Suggestions.
    pub suggest: SuggestSettings,
    /// Answers.
    pub answer: AnswerSettings,
    /// Ads.
    pub ads: AdsSettings,
    /// Snapshots of the data directory.
    pub snapshots: SnapshotSettings,
    /// Posts from a NATS JetStream stream.
    pub ingest: IngestConfig,
}

/// `[snapshots]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotSettings {
    /// Where those asked for over HTTP are kept; `snapshots` in the data directory when absent. On another disk they
    /// survive the loss of the first, on the same one they share files with the indexes.
    pub dir: Option<PathBuf>,
    /// Most that are kept.
    pub most: usize,
}

impl Default for SnapshotSettings {
    fn default() -> Self {
        Self { dir: None, most: 16 }
    }
}

/// `[server]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Keys that callers of `/v1`, `/v2` and `/rerank` present as `Authorization: Bearer KEY`; none means that everybody may call.
    pub api_keys: Vec<String>,
    /// Largest body of a JSON call.
    pub max_json: ByteSize,
    /// Largest body of `POST /v1/posts`.
    pub max_posts: ByteSize,
    /// Largest body of the calls that embed and rerank texts of others; their number has no limit of its own.
    pub max_models: ByteSize,
    /// Most time of such a call that states none: minutes, because it may bring thousands of texts.
    #[serde(with = "humantime_serde")]
    pub models_timeout: Duration,
    /// Calls in progress before another is refused with 429.
    pub max_in_flight: usize,
    /// Whether a proxy of ours stands before the server: then `X-Forwarded-For` tells who calls. Without one that header
    /// is a claim of the caller.
    pub behind_proxy: bool,
    /// Address under which others reach the server, such as `https://ads.example.org`: links in bids begin with it.
    /// Left out, they begin with the host that was called.
    pub public_url: Option<String>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            api_keys: Vec::new(),
            max_json: ByteSize::kib(256),
            max_posts: ByteSize::mib(32),
            max_models: ByteSize::mib(32),
            models_timeout: Duration::from_mins(5),
            max_in_flight: 256,
            behind_proxy: false,
            public_url: None,
        }
    }
}

/// Which execution provider runs the ONNX models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU, falling back to the processor with a warning.
    Cuda,
    /// An NVIDIA GPU by TensorRT, falling back to CUDA and the processor with a warning. The first start compiles the
    /// models for minutes; what comes of it is kept in the user's cache.
    Tensorrt,
    /// A GPU (by CUDA) when one works, else the processor.
    #[default]
    Auto,
}

/// Whether one worker runs many texts in one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Batching {
    /// On a GPU with float models.
    #[default]
    Auto,
    /// One text a call.
    Off,
    /// Also on a processor; needs float models, because scores of quantised ones depend on their batch mates.
    On,
}

/// `[models]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelsConfig {
    /// Model files, used as they are and never fetched into; the user's cache when absent.
    pub dir: Option<PathBuf>,
    /// Catalog name of the embedder.
    pub embedder: String,
    /// Catalog name of the reranker.
    pub reranker: String,
    /// Which execution provider to ask for.
    pub provider: Provider,
    /// Whether to stop when the GPU asked for cannot be used.
    pub require_gpu: bool,
    /// A libonnxruntime to load in place of the fetched one, which is built for the processor. It is run as it is.
    pub runtime: Option<PathBuf>,
    /// Float models, as `bowerbird models convert --out DIR` makes them, in place of the quantised ones: a GPU has few
    /// int8 operators. Their vectors are another space: an index made with the others is not read with these.
    pub float_dir: Option<PathBuf>,
    /// Whether one worker runs many texts in one call.
    pub batching: Batching,
    /// Worker threads, each with its own single-threaded sessions; 0 means one per core, at most 8. With batches there
    /// is one.
    pub workers: usize,
    /// Texts waiting for a worker before another is refused.
    pub queue: usize,
    /// Memory for embeddings of recent queries.
    pub query_cache: ByteSize,
    /// Memory for cross-encoder scores of recent pairs.
    pub score_cache: ByteSize,
}

impl Default for ModelsConfig {
    fn default() -> Self {
        Self {
            dir: None,
            embedder: "bge-small-en-v1.5".into(),
            reranker: "ms-marco-MiniLM-L-12-v2".into(),
            provider: Provider::Auto,
            require_gpu: false,
            runtime: None,
            float_dir: None,
            batching: Batching::Auto,
            workers: 0,
            queue: 4096,
            query_cache: ByteSize::mib(16),
            score_cache: ByteSize::mib(16),
        }
    }
}

impl ModelsConfig {
    /// Worker threads in force.
    pub fn worker_threads(&self) -> usize {
        if self.workers > 0 { self.workers } else { cores().min(8) }
    }
}

/// Cores this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Which generator writes answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GeneratorKind {
    /// The GGUF model of the catalog, in this process.
    #[default]
    Embedded,
    /// A server that speaks the OpenAI chat protocol.
    Remote,
}

/// `[generator]`
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GeneratorConfig {
    /// Which generator writes.
    pub kind: GeneratorKind,
    /// Embedded: catalog name. Remote: name of the model at the server.
    pub model: String,
    /// Embedded: threads; 0 means one per core, at most 4.
    pub threads: usize,
    /// Remote: address up to and without `/chat/completions`, such as `http://127.0.0.1:11434/v1`.
    pub base_url: String,
    /// Remote: key, best given as `BOWERBIRD_GENERATOR__API_KEY`.
    pub api_key: Option<String>,
    /// Remote: most time to connect.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// Remote: most time of one generation.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
}

impl Default for GeneratorConfig {
    fn default() -> Self {
        Self {
            kind: GeneratorKind::Embedded,
            model: "smollm2-135m-instruct".into(),
            threads: 0,
            base_url: String::new(),
            api_key: None,
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_mins(1),
        }
    }
}

impl std::fmt::Debug for GeneratorConfig {
    /// Everything but the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GeneratorConfig")
            .field("kind", &self.kind)
            .field("model", &self.model)
            .field("base_url", &self.base_url)
            .field("api_key", &self.api_key.as_ref().map(|_| "set"))
            .finish_non_exhaustive()
    }
}

/// Share of the cross-encoder where neither configuration nor profile says: chosen on five judged sets, each time on
/// the others.
pub const DEFAULT_BLEND: f32 = 0.3;

/// `[search]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SearchSettings {
    /// Candidates of each leg.
    pub depth: usize,
    /// Most hits that the pages of one search reach; 2,000 where near-duplicates are folded.
    pub max_hits: usize,
    /// Share of the dense leg in the fused score, 0 to 1.
    pub vector_weight: f32,
    /// Most candidates scored by the cross-encoder; 0 turns it off.
    pub rerank_depth: usize,
    /// Share of the cross-encoder in the score of a reranked hit, 0 to 1; that of the profile when absent.
    pub rerank_blend: Option<f32>,
    /// What decides query by query whether the cross-encoder reads, and how deep: `"default"`, `"none"` (always and
    /// to `rerank_depth`), or a file that `bowerbird tune` wrote.
    pub rerank_profile: ProfileChoice,
    /// Most time of the cross-encoder; what does not fit stays in fused order.
    #[serde(with = "humantime_serde")]
    pub rerank_budget: Duration,
    /// Age at which the freshness of a post has fallen to one half.
    #[serde(with = "humantime_serde")]
    pub recency_half_life: Duration,
    /// Share of freshness in the score of a search that states none, 0 to 1; 0 leaves it out.
    pub recency_weight: f32,
    /// Share of engagement in the score of a search that states none, 0 to 1; together with freshness at most 1.
    pub engagement_weight: f32,
    /// What happens to near-duplicates in lists by relevance, where a search does not say.
    pub collapse: CollapseName,
    /// Most hits of one author, where a search does not say; no limit when absent.
    pub max_per_author: Option<usize>,
    /// How much the first hits differ in meaning, where a search does not say, 0 to 1.
    pub diversity: f32,
    /// Bonus of neighbouring query words that stand side by side in a post, as a share of their weight, 0 to 1; it
    /// gained nothing measurable on the judged sets and takes time.
    pub proximity: f32,
    /// How far fused scores are drawn towards those of the nearest candidates, 0 to 1.
    pub smoothing: f32,
    /// Place to which a post is raised that holds every rare word of the query; 0 raises none.
    pub exact_rank: usize,
    /// Memory for the lists behind cursors.
    pub cursor_memory: ByteSize,
    /// Age at which a cursor expires.
    #[serde(with = "humantime_serde")]
    pub cursor_ttl: Duration,
    /// Most time of a search that states none.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
}

impl Default for SearchSettings {
    fn default() -> Self {
        Self {
            depth: 100,
            max_hits: 10_000,
            vector_weight: 0.7,
            rerank_depth: 16,
            rerank_blend: None,
            rerank_profile: ProfileChoice::Default,
            rerank_budget: Duration::from_millis(400),
            recency_half_life: Duration::from_hours(7 * 24),
            recency_weight: 0.0,
            engagement_weight: 0.0,
            collapse: CollapseName::NearDuplicates,
            max_per_author: None,
            diversity: 0.0,
            proximity: 0.0,
            smoothing: 0.3,
            exact_rank: 10,
            cursor_memory: ByteSize::mib(64),
            cursor_ttl: Duration::from_mins(10),
            timeout: Duration::from_secs(5),
        }
    }
}

/// `[suggest]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SuggestSettings {
    /// Whether past queries are remembered and suggested.
    pub log_queries: bool,
    /// People who must have asked a query before it is suggested to others, at least 2.
    pub min_clients: usize,
    /// Time within which they must have, 1 to 366 whole days.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// Queries that are remembered, at most a million.
    pub max_queries: usize,
}

impl Default for SuggestSettings {
    fn default() -> Self {
        Self { log_queries: true, min_clients: 5, window: 30 * DAY, max_queries: 20_000 }
    }
}

const DAY: Duration = Duration::from_hours(24);

impl SuggestSettings {
    /// The window in days.
    pub fn window_days(&self) -> u32 {
        u32::try_from(self.window.as_secs() / DAY.as_secs()).unwrap_or(u32::MAX)
    }
}

/// `[answer]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnswerSettings {
    /// Posts given to the answer.
    pub sources: usize,
    /// Most time of an answer.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Memory for finished answers; 0 keeps none. About 1 KiB each.
    pub cache_memory: ByteSize,
    /// Age at which a finished answer is written again.
    #[serde(with = "humantime_serde")]
    pub cache_ttl: Duration,
    /// Streams whose reader may come back for the rest, finished ones included; 0 keeps none.
    pub resume_streams: usize,
    /// Memory for them; the oldest go first.
    pub resume_memory: ByteSize,
    /// How long after its beginning a stream can be resumed.
    #[serde(with = "humantime_serde")]
    pub resume_ttl: Duration,
    /// `[answer.compose]`: evidence, generation and the check.
    pub compose: AnswerConfig,
}

impl Default for AnswerSettings {
    fn default() -> Self {
        Self {
            sources: 8,
            timeout: Duration::from_secs(20),
            cache_memory: ByteSize::mib(16),
            cache_ttl: Duration::from_mins(10),
            resume_streams: 256,
            resume_memory: ByteSize::mib(8),
            resume_ttl: Duration::from_mins(2),
            compose: AnswerConfig::default(),
        }
    }
}

/// `[ads]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdsSettings {
    /// Whether ads are served at all.
    pub enabled: bool,
    /// Most sponsored blocks of a page, at most 2.
    pub slots: usize,
    /// Most time of a decision.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Where campaigns, budgets and events are kept: a file below the data directory, or
    /// `postgres://user:password@host/database`, which several servers can share.
    pub database: DatabaseAddress,
    /// Whether the generator may write the text of an ad for a query from the advertiser's facts.
    pub rewrite: bool,
    /// `[ads.engine]`: auction, relevance gate, click estimate.
    pub engine: AdsConfig,
}

impl Default for AdsSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            slots: 2,
            timeout: Duration::from_secs(1),
            database: DatabaseAddress::File(ADS_FILE.into()),
            // What is shown in somebody's name is theirs to decide, so the operator has to ask for it.
            rewrite: false,
            engine: AdsConfig::default(),
        }
    }
}

impl Config {
    /// Reads `file`, if given, and the environment.
    pub fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        let mut figment = Figment::new();
        if let Some(file) = file {
            // Figment takes a missing file for an empty one; a file that was named must be there.
            std::fs::metadata(file).with_context(|| format!("configuration file {}", file.display()))?;
            figment = figment.merge(Toml::file_exact(file));
        }
        // Single variables that tests and tools set are not configuration keys.
        let sections = [
            "server",
            "models",
            "generator",
            "index",
            "search",
            "suggest",
            "answer",
            "ads",
            "snapshots",
            "ingest",
        ];
        figment = figment.merge(
            Env::prefixed("BOWERBIRD_")
                .filter(move |key| {
                    key.as_str().to_lowercase().split_once("__").is_some_and(|(s, _)| sections.contains(&s))
                })
                .split("__"),
        );
        let config: Self = figment.extract().map_err(|errors| {
            let lines: Vec<String> = errors.into_iter().map(|error| error.to_string()).collect();
            anyhow::anyhow!("configuration is not valid:\n  {}", lines.join("\n  "))
        })?;
        config.validate()?;
        Ok(config)
    }

    /// Every value out of range, reported at once.
    pub fn validate(&self) -> anyhow::Result<()> {
        let mut problems = Vec::new();
        let mut check = |good: bool, problem: String| {
            if !good {
                problems.push(problem);
            }
        };
        let share = |value: f32| (0.0..=1.0).contains(&value);
        check(
            self.models.batching != Batching::On || self.models.float_dir.is_some(),
            "models.batching is on without models.float_dir: scores of quantised models depend on their batch mates; \
             make float ones with `bowerbird models convert`"
                .into(),
        );
        check(
            (1..=1000).contains(&self.search.depth),
            format!("search.depth is {}, expected 1 to 1000", self.search.depth),
        );
        check(
            (1..=100_000).contains(&self.search.max_hits),
            format!("search.max_hits is {}, expected 1 to 100000", self.search.max_hits),
        );
        for (name, value) in [
            ("recency_weight", self.search.recency_weight),
            ("engagement_weight", self.search.engagement_weight),
            ("diversity", self.search.diversity),
            ("proximity", self.search.proximity),
            ("smoothing", self.search.smoothing),
        ] {
            check(share(value), format!("search.{name} is {value}, expected 0 to 1"));
        }
        let features = self.search.recency_weight + self.search.engagement_weight;
        check(
            features <= 1.0 || !share(self.search.recency_weight) || !share(self.search.engagement_weight),
            format!("search.recency_weight and engagement_weight add up to {features}, expected at most 1"),
        );
        check(
            (1..=3_155_760_000).contains(&self.search.recency_half_life.as_secs()),
            format!(
                "search.recency_half_life is {:?}, expected 1s to 100 years",
                self.search.recency_half_life
            ),
        );
        check(
            self.search.max_per_author != Some(0),
            "search.max_per_author is 0, expected 1 or more: leave it out for no limit".into(),
        );
        check(
            share(self.search.vector_weight),
            format!("search.vector_weight is {}, expected 0 to 1", self.search.vector_weight),
        );
        check(
            self.search.rerank_blend.is_none_or(share),
            format!(
                "search.rerank_blend is {}, expected 0 to 1",
                self.search.rerank_blend.unwrap_or_default()
            ),
        );
        check(
            self.search.rerank_depth <= 200,
            format!("search.rerank_depth is {}, expected at most 200", self.search.rerank_depth),
        );
        check(
            (1..=20).contains(&self.answer.sources),
            format!("answer.sources is {}, expected 1 to 20", self.answer.sources),
        );
        for (name, age) in [("cache_ttl", self.answer.cache_ttl), ("resume_ttl", self.answer.resume_ttl)] {
            check(
                !age.is_zero() && age <= 366 * DAY,
                format!("answer.{name} is {age:?}, expected more than 0 and at most 366 days"),
            );
        }
        check(
            self.answer.resume_streams <= 1_000_000,
            format!("answer.resume_streams is {}, expected at most 1000000", self.answer.resume_streams),
        );
        check((1..=2).contains(&self.ads.slots), format!("ads.slots is {}, expected 1 or 2", self.ads.slots));
        check(
            (2..=1000).contains(&self.suggest.min_clients),
            format!("suggest.min_clients is {}, expected 2 to 1000", self.suggest.min_clients),
        );
        check(
            (1..=366).contains(&self.suggest.window_days()),
            format!("suggest.window is {:?}, expected 1 to 366 days", self.suggest.window),
        );
        check(
            (1..=1_000_000).contains(&self.suggest.max_queries),
            format!("suggest.max_queries is {}, expected 1 to 1000000", self.suggest.max_queries),
        );
        check(
            self.models.workers <= 64,
            format!("models.workers is {}, expected at most 64", self.models.workers),
        );
        check(
            (1..=1000).contains(&self.snapshots.most),
            format!("snapshots.most is {}, expected 1 to 1000", self.snapshots.most),
        );
        check(self.models.queue > 0, "models.queue is 0, expected 1 or more".into());
        check(!self.server.models_timeout.is_zero(), "server.models_timeout is 0, expected some time".into());
        check(self.server.max_in_flight > 0, "server.max_in_flight is 0, expected 1 or more".into());
        check(
            self.server.api_keys.iter().all(|key| key.len() >= 16),
            "server.api_keys holds a key under 16 characters: use a longer random one".into(),
        );
        if let Err(error) = self.answer.compose.validate() {
            check(false, format!("answer.compose: {error}"));
        }
        if let Err(error) = self.ingest.validate() {
            check(false, format!("ingest: {error}"));
        }
        if self.generator.kind == GeneratorKind::Remote {
            let url = &self.generator.base_url;
            check(
                url.starts_with("http://") || url.starts_with("https://"),
                format!("generator.base_url is {url:?}, expected http:// or https://"),
            );
        }
        if problems.is_empty() {
            Ok(())
        } else {
            bail!("configuration is not valid:\n  {}", problems.join("\n  "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(toml: &str) -> anyhow::Result<Config> {
        let file = tempfile::NamedTempFile::new().expect("temp file");
        std::fs::write(file.path(), toml).expect("written");
        Config::load(Some(file.path()))
    }

    #[test]
    fn units_are_written_out() {
        let config =
            load("[search]\nrerank_budget = \"80ms\"\n[server]\nmax_posts = \"8MiB\"").expect("valid");
        assert_eq!(config.search.rerank_budget, Duration::from_millis(80));
        assert_eq!(config.server.max_posts, ByteSize::mib(8));
    }

    #[test]
    fn unknown_keys_and_every_bad_value_are_named() {
        let error = load("[search]\ndept = 3").expect_err("unknown").to_string();
        assert!(error.contains("dept"), "{error}");
        let error = load(
            "[search]\ndepth = 0\nvector_weight = 7.0\nmax_hits = 0\nrecency_weight = 2.0\nmax_per_author = 0\n[ads]\nslots = 9\n[answer.compose]\nmmr_lambda = 9.0",
        )
        .expect_err("bad")
        .to_string();
        for part in [
            "search.depth",
            "search.max_hits",
            "search.recency_weight",
            "search.max_per_author",
            "search.vector_weight",
            "ads.slots",
            "mmr_lambda",
        ] {
            assert!(error.contains(part), "{error}");
        }
        assert!(Config::load(Some(Path::new("/nowhere.toml"))).is_err());
    }

    #[test]
    fn the_ad_database_is_a_file_or_a_server() {
        let database = |toml: &str| load(toml).map(|config| config.ads.database.under(Path::new("/d")));
        assert_eq!(database("").expect("valid").file(), Some(Path::new("/d/ads.sqlite")));
        let server = "[ads]\ndatabase = \"postgres://u:geheim@db/ads\"";
        assert_eq!(database(server).expect("valid").file(), None);
        assert!(!format!("{:?}", load(server).expect("valid").ads).contains("geheim"));
        let error =
            database("[ads]\ndatabase = \"mysql://u:geheim@db/ads\"").expect_err("not ours").to_string();
        assert!(error.contains("ads.database") && error.contains("postgres://"), "{error}");
    }

    #[test]
    fn the_stream_is_off_until_it_has_an_address() {
        assert!(!load("[ingest]\nbatch = 0").expect("off").ingest.enabled());
        let config =
            load("[ingest]\nurl = \"nats://u:geheim@h:4222\"\nbatch_bytes = \"2MiB\"").expect("valid");
        assert!(config.ingest.enabled() && config.ingest.batch_bytes == ByteSize::mib(2));
        assert!(!format!("{config:?}").contains("geheim"));
        let error = load("[ingest]\nurl = \"h:4222\"\nbatch = 0").expect_err("bad").to_string();
        assert!(error.contains("ingest: url has \"h:4222\"") && error.contains("batch is 0"), "{error}");
    }

    #[test]
    fn the_key_is_not_shown() {
        let generator = GeneratorConfig { api_key: Some("secret-key".into()), ..GeneratorConfig::default() };
        assert!(!format!("{generator:?}").contains("secret-key"));
    }
}
