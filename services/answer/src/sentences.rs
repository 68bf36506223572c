//! A text to its sentences, as byte ranges of the text.
//!
//! Sentence bounds are those of UAX #29 with three corrections for posts: a bound must follow white space (so that
//! `http://t.co/a?b` and `#wow!yes` stay whole) or full-width punctuation, an abbreviation or initial does not end a
//! sentence, and a question belongs to the statement after it ("Is it safe? A new study says yes"), because either
//! alone says something else.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;
use unicode_segmentation::UnicodeSegmentation;

use crate::text::is_function_word;

/// Most sentences taken from one text.
pub(crate) const MAX_SENTENCES: usize = 40;

/// Words with a dot that go on.
const ABBREVIATIONS: [&str; 22] = [
    "dr.", "mr.", "mrs.", "ms.", "prof.", "st.", "vs.", "jr.", "sr.", "gov.", "sen.", "rep.", "gen.",
    "dept.", "approx.", "e.g.", "i.e.", "jan.", "feb.", "aug.", "oct.", "dec.",
];

/// Sentence ranges of `text`, without surrounding white space, in order; at most [`MAX_SENTENCES`].
pub(crate) fn split(text: &str) -> Vec<Range<usize>> {
    split_up_to(text, MAX_SENTENCES)
}

/// [`split`] with another limit.
pub(crate) fn split_up_to(text: &str, most: usize) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    if most == 0 {
        return found;
    }
    let mut start = 0;
    for (at, piece) in text.split_sentence_bound_indices() {
        let end = at + piece.len();
        if end < text.len() && !ends_sentence(&text[start..end], &text[end..]) {
            continue;
        }
        push(text, start..end, &mut found);
        start = end;
        if found.len() == most {
            break;
        }
    }
    found
}

fn push(text: &str, range: Range<usize>, found: &mut Vec<Range<usize>>) {
    let piece = &text[range.clone()];
    let trimmed = piece.trim();
    if !trimmed.is_empty() {
        let start = range.start + (piece.len() - piece.trim_start().len());
        found.push(start..start + trimmed.len());
    }
}

fn ends_sentence(piece: &str, rest: &str) -> bool {
    let trimmed = piece.trim_end();
    if piece.contains('\n') && piece.trim_end_matches([' ', '\t']).ends_with(['\n', '\r']) {
        return true;
    }
    if trimmed.ends_with(['。', '！', '？', '｡']) {
        return true;
    }
    if trimmed.len() == piece.len() {
        return false; // no white space at the bound: inside a link or a tag
    }
    let last = trimmed.rsplit(char::is_whitespace).next().unwrap_or("").trim_start_matches(['(', '"', '\'']);
    let letters = last.chars().filter(|c| c.is_alphabetic()).count();
    let initial = last.ends_with('.') && letters > 0 && last.split('.').all(|part| part.chars().count() <= 1);
    let last = last.to_lowercase();
    let numbered = last == "no." && rest.starts_with(|c: char| c.is_ascii_digit());
    !(initial || numbered || ABBREVIATIONS.contains(&last.as_str()))
}

/// Whether a sentence asks.
pub(crate) fn is_question(sentence: &str) -> bool {
    let bare = sentence.trim_end_matches(|c: char| {
        c.is_whitespace() || matches!(c, '"' | '\'' | ')' | '\u{201d}' | '\u{2019}')
    });
    bare.ends_with(['?', '\u{ff1f}'])
}

/// Joins each question to the statement after it; a question with no statement after it stays alone.
pub(crate) fn join_questions(text: &str, sentences: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut joined: Vec<Range<usize>> = Vec::new();
    for range in sentences {
        match joined.last_mut() {
            Some(last) if is_question(&text[last.clone()]) && has_words(&text[range.clone()]) => {
                last.end = range.end;
            }
            _ => joined.push(range.clone()),
        }
    }
    joined
}

fn has_words(sentence: &str) -> bool {
    let words = crate::text::tokens(sentence);
    words.iter().any(|t| matches!(t.kind, crate::text::Kind::Word | crate::text::Kind::Number))
}

/// `RT @who:` at the start of a repost.
static REPOST: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"^["“\s]*(?:RT|MT)\s+@\w+\s*:?\s*"#).expect("a constant pattern"));

/// Links, `via @who` and separators at the end of a sentence.
static TAIL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)(?:\s+|^)(?:(?:https?:/|www\.)\S*|\(?via\s+@\w+\)?|[\(\[]|[-–—|:>»]+)$")
        .expect("a constant pattern")
});

/// A separator directly after the last word, where a link followed.
static SEPARATOR: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\s*[:|>–—-]+$").expect("a constant pattern"));

/// A tag at the end.
static TAG: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\s+[#＃]\w+[.…]?$").expect("a constant pattern"));

/// A link at the start.
static HEAD: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^(?:https?:/|www\.)\S*\s*").expect("a constant pattern"));

/// `A4:`, `Q2.` at the start: numbering of a question-and-answer chat.
static NUMBERING: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^[AQ]\d{1,2}[:.)]\s+").expect("a constant pattern"));

/// Narrows a sentence to what it says: without the repost mark and links at either end, and without tags at the end
/// when there are several of them or they stand after a link or the end of the sentence. Never cuts inside the words.
pub(crate) fn trim(text: &str, range: Range<usize>) -> Range<usize> {
    let (mut start, mut end) = (range.start, range.end);
    for pattern in [&*REPOST, &*HEAD, &*NUMBERING] {
        if let Some(found) = pattern.find(&text[start..end]) {
            start += found.end();
        }
    }
    end = start + without_tail(&text[start..end]);
    let mut tags = 0;
    let mut before_tags = end;
    while let Some(found) = TAG.find(&text[start..before_tags]) {
        before_tags = start + found.start();
        tags += 1;
    }
    let before = &text[start..before_tags];
    let ended = before.ends_with(['.', '!', '?', '…', '"', '”', ':']) || TAIL.is_match(before);
    // "good for #sleep #health": the tags belong to the words.
    let last = before.rsplit(char::is_whitespace).next().unwrap_or("").to_lowercase();
    let continues = is_function_word(&last);
    if !continues && (tags > 1 || (tags == 1 && ended)) {
        end = start + without_tail(before);
    }
    let piece = &text[start..end];
    let trimmed = piece.trim();
    let start = start + (piece.len() - piece.trim_start().len());
    start..start + trimmed.len()
}

/// Length of `piece` without links, `via` and separators at its end.
fn without_tail(piece: &str) -> usize {
    let mut end = piece.len();
    while let Some(found) = TAIL.find(&piece[..end]) {
        end = found.start();
        end = SEPARATOR.find(&piece[..end]).map_or(end, |m| m.start());
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> Vec<&str> {
        split(text).into_iter().map(|r| &text[r]).collect()
    }

    fn trimmed(text: &str) -> &str {
        &text[trim(text, 0..text.len())]
    }

    #[test]
    fn bounds_fit_posts() {
        for (text, expected) in [
            ("One thing. Another thing! A third?", vec!["One thing.", "Another thing!", "A third?"]),
            (
                "In the U.S. Deaths fell. Dr. Smith agrees.",
                vec!["In the U.S. Deaths fell.", "Dr. Smith agrees."],
            ),
            ("See http://a.b/c?D=e now. #Wow!Yes", vec!["See http://a.b/c?D=e now.", "#Wow!Yes"]),
            (
                "It is No. 1 here. She said no. Then left",
                vec!["It is No. 1 here.", "She said no.", "Then left"],
            ),
            ("It grew 1.5 times. Fine", vec!["It grew 1.5 times.", "Fine"]),
            ("first line\nsecond line", vec!["first line", "second line"]),
            ("  \n ", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(pieces(text), expected, "{text:?}");
        }
        assert_eq!(split(&"Word one. ".repeat(500)).len(), MAX_SENTENCES);
    }

    #[test]
    fn a_question_takes_its_answer_along() {
        let text = "Is it safe? A new study says no. More soon.";
        let joined: Vec<&str> = join_questions(text, &split(text)).into_iter().map(|r| &text[r]).collect();
        assert_eq!(joined, ["Is it safe? A new study says no.", "More soon."]);
        let alone = "Is it safe? http://t.co/x";
        assert_eq!(join_questions(alone, &split(alone)).len(), 2);
    }

    #[test]
    fn trimming_keeps_an_exact_part() {
        for (text, expected) in [
            ("RT @cnn: Coffee is fine http://t.co/x", "Coffee is fine"),
            (
                "Daily Coffee May Lower Your Risk:  http://on-msn.com/txwZAo",
                "Daily Coffee May Lower Your Risk",
            ),
            ("9 ways to sleep: http://ow.ly/J (via @dailyburn)", "9 ways to sleep"),
            (
                "Nurse is free of virus, officials say: http://a.b/c http://pbs.d/e.jpg",
                "Nurse is free of virus, officials say",
            ),
            ("A new study on #sleep", "A new study on #sleep"),
            ("It works. #sleep #health", "It works."),
            ("It works! #sleep", "It works!"),
            ("It works - #sleep #health", "It works"),
            ("It is good for #sleep #health", "It is good for #sleep #health"),
            ("It works: http://ow.ly/Eq1YY #sleep", "It works"),
            ("RT @x: A4: It works: http://ow.ly/Eq1YY", "It works"),
            ("http://t.co/x Coffee is fine", "Coffee is fine"),
            ("http://t.co/x", ""),
            ("RT @cnn:", ""),
        ] {
            assert_eq!(trimmed(text), expected, "{text:?}");
        }
    }
}
