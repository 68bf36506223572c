//! What is known of every post by ordinal, in memory: filters, facets and ranking features read it.
//!
//! Columns are rebuilt from the post store at open. A [`Columns`] value never changes: the writer changes its own
//! copy, which shares everything that was not touched, and publishes it with the next snapshot. The row and the
//! author of a dead post go at once; its ordinal stays in the postings of its names, where the live set hides it,
//! until a sweep comes by: one shard of each kind for every few deaths, so that what is kept of the dead is bounded
//! by a share of the names there are.

mod names;
mod postings;
mod rows;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use bowerbird_posts::{Counts, Ordinal, Post, PostId};
use roaring::RoaringBitmap;

use names::NameList;
pub(crate) use postings::Postings;
use rows::Rows;

/// A name without a value: the language of a post that has none.
pub(crate) const NO_NAME: u32 = u32::MAX;

/// One post, without its text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub id: PostId,
    /// Seconds since 1970, rounded down.
    pub created_at: i64,
    pub counts: Counts,
    pub author: u32,
    /// [`NO_NAME`] when unknown.
    pub lang: u32,
    pub has_links: bool,
    pub is_reply: bool,
}

/// The columns of one snapshot. An ordinal that is not alive in the snapshot gives the empty value of its column.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    pub(crate) rows: Rows,
    pub(crate) authors: NameList,
    pub(crate) langs: NameList,
    /// Keyed in lower case.
    pub(crate) by_author: Postings,
    pub(crate) by_lang: Postings,
    pub(crate) by_tag: Postings,
    pub(crate) by_mention: Postings,
    /// Replies by the id of the post they answer.
    pub(crate) by_reply_to: Postings,
    pub(crate) by_attribute: Arc<BTreeMap<Arc<str>, Postings>>,
}

impl Columns {
    /// The caller's id of a post.
    pub fn id(&self, ordinal: Ordinal) -> Option<&PostId> {
        self.rows.get(ordinal.0).map(|row| &row.id)
    }

    /// When it was written, in seconds since 1970.
    pub fn created_at(&self, ordinal: Ordinal) -> i64 {
        self.rows.get(ordinal.0).map_or(0, |row| row.created_at)
    }

    /// Who wrote it, as stored.
    pub fn author(&self, ordinal: Ordinal) -> &str {
        self.rows.get(ordinal.0).and_then(|row| self.authors.get(row.author)).unwrap_or_default()
    }

    /// Its language: as stated, else as detected; none when neither is known.
    pub fn lang(&self, ordinal: Ordinal) -> Option<&str> {
        self.rows.get(ordinal.0).and_then(|row| self.langs.get(row.lang))
    }

    /// Its engagement counters in this snapshot.
    pub fn counts(&self, ordinal: Ordinal) -> Counts {
        self.rows.get(ordinal.0).map_or_else(Counts::default, |row| row.counts)
    }

    /// Whether it has a link.
    pub fn has_links(&self, ordinal: Ordinal) -> bool {
        self.rows.get(ordinal.0).is_some_and(|row| row.has_links)
    }

    /// Whether it answers another post.
    pub fn is_reply(&self, ordinal: Ordinal) -> bool {
        self.rows.get(ordinal.0).is_some_and(|row| row.is_reply)
    }

    /// Posts that mention `user` or answer a live post of theirs; `user` in lower case.
    pub(crate) fn to_user(&self, user: &str, live: &RoaringBitmap) -> RoaringBitmap {
        let mut found = self.by_mention.get(user);
        if !self.by_reply_to.is_empty() {
            for ordinal in &(self.by_author.get(user) & live) {
                if let Some(row) = self.rows.get(ordinal) {
                    self.by_reply_to.add_to(row.id.as_str(), &mut found);
                }
            }
        }
        found
    }
}

/// Deaths between two sweeps. A shard has about 64 names, so a whole round takes a quarter as many deaths as there
/// are names.
const DEATHS_PER_SWEEP: u32 = 16;
/// Shards of attributes swept at a time, field after field: four for each death, as a post may bring fields of its own.
const ATTRIBUTE_SHARDS_PER_SWEEP: usize = 64;

/// The writer's copy: the columns and what finds a name's number.
#[derive(Debug, Default)]
pub(crate) struct ColumnsWriter {
    columns: Columns,
    author_numbers: HashMap<Arc<str>, u32>,
    /// Rows of each author number.
    author_rows: Vec<u32>,
    /// Author numbers that no row has.
    free_authors: Vec<u32>,
    /// Few, and never given up.
    lang_numbers: HashMap<Arc<str>, u32>,
    /// Deaths since the last sweep.
    deaths: u32,
    /// The attribute field to be swept next.
    swept_field: Option<Arc<str>>,
}

impl ColumnsWriter {
    /// The columns as they are now, sharing memory with the writer.
    pub fn published(&self) -> Columns {
        self.columns.clone()
    }

    /// Adds a post; `lang` is the stated or detected language.
    pub fn insert(&mut self, ordinal: Ordinal, post: &Post, lang: Option<&str>) {
        let columns = &mut self.columns;
        let author = match self.author_numbers.get(post.author.as_str()).copied() {
            Some(number) => number,
            None => new_author(
                &mut self.author_numbers,
                &mut self.author_rows,
                self.free_authors.pop(),
                &mut columns.authors,
                &post.author,
            ),
        };
        self.author_rows[author as usize] += 1;
        let lang_number =
            lang.map_or(NO_NAME, |lang| number_of(&mut self.lang_numbers, &mut columns.langs, lang));
        columns.rows.set(
            ordinal.0,
            Row {
                id: post.id.clone(),
                created_at: seconds(post.created_at),
                counts: post.counts,
                author,
                lang: lang_number,
                has_links: !post.links.is_empty(),
                is_reply: post.reply_to.is_some(),
            },
        );
        columns.by_author.insert(&post.author.to_lowercase(), ordinal.0);
        if let Some(lang) = lang {
            columns.by_lang.insert(lang, ordinal.0);
        }
        for tag in &post.tags {
            columns.by_tag.insert(&tag.to_lowercase(), ordinal.0);
        }
        for mention in &post.mentions {
            columns.by_mention.insert(&mention.to_lowercase(), ordinal.0);
        }
        if let Some(target) = &post.reply_to {
            columns.by_reply_to.insert(target.as_str(), ordinal.0);
        }
        if !post.attributes.is_empty() {
            let fields = Arc::make_mut(&mut columns.by_attribute);
            for (name, value) in &post.attributes {
                if !fields.contains_key(name.as_str()) {
                    fields.insert(Arc::from(name.as_str()), Postings::default());
                }
                if let Some(field) = fields.get_mut(name.as_str()) {
                    field.insert(&value.to_string(), ordinal.0);
                }
            }
        }
    }

    /// Takes the row of a dead post out; `live` are the posts that stay.
    pub fn remove(&mut self, ordinal: Ordinal, live: &RoaringBitmap) {
        let Some(row) = self.columns.rows.remove(ordinal.0) else { return };
        let rows = &mut self.author_rows[row.author as usize];
        *rows -= 1;
        if *rows == 0 {
            if let Some(name) = self.columns.authors.get(row.author) {
                self.author_numbers.remove(name);
            }
            self.columns.authors.set(row.author, Arc::from(""));
            self.free_authors.push(row.author);
        }
        self.deaths += 1;
        if self.deaths == DEATHS_PER_SWEEP {
            self.deaths = 0;
            self.sweep(live);
        }
    }

    fn sweep(&mut self, live: &RoaringBitmap) {
        let columns = &mut self.columns;
        for postings in [
            &mut columns.by_author,
            &mut columns.by_lang,
            &mut columns.by_tag,
            &mut columns.by_mention,
            &mut columns.by_reply_to,
        ] {
            postings.sweep(live);
        }
        if columns.by_attribute.is_empty() {
            return;
        }
        let by_attribute = Arc::make_mut(&mut columns.by_attribute);
        let mut field = self.swept_field.take().filter(|name| by_attribute.contains_key(name));
        for _ in 0..ATTRIBUTE_SHARDS_PER_SWEEP {
            let Some(name) = field.take().or_else(|| by_attribute.keys().next().cloned()) else { return };
            let whole = by_attribute.get_mut(&name).is_none_or(|values| values.sweep(live));
            field = if whole {
                let after = (Bound::Excluded(&name), Bound::Unbounded);
                by_attribute.range::<Arc<str>, _>(after).next().map(|(next, _)| Arc::clone(next))
            } else {
                Some(Arc::clone(&name))
            };
            if by_attribute.get(&name).is_some_and(Postings::is_empty) {
                by_attribute.remove(&name);
            }
        }
        self.swept_field = field;
    }

    pub fn set_counts(&mut self, ordinal: Ordinal, counts: Counts) {
        self.columns.rows.change(ordinal.0, |row| row.counts = counts);
    }
}

/// Gives an author a number: `free`, one that nobody has any more, or the next.
fn new_author(
    numbers: &mut HashMap<Arc<str>, u32>,
    rows: &mut Vec<u32>,
    free: Option<u32>,
    list: &mut NameList,
    name: &str,
) -> u32 {
    let name: Arc<str> = Arc::from(name);
    let number = if let Some(number) = free {
        list.set(number, Arc::clone(&name));
        number
    } else {
        rows.push(0);
        list.push(Arc::clone(&name))
    };
    numbers.insert(name, number);
    number
}

fn number_of(numbers: &mut HashMap<Arc<str>, u32>, list: &mut NameList, name: &str) -> u32 {
    if let Some(number) = numbers.get(name) {
        return *number;
    }
    let name: Arc<str> = Arc::from(name);
    let number = list.push(Arc::clone(&name));
    numbers.insert(name, number);
    number
}

/// Whole seconds since 1970, rounded down, so that comparing them with whole seconds is exact.
fn seconds(at: jiff::Timestamp) -> i64 {
    at.as_second() - i64::from(at.subsec_nanosecond() < 0)
}

#[cfg(test)]
mod tests;
