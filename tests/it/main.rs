//! Behaviour across crates.

mod ads_apart;
mod bad_input;
mod browser;
mod real_search;
mod suggest;
mod support;
mod writes;
