//! The form in which text is compared: normalised, cut into tokens, stemmed.
//!
//! Nothing here is shown to anybody: quotes come from the post itself. Two texts that look alike to a reader
//! should be equal here, and two that differ in a digit should not: what cannot be read safely (a letter inside
//! a number, say) becomes a [`Kind::Code`] that only matches itself.

use std::collections::{BTreeSet, HashSet};
use std::sync::LazyLock;

use frostem::{Algorithm, Stemmer};
use unicode_normalization::UnicodeNormalization;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Letters.
    Word,
    /// Decimal digits, with separators.
    Number,
    /// Letters and digits mixed, such as `H1N1` or `1O0`: comparable only as a whole.
    Code,
    /// `#tag`, kept without the sigil.
    Tag,
    /// `@mention`, kept without the sigil.
    Mention,
    /// A URL.
    Link,
}

/// One token of normalised text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// What it is.
    pub kind: Kind,
    /// Normalised text in its own case, without sigil, possessive ending, currency and sign.
    pub text: String,
    /// Stem of the lower-cased text for words, the lower-cased text otherwise.
    pub stem: String,
    /// Currency symbol before a number, or the percent sign after it.
    pub symbol: Option<char>,
    /// Letters directly after a number: `mg`, `k`, `th`.
    pub suffix: String,
    /// A minus sign stands before a number.
    pub negative: bool,
}

impl Token {
    /// The text in lower case.
    pub fn lower(&self) -> String {
        self.text.to_lowercase()
    }
}

/// NFKC with invisible characters removed, digits of every script as ASCII, and quotes and dashes unified.
/// Letter case is kept.
pub(crate) fn normal(text: &str) -> String {
    let folded: String = text.nfkc().filter(|c| !is_invisible(*c)).map(plain).collect();
    // Removing a joiner can bring a letter and its accent together.
    folded.nfkc().collect()
}

/// Whether a character has no width of its own: controls (but white space), joiners, direction marks, variation
/// selectors, tags, soft hyphens.
pub(crate) fn is_invisible(c: char) -> bool {
    (c.is_control() && !c.is_whitespace())
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Code point of the zero of each decimal digit range that NFKC leaves alone.
const ZEROS: [u32; 20] = [
    0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0,
    0xf20, 0x1040, 0x1090, 0x17e0, 0x1810,
];

fn plain(c: char) -> char {
    match c {
        '\u{2018}' | '\u{2019}' | '\u{201b}' | '\u{2032}' | '\u{2bc}' | '`' | '\u{b4}' => '\'',
        '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{2033}' | '«' | '»' => '"',
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{2043}' => '-',
        '\u{66a}' => '%',
        _ if c.is_ascii() => c,
        _ => {
            let code = u32::from(c);
            let digit =
                ZEROS.iter().find(|zero| (**zero..**zero + 10).contains(&code)).map(|zero| code - zero);
            digit.and_then(|d| char::from_digit(d, 10)).unwrap_or(c)
        }
    }
}

/// Latin letter that looks the same, for letters of other scripts.
fn lookalike(c: char) -> char {
    const PAIRS: [(&str, &str); 2] = [
        ("АВЕЅІЈКМНОРСТУХасеіјорѕухԁԛԝһѵɡ", "ABESIJKMHOPCTYXaceijopsyxdqwhvg"),
        ("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧαινορυγχ", "ABEZHIKMNOPTYXaivopuyx"),
    ];
    for (from, to) in PAIRS {
        if let Some(at) = from.chars().position(|x| x == c) {
            return to.chars().nth(at).unwrap_or(c);
        }
    }
    c
}

/// A word that mixes Latin letters with lookalikes of another script is read as Latin; a word wholly in another
/// script stays what it is.
fn fold_lookalikes(word: &str) -> String {
    if word.is_ascii() || !word.chars().any(|c| c.is_ascii_alphabetic()) {
        return word.to_owned();
    }
    word.chars().map(lookalike).collect()
}

/// The tokens of a text, normalised.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = normal(text).chars().collect();
    let stemmer = Stemmer::new(Algorithm::English);
    let mut found = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        at = if let Some(end) = link_end(&chars, at) {
            let text: String = chars[at..end].iter().collect();
            let text = text.trim_end_matches(['.', ',', ')', ';', '!', '?', ':', '\u{2026}', '"', '\'']);
            found.push(bare(Kind::Link, text.to_owned(), text.to_lowercase()));
            end
        } else if matches!(chars[at], '#' | '@')
            && !preceded_by_word(&chars, at)
            && name_end(&chars, at + 1) > at + 1
        {
            let end = name_end(&chars, at + 1);
            let text: String = chars[at + 1..end].iter().collect();
            let kind = if chars[at] == '#' { Kind::Tag } else { Kind::Mention };
            let stem = text.to_lowercase();
            found.push(bare(kind, text, stem));
            end
        } else if chars[at].is_ascii_digit() {
            number(&chars, at, &mut found)
        } else if chars[at].is_alphabetic() {
            word(&chars, at, stemmer, &mut found)
        } else {
            at + 1
        };
    }
    found
}

fn bare(kind: Kind, text: String, stem: String) -> Token {
    Token { kind, text, stem, symbol: None, suffix: String::new(), negative: false }
}

fn preceded_by_word(chars: &[char], at: usize) -> bool {
    at > 0 && chars[at - 1].is_alphanumeric()
}

fn name_end(chars: &[char], from: usize) -> usize {
    from + chars[from..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count()
}

fn link_end(chars: &[char], at: usize) -> Option<usize> {
    if preceded_by_word(chars, at) || !matches!(chars[at].to_ascii_lowercase(), 'h' | 'w') {
        return None;
    }
    let starts = |prefix: &str| {
        prefix
            .chars()
            .enumerate()
            .all(|(i, p)| chars.get(at + i).is_some_and(|c| c.to_ascii_lowercase() == p))
    };
    if !(starts("http://") || starts("https://") || starts("http:/") || starts("www.")) {
        return None;
    }
    Some(at + chars[at..].iter().take_while(|c| !c.is_whitespace()).count())
}

/// Reads digits with their separators, the letters stuck to them, the currency or minus before and a percent sign
/// after. Returns where reading goes on.
fn number(chars: &[char], from: usize, found: &mut Vec<Token>) -> usize {
    let mut end = from;
    while end < chars.len()
        && (chars[end].is_ascii_digit()
            || (matches!(chars[end], '.' | ',') && chars.get(end + 1).is_some_and(char::is_ascii_digit)))
    {
        end += 1;
    }
    let digits_end = end;
    while end < chars.len() && chars[end].is_alphanumeric() {
        end += 1;
    }
    let digits: String = chars[from..digits_end].iter().collect();
    let suffix: String = chars[digits_end..end].iter().collect::<String>().to_lowercase();
    if suffix.chars().any(|c| !c.is_ascii_alphabetic()) {
        let text = fold_lookalikes(&chars[from..end].iter().collect::<String>());
        let stem = text.to_lowercase();
        found.push(bare(Kind::Code, text, stem));
        return end;
    }
    let mut before = from;
    let mut symbol = None;
    if before > 0 && matches!(chars[before - 1], '$' | '€' | '£' | '¥' | '₹') {
        symbol = Some(chars[before - 1]);
        before -= 1;
    }
    let negative = before > 0
        && chars[before - 1] == '-'
        && (before == 1 || chars[before - 2].is_whitespace() || matches!(chars[before - 2], '(' | '"' | ':'));
    if chars.get(end) == Some(&'%') {
        symbol = Some('%');
        end += 1;
    }
    found.push(Token { kind: Kind::Number, stem: digits.clone(), text: digits, symbol, suffix, negative });
    end
}

/// Reads letters, inner apostrophes and the dots of an initialism. Returns where reading goes on.
fn word(chars: &[char], from: usize, stemmer: Stemmer, found: &mut Vec<Token>) -> usize {
    let letter = |at: usize| chars.get(at).is_some_and(|c| c.is_alphabetic());
    // U.S. or U.S: single letters, each followed by a dot.
    if chars.get(from + 1) == Some(&'.') && letter(from + 2) && !letter(from + 3) {
        let mut text = String::new();
        let mut at = from;
        while letter(at) && !letter(at + 1) {
            text.push(chars[at]);
            at += 1;
            if chars.get(at) != Some(&'.') {
                break;
            }
            at += 1;
        }
        let text = fold_lookalikes(&text).to_uppercase();
        let stem = text.to_lowercase();
        found.push(bare(Kind::Word, text, stem));
        return at;
    }
    let mut end = from;
    let mut digits = false;
    while end < chars.len() {
        let c = chars[end];
        let inner_apostrophe = c == '\'' && letter(end + 1);
        let mark = unicode_normalization::char::is_combining_mark(c);
        if !(c.is_alphanumeric() || inner_apostrophe || mark || c == '_') {
            break;
        }
        digits |= c.is_numeric();
        end += 1;
    }
    let whole = fold_lookalikes(&chars[from..end].iter().collect::<String>());
    let text = whole.strip_suffix("'s").or_else(|| whole.strip_suffix("'S")).unwrap_or(&whole).to_owned();
    let lower = text.to_lowercase();
    if digits {
        found.push(bare(Kind::Code, text, lower));
    } else {
        let stem = stemmer.stem(&lower).to_string();
        found.push(bare(Kind::Word, text, stem));
    }
    end
}

/// Words that carry no claim: they may be added or left out freely.
static FUNCTION_WORDS: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    "a about according after also although am an and any are as at be been being but by can cent could did do \
     does doing during each else for from get gets got had has have having he her here hers him his how i if \
     in into is it its itself just let may me might my of off on or our ours out over own pct per percent \
     percentage rt said say saying says shall she should so some such than that the their theirs them then \
     there these they this those through to too under until upon us very via was we were what when where \
     whether which while who whom whose why will with within would you your yours"
        .split_whitespace()
        .collect()
});

/// The words that carry no claim, in lower case, in no order.
pub(crate) fn function_words() -> impl Iterator<Item = &'static str> {
    FUNCTION_WORDS.iter().copied()
}

/// Whether a lower-case word carries no claim.
pub(crate) fn is_function_word(lower: &str) -> bool {
    FUNCTION_WORDS.contains(lower)
}

/// Stems of the words that carry meaning, in order. Tags contribute the words written in them.
pub(crate) fn content_stems(tokens: &[Token]) -> Vec<String> {
    let mut stems = Vec::new();
    for token in tokens {
        match token.kind {
            Kind::Word => {
                let lower = token.lower();
                if !is_function_word(&lower)
                    && !crate::facts::is_negation(&lower)
                    && lower.chars().count() > 1
                {
                    stems.push(token.stem.clone());
                }
            }
            Kind::Code => stems.push(token.stem.clone()),
            Kind::Tag => stems.extend(tag_stems(&token.text)),
            Kind::Number | Kind::Mention | Kind::Link => {}
        }
    }
    stems
}

/// The stem of a tag as one word, and of each word when it is written as `BackPain` or `back_pain`.
fn tag_stems(tag: &str) -> Vec<String> {
    let stemmer = Stemmer::new(Algorithm::English);
    let mut words = vec![String::new()];
    let mut lower_before = false;
    for c in tag.chars() {
        if c == '_' || (c.is_uppercase() && lower_before) {
            words.push(String::new());
        }
        lower_before = c.is_lowercase();
        if c != '_'
            && let Some(last) = words.last_mut()
        {
            last.extend(c.to_lowercase());
        }
    }
    words.retain(|w| w.chars().count() > 1 && !is_function_word(w));
    words.iter().map(|w| stemmer.stem(w).to_string()).collect()
}

/// Shared share of two sets of stems: size of the intersection over size of the union; 0 when both are empty.
pub(crate) fn jaccard(a: &BTreeSet<String>, b: &BTreeSet<String>) -> f32 {
    let shared = a.intersection(b).count();
    let all = a.len() + b.len() - shared;
    if all == 0 { 0.0 } else { shared as f32 / all as f32 }
}

/// Share of `part` that is in `whole`; 0 when `part` is empty.
pub(crate) fn containment(part: &BTreeSet<String>, whole: &BTreeSet<String>) -> f32 {
    if part.is_empty() { 0.0 } else { part.intersection(whole).count() as f32 / part.len() as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        tokens(text).into_iter().map(|t| t.text).collect()
    }

    #[test]
    fn function_words_are_whole_words() {
        assert!(is_function_word("yours") && is_function_word("a") && is_function_word("percent"));
        assert!(!is_function_word("coffee") && !is_function_word(""));
    }

    #[test]
    fn what_looks_alike_is_equal() {
        for (odd, same) in [
            ("cof\u{200b}fee", "coffee"),
            ("co\u{ad}ffee", "coffee"),
            ("\u{421}offee", "Coffee"), // Cyrillic Es
            ("ｃｏｆｆｅｅ", "coffee"),
            ("don\u{2019}t", "don't"),
            ("\u{661}\u{662}", "12"), // Arabic-Indic digits
            ("２０", "20"),
            ("caf\u{200d}e\u{301}", "café"),
        ] {
            assert_eq!(texts(odd), texts(same), "{odd:?}");
        }
        assert_ne!(texts("кофе"), texts("kophe"), "a word wholly in another script stays");
    }

    #[test]
    fn tokens_keep_what_belongs_together() {
        let kinds: Vec<(Kind, String)> =
            tokens("U.S. #BackPain @FDA's 20-minute H1N1 women's http://t.co/A?b=C, $1.5M -5% 1O0 me@x.org")
                .into_iter()
                .map(|t| (t.kind, t.text))
                .collect();
        let expected = [
            (Kind::Word, "US"),
            (Kind::Tag, "BackPain"),
            (Kind::Mention, "FDA"),
            (Kind::Word, "s"),
            (Kind::Number, "20"),
            (Kind::Word, "minute"),
            (Kind::Code, "H1N1"),
            (Kind::Word, "women"),
            (Kind::Link, "http://t.co/A?b=C"),
            (Kind::Number, "1.5"),
            (Kind::Number, "5"),
            (Kind::Code, "1O0"),
            (Kind::Word, "me"),
            (Kind::Word, "x"),
            (Kind::Word, "org"),
        ];
        let expected: Vec<(Kind, String)> = expected.iter().map(|(k, t)| (*k, (*t).to_owned())).collect();
        assert_eq!(kinds, expected);
        let numbers: Vec<Token> = tokens("$1.5M \u{2212}5% 1О0").into_iter().collect();
        assert_eq!((numbers[0].symbol, numbers[0].suffix.as_str()), (Some('$'), "m"));
        assert_eq!((numbers[1].symbol, numbers[1].negative), (Some('%'), true));
        assert_eq!(numbers[2].kind, Kind::Code, "a Cyrillic letter among digits is no number");
    }

    #[test]
    fn content_is_stemmed_and_tags_are_opened() {
        assert_eq!(
            content_stems(&tokens("The risks of #BackPain and running")),
            ["risk", "back", "pain", "run"]
        );
        assert!(content_stems(&tokens("he said that it is")).is_empty());
    }

    #[test]
    fn odd_text_never_panics() {
        for odd in [
            "",
            "#",
            "@",
            "$",
            "-",
            "%",
            "1.",
            ".1",
            "U.",
            "'",
            "a'",
            "#\u{200b}x",
            "http://",
            "\u{301}",
            "🙂1🙂a",
        ] {
            let _ = content_stems(&tokens(odd));
        }
    }
}
