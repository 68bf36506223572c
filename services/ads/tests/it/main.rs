//! The ad engine from outside: a database of its own for each test, stub or real models, a clock that stands still.

mod answers;
mod budget;
mod catalog;
mod crash;
mod decide;
mod events;
mod export;
mod import;
#[cfg(unix)]
mod postgres;
mod real_models;
mod report;
mod storage;
mod support;
mod wording;
