//! Behaviour across crates.

mod ad_text;
mod ads_apart;
mod ads_bad_input;
mod ads_catalog;
mod ads_market;
mod answer_ads;
mod answer_cache;
mod answer_stream;
mod bad_input;
mod browser;
mod chat;
mod clients;
mod concurrency;
mod gate;
mod model_calls;
mod real_models;
mod real_search;
mod reindex;
mod search_paging;
mod search_ranking;
mod snapshots;
mod suggest;
mod support;
mod writes;
