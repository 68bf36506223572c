//! The words that a restatement of a post may be made of.

use std::collections::BTreeSet;

use bowerbird_models_api::Constraint;

use crate::text::{function_words, is_invisible};

/// Marks that may follow a word.
const MARKS: &str = ".,;:!?";
/// Function words of the second, tighter try: articles, prepositions and forms of `be`, which join but never claim.
const GLUE: [&str; 18] = [
    "a", "an", "the", "of", "to", "in", "on", "for", "with", "by", "at", "from", "and", "is", "are", "was",
    "were", "be",
];

/// Function words that change how sure a claim is, or stress it; only a post that has them may be restated with them.
const MODALS: [&str; 12] =
    ["can", "could", "may", "might", "shall", "should", "will", "would", "just", "do", "does", "did"];

/// How free a restatement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freedom {
    /// The words of the post and every function word but [`MODALS`].
    FunctionWords,
    /// The words of the post and [`GLUE`].
    Glue,
}

/// The constraint for restating `quote`; none when it holds no word.
///
/// A word is what stands between white space, without the punctuation around it: numbers stay whole (`1.5`, `$3M`,
/// `20%`), so a generator can copy one or leave it out, never change a digit. Words may change the case of their first
/// letter, and headline capitals may become small; a word with capitals inside (`FDA`, `McCain`) stays as it is. Links
/// are left out.
pub(crate) fn constraint(quote: &str, freedom: Freedom) -> Option<Constraint> {
    let visible: String = quote.chars().filter(|c| !is_invisible(*c)).collect();
    let mut words = BTreeSet::new();
    for piece in visible.split_whitespace().filter(|piece| !is_link(piece)) {
        let word = bare(piece);
        for form in [word.to_owned(), word.replace(['\u{2019}', '\u{2018}'], "'")] {
            // `Dr` and `U.S` of `Dr.` and `U.S.` are followed by a dot as a mark.
            with_cases(&form, &mut words);
            if let Some(tag) = form.strip_prefix('#') {
                with_cases(tag, &mut words);
            }
            if let Some(owner) = form.strip_suffix("'s") {
                with_cases(owner, &mut words);
            }
        }
    }
    words.retain(|word| word.chars().any(char::is_alphanumeric));
    if words.is_empty() {
        return None;
    }
    match freedom {
        Freedom::FunctionWords => function_words()
            .filter(|word| !MODALS.contains(word))
            .for_each(|word| with_cases(word, &mut words)),
        Freedom::Glue => GLUE.iter().for_each(|word| with_cases(word, &mut words)),
    }
    Some(Constraint { words: words.into_iter().collect(), marks: MARKS.to_owned() })
}

fn is_link(piece: &str) -> bool {
    let lower = piece.to_lowercase();
    lower.contains("://") || lower.contains("http:/") || lower.contains("www.")
}

/// A piece without the punctuation around it; signs of numbers, tags and mentions stay.
fn bare(piece: &str) -> &str {
    let start = piece.trim_start_matches(|c: char| {
        !(c.is_alphanumeric()
            || matches!(c, '#' | '@' | '$' | '€' | '£' | '¥' | '₹' | '+' | '-' | '\u{2212}' | '.'))
    });
    let end = start.trim_end_matches(|c: char| !(c.is_alphanumeric() || matches!(c, '%' | '+')));
    // A dash or a dot belongs to a number only.
    let word = end.trim_start_matches(['-', '.', '+', '\u{2212}']);
    if word.starts_with(|c: char| c.is_ascii_digit()) { end } else { word }
}

fn with_cases(word: &str, words: &mut BTreeSet<String>) {
    let mut letters = word.chars();
    let Some(first) = letters.next() else { return };
    let rest = letters.as_str();
    words.insert(word.to_owned());
    if !rest.chars().any(char::is_uppercase) && (!rest.is_empty() || first.is_lowercase() || first == 'A') {
        words.insert(first.to_lowercase().chain(rest.chars()).collect());
        words.insert(first.to_uppercase().chain(rest.chars()).collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(quote: &str) -> BTreeSet<String> {
        constraint(quote, Freedom::Glue).expect("has words").words.into_iter().collect()
    }

    #[test]
    fn words_keep_their_spelling_but_for_the_first_letter() {
        let found = words(
            "\u{201c}Daily Coffee May Lower\u{201d} FDA\u{2019}s #GutHealth risk, don\u{2019}t (U.S.) @cnn cof\u{200b}fee",
        );
        for word in [
            "daily",
            "Daily",
            "coffee",
            "lower",
            "FDA's",
            "FDA",
            "#GutHealth",
            "GutHealth",
            "risk",
            "Risk",
            "don't",
            "U.S",
            "@cnn",
            "the",
            "The",
        ] {
            assert!(found.contains(word), "{word} in {found:?}");
        }
        for word in ["fda", "us", "guthealth", "DAILY", "cof", "", "\u{201c}Daily"] {
            assert!(!found.contains(word), "{word} in {found:?}");
        }
    }

    #[test]
    fn numbers_are_whole_and_links_are_none() {
        let found = words("Cut by 20% (-5% since 2014), $1.5M http://t.co/x9 a 20-minute walk - .5 mg");
        for word in ["20%", "-5%", "2014", "$1.5M", "20-minute", ".5"] {
            assert!(found.contains(word), "{word} in {found:?}");
        }
        assert!(!found.iter().any(|w| w.contains("t.co") || w == "20" || w == "5%" || w == "-"), "{found:?}");
        assert_eq!(constraint("http://t.co/x \u{2026} !!", Freedom::FunctionWords), None);
    }

    #[test]
    fn a_second_try_has_fewer_words() {
        let quote = "Coffee lowers risk";
        let wide = constraint(quote, Freedom::FunctionWords).expect("has words");
        let tight = constraint(quote, Freedom::Glue).expect("has words");
        assert!(tight.words.iter().all(|word| wide.words.contains(word)));
        let has = |constraint: &Constraint, word: &str| constraint.words.iter().any(|w| w == word);
        assert!(has(&wide, "according"));
        assert!(!has(&tight, "according"));
        assert!(!has(&wide, "might"), "the post is sure");
        let unsure = constraint("Coffee might lower risk", Freedom::Glue).expect("has words");
        assert!(has(&unsure, "might") && has(&unsure, "Might"));
    }
}
