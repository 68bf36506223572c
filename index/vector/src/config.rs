//! Settings of the vector index.

use serde::{Deserialize, Serialize};

use crate::VectorError;

/// Most dimensions of a vector: an int8 dot product of this length cannot overflow 32 bits.
pub const MAX_DIM: usize = 65_536;

/// Settings of one [`VectorIndex`](crate::VectorIndex).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VectorConfig {
    /// Points below which [`seal`](crate::VectorIndex::seal) builds no graph: a flat scan of 200,000 codes takes a
    /// few milliseconds, is exact over the codes and needs no second copy.
    pub hnsw_min_points: usize,
    /// Neighbours of a graph node above the lowest layer; twice as many in it. 2 to 64.
    pub m: usize,
    /// Candidates kept while the graph is built. `m` to 4096.
    pub ef_construction: usize,
    /// Candidates kept while the graph is searched; at least `rescore` are used. 1 to 4096.
    pub ef_search: usize,
    /// Best int8 candidates whose full-precision cosine is computed; at least `2 k` are used. 1 to 65,536.
    pub rescore: usize,
    /// Threads that build the graph. 1 to 256. With one thread the same points always give the same graph.
    pub threads: usize,
    /// How many int8 codes a flat scan reads in the time the graph spends on one candidate; decides between the two.
    /// 0 means the graph is used whenever there is one. Measured on random vectors of 384 components, which are the
    /// worst case for a graph: 700 at 20,000 points, 5,000 at 100,000.
    pub graph_cost_codes: usize,
    /// Keeps the full-precision vectors in memory (4 bytes a component) instead of reading them from the log.
    pub keep_originals_in_memory: bool,
}

impl Default for VectorConfig {
    fn default() -> Self {
        Self {
            hnsw_min_points: 200_000,
            m: 16,
            ef_construction: 200,
            ef_search: 128,
            rescore: 128,
            threads: 1,
            graph_cost_codes: 1000,
            keep_originals_in_memory: false,
        }
    }
}

impl VectorConfig {
    /// Refuses what the graph library would end the process on, and sizes that make no sense.
    pub fn validate(&self) -> Result<(), VectorError> {
        let check = |name, value: usize, range: std::ops::RangeInclusive<usize>, expected| {
            if range.contains(&value) {
                Ok(())
            } else {
                Err(VectorError::Config { name, expected, found: value })
            }
        };
        check("m", self.m, 2..=64, "2 to 64")?;
        check("ef_construction", self.ef_construction, self.m..=4096, "m to 4096")?;
        check("ef_search", self.ef_search, 1..=4096, "1 to 4096")?;
        check("rescore", self.rescore, 1..=65_536, "1 to 65536")?;
        check("threads", self.threads, 1..=256, "1 to 256")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_extremes_are_named() {
        VectorConfig::default().validate().expect("defaults are valid");
        let config = VectorConfig { m: 300, ..VectorConfig::default() };
        assert!(matches!(config.validate(), Err(VectorError::Config { name: "m", found: 300, .. })));
        let config = VectorConfig { ef_construction: 4, ..VectorConfig::default() };
        assert!(matches!(config.validate(), Err(VectorError::Config { name: "ef_construction", .. })));
    }
}
