//! Snapshots over HTTP while posts are written, and the directory that is made of one.

use axum::http::{Method, StatusCode};
use bowerbird::stack::{Parts, Stack};
use bowerbird_tests::{call, fixture, fixture_with, post, post_json, stub_models, test_config, write};
use serde_json::{Value, json};

fn code(body: &Value) -> (&str, Option<&str>) {
    (body["error"]["code"].as_str().unwrap_or_default(), body["error"]["param"].as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_taken_listed_restored_and_deleted_while_posts_arrive() {
    let posts = (0..300).map(|n| post(&format!("p{n}"), "ann", "2015-01-01", &format!("training day {n}")));
    let fixture = fixture(stub_models(""), posts.collect()).await;
    let app = fixture.router.clone();
    let writing = tokio::spawn(async move {
        for n in 0..60 {
            let line = json!({"id": format!("new{n}"), "text": "a late arrival", "author": "bob", "created_at": "2015-02-01T00:00:00Z"});
            let (status, body) = call(&app, Method::POST, "/v1/posts", line.to_string()).await;
            assert_eq!(status, StatusCode::OK, "{body}");
            let (status, page) = post_json(&app, "/v1/search", json!({"q": "training day 7"})).await;
            assert_eq!((status, page["hits"][0]["id"].as_str()), (StatusCode::OK, Some("p7")), "{page}");
        }
    });
    let app = &fixture.router;
    let (status, taken) = call(app, Method::POST, "/v1/snapshots", r#"{"name": "before"}"#).await;
    assert_eq!(status, StatusCode::CREATED, "{taken}");
    let count = taken["snapshot"]["posts"].as_u64().expect("a number");
    assert!((300..=360).contains(&count), "{taken}");
    let (status, again) = call(app, Method::POST, "/v1/snapshots", r#"{"name": "before"}"#).await;
    assert_eq!((status, code(&again)), (StatusCode::CONFLICT, ("snapshot_exists", Some("name"))));
    let (status, unnamed) = call(app, Method::POST, "/v1/snapshots", "").await;
    assert_eq!(status, StatusCode::CREATED, "{unnamed}");
    writing.await.expect("writes and searches went on");

    let (_, list) = call(app, Method::GET, "/v1/snapshots", "").await;
    let names: Vec<&str> =
        list["snapshots"].as_array().expect("a list").iter().filter_map(|s| s["name"].as_str()).collect();
    assert_eq!(names, [unnamed["snapshot"]["name"].as_str().expect("a name"), "before"], "{list}");
    assert_eq!(list["snapshots"][1]["posts"].as_u64(), Some(count));

    let home = fixture.dir.path().join("snapshots");
    let restored = fixture.dir.path().join("restored");
    bowerbird_live::restore(&home.join("before"), &restored).expect("restored");
    let stack = Stack::assemble(&test_config(), &restored, stub_models(""), Parts::ALL).await.expect("opens");
    assert_eq!(stack.live.status().posts, count);
    assert!(stack.ads.is_some(), "the ad database came with it");
    let page =
        stack.engine.search(&bowerbird_search::SearchRequest::new("training day 7")).await.expect("a page");
    assert_eq!(page.hits[0].post.id.as_str(), "p7");

    let (status, _) = call(app, Method::DELETE, "/v1/snapshots/before", "").await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, gone) = call(app, Method::DELETE, "/v1/snapshots/before", "").await;
    assert_eq!((status, code(&gone).0), (StatusCode::NOT_FOUND, "snapshot_not_found"));
    assert!(!home.join("before").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_lead_elsewhere_and_too_many_snapshots_are_refused() {
    let mut config = test_config();
    config.snapshots.most = 2;
    let fixture =
        fixture_with(config, stub_models(""), vec![post("a", "ann", "2015-01-01", "sleep well")]).await;
    let app = &fixture.router;
    for name in ["../out", "/tmp/x", "", ".hidden", "a b", "ä", &"x".repeat(65)] {
        let (status, body) =
            call(app, Method::POST, "/v1/snapshots", json!({"name": name}).to_string()).await;
        assert_eq!(
            (status, code(&body)),
            (StatusCode::BAD_REQUEST, ("invalid_name", Some("name"))),
            "{name}"
        );
    }
    for path in ["..%2Fgeneration", ".hidden", "%2e%2e"] {
        let (status, body) = call(app, Method::DELETE, &format!("/v1/snapshots/{path}"), "").await;
        assert_eq!((status, code(&body).0), (StatusCode::BAD_REQUEST, "invalid_name"), "{path}");
    }
    let (status, body) = call(app, Method::POST, "/v1/snapshots", r#"{"nmae": "x"}"#).await;
    assert_eq!((status, code(&body)), (StatusCode::BAD_REQUEST, ("invalid_field", Some("nmae"))));
    // Two at once: one is taken, the other is told to wait unless the first was done by then.
    let (one, two) = tokio::join!(
        call(app, Method::POST, "/v1/snapshots", r#"{"name": "one"}"#),
        call(app, Method::POST, "/v1/snapshots", r#"{"name": "two"}"#)
    );
    let refused: Vec<_> =
        [&one, &two].into_iter().filter(|(status, _)| *status != StatusCode::CREATED).collect();
    assert!(refused.len() < 2, "{one:?} {two:?}");
    for (status, body) in refused {
        assert_eq!((*status, code(body).0), (StatusCode::CONFLICT, "snapshot_running"));
    }
    for name in ["three", "four"] {
        call(app, Method::POST, "/v1/snapshots", json!({"name": name}).to_string()).await;
    }
    let (status, body) = call(app, Method::POST, "/v1/snapshots", r#"{"name": "five"}"#).await;
    assert_eq!((status, code(&body).0), (StatusCode::CONFLICT, "too_many_snapshots"));
    let (_, list) = call(app, Method::GET, "/v1/snapshots", "").await;
    assert_eq!(list["snapshots"].as_array().map(Vec::len), Some(2), "{list}");
    assert!(fixture.dir.path().join("generation").is_dir());
    write(&fixture.stack, vec![post("b", "ann", "2015-01-01", "still here")]).await;
}
