//! The models' scores of an alignment, by way of the queue that guards them.

use std::collections::HashMap;
use std::sync::Arc;

use bowerbird_models_api::{Embedding, TextRole};
use bowerbird_scheduler::{Encoders, Job, SchedulerError};

use super::align::{Alignment, Scores};
use super::model::SupportModel;

/// Asks the cross-encoder and the embedder; fails when one of the calls does.
///
/// For one sentence against one sentence: one pair, a second one only where the shipped weights look at it, and at most
/// four short texts.
pub async fn ask(encoders: &Encoders, alignment: &Alignment, job: Job) -> Result<Scores, SchedulerError> {
    let backward = SupportModel::shipped().weighs("logit_backward");
    let mut logits: HashMap<(&str, &str), f32> = HashMap::new();
    let mut vectors: HashMap<&str, Embedding> = HashMap::new();
    let pairs = async {
        for (query, passage) in alignment.pairs(backward) {
            let passages: [Arc<str>; 1] = [passage.into()];
            for logit in encoders.score(query, &passages, job).await {
                logits.insert((query, passage), logit?.get());
            }
        }
        Ok::<_, SchedulerError>(())
    };
    let texts = async {
        for text in alignment.texts() {
            let (vector, _) = encoders.embed_counted(text, TextRole::Passage, job).await?;
            vectors.insert(text, vector);
        }
        Ok::<_, SchedulerError>(())
    };
    tokio::try_join!(pairs, texts)?;
    let logit = |query: &str, passage: &str| logits.get(&(query, passage)).copied().unwrap_or(f32::NAN);
    let cosine = |a: &str, b: &str| match (vectors.get(a), vectors.get(b)) {
        (Some(a), Some(b)) => a.cosine(b).unwrap_or(f32::NAN),
        _ => f32::NAN,
    };
    Ok(alignment.scores(backward, logit, cosine))
}
