//! Ads change nothing of the organic part: not a score, an order, a word or a byte.

use axum::http::StatusCode;
use bowerbird_tests::{fixture, post_json, real_models};
use serde_json::{Value, json};

use crate::support::demo_router;

/// The page without its ads and without what differs from call to call.
fn organic(mut page: Value) -> String {
    let fields = page.as_object_mut().expect("an object");
    for field in ["ads", "request_id", "took_ms", "stages_ms", "usage", "next_cursor"] {
        fields.shift_remove(field);
    }
    page.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn page_and_answer_are_byte_identical_with_ads_on_and_off() {
    let app = demo_router().await;
    let mut served = 0;
    for q in
        ["shoes for jogging", "office job aching spine", "how to sleep better", "healthy breakfast ideas"]
    {
        for path in ["/v1/search", "/v1/answer"] {
            let (status, with) = post_json(&app, path, json!({"q": q, "ads": true})).await;
            assert_eq!(status, StatusCode::OK, "{with}");
            let (_, without) = post_json(&app, path, json!({"q": q, "ads": false})).await;
            assert!(without.get("ads").is_none());
            served += with["ads"]["blocks"].as_array().map_or(0, Vec::len);
            for block in with["ads"]["blocks"].as_array().into_iter().flatten() {
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
    assert!(served > 0, "no ad was served, so the comparison says nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_about_grave_things_carries_no_ad() {
    let posts = vec![bowerbird_tests::post(
        "a",
        "news",
        "2014-10-10",
        "Ebola outbreak: death toll passes 4,000, running out of beds",
    )];
    let fixture = fixture(real_models(), posts).await;
    let ads = fixture.stack.ads.as_ref().expect("ads are on");
    ads.import_json(bowerbird::demo::ADS).await.expect("demo ads load");
    let (_, page) = post_json(&fixture.router, "/v1/search", json!({"q": "running", "ads": true})).await;
    assert_eq!(page["hits"][0]["id"], "a");
    assert_eq!(page["ads"]["blocks"], json!([]), "{page}");
}
