//! Who is counted, for how long, and what is written.

use super::*;

const DAY: u32 = 20_000;

fn config() -> QueryLogConfig {
    QueryLogConfig { min_clients: 3, window_days: 10, max_queries: 4, ..QueryLogConfig::default() }
}

fn log() -> QueryLog {
    QueryLog::in_memory(config()).expect("a log")
}

fn shown(log: &QueryLog, day: u32) -> Vec<String> {
    log.starting_with("s", 10, day).into_iter().map(|query| query.text).collect()
}

fn ask(log: &QueryLog, text: &str, clients: &[&str], day: u32) {
    for client in clients {
        log.asked(text, client, day);
    }
}

#[test]
fn a_query_needs_enough_people_not_enough_askings() {
    let log = log();
    for _ in 0..100 {
        ask(&log, "sleep", &["a", "b"], DAY);
    }
    assert!(shown(&log, DAY).is_empty());
    for day in 0..9 {
        ask(&log, "sleep", &["a"], DAY + day);
    }
    assert!(shown(&log, DAY + 8).is_empty());
    ask(&log, "sleep", &["c"], DAY + 8);
    assert_eq!(shown(&log, DAY + 8), ["sleep"]);
}

#[test]
fn the_people_must_have_asked_within_the_window() {
    let log = log();
    ask(&log, "sleep", &["a", "b"], DAY);
    ask(&log, "sleep", &["c"], DAY + 4);
    assert_eq!(shown(&log, DAY + 10), ["sleep"], "a and b asked on the first day of the window");
    assert!(shown(&log, DAY + 11).is_empty());
    // `a` asks again; `b` is out of the window.
    ask(&log, "sleep", &["a"], DAY + 9);
    assert!(shown(&log, DAY + 11).is_empty());
    ask(&log, "sleep", &["d"], DAY + 9);
    assert_eq!(shown(&log, DAY + 14), ["sleep"], "c is the oldest of the last three");
    assert!(shown(&log, DAY + 15).is_empty());
}

#[test]
fn a_new_key_never_makes_two_people_of_one() {
    let log = log();
    ask(&log, "sleep", &["a", "b"], DAY);
    // The key turns with the window.
    ask(&log, "sleep", &["a", "b"], DAY + 10);
    ask(&log, "sleep", &["a", "b"], DAY + 20);
    assert!(shown(&log, DAY + 20).is_empty());
    ask(&log, "sleep", &["c"], DAY + 20);
    assert_eq!(shown(&log, DAY + 20), ["sleep"]);
}

#[test]
fn what_was_asked_longest_ago_is_forgotten() {
    let log = log();
    for n in 0..4 {
        ask(&log, &format!("sp {n}x"), &["a", "b", "c"], DAY);
    }
    // Queries of few people never push out proven ones.
    for n in 0..100 {
        ask(&log, &format!("sq {n}x"), &["a"], DAY);
    }
    assert_eq!(log.proven(), 4);
    assert_eq!(log.state.lock().queries.len(), 8);
    ask(&log, "sp 0x", &["a"], DAY);
    ask(&log, "spray", &["a", "b", "c"], DAY);
    assert_eq!(shown(&log, DAY), ["sp 0x", "sp 2x", "sp 3x", "spray"], "1x was the oldest");
    let state = log.state.lock();
    assert_eq!(state.recent.iter().map(BTreeMap::len).sum::<usize>(), state.queries.len());
}

#[test]
fn more_people_come_first_and_fame_fades() {
    let log = log();
    ask(&log, "sleep", &["a", "b", "c", "d"], DAY);
    ask(&log, "spray", &["a", "b", "c"], DAY);
    ask(&log, "café", &["a", "b", "c"], DAY);
    assert_eq!(shown(&log, DAY), ["sleep", "spray"]);
    ask(&log, "spray", &["a", "b", "c"], DAY + 9);
    assert_eq!(shown(&log, DAY + 9), ["spray", "sleep"]);
    let of = |typed: &str| log.starting_with(typed, 9, DAY).into_iter().map(|q| q.text).collect::<Vec<_>>();
    assert_eq!(of("CAF"), ["café"]);
    assert_eq!(of("cafe"), Vec::<String>::new(), "it is there already");
    assert_eq!(of(""), Vec::<String>::new());
}

#[test]
fn off_means_off() {
    let log = QueryLog::in_memory(QueryLogConfig { enabled: false, ..config() }).expect("a log");
    ask(&log, "sleep", &["a", "b", "c"], DAY);
    assert!(shown(&log, DAY).is_empty() && log.state.lock().queries.is_empty());
}

#[test]
fn proven_queries_survive_a_restart_and_nothing_else_is_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("queries.redb");
    let log = QueryLog::open(Some(&path), config()).expect("opens");
    ask(&log, "sleep", &["10.0.0.1", "10.0.0.2", "10.0.0.3"], DAY);
    ask(&log, "secret", &["10.0.0.1", "10.0.0.2"], DAY);
    log.flush().expect("flushed");
    assert_eq!(log.file.as_ref().expect("a file").stored(), ["sleep"]);
    drop(log);
    let bytes = std::fs::read(&path).expect("reads");
    for absent in ["secret", "10.0.0"] {
        assert!(!bytes.windows(absent.len()).any(|window| window == absent.as_bytes()), "{absent}");
    }
    let log = QueryLog::open(Some(&path), config()).expect("opens again");
    assert_eq!(shown(&log, DAY), ["sleep"]);
    // The sets are gone with the key: two of three are not enough for another.
    ask(&log, "secret", &["10.0.0.3", "10.0.0.4"], DAY);
    assert_eq!(shown(&log, DAY), ["sleep"]);
    assert!(log.forget(" SLEEP ").expect("forgotten"));
    drop(log);
    let log = QueryLog::open(Some(&path), config()).expect("opens again");
    assert!(shown(&log, DAY).is_empty());
    // A smaller bound holds for what is stored as well.
    for n in 0..4 {
        ask(&log, &format!("sp {n}x"), &["a", "b", "c"], DAY + n);
    }
    drop(log);
    let log = QueryLog::open(Some(&path), QueryLogConfig { max_queries: 2, ..config() }).expect("opens");
    assert_eq!(shown(&log, DAY + 3), ["sp 3x", "sp 2x"]);
    log.flush().expect("flushed");
    assert_eq!(log.file.as_ref().expect("a file").stored(), ["sp 2x", "sp 3x"]);
}

#[test]
fn a_file_that_cannot_be_read_is_set_aside() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("queries.redb");
    std::fs::write(&path, b"no database at all, but long enough to look at".repeat(200)).expect("writes");
    let log = QueryLog::open(Some(&path), config()).expect("opens");
    assert!(dir.path().join("queries.redb.damaged").is_file());
    ask(&log, "sleep", &["a", "b", "c"], DAY);
    drop(log);
    let log = QueryLog::open(Some(&path), config()).expect("opens");
    assert_eq!(shown(&log, DAY), ["sleep"]);
    drop(log);
    // Flipped bits anywhere: an empty log or the same, never a panic.
    let good = std::fs::read(&path).expect("reads");
    for at in (0..good.len()).step_by(good.len() / 97) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        std::fs::write(&path, bad).expect("writes");
        let log = QueryLog::open(Some(&path), config()).expect("opens");
        assert!(shown(&log, DAY).len() <= 1, "{at}");
    }
    let unusable = QueryLog::open(Some(&dir.path().join("none").join("queries.redb")), config());
    ask(&unusable.expect("in memory"), "sleep", &["a"], DAY);
}
