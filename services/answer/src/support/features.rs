//! A claim and its evidence as numbers.
//!
//! Every feature is finite whatever the texts are. Shares are within 0 to 1, counts enter as `ln(1 + count)`, logits
//! are clamped to ±12 and divided by 10. Lengths are left out on purpose: in judged data they tell which set a pair is
//! from, not whether it is supported.

use std::collections::BTreeSet;

use super::align::{Alignment, Piece, Scores};
use super::opposites::opposites;
use crate::facts::{is_hedge, knows, names, negated, unbacked_claims};
use crate::quantities::quantities;
use crate::text::{Kind, Token, containment};

/// Names of the numbers that [`features`] gives, in their order.
pub const FEATURES: [&str; 31] = [
    "containment",
    "containment_fuzzy",
    "words_known",
    "bigrams",
    "word_bigrams",
    "lcs",
    "copied_run",
    "unknown_words",
    "unknown_fuzzy",
    "near_containment",
    "near_order",
    "near_bigrams",
    "near_covered",
    "numbers_unknown",
    "names_unknown",
    "negation_mismatch",
    "negation_unknown",
    "hedge_lost",
    "hedge_added",
    "claims_unbacked",
    "antonym",
    "first_person",
    "second_person",
    "chit_chat",
    "question",
    "logit_whole",
    "logit_forward",
    "logit_backward",
    "cosine",
    "cosine_near",
    "cosine_rest",
];

/// Those of them that speak against support; the others speak for it. A weight of the other sign would be an accident
/// of the data it was learnt from, and is not learnt.
pub const AGAINST: [&str; 14] = [
    "unknown_words",
    "unknown_fuzzy",
    "numbers_unknown",
    "names_unknown",
    "negation_mismatch",
    "negation_unknown",
    "hedge_lost",
    "hedge_added",
    "claims_unbacked",
    "antonym",
    "first_person",
    "second_person",
    "chit_chat",
    "question",
];

const FIRST_PERSON: &[&str] = &["i", "i'm", "im", "i've", "i'd", "i'll", "my", "mine", "me", "myself"];
const SECOND_PERSON: &[&str] = &["you", "your", "you're", "yours", "you'd", "you've", "you'll"];
const CHIT_CHAT: &[&str] = &[
    "yes",
    "yeah",
    "yep",
    "oh",
    "wow",
    "ok",
    "okay",
    "sure",
    "know",
    "think",
    "love",
    "like",
    "sorry",
    "haha",
    "lol",
    "cool",
    "interesting",
    "guess",
    "hope",
    "glad",
    "thanks",
    "hi",
    "hello",
    "well",
    "really",
    "nice",
    "awesome",
    "favorite",
    "agree",
    "believe",
    "wonder",
    "remember",
    "probably",
    "pretty",
    "actually",
    "too",
];

/// The numbers of an alignment; see [`FEATURES`]. Scores that are not finite count as 0.
pub fn features(a: &Alignment, scores: &Scores) -> [f32; FEATURES.len()] {
    let claim = &a.claim;
    let evidence = Whole::new(&a.sentences);
    let near = Near::new(a);
    let words = word_texts(&claim.tokens);
    let unknown: Vec<&String> = claim.set.difference(&evidence.set).collect();
    let fuzzy = unknown.iter().filter(|stem| evidence.knows_fuzzily(stem)).count();
    let contained = containment(&claim.set, &evidence.set);
    let have = quantities(&evidence.tokens);
    let wanted = quantities(&claim.tokens);
    let missing =
        wanted.iter().filter(|want| want.is_required() && !have.iter().any(|h| h.allows(want))).count();
    let unnamed = names(&claim.tokens).iter().filter(|name| !knows(&evidence.tokens, name)).count();
    let (denied, near_denied) = (negated(&claim.tokens), negated(&near.tokens));
    let all_denied = negated(&evidence.tokens);
    let strange = denied.iter().filter(|scope| {
        scope.first().is_some_and(|first| !all_denied.iter().any(|other| other.contains(first)))
    });
    let (hedged, near_hedged) = (claim.tokens.iter().any(hedge), near.tokens.iter().any(hedge));
    let share_of = |list: &[&str]| {
        let new = words.iter().filter(|w| list.contains(&w.as_str()) && !evidence.words.contains(*w));
        share(new.count(), words.len())
    };
    let finite = |x: f32| if x.is_finite() { x } else { 0.0 };
    let logit = |x: f32| finite(x).clamp(-12.0, 12.0) / 10.0;
    let flag = |on: bool| f32::from(u8::from(on));
    let values = [
        contained,
        share(claim.set.len() - unknown.len() + fuzzy, claim.set.len()),
        share(words.iter().filter(|w| evidence.words.contains(*w)).count(), words.len()),
        shared_runs(&claim.stems, &evidence.stems),
        shared_runs(&words, &evidence.in_order),
        share(lcs(&words, &evidence.in_order), words.len()),
        share(longest_run(&words, &evidence.in_order), words.len()),
        count(unknown.len()),
        count(unknown.len() - fuzzy),
        near.containment,
        near.order,
        near.bigrams,
        near.covered,
        count(missing),
        count(unnamed),
        flag(denied.is_empty() != near_denied.is_empty()),
        count(strange.count()),
        flag(near_hedged && !hedged),
        flag(hedged && !near_hedged),
        count(unbacked_claims(&claim.tokens, &evidence.tokens).len()),
        count(opposites(claim, &evidence.set)),
        share_of(FIRST_PERSON),
        share_of(SECOND_PERSON),
        share_of(CHIT_CHAT),
        flag(claim.text.contains('?')),
        logit(scores.whole),
        logit(scores.forward),
        logit(scores.backward),
        scores.cosine,
        scores.cosine_near,
        scores.cosine_rest,
    ];
    values.map(finite)
}

/// All sentences of the evidence as one.
struct Whole {
    tokens: Vec<Token>,
    stems: Vec<String>,
    set: BTreeSet<String>,
    /// Words in lower case, in order.
    in_order: Vec<String>,
    words: BTreeSet<String>,
}

impl Whole {
    fn new(sentences: &[Piece]) -> Self {
        let tokens: Vec<Token> = sentences.iter().flat_map(|s| s.tokens.iter().cloned()).collect();
        let stems: Vec<String> = sentences.iter().flat_map(|s| s.stems.iter().cloned()).collect();
        let in_order = word_texts(&tokens);
        Self {
            set: stems.iter().cloned().collect(),
            words: in_order.iter().cloned().collect(),
            tokens,
            stems,
            in_order,
        }
    }

    /// Whether a word begins with the same five letters as this one, or has a stem of four that begins it.
    fn knows_fuzzily(&self, stem: &str) -> bool {
        let head: String = stem.chars().take(5).collect();
        head.chars().count() >= 4
            && self.set.range(head.clone()..).next().is_some_and(|s| s.starts_with(&head))
    }
}

/// The sentences nearest to each part of the claim.
struct Near {
    /// Tokens of the best sentence of each part.
    tokens: Vec<Token>,
    /// Mean over the parts of the share of content words in the best sentence.
    containment: f32,
    order: f32,
    bigrams: f32,
    /// Share of the content words of the best sentences that the claim has.
    covered: f32,
}

impl Near {
    fn new(a: &Alignment) -> Self {
        let mut best: Vec<usize> = a.nearest.iter().filter_map(|places| places.first().copied()).collect();
        let pairs: Vec<(&Piece, &Piece)> =
            a.parts.iter().zip(best.iter().map(|at| &a.sentences[*at])).collect();
        let n = pairs.len().max(1) as f32;
        let shares: Vec<f32> = pairs.iter().map(|(part, near)| containment(&part.set, &near.set)).collect();
        let order = pairs.iter().map(|(part, near)| {
            let known: Vec<String> = part.stems.iter().filter(|s| near.set.contains(*s)).cloned().collect();
            if known.is_empty() { 0.0 } else { lcs(&known, &near.stems) as f32 / known.len() as f32 }
        });
        let order = order.sum::<f32>() / n;
        let bigrams = pairs.iter().map(|(part, near)| shared_runs(&part.stems, &near.stems)).sum::<f32>() / n;
        let containment_mean = shares.iter().sum::<f32>() / n;
        best.sort_unstable();
        best.dedup();
        let tokens = best.iter().flat_map(|at| a.sentences[*at].tokens.iter().cloned()).collect();
        let set: BTreeSet<String> = best.iter().flat_map(|at| a.sentences[*at].set.iter().cloned()).collect();
        Self {
            tokens,
            containment: containment_mean,
            order,
            bigrams,
            covered: containment(&set, &a.claim.set),
        }
    }
}

fn hedge(token: &Token) -> bool {
    token.kind == Kind::Word && is_hedge(&token.lower())
}

fn count(n: usize) -> f32 {
    (n as f32).ln_1p()
}

/// 0 of nothing.
fn share(part: usize, whole: usize) -> f32 {
    if whole == 0 { 0.0 } else { part as f32 / whole as f32 }
}

/// Words, numbers and codes in lower case.
fn word_texts(tokens: &[Token]) -> Vec<String> {
    let read = tokens.iter().filter(|t| matches!(t.kind, Kind::Word | Kind::Number | Kind::Code | Kind::Tag));
    read.map(Token::lower).take(MAX_WORDS).collect()
}

/// Words of a text that are compared in order; bounds the work, which grows with the product of both lengths.
const MAX_WORDS: usize = 2_000;

/// Share of the pairs of neighbouring words of `part` that are in `whole`; of a single word, whether it is there.
fn shared_runs(part: &[String], whole: &[String]) -> f32 {
    let n = part.len().min(2);
    if n == 0 {
        return 0.0;
    }
    let have: BTreeSet<&[String]> = whole.windows(n).collect();
    share(part.windows(n).filter(|run| have.contains(run)).count(), part.windows(n).len())
}

/// Length of the longest common subsequence of the first [`MAX_WORDS`] of each.
fn lcs(a: &[String], b: &[String]) -> usize {
    let (a, b) = (&a[..a.len().min(MAX_WORDS)], &b[..b.len().min(MAX_WORDS)]);
    let mut row = vec![0_usize; b.len() + 1];
    for word in a {
        let mut diagonal = 0;
        for (at, other) in b.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = if word == other { diagonal + 1 } else { above.max(row[at]) };
            diagonal = above;
        }
    }
    row[b.len()]
}

/// Length of the longest run of words that both have.
fn longest_run(a: &[String], b: &[String]) -> usize {
    let mut row = vec![0_usize; b.len() + 1];
    let mut longest = 0;
    for word in a {
        let mut diagonal = 0;
        for (at, other) in b.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = if word == other { diagonal + 1 } else { 0 };
            longest = longest.max(row[at + 1]);
            diagonal = above;
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str, claim: &str, evidence: &[&str], scores: &Scores) -> f32 {
        let at = FEATURES.iter().position(|n| *n == name).expect("a known feature");
        features(&Alignment::new(claim, evidence), scores)[at]
    }

    #[test]
    fn values_are_those_counted_by_hand() {
        let coffee = "Coffee may lower the risk of gout by 20%, says Nina Pham";
        let ln = |n: f32| n.ln_1p();
        for (name, claim, expected) in [
            // Content words: coffe lower risk strok; all but the last are there.
            ("containment", "Coffee may lower the risk of stroke", 0.75),
            ("unknown_words", "Coffee may lower the risk of stroke", ln(1.0)),
            // Coffee may lower the risk of: six of seven words, five of six neighbours.
            ("words_known", "Coffee may lower the risk of stroke", 6.0 / 7.0),
            ("word_bigrams", "Coffee may lower the risk of stroke", 5.0 / 6.0),
            ("copied_run", "Coffee may lower the risk of stroke", 6.0 / 7.0),
            // coffe-lower, lower-risk of three neighbouring content words.
            ("bigrams", "Coffee may lower the risk of stroke", 2.0 / 3.0),
            // risk, lower, coffe: one of three in order.
            ("near_order", "risk lowers coffee", 1.0 / 3.0),
            ("lcs", "risk of coffee", 2.0 / 3.0),
            // `lowering` has the stem of `lower`, `coffeehouse` begins like `coffe`.
            ("containment_fuzzy", "coffeehouse lowering tea", 2.0 / 3.0),
            ("unknown_fuzzy", "coffeehouse lowering tea", ln(1.0)),
            // coffe lower risk gout nina pham: two of six.
            ("near_covered", "coffee and gout", 2.0 / 6.0),
            ("numbers_unknown", "by 20% or 30%", ln(1.0)),
            ("names_unknown", "It helps Nina Pham and Amber Vinson", ln(2.0)),
            ("negation_mismatch", "Coffee does not lower risk", 1.0),
            ("negation_unknown", "Coffee does not lower risk", ln(1.0)),
            ("hedge_lost", "Coffee lowers the risk", 1.0),
            ("hedge_added", "Coffee may lower the risk", 0.0),
            ("claims_unbacked", "Coffee prevents gout", ln(1.0)),
            ("antonym", "Coffee may raise the risk", ln(1.0)),
            // I, my of five words.
            ("first_person", "I like coffee, my friend", 2.0 / 5.0),
            ("chit_chat", "I like coffee, my friend", 1.0 / 5.0),
            ("second_person", "you like coffee", 1.0 / 3.0),
            ("question", "is it coffee?", 1.0),
        ] {
            let found = value(name, claim, &[coffee], &Scores::default());
            assert!(
                (found - expected).abs() < 1e-6,
                "{name} of {claim:?}: expected {expected}, found {found}"
            );
        }
    }

    #[test]
    fn scores_are_scaled_and_what_is_not_finite_is_zero() {
        let scores =
            Scores { whole: 5.0, forward: 99.0, backward: f32::NAN, cosine: 0.5, ..Scores::default() };
        for (name, expected) in
            [("logit_whole", 0.5), ("logit_forward", 1.2), ("logit_backward", 0.0), ("cosine", 0.5)]
        {
            let found = value(name, "coffee", &["coffee"], &scores);
            assert!((found - expected).abs() < 1e-6, "{name}: {found}");
        }
    }

    #[test]
    fn odd_texts_give_finite_numbers() {
        let long = "very long words here. ".repeat(3_000);
        for odd in ["", " ", "\u{200b}", "?", "\u{1f642}", "%%%", long.as_str()] {
            for (claim, evidence) in [(odd, "coffee lowers risk"), ("coffee lowers risk", odd)] {
                let found = features(&Alignment::new(claim, &[evidence]), &Scores::default());
                assert!(found.iter().all(|x| x.is_finite()), "{odd:?}");
            }
        }
        let none = features(&Alignment::new("coffee", &[]), &Scores::default());
        assert!(none.iter().all(|x| x.is_finite()));
    }
}
