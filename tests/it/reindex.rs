//! Rebuilding the indexes while they serve: over HTTP with stub models, and from one real embedder to another.

use std::time::Duration;

use axum::Router;
use axum::http::{Method, StatusCode};
use bowerbird::stack::{Parts, Stack, cache_dir, load_models, model_store};
use bowerbird_catalog::{Catalog, Silent};
use bowerbird_reindex::{Phase, Plan, State};
use bowerbird_search::SearchRequest;
use bowerbird_tests::{call, fixture, post, post_json, real_models, stub_models, test_config, write};
use serde_json::{Value, json};

fn code(body: &Value) -> (&str, Option<&str>) {
    (body["error"]["code"].as_str().unwrap_or_default(), body["error"]["param"].as_str())
}

/// The task once it has one of `states`.
async fn until(app: &Router, id: &str, states: &[&str]) -> Value {
    for _ in 0..600 {
        let (status, page) = call(app, Method::GET, &format!("/v1/tasks/{id}"), "").await;
        assert_eq!(status, StatusCode::OK, "{page}");
        let (state, phase) = (page["task"]["state"].as_str(), page["task"]["progress"]["phase"].as_str());
        let running = !states.contains(&"waiting") && phase != Some("ended");
        if !running && state.is_some_and(|state| states.contains(&state)) {
            return page["task"].clone();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{id} has none of {states:?} after 30 s");
}

async fn ids(app: &Router, body: Value) -> (Vec<String>, Value) {
    let (status, page) = post_json(app, "/v1/search", body).await;
    assert_eq!((status, &page["degraded"]), (StatusCode::OK, &json!([])), "{page}");
    let ids = page["hits"].as_array().expect("hits").iter().filter_map(|hit| hit["id"].as_str());
    (ids.map(str::to_owned).collect(), page["next_cursor"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_is_begun_watched_taken_over_rolled_back_and_pruned() {
    let text = |n: usize| {
        if n.is_multiple_of(2) { format!("running shoes {n}") } else { format!("he runs {n} miles") }
    };
    let posts = (0..120).map(|n| post(&format!("p{n}"), &format!("author{n}"), "2015-01-01", &text(n)));
    let fixture = fixture(stub_models(""), posts.collect()).await;
    let app = &fixture.router;

    let (status, body) = post_json(app, "/v1/reindex", json!({})).await;
    assert_eq!((status, code(&body).0), (StatusCode::CONFLICT, "nothing_to_reindex"));
    for (bad, param) in [
        (json!({"share": 0}), "share"),
        (json!({"embeder": "x"}), "embeder"),
        (json!({"embedder": "nobody"}), "embedder"),
        (json!({"embedder": "ms-marco-MiniLM-L-12-v2"}), "embedder"),
        (json!({"analyzer": "klingon"}), "analyzer"),
        (json!({"analyzer": "plain", "require": {"overlap": 2}}), "require.overlap"),
        (json!({"vector": {"m": 1}}), "vector"),
    ] {
        let (status, body) = post_json(app, "/v1/reindex", bad.clone()).await;
        assert_eq!((status, code(&body).1), (StatusCode::BAD_REQUEST, Some(param)), "{bad}: {body}");
    }
    assert_eq!(call(app, Method::GET, "/v1/tasks/reindex-9", "").await.0, StatusCode::NOT_FOUND);

    // The two analysers find different posts, so all of the first ten in common is too much to ask.
    let asked = json!({"analyzer": "plain", "require": {"overlap": 1.0}, "queries": [{"q": "run"}]});
    let (status, begun) = post_json(app, "/v1/reindex", asked).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{begun}");
    let refused = until(app, "reindex-2", &["refused"]).await;
    assert!(refused["reasons"][0].as_str().expect("a reason").contains("overlap"), "{refused}");
    assert_eq!(refused["comparison"]["posts"], 120);
    assert_eq!(refused["comparison"]["shards_that_differ"], json!([]));

    // The same settings under other conditions go on with what was built.
    let asked = json!({"analyzer": "plain", "cut_over": "manual", "queries": [{"q": "run"}]});
    let (status, begun) = post_json(app, "/v1/reindex", asked.clone()).await;
    assert_eq!((status, begun["task"]["id"].as_str()), (StatusCode::ACCEPTED, Some("reindex-2")), "{begun}");
    let (status, body) = post_json(app, "/v1/reindex", asked).await;
    assert_eq!((status, code(&body).0), (StatusCode::CONFLICT, "reindex_running"));
    until(app, "reindex-2", &["waiting"]).await;
    assert_eq!(
        ids(app, json!({"q": "running", "mode": "lexical", "limit": 100})).await.0.len(),
        100,
        "stems"
    );
    let first = json!({"q": "running", "mode": "lexical", "limit": 100});
    let (page, cursor) = ids(app, first.clone()).await;
    write(&fixture.stack, vec![post("late", "ann", "2015-01-02", "running late")]).await;
    let (status, body) = call(app, Method::POST, "/v1/tasks/reindex-2/pause", "").await;
    assert_eq!((status, code(&body).0), (StatusCode::CONFLICT, "reindex_state"));
    assert_eq!(call(app, Method::POST, "/v1/tasks/reindex-2/hurry", "").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(call(app, Method::POST, "/v1/tasks/reindex-2/take_over", "").await.0, StatusCode::OK);
    let done = until(app, "reindex-2", &["done"]).await;
    assert_eq!((&done["replaced"], &done["generation"]), (&json!(1), &json!(2)));

    let (found, _) = ids(app, first).await;
    assert_eq!(found.len(), 61, "no word loses its ending, and the post that came meanwhile is there");
    assert!(found.contains(&"late".to_owned()));
    let next = json!({"q": "running", "mode": "lexical", "limit": 100, "cursor": cursor});
    let (rest, _) = ids(app, next.clone()).await;
    assert_eq!(rest.len(), 20, "the cursor goes on in the generation it was made in");
    assert!(rest.iter().all(|id| !page.contains(id)));

    let (status, body) = call(app, Method::POST, "/v1/reindex/rollback", "").await;
    assert_eq!((status, &body["generation"]), (StatusCode::OK, &json!(1)), "{body}");
    let all = json!({"q": "running late", "mode": "lexical", "limit": 100});
    assert_eq!(ids(app, all).await.0[0], "late", "what was written since is in the old one too");
    let (status, body) = call(app, Method::POST, "/v1/reindex/rollback", "").await;
    assert_eq!((status, code(&body).0), (StatusCode::CONFLICT, "no_earlier_generation"));
    let (_, list) = call(app, Method::GET, "/v1/reindex", "").await;
    assert_eq!(list["tasks"][0]["state"], "rolled_back", "{list}");
    assert_eq!(list["generations"].as_array().map(Vec::len), Some(2), "{list}");
    let (_, pruned) = call(app, Method::POST, "/v1/reindex/prune", "").await;
    assert!(pruned["bytes"].as_u64() > Some(0), "{pruned}");
    assert_eq!(call(app, Method::GET, "/v1/tasks/reindex-2", "").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_is_paused_resumed_and_cancelled() {
    let posts = (0..400).map(|n| post(&format!("p{n}"), "ann", "2015-01-01", &format!("word{n} here")));
    let fixture = fixture(stub_models(""), posts.collect()).await;
    let app = &fixture.router;
    // A tenth of a percent of the time: slow enough to be caught.
    let (_, begun) = post_json(app, "/v1/reindex", json!({"analyzer": "plain", "share": 0.001})).await;
    assert_eq!(begun["task"]["id"], "reindex-2", "{begun}");
    let (status, paused) = call(app, Method::POST, "/v1/tasks/reindex-2/pause", "").await;
    assert_eq!((status, &paused["task"]["state"]), (StatusCode::OK, &json!("paused")), "{paused}");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (_, one) = call(app, Method::GET, "/v1/tasks/reindex-2", "").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (_, two) = call(app, Method::GET, "/v1/tasks/reindex-2", "").await;
    assert_eq!(one["task"]["progress"]["vectors_left"], two["task"]["progress"]["vectors_left"]);
    let (status, going) = call(app, Method::POST, "/v1/tasks/reindex-2/resume", "").await;
    assert_eq!((status, &going["task"]["state"]), (StatusCode::OK, &json!("building")));
    assert_eq!(call(app, Method::DELETE, "/v1/tasks/reindex-2", "").await.0, StatusCode::NO_CONTENT);
    assert!(!fixture.dir.path().join("generation-2").exists(), "what was built is gone");
    assert_eq!(call(app, Method::GET, "/v1/tasks/reindex-2", "").await.0, StatusCode::NOT_FOUND);
    // The next one gets the number again and comes to its end.
    let (_, begun) = post_json(app, "/v1/reindex", json!({"analyzer": "plain"})).await;
    until(app, begun["task"]["id"].as_str().expect("an id"), &["done"]).await;
}

/// Ids and scores of the first ten for each query.
async fn answers(stack: &Stack, queries: &[&str]) -> Vec<Vec<(String, f32)>> {
    let mut all = Vec::new();
    for q in queries {
        let page = stack.engine.search(&SearchRequest::new(*q)).await.expect("a page");
        assert_eq!(page.degraded, [], "{q}");
        let vector = |hit: &bowerbird_search::Hit| hit.scores.vector.unwrap_or(0.0);
        all.push(page.hits.iter().map(|hit| (hit.post.id.as_str().to_owned(), vector(hit))).collect());
    }
    all
}

async fn rebuild(stack: &Stack, plan: Plan) -> Plan {
    let reindexer = stack.reindexer.clone();
    let id = reindexer.start(plan).expect("begun");
    for _ in 0..3000 {
        let now = reindexer.status(&id).expect("known");
        if now.progress.phase == Phase::Ended {
            return now.plan;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{id} does not end");
}

#[tokio::test(flavor = "multi_thread")]
async fn from_one_real_embedder_to_another_and_back() {
    let catalog = Catalog::embedded().expect("a catalog");
    let store = model_store(&test_config()).expect("a store");
    let archive = store.ensure(catalog.entry("demo-posts").expect("demo posts"), &Silent).expect("fetched");
    let mut posts = bowerbird::demo::corpus::read(&archive.join("healthtweets.zip")).expect("demo posts");
    posts.truncate(250);
    let queries = ["cannot sleep at night", "running shoes", "flu vaccine for children", "coffee and heart"];

    // What the other embedder gives from the start, and what it gives after a migration, is the same.
    let direct = fixture(real_models(), posts.clone()).await;
    let expected = answers(&direct.stack, &queries).await;

    let dir = tempfile::tempdir_in(cache_dir().expect("a cache")).expect("a directory");
    let mut config = test_config();
    config.models.embedder = "e5-small-v2".into();
    let models = load_models(&config, Parts::SEARCH, &Silent).expect("e5-small-v2 loads");
    let stack = Stack::assemble(&config, dir.path(), models, Parts::SEARCH).await.expect("opens");
    write(&stack, posts).await;
    let before = answers(&stack, &queries).await;
    assert_ne!(before, expected);
    drop(stack);

    // The configured embedder is another: the index says which one its queries need.
    let config = test_config();
    let open =
        || async { Stack::assemble(&config, dir.path(), real_models(), Parts::SEARCH).await.expect("opens") };
    let stack = open().await;
    assert_eq!(stack.index_embedder(), "e5-small-v2");
    assert_eq!(answers(&stack, &queries).await, before);
    let done = rebuild(&stack, Plan::new("bge-small-en-v1.5")).await;
    assert_eq!((done.state, done.reasons), (State::Done, Vec::<String>::new()));
    let compared = done.comparison.expect("compared");
    assert_eq!((compared.posts, compared.vectors, compared.new.failed), (250, 250, 0), "{compared:?}");
    assert_eq!(answers(&stack, &queries).await, expected);
    drop(stack);

    let stack = open().await;
    assert_eq!(stack.index_embedder(), "bge-small-en-v1.5");
    assert_eq!(answers(&stack, &queries).await, expected);
    write(&stack, vec![post("late", "ann", "2016-01-01", "coffee at midnight")]).await;
    let reindexer = stack.reindexer.clone();
    assert_eq!(
        tokio::task::spawn_blocking(move || reindexer.rollback()).await.expect("ran").expect("back"),
        1
    );
    assert_eq!(stack.index_embedder(), "e5-small-v2");
    write(&stack, Vec::new()).await;
    let found = answers(&stack, &["coffee at midnight"]).await;
    assert_eq!(found[0][0].0, "late", "what was written since is found by word and meaning");
    assert_eq!(answers(&stack, &queries[..3]).await, before[..3]);
}
