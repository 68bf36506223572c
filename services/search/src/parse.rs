//! The query language: text to a tree, and back.
//!
//! ```text
//! query    = all *( "OR" all )
//! all      = 1*( [ "-" ] part )
//! part     = "(" query ")" / near / phrase / operator / "#" name / "@" name / prefix / word
//! phrase   = quote text quote
//! near     = phrase "~" 1*3DIGIT              ; nothing between the quote and "~", and no more text after the digits
//! operator = name ":" ( value / phrase )      ; from to since until lang min_likes min_reposts
//!                                             ; min_replies has is attr.NAME, in any case
//! prefix   = 1*char "*"                       ; with a letter or digit, and no other "*"
//! name     = 1*( letter / digit / "_" )
//! value    = 1*char
//! word     = 1*char
//! char     = any character but white space, a quote, "(" and ")"
//! quote    = U+0022 / U+201C / U+201D / U+201E ; any closes any: keyboards put in what they like
//! ```
//!
//! Parts are told apart in the order of the rule. `-` negates only right before a part that does not start with
//! `-` or `)`; anywhere else it is in a word. Upper-case `OR` joins alternatives and binds less than standing side by
//! side; parentheses group. A phrase without a character in it is dropped. An operator with an unknown name, or with
//! nothing after the colon, is a word. What does not parse (an open quote, an open parenthesis, nothing beside an
//! `OR`, nesting past [`MAX_DEPTH`], more than [`MAX_PARTS`]) is an error here, and plain words to the caller.

use std::fmt;

/// Deepest nesting of parentheses. A level is a negation, alternatives and parts side by side, and the filter made
/// of them must stay within [`bowerbird_live::MAX_FILTER_DEPTH`].
pub const MAX_DEPTH: usize = 8;
/// Most parts of one query; one with more is refused.
pub const MAX_PARTS: usize = 128;

/// One part of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A plain word: it ranks.
    Word(String),
    /// Words that must stand together.
    Phrase(String),
    /// `"words"~within`: words that stand near each other, in any order.
    Near {
        /// The words.
        text: String,
        /// Most other words between the first and the last.
        within: u16,
    },
    /// `beginning*`
    Prefix(String),
    /// `#name`
    Tag(String),
    /// `@name`
    Mention(String),
    /// `name:value`
    Operator {
        /// Name before the colon, lower case.
        name: String,
        /// Value after the colon, quotes removed.
        value: String,
    },
    /// `-part`
    Not(Box<Node>),
    /// Parts side by side.
    All(Vec<Node>),
    /// Alternatives.
    Any(Vec<Node>),
}

/// Why a text is not a query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A `"` without its partner.
    #[error("a quote is not closed")]
    OpenQuote,
    /// A `(` without its partner.
    #[error("a parenthesis is not closed")]
    OpenParenthesis,
    /// A `)` without its partner.
    #[error("a parenthesis closes nothing")]
    StrayParenthesis,
    /// `OR` with nothing on one side, or `()`.
    #[error("OR or a parenthesis has nothing to join")]
    Nothing,
    /// Parentheses nested too deep.
    #[error("parentheses are nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// Too many parts.
    #[error("the query has more than {MAX_PARTS} parts")]
    TooMany,
}

/// The names that stand before a colon; any other `a:b` is a word.
const OPERATORS: [&str; 10] =
    ["from", "to", "since", "until", "lang", "min_likes", "min_reposts", "min_replies", "has", "is"];

/// Parses `text`.
pub fn parse(text: &str) -> Result<Node, ParseError> {
    let tokens = tokenize(text)?;
    let mut parser = Parser { tokens: &tokens, at: 0 };
    let node = parser.any(0)?;
    match parser.peek() {
        None => Ok(node),
        Some(_) => Err(ParseError::StrayParenthesis),
    }
}

#[derive(Debug, PartialEq)]
enum Token {
    Open,
    Close,
    Or,
    Minus,
    Part(Node),
}

fn tokenize(text: &str) -> Result<Vec<Token>, ParseError> {
    let mut tokens = Vec::new();
    let mut parts = 0;
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        if parts > MAX_PARTS || tokens.len() > 4 * MAX_PARTS {
            return Err(ParseError::TooMany);
        }
        let (token, len) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            c if is_quote(c) => {
                let (text, len) = quoted(rest)?;
                match within(&rest[len..]) {
                    Some((within, more)) => (Token::Part(Node::Near { text, within }), len + more),
                    None => (Token::Part(Node::Phrase(text)), len),
                }
            }
            '-' if rest[1..].starts_with(|c: char| !c.is_whitespace() && c != '-' && c != ')') => {
                (Token::Minus, 1)
            }
            _ => bare(rest)?,
        };
        let empty =
            matches!(&token, Token::Part(Node::Phrase(text) | Node::Near { text, .. }) if text.is_empty());
        if !empty {
            parts += usize::from(matches!(token, Token::Part(_)));
            tokens.push(token);
        }
        rest = rest[len..].trim_start();
    }
    if parts > MAX_PARTS { Err(ParseError::TooMany) } else { Ok(tokens) }
}

fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\u{201c}' | '\u{201d}' | '\u{201e}')
}

/// What ends a word.
fn is_end(c: char) -> bool {
    c.is_whitespace() || is_quote(c) || matches!(c, '(' | ')')
}

/// The text between quotes and the bytes it took, quotes included.
fn quoted(rest: &str) -> Result<(String, usize), ParseError> {
    let first = rest.chars().next().map_or(0, char::len_utf8);
    let (inner, after) = rest[first..].split_once(is_quote).ok_or(ParseError::OpenQuote)?;
    Ok((inner.split_whitespace().collect::<Vec<_>>().join(" "), rest.len() - after.len()))
}

/// The number of a `~5` that `rest` starts with and the bytes it took.
fn within(rest: &str) -> Option<(u16, usize)> {
    let number = rest.strip_prefix('~')?;
    let digits = number.find(is_end).unwrap_or(number.len());
    let number = &number[..digits];
    let fits = (1..=3).contains(&digits) && number.bytes().all(|b| b.is_ascii_digit());
    fits.then(|| Some((number.parse().ok()?, digits + 1))).flatten()
}

/// A token that starts with neither a parenthesis nor a quote, and the bytes it took.
fn bare(rest: &str) -> Result<(Token, usize), ParseError> {
    let end = rest.find(is_end).unwrap_or(rest.len());
    let word = &rest[..end];
    if word == "OR" {
        return Ok((Token::Or, end));
    }
    if let Some((name, value)) = word.split_once(':') {
        let lower = name.to_lowercase();
        let known =
            OPERATORS.contains(&lower.as_str()) || lower.strip_prefix("attr.").is_some_and(|n| !n.is_empty());
        if known && !value.is_empty() {
            let operator = Node::Operator { name: lower, value: value.to_owned() };
            return Ok((Token::Part(operator), end));
        }
        if known && rest[end..].starts_with(is_quote) {
            let (value, len) = quoted(&rest[end..])?;
            if !value.is_empty() {
                return Ok((Token::Part(Node::Operator { name: lower, value }), end + len));
            }
        }
    }
    let name =
        |sigil| word.strip_prefix(sigil).filter(|n| n.chars().all(|c| c.is_alphanumeric() || c == '_'));
    let node = match (name('#'), name('@')) {
        (Some(tag), _) if !tag.is_empty() => Node::Tag(tag.to_owned()),
        (_, Some(user)) if !user.is_empty() => Node::Mention(user.to_owned()),
        _ => match word.strip_suffix('*') {
            Some(start) if start.contains(char::is_alphanumeric) && !start.contains('*') => {
                Node::Prefix(start.to_owned())
            }
            _ => Node::Word(word.to_owned()),
        },
    };
    Ok((Token::Part(node), end))
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn any(&mut self, depth: usize) -> Result<Node, ParseError> {
        if depth > MAX_DEPTH {
            return Err(ParseError::TooDeep);
        }
        let mut options = vec![self.all(depth)?];
        while self.peek() == Some(&Token::Or) {
            self.at += 1;
            options.push(self.all(depth)?);
        }
        Ok(one_or(options, Node::Any))
    }

    fn all(&mut self, depth: usize) -> Result<Node, ParseError> {
        let mut parts = Vec::new();
        while let Some(token) = self.tokens.get(self.at) {
            if matches!(token, Token::Or | Token::Close) {
                break;
            }
            let negative = *token == Token::Minus;
            self.at += usize::from(negative);
            let part = self.part(depth)?;
            parts.push(if negative { Node::Not(Box::new(part)) } else { part });
        }
        if parts.is_empty() { Err(ParseError::Nothing) } else { Ok(one_or(parts, Node::All)) }
    }

    fn part(&mut self, depth: usize) -> Result<Node, ParseError> {
        let token = self.tokens.get(self.at).ok_or(ParseError::Nothing)?;
        self.at += 1;
        match token {
            Token::Part(node) => Ok(node.clone()),
            Token::Open => {
                let inner = self.any(depth + 1)?;
                if self.peek() == Some(&Token::Close) {
                    self.at += 1;
                    Ok(inner)
                } else {
                    Err(ParseError::OpenParenthesis)
                }
            }
            Token::Close | Token::Or | Token::Minus => Err(ParseError::Nothing),
        }
    }
}

fn one_or(mut nodes: Vec<Node>, join: impl FnOnce(Vec<Node>) -> Node) -> Node {
    if nodes.len() == 1 { nodes.swap_remove(0) } else { join(nodes) }
}

impl fmt::Display for Node {
    /// The query in its plainest form; parsing it again gives the same tree.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => f.write_str(word),
            Self::Phrase(text) => write!(f, "\"{text}\""),
            Self::Near { text, within } => write!(f, "\"{text}\"~{within}"),
            Self::Prefix(start) => write!(f, "{start}*"),
            Self::Tag(name) => write!(f, "#{name}"),
            Self::Mention(name) => write!(f, "@{name}"),
            Self::Operator { name, value }
                if value.contains(|c: char| c.is_whitespace() || "()".contains(c)) =>
            {
                write!(f, "{name}:\"{value}\"")
            }
            Self::Operator { name, value } => write!(f, "{name}:{value}"),
            Self::Not(inner) => match **inner {
                Self::All(_) | Self::Any(_) | Self::Not(_) => write!(f, "-({inner})"),
                // A minus before a minus would be part of the word.
                Self::Word(ref text) | Self::Prefix(ref text) if text.starts_with('-') => {
                    write!(f, "-({inner})")
                }
                _ => write!(f, "-{inner}"),
            },
            Self::All(parts) => write_joined(f, parts, " "),
            Self::Any(parts) => write_joined(f, parts, " OR "),
        }
    }
}

fn write_joined(f: &mut fmt::Formatter<'_>, parts: &[Node], between: &str) -> fmt::Result {
    for (n, part) in parts.iter().enumerate() {
        if n > 0 {
            f.write_str(between)?;
        }
        match part {
            Node::All(_) | Node::Any(_) => write!(f, "({part})")?,
            _ => write!(f, "{part}")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, printed: &str) {
        assert_eq!(parse(text).expect(text).to_string(), printed, "{text}");
    }

    #[test]
    fn parts_are_told_apart() {
        check("  running   shoes ", "running shoes");
        check("\"flu  shot\" -nasal #Vaccine @CDC", "\"flu shot\" -nasal #Vaccine @CDC");
        check("From:nyt since:2014-10-01 lang:en", "from:nyt since:2014-10-01 lang:en");
        check("attr.flair:\"ask me\" has:links is:reply", "attr.flair:\"ask me\" has:links is:reply");
        check("cats OR dogs food", "cats OR (dogs food)");
        check("(cats OR dogs) food", "(cats OR dogs) food");
        check("-(a OR \"b c\")", "-(a OR \"b c\")");
        check("12:30 http://x.org/a:b note:me from:", "12:30 http://x.org/a:b note:me from:");
        check("a - b -- c e-cig", "a - b -- c e-cig");
        check("#a-b @x.y # @", "#a-b @x.y # @");
        check(
            "\"flu shot\"~5 \"a b\"~05 \"a b\" ~5 \"a b\"~x",
            "\"flu shot\"~5 \"a b\"~5 \"a b\" ~5 \"a b\" ~x",
        );
        check("\"a b\"~1234 \"\"~5 -\"a b\"~2", "\"a b\" ~1234 -\"a b\"~2");
        check("vacc* * ** a*b #tag* -kid*", "vacc* * ** a*b #tag* -kid*");
        check("“flu shot” „a b“~3 from:“a b”", "\"flu shot\" \"a b\"~3 from:\"a b\"");
        check("-(-x) -(--x) (-) -(-)", "-(-x) -(--x) - -(-)");
        assert_eq!(parse("vacc*"), Ok(Node::Prefix("vacc".into())));
        assert_eq!(parse("\"flu shot\"~5"), Ok(Node::Near { text: "flu shot".into(), within: 5 }));
        assert_eq!(parse("**"), Ok(Node::Word("**".into())));
    }

    #[test]
    fn what_does_not_parse_says_why() {
        for (text, error) in [
            ("\"open", ParseError::OpenQuote),
            ("(open", ParseError::OpenParenthesis),
            ("shut)", ParseError::StrayParenthesis),
            ("a OR", ParseError::Nothing),
            ("OR", ParseError::Nothing),
            ("()", ParseError::Nothing),
            ("", ParseError::Nothing),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
        assert_eq!(parse(&"(".repeat(100_000)), Err(ParseError::TooMany));
        assert_eq!(parse(&format!("{}a{}", "(".repeat(40), ")".repeat(40))), Err(ParseError::TooDeep));
        assert_eq!(parse(&"a ".repeat(1000)), Err(ParseError::TooMany));
        assert_eq!(parse(&"a ".repeat(MAX_PARTS + 1)), Err(ParseError::TooMany));
        parse(&"a ".repeat(MAX_PARTS)).expect("as many as may be");
    }

    /// A part that is not made of others, as it can come out of a text.
    fn leaf() -> impl Strategy<Value = Node> {
        let text = "[a-zA-Z0-9é睡👍'’.,:;!?*~#@$%&/_-]{1,8}";
        let words = "[a-z é睡*:#@-]{1,3}[a-z]( [a-z-]{1,4}){0,3}";
        prop_oneof![
            text.prop_filter_map("one part", |text| match parse(&text) {
                Ok(Node::All(_) | Node::Any(_) | Node::Not(_)) | Err(_) => None,
                Ok(leaf) => Some(leaf),
            }),
            words.prop_map(|text| Node::Phrase(text.split_whitespace().collect::<Vec<_>>().join(" "))),
            (words, 0..1000u16).prop_map(|(text, within)| Node::Near {
                text: text.split_whitespace().collect::<Vec<_>>().join(" "),
                within
            }),
            (prop::sample::select(OPERATORS.to_vec()), "[a-z0-9(): *~#-]{0,6}[a-z0-9]").prop_map(
                |(name, value)| {
                    let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
                    Node::Operator { name: name.to_owned(), value }
                }
            ),
            "[a-z_.-]{1,6}"
                .prop_map(|name| Node::Operator { name: format!("attr.{name}"), value: "x y".into() }),
        ]
    }

    fn tree() -> impl Strategy<Value = Node> {
        leaf().prop_recursive(4, 40, 5, |inner| {
            let several = || prop::collection::vec(inner.clone(), 2..5);
            prop_oneof![
                several().prop_map(Node::All),
                several().prop_map(Node::Any),
                inner.clone().prop_map(|node| Node::Not(Box::new(node))),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_printed_tree_is_parsed_back(tree in tree()) {
            let printed = tree.to_string();
            prop_assert_eq!(parse(&printed), Ok(tree), "printed as {}", printed);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_printing_is_parsed_back(text in "(\\PC|[ ()\"#@:*~5-]|[“”„]|OR |from:|since:|attr\\.x:|[\u{0}-\u{1f}\u{300}\u{345}\u{200d}\u{202e}\u{2066}\u{feff}\u{e0001}]){0,40}") {
            if let Ok(tree) = parse(&text) {
                let printed = tree.to_string();
                prop_assert_eq!(parse(&printed), Ok(tree), "printed as {}", printed);
            }
        }
    }
}
