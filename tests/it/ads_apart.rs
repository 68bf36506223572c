//! Ads change nothing of the organic part: not a score, an order, a word or a byte.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use bowerbird::answers::Answers;
use bowerbird::http::router;
use bowerbird::stack::Stack;
use bowerbird_tests::{fixture, fixture_with, post, post_json, real_models, stub_models, test_config};
use bytesize::ByteSize;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};

use crate::support::{Copying, demo_stack};

/// The page without its ads and without what differs from call to call.
fn organic(mut page: Value) -> String {
    let fields = page.as_object_mut().expect("an object");
    for field in ["ads", "request_id", "took_ms", "stages_ms", "usage", "next_cursor"] {
        fields.shift_remove(field);
    }
    page.to_string()
}

/// What [`compare`] saw.
#[derive(Default)]
struct Seen {
    blocks: usize,
    pages: usize,
}

/// Page and answer of `q` with ads on and off are the same bytes; what was served is labelled.
async fn compare(app: &Router, q: &str, seen: &mut Seen) {
    for path in ["/v1/search", "/v1/answer"] {
        let (status, with) = post_json(app, path, json!({"q": q, "ads": true})).await;
        assert_eq!(status, StatusCode::OK, "{with}");
        let (_, without) = post_json(app, path, json!({"q": q, "ads": false})).await;
        assert!(without.get("ads").is_none());
        let blocks = with["ads"]["blocks"].as_array().map_or(&[][..], Vec::as_slice);
        seen.blocks += blocks.len();
        seen.pages += usize::from(!blocks.is_empty());
        for block in blocks {
            for field in ["advertiser", "paid_by", "why", "headline", "click_url", "impression_url"] {
                assert!(block[field].as_str().is_some_and(|v| !v.is_empty()), "{field}: {block}");
            }
            assert_eq!(
                (block["type"].as_str(), block["label"].as_str()),
                (Some("sponsored"), Some("Sponsored"))
            );
        }
        assert_eq!(organic(with), organic(without), "{path} {q}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn page_and_answer_are_byte_identical_with_ads_on_and_off() {
    // Both answers are written: a kept one would be compared with itself.
    let answers = Answers::new(ByteSize(0), Duration::from_secs(1), "");
    let stack = Stack { answers, ..demo_stack().await };
    let app = router(stack, PrometheusBuilder::new().build_recorder().handle());
    let mut seen = Seen::default();
    for q in [
        "shoes for jogging",
        "office job aching spine",
        "how to sleep better",
        "healthy breakfast ideas",
        "gadgets that count your steps",
        "my head is throbbing",
        "yoga for beginners",
        "is barefoot running better",
        "quit smoking tips",
        "sunscreen safe for children",
        "stress at work",
        "can't nod off at night",
    ] {
        compare(&app, q, &mut seen).await;
    }
    assert!(seen.blocks > 0, "no ad was served, so the comparison says nothing");
}

/// Subjects of the demo's ads and of its posts, and ways to ask for them.
const SUBJECTS: [&str; 20] = [
    "running shoes",
    "barefoot running",
    "walking shoes",
    "a pillow for the neck",
    "blackout curtains",
    "falling asleep",
    "guided meditation",
    "an ergonomic chair",
    "a standing desk",
    "a fitness tracker",
    "a headache diary",
    "healthy dinner",
    "yoga classes",
    "back pain",
    "flu shots",
    "coffee",
    "vitamin supplements",
    "sunscreen",
    "quitting smoking",
    "stress at work",
];
const FORMS: [&str; 10] = [
    "{}",
    "is {} good for you",
    "best {} for beginners",
    "{} for children",
    "cheap {} in 2014",
    "does {} help at night",
    "buy {} online",
    "{} study risk",
    "what do people say about {}",
    "{} side effects",
];

/// With stub models, so that 200 queries take seconds; the generator keeps every prompt.
#[tokio::test(flavor = "multi_thread")]
async fn over_200_queries_no_byte_changes_and_no_sponsored_word_reaches_the_generator() {
    let texts = [
        "A study says {} may help with the risk of falling ill",
        "What people say about {}: it is good for most beginners",
        "Doctors warn that {} has side effects for some children",
    ];
    let mut posts = Vec::new();
    for (subject, at) in SUBJECTS.iter().zip(0..) {
        for (text, n) in texts.iter().zip(0..) {
            posts.push(post(&format!("p{at}-{n}"), "ann", "2014-05-01", &text.replace("{}", subject)));
        }
    }
    let copying = Arc::new(Copying::default());
    let mut models = stub_models("");
    models.generator = Some(copying.clone());
    let mut config = test_config();
    config.answer.cache_memory = ByteSize(0);
    let fixture = fixture_with(config, models, posts).await;
    let ads = fixture.stack.ads.as_ref().expect("ads are on");
    ads.import_json(bowerbird::demo::ADS).await.expect("demo ads load");

    let (mut seen, mut queries) = (Seen::default(), 0);
    for subject in SUBJECTS {
        for form in FORMS {
            compare(&fixture.router, &form.replace("{}", subject), &mut seen).await;
            queries += 1;
        }
    }
    assert_eq!(queries, 200);
    assert!(seen.pages >= 40, "only {} of 400 pages had an ad", seen.pages);

    let prompts = copying.prompts.lock().expect("not poisoned");
    assert!(prompts.len() >= 200, "only {} prompts", prompts.len());
    let words = sponsored_words(&serde_json::from_str(bowerbird::demo::ADS).expect("JSON"));
    assert!(words.len() >= 60, "{words:?}");
    for prompt in prompts.iter() {
        let word = words.iter().find(|word| prompt.to_lowercase().contains(*word));
        assert_eq!(word, None, "in the prompt {prompt}");
    }
}

/// What advertisers wrote: names, payers, headlines, texts and addresses, in lower case.
fn sponsored_words(ads: &Value) -> Vec<String> {
    let mut words = Vec::new();
    let mut open = vec![ads];
    while let Some(value) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(fields) => {
                for (name, value) in fields {
                    let is_text = ["headline", "display_url", "landing_url", "paid_by"]
                        .contains(&name.as_str())
                        || (name == "text" && fields.contains_key("headline"))
                        || (name == "name" && fields.contains_key("campaigns"));
                    words.extend(value.as_str().filter(|_| is_text).map(str::to_lowercase));
                    open.push(value);
                }
            }
            _ => {}
        }
    }
    words
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_about_grave_things_carries_no_ad() {
    let posts =
        vec![post("a", "news", "2014-10-10", "Ebola outbreak: death toll passes 4,000, running out of beds")];
    let fixture = fixture(real_models(), posts).await;
    let ads = fixture.stack.ads.as_ref().expect("ads are on");
    ads.import_json(bowerbird::demo::ADS).await.expect("demo ads load");
    let (_, page) = post_json(&fixture.router, "/v1/search", json!({"q": "running", "ads": true})).await;
    assert_eq!(page["hits"][0]["id"], "a");
    assert_eq!(page["ads"]["blocks"], json!([]), "{page}");
}
