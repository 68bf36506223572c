//! The command line of a rebuild in stages.

use std::path::PathBuf;

use clap::Args;

/// `bowerbird export`
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Where posts, indexes and ads are kept.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// The directory for `part-00000.parquet` and so on; must be absent or empty.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Posts of a part.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub part_posts: u64,
    /// Say what was written as one line of JSON.
    #[arg(long)]
    pub json: bool,
}

/// `bowerbird embed`
#[derive(Debug, Args)]
pub struct EmbedArgs {
    /// A part with posts.
    #[arg(long = "in", value_name = "PART")]
    pub input: PathBuf,
    /// The part with posts and vectors to write. One that is whole and was made of the same posts with the same model
    /// is kept.
    #[arg(long, value_name = "PART")]
    pub out: PathBuf,
    /// Embedder of the catalog; that of the configuration when absent.
    #[arg(long, value_name = "NAME")]
    pub embedder: Option<String>,
    /// Texts embedded at a time, each on a core; that of the configuration when absent.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Say what was done as one line of JSON.
    #[arg(long)]
    pub json: bool,
}

/// `bowerbird build`
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// The directory of the parts that `bowerbird embed` wrote. They are read in the order of their names; of an id
    /// that is there twice the last post counts.
    #[arg(long, value_name = "DIR")]
    pub parts: PathBuf,
    /// The data directory to make; must not exist.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Say what was built as one line of JSON.
    #[arg(long)]
    pub json: bool,
}
