//! What every model must do, as functions that take any implementation and panic with a reason.
//!
//! Called from the tests of each implementation, stub and real alike.

use crate::{Embedder, ModelError, Reranker, TextRole};

/// Unit length, declared dimension, independence of earlier calls, refusal of blank text.
pub fn embedder(model: &mut dyn Embedder) {
    let dim = model.space().dim;
    let first = model.embed("a post about sleep", TextRole::Passage).expect("plain text embeds");
    assert_eq!(first.dim(), dim, "vector length must be the declared dimension");
    let norm: f32 = first.as_slice().iter().map(|v| v * v).sum();
    assert!((norm - 1.0).abs() < 1e-3, "squared length is {norm}, expected 1");
    model
        .embed("something else entirely, and rather longer than the first", TextRole::Query)
        .expect("embeds");
    let again = model.embed("a post about sleep", TextRole::Passage).expect("embeds");
    assert_eq!(first, again, "a vector must not depend on what was embedded before it");
    for blank in ["", " ", "\n\t "] {
        assert!(matches!(model.embed(blank, TextRole::Query), Err(ModelError::EmptyText)), "{blank:?}");
    }
    for odd in ["\0", "\u{200b}\u{200b}", "🙂🙂🙂", &"word ".repeat(20_000), &" ".repeat(1_000_000)] {
        match model.embed(odd, TextRole::Passage) {
            Ok(vector) => assert_eq!(vector.dim(), dim),
            Err(ModelError::EmptyText | ModelError::TextTooLong { .. }) => {}
            Err(other) => panic!("odd text of {} bytes: {other}", odd.len()),
        }
    }
}

/// Relevant above irrelevant, independence of earlier calls, refusal of blank text.
pub fn reranker(model: &mut dyn Reranker) {
    let query = "how to sleep better";
    let good = model.score(query, "How to sleep better: nine ways to fall asleep faster").expect("scores");
    let bad = model.score(query, "Quarterly earnings rose at the steel maker").expect("scores");
    assert!(good > bad, "relevant {good:?} must beat irrelevant {bad:?}");
    let again = model.score(query, "How to sleep better: nine ways to fall asleep faster").expect("scores");
    assert_eq!(good, again, "a score must not depend on what was scored before it");
    assert!(matches!(model.score("", "text"), Err(ModelError::EmptyText)));
    assert!(matches!(model.score("text", "  "), Err(ModelError::EmptyText)));
    model.score(query, &"long text ".repeat(5_000)).expect("a long passage is scored by windows");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stub::{StubEmbedder, StubReranker};

    #[test]
    fn the_stubs_keep_the_contract() {
        embedder(&mut StubEmbedder::new(64));
        reranker(&mut StubReranker);
    }
}
