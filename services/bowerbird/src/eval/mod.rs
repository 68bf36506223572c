//! Measuring quality and speed on judged data that the user names.

pub mod answers;
pub mod beir;
pub mod binary;
pub mod measure;
pub mod pairs;
pub mod retrieval;
pub mod scored;
