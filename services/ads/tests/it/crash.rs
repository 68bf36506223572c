//! Money under fire: 64 threads decide, see, click, repeat, come late and forge, the process is killed again and again
//! in the middle of it, and the books must still be right to the micro.
//!
//! `BOWERBIRD_MONEY_EVENTS=100000 cargo test -p bowerbird-ads --test it crash -- --nocapture` runs as many events as one
//! likes; without it 6,000. `BOWERBIRD_MONEY_KILLS` sets how often the process is killed.

#![expect(clippy::print_stdout, reason = "a child says that it is ready, and the test what it measured")]

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bowerbird_ads::{AdEngine, AdsConfig, AdsError, EventContext};
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{advertisers, campaign, config, encoders, later, phrase, request, token};

const THREADS: usize = 64;
const PLACE: &str = "BOWERBIRD_MONEY_CHILD";

/// Budgets that are used up on the way, in every scope: days, lives and accounts; one is paid by impressions.
fn document() -> Value {
    let shoes = || phrase("running shoes");
    let mut document = advertisers(vec![
        campaign("day", 900_000, shoes(), |c| c["daily_budget_micros"] = json!(40_000_123)),
        campaign("life", 700_000, shoes(), |c| {
            c["daily_budget_micros"] = json!(90_000_000);
            c["lifetime_budget_micros"] = json!(90_000_077);
        }),
        campaign("small", 800_000, shoes(), |c| c["daily_budget_micros"] = json!(1_700_001)),
        campaign("rich", 500_000, shoes(), |c| c["daily_budget_micros"] = json!(4_000_000_000_i64)),
        campaign("account", 600_000, shoes(), |c| c["daily_budget_micros"] = json!(80_000_000)),
    ]);
    document["advertisers"][4]["balance_micros"] = json!(30_000_009);
    document
}

async fn at(path: &Path, config: AdsConfig) -> AdEngine {
    AdEngine::open(path, config, encoders()).await.unwrap_or_else(|error| panic!("{error}"))
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().map_or(default, |value| value.parse().expect("a whole number"))
}

/// What a thread was told, one line each: the click token and the charge.
fn journal(place: &Path, run: &str, thread: usize) -> File {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(place.join(format!("journal-{run}-{thread}")))
        .expect("a journal")
}

/// One thread's work until `left` events are done.
async fn work(engine: AdEngine, place: &Path, run: &str, thread: usize, left: &AtomicUsize) {
    let mut journal = journal(place, run, thread);
    // Every thread of every run has auctions of its own.
    let mut seed = [0; 32];
    let name = format!("{run}/{thread}");
    seed[..name.len()].copy_from_slice(name.as_bytes());
    let mut rng = StdRng::from_seed(seed);
    let mut open: Vec<(String, String, i64)> = Vec::new();
    let from = EventContext::default();
    let mut second = 0;
    while left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
        second += rng.random_range(0..40);
        let now: Timestamp = later(second);
        match rng.random_range(0..10) {
            0..=3 => {
                let mut asked = request("running shoes");
                asked.auction_id = Uuid::from_u128(rng.random());
                asked.now = now;
                match engine.decide(asked).await {
                    Ok(slate) => open.extend(slate.blocks.into_iter().map(|block| {
                        (token(&block.impression_url).to_owned(), token(&block.click_url).to_owned(), second)
                    })),
                    Err(AdsError::Busy) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            4 => {
                // A forgery: one character changed.
                if let Some((_, click, _)) = open.last() {
                    let at = rng.random_range(0..click.len());
                    let other = if click.as_bytes()[at] == b'A' { "B" } else { "A" };
                    let forged = format!("{}{other}{}", &click[..at], &click[at + 1..]);
                    let refused = engine.click(&forged, &from, now).await;
                    assert!(matches!(refused, Err(AdsError::Token(_))), "{refused:?}");
                }
            }
            kind => {
                if open.is_empty() {
                    continue;
                }
                let (impression, click, decided) = open[rng.random_range(0..open.len())].clone();
                // Some come after their hold ended, some after they expired.
                let late = [0, 0, 0, 0, 4_000, 100_000][rng.random_range(0..6)];
                let at = later((second + late).max(decided + 1));
                if kind < 8 {
                    match engine.impression(&impression, &from, at).await {
                        Ok(_) | Err(AdsError::Busy) => {}
                        Err(error) => panic!("{error}"),
                    }
                } else {
                    match engine.click(&click, &from, at).await {
                        Ok(outcome) if outcome.status.is_kept() => {
                            writeln!(journal, "{click} {}", outcome.charged.0).expect("writes");
                        }
                        Ok(_) | Err(AdsError::Busy) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                if open.len() > 200 {
                    open.swap_remove(0);
                }
            }
        }
    }
}

/// The process that is killed: not a test by itself.
#[test]
#[ignore = "runs as a child of the test below"]
fn child() {
    let Ok(place) = std::env::var(PLACE) else { return };
    let place = PathBuf::from(place);
    let run = std::env::var("BOWERBIRD_MONEY_RUN").expect("a name");
    let left = AtomicUsize::new(number("BOWERBIRD_MONEY_LEFT", 0));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let mut settings = config();
    settings.traffic.least_click_delay = Duration::ZERO;
    let engine = runtime.block_on(at(&place.join("ads.sqlite"), settings));
    println!("ready");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (engine, handle) = (engine.clone(), runtime.handle().clone());
            let (place, run, left) = (&place, &run, &left);
            scope.spawn(move || handle.block_on(work(engine, place, run, thread, left)));
        }
    });
    runtime.block_on(engine.close());
}

/// Runs a child with `events` to do; kills it after `patience`, if any. Returns whether it came to its end.
fn run(place: &Path, name: &str, events: usize, patience: Option<Duration>) -> bool {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "crash::child", "--ignored", "--nocapture", "--test-threads=1"])
        .env(PLACE, place)
        .env("BOWERBIRD_MONEY_RUN", name)
        .env("BOWERBIRD_MONEY_LEFT", events.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let ready = lines.any(|line| line.is_ok_and(|line| line.contains("ready")));
    assert!(ready, "the child did not start");
    let drain = std::thread::spawn(move || lines.for_each(drop));
    if let Some(patience) = patience {
        let until = Instant::now() + patience;
        while Instant::now() < until {
            if let Some(status) = child.try_wait().expect("a state") {
                assert!(status.success(), "the child failed: {status}");
                drain.join().expect("reads");
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // SIGKILL: no destructor, no last commit.
        child.kill().expect("kills");
        child.wait().expect("a state");
        drain.join().expect("reads");
        return false;
    }
    let status = child.wait().expect("a state");
    drain.join().expect("reads");
    assert!(status.success(), "the child failed: {status}");
    true
}

#[test]
fn killed_again_and_again_the_books_stay_right_to_the_micro() {
    let events = number("BOWERBIRD_MONEY_EVENTS", 6_000);
    let kills = number("BOWERBIRD_MONEY_KILLS", 5);
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path();
    let path = place.join("ads.sqlite");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let engine = at(&path, config()).await;
        engine.import_json(&document().to_string()).await.unwrap_or_else(|error| panic!("{error}"));
        engine.close().await;
    });
    let mut rng = StdRng::seed_from_u64(20_260_310);
    let mut killed = 0;
    let begun = Instant::now();
    for n in 0..kills {
        let patience = Duration::from_millis(rng.random_range(50..1500));
        killed += usize::from(!run(place, &format!("killed{n}"), events, Some(patience)));
    }
    assert!(run(place, "whole", events, None));
    let took = begun.elapsed();

    let told = told(place);
    assert!(told.len() > 20, "only {} clicks were told", told.len());
    runtime.block_on(async {
        let mut settings = config();
        settings.traffic.least_click_delay = Duration::ZERO;
        let engine = at(&path, settings.clone()).await;
        let audit = engine.audit().await.expect("audits");
        assert!(audit.passed(), "{audit:?}");
        // Whatever was told to a caller is in the books, and a repeat hears the same.
        for (click, charged) in &told {
            let again = engine.click(click, &EventContext::default(), later(50_000_000)).await.expect("answers");
            assert!(again.duplicate, "a told click is lost");
            assert_eq!(again.charged.0, *charged, "a repeat hears another charge");
        }
        let rows = engine.campaigns(later(0)).await.expect("reports");
        let spent: i64 = rows.iter().map(|row| row.spent_total.0).sum();
        let told_sum: i64 = told.values().sum();
        assert!(told_sum <= spent, "told {told_sum}, booked {spent}");
        let of = |id: &str| rows.iter().find(|row| row.campaign == id).expect("booked").spent_total.0;
        assert!(of("life") <= 90_000_077 && of("account") <= 30_000_009, "{rows:?}");
        println!(
            "{} events booked, {} ledger entries, {killed} kills, {} clicks told, charged {spent} micros, overspent 0, {} \
             scopes and accounts compared, {took:.1?}",
            audit.events,
            audit.entries,
            told.len(),
            audit.compared
        );
        // From empty: the same balances when the books are made again from the events.
        let before = engine.books().await.expect("reads");
        engine.rebuild_books().await.expect("replays");
        assert_eq!(engine.books().await.expect("reads"), before, "replay from nothing");
        assert!(engine.audit().await.expect("audits").passed());
        engine.close().await;
    });
}

/// Every click that a caller was told of, over all runs, with its charge; told twice, it was told the same.
fn told(place: &Path) -> HashMap<String, i64> {
    let mut told = HashMap::new();
    for entry in std::fs::read_dir(place).expect("a folder") {
        let path = entry.expect("an entry").path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("journal-")) {
            continue;
        }
        for line in BufReader::new(File::open(path).expect("opens")).lines() {
            let line = line.expect("reads");
            // The last line of a killed thread may be cut off.
            let Some((click, charged)) = line.split_once(' ') else { continue };
            let Ok(charged) = charged.parse::<i64>() else { continue };
            if let Some(before) = told.insert(click.to_owned(), charged) {
                assert_eq!(before, charged, "told twice, differently");
            }
        }
    }
    told
}
