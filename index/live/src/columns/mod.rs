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
mod tests {
    use super::*;

    #[test]
    fn seconds_round_down_before_1970_too() {
        let at = |text: &str| seconds(text.parse().expect("a time"));
        assert_eq!(at("1970-01-01T00:00:01.9Z"), 1);
        assert_eq!(at("1969-12-31T23:59:58.1Z"), -2);
        assert_eq!(at("1969-12-31T23:59:58Z"), -2);
    }

    #[test]
    fn a_published_value_does_not_change() {
        let mut writer = ColumnsWriter::default();
        let mut post =
            Post::new(PostId::new("a").expect("valid"), "hello #Sleep", "Ann", jiff::Timestamp::UNIX_EPOCH)
                .validated()
                .expect("valid");
        writer.insert(Ordinal(0), &post, Some("en"));
        let before = writer.published();
        writer.set_counts(Ordinal(0), Counts { likes: 9, ..Counts::default() });
        post.author = "Bob".into();
        post.reply_to = Some(PostId::new("a").expect("valid"));
        writer.insert(Ordinal(700), &post, None);
        let after = writer.published();
        assert_eq!((before.counts(Ordinal(0)).likes, after.counts(Ordinal(0)).likes), (0, 9));
        assert_eq!((before.author(Ordinal(700)), after.author(Ordinal(700))), ("", "Bob"));
        assert_eq!((after.lang(Ordinal(0)), after.lang(Ordinal(700))), (Some("en"), None));
        assert_eq!((before.by_tag.get("sleep").len(), after.by_tag.get("sleep").len()), (1, 2));
        let live: RoaringBitmap = [0, 700].into_iter().collect();
        assert_eq!(after.to_user("ann", &live).into_iter().collect::<Vec<_>>(), [700]);
        assert!(after.to_user("ann", &RoaringBitmap::from([700])).is_empty(), "the answered post is dead");
        assert!(before.to_user("ann", &live).is_empty());
    }
    /// Posts of which each has an author, a tag, an attribute value and a target of its own.
    fn unlike(n: u32) -> Post {
        let id = PostId::new(format!("p{n}")).expect("valid");
        let text = format!("words #tag{n} @user{n}");
        let mut post = Post::new(id, text, format!("author{n}"), jiff::Timestamp::UNIX_EPOCH);
        post.reply_to = Some(PostId::new(format!("q{n}")).expect("valid"));
        post.attributes.insert("place".into(), bowerbird_posts::AttributeValue::Text(format!("place{n}")));
        post.attributes.insert(format!("field{n}"), bowerbird_posts::AttributeValue::Bool(true));
        post.validated().expect("valid")
    }

    #[test]
    fn what_is_kept_of_the_dead_is_bounded_and_the_living_stay() {
        const ALIVE: u32 = 300;
        let mut writer = ColumnsWriter::default();
        let mut live = RoaringBitmap::new();
        for n in 0..20_000 {
            writer.insert(Ordinal(n), &unlike(n), Some("en"));
            live.insert(n);
            if n >= ALIVE {
                live.remove(n - ALIVE);
                writer.remove(Ordinal(n - ALIVE), &live);
            }
        }
        let columns = writer.published();
        let names = |postings: &Postings| postings.names();
        for (what, kept) in [
            ("authors", names(&columns.by_author)),
            ("tags", names(&columns.by_tag)),
            ("mentions", names(&columns.by_mention)),
            ("targets", names(&columns.by_reply_to)),
            ("values", columns.by_attribute.get("place").map_or(0, names)),
        ] {
            assert!((300..2000).contains(&kept), "{kept} {what} for 300 posts");
        }
        assert!(columns.authors.len() <= 301 && writer.author_numbers.len() == 300);
        assert!(columns.by_attribute.len() < 4000, "{} fields", columns.by_attribute.len());
        for n in 19_700..20_000 {
            let name = format!("author{n}");
            assert_eq!(columns.author(Ordinal(n)), name);
            assert!(
                columns.by_author.get(&name).contains(n)
                    && columns.by_tag.get(&format!("tag{n}")).contains(n)
            );
            assert!(columns.by_attribute[format!("field{n}").as_str()].get("true").contains(n));
        }
        assert_eq!((columns.author(Ordinal(5)), columns.id(Ordinal(5))), ("", None));
    }

    /// As platforms have them: many authors with a few posts, some tags, mentions and replies.
    fn synthetic(n: u32) -> Post {
        let id = PostId::new(format!("{}", 1_000_000_000_000_000_000 + u64::from(n) * 7919)).expect("valid");
        let mut text = String::from("some words");
        if n.is_multiple_of(3) {
            text = format!("{text} #tag{}", n % 5000);
        }
        if n.is_multiple_of(5) {
            text = format!("{text} @user{}", n.wrapping_mul(2_654_435_761) % 200_000);
        }
        let author = format!("user{}", n.wrapping_mul(40_503) % 200_000);
        let mut post = Post::new(id, text, author, jiff::Timestamp::UNIX_EPOCH);
        if n.is_multiple_of(4) {
            post.reply_to = Some(
                PostId::new(format!("{}", 1_000_000_000_000_000_000 + u64::from(n / 2) * 7919))
                    .expect("valid"),
            );
        }
        let place = bowerbird_posts::AttributeValue::Text(format!("place{}", n % 20));
        post.attributes.insert("place".into(), place);
        post.validated().expect("valid")
    }

    #[test]
    #[ignore = "a measurement: cargo test --release -p bowerbird-live columns_at -- --ignored --nocapture"]
    #[expect(clippy::print_stdout, reason = "prints its table")]
    fn columns_at_a_hundred_thousand_and_a_million() {
        let resident = || {
            let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
            text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
        };
        println!("a row has {} bytes", size_of::<Row>());
        for size in [100_000u32, 1_000_000] {
            let before = resident();
            let (mut writer, mut live) = (ColumnsWriter::default(), Arc::new(RoaringBitmap::new()));
            for n in 0..size {
                writer.insert(Ordinal(n), &synthetic(n), Some("en"));
                Arc::make_mut(&mut live).insert(n);
            }
            println!("{size} posts: {} bytes a post", (resident() - before) / u64::from(size));
            // Every change while a reader has the state before it, as each write of one change is published.
            let mut cost =
                |what: &str, change: &mut dyn FnMut(&mut ColumnsWriter, &mut RoaringBitmap, u32)| {
                    let mut micros: Vec<f64> = Vec::new();
                    let mut published = (writer.published(), Arc::clone(&live));
                    for round in 0..2000u32 {
                        let at = round.wrapping_mul(2_654_435_761) % size;
                        let begun = std::time::Instant::now();
                        change(&mut writer, Arc::make_mut(&mut live), at);
                        let next = (writer.published(), Arc::clone(&live));
                        drop(std::mem::replace(&mut published, next));
                        micros.push(begun.elapsed().as_secs_f64() * 1e6);
                    }
                    micros.sort_by(f64::total_cmp);
                    println!("  {what}: p50 {:.0} µs, p99 {:.0} µs", micros[1000], micros[1980]);
                };
            let mut next = size;
            cost("new post", &mut |writer, live, _| {
                writer.insert(Ordinal(next), &synthetic(next), Some("en"));
                live.insert(next);
                next += 1;
            });
            cost("counters", &mut |writer, _, at| {
                writer.set_counts(Ordinal(at), Counts { likes: 3, ..Counts::default() });
            });
            cost("deletion", &mut |writer, live, at| {
                live.remove(at);
                writer.remove(Ordinal(at), live);
            });
        }
    }
}
