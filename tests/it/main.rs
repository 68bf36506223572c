//! Behaviour across crates.

mod ads_apart;
mod bad_input;
mod browser;
mod real_search;
mod support;
mod writes;
