//! Which queries may be remembered at all.

use crate::{Node, parse};

/// Longest query that is remembered, in characters.
const MAX_CHARS: usize = 80;
/// Longest word of one: longer ones are keys, tokens and addresses.
const MAX_WORD_CHARS: usize = 30;
/// Most digits of one: a year, but no telephone, card or order number.
const MAX_DIGITS: usize = 4;

/// `text` in the form in which it is remembered (lower case, single spaces), or `None` when it must not be.
///
/// Only plain words and hashtags are: a query with an operator, an account, a phrase or a negation is not, nor one that
/// looks like an address, a link, a number or a key, or is longer than 80 characters.
pub fn loggable(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let plain = words.join(" ").to_lowercase();
    let digits = plain.chars().filter(|c| c.is_numeric()).count();
    let letters = plain.chars().any(char::is_alphabetic);
    let private = |word: &&str| {
        word.contains(['@', '＠', '\\', '/', '=', '%'])
            || word.contains("www.")
            || word.chars().count() > MAX_WORD_CHARS
    };
    if plain.chars().count() > MAX_CHARS
        || digits > MAX_DIGITS
        || !letters
        || plain.chars().any(|c| c.is_control() || is_invisible(c))
        || words.iter().any(private)
    {
        return None;
    }
    let tree = parse(text).ok()?;
    let parts = match &tree {
        Node::All(parts) => parts.as_slice(),
        part => std::slice::from_ref(part),
    };
    parts.iter().all(|part| matches!(part, Node::Word(_) | Node::Tag(_))).then_some(plain)
}

/// Characters that make a text look like another one.
fn is_invisible(c: char) -> bool {
    matches!(u32::from(c), 0x200b | 0x200e..=0x200f | 0x202a..=0x202e | 0x2060..=0x2069 | 0xfeff | 0xe_0000..=0xe_0fff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_queries_are_remembered() {
        let check =
            |text: &str, expected: Option<&str>| assert_eq!(loggable(text).as_deref(), expected, "{text}");
        check("  Flu   Shot ", Some("flu shot"));
        check("#Sleep tips 2014", Some("#sleep tips 2014"));
        check("café crème", Some("café crème"));
        check("睡眠", Some("睡眠"));
        for private in [
            "",
            "   ",
            "12345",
            "2014",
            "call 555 1234",
            "+33 6 12 34 56 78",
            "ann@example.org",
            "mail ann＠example.org",
            "@ann",
            "flu @ann",
            "from:ann",
            "flu from:ann",
            "to:ann x",
            "since:2014-01-01 flu",
            "-flu",
            "\"ann smith\"",
            "cats OR dogs",
            "(cats)dogs from:x",
            "https://example.org/reset?token=a",
            "www.example.org",
            "a\u{0}b",
            "sk_live_abcdefghijklmnopqrstuvwxyzABCDEF",
            "٠١٢٣٤٥٦٧ رقم",
            "a\u{202e}b",
            "path/to",
            "key=value",
            "\"open",
        ] {
            check(private, None);
        }
        check(&"flu ".repeat(20), Some("flu ".repeat(20).trim_end()));
        check(&"flu ".repeat(21), None);
    }
}
