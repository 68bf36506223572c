//! Surface units of a text: words, numbers, tags, mentions, cashtags, links, emoji, runs without spaces.

use std::ops::Range;

use crate::fold::{is_apostrophe, is_emoji, is_emoji_variation, is_regional, is_unspaced, is_word};

/// What a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A word or a number, with inner apostrophes, decimal points and thousands separators.
    Word,
    /// `#tag`.
    Tag,
    /// `@account`.
    Mention,
    /// `$SYMBOL`.
    Cashtag,
    /// A link.
    Link,
    /// One emoji with its modifiers.
    Emoji,
    /// Letters of a script without spaces.
    Unspaced,
}

/// One unit and its bytes in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub kind: Kind,
    pub bytes: Range<usize>,
}

/// The units of `text`, in order, not overlapping.
pub(crate) fn units(text: &str) -> Vec<Unit> {
    let mut found = Vec::with_capacity(text.len() / 6);
    let mut at = 0;
    let mut before = None;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        let inside = before.is_some_and(is_word);
        let unit = match c {
            'h' | 'H' | 'w' | 'W' if !inside => link(rest).map(|length| (Kind::Link, length)),
            '#' | '＃' if !inside => sigil(rest).map(|length| (Kind::Tag, length)),
            '@' | '＠' if !inside => sigil(rest).map(|length| (Kind::Mention, length)),
            '$' if !inside => cashtag(rest).map(|length| (Kind::Cashtag, length)),
            c if is_emoji(c) => Some((Kind::Emoji, emoji(rest))),
            _ => None,
        };
        let unit = unit.or_else(|| {
            if is_unspaced(c) {
                Some((Kind::Unspaced, rest.find(|c| !is_unspaced(c)).unwrap_or(rest.len())))
            } else if c.is_alphanumeric() {
                Some((Kind::Word, word(rest)))
            } else {
                None
            }
        });
        let length = unit.as_ref().map_or(c.len_utf8(), |(_, length)| *length);
        if let Some((kind, length)) = unit {
            found.push(Unit { kind, bytes: at..at + length });
        }
        at += length;
        before = text[..at].chars().next_back();
    }
    found
}

fn link(rest: &str) -> Option<usize> {
    let scheme = ["https://", "http://", "www."].into_iter().find(|scheme| {
        rest.as_bytes().get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes()))
    })?;
    let ends =
        |c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | '"' | '“' | '”' | '…');
    let link = &rest[..rest.find(ends).unwrap_or(rest.len())];
    let link = link.trim_end_matches(['.', ',', ';', ':', '!', '?', ')', ']', '}', '\'', '’']);
    (link.len() > scheme.len()).then_some(link.len())
}

/// Length of a sigil and the name after it, as in `Post::validated`.
fn sigil(rest: &str) -> Option<usize> {
    let sigil = rest.chars().next()?.len_utf8();
    let name = rest[sigil..].find(|c: char| !is_word(c) && c != '_').unwrap_or(rest.len() - sigil);
    (name > 0).then_some(sigil + name)
}

fn cashtag(rest: &str) -> Option<usize> {
    let letters = rest[1..].find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len() - 1);
    let after = rest[1 + letters..].chars().next();
    ((1..=6).contains(&letters) && !after.is_some_and(is_word)).then_some(1 + letters)
}

fn emoji(rest: &str) -> usize {
    let mut characters = rest.char_indices().peekable();
    let first = characters.next().map(|(_, c)| c);
    let mut flag = first.is_some_and(is_regional);
    while let Some(&(at, c)) = characters.peek() {
        if is_emoji_variation(c) || matches!(u32::from(c), 0xe_0020..=0xe_007f) {
            characters.next();
        } else if c == '\u{200d}' {
            characters.next();
            match characters.peek() {
                Some(&(_, joined)) if is_emoji(joined) => characters.next(),
                _ => return at,
            };
        } else if flag && is_regional(c) {
            flag = false;
            characters.next();
        } else {
            return at;
        }
    }
    rest.len()
}

fn word(rest: &str) -> usize {
    if let Some(length) = initials(rest) {
        return length;
    }
    let mut end = 0;
    while let Some(c) = rest[end..].chars().next() {
        if is_word(c) && !is_unspaced(c) && !is_emoji(c) {
            end += c.len_utf8();
            continue;
        }
        let mut after = rest[end + c.len_utf8()..].chars();
        let last = rest[..end].chars().next_back();
        let next = after.next();
        let digits = last.is_some_and(|c| c.is_ascii_digit()) && next.is_some_and(|c| c.is_ascii_digit());
        let joins = match c {
            c if is_apostrophe(c) => next.is_some_and(|c| c.is_alphabetic() && !is_unspaced(c)),
            '.' => digits,
            ',' => digits && thousands(&rest[end + 1..]),
            // Joiners inside Persian and Indic words, and soft hyphens.
            '\u{200c}' | '\u{200d}' | '\u{ad}' => next.is_some_and(is_word),
            _ => false,
        };
        if !joins {
            break;
        }
        end += c.len_utf8();
    }
    end
}

/// Whether exactly three digits follow, as after the comma of `1,000`.
fn thousands(rest: &str) -> bool {
    rest.bytes().take_while(u8::is_ascii_digit).count() == 3
}

/// Length of `U.S.` or `e.g.`: at least two single letters, each with its dot but perhaps the last.
fn initials(rest: &str) -> Option<usize> {
    let bytes = rest.as_bytes();
    let letter = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_alphabetic);
    let mut end = 0;
    while letter(end) && bytes.get(end + 1) == Some(&b'.') {
        end += 2;
    }
    // `U.S` without the last dot; in `J.Smith` the name is a word of its own.
    let next = rest[end..].chars().nth(1);
    if end >= 2 && letter(end) && !next.is_some_and(|c| is_word(c) || is_apostrophe(c)) {
        return Some(end + 1);
    }
    let follows = rest[end..].chars().next();
    (end >= 4 && !follows.is_some_and(is_word)).then(|| end - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(Kind, &str)]) {
        let found: Vec<_> = units(text).into_iter().map(|unit| (unit.kind, &text[unit.bytes])).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn units_of_posts() {
        use Kind::{Cashtag, Emoji, Link, Mention, Tag, Unspaced, Word};
        check("", &[]);
        check("... !? -", &[]);
        check(
            "Don't stop, James’s dog's",
            &[(Word, "Don't"), (Word, "stop"), (Word, "James’s"), (Word, "dog's")],
        );
        check("the students' 'quoted'", &[(Word, "the"), (Word, "students"), (Word, "quoted")]);
        check(
            "3.5 of 1,000 or 1,00 v2.0.",
            &[
                (Word, "3.5"),
                (Word, "of"),
                (Word, "1,000"),
                (Word, "or"),
                (Word, "1"),
                (Word, "00"),
                (Word, "v2.0"),
            ],
        );
        check(
            "U.S. e.g. U.K, J.Smith a.b",
            &[(Word, "U.S"), (Word, "e.g"), (Word, "U.K"), (Word, "J"), (Word, "Smith"), (Word, "a.b")],
        );
        check(
            "(#Sleep) #a_b @Bob: me@x.org a#b # @",
            &[
                (Tag, "#Sleep"),
                (Tag, "#a_b"),
                (Mention, "@Bob"),
                (Word, "me"),
                (Word, "x"),
                (Word, "org"),
                (Word, "a"),
                (Word, "b"),
            ],
        );
        check(
            "$AAPL $5 $LONGERNAME US$10",
            &[(Cashtag, "$AAPL"), (Word, "5"), (Word, "LONGERNAME"), (Word, "US"), (Word, "10")],
        );
        check(
            "see (https://a.example/x?y=1#z). WWW.b.example http:// www.",
            &[
                (Word, "see"),
                (Link, "https://a.example/x?y=1#z"),
                (Link, "WWW.b.example"),
                (Word, "http"),
                (Word, "www"),
            ],
        );
        check(
            "hi😀👍🏽 👩‍🚀❤️🇫🇷🇩🇪",
            &[
                (Word, "hi"),
                (Emoji, "😀"),
                (Emoji, "👍🏽"),
                (Emoji, "👩‍🚀"),
                (Emoji, "❤️"),
                (Emoji, "🇫🇷"),
                (Emoji, "🇩🇪"),
            ],
        );
        check("睡眠は大事 iPhone版", &[(Unspaced, "睡眠は大事"), (Word, "iPhone"), (Unspaced, "版")]);
        check("l’homme हिन्दी", &[(Word, "l’homme"), (Word, "हिन्दी")]);
    }

    #[test]
    fn units_never_split_a_character() {
        let odd = "\u{200d}'\u{300}a\u{300}#\u{200d}$é.,'’＃＠é h\u{0}ht http://é 1,234,567.89 ’s \u{fe0f}";
        for start in odd.char_indices().map(|(at, _)| at) {
            let text = &odd[start..];
            let mut end = 0;
            for unit in units(text) {
                assert!(
                    unit.bytes.start >= end
                        && text.get(unit.bytes.clone()).is_some_and(|unit| !unit.is_empty())
                );
                end = unit.bytes.end;
            }
        }
    }
}
