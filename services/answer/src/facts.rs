//! What a sentence commits itself to besides [quantities](crate::quantities): names, negations, strong claim words and
//! hedges.
//!
//! Everything is read from [`Token`]s, so it is already normalised.

use std::collections::HashSet;
use std::sync::LazyLock;

use crate::quantities::number_word;
use crate::text::{Kind, Token, is_function_word};

/// Words that negate, beside those that end in `n't`; posts leave the apostrophe out.
static NEGATIONS: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    "aint arent barely cannot cant couldnt debunked denied denies deny didnt doesnt dont fail failed fails \
     false hadnt hardly hasnt havent isnt lack lacking lacks myth neither never no nobody none nor not \
     nothing nowhere scarcely shouldnt unable unlikely untrue wasnt werent without wont wouldnt"
        .split_whitespace()
        .collect()
});

/// Whether a lower-case word negates.
pub(crate) fn is_negation(lower: &str) -> bool {
    lower.ends_with("n't") || NEGATIONS.contains(lower)
}

/// For each negation, the stems of the content words that follow it, nearest first, at most two.
pub(crate) fn negated(tokens: &[Token]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        if token.kind == Kind::Word && is_negation(&token.lower()) {
            let following = tokens[at + 1..].iter().filter(|t| {
                !matches!(t.kind, Kind::Link | Kind::Number)
                    && !is_function_word(&t.lower())
                    && !is_negation(&t.lower())
            });
            found.push(following.take(2).map(|t| t.stem.clone()).collect());
        }
    }
    found
}

/// Words that weaken a claim.
static HEDGES: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    "aim aims appear appears associated association can could hint hints hope hopes likely link linked links \
     may maybe might perhaps possible possibly potential potentially probably seem seems suggest suggested \
     suggests tied"
        .split_whitespace()
        .collect()
});

/// Whether a lower-case word weakens a claim.
pub(crate) fn is_hedge(lower: &str) -> bool {
    HEDGES.contains(lower)
}

/// Words that make or attribute a strong claim. A sentence may use one only when the evidence has a word of the same
/// group (given as prefixes of stems).
const CLAIM_GROUPS: &[&str] = &[
    "rais increas rise rose boost grow grew higher climb jump surg soar more",
    "lower reduc cut decreas drop fall fell declin less fewer shrink slash curb eas diminish",
    "worsen harm hurt damag danger dead kill toxic fatal",
    "help benefit benefici improv protect",
    "caus trigger",
    "cure cur",
    "treat treatment",
    "prevent stop",
    "prove proven proof confirm",
    "safe safer safeti",
    "effect",
    "best",
    "worst",
    "all everi everyon everybodi",
    "most major",
    "onli",
    "alway",
    "mani lot",
    "half",
    "third",
    "quarter",
    "dozen",
    "twice doubl",
    "tripl",
    "becaus",
    "studi research trial",
    "scientist expert research",
    "doctor physician",
    "offici minist govern",
    "survey poll",
    "report",
];

/// Claim words of a sentence that its evidence has no word of the same group for.
pub(crate) fn unbacked_claims(sentence: &[Token], evidence: &[Token]) -> Vec<String> {
    let stems = |tokens: &[Token]| -> Vec<(String, String)> {
        let words = tokens.iter().filter(|t| matches!(t.kind, Kind::Word | Kind::Tag));
        words.map(|t| (t.stem.clone(), t.lower())).collect()
    };
    let evidence = stems(evidence);
    let in_group = |group: &str, stem: &str| group.split(' ').any(|prefix| starts_claim(stem, prefix));
    let mut missing = Vec::new();
    for (stem, lower) in stems(sentence) {
        let groups: Vec<_> = CLAIM_GROUPS.iter().filter(|group| in_group(group, &stem)).collect();
        let backed = groups.iter().any(|group| evidence.iter().any(|(have, _)| in_group(group, have)));
        if !groups.is_empty() && !backed {
            missing.push(lower);
        }
    }
    missing
}

/// Short prefixes must be the whole stem, or `fall` would match `fallacy` and `all` `allergy`.
fn starts_claim(stem: &str, prefix: &str) -> bool {
    if prefix.len() <= 5 { stem == prefix } else { stem.starts_with(prefix) }
}

/// A word that names somebody or something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// `#tag`, lower case.
    Tag(String),
    /// `@mention`, lower case.
    Mention(String),
    /// Capital letters only, at least two.
    Acronym(String),
    /// Any other capitalised word, with its stem.
    Proper {
        /// Lower case.
        lower: String,
        /// Stem.
        stem: String,
    },
    /// The first word of the sentence: capitalised anyway, so only required when the evidence does not know it.
    First {
        /// Lower case.
        lower: String,
        /// Stem.
        stem: String,
    },
}

/// The names in a sentence.
pub(crate) fn names(tokens: &[Token]) -> Vec<Name> {
    let mut found = Vec::new();
    let first = tokens.iter().position(|t| matches!(t.kind, Kind::Word));
    for (at, token) in tokens.iter().enumerate() {
        let lower = token.lower();
        match token.kind {
            Kind::Tag => found.push(Name::Tag(lower)),
            Kind::Mention => found.push(Name::Mention(lower)),
            Kind::Word => {
                let capital = token.text.chars().next().is_some_and(char::is_uppercase);
                let letters = token.text.chars().filter(|c| c.is_alphabetic()).count();
                if !capital || letters < 2 || is_negation(&lower) || number_word(&lower).is_some() {
                    continue;
                }
                let acronym = token.text.chars().all(|c| !c.is_lowercase());
                let stem = token.stem.clone();
                if acronym {
                    found.push(Name::Acronym(token.text.clone()));
                } else if is_function_word(&lower) {
                    // A function word is no name, wherever it stands.
                } else if Some(at) == first {
                    found.push(Name::First { lower, stem });
                } else {
                    found.push(Name::Proper { lower, stem });
                }
            }
            Kind::Number | Kind::Code | Kind::Link => {}
        }
    }
    found
}

/// Whether the evidence knows a name.
pub(crate) fn knows(evidence: &[Token], name: &Name) -> bool {
    let word = |lower: &str, stem: &str| {
        evidence.iter().any(|t| match t.kind {
            Kind::Word => t.stem == stem || t.lower() == lower,
            Kind::Tag => {
                t.stem == lower
                    || crate::text::content_stems(std::slice::from_ref(t)).iter().any(|s| s == stem)
            }
            _ => false,
        })
    };
    match name {
        Name::Tag(tag) => evidence.iter().any(|t| t.kind == Kind::Tag && t.stem == *tag),
        Name::Mention(mention) => evidence.iter().any(|t| t.kind == Kind::Mention && t.stem == *mention),
        Name::Acronym(letters) => evidence.iter().any(|t| {
            // Two letters are also words (`US`, `IT`): those must be capitals in the evidence as well.
            let same = t.text == *letters;
            same || (letters.len() > 2
                && matches!(t.kind, Kind::Word | Kind::Tag)
                && t.lower() == letters.to_lowercase())
        }),
        Name::Proper { lower, stem } | Name::First { lower, stem } => word(lower, stem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tokens;

    #[test]
    fn claim_words_need_their_group() {
        let unbacked = |sentence: &str, evidence: &str| unbacked_claims(&tokens(sentence), &tokens(evidence));
        assert_eq!(unbacked("coffee raises the risk", "coffee lowers the risk"), ["raises"]);
        assert_eq!(
            unbacked("aspirin prevents cancer, a study says", "aspirin might combat cancer"),
            ["prevents", "study"]
        );
        assert!(unbacked("coffee cuts the risk, research shows", "study: coffee reduces risk").is_empty());
        assert_eq!(unbacked("all patients", "patients"), ["all"]);
        assert!(unbacked("an allergy", "an allergy").is_empty());
    }

    #[test]
    fn names_are_found_and_known() {
        let unknown = |sentence: &str, evidence: &str| -> Vec<Name> {
            let evidence = tokens(evidence);
            names(&tokens(sentence)).into_iter().filter(|n| !knows(&evidence, n)).collect()
        };
        assert!(unknown("Coffee helps Nina Pham", "nina pham likes coffee").is_empty());
        assert_eq!(unknown("Coffee helps Amber", "Nina likes coffee").len(), 1);
        assert_eq!(unknown("Smith likes coffee", "She likes coffee").len(), 1, "an unknown first word");
        assert_eq!(unknown("The FDA acts", "the CDC acts"), [Name::Acronym("FDA".into())]);
        assert!(unknown("The US acts", "the U.S. acts").is_empty());
        assert_eq!(unknown("The US acts", "join us").len(), 1);
        assert_eq!(unknown("Try #yoga", "try yoga"), [Name::Tag("yoga".into())]);
        assert!(unknown("Back Pain hurts", "#BackPain hurts").is_empty());
        assert_eq!(unknown("Thanks @cnn", "thanks cnn"), [Name::Mention("cnn".into())]);
    }

    #[test]
    fn negations_keep_their_object() {
        assert_eq!(
            negated(&tokens("Tea does not lower risk")),
            [vec!["lower".to_owned(), "risk".to_owned()]]
        );
        assert_eq!(negated(&tokens("It don\u{2019}t work")).len(), 1);
        assert!(negated(&tokens("Nothing2 new")).is_empty());
    }
}
