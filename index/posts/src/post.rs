//! What a post is. Wire form and stored form are this struct in JSON; unknown fields are refused.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Longest id, in bytes.
pub const MAX_ID_BYTES: usize = 128;
/// Longest text, in bytes.
pub const MAX_TEXT_BYTES: usize = 64 * 1024;
/// Most tags, mentions or links of one post, each.
pub const MAX_LIST: usize = 256;
/// Most attributes of one post.
pub const MAX_ATTRIBUTES: usize = 64;
/// Longest author, tag, mention, link, or attribute name or value, in bytes.
pub const MAX_FIELD_BYTES: usize = 1024;

/// Position of one version of a post inside a generation: dense, never reused.
///
/// An ordinal names one immutable text: an edited post gets a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ordinal(pub u32);

/// The caller's id of a post: 1 to 128 bytes, no control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PostId(Arc<str>);

impl PostId {
    /// Checks and wraps an id.
    pub fn new(id: impl Into<String>) -> Result<Self, InvalidPost> {
        let id: String = id.into();
        if id.is_empty() || id.len() > MAX_ID_BYTES {
            return Err(InvalidPost::IdLength { found: id.len() });
        }
        if id.chars().any(char::is_control) {
            return Err(InvalidPost::ControlCharacter { field: "id" });
        }
        Ok(Self(id.into()))
    }

    /// The id as the caller wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PostId {
    type Error = InvalidPost;
    fn try_from(id: String) -> Result<Self, InvalidPost> {
        Self::new(id)
    }
}

impl From<PostId> for String {
    fn from(id: PostId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for PostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Engagement counters; they change in place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Counts {
    /// Times liked.
    pub likes: u64,
    /// Times reposted.
    pub reposts: u64,
    /// Times replied to.
    pub replies: u64,
    /// Times shown.
    pub views: u64,
}

/// New values for some of the [`Counts`]; absent ones stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CountsPatch {
    /// New number of likes.
    pub likes: Option<u64>,
    /// New number of reposts.
    pub reposts: Option<u64>,
    /// New number of replies.
    pub replies: Option<u64>,
    /// New number of views.
    pub views: Option<u64>,
}

impl CountsPatch {
    /// `counts` with the present fields replaced.
    pub fn apply(self, counts: Counts) -> Counts {
        Counts {
            likes: self.likes.unwrap_or(counts.likes),
            reposts: self.reposts.unwrap_or(counts.reposts),
            replies: self.replies.unwrap_or(counts.replies),
            views: self.views.unwrap_or(counts.views),
        }
    }
}

/// A flat value that filters and facets can use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AttributeValue {
    /// `true` or `false`.
    Bool(bool),
    /// A finite number.
    Number(f64),
    /// A string of at most 1,024 bytes.
    Text(String),
}

impl fmt::Display for AttributeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Text(value) => f.write_str(value),
        }
    }
}

/// A short post.
///
/// `tags`, `mentions` and `links` may be left out: [`Post::validated`] then takes them from the text. Tags and
/// mentions are kept without `#` and `@`, in lower case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Post {
    /// The caller's id.
    pub id: PostId,
    /// What the post says; 1 byte to 64 KiB.
    pub text: String,
    /// Account that wrote it, without `@`; may be empty.
    #[serde(default)]
    pub author: String,
    /// When it was written (RFC 3339).
    pub created_at: Timestamp,
    /// ISO 639-1 code; detected when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lang: Option<String>,
    /// Hashtags without `#`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Accounts mentioned, without `@`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<String>,
    /// URLs in the post.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<String>,
    /// Post this one answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<PostId>,
    /// Engagement counters.
    #[serde(default)]
    pub counts: Counts,
    /// Flat values for filters and facets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, AttributeValue>,
}

/// Why a post is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPost {
    /// The id is empty or too long.
    #[error("id has {found} bytes, expected 1 to {MAX_ID_BYTES}")]
    IdLength {
        /// Bytes found.
        found: usize,
    },
    /// The text is blank.
    #[error("text is blank: give at least one visible character")]
    BlankText,
    /// The text is too long.
    #[error("text has {found} bytes, the limit is {MAX_TEXT_BYTES}: split the post")]
    TextLength {
        /// Bytes found.
        found: usize,
    },
    /// A field holds a control character.
    #[error("{field} holds a control character: remove it")]
    ControlCharacter {
        /// Name of the field.
        field: &'static str,
    },
    /// A list has too many entries.
    #[error("{field} has {found} entries, the limit is {limit}")]
    TooMany {
        /// Name of the field.
        field: &'static str,
        /// Entries found.
        found: usize,
        /// Most entries accepted.
        limit: usize,
    },
    /// A string inside a field is too long.
    #[error("{field} holds a value of {found} bytes, the limit is {MAX_FIELD_BYTES}")]
    FieldLength {
        /// Name of the field.
        field: &'static str,
        /// Bytes found.
        found: usize,
    },
    /// An attribute is NaN or infinite.
    #[error("attributes.{name} is not a finite number")]
    NotFinite {
        /// Name of the attribute.
        name: String,
    },
}

impl Post {
    /// A post with only the fields that have no default.
    pub fn new(
        id: PostId,
        text: impl Into<String>,
        author: impl Into<String>,
        created_at: Timestamp,
    ) -> Self {
        Self {
            id,
            text: text.into(),
            author: author.into(),
            created_at,
            lang: None,
            tags: Vec::new(),
            mentions: Vec::new(),
            links: Vec::new(),
            reply_to: None,
            counts: Counts::default(),
            attributes: BTreeMap::new(),
        }
    }

    /// Checks every limit, fills `tags`, `mentions` and `links` from the text where they are empty, and brings
    /// them to their stored form (no sigil, lower case, no duplicates).
    pub fn validated(mut self) -> Result<Self, InvalidPost> {
        if self.text.trim().is_empty() {
            return Err(InvalidPost::BlankText);
        }
        if self.text.len() > MAX_TEXT_BYTES {
            return Err(InvalidPost::TextLength { found: self.text.len() });
        }
        if self.text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            return Err(InvalidPost::ControlCharacter { field: "text" });
        }
        let found = Entities::in_text(&self.text);
        self.tags = stored_names(if self.tags.is_empty() { found.tags } else { self.tags }, '#');
        self.mentions =
            stored_names(if self.mentions.is_empty() { found.mentions } else { self.mentions }, '@');
        if self.links.is_empty() {
            self.links = found.links;
        }
        self.author = String::from(self.author.trim().trim_start_matches('@'));
        check_strings("author", std::slice::from_ref(&self.author))?;
        check_strings("tags", &self.tags)?;
        check_strings("mentions", &self.mentions)?;
        check_strings("links", &self.links)?;
        if let Some(lang) = &mut self.lang {
            *lang = lang.to_lowercase();
            check_strings("lang", std::slice::from_ref(lang))?;
        }
        if self.attributes.len() > MAX_ATTRIBUTES {
            return Err(InvalidPost::TooMany {
                field: "attributes",
                found: self.attributes.len(),
                limit: MAX_ATTRIBUTES,
            });
        }
        for (name, value) in &self.attributes {
            check_strings("attributes", std::slice::from_ref(name))?;
            match value {
                AttributeValue::Text(text) => check_strings("attributes", std::slice::from_ref(text))?,
                AttributeValue::Number(number) if !number.is_finite() => {
                    return Err(InvalidPost::NotFinite { name: name.clone() });
                }
                AttributeValue::Number(_) | AttributeValue::Bool(_) => {}
            }
        }
        Ok(self)
    }
}

fn check_strings(field: &'static str, values: &[String]) -> Result<(), InvalidPost> {
    if values.len() > MAX_LIST {
        return Err(InvalidPost::TooMany { field, found: values.len(), limit: MAX_LIST });
    }
    for value in values {
        if value.len() > MAX_FIELD_BYTES {
            return Err(InvalidPost::FieldLength { field, found: value.len() });
        }
        if value.chars().any(char::is_control) {
            return Err(InvalidPost::ControlCharacter { field });
        }
    }
    Ok(())
}

fn stored_names(names: Vec<String>, sigil: char) -> Vec<String> {
    let mut stored: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        let name = name.trim().trim_start_matches(sigil).to_lowercase();
        if !name.is_empty() && !stored.contains(&name) {
            stored.push(name);
        }
    }
    stored
}

/// What the text itself marks: `#tags`, `@mentions` and links.
#[derive(Default)]
struct Entities {
    tags: Vec<String>,
    mentions: Vec<String>,
    links: Vec<String>,
}

impl Entities {
    fn in_text(text: &str) -> Self {
        let mut found = Self::default();
        for word in text.split_whitespace() {
            if word.starts_with("http://") || word.starts_with("https://") {
                if found.links.len() < MAX_LIST && word.len() <= MAX_FIELD_BYTES {
                    found.links.push(word.trim_end_matches(['.', ',', ')', ';', '!', '?']).to_owned());
                }
                continue;
            }
            let mut rest = word;
            while let Some(at) = rest.find(['#', '@']) {
                let after = &rest[at + 1..];
                let end = after.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(after.len());
                // `a@b.c` is an address and `x#y` a fragment: a sigil inside a word marks nothing.
                let inside = rest[..at].chars().next_back().is_some_and(char::is_alphanumeric);
                if end > 0 && end <= MAX_FIELD_BYTES && !inside {
                    let list =
                        if rest.as_bytes()[at] == b'#' { &mut found.tags } else { &mut found.mentions };
                    if list.len() < MAX_LIST {
                        list.push(after[..end].to_owned());
                    }
                }
                rest = &after[end..];
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(text: &str) -> Post {
        Post::new(PostId::new("1").expect("valid"), text, "Ann", Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn entities_come_from_the_text() {
        let post = post("Hi @Bob, read (#Sleep) #sleep me@mail.org https://a.example/x#y. #über").validated();
        let post = post.expect("valid");
        assert_eq!(post.tags, ["sleep", "über"]);
        assert_eq!(post.mentions, ["bob"]);
        assert_eq!(post.links, ["https://a.example/x#y"]);
    }

    #[test]
    fn limits_name_the_field() {
        assert_eq!(PostId::new(""), Err(InvalidPost::IdLength { found: 0 }));
        assert_eq!(PostId::new("x".repeat(129)), Err(InvalidPost::IdLength { found: 129 }));
        assert_eq!(post("  \n").validated(), Err(InvalidPost::BlankText));
        assert_eq!(post("a\0b").validated(), Err(InvalidPost::ControlCharacter { field: "text" }));
        let long = post(&"x".repeat(MAX_TEXT_BYTES + 1)).validated();
        assert_eq!(long, Err(InvalidPost::TextLength { found: MAX_TEXT_BYTES + 1 }));
    }

    #[test]
    fn unknown_fields_are_refused_and_json_comes_back_the_same() {
        let json = r#"{"id":"1","text":"a","created_at":"2015-03-15T14:40:15Z","likes":3}"#;
        let error = serde_json::from_str::<Post>(json).expect_err("likes belongs in counts");
        assert!(error.to_string().contains("unknown field `likes`"), "{error}");
        let mut full = post("hello #x").validated().expect("valid");
        full.attributes.insert("price".into(), AttributeValue::Number(3.5));
        full.attributes.insert("flair".into(), AttributeValue::Text("News".into()));
        let back: Post =
            serde_json::from_str(&serde_json::to_string(&full).expect("serialises")).expect("parses");
        assert_eq!(back, full);
    }
}
