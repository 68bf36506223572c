//! Measuring quality and speed on judged data that the user names.

pub mod beir;
pub mod measure;
pub mod retrieval;
