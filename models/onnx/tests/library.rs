//! Loading the shared library: alone in its process, because a process loads one for good.

use std::fs;
use std::path::PathBuf;

use bowerbird_onnx::{OnnxError, Runtime};

/// The fetched library; `None` (after a line that says how to get it) when it is absent, unless
/// `BOWERBIRD_REQUIRE_ALL` is 1.
fn good_library() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let root = variable("BOWERBIRD_MODELS_DIR").unwrap_or_else(|| {
        let home = || variable("HOME").unwrap_or_default().join(".cache");
        variable("XDG_CACHE_HOME").unwrap_or_else(home).join("bowerbird/models")
    });
    let name = if cfg!(target_os = "macos") { "libonnxruntime.dylib" } else { "libonnxruntime.so" };
    let path = root.join("onnxruntime").join(name);
    if path.is_file() {
        return Some(path);
    }
    let message =
        format!("not run: {} is absent, get it with `cargo run --release -- models fetch`", path.display());
    assert!(std::env::var_os("BOWERBIRD_REQUIRE_ALL").is_none_or(|value| value != "1"), "{message}");
    #[expect(clippy::print_stderr, reason = "the one way a test can say that it did not run")]
    {
        eprintln!("{message}");
    }
    None
}

#[test]
fn bad_libraries_are_errors_and_leave_the_way_free_for_a_good_one() {
    let Some(good) = good_library() else { return };
    let dir = tempfile::tempdir().expect("temp dir");
    let at = |name: &str| dir.path().join(name);
    let whole = fs::read(&good).expect("reads");
    fs::write(at("text.so"), "not a library\n".repeat(100)).expect("writes");
    fs::write(at("empty.so"), "").expect("writes");
    fs::write(at("half.so"), &whole[..whole.len() / 2]).expect("writes");
    fs::write(at("almost.so"), &whole[..whole.len() - 1]).expect("writes");
    fs::write(at("header.so"), &whole[..64]).expect("writes");
    fs::create_dir(at("directory.so")).expect("creates");
    // A complete program that is not ONNX Runtime: this test itself.
    fs::copy(std::env::current_exe().expect("is known"), at("other.so")).expect("copies");
    let names =
        ["text.so", "empty.so", "half.so", "almost.so", "header.so", "directory.so", "absent.so", "other.so"];
    for name in names {
        let error = Runtime::load(&at(name)).expect_err(name);
        let text = error.to_string();
        assert!(matches!(error, OnnxError::Library { .. }), "{text}");
        assert!(text.contains(name) && text.contains("bowerbird models fetch"), "{text}");
    }
    let runtime = Runtime::load(&good).expect("the good library loads after all these");
    assert_eq!(Runtime::load(&good).expect("loads twice").dylib(), runtime.dylib());
    assert!(!runtime.build_info().is_empty());
    let copy = at("copy.so");
    fs::copy(&good, &copy).expect("copies");
    let error = Runtime::load(&copy).expect_err("one library per process");
    assert!(matches!(error, OnnxError::AlreadyLoaded { .. }), "{error}");
    assert!(error.to_string().contains("copy.so"), "{error}");
}
