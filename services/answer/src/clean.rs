//! What a generator wrote to the one sentence that may be sent.
//!
//! The result is what the check reads *and* what is shown, so that nothing invisible lies between the two.

use std::sync::LazyLock;

use regex::Regex;

use crate::sentences::split;
use crate::text::is_invisible;

/// Things said about the post instead of from it.
static META: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?ix)^(?:
            (?:sure|certainly|of\ course|okay|ok)\b[,!.:]?\s*
          | (?:here\ is|here's|this\ is)\b[^:]{0,60}:\s*
          | according\ to\ (?:the|this)\ (?:post|tweet|source|text)s?\s*(?:\[\d+\])?\s*,?\s*
          | (?:the|this)\ (?:post|tweet|source|text)s?\s*(?:\[\d+\])?\s+(?:says|said|states|mentions|claims|suggests|reports)\s*(?:that\b|:|,)?\s*
          | (?:the\ )?(?:answer|restatement|summary|sentence)(?:\ to\ (?:the|this)\ question)?\s*(?:is\s*)?:\s*
          | post\s*(?:\[\d+\])?\s*:\s*
        )",
    )
    .expect("a constant pattern")
});

/// Markers of lists and headings.
static LIST: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^(?:[-*•>]+\s+|#{1,6}\s+|\(?\d{1,2}[.)]\s+)").expect("a constant pattern"));

/// Citation marks: they are set by us, never by a model.
static MARKS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\s*\[\d{1,3}\]").expect("a constant pattern"));

/// Whether a text that is still growing already holds one whole sentence with something after it.
pub(crate) fn holds_a_sentence(text: &str) -> bool {
    let text = text.trim_start();
    text.contains('\n') || split(text).len() > 1
}

/// The first sentence of a generation, ready to be checked. `None` when nothing sayable is left, or when the text was
/// cut off before its sentence ended.
pub(crate) fn first_sentence(generated: &str, cut_off: bool) -> Option<String> {
    let line = generated.trim_start().lines().next().unwrap_or("");
    let whole = line.len() < generated.trim().len();
    let visible: String = line.chars().filter(|c| !is_invisible(*c)).collect();
    let mut text = MARKS.replace_all(&visible, "").split_whitespace().collect::<Vec<_>>().join(" ");
    loop {
        let before = text.len();
        text = text.trim_matches(['"', '\u{201c}', '\u{201d}', '`', '*', ' ']).to_owned();
        text = LIST.replace(&text, "").into_owned();
        text = META.replace(&text, "").into_owned();
        if text.len() == before {
            break;
        }
    }
    let sentences = split(&text);
    let first = text.get(sentences.first()?.clone())?.to_owned();
    let ended = first.ends_with(['.', '!', '?', '\u{2026}']);
    if cut_off && !ended && !whole && sentences.len() == 1 {
        return None;
    }
    if first.split_whitespace().count() < 3 {
        return None;
    }
    let mut letters = first.chars();
    let capital: String = letters.next()?.to_uppercase().collect();
    let mut sentence = capital + letters.as_str();
    if !ended {
        sentence = sentence.trim_end_matches([',', ';', ':', '-']).to_owned() + ".";
    }
    Some(sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_plain_sentence_is_left() {
        for (generated, expected) in [
            ("Coffee may lower risk.", "Coffee may lower risk."),
            ("  coffee may lower risk", "Coffee may lower risk."),
            ("\"Coffee may lower risk.\"", "Coffee may lower risk."),
            ("- Coffee may lower risk. Tea too.", "Coffee may lower risk."),
            ("1. Coffee may lower risk [1].", "Coffee may lower risk."),
            ("According to the post [1], coffee may lower risk.", "Coffee may lower risk."),
            ("The post says that coffee may lower risk.", "Coffee may lower risk."),
            ("Sure! Here is the restatement: Coffee may lower risk.", "Coffee may lower risk."),
            ("The answer to this question is: \"Coffee may lower risk\"", "Coffee may lower risk."),
            ("Post [3]: Coffee may lower risk", "Coffee may lower risk."),
            ("Coffee may\u{200b} lower\u{202e} risk.\nMore text", "Coffee may lower risk."),
            ("Coffee lowers U.S. risk. And so on", "Coffee lowers U.S. risk."),
        ] {
            assert_eq!(first_sentence(generated, false).as_deref(), Some(expected), "{generated:?}");
        }
    }

    #[test]
    fn what_is_no_sentence_is_nothing() {
        for generated in ["", " \n", "[1]", "\"\"", "Yes.", "Coffee.", "- ", "The post says:", "***"] {
            assert_eq!(first_sentence(generated, false), None, "{generated:?}");
        }
        assert_eq!(first_sentence("Coffee may lower the risk of", true), None, "cut off");
        assert!(
            first_sentence("Coffee may lower risk. And the", true).is_some(),
            "the first sentence is whole"
        );
        assert!(first_sentence("Coffee may lower risk\nAnd the", true).is_some(), "the first line is whole");
    }

    #[test]
    fn a_whole_sentence_is_noticed_while_it_grows() {
        assert!(!holds_a_sentence("Coffee may lower risk."));
        assert!(!holds_a_sentence("Coffee lowers 1.5"));
        assert!(holds_a_sentence("Coffee may lower risk. And"));
        assert!(holds_a_sentence("Coffee may lower risk\n"));
        assert!(!holds_a_sentence("\n"));
    }
}
