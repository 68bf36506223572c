//! Pages of one search while posts are written, edited and deleted: each hit once, in one order, and never a dead one.

use std::collections::{BTreeMap, BTreeSet};

use axum::Router;
use axum::http::{Method, StatusCode};
use bowerbird_posts::Post;
use bowerbird_tests::{Fixture, call, fixture_with, post, post_json, stub_models, test_config, write};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

const WORDS: [&str; 12] = [
    "marathon", "training", "shoes", "river", "winter", "doctor", "garden", "coffee", "night", "sugar",
    "travel", "music",
];

/// Post `n`: a few words that depend on it, so that many posts match and no two say the same.
fn numbered(n: usize) -> Post {
    let word = |k: usize| WORDS[(n * 7 + k * k * 5 + n / 12) % WORDS.len()];
    let text = format!("{} {} {} number {n}", word(1), word(2), word(3));
    post(&format!("p{n:03}"), &format!("author{}", n % 9), "2015-01-01", &text)
}

/// A small depth, so that a walk soon leaves the candidates and reaches the lexical hits behind them.
async fn shallow(posts: Vec<Post>) -> Fixture {
    let mut config = test_config();
    config.search.depth = 20;
    fixture_with(config, stub_models(""), posts).await
}

async fn page(app: &Router, body: &Value, cursor: &Value) -> Value {
    let mut body = body.clone();
    body["cursor"] = cursor.clone();
    let (status, page) = post_json(app, "/v1/search", body).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    page
}

fn ids(page: &Value) -> Vec<String> {
    let hits = page["hits"].as_array().expect("hits");
    hits.iter().map(|hit| hit["id"].as_str().expect("an id").to_owned()).collect()
}

/// All pages of a search at rest.
async fn walk(app: &Router, body: &Value) -> Vec<Value> {
    let mut pages = vec![page(app, body, &Value::Null).await];
    while !pages.last().expect("a page")["next_cursor"].is_null() {
        let cursor = pages.last().expect("a page")["next_cursor"].clone();
        pages.push(page(app, body, &cursor).await);
        assert!(pages.len() < 500, "a walk ends");
    }
    pages
}

async fn delete(app: &Router, id: &str) {
    let (status, report) = call(app, Method::DELETE, &format!("/v1/posts/{id}"), "").await;
    assert_eq!(status, StatusCode::OK, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_reaches_every_post_that_holds_a_word() {
    let fixture = shallow((0..300).map(numbered).collect()).await;
    for (body, relation) in [
        (json!({"q": "marathon coffee", "limit": 23, "collapse": "none"}), "gte"),
        (json!({"q": "marathon coffee", "limit": 100, "mode": "lexical", "collapse": "none"}), "eq"),
        (json!({"q": "marathon", "limit": 7, "sort": "recent"}), "eq"),
        (json!({"q": "from:author3", "limit": 7}), "eq"),
    ] {
        let pages = walk(&fixture.router, &body).await;
        let all: Vec<String> = pages.iter().flat_map(ids).collect();
        let distinct: BTreeSet<&String> = all.iter().collect();
        assert_eq!(distinct.len(), all.len(), "{body}: a hit came twice");
        let total = usize::try_from(pages[0]["total"]["value"].as_u64().expect("a total")).expect("small");
        assert_eq!(pages[0]["total"]["relation"], relation, "{body}");
        // By meaning, a hybrid search also finds posts without any of the words.
        assert!(if relation == "eq" { all.len() == total } else { all.len() >= total }, "{body}: {total}");
        let ranks = pages.iter().flat_map(|page| page["hits"].as_array().expect("hits").clone());
        let ranks: Vec<u64> = ranks.map(|hit| hit["rank"].as_u64().expect("a rank")).collect();
        assert_eq!(ranks, (1..=all.len() as u64).collect::<Vec<_>>(), "{body}");
        assert!(pages.iter().all(|page| page["truncated"] == false && page["total"] == pages[0]["total"]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_ends_before_its_total_says_so() {
    let mut config = test_config();
    (config.search.depth, config.search.max_hits) = (20, 60);
    let posts =
        (0..300).map(|n| post(&format!("p{n}"), "ann", "2015-01-01", &format!("marathon {n}"))).collect();
    let fixture = fixture_with(config, stub_models(""), posts).await;
    for body in [
        json!({"q": "marathon", "limit": 25, "mode": "lexical"}),
        json!({"q": "marathon", "limit": 25, "sort": "recent"}),
    ] {
        let pages = walk(&fixture.router, &body).await;
        assert_eq!(pages.iter().flat_map(ids).count(), 60, "{body}");
        let (last, before) = pages.split_last().expect("pages");
        assert_eq!(
            (last["truncated"].as_bool(), before[0]["truncated"].as_bool()),
            (Some(true), Some(false))
        );
    }
}

/// What happens between two pages.
#[derive(Clone, Debug)]
enum Change {
    Write,
    Edit(usize),
    Delete(usize),
}

fn changes() -> impl Strategy<Value = Vec<Vec<Change>>> {
    let change = prop_oneof![
        Just(Change::Write),
        (0usize..120).prop_map(Change::Edit),
        (0usize..120).prop_map(Change::Delete),
    ];
    proptest::collection::vec(proptest::collection::vec(change, 0..4), 8)
}

#[test]
fn pages_never_overlap_and_miss_nothing_while_posts_change() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut runner = TestRunner::new(ProptestConfig { cases: 6, ..ProptestConfig::default() });
    let body = json!({
        "q": "marathon winter", "limit": 9, "collapse": "none", "facets": ["author"], "filter": "-from:author8",
    });
    let searches = proptest::sample::select(vec![
        body.clone(),
        json!({"q": "marathon winter", "limit": 9, "sort": "recent", "facets": ["author"]}),
        json!({"q": "-from:author8", "limit": 11, "facets": ["author"]}),
    ]);
    let outcome = runner.run(&(changes(), searches), |(rounds, body)| {
        runtime.block_on(async {
            let fixture = shallow((0..120).map(numbered).collect()).await;
            let app = &fixture.router;
            let expected: BTreeSet<String> = walk(app, &body).await.iter().flat_map(ids).collect();
            let mut gone: BTreeSet<String> = BTreeSet::new();
            let mut seen: Vec<String> = Vec::new();
            let mut current = page(app, &body, &Value::Null).await;
            let first_total = current["total"]["value"].as_u64().expect("a total");
            let matching: u64 = count(&current);
            for round in rounds.iter().chain(std::iter::repeat(&Vec::new())) {
                for id in ids(&current) {
                    prop_assert!(!gone.contains(&id), "{} is gone", id);
                    prop_assert!(!seen.contains(&id), "{} came twice", id);
                    prop_assert!(expected.contains(&id), "{} is not of this state", id);
                    seen.push(id);
                }
                prop_assert_eq!(count(&current), current["total"]["value"].as_u64().expect("a total"));
                let left = matching - count(&current);
                prop_assert!(
                    left <= gone.len() as u64,
                    "{} posts left the total, {} are gone",
                    left,
                    gone.len()
                );
                let cursor = current["next_cursor"].clone();
                if cursor.is_null() {
                    break;
                }
                for (n, change) in round.iter().enumerate() {
                    match change {
                        Change::Write => {
                            let id = format!("new{}-{n}", seen.len());
                            write(&fixture.stack, vec![post(&id, "eve", "2016-01-01", "marathon winter")])
                                .await;
                        }
                        Change::Edit(n) => {
                            let id = format!("p{n:03}");
                            if gone.insert(id.clone()) {
                                let edited = post(&id, "eve", "2016-01-01", "marathon winter edited");
                                write(&fixture.stack, vec![edited]).await;
                            }
                        }
                        Change::Delete(n) => {
                            let id = format!("p{n:03}");
                            if gone.insert(id.clone()) {
                                delete(app, &id).await;
                            }
                        }
                    }
                }
                current = page(app, &body, &cursor).await;
            }
            let missed: Vec<&String> =
                expected.iter().filter(|id| !seen.contains(id) && !gone.contains(*id)).collect();
            prop_assert!(missed.is_empty(), "missed {:?} of {}", missed, first_total);
            Ok(())
        })
    });
    outcome.expect("pages hold");
}

/// Sum of the author facet, which counts each post once.
fn count(page: &Value) -> u64 {
    let counts = page["facets"]["author"].as_array().expect("facets");
    counts.iter().map(|entry| entry["count"].as_u64().expect("a count")).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_post_is_nowhere() {
    let text = "coffee lowers the risk of heart disease says a large new study";
    let posts = vec![
        post("first", "ann", "2015-01-01", text),
        post("again", "bob", "2015-01-02", &format!("RT @ann: {text} http://t.co/x")),
        post("third", "cec", "2015-01-03", &text.to_uppercase()),
        post("other", "dan", "2015-01-04", "coffee in the garden"),
    ];
    let fixture = shallow(posts).await;
    let app = &fixture.router;
    let body = json!({"q": "coffee heart disease study", "facets": ["author"], "limit": 1});
    let one = page(app, &body, &Value::Null).await;
    let best = ids(&one)[0].clone();
    assert_eq!(one["hits"][0]["collapsed"]["count"], 2, "{one}");
    assert_eq!(one["total"]["value"], 4);
    let folded: Vec<String> =
        serde_json::from_value(one["hits"][0]["collapsed"]["ids"].clone()).expect("ids");

    delete(app, &folded[0]).await;
    write(&fixture.stack, Vec::new()).await;
    let now = page(app, &body, &Value::Null).await;
    assert_eq!((&ids(&now)[0], &now["hits"][0]["collapsed"]["ids"]), (&best, &json!([folded[1]])), "{now}");
    assert_eq!((count(&now), now["total"]["value"].as_u64()), (3, Some(3)));
    let later = page(app, &body, &one["next_cursor"]).await;
    assert_eq!((ids(&later), count(&later)), (vec!["other".to_owned()], 3), "{later}");
    assert_eq!(later["total"]["value"], 3);

    // A hit that dies leaves its place to the next of its group.
    let cursor = {
        let lead = json!({"q": "garden coffee", "limit": 1});
        let first = page(app, &lead, &Value::Null).await;
        assert_eq!(ids(&first), ["other"]);
        (lead, first["next_cursor"].clone())
    };
    delete(app, &best).await;
    let promoted = page(app, &cursor.0, &cursor.1).await;
    assert_eq!(ids(&promoted), [folded[1].clone()], "{promoted}");
    assert!(promoted["hits"][0]["collapsed"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn near_duplicates_and_authors_are_limited_over_all_pages() {
    let mut posts: Vec<Post> = (0..120).map(numbered).collect();
    for n in 0..60 {
        let again = format!("{} http://t.co/{n}", numbered(n * 2).text.to_uppercase());
        posts.push(post(&format!("again{n}"), &format!("repeater{}", n % 3), "2015-02-01", &again));
    }
    let mut config = test_config();
    config.search.depth = 60;
    let fixture = fixture_with(config, stub_models(""), posts).await;
    let body = json!({
        "q": "marathon winter coffee", "limit": 8, "collapse": "near_duplicates", "max_per_author": 3,
        "diversity": 0.3, "explain": true,
    });
    let pages = walk(&fixture.router, &body).await;
    let hits: Vec<&Value> = pages.iter().flat_map(|page| page["hits"].as_array().expect("hits")).collect();
    let mut authors: BTreeMap<&str, usize> = BTreeMap::new();
    let mut texts: BTreeSet<String> = BTreeSet::new();
    let mut shown: BTreeSet<&str> = BTreeSet::new();
    for hit in &hits {
        *authors.entry(hit["post"]["author"].as_str().expect("an author")).or_default() += 1;
        let text = hit["post"]["text"].as_str().expect("a text").to_lowercase();
        let text = text.split(" http").next().expect("a text").to_owned();
        assert!(texts.insert(text), "{hit} says what an earlier hit said");
        let folded = hit["collapsed"]["ids"].as_array().into_iter().flatten();
        for id in folded.chain([&hit["id"]]) {
            assert!(shown.insert(id.as_str().expect("an id")), "{id} is shown twice");
        }
    }
    assert!(authors.values().all(|count| *count <= 3), "{authors:?}");
    assert!(pages.len() > 2, "{} hits", hits.len());
    let removed = &pages[0]["explain"]["removed"];
    assert!(removed["near_duplicates"].as_u64() > Some(0), "{removed}");
    assert!(removed["author_limit"].as_u64() > Some(0), "{removed}");
    assert!(removed["named"].as_array().is_some_and(|named| named.len() <= 50));
}
