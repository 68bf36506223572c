//! From a decision to the money, the reports and the other market's language, over HTTP.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use bowerbird_tests::{Fixture, call, fixture_with, post_json, stub_models, test_config};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tower::ServiceExt;

const QUERY: &str = "running shoes";

/// The demo's ads.
pub async fn market() -> Fixture {
    let mut config = test_config();
    // The test clicks faster than a person.
    config.ads.engine.traffic.least_click_delay = Duration::ZERO;
    let fixture = fixture_with(config, stub_models(""), Vec::new()).await;
    let ads = fixture.stack.ads.as_ref().expect("ads are on");
    ads.import_json(bowerbird::demo::ADS).await.expect("demo ads load");
    fixture
}

async fn get(app: &Router, path: &str) -> Value {
    let (status, body) = call(app, Method::GET, path, Body::empty()).await;
    assert_eq!(status, StatusCode::OK, "{path}: {body}");
    body
}

/// A served block, seen and clicked, with the auction it comes from.
async fn sold(app: &Router) -> (String, Value) {
    let (status, slate) =
        post_json(app, "/v1/decide", json!({"q": QUERY, "user": "u1", "device": "phone"})).await;
    assert_eq!(status, StatusCode::OK, "{slate}");
    let block = slate["blocks"][0].clone();
    let seen = get(app, block["impression_url"].as_str().expect("a link")).await;
    assert_eq!((&seen["status"], &seen["duplicate"]), (&json!("recorded"), &json!(false)));
    let (status, _) =
        call(app, Method::GET, block["click_url"].as_str().expect("a link"), Body::empty()).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    (slate["auction_id"].as_str().expect("an id").to_owned(), block)
}

#[tokio::test]
async fn a_click_is_explained_reported_and_audited() {
    let fixture = market().await;
    let app = &fixture.router;
    let (auction, block) = sold(app).await;

    let why = get(app, &format!("/v1/explain/{auction}")).await;
    assert_eq!(why["replay"]["same"], json!(true), "{why}");
    assert_eq!((&why["awards"][0]["ad"], &why["query"]), (&block["ad_id"], &json!(QUERY)));
    let took_part = why["candidates"].as_array().expect("a list");
    assert!(took_part.iter().any(|candidate| candidate["ad"] == block["ad_id"]), "{why}");
    let (status, _) =
        call(app, Method::GET, "/v1/explain/00000000-0000-0000-0000-000000000001", Body::empty()).await;
    assert_eq!(status, StatusCode::NOT_FOUND);

    // Its advertiser sees its own part of that, and nobody's bid.
    let won = took_part.iter().find(|candidate| candidate["ad"] == block["ad_id"]).expect("took part");
    let campaign = get(app, &format!("/v1/campaigns/{}", won["campaign"].as_str().expect("an id"))).await;
    let advertiser = campaign["advertiser"].as_str().expect("an id");
    let own = get(app, &format!("/v1/explain/{auction}?advertiser={advertiser}")).await;
    assert_eq!(own["own"], json!([won]), "{own}");
    assert_eq!(own["others"], json!(took_part.len() - 1));
    let award = &why["awards"][0];
    assert_eq!((&own["awards"][0]["ad"], &own["awards"][0]["price"]), (&award["ad"], &award["price"]));
    for other in took_part.iter().filter(|candidate| candidate["ad"] != block["ad_id"]) {
        assert!(!own.to_string().contains(other["ad"].as_str().expect("an id")), "{own}");
    }
    let nobody = format!("/v1/explain/{auction}?advertiser=nobody");
    let (status, _) = call(app, Method::GET, &nobody, Body::empty()).await;
    assert_eq!(status, StatusCode::NOT_FOUND);

    let terms = get(app, "/v1/reports?by=search_term").await;
    let row = terms["rows"].as_array().and_then(|rows| rows.iter().find(|row| row["key"] == QUERY));
    let row = row.unwrap_or_else(|| panic!("{terms}"));
    assert_eq!((&row["impressions"], &row["clicks"]), (&json!(1), &json!(1)));
    assert!(row["spent"].as_i64().is_some_and(|spent| spent > 0), "{row}");
    let hours = get(app, "/v1/reports?by=hour").await;
    let of_hours = hours["rows"].as_array().expect("rows").iter();
    let of_hours: i64 = of_hours.filter_map(|row| row["spent"].as_i64()).sum();
    assert_eq!(json!(of_hours), row["spent"], "{hours}");
    let traffic = get(app, "/v1/reports/traffic").await;
    assert!(traffic["rows"].as_array().is_some_and(|rows| rows.iter().any(|row| row["status"] == "billed")));
    post_json(app, "/v1/decide", json!({"q": "who won the world cup"})).await;
    let empty = get(app, "/v1/reports/no_fill").await;
    assert_eq!(empty["rows"][0], json!({"reason": "no_campaign_fits", "decisions": 1}));

    let audit = get(app, "/v1/ledger/audit").await;
    assert_eq!(audit["differences"], json!([]), "{audit}");
    assert!(audit["compared"].as_i64().is_some_and(|n| n >= 5) && audit["entries"] == json!(1), "{audit}");

    let campaign = why["candidates"][0]["campaign"].as_str().expect("an id");
    let simulated = get(app, &format!("/v1/campaigns/{campaign}/simulation")).await;
    assert_eq!(simulated["auctions"], json!(1), "{simulated}");

    for path in [
        "/v1/reports?by=weather",
        "/v1/reports?from=2026-13-01",
        "/v1/reports?from=2026-02-01&to=2026-01-01",
        "/v1/reports?by=hour&from=2026-01-01&to=2026-02-02",
    ] {
        let (status, body) = call(app, Method::GET, path, Body::empty()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}: {body}");
    }
}

#[tokio::test]
async fn what_was_shown_is_public_and_nobody_who_saw_it() {
    let fixture = market().await;
    let app = &fixture.router;
    let (_, block) = sold(app).await;
    let request = Request::get("/transparency/ads").body(Body::empty()).expect("a request");
    let response = app.clone().oneshot(request).await.expect("routers do not fail");
    assert_eq!((response.status(), response.headers().get("link")), (StatusCode::OK, None));
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
    let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let ads: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let shown = ads.iter().find(|ad| ad["ad"] == block["ad_id"]).unwrap_or_else(|| panic!("{text}"));
    assert_eq!((&shown["headline"], &shown["advertiser"]), (&block["headline"], &block["advertiser"]));
    // One impression would speak of one reader.
    assert_eq!((&shown["paid_by"], &shown["impressions_at_least"]), (&block["paid_by"], &json!(0)));
    let keywords = shown["targeting"]["keywords"].as_array().expect("keywords");
    assert!(keywords.iter().any(|keyword| keyword["negative"] == json!(false)), "{shown}");
    assert!(!text.contains("u1") && !text.contains("micros") && !text.contains("bid"), "{text}");
    let rest = format!("/transparency/ads?after={}", ads.last().expect("one")["ad"].as_str().expect("an id"));
    let (status, body) = call(app, Method::GET, &rest, Body::empty()).await;
    assert_eq!((status, body), (StatusCode::OK, Value::Null), "nothing after the last");
    let (status, _) = call(app, Method::GET, "/transparency/ads?since=1", Body::empty()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_conversion_is_signed_and_counts_once() {
    let fixture = market().await;
    let app = &fixture.router;
    let (auction, block) = sold(app).await;
    let advertiser = "fernquist";
    let (status, made) =
        post_json(app, &format!("/v1/advertisers/{advertiser}/postback_key"), json!({})).await;
    assert_eq!(status, StatusCode::OK, "{made}");
    let key = hex::decode(made["postback_key"].as_str().expect("told once")).expect("hexadecimal");
    let click_id = format!("{auction}:{}:{}", block["slot"], block["ad_id"].as_str().expect("an id"));
    let tell = async |body: Value, forged: bool| {
        let body = body.to_string();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any length");
        mac.update(body.as_bytes());
        let mut signature = hex::encode(mac.finalize().into_bytes());
        if forged {
            let first = if signature.starts_with('0') { "1" } else { "0" };
            signature.replace_range(0..1, first);
        }
        let request = Request::post("/v1/conversions").header("x-bowerbird-signature", signature);
        let response =
            app.clone().oneshot(request.body(Body::from(body)).expect("a request")).await.expect("answers");
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        (status, serde_json::from_slice::<Value>(&bytes).expect("JSON"))
    };
    let order =
        json!({"advertiser": advertiser, "order_id": "o1", "click_id": click_id, "value_micros": 30_000_000});
    let (status, body) = tell(order.clone(), true).await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::BAD_REQUEST, &json!("invalid_postback")));
    let (status, told) = tell(order.clone(), false).await;
    assert_eq!(status, StatusCode::OK, "{told}");
    let own = block["ad_id"].as_str().is_some_and(|ad| ad.starts_with("fernquist"));
    assert_eq!(told["attribution"], if own { json!("click") } else { json!("none") });
    let (_, again) = tell(order, false).await;
    assert_eq!(again["duplicate"], json!(true));
    let (status, _) =
        tell(json!({"advertiser": advertiser, "order_id": "o2", "value_micros": -1}), false).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

fn bid_request(change: impl FnOnce(&mut Value)) -> Value {
    let native = json!({"assets": [{"id": 1, "required": 1, "title": {"len": 90}},
        {"id": 2, "required": 1, "data": {"type": 2, "len": 200}}]});
    let mut request = json!({
        "id": "r1", "tmax": 1500, "cur": ["USD"], "at": 2,
        "imp": [{"id": "i1", "native": {"request": native.to_string()}}],
        "site": {"domain": "forum.example", "search": QUERY},
        "regs": {"ext": {"dsa": {"dsarequired": 2, "pubrender": 0}}},
    });
    change(&mut request);
    request
}

#[tokio::test]
async fn another_market_is_answered_in_its_language() {
    let fixture = market().await;
    let app = &fixture.router;
    let ask = async |change: fn(&mut Value)| {
        let (status, body) = post_json(app, "/openrtb2/auction", bid_request(change)).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    };
    let test = ask(|request| request["test"] = json!(1)).await;
    assert!(test["seatbid"][0]["bid"][0].get("burl").is_none(), "{test}");
    let audit = get(app, "/v1/ledger/audit").await;
    assert_eq!((&audit["holds"], &audit["compared"]), (&json!(0), &json!(0)), "a test holds nothing");

    let won = ask(|_| {}).await;
    let bid = &won["seatbid"][0]["bid"][0];
    assert_eq!(
        (&won["id"], &won["cur"], &bid["impid"], &bid["mtype"]),
        (&json!("r1"), &json!("USD"), &json!("i1"), &json!(4))
    );
    assert!(bid["price"].as_f64().is_some_and(|price| price > 0.0), "{won}");
    assert!(bid["ext"]["dsa"]["paid"].as_str().is_some_and(|paid| !paid.is_empty()), "{won}");
    let markup: Value = serde_json::from_str(bid["adm"].as_str().expect("text")).expect("JSON");
    assert_eq!(markup["native"]["assets"].as_array().map(Vec::len), Some(2), "{markup}");
    let billed = bid["burl"].as_str().and_then(|url| url.find("/e/i/").map(|at| &url[at..])).expect("a link");
    assert_eq!(get(app, billed).await["status"], json!("recorded"));
    assert_eq!(get(app, "/v1/ledger/audit").await["holds"], json!(1));

    let domain = bid["adomain"][0].as_str().expect("a domain").to_owned();
    let (_, other) = post_json(app, "/openrtb2/auction", bid_request(|r| r["badv"] = json!([domain]))).await;
    assert_ne!(other["seatbid"][0]["bid"][0]["adomain"][0], json!(domain), "a blocked advertiser bids");
    assert_eq!(
        ask(|request| request["imp"] = json!([{"id": "i1", "banner": {"w": 300}}])).await["nbr"],
        json!(502)
    );
    assert_eq!(ask(|request| request["tmax"] = json!(1)).await["nbr"], json!(15));
    assert_eq!(ask(|request| request["site"]["search"] = json!("suicide")).await["nbr"], json!(500));
    assert_eq!(ask(|request| request["imp"][0]["bidfloor"] = json!(1e6)).await["nbr"], json!(501));
    let (status, _) = post_json(app, "/openrtb2/auction", json!({"imp": 3})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}
