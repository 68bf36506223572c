//! What the scheduler tells the metrics recorder of the process.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::Priority;
use crate::queue::Queue;

const DEPTH: &str = "bowerbird_scheduler_queue_depth";
const WAIT: &str = "bowerbird_scheduler_wait_seconds";
const RUN: &str = "bowerbird_scheduler_run_seconds";
const ITEMS: &str = "bowerbird_scheduler_items_total";
const CACHE: &str = "bowerbird_scheduler_cache_total";

/// Tells the recorder what each metric means; call once after installing it.
pub fn describe_metrics() {
    describe_gauge!(DEPTH, Unit::Count, "items waiting for a model worker, by priority");
    describe_histogram!(WAIT, Unit::Seconds, "time from arrival to start, by kind and priority");
    describe_histogram!(RUN, Unit::Seconds, "time of one model call, by kind");
    describe_counter!(
        ITEMS,
        Unit::Count,
        "items by kind (embed, score) and outcome (ok, error, panic, expired, gone, overloaded)"
    );
    describe_counter!(CACHE, Unit::Count, "look-ups by cache (query, score) and outcome (hit, miss)");
}

pub(crate) fn depth<T>(queue: &Queue<T>, priority: Priority) {
    gauge!(DEPTH, "priority" => priority.name()).set(queue.waiting(priority) as f64);
}

pub(crate) fn depths<T>(queue: &Queue<T>) {
    for priority in Priority::ALL {
        depth(queue, priority);
    }
}

pub(crate) fn waited(kind: &'static str, priority: Priority, waited: Duration) {
    histogram!(WAIT, "kind" => kind, "priority" => priority.name()).record(waited.as_secs_f64());
}

pub(crate) fn ran(kind: &'static str, ran: Duration) {
    histogram!(RUN, "kind" => kind).record(ran.as_secs_f64());
}

pub(crate) fn item(kind: &'static str, outcome: &'static str) {
    counter!(ITEMS, "kind" => kind, "outcome" => outcome).increment(1);
}

pub(crate) fn cache(name: &'static str, hit: bool) {
    counter!(CACHE, "cache" => name, "outcome" => if hit { "hit" } else { "miss" }).increment(1);
}
