//! Filters, facets, features and explanations, held against plain counting.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use axum::http::StatusCode;
use bowerbird_posts::{AttributeValue, Counts, Post};
use bowerbird_tests::{fixture, post, post_json, stub_models};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

const WORDS: [&str; 8] = ["amber", "birch", "cedar", "daisy", "elder", "fennel", "ginger", "hazel"];
const DAYS: [&str; 4] = ["2014-06-01", "2014-06-02", "2014-07-01", "2015-01-01"];

/// Post `n`; every property takes several values, out of step with the others.
fn varied(n: usize) -> Post {
    let (word, other) = (WORDS[n % 8], WORDS[(n / 3 + 5) % 8]);
    let mut text = format!("{word} and {other} n{n}");
    if n.is_multiple_of(5) {
        let _ = write!(text, " #tag{}", n % 3);
    }
    if n.is_multiple_of(4) {
        let _ = write!(text, " @user{}", n % 2);
    }
    if n.is_multiple_of(7) {
        text.push_str(" http://example.com/x");
    }
    let mut post = post(&format!("p{n:03}"), &format!("author{}", n % 6), DAYS[n / 2 % 4], &text);
    post.counts = Counts { likes: (n % 11) as u64, reposts: (n % 4) as u64, replies: 0, views: 0 };
    post.lang = Some(if n.is_multiple_of(3) { "fr" } else { "en" }.into());
    post.attributes.insert("flair".into(), AttributeValue::Text(format!("f{}", n % 4)));
    post
}

/// A condition, as text and as a plain test.
#[derive(Clone, Debug)]
enum Condition {
    Word(usize),
    From(usize),
    Tag(usize),
    Mention(usize),
    Lang(bool),
    Since(usize),
    Until(usize),
    Likes(u64),
    Links,
    Flair(usize),
    Not(Box<Condition>),
    All(Box<Condition>, Box<Condition>),
    Any(Box<Condition>, Box<Condition>),
}

impl Condition {
    fn text(&self) -> String {
        match self {
            Self::Word(n) => WORDS[*n].to_owned(),
            Self::From(n) => format!("from:author{n}"),
            Self::Tag(n) => format!("#tag{n}"),
            Self::Mention(n) => format!("@user{n}"),
            Self::Lang(fr) => format!("lang:{}", if *fr { "fr" } else { "en" }),
            Self::Since(n) => format!("since:{}", DAYS[*n]),
            Self::Until(n) => format!("until:{}", DAYS[*n]),
            Self::Likes(n) => format!("min_likes:{n}"),
            Self::Links => "has:links".to_owned(),
            Self::Flair(n) => format!("attr.flair:f{n}"),
            Self::Not(inner) => format!("-({})", inner.text()),
            Self::All(a, b) => format!("({} {})", a.text(), b.text()),
            Self::Any(a, b) => format!("({} OR {})", a.text(), b.text()),
        }
    }

    fn holds(&self, post: &Post) -> bool {
        match self {
            Self::Word(n) => post.text.split(' ').any(|word| word == WORDS[*n]),
            Self::From(n) => post.author == format!("author{n}"),
            Self::Tag(n) => post.text.contains(&format!("#tag{n}")),
            Self::Mention(n) => post.text.contains(&format!("@user{n}")),
            Self::Lang(fr) => (post.lang.as_deref() == Some("fr")) == *fr,
            Self::Since(n) => post.created_at.to_string().as_str() >= DAYS[*n],
            Self::Until(n) => post.created_at.to_string().as_str() < DAYS[*n],
            Self::Likes(n) => post.counts.likes >= *n,
            Self::Links => post.text.contains("http://"),
            Self::Flair(n) => post.attributes["flair"].to_string() == format!("f{n}"),
            Self::Not(inner) => !inner.holds(post),
            Self::All(a, b) => a.holds(post) && b.holds(post),
            Self::Any(a, b) => a.holds(post) || b.holds(post),
        }
    }
}

fn condition() -> impl Strategy<Value = Condition> {
    let leaf = prop_oneof![
        (0usize..8).prop_map(Condition::Word),
        (0usize..7).prop_map(Condition::From),
        (0usize..3).prop_map(Condition::Tag),
        (0usize..2).prop_map(Condition::Mention),
        any::<bool>().prop_map(Condition::Lang),
        (0usize..4).prop_map(Condition::Since),
        (0usize..4).prop_map(Condition::Until),
        (0u64..12).prop_map(Condition::Likes),
        Just(Condition::Links),
        (0usize..5).prop_map(Condition::Flair),
    ];
    leaf.prop_recursive(3, 12, 2, |inner| {
        let boxed = inner.prop_map(Box::new);
        prop_oneof![
            boxed.clone().prop_map(Condition::Not),
            (boxed.clone(), boxed.clone()).prop_map(|(a, b)| Condition::All(a, b)),
            (boxed.clone(), boxed).prop_map(|(a, b)| Condition::Any(a, b)),
        ]
    })
}

#[test]
fn filters_and_facets_agree_with_a_scan() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let posts: Vec<Post> = (0..90).map(varied).map(|post| post.validated().expect("valid")).collect();
    let fixture = runtime.block_on(fixture(stub_models(""), posts.clone()));
    let mut runner = TestRunner::new(ProptestConfig { cases: 150, ..ProptestConfig::default() });
    let outcome = runner.run(&(condition(), proptest::option::of(0usize..8)), |(condition, word)| {
        // With a word, every hit passes the filter and the total counts those that hold the word.
        let q = word.map_or("", |word| WORDS[word]);
        let body = json!({
            "q": q, "filter": condition.text(), "limit": 100, "facets": ["author", "attributes.flair"],
            "collapse": "none",
        });
        let (status, page) = runtime.block_on(post_json(&fixture.router, "/v1/search", body));
        prop_assert_eq!(status, StatusCode::OK, "{}: {}", condition.text(), page);
        let passing = posts.iter().filter(|post| condition.holds(post));
        let (passing, counted): (Vec<&Post>, Vec<&Post>) = (
            passing.clone().collect(),
            passing.filter(|p| word.is_none_or(|word| Condition::Word(word).holds(p))).collect(),
        );
        let found: BTreeSet<&str> =
            page["hits"].as_array().expect("hits").iter().filter_map(|hit| hit["id"].as_str()).collect();
        let ids = |posts: &[&Post]| posts.iter().map(|p| p.id.to_string()).collect::<BTreeSet<String>>();
        let (passing, expected) = (ids(&passing), ids(&counted));
        for id in &found {
            prop_assert!(passing.contains(*id), "{} does not pass {}", id, condition.text());
        }
        for id in &expected {
            prop_assert!(found.contains(id.as_str()), "{} is missing from {}", id, condition.text());
        }
        prop_assert_eq!(page["total"]["value"].as_u64(), Some(expected.len() as u64));
        for (field, of) in [
            ("author", (|p: &Post| p.author.clone()) as fn(&Post) -> String),
            ("attributes.flair", |p| p.attributes["flair"].to_string()),
        ] {
            let mut naive: BTreeMap<String, u64> = BTreeMap::new();
            for p in &counted {
                *naive.entry(of(p)).or_default() += 1;
            }
            let counts: BTreeMap<String, u64> = page["facets"][field]
                .as_array()
                .expect("facets")
                .iter()
                .map(|c| (c["value"].as_str().expect("a value").to_owned(), c["count"].as_u64().unwrap_or(0)))
                .collect();
            prop_assert_eq!(counts, naive);
        }
        Ok(())
    });
    outcome.expect("filters agree");
}

/// The final score from the parts of the explanation, by the documented formula.
fn recomputed(explain: &Value) -> f64 {
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    if explain["part"] == "tail" {
        let lexical: f64 =
            explain["terms"].as_array().expect("terms").iter().map(|t| number(&t["score"])).sum();
        return -1.0 / (1.0 + lexical);
    }
    let leg = |leg: &Value| number(&leg["share"]) * number(&leg["scaled"]);
    let fused = leg(&explain["lexical"]) + leg(&explain["vector"]) + leg(&explain["neighbours"]);
    let rerank = &explain["rerank"];
    let blended = (1.0 - number(&rerank["share"])) * number(&rerank["fused_scaled"])
        + number(&rerank["share"]) * number(&rerank["logit_scaled"]);
    let relevance = match explain["part"].as_str() {
        _ if !explain["raised_from"].is_null() => number(&explain["relevance"]),
        Some("head") => f64::midpoint(1.0, blended),
        _ if explain["reranked"] == true => fused / 2.0,
        _ => fused,
    };
    let feature = |name: &str| (number(&explain[name]["weight"]), number(&explain[name]["value"]));
    let ((w_r, fresh), (w_e, popular)) = (feature("recency"), feature("engagement"));
    (1.0 - w_r - w_e) * relevance + w_r * fresh + w_e * popular
}

#[tokio::test(flavor = "multi_thread")]
async fn the_explanation_adds_up_to_the_score() {
    let fixture = fixture(stub_models(""), (0..250).map(varied).collect()).await;
    let now = "2015-02-01T00:00:00Z";
    let mut checked = 0;
    for (fusion, rerank) in [
        (json!("normalized"), true),
        (json!({"mode": "normalized", "weight": 0.2}), false),
        (json!({"mode": "rrf", "k": 10}), true),
        (json!("dbsf"), false),
    ] {
        for extra in [
            json!({}),
            json!({"recency": {"half_life": "30d", "weight": 0.2}, "engagement": {"weight": 0.1}, "diversity": 0.4}),
        ] {
            let mut body = json!({
                "q": "amber cedar hazel", "limit": 100, "explain": true, "fusion": fusion, "rerank": rerank, "now": now,
            });
            body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
            let (_, page) = post_json(&fixture.router, "/v1/search", body.clone()).await;
            assert_eq!(page["explain"]["now"], now, "{page}");
            for hit in page["hits"].as_array().expect("hits") {
                let mut explain = hit["explain"].clone();
                explain["reranked"] = json!(page["explain"]["reranked"].as_u64() > Some(0));
                let (found, score) = (recomputed(&explain), hit["score"].as_f64().expect("a score"));
                assert!((found - score).abs() < 1e-4, "{body}: {found}, {score}: {hit}");
                let terms = explain["terms"].as_array().expect("terms");
                let lexical: f64 = terms.iter().filter_map(|term| term["score"].as_f64()).sum();
                let bm25 = hit["scores"]["lexical"].as_f64().expect("bm25");
                assert!((lexical - bm25).abs() < 1e-3, "{lexical}, {bm25}");
                assert_eq!(explain["ranks"]["diverse"], hit["rank"]);
                checked += 1;
            }
        }
    }
    assert!(checked > 400, "{checked}");
}

fn ids(page: &Value) -> Vec<&str> {
    page["hits"].as_array().expect("hits").iter().filter_map(|hit| hit["id"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn freshness_and_engagement_move_equal_posts() {
    let mut loved = post("loved", "cec", "2014-01-01", "amber birch three");
    loved.counts.likes = 500;
    let posts = vec![
        post("old", "ann", "2014-01-01", "amber birch one"),
        post("new", "bob", "2014-12-30", "amber birch two"),
        post("future", "dan", "2030-01-01", "amber birch four"),
        loved,
    ];
    let fixture = fixture(stub_models(""), posts).await;
    let search = async |extra: Value| {
        let mut body =
            json!({"q": "amber birch", "rerank": false, "now": "2015-01-01T00:00:00Z", "explain": true});
        body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        post_json(&fixture.router, "/v1/search", body).await.1
    };
    let fresh = search(json!({"recency": {"half_life": "7d", "weight": 0.9}})).await;
    assert_eq!(ids(&fresh)[..2], ["future", "new"], "{fresh}");
    let age = |at: usize| fresh["hits"][at]["explain"]["recency"]["raw"].as_i64();
    assert_eq!((age(0), age(1)), (Some(0), Some(129_600)), "a post from the future has age 0");
    let popular = search(json!({"engagement": {"weight": 0.9}})).await;
    assert_eq!(ids(&popular)[0], "loved", "{popular}");
    let off = search(json!({"recency": {"half_life": "7d", "weight": 0.0}})).await;
    assert!(off["hits"][0]["explain"]["recency"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_with_every_rare_word_is_not_lost_to_near_misses() {
    let mut posts: Vec<Post> = (0..80)
        .map(|n| {
            let text =
                format!("please help me what happened with my order yesterday evening, still waiting {n}");
            post(&format!("talk{n}"), "ann", "2015-01-01", &text)
        })
        .collect();
    posts.push(post("exact", "shop", "2014-01-01", "parcel XJ-4471 left our warehouse in Lyon by truck"));
    let fixture = fixture(stub_models(""), posts).await;
    let body = json!({
        "q": "please help what happened with my order yesterday evening xj-4471", "explain": true, "rerank": false,
        "collapse": "none",
    });
    let (_, page) = post_json(&fixture.router, "/v1/search", body).await;
    let at = ids(&page).iter().position(|id| *id == "exact");
    assert_eq!(at, Some(9), "{:?}", ids(&page));
    assert!(!page["hits"][9]["explain"]["raised_from"].is_null(), "{}", page["hits"][9]["explain"]);
    assert_eq!(page["explain"]["exact_posts"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn feedback_finds_posts_by_the_words_of_the_first_ones() {
    let filler =
        |n: usize| post(&format!("talk{n}"), "ann", "2015-01-01", &format!("nothing of note today {n}"));
    let mut posts: Vec<Post> = (0..60).map(filler).collect();
    for (id, text) in [("a", "amber violin"), ("b", "an amber violin again"), ("c", "violin practice")] {
        posts.push(post(id, "ann", "2015-01-01", text));
    }
    let fixture = fixture(stub_models(""), posts).await;
    let search = async |feedback: serde_json::Value| {
        let body = json!({"q": "amber", "mode": "lexical", "feedback": feedback, "explain": true, "facets": ["author"]});
        post_json(&fixture.router, "/v1/search", body).await.1
    };
    let plain = search(json!(null)).await;
    assert_eq!(ids(&plain), ["a", "b"]);
    let widened = search(json!({"original": 0.5})).await;
    let found: std::collections::BTreeSet<&str> = ids(&widened).into_iter().collect();
    assert_eq!(found, ["a", "b", "c"].into(), "{widened}");
    assert_eq!(
        (&widened["total"], &widened["facets"]),
        (&plain["total"], &plain["facets"]),
        "of the typed words"
    );
    for hit in widened["hits"].as_array().expect("hits") {
        let terms = hit["explain"]["terms"].as_array().expect("terms");
        let sum: f64 = terms.iter().filter_map(|term| term["score"].as_f64()).sum();
        let score = hit["scores"]["lexical"].as_f64().expect("a lexical score");
        assert!((sum - score).abs() < 1e-4 * score, "{sum} is not {score}: {hit}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_word_is_a_beginning_while_the_person_types() {
    let posts = [("a", "vaccine for the flu"), ("b", "vaccination day"), ("c", "vacuum cleaner")];
    let posts = posts.map(|(id, text)| post(id, "ann", "2015-01-01", text));
    let fixture = fixture(stub_models(""), posts.into()).await;
    let search = async |q: &str, prefix_last: bool| {
        let body = json!({"q": q, "mode": "lexical", "prefix_last": prefix_last});
        post_json(&fixture.router, "/v1/search", body).await.1
    };
    assert_eq!(search("vacc", false).await["total"]["value"], 0);
    assert_eq!(search("vacc", true).await["total"]["value"], 2);
    assert_eq!(search("vacc ", true).await["total"]["value"], 0);
    assert_eq!(ids(&search("flu vacc", true).await), ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_out_of_range_are_named() {
    let fixture = fixture(stub_models(""), vec![post("a", "ann", "2015-01-01", "amber")]).await;
    for (field, value, param) in [
        ("timeout_ms", json!(0), "timeout_ms"),
        ("timeout_ms", json!(60_001), "timeout_ms"),
        ("diversity", json!(1.5), "diversity"),
        ("max_per_author", json!(0), "max_per_author"),
        ("recency", json!({"half_life": "7d", "weight": 2}), "recency.weight"),
        ("recency", json!({"half_life": "0s", "weight": 0.1}), "recency.half_life"),
        ("recency", json!({"half_life": "soon", "weight": 0.1}), "recency.half_life"),
        ("engagement", json!({"weight": -0.1}), "engagement.weight"),
        ("fusion", json!({"mode": "rrf", "k": 0}), "fusion.k"),
        ("fusion", json!({"mode": "dbsf", "k": 6}), "fusion.k"),
        ("fusion", json!({"mode": "normalized", "weight": 7}), "fusion.weight"),
        ("fusion", json!("average"), "fusion"),
        ("collapse", json!("some"), "collapse"),
        ("feedback", json!({"posts": 0}), "feedback.posts"),
        ("feedback", json!({"terms": 65}), "feedback.terms"),
        ("feedback", json!({"original": 0}), "feedback.original"),
    ] {
        let mut body = json!({"q": "amber"});
        body[field] = value;
        let (status, envelope) = post_json(&fixture.router, "/v1/search", body.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}: {envelope}");
        let named = envelope["error"]["param"].as_str().unwrap_or_default();
        assert!(param.starts_with(named) && !named.is_empty(), "{body}: {envelope}");
    }
    let (_, page) = post_json(&fixture.router, "/v1/search", json!({"q": "amber is:nice \"x"})).await;
    assert!(page["query"]["note"].is_string() && page["query"]["parsed"].is_string(), "{page}");
    let (_, page) = post_json(&fixture.router, "/v1/search", json!({"q": "amber is:nice"})).await;
    assert_eq!(page["query"]["ignored"][0]["part"], "is:nice", "{page}");
}
