//! Posts in and out over HTTP, and a restart.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use bowerbird::profile::ProfileChoice;
use bowerbird::stack::{Models, Parts, Stack};
use bowerbird_models_api::stub::{StubEmbedder, StubReranker};
use bowerbird_models_api::{Embedder, Reranker};
use bowerbird_posts::{Op, PostId};
use bowerbird_scheduler::{Encoders, EncodersConfig};
use bowerbird_tests::{call, fixture, fixture_with, post, post_json, stub_models, test_config};
use futures::StreamExt;
use serde_json::json;
use tower::ServiceExt;

use crate::support::Permitted;

fn ids(page: &serde_json::Value) -> Vec<&str> {
    page["hits"].as_array().expect("hits").iter().map(|hit| hit["id"].as_str().expect("id")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_is_written_read_changed_found_and_deleted() {
    let fixture = fixture(stub_models(""), Vec::new()).await;
    let app = &fixture.router;
    let lines = [
        json!({"id": "a", "text": "Sleep better with #melatonin", "author": "ann", "created_at": "2015-01-01T00:00:00Z"}),
        json!({"id": "b", "text": "Running shoes for flat feet", "author": "bob", "created_at": "2015-01-02T00:00:00Z"}),
    ];
    let body = format!("{}\n{{\"id\": 3}}\n\n{}\n", lines[0], lines[1]);
    let (status, report) = call(app, Method::POST, "/v1/posts", body).await;
    assert_eq!(status, StatusCode::OK, "{report}");
    let states: Vec<_> = report["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|i| (i["line"].as_u64(), i["status"].as_str()))
        .collect();
    assert_eq!(states, [(Some(1), Some("created")), (Some(2), Some("refused")), (Some(4), Some("created"))]);
    assert!(report["items"][1]["error"].as_str().expect("why").contains("id"), "{report}");
    assert_eq!(report["errors"], true);

    let (status, found) = call(app, Method::GET, "/v1/posts/a", "").await;
    assert_eq!((status, found["tags"][0].as_str()), (StatusCode::OK, Some("melatonin")));

    let (status, patched) = call(app, Method::PATCH, "/v1/posts/a", r#"{"likes": 7}"#).await;
    assert_eq!((status, patched["items"][0]["status"].as_str()), (StatusCode::OK, Some("counts_changed")));
    let (_, page) = post_json(app, "/v1/search", json!({"q": "min_likes:7"})).await;
    assert_eq!(ids(&page), ["a"], "{page}");

    bowerbird_tests::write(&fixture.stack, Vec::new()).await;
    let (_, page) = post_json(app, "/v1/search", json!({"q": "melatonin"})).await;
    assert_eq!(ids(&page)[0], "a", "{page}");

    let (status, _) = call(app, Method::DELETE, "/v1/posts/a", "").await;
    assert_eq!(status, StatusCode::OK);
    let (_, page) = post_json(app, "/v1/search", json!({"q": "melatonin sleep"})).await;
    assert!(!ids(&page).contains(&"a"), "{page}");
    for (method, path) in [(Method::GET, "/v1/posts/a"), (Method::DELETE, "/v1/posts/a")] {
        let (status, body) = call(app, method, path, "").await;
        assert_eq!((status, body["error"]["code"].as_str()), (StatusCode::NOT_FOUND, Some("post_not_found")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_finds_everything_again() {
    let posts = (0..200)
        .map(|n| post(&format!("p{n}"), "ann", "2015-01-01", &format!("marathon training day {n}")))
        .collect();
    let fixture = fixture(stub_models(""), posts).await;
    let dir = fixture.dir;
    drop((fixture.stack, fixture.router));
    let stack =
        Stack::assemble(&test_config(), dir.path(), stub_models(""), Parts::ALL).await.expect("opens again");
    assert_eq!(stack.live.status().posts, 200);
    assert_eq!(stack.live.status().vectors_pending, 0);
    let page = stack.engine.search(&bowerbird_search::SearchRequest::new("marathon")).await.expect("a page");
    assert_eq!(page.total.value, 200);
}

/// Scores are remembered by query and text: what was scored of an older version of a post is not found again.
#[tokio::test(flavor = "multi_thread")]
async fn an_edited_post_gets_the_score_of_its_new_text() {
    let score = async |fixture: &bowerbird_tests::Fixture| {
        let body = json!({"q": "sleep better tonight", "explain": true});
        let (_, page) = post_json(&fixture.router, "/v1/search", body).await;
        let hit = page["hits"].as_array().expect("hits").iter().find(|hit| hit["id"] == "a");
        hit.and_then(|hit| hit["scores"]["rerank"].as_f64()).unwrap_or_else(|| panic!("{page}"))
    };
    // One post alone is not reranked, and without a gate every other query is.
    let mut config = test_config();
    config.search.rerank_profile = ProfileChoice::None;
    let other = post("b", "bob", "2015-01-01", "tonight better steel");
    let old = post("a", "ann", "2015-01-01", "sleep better tonight, says the doctor");
    let new = post("a", "ann", "2015-01-01", "sleep is what the doctor says");
    let fresh =
        score(&fixture_with(config.clone(), stub_models(""), vec![new.clone(), other.clone()]).await).await;
    let edited = fixture_with(config, stub_models(""), vec![old, other]).await;
    let before = score(&edited).await;
    assert!((score(&edited).await - before).abs() < 1e-9);
    let remembered = edited.stack.encoders.caches()[1].hits;
    assert_eq!(remembered, 2, "the second search found the scores of the first");
    bowerbird_tests::write(&edited.stack, vec![new]).await;
    let after = score(&edited).await;
    assert!(
        (after - fresh).abs() < 1e-9 && after < before,
        "{before}, {after} after the edit, {fresh} when new"
    );
    assert_eq!(edited.stack.encoders.caches()[1].hits, remembered + 1, "only the post that stayed was found");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_another_model_is_told_apart_at_the_start() {
    let first = fixture(stub_models(""), vec![post("a", "ann", "2015-01-01", "sleep better tonight")]).await;
    let dir = first.dir;
    drop((first.stack, first.router));
    let other = Encoders::start(EncodersConfig { workers: 1, ..EncodersConfig::default() }, |_| {
        Ok((
            Box::new(StubEmbedder::new(64)) as Box<dyn Embedder>,
            Box::new(StubReranker) as Box<dyn Reranker>,
        ))
    });
    let models = Models { encoders: other.expect("starts"), ..stub_models("") };
    let error = Stack::assemble(&test_config(), dir.path(), models, Parts::ALL).await.err();
    let message = format!("{:#}", error.expect("128 components are not 64"));
    assert!(message.contains("space") || message.contains("another model"), "{message}");
    let again = Stack::assemble(&test_config(), dir.path(), stub_models(""), Parts::ALL).await;
    assert_eq!(again.expect("nothing was lost").live.status().posts, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_do_not_overlap_while_posts_arrive() {
    let text = |n: usize| format!("marathon {} day {n}", "training ".repeat(1 + n % 7));
    let posts = (0..300).map(|n| post(&format!("p{n:03}"), "ann", "2015-01-01", &text(n))).collect();
    let fixture = fixture(stub_models(""), posts).await;
    let mut seen = std::collections::BTreeSet::new();
    let mut cursor = serde_json::Value::Null;
    let mut pages = 0;
    loop {
        let body = json!({"q": "marathon training", "limit": 37, "cursor": cursor});
        let (status, page) = post_json(&fixture.router, "/v1/search", body).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        for id in ids(&page) {
            assert!(seen.insert(id.to_owned()), "{id} came twice");
        }
        bowerbird_tests::write(
            &fixture.stack,
            vec![post(&format!("new{pages}"), "eve", "2015-02-01", "marathon training")],
        )
        .await;
        pages += 1;
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(seen.len(), 300);
    assert!(seen.iter().all(|id| id.starts_with('p')), "a post written later is not part of the walk");
}

#[tokio::test(flavor = "multi_thread")]
async fn newest_first_takes_posts_that_hold_most_of_the_query() {
    let posts = vec![
        post("old", "ann", "2014-01-01", "running shoes for marathon day"),
        post("new", "ann", "2015-01-01", "new running shoes tested"),
        post("half", "ann", "2015-02-01", "running a hospital in winter"),
        post("other", "ann", "2015-03-01", "a healthy breakfast of oats and berries"),
    ];
    let fixture = fixture(stub_models(""), posts).await;
    let (_, page) =
        post_json(&fixture.router, "/v1/search", json!({"q": "running shoes", "sort": "recent"})).await;
    assert_eq!(ids(&page), ["new", "old"], "{page}");
    assert!(page["query"]["note"].is_null());
    let (_, page) =
        post_json(&fixture.router, "/v1/search", json!({"q": "zebra quilting", "sort": "recent"})).await;
    assert_eq!(ids(&page)[0], "other", "the newest of the nearest: {page}");
    assert!(page["query"]["note"].as_str().is_some_and(|note| note.contains("nearest")), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn facets_count_what_the_total_counts() {
    let texts = ["the best of running", "the rest of the day", "running at night", "of the people"];
    let posts = texts.iter().enumerate();
    let posts = posts.map(|(n, text)| post(&n.to_string(), "ann", "2015-01-01", text)).collect();
    let fixture = fixture(stub_models(""), posts).await;
    let body = json!({"q": "the running of the year", "facets": ["author"]});
    let (_, page) = post_json(&fixture.router, "/v1/search", body).await;
    assert_eq!(page["total"]["value"], 2, "{page}");
    assert_eq!(page["facets"]["author"], json!([{"value": "ann", "count": 2}]), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_in_progress_does_not_cite_a_post_after_its_deletion_or_edit() {
    let texts = [
        ("kept", "Coffee lowers the risk of liver disease in adults"),
        ("deleted", "Coffee lowers the risk of heart disease in women"),
        ("edited", "Coffee lowers the risk of kidney disease in men"),
    ];
    let generator = Permitted::new();
    let permits = Arc::clone(&generator.permits);
    let mut models = stub_models("");
    models.generator = Some(Arc::new(generator));
    let posts = texts.iter().map(|(id, text)| post(id, "ann", "2015-01-01", text)).collect();
    let mut config = test_config();
    // The second answer is to be written like the first.
    config.answer.cache_memory = bytesize::ByteSize(0);
    let fixture = fixture_with(config, models, posts).await;
    let body = json!({"q": "coffee lowers the risk of disease", "stream": true, "timeout_ms": 60_000});
    let asking = |body: &serde_json::Value| {
        let request = Request::post("/v1/answer").header("content-type", "application/json");
        fixture.router.clone().oneshot(request.body(Body::from(body.to_string())).expect("a request"))
    };
    let read = async |change: bool| {
        let mut stream = asking(&body).await.expect("answers").into_body().into_data_stream();
        let mut text = String::new();
        // The sources are out: the answer is being written and waits for its generator.
        while !text.contains("event: sources") || !text.ends_with("\n\n") {
            text.push_str(
                std::str::from_utf8(&stream.next().await.expect("more").expect("read")).expect("text"),
            );
        }
        if change {
            let edit = post("edited", "ann", "2015-01-01", "Tea is another thing");
            let gone = Op::Delete(PostId::new("deleted").expect("valid"));
            fixture.stack.live.write(vec![gone, Op::Upsert(Box::new(edit))]).await.expect("acknowledged");
        }
        let before = text.len();
        permits.add_permits(16);
        while let Some(chunk) = stream.next().await {
            text.push_str(std::str::from_utf8(&chunk.expect("read")).expect("text"));
        }
        text.split_off(before)
    };
    let whole = read(false).await;
    for (id, _) in texts {
        assert!(whole.contains(&format!("\"post_id\":\"{id}\"")), "{id}: {whole}");
    }
    permits.forget_permits(usize::MAX >> 4);
    let after = read(true).await;
    assert!(after.contains("\"post_id\":\"kept\"") && after.contains("event: done"), "{after}");
    for gone in ["heart", "kidney", "\"post_id\":\"deleted\"", "\"post_id\":\"edited\""] {
        assert!(!after.contains(gone), "{gone}: {after}");
    }
}
