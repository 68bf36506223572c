//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use rebuild::{BuildArgs, EmbedArgs, ExportArgs};

use crate::wire::search::{CollapseName, FusionName, ModeName, SortName};

mod rebuild;

/// Search that answers and ads that pay for it, on your own machine.
#[derive(Debug, Parser)]
#[command(name = "bowerbird", version, about, propagate_version = true)]
pub struct Cli {
    /// Settings shared by every command.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Settings shared by every command.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Configuration file (TOML); `BOWERBIRD_SECTION__KEY` variables override it.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory with model files, used as it is and never fetched into.
    #[arg(long, global = true, value_name = "DIR", env = "BOWERBIRD_MODELS_DIR")]
    pub models_dir: Option<PathBuf>,
    /// Log level or filter, such as `info` or `bowerbird=debug`.
    #[arg(long, global = true, default_value = "warn", env = "BOWERBIRD_LOG")]
    pub log: String,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fetch models, demo posts and demo ads, index them, run sample queries, then serve.
    Demo(DemoArgs),
    /// Serve the HTTP interface and the web page.
    Serve(ServeArgs),
    /// Load posts from JSONL (.jsonl or .jsonl.gz) or Parquet files (.parquet).
    Index(IndexArgs),
    /// Search once, without a server.
    Search(SearchArgs),
    /// Answer one question, without a server.
    Ask(AskArgs),
    /// Measure quality and speed on judged data.
    Eval(EvalArgs),
    /// Learn from judged queries when the cross-encoder is worth its time, and write a profile for `[search]
    /// rerank_profile`.
    Tune(TuneArgs),
    /// Fit weights to judged data.
    Train(TrainArgs),
    /// Manage ads.
    Ads(AdsArgs),
    /// Fetch, list and verify model files.
    Models(ModelsArgs),
    /// Look over a data directory that no server has open, and mend what can be mended. Exit code 0: posts and indexes
    /// agree; 1: something is wrong; 2: it could not be examined.
    Doctor(DoctorArgs),
    /// Rebuild the indexes of a data directory that no server has open, for another embedder, analyser or vector index.
    /// Interrupted, the same command goes on.
    Reindex(ReindexArgs),
    /// Take a snapshot of a data directory that no server has open.
    Snapshot(SnapshotArgs),
    /// Make a data directory of a snapshot.
    Restore(RestoreArgs),
    /// Write the posts of a data directory that no server has open to Parquet parts.
    Export(ExportArgs),
    /// Embed the posts of one Parquet part; needs nothing but the model, so parts can go to many machines.
    Embed(EmbedArgs),
    /// Build a data directory from Parquet parts with vectors.
    Build(BuildArgs),
}

/// `bowerbird reindex`
#[derive(Debug, Args)]
pub struct ReindexArgs {
    /// Where posts, indexes and ads are kept.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Catalog name of the new embedder; the present one when absent.
    #[arg(long, value_name = "NAME")]
    pub embedder: Option<String>,
    /// How words are reduced: by the language of the post, or not at all.
    #[arg(long, value_enum)]
    pub analyzer: Option<AnalyzerArg>,
    /// A setting of the vector index, as in `[index.vector]`: `m=32`.
    #[arg(long, value_name = "NAME=VALUE")]
    pub vector: Vec<String>,
    /// Part files with vectors of the new embedder, as `bowerbird embed` makes them on other machines; posts without one
    /// are embedded here.
    #[arg(long, value_name = "DIR")]
    pub parts: Option<PathBuf>,
    /// A condition for taking over: `overlap=0.3`, `ndcg_drop=0.01`, `p99_ratio=1.5`.
    #[arg(long, value_name = "NAME=NUMBER")]
    pub require: Vec<String>,
    /// Shadow queries, one a line; past queries, else words of posts, when absent.
    #[arg(long, value_name = "FILE", conflicts_with = "judged")]
    pub queries: Option<PathBuf>,
    /// Judged shadow queries: a BEIR folder whose documents are posts.
    #[arg(long, value_name = "DIR")]
    pub judged: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Something else than a rebuild.
    #[command(subcommand)]
    pub what: Option<ReindexCommand>,
}

/// What else `bowerbird reindex` does.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum ReindexCommand {
    /// Make the generation serve again that the present one took over from.
    Rollback,
    /// Remove every generation that does not serve.
    Prune,
    /// Remove what an unfinished rebuild has built.
    Cancel,
    /// Show generations and rebuilds.
    Status,
}

/// How words are reduced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AnalyzerArg {
    /// By the language of the post.
    Language,
    /// Not at all.
    Plain,
}

impl From<AnalyzerArg> for bowerbird_lexical::Analyzer {
    fn from(arg: AnalyzerArg) -> Self {
        match arg {
            AnalyzerArg::Language => Self::Language,
            AnalyzerArg::Plain => Self::Plain,
        }
    }
}

/// `bowerbird snapshot`
#[derive(Debug, Args)]
pub struct SnapshotArgs {
    /// Where posts, indexes and ads are kept.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// The snapshot to make; must not exist.
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// Print the manifest as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `bowerbird restore`
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The snapshot.
    #[arg(long, value_name = "DIR")]
    pub from: PathBuf,
    /// The data directory to make; must be absent or empty.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Print the manifest as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `bowerbird doctor`
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Where posts, indexes and ads are kept.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Make damaged indexes again from the post store, then look again.
    #[arg(long)]
    pub repair: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `bowerbird demo`
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where the demo's index is kept; the user's data directory when absent.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// How many posts to index: a number, or `all` for 46,728.
    #[arg(long, default_value = "10000")]
    pub posts: PostCount,
    /// Where to serve.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Stop after the sample queries.
    #[arg(long)]
    pub no_serve: bool,
}

/// A number of posts, or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostCount {
    /// The first so many.
    First(usize),
    /// All there are.
    All,
}

impl std::str::FromStr for PostCount {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(number) if number > 0 => Ok(Self::First(number)),
            _ if text == "all" => Ok(Self::All),
            _ => Err("expected a number from 1, or `all`".into()),
        }
    }
}

/// `bowerbird serve`
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Where posts, indexes and ads are kept.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Where to listen; the configuration's when absent.
    #[arg(long)]
    pub listen: Option<SocketAddr>,
}

/// `bowerbird index`
#[derive(Debug, Args)]
pub struct IndexArgs {
    /// Where posts, indexes and ads are kept.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Say at the end what was done, as JSON.
    #[arg(long)]
    pub json: bool,
    /// Files of posts: one JSON object a line (`.gz` is unpacked), or Parquet with at least the columns id, text and
    /// created_at.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// `bowerbird search`
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// Where posts, indexes and ads are kept.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Print what `POST /v1/search` answers.
    #[arg(long)]
    pub json: bool,
    /// Show how each hit came to its score and place.
    #[arg(long)]
    pub explain: bool,
    /// Hits on the page.
    #[arg(long, default_value_t = 10)]
    pub limit: usize,
    /// Restrictions, in the same language as the query.
    #[arg(long, value_name = "QUERY")]
    pub filter: Option<String>,
    /// Order of the hits.
    #[arg(long, value_enum, default_value = "relevance")]
    pub sort: SortName,
    /// Which legs retrieve.
    #[arg(long, value_enum, default_value = "auto")]
    pub mode: ModeName,
    /// How the legs are joined.
    #[arg(long, value_enum)]
    pub fusion: Option<FusionName>,
    /// Count the values of a field (author, lang, tags, mentions, attributes.NAME); may be repeated.
    #[arg(long = "facet", value_name = "FIELD")]
    pub facets: Vec<String>,
    /// Share of freshness in the score, 0 to 1.
    #[arg(long, value_name = "SHARE")]
    pub recency_weight: Option<f32>,
    /// Age at which freshness has fallen to one half; 7d when only the share is given.
    #[arg(long, value_name = "AGE", value_parser = humantime_serde::re::humantime::parse_duration)]
    pub recency_half_life: Option<Duration>,
    /// Share of engagement in the score, 0 to 1.
    #[arg(long, value_name = "SHARE")]
    pub engagement_weight: Option<f32>,
    /// What happens to posts that say the same.
    #[arg(long, value_enum)]
    pub collapse: Option<CollapseName>,
    /// Most hits of one author.
    #[arg(long, value_name = "N")]
    pub max_per_author: Option<usize>,
    /// How much the first hits should differ in meaning, 0 to 1.
    #[arg(long, value_name = "SHARE")]
    pub diversity: Option<f32>,
    /// The query.
    #[arg(required = true, allow_hyphen_values = true)]
    pub query: Vec<String>,
}

/// `bowerbird ask`
#[derive(Debug, Args)]
pub struct AskArgs {
    /// Where posts, indexes and ads are kept.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Print what `POST /v1/answer` answers.
    #[arg(long)]
    pub json: bool,
    /// The question.
    #[arg(required = true, allow_hyphen_values = true)]
    pub question: Vec<String>,
}

/// `bowerbird eval`
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// What to measure.
    #[command(subcommand)]
    pub what: EvalCommand,
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum EvalCommand {
    /// nDCG@10, MRR@10, recall@100 and latency of every stage on a BEIR folder.
    Retrieval(EvalRetrievalArgs),
    /// AUROC, precision, recall and calibration of the support check of answers on judged claims.
    Answers(EvalAnswersArgs),
    /// Auctions, pacing and estimators against what theory says; reads nothing.
    Auction(EvalAuctionArgs),
    /// Click rates of policies, estimated from each other's logs, beside the truth.
    Policy(EvalPolicyArgs),
    /// The click model of ads against worlds whose truth is known: calibration on winners, log loss, cold start.
    Clicks(EvalClicksArgs),
    /// Word list and classifier of the ad safety check on labelled texts.
    Safety(EvalSafetyArgs),
}

/// `bowerbird eval auction`
#[derive(Debug, Args)]
pub struct EvalAuctionArgs {
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `bowerbird eval policy`
#[derive(Debug, Args)]
pub struct EvalPolicyArgs {
    /// Folder of logs as in the Open Bandit Dataset: POLICY/CAMPAIGN/CAMPAIGN.csv[.gz].
    #[arg(long, value_name = "DIR")]
    pub dataset: PathBuf,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// A stage whose ranking is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EvalStage {
    /// BM25.
    Lexical,
    /// Dense retrieval.
    Vector,
    /// Both, fused.
    Fused,
    /// Fused, with the cross-encoder blended in for every query.
    Reranked,
    /// Fused, with the cross-encoder where the profile in force has it read.
    Gated,
}

/// `bowerbird eval retrieval`
#[derive(Debug, Args)]
pub struct EvalRetrievalArgs {
    /// BEIR folder: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv.
    #[arg(long, value_name = "DIR")]
    pub dataset: PathBuf,
    /// Name of the qrels file without `.tsv`.
    #[arg(long, default_value = "test")]
    pub split: String,
    /// Answer only the first N judged queries.
    #[arg(long, value_name = "N")]
    pub queries: Option<usize>,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
    /// Write the ranking in TREC form.
    #[arg(long, value_name = "FILE")]
    pub run_file: Option<PathBuf>,
    /// Which stage's ranking goes into the run file.
    #[arg(long, value_enum, default_value = "reranked")]
    pub run_stage: EvalStage,
    /// Also judge the scores of relevant documents against those of random ones, as for ads: AUC and precision at
    /// recall .95.
    #[arg(long)]
    pub ads: bool,
    /// Keep the index here and use it again; a temporary directory when absent.
    #[arg(long, value_name = "DIR")]
    pub index_dir: Option<PathBuf>,
}

/// `bowerbird tune`
#[derive(Debug, Args)]
pub struct TuneArgs {
    /// BEIR folder: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv; several are learned from together, and each is
    /// also judged by a rule learned on the others.
    #[arg(long = "dataset", value_name = "DIR", required = true)]
    pub datasets: Vec<PathBuf>,
    /// Name of the qrels file without `.tsv`: one for each `--dataset` in turn, the last one for those that follow;
    /// `train` when absent.
    #[arg(long = "split", value_name = "NAME")]
    pub splits: Vec<String>,
    /// The profile to write.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Name of the profile in explanations; that of the file when absent.
    #[arg(long)]
    pub name: Option<String>,
    /// Learn from at most N judged queries of each set, drawn by their ids.
    #[arg(long, value_name = "N")]
    pub queries: Option<usize>,
    /// Keep the indexes here, each in a folder of its set, and use them again; temporary ones when absent.
    #[arg(long, value_name = "DIR")]
    pub index_dir: Option<PathBuf>,
    /// Print the profile as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `bowerbird eval answers`
#[derive(Debug, Args)]
pub struct EvalAnswersArgs {
    /// Folder with any of `begin-wow`, `expertqa-citations`, `summedits`; measured on the part that the weights were not
    /// learnt from.
    #[arg(long, value_name = "DIR", required_unless_present_any = ["dataset", "queries"], conflicts_with = "dataset")]
    pub data: Option<PathBuf>,
    /// Answer these questions, one a line, from the posts of `--data-dir` and measure the answers; with `--data` a
    /// second check that had no part in writing them judges their sentences.
    #[arg(long, value_name = "FILE", requires = "data_dir", conflicts_with_all = ["dataset", "scores"])]
    pub queries: Option<PathBuf>,
    /// Where the posts for `--queries` are.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// JSONL of `{"claim", "evidence", "label": 0|1}`; measured on all of it.
    #[arg(long, value_name = "FILE")]
    pub dataset: Option<PathBuf>,
    /// Keep what the models say of the pairs here and use it again.
    #[arg(long, value_name = "FILE")]
    pub scores: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `bowerbird eval clicks`
#[derive(Debug, Args)]
pub struct EvalClicksArgs {
    /// Auctions of each world.
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(20_000..=10_000_000))]
    pub auctions: u32,
    /// Of the worlds.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `bowerbird eval safety`
#[derive(Debug, Args)]
pub struct EvalSafetyArgs {
    /// Folder with any of `davidson-hate-offensive`, `surge-toxicity`; measured on the part that nothing was learnt from.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Archive of the demo's posts (`demo-posts/healthtweets.zip` where models are kept): measured against the word list.
    #[arg(long, value_name = "ZIP")]
    pub posts: Option<PathBuf>,
    /// Weights to measure; those of this program when absent.
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// Texts without labels, one a line: how many are refused, and by what.
    #[arg(long, value_name = "FILE")]
    pub texts: Option<PathBuf>,
    /// Keep the vectors of texts here and use them again.
    #[arg(long, value_name = "FILE")]
    pub vectors: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `bowerbird train`
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// What to fit.
    #[command(subcommand)]
    pub what: TrainCommand,
}

/// What to fit.
#[derive(Debug, Subcommand)]
pub enum TrainCommand {
    /// The weights of the support check of answers.
    Support(TrainSupportArgs),
    /// The weights of the safety classifier of ads.
    Safety(TrainSafetyArgs),
}

/// `bowerbird train support`
#[derive(Debug, Args)]
pub struct TrainSupportArgs {
    /// Folder with any of `begin-wow`, `expertqa-citations`, `summedits`.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Write the weights here, and what they were learnt from to `NAME_report.json` beside them.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Keep what the models say of the pairs here and use it again; half an hour of work on two cores.
    #[arg(long, value_name = "FILE")]
    pub scores: Option<PathBuf>,
    /// Write every pair with its features here, as JSONL.
    #[arg(long, value_name = "FILE")]
    pub features: Option<PathBuf>,
}

/// `bowerbird train safety`
#[derive(Debug, Args)]
pub struct TrainSafetyArgs {
    /// Folder with any of `davidson-hate-offensive`, `surge-toxicity`.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Archive of the demo's posts (`demo-posts/healthtweets.zip` where models are kept): the subjects of the word list are
    /// learnt from them.
    #[arg(long, value_name = "ZIP")]
    pub posts: Option<PathBuf>,
    /// Write the weights here, and what they were learnt from to `NAME_report.json` beside them.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Keep the vectors of texts here and use them again; several minutes of work on two cores.
    #[arg(long, value_name = "FILE")]
    pub vectors: Option<PathBuf>,
}

/// `bowerbird ads`
#[derive(Debug, Args)]
pub struct AdsArgs {
    /// What to do.
    #[command(subcommand)]
    pub what: AdsCommand,
}

/// Form of a file of ads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AdsFormat {
    /// Nested, with every field.
    Json,
    /// One flat table with a row an advertiser, campaign, ad group, keyword or ad.
    Csv,
}

/// What to do with ads.
#[derive(Debug, Subcommand)]
pub enum AdsCommand {
    /// Load advertisers, campaigns, ad groups and ads from a file, JSON or a table (.csv); repeating it changes nothing.
    Import {
        /// Where posts, indexes and ads are kept.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// The file.
        file: PathBuf,
    },
    /// Print everything that is booked, so that `import` takes it.
    Export {
        /// Where posts, indexes and ads are kept.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// How to print it.
        #[arg(long, value_enum, default_value_t = AdsFormat::Json)]
        format: AdsFormat,
    },
    /// Budget, spend, impressions and clicks of every campaign.
    Report {
        /// Where posts, indexes and ads are kept.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Replay the events from nothing and compare with the books; fails where they differ, and when there is nothing to
    /// compare.
    Audit {
        /// Where posts, indexes and ads are kept.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Estimate from the logged draws what other rules for the places below answers would have brought, or say why the log
    /// is no basis for that.
    Judge(AdsJudgeArgs),
    /// Sign links with a new key from now on; those that are out go on working until they expire.
    RotateKey {
        /// Where posts, indexes and ads are kept.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
    },
    /// Take decisions that are older than `ads.engine.log.keep` out of the log.
    Prune {
        /// Where posts, indexes and ads are kept.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
    },
}

/// Rules that were not in force; what is not given stays as it was.
#[derive(Debug, Args)]
pub struct AdsJudgeArgs {
    /// Where posts, indexes and ads are kept.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Exponent of the noise, 0 to 8.
    #[arg(long, value_name = "T")]
    pub temperature: Option<f64>,
    /// Weight of showing no ad, in micros an impression.
    #[arg(long, value_name = "MICROS")]
    pub no_ad_micros: Option<i64>,
    /// Least price of a click, not under the one that was in force.
    #[arg(long, value_name = "MICROS")]
    pub reserve_micros: Option<i64>,
    /// Days back.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(i64).range(1..=366))]
    pub days: i64,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `bowerbird models`
#[derive(Debug, Args)]
pub struct ModelsArgs {
    /// What to do.
    #[command(subcommand)]
    pub what: ModelsCommand,
}

/// What to do with model files.
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// Fetch every file that is missing, and check it.
    Fetch {
        /// Only these entries.
        names: Vec<String>,
    },
    /// What the catalog knows, and what is here.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check the SHA-256 of every file that is here.
    Verify {
        /// Only these entries.
        names: Vec<String>,
    },
    /// Make the float graph of a quantised embedder or reranker, compare the two, and say what was converted.
    Convert {
        /// Catalog name.
        #[arg(long, value_name = "NAME")]
        model: String,
        /// Directory for `NAME/model.onnx` and `NAME/converted.json`; give it as `models.float_dir`.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}
