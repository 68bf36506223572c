//! What the scheduler tells the metrics recorder of the process.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::Priority;
use crate::queue::Queue;

const DEPTH: &str = "bowerbird_scheduler_queue_depth";
const WAIT: &str = "bowerbird_scheduler_wait_seconds";
const RUN: &str = "bowerbird_scheduler_run_seconds";
const BATCH: &str = "bowerbird_scheduler_batch_items";
const ITEMS: &str = "bowerbird_scheduler_items_total";
const CACHE: &str = "bowerbird_scheduler_cache_total";
const CACHE_BYTES: &str = "bowerbird_scheduler_cache_bytes";
const CACHE_LIMIT: &str = "bowerbird_scheduler_cache_limit_bytes";

/// Tells the recorder what each metric means; call once after installing it.
pub fn describe_metrics() {
    describe_gauge!(DEPTH, Unit::Count, "items waiting for a model worker, by priority");
    describe_histogram!(WAIT, Unit::Seconds, "time from arrival to start, by kind and priority");
    describe_histogram!(RUN, Unit::Seconds, "time of one model call, by kind");
    describe_histogram!(BATCH, Unit::Count, "items of one model call where calls take many, by kind");
    describe_counter!(
        ITEMS,
        Unit::Count,
        "items by kind (embed, score) and outcome (ok, error, panic, expired, late, gone, overloaded)"
    );
    describe_counter!(CACHE, Unit::Count, "look-ups by cache (query, score) and outcome (hit, miss)");
    describe_gauge!(CACHE_BYTES, Unit::Bytes, "what a cache (query, score) holds");
    describe_gauge!(CACHE_LIMIT, Unit::Bytes, "what a cache (query, score) may hold");
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

pub(crate) fn ran_batch(kind: &'static str, items: usize, took: Duration) {
    ran(kind, took);
    histogram!(BATCH, "kind" => kind).record(items as f64);
}

pub(crate) fn item(kind: &'static str, outcome: &'static str) {
    counter!(ITEMS, "kind" => kind, "outcome" => outcome).increment(1);
}

pub(crate) fn cache(name: &'static str, hit: bool) {
    counter!(CACHE, "cache" => name, "outcome" => if hit { "hit" } else { "miss" }).increment(1);
}

pub(crate) fn cache_size(name: &'static str, bytes: u64, limit: u64) {
    gauge!(CACHE_BYTES, "cache" => name).set(bytes as f64);
    gauge!(CACHE_LIMIT, "cache" => name).set(limit as f64);
}
