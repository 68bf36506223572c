//! 64 clients write, edit, delete, count and search at once; each keeps a model of what was acknowledged to it.
//!
//! 8 seconds; `BOWERBIRD_CONCURRENCY_SECONDS=60` for a minute.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{Method, StatusCode};
use bowerbird_tests::{call, fixture, post_json, stub_models};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

const CLIENTS: u64 = 64;
/// A page holds all posts of a client.
const POSTS: usize = 60;
/// What the process may grow by while the number of posts stands still: loose, against a leak only.
const GROWTH_BYTES: u64 = 512 << 20;

#[derive(Default)]
struct Client {
    /// Id to version of the text and likes.
    posts: BTreeMap<String, (u64, u64)>,
    version: u64,
    refused: u64,
    calls: u64,
}

/// One call; 429 is the only refusal there may be, and means that nothing was done.
async fn ask(
    app: &Router,
    client: &mut Client,
    method: Method,
    path: &str,
    body: String,
) -> Option<(StatusCode, Value)> {
    client.calls += 1;
    let (status, body) = call(app, method, path, body).await;
    if status == StatusCode::TOO_MANY_REQUESTS {
        client.refused += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
        return None;
    }
    Some((status, body))
}

fn line(author: u64, id: &str, version: u64) -> Value {
    json!({
        "id": id, "author": format!("c{author}"), "created_at": "2015-01-01T00:00:00Z",
        "text": format!("shared words of everybody version{version}of{id}"),
    })
}

async fn run(app: Router, me: u64, until: Instant) -> Client {
    let mut random = SmallRng::seed_from_u64(me);
    let mut client = Client::default();
    while Instant::now() < until {
        let some = |random: &mut SmallRng, client: &Client| {
            let at = random.random_range(0..client.posts.len().max(1));
            client.posts.keys().nth(at).cloned()
        };
        match random.random_range(0..100) {
            0..35 => write(&app, me, &mut client, &mut random).await,
            35..50 => {
                let Some(id) = some(&mut random, &client) else { continue };
                let path = format!("/v1/posts/{id}");
                if let Some((status, body)) =
                    ask(&app, &mut client, Method::DELETE, &path, String::new()).await
                {
                    assert_eq!(status, StatusCode::OK, "{body}");
                    client.posts.remove(&id);
                    let read = ask(&app, &mut client, Method::GET, &path, String::new()).await;
                    assert!(read.is_none_or(|(status, _)| status == StatusCode::NOT_FOUND), "{id} came back");
                }
            }
            50..65 => {
                let Some(id) = some(&mut random, &client) else { continue };
                let likes = random.random_range(0..1000);
                let (path, body) = (format!("/v1/posts/{id}"), json!({"likes": likes}).to_string());
                if let Some((status, body)) = ask(&app, &mut client, Method::PATCH, &path, body).await {
                    assert_eq!(status, StatusCode::OK, "{body}");
                    client.posts.entry(id).and_modify(|(_, now)| *now = likes);
                }
            }
            65..85 => own_posts(&app, me, &mut client).await,
            _ => everybodys_posts(&app, me, &mut client).await,
        }
    }
    client
}

/// New posts and new versions of old ones.
async fn write(app: &Router, me: u64, client: &mut Client, random: &mut SmallRng) {
    let ids: BTreeSet<String> =
        (0..random.random_range(1..=3)).map(|_| format!("c{me}p{}", random.random_range(0..POSTS))).collect();
    client.version += 1;
    let version = client.version;
    let lines: Vec<String> = ids.iter().map(|id| line(me, id, version).to_string()).collect();
    if let Some((status, body)) = ask(app, client, Method::POST, "/v1/posts", lines.join("\n")).await {
        assert_eq!((status, &body["errors"]), (StatusCode::OK, &json!(false)), "{body}");
        for id in ids {
            // A new text brings its own counters.
            client.posts.insert(id, (version, 0));
        }
    }
}

fn hits(page: &Value) -> BTreeMap<String, Value> {
    let list = page["hits"].as_array().expect("hits");
    let found: BTreeMap<_, _> =
        list.iter().map(|hit| (hit["id"].as_str().expect("an id").to_owned(), hit["post"].clone())).collect();
    assert_eq!(found.len(), list.len(), "a post twice: {page}");
    found
}

/// What a client has been told is what it finds: nothing lost, nothing twice, nothing that is gone.
async fn own_posts(app: &Router, me: u64, client: &mut Client) {
    let body = json!({"q": format!("from:c{me} min_likes:500"), "limit": 100}).to_string();
    if let Some((status, page)) = ask(app, client, Method::POST, "/v1/search", body).await {
        assert_eq!(status, StatusCode::OK, "{page}");
        let popular = client.posts.iter().filter(|(_, (_, likes))| *likes >= 500).map(|(id, _)| id);
        assert!(hits(&page).keys().eq(popular), "{page}");
    }
    let body = json!({"q": format!("from:c{me}"), "limit": 100, "facets": ["author"]}).to_string();
    let Some((status, page)) = ask(app, client, Method::POST, "/v1/search", body).await else { return };
    assert_eq!(status, StatusCode::OK, "{page}");
    let found = hits(&page);
    assert!(found.keys().eq(client.posts.keys()), "found {:?}, told {:?}", found.keys(), client.posts.keys());
    assert_eq!(page["total"]["value"].as_u64(), Some(client.posts.len() as u64), "{page}");
    for (id, post) in found {
        let (version, likes) = client.posts[&id];
        assert!(
            post["text"].as_str().is_some_and(|text| text.contains(&format!("version{version}of"))),
            "{post}"
        );
        assert_eq!(post["counts"]["likes"].as_u64().unwrap_or_default(), likes, "{post}");
    }
    let facet = &page["facets"]["author"];
    let counted = facet.as_array().and_then(|values| values.first()).map(|value| value["count"].as_u64());
    let expected = (!client.posts.is_empty()).then_some(Some(client.posts.len() as u64));
    assert_eq!(counted, expected, "{facet}");
}

/// A search over all posts: each once, and of one's own only what is still there.
async fn everybodys_posts(app: &Router, me: u64, client: &mut Client) {
    let body = json!({"q": "shared words of everybody", "limit": 100}).to_string();
    let Some((status, page)) = ask(app, client, Method::POST, "/v1/search", body).await else { return };
    assert_eq!(status, StatusCode::OK, "{page}");
    let mine = format!("c{me}p");
    for (id, post) in hits(&page) {
        if id.starts_with(&mine) {
            let version = client.posts.get(&id).unwrap_or_else(|| panic!("{id} was deleted and is found")).0;
            assert!(
                post["text"].as_str().is_some_and(|t| t.contains(&format!("version{version}of"))),
                "{post}"
            );
        }
    }
}

/// Bytes of memory in use; none where the system does not say.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    text.split(' ').nth(1)?.parse::<u64>().ok().map(|pages| pages * 4096)
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_at_once_find_what_they_were_told_and_memory_is_bounded() {
    let seconds = std::env::var("BOWERBIRD_CONCURRENCY_SECONDS")
        .map_or(8, |text| text.parse().expect("BOWERBIRD_CONCURRENCY_SECONDS is a number of seconds"));
    let fixture = fixture(stub_models(""), Vec::new()).await;
    let begun = Instant::now();
    let until = begun + Duration::from_secs(seconds);
    let clients: Vec<_> =
        (0..CLIENTS).map(|me| tokio::spawn(run(fixture.router.clone(), me, until))).collect();
    // By a quarter of the time every client has about as many posts as it will have.
    tokio::time::sleep(Duration::from_secs(seconds) / 4).await;
    let (settled, mut most) = (resident_bytes(), None);
    while Instant::now() < until {
        most = most.max(resident_bytes());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut models = Vec::new();
    for client in clients {
        models.push(client.await.expect("no client was told anything wrong"));
    }
    let calls: u64 = models.iter().map(|client| client.calls).sum();
    let refused: u64 = models.iter().map(|client| client.refused).sum();
    assert!(models.iter().all(|client| client.calls > client.refused), "{refused} of {calls} refused");
    if let (Some(settled), Some(most)) = (settled, most) {
        assert!(most < settled + GROWTH_BYTES, "memory grew from {settled} to {most} bytes");
    }

    bowerbird_tests::write(&fixture.stack, Vec::new()).await;
    for (me, client) in (0..).zip(&mut models) {
        own_posts(&fixture.router, me, client).await;
        for (id, (version, _)) in client.posts.iter().take(5) {
            let q = format!("\"version{version}of{id}\"");
            let (status, page) = post_json(&fixture.router, "/v1/search", json!({"q": q})).await;
            assert_eq!(
                (status, hits(&page).into_keys().collect()),
                (StatusCode::OK, vec![id.clone()]),
                "{page}"
            );
        }
    }
    let told: u64 = models.iter().map(|client| client.posts.len() as u64).sum();
    let snapshot = fixture.stack.live.snapshot();
    assert_eq!((snapshot.live().len(), snapshot.lexical().doc_count()), (told, told));
    let dir = fixture.dir;
    drop((snapshot, fixture.stack, fixture.router));
    let report = bowerbird_live::check(dir.path()).expect("closed");
    assert!(report.agrees() && report.posts == told, "{report:?}");
}
