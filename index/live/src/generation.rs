//! What a generation is made with, and which generations a data directory has.

use std::fs;
use std::path::Path;

use bowerbird_lexical::{Analyzer, LexicalConfig};
use bowerbird_vector::{VectorConfig, VectorIndex};
use serde::{Deserialize, Serialize};

use crate::backup::free_bytes;
use crate::layout::{DataDir, generation_dir, read_current, write_durably};
use crate::{Live, LiveError};

const FILE: &str = "generation.json";

/// What the indexes of a generation are made with, beside the embedding space, which its vectors name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GenerationSpec {
    /// How words are reduced.
    pub analyzer: Analyzer,
    /// Settings of the vector index; those of the configuration when absent.
    pub vector: Option<VectorConfig>,
}

impl GenerationSpec {
    /// Of the generation in `dir`; the defaults when it does not say.
    pub(crate) fn read(dir: &Path) -> Result<Self, LiveError> {
        let path = dir.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(LiveError::io("read", &path)(error)),
        };
        serde_json::from_slice(&text).map_err(|error| LiveError::Format {
            path,
            expected: "the settings of a generation".into(),
            found: error.to_string(),
        })
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<(), LiveError> {
        let path = dir.join(FILE);
        let json =
            serde_json::to_vec_pretty(self).map_err(|error| LiveError::io("write", &path)(error.into()))?;
        write_durably(dir, FILE, &json)
    }

    pub(crate) fn lexical(&self) -> LexicalConfig {
        LexicalConfig { analyzer: self.analyzer, ..LexicalConfig::default() }
    }
}

/// A generation on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerationInfo {
    /// Its number.
    pub number: u32,
    /// Whether it serves.
    pub current: bool,
    /// What it is made with.
    pub spec: GenerationSpec,
    /// Fingerprint of its embedding space and components of a vector; none before its first vector log.
    pub space: Option<(String, usize)>,
    /// Bytes of its files.
    pub bytes: u64,
}

/// The embedding space of the generation that serves in the data directory `root`, without opening it; none when it
/// has none yet. Says which model must embed the queries.
pub fn current_space(root: &Path) -> Result<Option<(String, usize)>, LiveError> {
    let dir = generation_dir(root, read_current(root)?).join("vector");
    Ok(VectorIndex::stored_space(&dir)?)
}

impl Live {
    /// The generations on disk, ascending.
    pub fn generations(&self) -> Result<Vec<GenerationInfo>, LiveError> {
        let dir = &self.stores().dir;
        dir.generations()?.into_iter().map(|number| info(dir, number)).collect()
    }

    /// Directory of a generation, where others may keep files of their own beside the indexes.
    pub fn generation_dir(&self, number: u32) -> std::path::PathBuf {
        self.stores().dir.generation(number)
    }

    /// Writes a small file beside the indexes of a generation, whole or not at all, durable at return.
    pub fn write_beside(&self, number: u32, name: &str, bytes: &[u8]) -> Result<(), LiveError> {
        write_durably(&self.generation_dir(number), name, bytes)
    }

    /// Bytes that are free on the disk of the data directory, where that can be told.
    pub fn free_bytes(&self) -> Option<u64> {
        free_bytes(self.stores().dir.root())
    }

    /// The data directory.
    pub fn root(&self) -> &Path {
        self.stores().dir.root()
    }

    /// Removes generation `number`, which must not be the one that serves; gives the bytes freed.
    pub fn remove_generation(&self, number: u32) -> Result<u64, LiveError> {
        let dir = &self.stores().dir;
        if number == dir.current() {
            return Err(LiveError::Generation { number, message: "it serves".into() });
        }
        if !dir.generations()?.contains(&number) {
            return Err(LiveError::Generation { number, message: "there is none of this number".into() });
        }
        self.published().forget(number);
        let bytes = tree_bytes(&dir.generation(number));
        crate::layout::remove(&dir.generation(number))?;
        Ok(bytes)
    }
}

fn info(dir: &DataDir, number: u32) -> Result<GenerationInfo, LiveError> {
    let path = dir.generation(number);
    Ok(GenerationInfo {
        number,
        current: number == dir.current(),
        spec: GenerationSpec::read(&path)?,
        space: VectorIndex::stored_space(&path.join("vector"))?,
        bytes: tree_bytes(&path),
    })
}

/// Bytes of the files below `dir`; what goes away meanwhile counts nothing.
pub(crate) fn tree_bytes(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => tree_bytes(&entry.path()),
            _ => entry.metadata().map_or(0, |metadata| metadata.len()),
        })
        .sum()
}
