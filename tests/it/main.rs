//! Behaviour across crates.

mod ads_apart;
mod bad_input;
mod browser;
mod real_search;
mod search_paging;
mod search_ranking;
mod support;
mod writes;
