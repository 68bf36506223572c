//! What a query asks of the indexes: words that rank, and a filter that restricts.
//!
//! Plain words only rank: a post that lacks one may still be found by meaning. Everything else restricts as well:
//! phrases, tags, mentions, operators, `-not`, and the words inside an explicit `OR`.

use bowerbird_lexical::{BagQuery, TextClause};
use bowerbird_live::Filter;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::SearchError;
use crate::parse::{Node, parse};

/// Longest query or filter, in bytes.
pub const MAX_QUERY_BYTES: usize = 4096;

/// A part of the query that was not understood and how it was treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoredOperator {
    /// The part as typed.
    pub part: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A query, ready for both legs.
#[derive(Clone, Debug)]
pub struct ParsedQuery {
    /// Its words in order, without operators and negations: what is embedded and reranked. May be empty.
    pub text: String,
    /// What BM25 scores.
    pub bag: BagQuery,
    /// What every hit must satisfy.
    pub filter: Option<Filter>,
    /// The query as understood.
    pub printed: String,
    /// Parts that were not understood.
    pub ignored: Vec<IgnoredOperator>,
    /// Said to the person, such as that the query was taken as plain words.
    pub note: Option<String>,
}

impl ParsedQuery {
    /// Understands `text`; what does not parse is taken as plain words, with a note. With `plain` all of it is.
    ///
    /// `filter`, in the same language, restricts with every part; there a mistake is an error.
    pub fn new(text: &str, plain: bool, filter: Option<&str>) -> Result<Self, SearchError> {
        for found in [text.len(), filter.map_or(0, str::len)] {
            if found > MAX_QUERY_BYTES {
                return Err(SearchError::QueryTooLong { limit: MAX_QUERY_BYTES, found });
            }
        }
        let mut query = match (text.trim().is_empty(), plain) {
            (true, _) => Self::empty(),
            (false, true) => Self::plain(text),
            (false, false) => Self::understood(text),
        };
        if let Some(filter) = filter.filter(|f| !f.trim().is_empty()) {
            query.restrict(strict_filter(filter)?);
        }
        if query.bag.is_empty() && query.filter.is_none() {
            return Err(SearchError::EmptyQuery);
        }
        Ok(query)
    }

    fn plain(text: &str) -> Self {
        let mut query = Self::empty();
        query.bag.terms = text.split_whitespace().map(str::to_owned).collect();
        query.text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        query.printed.clone_from(&query.text);
        query
    }

    fn empty() -> Self {
        Self {
            text: String::new(),
            bag: BagQuery::default(),
            filter: None,
            printed: String::new(),
            ignored: Vec::new(),
            note: None,
        }
    }

    fn understood(text: &str) -> Self {
        match parse(text) {
            Ok(tree) => {
                let mut query = Self { printed: tree.to_string(), ..Self::empty() };
                query.take(&tree);
                query
            }
            Err(error) => {
                let words: String =
                    text.chars().map(|c| if matches!(c, '"' | '(' | ')') { ' ' } else { c }).collect();
                let words: Vec<&str> = words.split_whitespace().filter(|w| *w != "OR").collect();
                let mut query = Self::plain(&words.join(" "));
                query.note = Some(format!("taken as plain words: {error}"));
                query
            }
        }
    }

    /// Adds a part that stands at the top of the query.
    fn take(&mut self, node: &Node) {
        match node {
            Node::All(parts) => parts.iter().for_each(|part| self.take(part)),
            Node::Word(word) => self.rank_word(word),
            Node::Not(_) | Node::Any(_) | Node::Phrase(_) | Node::Tag(_) | Node::Mention(_) => {
                self.rank(node);
                if let Some(filter) = self.strict(node) {
                    self.restrict(filter);
                }
            }
            Node::Operator { .. } => {
                if let Some(filter) = self.strict(node) {
                    self.restrict(filter);
                }
            }
        }
    }

    fn restrict(&mut self, filter: Filter) {
        self.filter = Some(match self.filter.take() {
            None => filter,
            Some(Filter::And(mut parts)) => {
                parts.push(filter);
                Filter::And(parts)
            }
            Some(other) => Filter::And(vec![other, filter]),
        });
    }

    fn say(&mut self, words: &str) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(words);
    }

    fn rank_word(&mut self, word: &str) {
        self.bag.terms.push(word.to_owned());
        self.say(word);
    }

    /// Lets the positive words of a restricting part rank too.
    fn rank(&mut self, node: &Node) {
        match node {
            Node::Word(word) => self.rank_word(word),
            Node::Phrase(text) => {
                self.bag.phrases.push(text.clone());
                self.say(text);
            }
            Node::Tag(name) => {
                self.bag.tags.push(name.clone());
                self.say(name);
            }
            Node::Mention(name) => {
                self.bag.mentions.push(name.clone());
                self.say(name);
            }
            Node::All(parts) | Node::Any(parts) => parts.iter().for_each(|part| self.rank(part)),
            Node::Not(_) | Node::Operator { .. } => {}
        }
    }

    /// `node` as a restriction; `None` when nothing of it is understood.
    fn strict(&mut self, node: &Node) -> Option<Filter> {
        Some(match node {
            Node::Word(word) => Filter::Text(TextClause::Word(word.clone())),
            Node::Phrase(text) => Filter::Text(TextClause::Phrase(text.clone())),
            Node::Tag(name) => Filter::Tag(name.to_lowercase()),
            Node::Mention(name) => Filter::Mention(name.to_lowercase()),
            Node::Not(inner) => Filter::Not(Box::new(self.strict(inner)?)),
            Node::All(parts) => Filter::And(parts.iter().filter_map(|part| self.strict(part)).collect()),
            Node::Any(parts) => Filter::Or(parts.iter().filter_map(|part| self.strict(part)).collect()),
            Node::Operator { name, value } => match operator(name, value) {
                Ok(filter) => filter,
                Err(reason) => {
                    self.ignored.push(IgnoredOperator { part: node.to_string(), reason });
                    return None;
                }
            },
        })
    }
}

/// A `filter` of the request: every part restricts, and a mistake is the caller's.
fn strict_filter(text: &str) -> Result<Filter, SearchError> {
    let refuse = |reason: String| SearchError::Filter { found: text.to_owned(), reason };
    let tree = parse(text).map_err(|error| refuse(error.to_string()))?;
    let mut query = ParsedQuery::empty();
    let filter = query.strict(&tree);
    match (query.ignored.pop(), filter) {
        (Some(ignored), _) => Err(refuse(format!("{}: {}", ignored.part, ignored.reason))),
        (None, Some(filter)) => Ok(filter),
        (None, None) => Err(refuse("it restricts nothing".into())),
    }
}

fn operator(name: &str, value: &str) -> Result<Filter, String> {
    let user = || value.trim_start_matches('@').to_lowercase();
    let number = || value.parse::<u64>().map_err(|_| format!("{value} is not a whole number"));
    Ok(match name {
        "from" => Filter::From(user()),
        "to" => Filter::To(user()),
        "lang" => Filter::Lang(value.to_lowercase()),
        "since" => Filter::Since(moment(value)?),
        "until" => Filter::Until(moment(value)?),
        "min_likes" => Filter::MinLikes(number()?),
        "min_reposts" => Filter::MinReposts(number()?),
        "min_replies" => Filter::MinReplies(number()?),
        "has" if matches!(value, "links" | "link") => Filter::HasLinks,
        "is" if value == "reply" => Filter::IsReply,
        "has" => return Err(format!("has:{value} is not known, expected has:links")),
        "is" => return Err(format!("is:{value} is not known, expected is:reply")),
        _ => match name.strip_prefix("attr.") {
            Some(name) => Filter::Attribute { name: name.to_owned(), value: value.to_owned() },
            None => return Err(format!("{name}: is not known")),
        },
    })
}

/// Seconds since 1970 of a day (midnight UTC) or of an RFC 3339 moment.
fn moment(value: &str) -> Result<i64, String> {
    if let Ok(day) = value.parse::<Date>() {
        return day
            .to_zoned(TimeZone::UTC)
            .map(|zoned| zoned.timestamp().as_second())
            .map_err(|error| format!("{value} is out of range: {error}"));
    }
    value
        .parse::<Timestamp>()
        .map(Timestamp::as_second)
        .map_err(|_| format!("{value} is not a day (2014-10-01) or a moment (2014-10-01T12:00:00Z)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> ParsedQuery {
        ParsedQuery::new(text, false, None).expect(text)
    }

    #[test]
    fn words_rank_and_the_rest_restricts() {
        let plain = query("running shoes");
        assert_eq!(plain.bag.terms, ["running", "shoes"]);
        assert_eq!((plain.text.as_str(), plain.filter.is_none()), ("running shoes", true));

        let full = query("flu \"nasal spray\" -kids from:CDC since:2014-10-01");
        assert_eq!(full.text, "flu nasal spray");
        assert_eq!(full.bag.terms, ["flu"]);
        assert_eq!(full.bag.phrases, ["nasal spray"]);
        let parts = match full.filter {
            Some(Filter::And(parts)) => parts,
            other => panic!("{other:?}"),
        };
        assert!(matches!(&parts[0], Filter::Text(TextClause::Phrase(p)) if p == "nasal spray"));
        assert!(matches!(&parts[1], Filter::Not(_)));
        assert!(matches!(&parts[2], Filter::From(u) if u == "cdc"));
        assert!(matches!(&parts[3], Filter::Since(1_412_121_600)));
    }

    #[test]
    fn alternatives_restrict_and_rank() {
        let query = query("(cats OR dogs) food");
        assert_eq!(query.bag.terms, ["cats", "dogs", "food"]);
        assert!(matches!(query.filter, Some(Filter::Or(options)) if options.len() == 2));
    }

    #[test]
    fn a_broken_query_is_plain_words_with_a_note() {
        let query = query("what is \"flu (shot");
        assert_eq!(query.text, "what is flu shot");
        assert!(query.note.expect("noted").contains("quote"));
    }

    #[test]
    fn an_operator_with_a_bad_value_is_reported() {
        let query = query("flu since:yesterday is:nice");
        assert_eq!(query.ignored.len(), 2);
        assert!(query.ignored[0].reason.contains("yesterday"));
        assert!(query.filter.is_none());
    }

    #[test]
    fn filters_must_parse() {
        let restricted = ParsedQuery::new("flu", false, Some("from:cdc min_likes:3")).expect("parses");
        assert!(matches!(restricted.filter, Some(Filter::And(parts)) if parts.len() == 2));
        for filter in ["since:never", "(", "min_likes:-1"] {
            assert!(
                matches!(ParsedQuery::new("flu", false, Some(filter)), Err(SearchError::Filter { .. })),
                "{filter}"
            );
        }
    }

    #[test]
    fn emptiness_and_length_are_refused() {
        assert!(matches!(ParsedQuery::new(" \n", false, None), Err(SearchError::EmptyQuery)));
        let long = "a".repeat(MAX_QUERY_BYTES + 1);
        assert!(matches!(ParsedQuery::new(&long, false, None), Err(SearchError::QueryTooLong { .. })));
    }
}
