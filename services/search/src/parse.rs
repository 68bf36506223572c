//! The query language: text to a tree, and back.
//!
//! ```text
//! query    = all *( "OR" all )
//! all      = 1*( [ "-" ] part )
//! part     = "(" query ")" / phrase / operator / "#" name / "@" name / word
//! phrase   = DQUOTE text DQUOTE
//! operator = name ":" ( value / phrase )     ; from to since until lang min_likes min_reposts
//!                                            ; min_replies has is attr.NAME
//! ```
//!
//! Upper-case `OR` joins alternatives; parentheses group; everything else stands side by side. What does not parse
//! (an open quote, an open parenthesis, nesting past [`MAX_DEPTH`]) is an error here, and plain words to the caller.

use std::fmt;

/// Deepest nesting of parentheses.
pub const MAX_DEPTH: usize = 16;
/// Most parts of one query; the rest is refused.
pub const MAX_PARTS: usize = 256;

/// One part of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A plain word: it ranks.
    Word(String),
    /// Words that must stand together.
    Phrase(String),
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
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        if tokens.len() >= 2 * MAX_PARTS {
            return Err(ParseError::TooMany);
        }
        let (token, len) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '"' => {
                let (phrase, len) = quoted(rest)?;
                (Token::Part(Node::Phrase(phrase)), len)
            }
            '-' if rest[1..].starts_with(|c: char| !c.is_whitespace() && c != '-' && c != ')') => {
                (Token::Minus, 1)
            }
            _ => bare(rest)?,
        };
        // A part without any letter, digit or symbol (an empty phrase, say) says nothing.
        if !matches!(&token, Token::Part(Node::Phrase(p)) if p.trim().is_empty()) {
            tokens.push(token);
        }
        rest = rest[len..].trim_start();
    }
    Ok(tokens)
}

/// The text between quotes and the bytes it took, quotes included.
fn quoted(rest: &str) -> Result<(String, usize), ParseError> {
    let close = rest[1..].find('"').ok_or(ParseError::OpenQuote)?;
    let inner = rest[1..=close].split_whitespace().collect::<Vec<_>>().join(" ");
    Ok((inner, close + 2))
}

/// A token that starts with neither a parenthesis nor a quote, and the bytes it took.
fn bare(rest: &str) -> Result<(Token, usize), ParseError> {
    let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '"')).unwrap_or(rest.len());
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
        if known && rest[end..].starts_with('"') {
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
        _ => Node::Word(word.to_owned()),
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
            if parts.len() > MAX_PARTS {
                return Err(ParseError::TooMany);
            }
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
    }

    proptest! {
        #[test]
        fn no_text_panics_and_printing_is_parsed_back(text in "(\\PC|[ ()\"#@:-]|OR |from:|since:|attr\\.x:){0,40}") {
            if let Ok(tree) = parse(&text) {
                let printed = tree.to_string();
                prop_assert_eq!(parse(&printed), Ok(tree), "printed as {}", printed);
            }
        }
    }
}
