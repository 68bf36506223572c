//! Behaviour across crates.

mod ads_apart;
mod bad_input;
mod browser;
mod concurrency;
mod real_search;
mod snapshots;
mod suggest;
mod support;
mod writes;
