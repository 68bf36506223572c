//! Conditions on posts, and the exact set of live posts that satisfies one.

use bowerbird_lexical::{TextClause, primary_language};
use bowerbird_posts::{Ordinal, PostId};
use roaring::RoaringBitmap;

use crate::columns::{Columns, Row};
use crate::{LiveError, Snapshot};

/// Deepest nesting of a filter.
pub const MAX_FILTER_DEPTH: usize = 32;
/// Most conditions of a filter.
pub const MAX_FILTER_CONDITIONS: usize = 1024;

/// A condition on posts. Names are compared without case and without their sigil.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// All of them; of none, every post.
    And(Vec<Filter>),
    /// Any of them; of none, no post.
    Or(Vec<Filter>),
    /// Every post but those.
    Not(Box<Filter>),
    /// The text satisfies a clause; posts that the lexical index does not have yet do not.
    Text(TextClause),
    /// Written by an account.
    From(String),
    /// Mentions the account, or answers a post of theirs that is in the index.
    To(String),
    /// Has a hashtag.
    Tag(String),
    /// Mentions an account.
    Mention(String),
    /// Is in a language (ISO 639-1; a region is ignored), stated or guessed.
    Lang(String),
    /// Written at or after this second since 1970.
    Since(i64),
    /// Written before this second since 1970.
    Until(i64),
    /// At least so many likes.
    MinLikes(u64),
    /// At least so many reposts.
    MinReposts(u64),
    /// At least so many replies.
    MinReplies(u64),
    /// Has a link.
    HasLinks,
    /// Answers another post.
    IsReply,
    /// An attribute has this value, written as text: `true`, `3.5`, `News`.
    Attribute {
        /// Name of the attribute.
        name: String,
        /// Its value, with case.
        value: String,
    },
    /// Is this post.
    Id(PostId),
}

impl Filter {
    /// Refuses a filter that nests too deep or is too large; walks it without recursion.
    pub fn check(&self) -> Result<(), LiveError> {
        let mut stack = vec![(self, 1)];
        let mut conditions = 0;
        while let Some((filter, depth)) = stack.pop() {
            conditions += 1;
            if depth > MAX_FILTER_DEPTH {
                return Err(LiveError::Filter { what: "depth", limit: MAX_FILTER_DEPTH, found: depth });
            }
            match filter {
                Self::And(parts) | Self::Or(parts) => {
                    stack.extend(parts.iter().map(|part| (part, depth + 1)));
                }
                Self::Not(part) => stack.push((part, depth + 1)),
                _ => {}
            }
        }
        if conditions > MAX_FILTER_CONDITIONS {
            let limit = MAX_FILTER_CONDITIONS;
            return Err(LiveError::Filter { what: "size", limit, found: conditions });
        }
        Ok(())
    }

    /// What is cheap and narrow comes first in a conjunction: postings, then text, then scans of rows.
    fn cost(&self) -> u8 {
        match self {
            Self::Id(_)
            | Self::From(_)
            | Self::Tag(_)
            | Self::Mention(_)
            | Self::Attribute { .. }
            | Self::Lang(_) => 0,
            Self::To(_) | Self::Text(_) => 1,
            Self::HasLinks
            | Self::IsReply
            | Self::Since(_)
            | Self::Until(_)
            | Self::MinLikes(_)
            | Self::MinReposts(_)
            | Self::MinReplies(_) => 3,
            Self::And(parts) | Self::Or(parts) => parts.iter().map(Self::cost).max().unwrap_or(0).max(2),
            Self::Not(part) => part.cost().max(2),
        }
    }
}

/// The members of `within` that satisfy a checked filter.
pub(crate) fn evaluate(
    filter: &Filter,
    within: &RoaringBitmap,
    snapshot: &Snapshot,
) -> Result<RoaringBitmap, LiveError> {
    let columns = snapshot.columns();
    let named = |set: RoaringBitmap| Ok(set & within);
    let rows = |holds: &dyn Fn(&Row) -> bool| Ok(scan(columns, within, holds));
    match filter {
        Filter::And(parts) => {
            let mut parts: Vec<&Filter> = parts.iter().collect();
            parts.sort_by_key(|part| part.cost());
            let mut left = within.clone();
            for part in parts {
                if left.is_empty() {
                    break;
                }
                left = evaluate(part, &left, snapshot)?;
            }
            Ok(left)
        }
        Filter::Or(parts) => {
            let mut found = RoaringBitmap::new();
            for part in parts {
                found |= evaluate(part, within, snapshot)?;
            }
            Ok(found)
        }
        Filter::Not(part) => Ok(within - evaluate(part, within, snapshot)?),
        Filter::Text(clause) => named(snapshot.lexical().matching(clause)?),
        Filter::From(user) => named(columns.by_author.get(&name(user, '@'))),
        Filter::To(user) => named(columns.to_user(&name(user, '@'), snapshot.live())),
        Filter::Tag(tag) => named(columns.by_tag.get(&name(tag, '#'))),
        Filter::Mention(user) => named(columns.by_mention.get(&name(user, '@'))),
        Filter::Lang(lang) => named(columns.by_lang.get(&primary_language(lang))),
        Filter::Since(second) => rows(&|row| row.created_at >= *second),
        Filter::Until(second) => rows(&|row| row.created_at < *second),
        Filter::MinLikes(least) => rows(&|row| row.counts.likes >= *least),
        Filter::MinReposts(least) => rows(&|row| row.counts.reposts >= *least),
        Filter::MinReplies(least) => rows(&|row| row.counts.replies >= *least),
        Filter::HasLinks => rows(&|row| row.has_links),
        Filter::IsReply => rows(&|row| row.is_reply),
        Filter::Attribute { name, value } => {
            named(columns.by_attribute.get(name.as_str()).map(|field| field.get(value)).unwrap_or_default())
        }
        Filter::Id(id) => {
            // The store knows the latest version; a snapshot that is older than an edit has the one before.
            let latest = snapshot.store().ordinal(id)?.filter(|ordinal| within.contains(ordinal.0));
            match latest {
                Some(Ordinal(ordinal)) => Ok(RoaringBitmap::from([ordinal])),
                None => rows(&|row| row.id == *id),
            }
        }
    }
}

fn scan(columns: &Columns, within: &RoaringBitmap, holds: &dyn Fn(&Row) -> bool) -> RoaringBitmap {
    let found = within.iter().filter(|ordinal| columns.rows.get(*ordinal).is_some_and(holds));
    // Ascending, because `within` is.
    RoaringBitmap::from_sorted_iter(found).unwrap_or_default()
}

fn name(name: &str, sigil: char) -> String {
    name.trim().trim_start_matches(sigil).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_and_large_filters_are_refused_with_their_size() {
        let mut deep = Filter::HasLinks;
        for _ in 0..100_000 {
            deep = Filter::Not(Box::new(deep));
        }
        assert!(matches!(deep.check(), Err(LiveError::Filter { what: "depth", .. })));
        // Dropping a deep box recurses; that is the builder's concern, so take it apart here.
        while let Filter::Not(inner) = deep {
            deep = *inner;
        }
        let large = Filter::Or(vec![Filter::IsReply; MAX_FILTER_CONDITIONS]);
        assert!(matches!(large.check(), Err(LiveError::Filter { what: "size", found: 1025, .. })));
        Filter::And(vec![Filter::Not(Box::new(Filter::IsReply)); 3]).check().expect("small");
    }
}
