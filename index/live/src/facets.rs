//! Exact counts of values over a set of posts.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use crate::columns::{Columns, NO_NAME};

/// Whether [`Snapshot::facets`](crate::Snapshot::facets) knows a field: `author`, `lang`, `tags`, `mentions`,
/// `created_at` (by UTC day) or `attributes.NAME`.
pub fn is_facet(field: &str) -> bool {
    matches!(field, "author" | "lang" | "tags" | "mentions" | "created_at")
        || field.strip_prefix("attributes.").is_some_and(|name| !name.is_empty())
}

/// The `limit` most frequent values of `field` over `within`, ties by value.
pub(crate) fn facets(
    columns: &Columns,
    field: &str,
    within: &RoaringBitmap,
    limit: usize,
) -> Vec<(String, u64)> {
    let owned = |(name, count): (&str, u64)| (name.to_owned(), count);
    let counts: Vec<(String, u64)> = match field {
        "author" => {
            by_number(columns, within, columns.authors.len(), |row| row.author, |at| columns.authors.get(at))
        }
        "lang" => by_number(columns, within, columns.langs.len(), |row| row.lang, |at| columns.langs.get(at)),
        "tags" => columns.by_tag.counts(within).map(owned).collect(),
        "mentions" => columns.by_mention.counts(within).map(owned).collect(),
        "created_at" => by_day(columns, within),
        _ => match field.strip_prefix("attributes.").and_then(|name| columns.by_attribute.get(name)) {
            Some(values) => values.counts(within).map(owned).collect(),
            None => Vec::new(),
        },
    };
    most_frequent(counts, limit)
}

fn by_number<'a>(
    columns: &Columns,
    within: &RoaringBitmap,
    names: usize,
    number: impl Fn(&crate::columns::Row) -> u32,
    name: impl Fn(u32) -> Option<&'a str>,
) -> Vec<(String, u64)> {
    let mut counts = vec![0u64; names];
    for row in within.iter().filter_map(|ordinal| columns.rows.get(ordinal)) {
        let number = number(row);
        if number != NO_NAME {
            counts[number as usize] += 1;
        }
    }
    let counted = counts.into_iter().zip(0..).filter(|(count, _)| *count > 0);
    counted.filter_map(|(count, at)| name(at).map(|name| (name.to_owned(), count))).collect()
}

fn by_day(columns: &Columns, within: &RoaringBitmap) -> Vec<(String, u64)> {
    const DAY: i64 = 86_400;
    let mut days: BTreeMap<i64, u64> = BTreeMap::new();
    for row in within.iter().filter_map(|ordinal| columns.rows.get(ordinal)) {
        *days.entry(row.created_at.div_euclid(DAY)).or_default() += 1;
    }
    let named = days.into_iter().filter_map(|(day, count)| {
        let at = jiff::Timestamp::from_second(day * DAY).ok()?;
        Some((at.to_zoned(jiff::tz::TimeZone::UTC).date().to_string(), count))
    });
    named.collect()
}

fn most_frequent(mut counts: Vec<(String, u64)>, limit: usize) -> Vec<(String, u64)> {
    let order = |a: &(String, u64), b: &(String, u64)| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0));
    if limit == 0 {
        return Vec::new();
    }
    if counts.len() > limit {
        counts.select_nth_unstable_by(limit - 1, order);
        counts.truncate(limit);
    }
    counts.sort_unstable_by(order);
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_frequent_first_then_by_value() {
        let counts = [("b", 2), ("a", 2), ("c", 5), ("d", 1)].map(|(name, count)| (name.to_owned(), count));
        let names = |limit| {
            most_frequent(counts.to_vec(), limit).into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(names(10), ["c", "a", "b", "d"]);
        assert_eq!(names(2), ["c", "a"]);
        assert!(names(0).is_empty());
    }

    #[test]
    fn fields_are_known_by_name() {
        assert!(
            ["author", "lang", "tags", "mentions", "created_at", "attributes.price"]
                .into_iter()
                .all(is_facet)
        );
        assert!(!["text", "attributes.", "attributes", ""].into_iter().any(is_facet));
    }
}
