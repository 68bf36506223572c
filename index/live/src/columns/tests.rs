//! What columns keep, what they give up, and what that costs.

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
            columns.by_author.get(&name).contains(n) && columns.by_tag.get(&format!("tag{n}")).contains(n)
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
            PostId::new(format!("{}", 1_000_000_000_000_000_000 + u64::from(n / 2) * 7919)).expect("valid"),
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
        let mut cost = |what: &str, change: &mut dyn FnMut(&mut ColumnsWriter, &mut RoaringBitmap, u32)| {
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
