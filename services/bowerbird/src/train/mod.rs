//! Fitting weights to judged data.
#![expect(clippy::print_stdout, reason = "the output of a command line program")]

pub mod logistic;
pub mod safety;
pub mod support;
