//! Sentences that would not look like a quotation when they are shown.
//!
//! A quotation is shown letter by letter, so what a reader or a page could take for a part of the answer around it must
//! not be in it: marks like those of our citations, tags and links of markup, and marks that turn the direction of the
//! text that follows.

use std::sync::LazyLock;

use regex::Regex;

/// `[2]`, `［2］`, `【2】`; `[text](address)`; `<b>`, `</b>`, `<!--`; the protocols that run a script.
static MARKUP: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)[\[［【〔]\s*\d{1,4}\s*[\]］】〕]|\]\(|<\s*/?[a-z!][^<>]*>|<[a-z]+\s+[a-z-]+\s*=|\b(?:javascript|vbscript)\s*:\S")
        .expect("a constant pattern")
});

/// Embeddings, overrides and isolates of direction.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a sentence cannot be quoted without being taken for more than a quotation.
pub(crate) fn breaks_out(sentence: &str) -> bool {
    sentence.contains(turns_text) || MARKUP.is_match(sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_markup_and_turned_text_break_out() {
        for odd in [
            "Coffee helps [2][3].",
            "Coffee helps ［12］",
            "Coffee helps 【3】",
            "Coffee [helps](http://evil.example)",
            "Coffee <b>helps</b>",
            "<img src=x onerror=alert(1)",
            "<script>x</script>",
            "Coffee <!-- helps --> nobody",
            "See javascript:alert(1)",
            "Coffee \u{202e}spleh",
            "Coffee \u{2066}helps\u{2069}",
        ] {
            assert!(breaks_out(odd), "{odd:?}");
        }
    }

    #[test]
    fn ordinary_posts_do_not() {
        for fine in [
            "Coffee helps (2 cups) [video]",
            "BMI < 25 and > 18 is fine",
            "I <3 coffee, 5 > 4",
            "Data: coffee helps",
            "cof\u{200b}fee helps \u{1f602}",
            "Coffee [helps] (a lot)",
            "1] first 2] second",
        ] {
            assert!(!breaks_out(fine), "{fine:?}");
        }
    }
}
