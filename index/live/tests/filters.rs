//! Filters and facets against a naive scan of the posts.

mod common;

use std::collections::BTreeMap;

use bowerbird_lexical::TextClause;
use bowerbird_live::{Filter, Live, is_facet};
use bowerbird_posts::{AttributeValue, Counts, Op, Outcome, Post};
use common::{id, open};
use proptest::prelude::*;
use roaring::RoaringBitmap;

const WORDS: [&str; 5] = ["apple", "banana", "cherry", "mango", "papaya"];
const AUTHORS: [&str; 4] = ["Ann", "ann", "Bob", "Cy"];
const LANGS: [Option<&str>; 4] = [None, Some("en"), Some("fr-CA"), Some("de")];

fn any_post() -> impl Strategy<Value = Post> {
    let content =
        (0u32..25, prop::collection::vec(0usize..5, 1..4), 0usize..4, 0usize..4, -200_000i64..200_000);
    let marks = (
        prop::collection::vec(0usize..5, 0..3),
        prop::collection::vec(0usize..4, 0..2),
        any::<bool>(),
        prop::option::of(0u32..25),
        (0u64..4, 0u64..4, 0u64..4),
        prop::option::of((any::<bool>(), -2i32..3)),
    );
    (content, marks).prop_map(
        |((name, words, author, lang, at), (tags, mentions, link, reply, counts, attribute))| {
            let text: Vec<&str> = words.into_iter().map(|at| WORDS[at]).collect();
            let at = jiff::Timestamp::from_millisecond(at * 777).expect("in range");
            let mut post = Post::new(id(&format!("p{name}")), text.join(" "), AUTHORS[author], at);
            post.lang = LANGS[lang].map(str::to_owned);
            post.tags = tags.into_iter().map(|at| WORDS[at].to_owned()).collect();
            post.mentions = mentions.into_iter().map(|at| AUTHORS[at].to_owned()).collect();
            post.links = if link { vec!["https://a.example".into()] } else { Vec::new() };
            post.reply_to = reply.map(|name| id(&format!("p{name}")));
            post.counts = Counts { likes: counts.0, reposts: counts.1, replies: counts.2, views: 0 };
            if let Some((flag, number)) = attribute {
                post.attributes.insert("flag".into(), AttributeValue::Bool(flag));
                post.attributes.insert("number".into(), AttributeValue::Number(f64::from(number) / 2.0));
            }
            post.validated().expect("valid")
        },
    )
}

fn any_filter() -> impl Strategy<Value = Filter> {
    let word = || (0usize..5).prop_map(|at| WORDS[at].to_owned());
    let user = || {
        (0usize..4, any::<bool>())
            .prop_map(|(at, sigil)| format!("{}{}", if sigil { "@" } else { "" }, AUTHORS[at]))
    };
    let leaf = prop_oneof![
        user().prop_map(Filter::From),
        user().prop_map(Filter::To),
        user().prop_map(Filter::Mention),
        word().prop_map(|tag| Filter::Tag(format!("#{}", tag.to_uppercase()))),
        word().prop_map(|word| Filter::Text(TextClause::Word(word))),
        prop_oneof!["en", "fr", "FR-FR", "de", "xx"].prop_map(Filter::Lang),
        (-200i64..200).prop_map(Filter::Since),
        (-200i64..200).prop_map(Filter::Until),
        (0u64..5).prop_map(Filter::MinLikes),
        (0u64..5).prop_map(Filter::MinReposts),
        (0u64..5).prop_map(Filter::MinReplies),
        Just(Filter::HasLinks),
        Just(Filter::IsReply),
        prop_oneof!["true", "false"].prop_map(|value| Filter::Attribute { name: "flag".into(), value }),
        prop_oneof!["0.5", "1", "-1", "7"]
            .prop_map(|value| Filter::Attribute { name: "number".into(), value }),
        (0u32..30).prop_map(|name| Filter::Id(id(&format!("p{name}")))),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Filter::And),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Filter::Or),
            inner.prop_map(|part| Filter::Not(Box::new(part))),
        ]
    })
}

/// The same conditions, read from the posts themselves.
fn holds(filter: &Filter, post: &Post, all: &BTreeMap<String, (u32, Post)>) -> bool {
    let name = |name: &str| name.trim_start_matches(['@', '#']).to_lowercase();
    let nanos = |second: i64| i128::from(second) * 1_000_000_000;
    match filter {
        Filter::And(parts) => parts.iter().all(|part| holds(part, post, all)),
        Filter::Or(parts) => parts.iter().any(|part| holds(part, post, all)),
        Filter::Not(part) => !holds(part, post, all),
        Filter::Text(TextClause::Word(word)) => post.text.split(' ').any(|found| found == word),
        Filter::Text(_) => unreachable!("not generated"),
        Filter::From(user) => post.author.to_lowercase() == name(user),
        Filter::To(user) => {
            let answered = post.reply_to.as_ref().and_then(|target| all.get(target.as_str()));
            post.mentions.contains(&name(user))
                || answered.is_some_and(|(_, target)| target.author.to_lowercase() == name(user))
        }
        Filter::Tag(tag) => post.tags.contains(&name(tag)),
        Filter::Mention(user) => post.mentions.contains(&name(user)),
        Filter::Lang(lang) => post.lang.as_deref().map(|l| &l[..2]) == Some(&lang.to_lowercase()[..2]),
        Filter::Since(second) => post.created_at.as_nanosecond() >= nanos(*second),
        Filter::Until(second) => post.created_at.as_nanosecond() < nanos(*second),
        Filter::MinLikes(least) => post.counts.likes >= *least,
        Filter::MinReposts(least) => post.counts.reposts >= *least,
        Filter::MinReplies(least) => post.counts.replies >= *least,
        Filter::HasLinks => !post.links.is_empty(),
        Filter::IsReply => post.reply_to.is_some(),
        Filter::Attribute { name, value } => {
            post.attributes.get(name).is_some_and(|v| v.to_string() == *value)
        }
        Filter::Id(id) => post.id == *id,
    }
}

fn values(field: &str, post: &Post) -> Vec<String> {
    match field {
        "author" => vec![post.author.clone()],
        "lang" => post.lang.as_deref().map(|lang| lang[..2].to_owned()).into_iter().collect(),
        "tags" => post.tags.clone(),
        "mentions" => post.mentions.clone(),
        "created_at" => vec![post.created_at.to_zoned(jiff::tz::TimeZone::UTC).date().to_string()],
        _ => post
            .attributes
            .get(field.trim_start_matches("attributes."))
            .map(ToString::to_string)
            .into_iter()
            .collect(),
    }
}

fn ordinal_of(outcome: Outcome) -> u32 {
    match outcome {
        Outcome::Created { ordinal }
        | Outcome::Replaced { ordinal, .. }
        | Outcome::CountsChanged { ordinal, .. }
        | Outcome::Unchanged { ordinal } => ordinal.0,
        Outcome::Deleted { .. } | Outcome::NotFound => panic!("{outcome:?}"),
    }
}

/// Writes posts (later ones replace earlier ones of the same id) and deletes every seventh.
fn fill(live: &Live, posts: Vec<Post>) -> BTreeMap<String, (u32, Post)> {
    let mut all = BTreeMap::new();
    for (at, post) in posts.into_iter().enumerate() {
        let name = post.id.to_string();
        let outcome = live.write_blocking(vec![Op::Upsert(Box::new(post.clone()))]).expect("written")[0];
        all.insert(name.clone(), (ordinal_of(outcome), post));
        if at % 7 == 6 {
            live.write_blocking(vec![Op::Delete(id(&name))]).expect("written");
            all.remove(&name);
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn filters_and_facets_are_exact(
        posts in prop::collection::vec(any_post(), 1..60),
        filters in prop::collection::vec(any_filter(), 30),
        limit in 1usize..6,
        reopen in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut live = open(dir.path());
        let all = fill(&live, posts);
        live.flush().expect("flushed");
        if reopen {
            drop(live);
            live = open(dir.path());
        }
        let snapshot = live.snapshot();
        for filter in &filters {
            let allowed = snapshot.allowed(Some(filter)).expect("evaluated");
            let matching = all.values().filter(|(_, post)| holds(filter, post, &all));
            let expected: RoaringBitmap = matching.clone().map(|(ordinal, _)| *ordinal).collect();
            prop_assert_eq!(&*allowed.bitmap, &expected, "{:?}", filter);
            prop_assert_eq!(allowed.all, expected.len() == all.len() as u64);
            for field in ["author", "lang", "tags", "mentions", "created_at", "attributes.number", "attributes.none"] {
                prop_assert!(is_facet(field));
                let mut counts: BTreeMap<String, u64> = BTreeMap::new();
                for value in matching.clone().flat_map(|(_, post)| values(field, post)) {
                    *counts.entry(value).or_default() += 1;
                }
                let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
                counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
                counts.truncate(limit);
                prop_assert_eq!(snapshot.facets(field, &allowed.bitmap, limit), counts, "{}", field);
            }
        }
        let everything = snapshot.allowed(None).expect("evaluated");
        prop_assert!(everything.all && everything.bitmap.len() == all.len() as u64);
    }
}

#[test]
fn an_edited_post_is_found_by_id_in_the_snapshot_before_the_edit() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let live = open(dir.path());
    live.write_blocking(vec![common::upsert("a", "first")]).expect("written");
    let before = live.snapshot();
    live.write_blocking(vec![common::upsert("a", "second")]).expect("written");
    let find = |snapshot: &bowerbird_live::Snapshot| {
        let allowed = snapshot.allowed(Some(&Filter::Id(id("a")))).expect("evaluated");
        allowed.bitmap.iter().collect::<Vec<_>>()
    };
    assert_eq!((find(&before), find(&live.snapshot())), (vec![0], vec![1]));
}
