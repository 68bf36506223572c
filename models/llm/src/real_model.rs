//! The model of the catalog, for tests.

use std::path::PathBuf;

/// SmolLM2 in `BOWERBIRD_MODELS_DIR`, else in the user's cache. Absent files skip the test with a line that says
/// how to get them, or fail it when `BOWERBIRD_REQUIRE_ALL` is 1.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn path() -> Option<PathBuf> {
    let env = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = || {
        Some(env("XDG_CACHE_HOME").or_else(|| Some(env("HOME")?.join(".cache")))?.join("bowerbird/models"))
    };
    let path =
        env("BOWERBIRD_MODELS_DIR").or_else(cache)?.join("smollm2-135m-instruct").join("model-q4_1.gguf");
    if path.is_file() {
        return Some(path);
    }
    let message = format!("{} is absent: get it with `cargo run --release -- models fetch`", path.display());
    assert!(env("BOWERBIRD_REQUIRE_ALL") != Some(PathBuf::from("1")), "{message}");
    eprintln!("skipped: {message}");
    None
}
