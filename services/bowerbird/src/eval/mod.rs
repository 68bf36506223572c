//! Measuring quality and speed on judged data that the user names.

mod ads;
pub mod answers;
pub mod auction;
pub mod beir;
pub mod binary;
pub mod clicks;
pub mod fit;
mod heads;
pub mod labelled;
mod learn;
mod load;
pub mod pairs;
pub mod policy;
pub mod retrieval;
pub mod safety;
pub mod scored;
mod second;
pub mod tune;
mod written;

pub use bowerbird_search::measure;
