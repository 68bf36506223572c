//! Measuring quality and speed on judged data that the user names.

mod ads;
pub mod beir;
mod fit;
mod heads;
mod learn;
mod load;
pub mod measure;
pub mod retrieval;
pub mod tune;
