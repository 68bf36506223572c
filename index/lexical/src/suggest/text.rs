//! The analysis of the index, for a text that is being typed and for the posts behind a suggestion.

use crate::analysis::{Purpose, tokens};
use crate::fold::{fold, is_word};
use crate::language::Family;
use crate::scan::{Kind, units};
use crate::stop;

/// What someone is in the middle of typing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typing {
    /// A word or a number.
    Word,
    /// A run of letters of a script without spaces; what is being typed is its last character.
    Unspaced {
        /// Byte where the run starts.
        run: usize,
    },
    /// `#tag`, perhaps only its sigil.
    Tag,
    /// `@account`, perhaps only its sigil.
    Mention,
}

/// What `text` ends in and the byte where it starts; `None` after a space, a link, an emoji or other marks.
pub fn typing(text: &str) -> Option<(usize, Typing)> {
    let last = text.chars().next_back()?;
    let start = text.len() - last.len_utf8();
    let opens = !text[..start].chars().next_back().is_some_and(is_word);
    match last {
        '#' | '＃' if opens => return Some((start, Typing::Tag)),
        '@' | '＠' if opens => return Some((start, Typing::Mention)),
        _ => {}
    }
    let unit = units(text).pop().filter(|unit| unit.bytes.end == text.len())?;
    match unit.kind {
        Kind::Word => Some((unit.bytes.start, Typing::Word)),
        Kind::Unspaced => Some((start, Typing::Unspaced { run: unit.bytes.start })),
        Kind::Tag => Some((unit.bytes.start, Typing::Tag)),
        Kind::Mention => Some((unit.bytes.start, Typing::Mention)),
        Kind::Cashtag | Kind::Link | Kind::Emoji => None,
    }
}

/// Without case, accents and compatibility forms.
pub fn folded(text: &str) -> String {
    fold(text)
}

/// The form under which the index holds `text` as a word; `None` unless it is exactly one word.
pub fn single_word(text: &str) -> Option<String> {
    let found = units(text);
    let [unit] = found.as_slice() else { return None };
    (unit.kind == Kind::Word && unit.bytes == (0..text.len()))
        .then(|| tokens(text, Family::Other, Purpose::Phrase).into_iter().next().map(|token| token.text))?
}

/// Whether `word`, in lower case, is too frequent to say anything.
pub fn is_stop_word(word: &str) -> bool {
    stop::english(word) || stop::french(word)
}

/// The English stem of a word: two words with one stem find the same posts.
pub fn stem(word: &str) -> String {
    tokens(word, Family::English, Purpose::Phrase).into_iter().map(|token| token.text).collect()
}

/// How `text` writes the word that the index holds as `word`, in lower case.
pub fn spelling(text: &str, word: &str) -> Option<String> {
    let of_word = |kind| matches!(kind, Kind::Word);
    let written = units(text).into_iter().filter(|unit| of_word(unit.kind)).map(|unit| &text[unit.bytes]);
    written.filter(|written| single_word(written).as_deref() == Some(word)).map(str::to_lowercase).next()
}

/// The words of `text` that start with `prefix` (folded), each once, without stop words.
pub fn words_starting(text: &str, prefix: &str) -> Vec<String> {
    let mut words: Vec<String> = tokens(text, Family::Other, Purpose::Index)
        .into_iter()
        .filter(|token| token.word && !token.stop && token.text.starts_with(prefix))
        .map(|token| token.text)
        .collect();
    words.sort_unstable();
    words.dedup();
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_being_typed() {
        for (text, expected) in [
            ("nasal spr", Some((6, Typing::Word))),
            ("nasal ", None),
            ("", None),
            ("a #", Some((2, Typing::Tag))),
            ("a #Sle", Some((2, Typing::Tag))),
            ("a#", None),
            ("@", Some((0, Typing::Mention))),
            ("(@bo", Some((1, Typing::Mention))),
            ("me@x", Some((3, Typing::Word))),
            ("\"flu sh", Some((5, Typing::Word))),
            ("a 大事な睡", Some((11, Typing::Unspaced { run: 2 }))),
            ("é", Some((0, Typing::Word))),
            ("sleep 😀", None),
            ("https://x.org/a", None),
            ("$AAPL", None),
            ("don'", None),
        ] {
            assert_eq!(typing(text), expected, "{text}");
        }
    }

    #[test]
    fn spellings_are_those_of_words_alone() {
        assert_eq!(spelling("Un Café à Paris", "cafe").as_deref(), Some("café"));
        assert_eq!(spelling("I DON'T know", "dont").as_deref(), Some("don't"));
        assert_eq!(spelling("only #Cafe and https://cafe.org", "cafe"), None);
        assert_eq!(single_word("Café").as_deref(), Some("cafe"));
        assert_eq!(single_word("two words"), None);
        assert_eq!(single_word("#tag"), None);
        assert_eq!(
            words_starting("The #WeightLoss week, weighty weeks", "we"),
            ["week", "weeks", "weight", "weightloss", "weighty"]
        );
        assert_eq!(stem("vaccines"), stem("vaccine"));
    }
}
