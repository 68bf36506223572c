//! The processes of a cluster, found from the one that was started.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::PROGRAM;

/// `root` and all below it, those above before those below; `visit` is called for each before what is below it is
/// looked for.
fn tree(root: u32, visit: impl Fn(u32)) -> Vec<u32> {
    let mut all = Vec::new();
    let mut next = vec![root];
    while let Some(process) = next.pop() {
        visit(process);
        next.extend(children(process));
        all.push(process);
    }
    all
}

fn children(process: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split(' ').filter_map(|id| id.parse().ok()).collect::<Vec<_>>()).collect()
}

/// Whether the program runs below `root`.
pub fn is_embedding(root: u32) -> bool {
    tree(root, |_| ()).into_iter().any(|process| {
        fs::read_link(format!("/proc/{process}/exe")).is_ok_and(|program| program == Path::new(PROGRAM))
    })
}

/// The processes below `root` that have `argument` on their command line.
pub fn with_argument(root: u32, argument: &str) -> Vec<u32> {
    let has = |process: &u32| {
        let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|found| found == argument.as_bytes())
    };
    tree(root, |_| ()).into_iter().filter(has).collect()
}

/// Kills `root` and all below it at once, as if the machine had lost power.
pub fn kill_tree(root: u32) {
    // Stopped first, nothing can react to the death of another.
    for process in tree(root, |process| signal("STOP", process)).into_iter().rev() {
        signal("KILL", process);
    }
}

fn signal(name: &str, process: u32) {
    // The shell has it built in; a program of this name is not everywhere.
    let kill = format!("kill -{name} {process}");
    drop(Command::new("sh").args(["-c", &kill]).stderr(Stdio::null()).status());
}

/// Waits until `done`; fails after three minutes, which a busy machine may need.
pub fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_mins(3), "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
