//! What every model must do, as functions that take any implementation and panic with a reason.
//!
//! Called from the tests of each implementation, stub and real alike.

use std::num::NonZeroUsize;

use crate::{Embedder, ModelError, Pair, Reranker, TextRole};

/// Unit length, declared dimension, independence of earlier calls, refusal of blank text, counts that add up.
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
    let (counted, read) = model.embed_counted("a post about sleep", TextRole::Passage).expect("embeds");
    assert_eq!(counted, first, "counting changes nothing");
    assert!(read.tokens >= 4 && read.dropped == 0, "{read:?}");
    let (_, two) = model.embed_counted("sleep sleep", TextRole::Passage).expect("embeds");
    let (_, three) = model.embed_counted("sleep sleep sleep", TextRole::Passage).expect("embeds");
    assert_eq!(three.tokens, two.tokens + 1);
    let padded = format!("sleep sleep{}", " ".repeat(1_000_000));
    assert_eq!(model.embed_counted(&padded, TextRole::Passage).expect("embeds").1, two, "spaces are nothing");
    let (_, full) = model.embed_counted(&"sleep ".repeat(1000), TextRole::Passage).expect("embeds");
    assert!(full.dropped > 0 && full.tokens > three.tokens, "{full:?}");
    let (_, more) = model.embed_counted(&"sleep ".repeat(1001), TextRole::Passage).expect("embeds");
    assert_eq!((more.tokens, more.dropped), (full.tokens, full.dropped + 1));

    let sleep_1000 = "sleep ".repeat(1000);
    let texts = ["sleep sleep", "  ", "sleep sleep sleep", &sleep_1000].map(|t| (t, TextRole::Passage));
    let batch = model.embed_batch(&texts);
    assert!(matches!(batch[1], Err(ModelError::EmptyText)), "a blank text spoils no other");
    let counts: Vec<_> = batch.iter().flatten().map(|(_, read)| *read).collect();
    assert_eq!(counts, [two, three, full], "counts are those of the texts alone, without padding");
    assert!(model.embed_batch(&[]).is_empty());
}

/// Relevant above irrelevant, independence of earlier calls, refusal of blank text, counts that add up.
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

    let text = "How to sleep better: nine ways to fall asleep faster";
    let (counted, read) = model.score_counted(query, text, None).expect("scores");
    assert_eq!(counted, good, "counting changes nothing");
    assert!(read.tokens >= 14 && (read.query_dropped, read.passage_dropped) == (0, 0), "{read:?}");
    let (_, long) = model.score_counted(query, &"text ".repeat(1000), None).expect("scores");
    let (_, longer) = model.score_counted(query, &"text ".repeat(1001), None).expect("scores");
    assert!(long.passage_dropped > 0 && long.query_dropped == 0, "{long:?}");
    assert_eq!((longer.tokens, longer.passage_dropped), (long.tokens, long.passage_dropped + 1));
    let (_, wordy) = model.score_counted(&"query ".repeat(1000), "text", None).expect("scores");
    assert!(wordy.query_dropped > 0 && wordy.passage_dropped == 0, "{wordy:?}");
    let three = NonZeroUsize::new(3);
    let (cut, read) = model.score_counted(query, "sleep sleep sleep better", three).expect("scores");
    assert_eq!(read.passage_dropped, 1);
    assert_eq!(cut, model.score(query, "sleep sleep sleep").expect("scores"), "what is cut off has no say");

    let pair = |passage| Pair { query, passage, passage_tokens: None };
    let text_1000 = "text ".repeat(1000);
    let cut = Pair { passage_tokens: three, ..pair("sleep sleep sleep better") };
    let pairs = [pair(text), pair(" "), pair(&text_1000), cut];
    let batch = model.score_batch(&pairs);
    assert!(matches!(batch[1], Err(ModelError::EmptyText)), "a blank text spoils no other");
    let counts: Vec<_> = batch.iter().flatten().map(|(_, read)| *read).collect();
    let alone = model.score_counted(query, text, None).expect("scores").1;
    assert_eq!(counts, [alone, long, read], "counts are those of the pairs alone, without padding");
    assert!(model.score_batch(&[]).is_empty());
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
