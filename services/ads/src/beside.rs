//! What an ad would stand beside: whether any ad may, and whether this advertiser's may.

use bowerbird_models_api::TextRole;
use bowerbird_scheduler::Priority;

use crate::AdRequest;
use crate::engine::Engine;
use crate::index::Advertiser;
use crate::safety::{Cause, Safety, Verdict};
use crate::sensitive::{NoFill, sensitive_term};
use crate::text::words;

/// Neighbours that are looked at.
pub(crate) const MAX_NEIGHBOURS: usize = 8;
/// Words of a neighbour that are compared with block lists.
const MAX_WORDS: usize = 1000;

/// A post that an ad would stand beside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Account that wrote it.
    pub author: String,
    /// What it says.
    pub text: String,
}

/// The classifier's verdict where it knows the vectors; other models have only the list of words.
pub(crate) fn classifier_for(model: &str) -> Option<&'static Safety> {
    let safety = Safety::shipped();
    if safety.classifier().model == model {
        return Some(safety);
    }
    tracing::debug!(
        model,
        "the safety classifier does not know this model's vectors: the list of words judges alone"
    );
    None
}

/// What the list of words says of the neighbours.
pub(crate) fn listed(request: &AdRequest) -> Option<NoFill> {
    let found = request.beside.iter().take(MAX_NEIGHBOURS).find_map(|post| sensitive_term(&post.text));
    found.map(|term| NoFill::UnsafeNeighbour { cause: format!("list:{term}") })
}

impl Engine {
    /// What the classifier says of the neighbours. One that cannot be judged in time is unsafe.
    pub(crate) async fn unsafe_neighbour(&self, request: &AdRequest) -> Option<NoFill> {
        let safety = self.safety?;
        let job = request.job(Priority::QueryEmbedding);
        for post in request.beside.iter().take(MAX_NEIGHBOURS) {
            if post.text.trim().is_empty() {
                continue;
            }
            let vector = self.encoders.embed(&post.text, TextRole::Query, job).await.ok();
            if let Verdict::Unsafe(cause) = safety.judge(&post.text, vector.as_ref()) {
                return Some(NoFill::UnsafeNeighbour { cause: cause.to_string() });
            }
        }
        None
    }
}

/// What the classifier says of the request itself.
pub(crate) fn unsafe_text(
    safety: Option<&Safety>,
    text: &str,
    vector: &bowerbird_models_api::Embedding,
) -> Option<NoFill> {
    match safety?.judge(text, Some(vector)) {
        Verdict::Safe => None,
        Verdict::Unsafe(Cause::List { term }) => Some(NoFill::SensitiveText { term }),
        Verdict::Unsafe(cause) => Some(NoFill::UnsafeText { cause: cause.to_string() }),
    }
}

/// Whether the advertiser's block lists name a neighbour: its author, or words of it in a row.
pub(crate) fn blocks(advertiser: &Advertiser, beside: &[Neighbour]) -> bool {
    if advertiser.blocked_authors.is_empty() && advertiser.blocked_terms.is_empty() {
        return false;
    }
    beside.iter().take(MAX_NEIGHBOURS).any(|post| {
        let author = post.author.trim_start_matches('@').to_lowercase();
        let named = |blocked: &String| blocked.trim_start_matches('@').to_lowercase() == author;
        if advertiser.blocked_authors.iter().any(named) {
            return true;
        }
        let said = words(&post.text, MAX_WORDS);
        advertiser.blocked_terms.iter().any(|term| {
            let term = words(term, MAX_WORDS);
            !term.is_empty() && said.windows(term.len()).any(|run| run == term)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_lists_know_authors_and_words_in_a_row() {
        let advertiser = Advertiser {
            id: "a".into(),
            name: "A".into(),
            paid_by: "A".into(),
            enabled: true,
            balance: None,
            category: None,
            blocked_terms: vec!["flu shot".into()],
            blocked_authors: vec!["@Gossip".into()],
            cap: None,
        };
        let post = |author: &str, text: &str| [Neighbour { author: author.into(), text: text.into() }];
        assert!(blocks(&advertiser, &post("gossip", "anything")));
        assert!(blocks(&advertiser, &post("nhs", "Get your Flu shot!")));
        assert!(!blocks(&advertiser, &post("nhs", "a shot against the flu")));
        assert!(!blocks(&advertiser, &[]));
    }
}
