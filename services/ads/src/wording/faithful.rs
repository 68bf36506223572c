//! Whether a text keeps to a fact word by word: no model is asked.
//!
//! An advertiser vouches for its facts and is held to what is shown in its name, so the rule is stricter than the check
//! of answers: a text may leave words of its fact out and join the rest anew, but it adds no word of its own, turns none
//! round, and what limits the claim (numbers, negations, conditions) stays.

use crate::text::{singular, words};

/// Words that join others and claim nothing.
const JOINING: [&str; 43] = [
    "a", "an", "and", "are", "as", "at", "be", "been", "being", "by", "for", "has", "have", "in", "into",
    "is", "it", "its", "of", "on", "our", "that", "the", "their", "them", "there", "these", "they", "this",
    "those", "to", "was", "we", "were", "which", "who", "whose", "with", "you", "your", "here", "when",
    "where",
];

/// Words that narrow or measure what is claimed: one of a fact that is missing makes another claim.
const LIMITING: [&str; 88] = [
    "about",
    "above",
    "after",
    "all",
    "almost",
    "any",
    "approximately",
    "at",
    "before",
    "below",
    "between",
    "both",
    "but",
    "can",
    "could",
    "during",
    "each",
    "eight",
    "eighteen",
    "eighty",
    "eleven",
    "every",
    "except",
    "excluding",
    "few",
    "fifteen",
    "fifty",
    "first",
    "five",
    "forty",
    "four",
    "fourteen",
    "from",
    "half",
    "hundred",
    "if",
    "least",
    "less",
    "max",
    "may",
    "might",
    "million",
    "min",
    "minimum",
    "more",
    "most",
    "nearly",
    "never",
    "nine",
    "nineteen",
    "ninety",
    "no",
    "none",
    "not",
    "often",
    "one",
    "only",
    "or",
    "over",
    "per",
    "selected",
    "seven",
    "seventeen",
    "seventy",
    "six",
    "sixteen",
    "sixty",
    "some",
    "ten",
    "than",
    "thirteen",
    "thirty",
    "thousand",
    "three",
    "till",
    "twelve",
    "twenty",
    "twice",
    "two",
    "under",
    "unless",
    "until",
    "up",
    "usually",
    "when",
    "while",
    "within",
    "without",
];

/// Whether `text` says what `fact` says and nothing else, word by word.
pub(super) fn keeps_to(text: &str, fact: &str) -> bool {
    let (said, known) = (Said::new(text), Said::new(fact));
    let mut content = said.words.iter().filter(|word| !JOINING.contains(&word.as_str())).peekable();
    if content.peek().is_none() {
        return false;
    }
    // Each after the one before it: who does what, and which number is whose, hangs on that.
    let mut rest = known.words.iter();
    let none_added = content.all(|word| rest.any(|own| own == word || singular(own) == singular(word)));
    let none_lost =
        known.words.iter().filter(|word| limits(word)).all(|word| said.count(word) >= known.count(word));
    // Signs that change a number or an amount do not part words: `+20`, `20 %`, `$20`.
    let signs = |text: &str| text.chars().filter(|c| "%‰$€£¥₹+−±<>≥≤*°™®".contains(*c)).collect::<String>();
    none_added && none_lost && signs(text) == signs(fact)
}

fn limits(word: &str) -> bool {
    LIMITING.contains(&word) || word.ends_with("n't") || word.chars().any(char::is_numeric)
}

/// The words of a text.
struct Said {
    words: Vec<String>,
}

impl Said {
    /// Words past this many are not read; a fact has fewer.
    const LIMIT: usize = 256;

    fn new(text: &str) -> Self {
        Self { words: words(text, Self::LIMIT) }
    }

    fn count(&self, word: &str) -> usize {
        self.words.iter().filter(|own| *own == word).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_may_go_and_none_may_come() {
        let fact = "Cast iron kettlebells from 4 to 32 kg, made in Leeds.";
        for (text, expected) in [
            ("Kettlebells from 4 to 32 kg, made in Leeds.", true),
            ("Kettlebells from 4 to 32 kg in cast iron.", false),
            ("Leeds made kettlebells from 4 to 32 kg.", false),
            ("Kettlebells from 32 to 4 kg.", false),
            ("Cast iron kettlebells from 4 to 32 kg, made in Leeds.", true),
            ("The cast iron kettlebells are from 4 to 32 kg.", true),
            ("The best cast iron kettlebells from 4 to 32 kg.", false),
            ("Kettlebells from 4 to 36 kg.", false),
            ("Cast iron kettlebells.", false),
            ("Cast iron kettlebells up to 32 kg.", false),
            ("Free kettlebells from 4 to 32 kg.", false),
            ("Rogue kettlebells from 4 to 32 kg.", false),
            ("Kettlebells from 4 to 32 kg, 20% off.", false),
            ("Kettlebells from $4 to $32.", false),
            ("Kettlebells from 4 to 32 kg for $.", false),
            ("It is from 4 to 32 and that is it.", true),
            ("", false),
        ] {
            assert_eq!(keeps_to(text, fact), expected, "{text}");
        }
        for (text, fact) in [
            ("Delivery is free.", "Delivery is free over 50 euros."),
            ("Delivery is free.", "Delivery is free on orders of more than fifty euros."),
            ("Suited to children.", "Not suited to children."),
            ("It contains nuts.", "It doesn't contain nuts."),
            ("Cures headaches.", "May help with headaches."),
            ("It counts steps for weeks.", "It counts steps for three weeks."),
            ("Half price.", "Half price for the first month only."),
            ("You save 20.", "You save 20%."),
            (
                "The sole weighs 215 g and our shoe is 4 mm thin.",
                "Our shoes weigh 215 g and the sole is 4 mm thin.",
            ),
            ("Two pairs for the price of one.", "Two pairs for the price of one until Friday."),
        ] {
            assert!(!keeps_to(text, fact), "{text} / {fact}");
        }
    }
}
