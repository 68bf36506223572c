//! Pseudo-relevance feedback: the query widened by words of the posts it found first.

use std::collections::BTreeMap;

use crate::analysis::{Purpose, tokens};
use crate::error::guard;
use crate::language::Family;
use crate::plan::Analysed;
use crate::query::{MAX_QUERY_BYTES, cut};
use crate::{BagQuery, LexicalError, LexicalSearcher, TermKind};

/// Longest word that is added, in characters; longer ones are links and the like.
const LONGEST_WORD: usize = 20;
/// Share of all posts with a word from which on it is too common to be added.
const COMMON: f64 = 0.1;

/// A word out of posts found before, stemmed.
#[derive(Clone, Debug, PartialEq)]
pub struct Expansion {
    /// The stem.
    pub text: String,
    /// Weight beside a word of the person, which has 1; more than 0.
    pub weight: f32,
    pub(crate) family: Family,
}

/// A post that the query found.
#[derive(Clone, Copy, Debug)]
pub struct FeedbackText<'a> {
    /// Its text.
    pub text: &'a str,
    /// Its language, guessed when absent, as at indexing.
    pub lang: Option<&'a str>,
    /// Its score; only the proportions count. Not more than 0 leaves the post out.
    pub score: f32,
}

/// How the query is widened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FeedbackOptions {
    /// Posts that are looked at, best first.
    pub posts: usize,
    /// Words that are added, at most [`crate::MAX_QUERY_TERMS`].
    pub terms: usize,
    /// Share of the weight that stays with the person's own words, above 0 and at most 1.
    pub original: f32,
}

impl Default for FeedbackOptions {
    /// Posts and words of Anserini; of the weight, what lost least: see [`LexicalSearcher::expand`].
    fn default() -> Self {
        Self { posts: 10, terms: 10, original: 0.9 }
    }
}

impl LexicalSearcher {
    /// `query` with the words that say most about `feedback`, by RM3: a word `w` weighs
    /// `sum over posts of score(p) / sum of scores * tf(w, p) / length(p)`, the best are scaled to add up to 1, and
    /// mixed with the person's own words by [`FeedbackOptions::original`].
    ///
    /// Stop words, words that stand in more than a tenth of the posts, and words of fewer than two characters are
    /// never added. Without words or feedback the query comes back as it was.
    ///
    /// Off by default, because it hurts where posts are short. nDCG@10 without, with the default, and with Anserini's
    /// `original` of .5: demo posts by four of their words .975 .972 .958, reddit posts by their titles .409 .398 .367,
    /// SciFact test .680 .685 .647, Vaswani .441 .456 .453, Cranfield .481 .501 .499; with a second search and the
    /// analysis of ten texts it takes four times as long on short posts. The .9 was chosen among five on these same sets,
    /// so its gains are at their best here. Measured by `benches/lexical_quality.rs`.
    ///
    /// Source: Lavrenko and Croft, doi:10.1145/383952.383972; the mixture is RM3 of Abdul-Jaleel et al., TREC 2004.
    pub fn expand(
        &self,
        query: &BagQuery,
        feedback: &[FeedbackText<'_>],
        options: &FeedbackOptions,
    ) -> Result<BagQuery, LexicalError> {
        let snapshot = &*self.snapshot;
        let words = Analysed::new(query).words.len();
        let original = options.original.clamp(0.01, 1.0);
        let posts: Vec<_> = feedback.iter().filter(|post| post.score > 0.0).take(options.posts).collect();
        let total: f32 = posts.iter().map(|post| post.score).sum();
        if words == 0 || !total.is_finite() || total <= 0.0 || original >= 1.0 {
            return Ok(query.clone());
        }
        guard(&snapshot.dir, || {
            let mut model: BTreeMap<(usize, String), f32> = BTreeMap::new();
            for post in posts {
                let text = cut(post.text, MAX_QUERY_BYTES);
                let family = Family::of(snapshot.config.analyzer, post.lang, text);
                let kept = tokens(text, family, Purpose::Query)
                    .into_iter()
                    .filter(|t| t.word && !t.stop && (2..=LONGEST_WORD).contains(&t.text.chars().count()));
                let kept: Vec<String> = kept.map(|token| token.text).collect();
                let each = post.score / total / kept.len().max(1) as f32;
                for word in kept {
                    *model.entry((family as usize, word)).or_default() += each;
                }
            }
            let mut ranked: Vec<((usize, String), f32)> = model.into_iter().collect();
            // Ties by family and word: the map is ordered and the sort stable.
            ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
            let mut best = Vec::new();
            for ((family, word), weight) in ranked {
                if best.len() >= options.terms.min(crate::MAX_QUERY_TERMS) {
                    break;
                }
                let mut forms = [None, None, None];
                forms[family] = Some(word.clone());
                let found = snapshot.term(TermKind::Word, String::new(), &forms)?;
                if found.is_some_and(|term| (term.df as f64) < COMMON * snapshot.posts as f64) {
                    best.push((family, word, weight));
                }
            }
            let sum: f32 = best.iter().map(|(_, _, weight)| weight).sum();
            let scale = (1.0 - original) / original * words as f32 / sum.max(f32::MIN_POSITIVE);
            let expansions = best.into_iter().map(|(family, text, weight)| Expansion {
                text,
                weight: weight * scale,
                family: Family::ALL[family],
            });
            Ok(BagQuery { expansions: expansions.collect(), ..query.clone() })
        })
    }
}
