//! Words of a query or keyword, in the form in which they are compared.

use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

/// Words of `text` in lower case after compatibility normalisation, at most `limit`. Punctuation and symbols are
/// left out; an apostrophe inside a word stays, whichever of the two is written.
pub(crate) fn words(text: &str, limit: usize) -> Vec<String> {
    let plain: String = text.nfkc().map(|c| if c == '\u{2019}' { '\'' } else { c }).collect();
    plain.unicode_words().take(limit).map(str::to_lowercase).collect()
}

/// The word without an English plural ending.
///
/// The S stemmer of Harman (1991): `-ies` to `-y`, `-es` to `-e`, `-s` off, each with its exceptions. It unites
/// `shoe` and `shoes` and little else, which is what an advertiser expects of a loose match.
pub(crate) fn singular(word: &str) -> String {
    let ends = |endings: &[&str]| endings.iter().any(|ending| word.ends_with(ending));
    let cut = |n: usize| &word[..word.len() - n];
    if word.len() < 4 {
        word.to_owned()
    } else if ends(&["ies"]) && !ends(&["eies", "aies"]) {
        format!("{}y", cut(3))
    } else if ends(&["es"]) && !ends(&["aes", "ees", "oes"]) || ends(&["s"]) && !ends(&["us", "ss"]) {
        cut(1).to_owned()
    } else {
        word.to_owned()
    }
}

/// The words of a request, in both forms.
pub(crate) struct QueryWords {
    /// As written, in lower case.
    pub literal: Vec<String>,
    /// Without plural endings, in the same order.
    pub singular: Vec<String>,
}

impl QueryWords {
    /// Words past this many are not matched against keywords.
    pub const LIMIT: usize = 256;

    pub fn new(text: &str) -> Self {
        let literal = words(text, Self::LIMIT);
        let singular = literal.iter().map(|word| singular(word)).collect();
        Self { literal, singular }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_lower_case_and_normalised() {
        assert_eq!(words("Running-SHOES, for ﬁtness!", 9), ["running", "shoes", "for", "fitness"]);
        assert_eq!(words("Can\u{2019}t sleep? #Yoga", 9), ["can't", "sleep", "yoga"]);
        assert_eq!(words("🙂 !!! \0", 9), Vec::<String>::new());
        assert_eq!(words("a b c d", 2), ["a", "b"]);
    }

    #[test]
    fn plurals_meet_their_singular() {
        for (plural, expected) in [
            ("shoes", "shoe"),
            ("allergies", "allergy"),
            ("classes", "classe"),
            ("bikes", "bike"),
            ("virus", "virus"),
            ("stress", "stress"),
            ("gas", "gas"),
            ("is", "is"),
            ("été", "été"),
        ] {
            assert_eq!(singular(plural), expected, "{plural}");
        }
    }
}
