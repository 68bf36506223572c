//! Does the evidence say what the sentence says?
//!
//! A pure function of the sentence, the evidence it cites and, when they were asked, what the models say of the two.
//! Hard rules first: numbers, names, links, strong claim words and negations of the sentence must be in the evidence.
//! A classifier learnt from judged pairs ([`crate::support`]) gives the probability that the evidence supports the
//! sentence, and the verdict follows from it unless a hard rule is broken, a hedge was lost or the words stand in
//! another order. What is an unbroken part of the evidence needs no classifier.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::config::AnswerConfig;
use crate::facts::{is_hedge, knows, names, negated, unbacked_claims};
use crate::quantities::quantities;
use crate::sentences::is_question;
use crate::support::{Alignment, Scores, SupportModel, features};
use crate::text::{Kind, Token, containment, content_stems, tokens};
use crate::types::Verdict;

/// Where verdicts change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Least probability of a supported sentence.
    pub supported_from: f32,
    /// Least probability of a partly supported sentence.
    pub partial_from: f32,
    /// Least cross-encoder logit of the sentence as query and its evidence as passage.
    pub min_logit: f32,
}

impl From<&AnswerConfig> for Limits {
    fn from(config: &AnswerConfig) -> Self {
        Self {
            supported_from: config.supported_from,
            partial_from: config.partial_from,
            min_logit: config.min_support_logit,
        }
    }
}

/// A rule that spoke against a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A number, its sign or its unit is not in the evidence.
    Number,
    /// A name, acronym, tag or mention is not in the evidence.
    Name,
    /// A link is not in the evidence.
    Link,
    /// A strong claim word (`prevents`, `all`, `study`) has no counterpart in the evidence.
    Claim,
    /// The sentence denies what the evidence affirms, or the reverse, or denies something else.
    Negation,
    /// The sentence asks instead of saying.
    Question,
    /// The cross-encoder sees too little in common.
    Relevance,
    /// `may`, `could` or a question in the evidence became a plain statement.
    Hedge,
    /// Too few of its content words are in the evidence.
    Words,
    /// Its content words stand in another order than in the evidence.
    Order,
}

impl Reason {
    /// Whether one such reason alone makes a sentence unsupported.
    pub fn is_hard(self) -> bool {
        !matches!(self, Self::Hedge | Self::Words | Self::Order)
    }

    /// The name on the wire and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Name => "name",
            Self::Link => "link",
            Self::Claim => "claim",
            Self::Negation => "negation",
            Self::Question => "question",
            Self::Relevance => "relevance",
            Self::Hedge => "hedge",
            Self::Words => "words",
            Self::Order => "order",
        }
    }
}

/// Outcome of [`check`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Support {
    /// The verdict.
    pub verdict: Verdict,
    /// Within 0 to 1.
    pub probability: f32,
    /// What spoke against it, each once.
    pub reasons: Vec<Reason>,
}

/// What a broken hard rule leaves of the probability. The rule decides; this keeps the number from saying otherwise.
const VETOED: f32 = 0.04;
/// What a lost hedge or another order of words leaves of the probability: such a sentence is partly supported at best.
/// Judged pairs hold too few of them to learn it.
const DOUBTED: f32 = 0.5;
/// With less of its content words in the order of the evidence, a sentence may have turned round who does what.
const LEAST_ORDER: f32 = 0.5;

/// Checks `sentence` against the texts it cites.
///
/// Facts may come from any of the texts; negations, hedges and word order are compared with the one that shares most
/// content words. A sentence whose words are an unbroken part of a text has probability 1 unless a hard rule or a lost
/// hedge speaks against it. Nothing else can be supported without `scores`.
pub fn check(sentence: &str, evidence: &[&str], scores: Option<&Scores>, limits: &Limits) -> Support {
    check_aligned(&Alignment::new(sentence, evidence), evidence, scores, limits)
}

/// [`check`] of a sentence that was laid beside its `evidence` already.
pub(crate) fn check_aligned(
    alignment: &Alignment,
    evidence: &[&str],
    scores: Option<&Scores>,
    limits: &Limits,
) -> Support {
    let scores = scores.filter(|scores| scores.are_finite());
    let (sentence, said) = (alignment.claim.text.as_str(), &alignment.claim.tokens);
    let texts: Vec<Vec<Token>> = evidence.iter().map(|text| tokens(text)).collect();
    let all: Vec<Token> = texts.iter().flatten().cloned().collect();
    let (words, set) = (&alignment.claim.stems, &alignment.claim.set);
    let shares = |text: &[Token]| containment(set, &content_stems(text).into_iter().collect());
    let best = (0..texts.len())
        .max_by(|a, b| shares(&texts[*a]).total_cmp(&shares(&texts[*b])).then(b.cmp(a)))
        .map(|at| (texts[at].as_slice(), evidence[at]));
    let Some((best, best_text)) = best else {
        return Support { verdict: Verdict::Unsupported, probability: 0.0, reasons: vec![Reason::Words] };
    };

    let mut reasons: BTreeSet<Reason> = hard_rules(said, &all, best).into_iter().collect();
    if is_question(sentence) && !is_question(best_text) {
        reasons.insert(Reason::Question);
    }
    if scores.is_some_and(|scores| scores.whole < limits.min_logit) {
        reasons.insert(Reason::Relevance);
    }
    let hedge_lost =
        (has_hedge(best) || best_text.contains('?')) && !has_hedge(said) && !sentence.contains('?');
    if hedge_lost {
        reasons.insert(Reason::Hedge);
    }
    // What is denied of whom hangs on the order of the words.
    let order = order(words, &content_stems(best));
    let least_order = if negated(said).is_empty() { LEAST_ORDER } else { 1.0 };
    let is_part = is_part_of(said, best);
    let doubted = hedge_lost || (order < least_order && !is_part);
    let broken = reasons.iter().any(|reason| reason.is_hard());
    let mut probability = if is_part && !broken && !doubted {
        1.0
    } else {
        let model = SupportModel::shipped();
        scores.map_or(0.0, |scores| model.probability(&features(alignment, scores)))
    };
    if broken {
        probability *= VETOED;
    } else if doubted {
        probability *= DOUBTED;
    }
    let verdict = if broken || probability < limits.partial_from {
        Verdict::Unsupported
    } else if doubted || probability < limits.supported_from {
        Verdict::Partial
    } else {
        Verdict::Supported
    };
    if verdict != Verdict::Supported && shares(&all) < 1.0 {
        reasons.insert(Reason::Words);
    }
    if verdict != Verdict::Supported && order < 1.0 {
        reasons.insert(Reason::Order);
    }
    Support { verdict, probability, reasons: reasons.into_iter().collect() }
}

fn hard_rules(said: &[Token], all: &[Token], best: &[Token]) -> Vec<Reason> {
    let mut broken = Vec::new();
    let have = quantities(all);
    if quantities(said).iter().any(|want| want.is_required() && !have.iter().any(|h| h.allows(want))) {
        broken.push(Reason::Number);
    }
    if names(said).iter().any(|name| !knows(all, name)) {
        broken.push(Reason::Name);
    }
    let links = said.iter().filter(|t| t.kind == Kind::Link);
    if links.into_iter().any(|link| !all.iter().any(|t| t.kind == Kind::Link && t.text == link.text)) {
        broken.push(Reason::Link);
    }
    if !unbacked_claims(said, all).is_empty() {
        broken.push(Reason::Claim);
    }
    let (denied, evidence_denied) = (negated(said), negated(best));
    let elsewhere = denied.iter().any(|scope| {
        scope.first().is_some_and(|first| !evidence_denied.iter().any(|other| other.contains(first)))
    });
    if denied.len() != evidence_denied.len() || elsewhere {
        broken.push(Reason::Negation);
    }
    broken
}

fn has_hedge(tokens: &[Token]) -> bool {
    tokens.iter().any(|t| t.kind == Kind::Word && is_hedge(&t.lower()))
}

/// Whether the words of `part` stand in `whole` one after the other.
fn is_part_of(part: &[Token], whole: &[Token]) -> bool {
    let same = |a: &Token, b: &Token| {
        (a.kind, a.lower(), a.symbol, &a.suffix, a.negative)
            == (b.kind, b.lower(), b.symbol, &b.suffix, b.negative)
    };
    !part.is_empty()
        && whole.windows(part.len()).any(|window| window.iter().zip(part).all(|(a, b)| same(a, b)))
}

/// Longest common subsequence of the two lists over the number of `words` that `evidence` has; 0 when it has none.
///
/// Looks at the first thousand content words of each, which bounds the work.
fn order(words: &[String], evidence: &[String]) -> f32 {
    let (words, evidence) = (&words[..words.len().min(1_000)], &evidence[..evidence.len().min(1_000)]);
    let known: Vec<&String> = words.iter().filter(|w| evidence.contains(w)).collect();
    if known.is_empty() {
        return 0.0;
    }
    let mut row = vec![0_usize; evidence.len() + 1];
    for word in &known {
        let mut diagonal = 0;
        for (at, other) in evidence.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = if *word == other { diagonal + 1 } else { above.max(row[at]) };
            diagonal = above;
        }
    }
    row[evidence.len()] as f32 / known.len() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { supported_from: 0.8, partial_from: 0.4, min_logit: 0.0 };

    /// What the models say of a sentence and its evidence that are about one thing.
    fn scores(logit: f32) -> Scores {
        Scores {
            whole: logit,
            forward: logit,
            backward: logit,
            cosine: 0.93,
            cosine_near: 0.93,
            cosine_rest: 0.7,
        }
    }

    fn support(sentence: &str, evidence: &str) -> Support {
        check(sentence, &[evidence], Some(&scores(8.0)), &LIMITS)
    }

    #[test]
    fn faithful_restatements_are_supported() {
        for (sentence, evidence) in [
            ("Daily coffee may lower your skin cancer risk.", "Daily Coffee May Lower Your Skin Cancer Risk"),
            (
                "Low-dose aspirin may prevent colon cancer in women.",
                "Low-dose Aspirin may prevent colon cancer in women",
            ),
            (
                "More than 4,000 people have died from Ebola.",
                "More than 4000 people have died from the Ebola outbreak",
            ),
            (
                "The flu shot is only 23 percent effective this year.",
                "This Year\u{2019}s Flu Shot Is Only 23% Effective",
            ),
            (
                "Nina Pham is now free of the virus, officials say.",
                "Dallas nurse Nina Pham is now free of the virus, officials say",
            ),
        ] {
            let found = support(sentence, evidence);
            assert_eq!(found.verdict, Verdict::Supported, "{sentence:?}: {found:?}");
        }
    }

    #[test]
    fn each_hard_rule_fails_a_sentence() {
        let coffee = "Coffee may lower the risk of heart attack by 20%, says Dr. Nina Pham of the FDA";
        for (sentence, evidence, reason) in [
            ("Coffee may lower the risk of heart attack by 30%.", coffee, Reason::Number),
            ("Coffee may lower the risk of heart attack by 20 points.", coffee, Reason::Number),
            ("Coffee may lower the risk of heart attack by \u{2212}20%.", coffee, Reason::Number),
            ("Coffee may lower the risk of heart attack by 2O%.", coffee, Reason::Number),
            ("Coffee may lower the risk of heart attack by 2\u{200b}1%.", coffee, Reason::Number),
            ("Coffee may lower the risk of heart attack by \u{0662}\u{0661}%.", coffee, Reason::Number),
            ("Coffee may lower the risk of heart attack, says Amber Vinson.", coffee, Reason::Name),
            ("Coffee may lower the risk of heart attack, says the CDC.", coffee, Reason::Name),
            ("Vinson says coffee may lower the risk of heart attack.", coffee, Reason::Name),
            ("Coffee may lower the risk of heart attack #ad", coffee, Reason::Name),
            ("Coffee may lower the risk, see http://evil.example/", coffee, Reason::Link),
            ("Coffee may raise the risk of heart attack by 20%.", coffee, Reason::Claim),
            ("A study says coffee may lower the risk of heart attack.", coffee, Reason::Claim),
            ("Coffee may not lower the risk of heart attack.", coffee, Reason::Negation),
            ("Coffee may never lower the risk of heart attack.", coffee, Reason::Negation),
            ("Coffee fails to lower the risk of heart attack.", coffee, Reason::Negation),
            ("May coffee lower the risk of heart attack?", coffee, Reason::Question),
            ("Vitamin D helps.", "Vitamin D does not help", Reason::Negation),
            ("Vitamin D helps.", "Vitamin D doesn\u{2019}t help", Reason::Negation),
            ("Vitamin D helps.", "Vitamin D does no\u{200b}t help", Reason::Negation),
            ("Tea does not lower risk, coffee does.", "Coffee does not lower risk, tea does", Reason::Order),
            ("Coffee is not safe, tea is.", "Tea is not good, coffee is safe", Reason::Negation),
        ] {
            let found = support(sentence, evidence);
            assert_ne!(found.verdict, Verdict::Supported, "{sentence:?}: {found:?}");
            assert!(found.reasons.contains(&reason), "{sentence:?}: {found:?}");
        }
    }

    #[test]
    fn soft_rules_make_a_sentence_less_than_supported() {
        for (sentence, evidence, reason) in [
            ("Coffee lowers the risk of gout.", "Coffee may lower the risk of gout", Reason::Hedge),
            ("Barefoot running is best.", "Is barefoot running best? Studies cast doubt", Reason::Hedge),
            (
                "Exercise won't stop sitting from killing you.",
                "Exercise won't stop sitting from potentially killing you",
                Reason::Hedge,
            ),
            (
                "The parents of wary parents are pushing doctors to delay vaccines.",
                "Wary parents pressure doctors to delay vaccines",
                Reason::Words,
            ),
            ("Back pain is eased by yoga.", "Yoga eases #BackPain", Reason::Order),
            ("Statins beat aspirin.", "Aspirin beats statins", Reason::Order),
            ("Coffee lowers gout in wealthy retired sailors.", "Coffee lowers gout", Reason::Words),
            ("Drinking tea slowly brings luck.", "Coffee lowers gout", Reason::Words),
        ] {
            let found = support(sentence, evidence);
            assert_ne!(found.verdict, Verdict::Supported, "{sentence:?}: {found:?}");
            assert!(found.reasons.contains(&reason), "{sentence:?}: {found:?}");
        }
    }

    #[test]
    fn the_cross_encoder_can_veto_but_not_absolve() {
        let sentence = "Coffee may lower gout risk.";
        let evidence = "Coffee may lower the risk of gout";
        assert_eq!(check(sentence, &[evidence], Some(&scores(8.0)), &LIMITS).verdict, Verdict::Supported);
        let vetoed = check(sentence, &[evidence], Some(&scores(-0.1)), &LIMITS);
        assert_eq!(
            (vetoed.verdict, vetoed.reasons.contains(&Reason::Relevance)),
            (Verdict::Unsupported, true)
        );
        let wrong = check("Coffee may lower gout risk by 9%.", &[evidence], Some(&scores(99.0)), &LIMITS);
        assert_eq!(wrong.verdict, Verdict::Unsupported);
        assert!(wrong.probability < 0.05, "{wrong:?}");
    }

    #[test]
    fn a_part_of_the_text_is_certain_unless_a_not_was_cut_off() {
        let whole = check("coffee lowers risk", &["They say coffee lowers risk, often"], None, &LIMITS);
        assert_eq!((whole.verdict, whole.probability.to_bits()), (Verdict::Supported, 1.0_f32.to_bits()));
        for evidence in ["It is not true that coffee cures cancer", "It may be that coffee cures cancer"] {
            let cut = check("coffee cures cancer", &[evidence], None, &LIMITS);
            assert_ne!(cut.verdict, Verdict::Supported, "{evidence}: {cut:?}");
        }
    }

    #[test]
    fn facts_may_come_from_any_cited_text() {
        let texts = ["Coffee may lower the risk of gout", "Nina Pham drinks coffee, 3 cups a day"];
        let found = check("Coffee may lower the risk of gout, 3 cups.", &texts, Some(&scores(8.0)), &LIMITS);
        assert!(!found.reasons.contains(&Reason::Number), "{found:?}");
        assert_eq!(check("Anything.", &[], Some(&scores(8.0)), &LIMITS).verdict, Verdict::Unsupported);
    }

    #[test]
    fn odd_text_gives_a_verdict_and_a_finite_probability() {
        let long = "very long ".repeat(5_000);
        for odd in ["", " ", "\u{200b}", "[1]", "?", "🙂", "\0", "%%%", long.as_str()] {
            for (a, b) in [(odd, "coffee lowers risk"), ("coffee lowers risk", odd)] {
                let found = check(a, &[b], Some(&scores(f32::NAN)), &LIMITS);
                assert!((0.0..=1.0).contains(&found.probability), "{odd:?}: {found:?}");
                assert_eq!(found.verdict, Verdict::Unsupported, "{odd:?}");
            }
        }
    }
}
