//! The ad engine from outside: one database file, stub or real models, a clock that stands still.

mod budget;
mod decide;
mod events;
mod import;
mod real_models;
mod support;
