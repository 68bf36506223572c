//! What a remote generator tells the metrics recorder of the process.

use bowerbird_models_api::{Finish, ModelError, Usage};
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

const GENERATIONS: &str = "bowerbird_generator_requests_total";
const RETRIES: &str = "bowerbird_generator_connect_retries_total";
const BREAKER: &str = "bowerbird_generator_breaker_open";

/// Tells the recorder what each metric means; call once after installing it.
pub fn describe_metrics() {
    describe_counter!(
        GENERATIONS,
        Unit::Count,
        "remote generations by outcome (ok, deadline, overloaded, unavailable, failed, left)"
    );
    describe_counter!(RETRIES, Unit::Count, "connections to the model server that were tried again");
    describe_gauge!(BREAKER, "1 while the model server is left alone after failures, or at its wish");
}

pub(crate) fn generation(result: &Result<Usage, ModelError>) {
    outcome(match result {
        Ok(usage) if usage.finish == Finish::Deadline => "deadline",
        Ok(_) => "ok",
        Err(ModelError::Overloaded { .. }) => "overloaded",
        Err(ModelError::Unavailable { .. }) => "unavailable",
        Err(_) => "failed",
    });
}

/// The caller left before the end.
pub(crate) fn left() {
    outcome("left");
}

pub(crate) fn retried() {
    counter!(RETRIES).increment(1);
}

pub(crate) fn breaker(open: bool) {
    gauge!(BREAKER).set(if open { 1.0 } else { 0.0 });
}

fn outcome(outcome: &'static str) {
    counter!(GENERATIONS, "outcome" => outcome).increment(1);
}
