//! Parameters of ranking and of the writer.

use serde::{Deserialize, Serialize};

use crate::LexicalError;

/// How the words of posts are reduced before they are indexed. An index keeps the one it was made with: queries look
/// a word up in every form, and find it in the form its posts have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Analyzer {
    /// By the language of the post: English and French words lose their endings, others stay.
    #[default]
    Language,
    /// No word loses its ending: `flies` finds `flies` and not `flying`.
    Plain,
}

/// How the index ranks and how it uses the machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LexicalConfig {
    /// How the words of posts are reduced.
    pub analyzer: Analyzer,
    /// Saturation of term frequency in BM25, 0 or more.
    pub k1: f32,
    /// Weight of document length in BM25, 0 to 1.
    pub b: f32,
    /// Memory of each writer thread before it flushes a segment, in bytes; at least 15 MB.
    pub writer_memory_bytes: usize,
    /// Threads that analyse and index, 1 to 8.
    pub writer_threads: usize,
    /// Threads that merge segments.
    pub merge_threads: usize,
    /// Indexes up to this size have the checksum of every file checked at open (about 3 GB/s from the page
    /// cache); in larger ones only the ends of the files are. [`crate::LexicalIndex::verify`] checks all of it.
    pub verify_bytes: u64,
    /// Most words that a prefix stands for.
    pub prefix_expansions: usize,
}

impl Default for LexicalConfig {
    fn default() -> Self {
        Self {
            analyzer: Analyzer::default(),
            // The values of the published BEIR baselines: short texts saturate early, and length says little. On six
            // sets, the pair that is best on all other collections wins on two, by .005 and .009 of nDCG@10, and
            // loses on three, both sets of short posts among them (`benches/lexical_quality.rs`).
            k1: 0.9,
            b: 0.4,
            writer_memory_bytes: 64 << 20,
            writer_threads: 1,
            merge_threads: 1,
            verify_bytes: 512 << 20,
            prefix_expansions: 64,
        }
    }
}

impl LexicalConfig {
    /// Refuses values that have no meaning.
    pub(crate) fn check(&self) -> Result<(), LexicalError> {
        let refuse = |name: &'static str, found: String, expected: &'static str| {
            Err(LexicalError::Config { name, found, expected })
        };
        if !(self.k1.is_finite() && self.k1 >= 0.0) {
            return refuse("k1", self.k1.to_string(), "a finite number of at least 0");
        }
        if !(0.0..=1.0).contains(&self.b) {
            return refuse("b", self.b.to_string(), "a number from 0 to 1");
        }
        if !(15_000_000..u32::MAX as usize - 1_000_000).contains(&self.writer_memory_bytes) {
            return refuse("writer_memory_bytes", self.writer_memory_bytes.to_string(), "15 MB to 4 GB");
        }
        if !(1..=8).contains(&self.writer_threads) {
            return refuse("writer_threads", self.writer_threads.to_string(), "1 to 8");
        }
        if !(1..=8).contains(&self.merge_threads) {
            return refuse("merge_threads", self.merge_threads.to_string(), "1 to 8");
        }
        if !(1..=1024).contains(&self.prefix_expansions) {
            return refuse("prefix_expansions", self.prefix_expansions.to_string(), "1 to 1024");
        }
        Ok(())
    }
}
