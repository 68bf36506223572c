//! Which passages of the evidence a sentence is held against, and which questions that puts to the models.
//!
//! Evidence of a post is one sentence and is taken whole. Longer evidence is cut into sentences: each part of the
//! claim is held against the few that share most of its words, the claim as a whole against a window around the best.

use std::collections::BTreeSet;

use crate::sentences::split_up_to;
use crate::text::{Token, content_stems, tokens};

/// Most sentences taken from all texts of the evidence.
const MAX_SENTENCES: usize = 200;
/// Most parts of a claim that are looked at one by one.
const MAX_PARTS: usize = 4;
/// Sentences of the evidence a part of the claim is held against.
const NEAREST: usize = 2;
/// Most bytes of the window; a longer single sentence is taken whole.
const WINDOW_BYTES: usize = 600;

/// A text and how it is compared.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub text: String,
    pub tokens: Vec<Token>,
    /// Content words in order.
    pub stems: Vec<String>,
    /// The same as a set.
    pub set: BTreeSet<String>,
}

impl Piece {
    pub fn new(text: &str) -> Self {
        let tokens = tokens(text);
        let stems = content_stems(&tokens);
        let set = stems.iter().cloned().collect();
        Self { text: text.to_owned(), tokens, stems, set }
    }
}

/// A claim laid beside its evidence.
#[derive(Clone, Debug)]
pub struct Alignment {
    pub(crate) claim: Piece,
    /// Sentences of the claim; the claim itself when it has one or none.
    pub(super) parts: Vec<Piece>,
    /// Sentences of all texts of the evidence, in order.
    pub(super) sentences: Vec<Piece>,
    /// For each part the places of the sentences nearest to it in words, best first; none when there is no evidence.
    pub(super) nearest: Vec<Vec<usize>>,
    /// Place of the sentence nearest to the whole claim.
    pub(super) best: Option<usize>,
    /// Sentences around the best, as one text.
    pub(super) window: String,
    /// Content words of the claim that the evidence lacks.
    rest: String,
    /// Content words of the nearest sentences that the claim lacks.
    other_rest: String,
}

/// What the models say of a claim and its evidence; see [`Alignment::scores`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scores {
    /// Cross-encoder logit of the claim as query and the window as passage.
    pub whole: f32,
    /// Least over the parts of the greatest logit of the part as query and a near sentence as passage.
    pub forward: f32,
    /// The same with the sentence as query and the part as passage; 0 when it was not asked for.
    pub backward: f32,
    /// Cosine of the claim and the window.
    pub cosine: f32,
    /// Least over the parts of the greatest cosine of the part and a near sentence.
    pub cosine_near: f32,
    /// Cosine of the words that only the claim has and those that only the nearest sentences have: high for a change
    /// of words, low for something new. 1 when the claim has none of its own, 0 when only the evidence has none.
    pub cosine_rest: f32,
}

impl Scores {
    /// Whether every score is a finite number.
    pub fn are_finite(&self) -> bool {
        let all = [self.whole, self.forward, self.backward, self.cosine, self.cosine_near, self.cosine_rest];
        all.iter().all(|score| score.is_finite())
    }
}

/// Share of the characters of `part`'s words that `whole` has; 0 when `part` is empty. Long words weigh more than
/// short ones because they are rarer.
pub(super) fn weighted_containment(part: &BTreeSet<String>, whole: &BTreeSet<String>) -> f32 {
    let weight = |stem: &String| stem.chars().count() as f32;
    let all: f32 = part.iter().map(weight).sum();
    let shared: f32 = part.intersection(whole).map(weight).sum();
    if all == 0.0 { 0.0 } else { shared / all }
}

impl Alignment {
    /// Lays `claim` beside `evidence`. Blank evidence is left out.
    pub fn new(claim: &str, evidence: &[&str]) -> Self {
        let parts: Vec<Piece> =
            split_up_to(claim, MAX_PARTS).into_iter().map(|range| Piece::new(&claim[range])).collect();
        let claim = Piece::new(claim);
        let parts = if parts.len() < 2 { vec![claim.clone()] } else { parts };
        let mut sentences = Vec::new();
        for text in evidence {
            let ranges = split_up_to(text, MAX_SENTENCES - sentences.len());
            sentences.extend(ranges.into_iter().map(|range| Piece::new(&text[range])));
        }
        let nearest: Vec<Vec<usize>> = parts.iter().map(|part| nearest(part, &sentences)).collect();
        let best = self::nearest(&claim, &sentences).first().copied();
        let window = best.map_or_else(String::new, |best| window(best, &claim, &sentences));
        let mut near: Vec<usize> = nearest.iter().filter_map(|places| places.first().copied()).collect();
        near.sort_unstable();
        near.dedup();
        let known = |stem: &String| sentences.iter().any(|s| s.set.contains(stem));
        let rest = words_except(&claim, &known);
        let other_rest: Vec<String> =
            near.iter().map(|at| words_except(&sentences[*at], &|stem| claim.set.contains(stem))).collect();
        let other_rest = other_rest.join(" ").trim().to_owned();
        Self { claim, parts, sentences, nearest, best, window, rest, other_rest }
    }

    /// Pairs (query, passage) whose cross-encoder logit [`Alignment::scores`] asks for, each once. Without `backward`,
    /// here and there, evidence is not asked as a query.
    pub fn pairs(&self, backward: bool) -> Vec<(&str, &str)> {
        let mut asked = Vec::new();
        self.scores_of(
            backward,
            &mut |query, passage| {
                if !asked.contains(&(query, passage)) {
                    asked.push((query, passage));
                }
                0.0
            },
            &mut |_, _| 0.0,
        );
        asked
    }

    /// Texts whose embeddings [`Alignment::scores`] compares, each once.
    pub fn texts(&self) -> Vec<&str> {
        let mut asked = Vec::new();
        self.scores_of(false, &mut |_, _| 0.0, &mut |a, b| {
            for text in [a, b] {
                if !asked.contains(&text) {
                    asked.push(text);
                }
            }
            0.0
        });
        asked
    }

    /// The scores, from the logit of a (query, passage) pair and the cosine of two texts. All 0 without evidence.
    pub fn scores(
        &self,
        backward: bool,
        mut logit: impl FnMut(&str, &str) -> f32,
        mut cosine: impl FnMut(&str, &str) -> f32,
    ) -> Scores {
        self.scores_of(backward, &mut |query, passage| logit(query, passage), &mut |a, b| cosine(a, b))
    }

    fn scores_of<'a>(
        &'a self,
        backward: bool,
        logit: &mut dyn FnMut(&'a str, &'a str) -> f32,
        cosine: &mut dyn FnMut(&'a str, &'a str) -> f32,
    ) -> Scores {
        if self.best.is_none() || self.claim.tokens.is_empty() {
            return Scores::default();
        }
        let claim = self.claim.text.as_str();
        let near: Vec<(&str, Vec<&str>)> = self
            .parts
            .iter()
            .zip(&self.nearest)
            .map(|(part, places)| {
                (part.text.as_str(), places.iter().map(|at| self.sentences[*at].text.as_str()).collect())
            })
            .collect();
        let least = |score: &mut dyn FnMut(&'a str, &'a str) -> f32| {
            let greatest = near.iter().map(|(part, texts)| {
                texts.iter().map(|text| score(part, text)).fold(f32::NEG_INFINITY, f32::max)
            });
            greatest.fold(f32::INFINITY, f32::min)
        };
        Scores {
            whole: logit(claim, &self.window),
            forward: least(&mut |part, sentence| logit(part, sentence)),
            backward: if backward { least(&mut |part, sentence| logit(sentence, part)) } else { 0.0 },
            cosine: cosine(claim, &self.window),
            cosine_near: least(&mut |part, sentence| cosine(part, sentence)),
            cosine_rest: match (self.rest.is_empty(), self.other_rest.is_empty()) {
                (true, _) => 1.0,
                (false, true) => 0.0,
                (false, false) => cosine(&self.rest, &self.other_rest),
            },
        }
    }
}

/// The content words of a text whose stems are not `known`, in order.
fn words_except(piece: &Piece, known: &dyn Fn(&String) -> bool) -> String {
    let own = piece.tokens.iter().filter(|token| {
        let stems = content_stems(std::slice::from_ref(*token));
        !stems.is_empty() && !stems.iter().all(known)
    });
    own.map(|token| token.text.as_str()).collect::<Vec<_>>().join(" ")
}

fn nearest(part: &Piece, sentences: &[Piece]) -> Vec<usize> {
    let mut order: Vec<(usize, f32)> =
        sentences.iter().map(|s| weighted_containment(&part.set, &s.set)).enumerate().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    order.into_iter().take(NEAREST).map(|(at, _)| at).collect()
}

/// The sentences around `best`, grown towards the side that shares more with the claim while they fit.
fn window(best: usize, claim: &Piece, sentences: &[Piece]) -> String {
    let (mut from, mut to) = (best, best + 1);
    let mut bytes = sentences[best].text.len();
    loop {
        let shares = |at: usize| weighted_containment(&claim.set, &sentences[at].set);
        let fits = |at: usize| bytes + 1 + sentences[at].text.len() <= WINDOW_BYTES;
        let before = from.checked_sub(1).filter(|at| fits(*at));
        let after = Some(to).filter(|at| *at < sentences.len() && fits(*at));
        let at = match (before, after) {
            (Some(before), Some(after)) if shares(before) > shares(after) => before,
            (_, Some(after)) => after,
            (Some(before), None) => before,
            (None, None) => break,
        };
        bytes += 1 + sentences[at].text.len();
        if at < from { from = at } else { to = at + 1 }
    }
    sentences[from..to].iter().map(|s| s.text.as_str()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sentence_asks_for_two_pairs() {
        let a = Alignment::new("Coffee lowers risk.", &["Coffee may lower the risk of gout"]);
        let (claim, evidence) = ("Coffee lowers risk.", "Coffee may lower the risk of gout");
        assert_eq!(a.pairs(true), [(claim, evidence), (evidence, claim)]);
        assert_eq!(a.pairs(false), [(claim, evidence)]);
        assert_eq!(a.texts(), [claim, evidence], "every word of the claim is known, so there is no rest");
        let a = Alignment::new("Tea lowers risk.", &["Coffee may lower the risk of gout"]);
        assert_eq!(a.texts()[2..], ["Tea", "Coffee gout"]);
    }

    #[test]
    fn each_part_is_held_against_what_is_nearest() {
        let document =
            "Tea is green. Coffee lowers the risk of gout. Bananas are yellow. Nina drinks coffee daily.";
        let a = Alignment::new("Coffee lowers gout risk. Nina drinks it.", &[document]);
        assert_eq!(a.parts.len(), 2);
        assert_eq!((a.nearest[0][0], a.nearest[1][0]), (1, 3));
        assert_eq!(a.window, document, "it fits whole");
        // The least of the two parts counts, and of each part the better sentence.
        let scores = a.scores(
            true,
            |query, passage| if query.contains("gout") && passage.contains("gout") { 9.0 } else { -3.0 },
            |_, _| 0.5,
        );
        assert!((scores.forward - -3.0).abs() < 1e-6 && (scores.whole - 9.0).abs() < 1e-6, "{scores:?}");
    }

    #[test]
    fn a_window_is_bounded_and_holds_the_best() {
        let filler = "Some filler sentence that says nothing of it at all. ".repeat(40);
        let a = Alignment::new("Coffee lowers gout.", &[&format!("{filler}Coffee lowers gout. {filler}")]);
        assert!(
            a.window.contains("Coffee lowers gout.") && a.window.len() <= WINDOW_BYTES,
            "{}",
            a.window.len()
        );
    }

    #[test]
    fn nothing_is_asked_of_nothing() {
        for (claim, evidence) in [("", "coffee"), ("coffee", ""), ("?!", "coffee"), (" ", " ")] {
            let a = Alignment::new(claim, &[evidence]);
            assert!(a.pairs(true).is_empty() && a.texts().is_empty(), "{claim:?} {evidence:?}");
        }
        assert!(Alignment::new("coffee", &[]).pairs(true).is_empty());
    }
}
