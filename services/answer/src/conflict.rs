//! Do two posts say different things about the same matter?
//!
//! Only what can be told without understanding is told: two sentences whose content words are the same, up to a few
//! neutral ones, and which differ in one number of the same kind or in one negation. Anything else between them (a
//! place, a group of people, a year, a second clause) may be the reason why both are true, so nothing is claimed then. A
//! false conflict would be worse than a missed one.

use std::collections::{BTreeSet, HashSet};
use std::sync::LazyLock;

use crate::evidence::Evidence;
use crate::facts::{is_hedge, is_negation, negated};
use crate::quantities::{Decimal, Quantity, Unit, number_word, quantities};
use crate::text::{Kind, Token, content_stems};

/// Words that attribute, date or stress a claim without changing what it is about.
static NEUTRAL: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    "about actually almost already announce announced approximately around breaking confirm confirmed confirms \
     currently expert experts find finding findings finds found latest least more nearly new newest news now \
     number official officials over people person persons recent report reported reportedly reporting reports \
     research researcher researchers scientist scientists show showed showing shown shows since so still studies \
     study toll total update updated"
        .split_whitespace()
        .collect()
});

/// What lists count: another list of tips may well have another number of them.
static LISTED: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    "advic answer benefit book exercis fact food fruit habit hack herb idea ingredi item lesson meal mistak move \
     myth page part point question reason recip rule secret sign snack song stage step stori strategi symptom \
     thing tip tool trick veget way word"
        .split_whitespace()
        .collect()
});

/// Whole numbers up to this, without a unit, are as often the length of a list, a dose or an age as a finding.
const SMALL: u32 = 30;

/// Forms of one word that a stemmer keeps apart.
const SAME: [(&str, &[&str]); 3] = [
    (
        "die",
        &[
            "dead", "death", "die", "dies", "died", "dying", "deaths", "kill", "kills", "killed", "killing",
            "kil",
        ],
    ),
    ("infect", &["infected", "infection", "infections", "sickened", "case", "cases"]),
    ("rise", &["rise", "rises", "rose", "risen"]),
];

/// Least shared content words when a number differs.
const NUMBER_WORDS: usize = 2;
/// Least shared content words when a negation differs.
const NEGATION_WORDS: usize = 3;

/// Whether the two sentences, of different posts, contradict each other in a number or a negation.
pub(crate) fn disagree(a: &Evidence, b: &Evidence) -> bool {
    a.n != b.n && texts_disagree(&a.tokens, &b.tokens)
}

fn texts_disagree(a: &[Token], b: &[Token]) -> bool {
    let (subject, other) = (subject(a), subject(b));
    if subject != other || subject.len() < NUMBER_WORDS {
        return false;
    }
    let ((counts_a, years_a), (counts_b, years_b)) = (numbers(a), numbers(b));
    // "may reach 5,000" is no report of a number.
    let supposed = hedged(a) != hedged(b) && counts_a != counts_b;
    if supposed || years_a != years_b || mentions(a) != mentions(b) {
        return false;
    }
    let (denied_a, denied_b) = (negated(a), negated(b));
    match (counts_a.as_slice(), counts_b.as_slice()) {
        // The same denials or none, and one number each.
        ([one], [two]) if one != two => {
            let what = counted(a);
            denied_a.is_empty()
                && denied_b.is_empty()
                && differ(one, two)
                && what == counted(b)
                && what.is_some_and(|what| !LISTED.contains(what.as_str()))
        }
        (one, two) if one == two && subject.len() >= NEGATION_WORDS => {
            plainly_denies(&denied_a, &denied_b, a, &subject)
                || plainly_denies(&denied_b, &denied_a, b, &subject)
        }
        _ => false,
    }
}

/// Whether `denied`, the only denial of a sentence, is about the subject while the other sentence denies nothing.
fn plainly_denies(
    denied: &[Vec<String>],
    other: &[Vec<String>],
    sentence: &[Token],
    subject: &BTreeSet<String>,
) -> bool {
    let [scope] = denied else { return false };
    let about = scope.first().is_some_and(|first| subject.contains(&same(first)));
    other.is_empty() && about && !only_stressed(sentence)
}

/// `not only`, `not just`, `no doubt`: no denial of what follows.
fn only_stressed(tokens: &[Token]) -> bool {
    let negation = tokens.iter().position(|t| t.kind == Kind::Word && is_negation(&t.lower()));
    let next = negation.and_then(|at| tokens.get(at + 1)).map(Token::lower);
    next.is_some_and(|next| {
        matches!(
            next.as_str(),
            "only"
                | "just"
                | "merely"
                | "simply"
                | "alone"
                | "doubt"
                | "wonder"
                | "longer"
                | "yet"
                | "always"
                | "necessarily"
                | "sure"
                | "all"
                | "every"
                | "enough"
        )
    })
}

/// What a sentence is about: its content words without neutral and weakening ones.
fn subject(tokens: &[Token]) -> BTreeSet<String> {
    let kept: Vec<Token> = tokens
        .iter()
        .filter(|t| {
            let lower = t.lower();
            !is_hedge(&lower)
                && number_word(&lower).is_none()
                && !matches!(lower.as_str(), "hundred" | "thousand" | "million" | "billion")
                && !NEUTRAL.contains(lower.as_str())
        })
        .cloned()
        .collect();
    // An irregular form is known by its spelling, before it is stemmed.
    let stems = kept.iter().flat_map(|t| {
        let lower = t.lower();
        let known = SAME.iter().find(|(_, forms)| t.kind == Kind::Word && forms.contains(&lower.as_str()));
        match known {
            Some((name, _)) => vec![(*name).to_owned()],
            None => content_stems(std::slice::from_ref(t)),
        }
    });
    stems.collect()
}

fn same(stem: &str) -> String {
    SAME.iter().find(|(_, forms)| forms.contains(&stem)).map_or(stem, |(name, _)| name).to_owned()
}

/// Who is mentioned; content words leave them out.
fn mentions(tokens: &[Token]) -> BTreeSet<String> {
    tokens.iter().filter(|t| t.kind == Kind::Mention).map(|t| t.stem.clone()).collect()
}

fn hedged(tokens: &[Token]) -> bool {
    tokens.iter().any(|t| t.kind == Kind::Word && is_hedge(&t.lower()))
}

/// The numbers that count something, and those that look like years.
fn numbers(tokens: &[Token]) -> (Vec<Quantity>, Vec<Quantity>) {
    let all = quantities(tokens).into_iter().filter(Quantity::is_required);
    all.partition(|quantity| !is_year(quantity))
}

fn is_year(quantity: &Quantity) -> bool {
    let between = |value: &Decimal| (1900..=2100).any(|year| *value == Decimal::of(year));
    matches!(quantity, Quantity::Number { value, unit: Unit::None, negative: false, .. } if between(value))
}

/// Two sizes of one kind.
fn differ(a: &Quantity, b: &Quantity) -> bool {
    match (a, b) {
        (Quantity::Number { value, unit, .. }, Quantity::Number { value: other, unit: other_unit, .. }) => {
            let small = |v: &Decimal| *unit == Unit::None && (0..=SMALL).any(|n| *v == Decimal::of(n));
            unit == other_unit && value != other && !small(value) && !small(other)
        }
        _ => false,
    }
}

/// The content word after the number, else the one before: what is counted.
fn counted(tokens: &[Token]) -> Option<String> {
    let number = |t: &Token| t.kind == Kind::Number || number_word(&t.lower()).is_some_and(|n| n > 1);
    let at = tokens.iter().position(number)?;
    let word = |part: &[Token]| subject(part).into_iter().next();
    let next = (at + 1..tokens.len()).find_map(|i| word(&tokens[i..=i]));
    next.or_else(|| (0..at).rev().find_map(|i| word(&tokens[i..=i])))
}

/// Puts sentences that disagree side by side, newest first, where the best of them stood. Each group is a list of
/// sentences; one sentence alone is the usual case.
pub(crate) fn grouped(evidence: &[Evidence]) -> Vec<Vec<&Evidence>> {
    let mut groups: Vec<Vec<&Evidence>> = Vec::new();
    for item in evidence {
        let home = groups.iter_mut().find(|group| group.iter().any(|other| disagree(other, item)));
        match home {
            Some(group) => group.push(item),
            None => groups.push(vec![item]),
        }
    }
    for group in &mut groups {
        group.sort_by(|a, b| b.created_at.cmp(&a.created_at).then(a.n.cmp(&b.n)));
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tokens;

    fn disagrees(a: &str, b: &str) -> bool {
        let (a, b) = (tokens(a), tokens(b));
        let found = texts_disagree(&a, &b);
        assert_eq!(found, texts_disagree(&b, &a), "the same both ways");
        found
    }

    #[test]
    fn a_number_or_a_negation_can_disagree() {
        for (a, b) in [
            ("Coffee lowers the risk of gout", "Coffee does not lower the risk of gout"),
            ("Study: coffee lowers risk of gout", "Coffee doesn't lower gout risk, new study finds"),
            ("Vitamin D prevents colds", "Vitamin D does not prevent colds"),
            ("Coffee lowers the risk of gout", "Coffee fails to lower the risk of gout"),
            ("4,000 people have died from Ebola", "5,000 people have died from Ebola"),
            ("Ebola death toll 4000", "Officials: Ebola has killed nearly 5,000 people"),
            ("More than four thousand dead from Ebola", "5000 dead from Ebola"),
            ("Flu shot is 23% effective", "Flu shot is 60 percent effective"),
            ("The soda tax raised $1.5M", "The soda tax raised $2 million"),
        ] {
            assert!(disagrees(a, b), "{a:?} and {b:?}");
        }
    }

    #[test]
    fn what_may_both_be_true_does_not() {
        for (a, b) in [
            ("Coffee lowers the risk of gout", "Coffee may lower the risk of gout"),
            ("Coffee lowers the risk of gout", "Coffee lowers the risk of gout"),
            ("Coffee lowers the risk of gout", "Tea does not lower the risk of gout"),
            ("Coffee lowers the risk of gout in men", "Coffee does not lower the risk of gout in women"),
            ("Coffee lowers the risk of gout", "Coffee does not lower the risk of gout or stroke"),
            ("Coffee not only lowers the risk of gout", "Coffee lowers the risk of gout"),
            ("Coffee does not lower gout risk", "Coffee does not lower the risk of gout"),
            ("4,000 have died from Ebola", "5,000 have been tested for Ebola"),
            ("4,000 people have died from Ebola", "4000 people died from Ebola"),
            ("4,000 have died from Ebola in Liberia", "5,000 have died from Ebola in Guinea"),
            ("In 2013, 4,000 died of flu", "In 2014, 5,000 died of flu"),
            ("Flu cases of 2013 were many", "Flu cases of 2014 were many"),
            ("Flu shot is 23% effective", "Flu shot protects 60 people"),
            ("3 of 5 teens sleep too little", "2 of 5 teens sleep too little"),
            ("Eat 5 portions of fruit", "Eat fruit, 500 calories"),
            ("10 tips for better sleep", "A doctor's tips for better sleep"),
            ("Tea stains", "Tea never stains"),
            ("", ""),
        ] {
            assert!(!disagrees(a, b), "{a:?} and {b:?}");
        }
    }

    #[test]
    fn lists_of_tips_do_not_disagree() {
        assert!(!disagrees("5 tips for better sleep", "7 tips for better sleep"));
        assert!(!disagrees("101 foods for heart health", "50 foods for heart health"));
        assert!(!disagrees("Nurse walks 12 miles home", "Nurse walks 12 miles to home, 3 hours"));
    }
}
