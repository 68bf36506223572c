//! Bowerbird: search that answers, and ads that pay for it.
//!
//! This crate puts the rooms together and gives them faces: the command line and the HTTP server. It alone reads
//! configuration and environment, and chooses implementations.

pub mod ad_text;
pub mod answers;
pub mod chat;
pub mod cli;
pub mod commands;
pub mod config;
pub mod demo;
pub mod eval;
pub mod flow;
pub mod http;
pub mod openrtb;
pub mod profile;
pub mod progress;
pub mod snapshots;
pub mod stack;
pub mod train;
pub mod usage;
pub mod wire;
