//! What a query asks of the indexes: words that rank, and a filter that restricts.
//!
//! Plain words only rank: a post that lacks one may still be found by meaning. Everything else restricts as well:
//! phrases, near words, prefixes, tags, mentions, operators, `-not`, and the words inside an explicit `OR`.

use bowerbird_lexical::{BagQuery, MAX_QUERY_TERMS, Near, TextClause, has_words};
use bowerbird_live::Filter;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::SearchError;
use crate::parse::{Node, parse};

/// Longest query or filter, in bytes.
pub const MAX_QUERY_BYTES: usize = 4096;

/// Fewest characters of a last word that is taken as the beginning of one: fewer begin nearly every post.
const MIN_PREFIX: usize = 2;

/// How a query is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParseOptions {
    /// All of it is plain words.
    pub plain: bool,
    /// The person is still typing: a last plain word with nothing after it also stands for the words that start
    /// with it. It ranks and does not restrict.
    pub prefix_last: bool,
}

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
        Self::with(text, ParseOptions { plain, ..ParseOptions::default() }, filter)
    }

    /// [`Self::new`] with all options.
    pub fn with(text: &str, options: ParseOptions, filter: Option<&str>) -> Result<Self, SearchError> {
        for found in [text.len(), filter.map_or(0, str::len)] {
            if found > MAX_QUERY_BYTES {
                return Err(SearchError::QueryTooLong { limit: MAX_QUERY_BYTES, found });
            }
        }
        let mut query = match (text.trim().is_empty(), options.plain) {
            (true, _) => Self::empty(),
            (false, true) => Self::plain(text),
            (false, false) => Self::understood(text),
        };
        if options.prefix_last && !text.ends_with(char::is_whitespace) {
            query.last_as_prefix();
        }
        query.bound();
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
                if query.bag.is_empty() && query.filter.is_none() {
                    let note = Some("taken as plain words: nothing else of it was understood".to_owned());
                    query = Self { ignored: query.ignored, note, ..Self::plain(text) };
                }
                query
            }
            Err(error) => {
                let words: String = text
                    .chars()
                    .map(|c| if matches!(c, '"' | '“' | '”' | '„' | '(' | ')') { ' ' } else { c })
                    .collect();
                let words: Vec<&str> = words.split_whitespace().filter(|w| *w != "OR").collect();
                let words = words.join(" ");
                let mut query = Self::plain(if words.is_empty() { text } else { &words });
                query.note = Some(format!("taken as plain words: {error}"));
                query
            }
        }
    }

    /// Takes the last plain word for the beginning of one, when it is the last thing of the query.
    fn last_as_prefix(&mut self) {
        let last = self.bag.terms.last().filter(|word| {
            let typed = self.printed.rsplit(' ').next() == Some(word.as_str());
            typed && word.chars().count() >= MIN_PREFIX && word.chars().all(char::is_alphanumeric)
        });
        if let Some(word) = last.cloned() {
            self.bag.terms.pop();
            self.bag.prefixes.push(word);
        }
    }

    /// Says which words are too many to rank by.
    fn bound(&mut self) {
        if let Some(first) = self.bag.terms.get(MAX_QUERY_TERMS) {
            let reason = format!(
                "only the first {MAX_QUERY_TERMS} words are ranked by; this and those after it are not"
            );
            self.ignored.push(IgnoredOperator { part: first.clone(), reason });
            self.bag.terms.truncate(MAX_QUERY_TERMS);
        }
    }

    /// Adds a part that stands at the top of the query.
    fn take(&mut self, node: &Node) {
        match node {
            Node::All(parts) => parts.iter().for_each(|part| self.take(part)),
            Node::Word(word) => self.rank_word(word),
            Node::Not(_)
            | Node::Any(_)
            | Node::Phrase(_)
            | Node::Near { .. }
            | Node::Prefix(_)
            | Node::Tag(_)
            | Node::Mention(_) => {
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
            Node::Near { text, within } => {
                self.bag.near.push(Near::new(text, u32::from(*within)));
                self.say(text);
            }
            Node::Prefix(start) => {
                self.bag.prefixes.push(start.clone());
                self.say(start);
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
        let text = |clause| Ok(Filter::Text(clause));
        let found = match node {
            Node::Word(text) | Node::Phrase(text) | Node::Near { text, .. } | Node::Prefix(text)
                if !has_words(text) =>
            {
                Err("it holds nothing that posts are searched for".to_owned())
            }
            Node::Word(word) => text(TextClause::Word(word.clone())),
            Node::Phrase(words) => text(TextClause::Phrase(words.clone())),
            Node::Near { text: words, within } => {
                text(TextClause::Near { text: words.clone(), within: u32::from(*within) })
            }
            Node::Prefix(start) => text(TextClause::Prefix(start.clone())),
            Node::Tag(name) => Ok(Filter::Tag(name.to_lowercase())),
            Node::Mention(name) => Ok(Filter::Mention(name.to_lowercase())),
            Node::Not(inner) => return self.strict(inner).map(|inner| Filter::Not(Box::new(inner))),
            Node::All(parts) => return self.strict_parts(parts).map(Filter::And),
            Node::Any(parts) => return self.strict_parts(parts).map(Filter::Or),
            Node::Operator { name, value } => operator(name, value),
        };
        match found {
            Ok(filter) => Some(filter),
            Err(reason) => {
                self.ignored.push(IgnoredOperator { part: node.to_string(), reason });
                None
            }
        }
    }

    fn strict_parts(&mut self, parts: &[Node]) -> Option<Vec<Filter>> {
        let parts: Vec<Filter> = parts.iter().filter_map(|part| self.strict(part)).collect();
        // Without this, alternatives of which none is understood would find nothing.
        (!parts.is_empty()).then_some(parts)
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
    fn near_words_and_prefixes_restrict_and_rank() {
        let query = query("\"flu shot\"~5 vacc* news");
        assert_eq!(query.bag.near, [Near::new("flu shot", 5)]);
        assert_eq!((query.bag.prefixes, query.bag.terms), (vec!["vacc".to_owned()], vec!["news".to_owned()]));
        assert_eq!(query.text, "flu shot vacc news");
        let Some(Filter::And(parts)) = query.filter else { panic!("{:?}", query.filter) };
        let near = TextClause::Near { text: "flu shot".into(), within: 5 };
        assert!(matches!(&parts[0], Filter::Text(clause) if *clause == near));
        assert!(matches!(&parts[1], Filter::Text(TextClause::Prefix(start)) if start == "vacc"));
    }

    #[test]
    fn a_last_word_may_be_unfinished() {
        let options = ParseOptions { prefix_last: true, ..ParseOptions::default() };
        for (text, prefixes, terms) in [
            ("flu vacc", &["vacc"][..], &["flu"][..]),
            ("flu vacc ", &[], &["flu", "vacc"]),
            ("flu v", &[], &["flu", "v"]),
            ("flu c++", &[], &["flu", "c++"]),
            ("flu -kids", &[], &["flu"]),
            ("flu lang:en", &[], &["flu"]),
            ("flu \"nasal spray\"", &[], &["flu"]),
            ("flu (a OR bcd)", &[], &["flu", "a", "bcd"]),
        ] {
            let query = ParsedQuery::with(text, options, None).expect(text);
            assert_eq!((query.bag.prefixes, query.bag.terms), (owned(prefixes), owned(terms)), "{text}");
        }
        let plain = ParsedQuery::with("(flu vacc", ParseOptions { plain: true, prefix_last: true }, None);
        assert_eq!(plain.expect("plain").bag.prefixes, ["vacc"]);
    }

    fn owned(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn parts_that_say_nothing_do_not_hide_everything() {
        for text in ["flu \"!!!\"", "flu (since:x OR is:y)", "flu -(since:x)", "flu (::: OR ...)", "flu -;*"]
        {
            let query = query(text);
            assert!(query.filter.is_none(), "{text}: {:?}", query.filter);
        }
        assert_eq!(query("flu \"!!!\"").ignored[0].part, "\"!!!\"");
        let long = (0..100).map(|n| format!("w{n}")).collect::<Vec<_>>().join(" ");
        let query = query(&long);
        assert_eq!((query.bag.terms.len(), query.ignored[0].part.as_str()), (64, "w64"));
    }

    fn size(filter: &Filter) -> (usize, usize) {
        let parts: Vec<&Filter> = match filter {
            Filter::And(parts) | Filter::Or(parts) => parts.iter().collect(),
            Filter::Not(part) => vec![part],
            _ => Vec::new(),
        };
        parts.into_iter().map(size).fold((1, 1), |(depth, number), (d, n)| (depth.max(d + 1), number + n))
    }

    #[test]
    fn no_filter_is_larger_than_the_index_takes() {
        let nested = |inner: &str, times: usize| {
            (0..times).fold(inner.to_owned(), |inner, _| format!("-(a OR b -({inner}))"))
        };
        let many = format!("{} x", "-(-a) ".repeat(100));
        for text in [nested("c", 4), nested("c", 40), many, "(".repeat(4000), "-".repeat(4000)] {
            let query = ParsedQuery::new(&text, false, Some("-(-a OR (b c)) from:x")).expect("read somehow");
            let (depth, number) = query.filter.as_ref().map_or((0, 0), size);
            assert!(depth <= bowerbird_live::MAX_FILTER_DEPTH, "{text}: depth {depth}");
            assert!(number <= bowerbird_live::MAX_FILTER_CONDITIONS, "{text}: {number} conditions");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_text_is_read(text in "(\\PC|[ ()\"#@:*~5-]|[“”]|OR |from:|since:|attr\\.x:|is:|[\u{0}-\u{1f}\u{300}\u{200d}\u{202e}]){0,60}", plain in proptest::bool::ANY, prefix_last in proptest::bool::ANY) {
            match ParsedQuery::with(&text, ParseOptions { plain, prefix_last }, None) {
                Ok(query) => {
                    let (depth, number) = query.filter.as_ref().map_or((0, 0), size);
                    proptest::prop_assert!(depth <= bowerbird_live::MAX_FILTER_DEPTH);
                    proptest::prop_assert!(number <= bowerbird_live::MAX_FILTER_CONDITIONS);
                }
                Err(error) => {
                    proptest::prop_assert!(matches!(error, SearchError::EmptyQuery), "{error}");
                    proptest::prop_assert!(text.trim().is_empty(), "{text:?} is not empty");
                }
            }
        }
    }

    #[test]
    fn a_broken_query_is_plain_words_with_a_note() {
        let query = query("what is \"flu (shot");
        assert_eq!(query.text, "what is flu shot");
        assert!(query.note.expect("noted").contains("quote"));
    }

    #[test]
    fn an_operator_with_a_bad_value_is_reported() {
        let nothing = ParsedQuery::new("since:yesterday", false, None).expect("plain words");
        assert_eq!((nothing.ignored.len(), nothing.text.as_str()), (1, "since:yesterday"));
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
