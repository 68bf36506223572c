//! Measuring quality and speed on judged data that the user names.

mod ads;
pub mod answers;
pub mod auction;
pub mod beir;
pub mod binary;
mod fit;
mod heads;
mod learn;
mod load;
pub mod measure;
pub mod pairs;
pub mod policy;
pub mod retrieval;
pub mod scored;
mod second;
pub mod tune;
mod written;
