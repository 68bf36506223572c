//! What is wrong in a booking or forged in a link is refused by name, and neither moves money nor leaves anything behind.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowerbird::config::Config;
use bowerbird_tests::{Fixture, call, post_json, test_config};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::ads_catalog::booked_with;

const LANDING: &str = "https://kettle.example/";

fn config() -> Config {
    let mut config = test_config();
    // The test clicks faster than a person.
    config.ads.engine.traffic.least_click_delay = Duration::ZERO;
    config
}

/// Tokens of the impression and the click of a block.
async fn decided(fixture: &Fixture) -> (String, String) {
    fixture.stack.ads.as_ref().expect("ads are on").in_force().await.expect("reads");
    let (status, slate) = post_json(&fixture.router, "/v1/decide", json!({"q": "kettle"})).await;
    assert_eq!(status, StatusCode::OK, "{slate}");
    let token = |name: &str| {
        let url = slate["blocks"][0][name].as_str().unwrap_or_else(|| panic!("no {name}: {slate}"));
        url.rsplit('/').next().expect("a last part").to_owned()
    };
    (token("impression_url"), token("click_url"))
}

/// Status, where it leads, and the body of a call of a link.
async fn follow(fixture: &Fixture, path: &str) -> (u16, String, Value) {
    let request = Request::get(path).body(Body::empty()).expect("a request");
    let response = fixture.router.clone().oneshot(request).await.expect("routers do not fail");
    let status = response.status().as_u16();
    let location = response.headers().get("location").map_or("", |value| value.to_str().expect("text"));
    let location = location.to_owned();
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
    (status, location, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

/// One block seen and clicked, one only seen, and one only decided, with the tokens of all three.
async fn traded(fixture: &Fixture) -> [(String, String); 3] {
    let blocks = [decided(fixture).await, decided(fixture).await, decided(fixture).await];
    for (seen, _) in &blocks[..2] {
        let (status, _, told) = follow(fixture, &format!("/e/i/{seen}")).await;
        assert_eq!((status, &told["status"]), (200, &json!("recorded")), "{told}");
    }
    let (status, location, _) = follow(fixture, &format!("/e/c/{}", blocks[0].1)).await;
    assert_eq!((status, location.as_str()), (303, LANDING));
    blocks
}

/// The books, their audit, and everything that is booked.
async fn state(fixture: &Fixture) -> Value {
    let books = fixture.stack.ads.as_ref().expect("ads are on").books().await.expect("reads");
    let mut state = json!({"scopes": books.scopes, "accounts": books.accounts});
    for path in [
        "/v1/ledger/audit",
        "/v1/reports/traffic",
        "/v1/advertisers",
        "/v1/campaigns",
        "/v1/ad_groups",
        "/v1/ads",
    ] {
        let (status, mut told) = call(&fixture.router, Method::GET, path, "").await;
        assert_eq!(status, StatusCode::OK, "{path}: {told}");
        told.as_object_mut().expect("an object").remove("request_id");
        state[path] = told;
    }
    let audit = &state["/v1/ledger/audit"];
    assert_eq!(audit["differences"], json!([]), "{audit}");
    assert!(audit["events"].as_i64() >= Some(3) && audit["holds"].as_i64() >= Some(1), "{audit}");
    state
}

/// The body is refused, naming `param` and saying `says`; briefly, however long it was.
async fn refused(fixture: &Fixture, method: &Method, path: &str, body: &str, param: &str, says: &str) {
    let (status, told) = call(&fixture.router, method.clone(), path, body.to_owned()).await;
    let shown = format!("{method} {path} {body:.120}: {:.400}", told.to_string());
    let error = &told["error"];
    assert_eq!((status.as_u16(), error["code"].as_str()), (400, Some("invalid_ads")), "{shown}");
    assert_eq!(error["param"].as_str(), Some(param), "{shown}");
    assert!(error["message"].as_str().is_some_and(|message| message.contains(says)), "{shown}");
    assert_eq!(error["request_id"].as_str().map(str::len), Some(36), "{shown}");
    assert!(told.to_string().len() < 2_000, "{shown}");
}

/// A new ad group with what `fields` says, and the same fields as a change of the one there is.
async fn refused_twice(fixture: &Fixture, path: &str, fields: &str, param: &str, says: &str) {
    let (rest, old) = match path {
        "/v1/campaigns" => (r#""id":"new","advertiser":"adv","name":"N""#, "camp"),
        "/v1/ad_groups" => (r#""id":"new","campaign":"camp""#, "grp"),
        _ => (r#""id":"new","ad_group":"grp","headline":"The kettle","text":"Kettle kettle.""#, "ad"),
    };
    // What has no default and is not at stake.
    let needed = [("daily_budget_micros", "9000000"), ("currency", "\"USD\"")];
    let needed = needed.iter().filter(|(name, _)| path == "/v1/campaigns" && !fields.contains(name));
    let parts = [rest.to_owned(), fields.to_owned()];
    let parts = parts.into_iter().chain(needed.map(|(name, value)| format!("\"{name}\":{value}")));
    let body = format!("{{{}}}", parts.collect::<Vec<_>>().join(","));
    refused(fixture, &Method::POST, path, &body, param, says).await;
    refused(fixture, &Method::PATCH, &format!("{path}/{old}"), &format!("{{{fields}}}"), param, says).await;
}

#[tokio::test]
async fn bids_and_budgets_out_of_bounds_are_refused() {
    let fixture = booked_with(config()).await;
    traded(&fixture).await;
    let before = state(&fixture).await;
    let numbers = [
        "0",
        "-1",
        "-900000",
        "1.5",
        "1e3",
        "true",
        "\"NaN\"",
        "\"900000\"",
        "[900000]",
        "1000000000000001",
        "9223372036854775808",
        "-9223372036854775809",
        "99999999999999999999999999999999",
    ];
    let money = "expected a whole number of micros";
    for (path, name) in [
        ("/v1/ad_groups", "bid_micros"),
        ("/v1/campaigns", "daily_budget_micros"),
        ("/v1/campaigns", "lifetime_budget_micros"),
    ] {
        for number in numbers {
            refused_twice(&fixture, path, &format!("\"{name}\":{number}"), name, money).await;
        }
        for number in ["NaN", "-NaN", "Infinity", "-Infinity", "0x10", "1_000", "1,5"] {
            refused_twice(&fixture, path, &format!("\"{name}\":{number}"), "$", "is not JSON").await;
        }
    }
    // What no float holds is a number to the reader of bookings, and no JSON to the reader of changes.
    let body = r#"{"id":"new","campaign":"camp","bid_micros":1e400}"#;
    refused(&fixture, &Method::POST, "/v1/ad_groups", body, "bid_micros", money).await;

    let over = "is above the daily budget of 9.000000";
    for bid in ["9000001", "1000000000000000"] {
        refused_twice(&fixture, "/v1/ad_groups", &format!("\"bid_micros\":{bid}"), "bid_micros", over).await;
    }
    let low = r#"{"daily_budget_micros":899999}"#;
    let says = "is under the bid of ad group grp";
    refused(&fixture, &Method::PATCH, "/v1/campaigns/camp", low, "daily_budget_micros", says).await;
    let short = "\"daily_budget_micros\":9000000,\"lifetime_budget_micros\":8999999";
    let says = "is under the daily budget of 9.000000";
    refused_twice(&fixture, "/v1/campaigns", short, "lifetime_budget_micros", says).await;

    // Tables come through the command line; the rules are the same.
    let ads = fixture.stack.ads.as_ref().expect("ads are on");
    for bid in ["NaN", "inf", "0", "-1", "1e15", "1000000000000001", "9223372036854775808", "9000001"] {
        let table = format!("type,id,parent,bid_micros\nad_group,new,camp,{bid}\n");
        let error = ads.import_csv(&table).await.expect_err(bid).to_string();
        assert!(error.contains("row 2.bid_micros"), "{bid}: {error}");
    }
    assert_eq!(state(&fixture).await, before);
}

#[tokio::test]
async fn dates_currencies_and_keywords_that_make_no_sense_are_refused() {
    let fixture = booked_with(config()).await;
    traded(&fixture).await;
    let before = state(&fixture).await;
    let campaigns = [
        (
            r#""starts":"2026-03-02","ends":"2026-03-01""#,
            "ends",
            "is before starts, 2026-03-02: swap the two",
        ),
        (r#""starts":"2026-02-30""#, "starts", "expected a day such as"),
        (r#""ends":1772323200"#, "ends", "expected a string"),
        (r#""currency":"XXX""#, "currency", "expected an ISO 4217 code such as USD or EUR"),
        (r#""currency":"usd""#, "currency", "expected an ISO 4217 code such as USD or EUR"),
        (r#""currency":"EUR""#, "currency", "auctions here run in USD: book in that currency"),
        (r#""currency":840"#, "currency", "expected a string"),
    ];
    for (fields, param, says) in campaigns {
        refused_twice(&fixture, "/v1/campaigns", fields, param, says).await;
    }
    let name = "x".repeat(100_000);
    let shown = format!("{}…", &name[..60]);
    refused_twice(&fixture, "/v1/campaigns", &format!("\"{name}\":1"), &shown, "unknown field").await;
    let keyword = |text: &str| json!({"text": text, "match_type": "phrase"});
    let many: Vec<Value> = (0..2500).map(|n| keyword(&format!("word{n}"))).collect();
    let (long, many) = (json!([keyword(&"x".repeat(100_000))]).to_string(), json!(many).to_string());
    assert!(many.len() > 100_000);
    let words = json!([keyword(&"word ".repeat(20_000))]).to_string();
    let text = json!("word ".repeat(20_000)).to_string();
    for (keywords, param, says) in [
        (&many, "keywords", "has too many entries: the limit is 1000"),
        (&long, "keywords[0].text", "is too long: at most 10 words and 80 characters"),
        (&words, "keywords[0].text", "is too long: at most 10 words and 80 characters"),
        (&text, "keywords", "expected a list"),
    ] {
        let fields = format!("\"bid_micros\":900000,\"keywords\":{keywords}");
        refused_twice(&fixture, "/v1/ad_groups", &fields, param, says).await;
    }
    assert_eq!(state(&fixture).await, before);
}

#[tokio::test]
async fn a_landing_page_that_could_lead_elsewhere_is_refused() {
    let fixture = booked_with(config()).await;
    traded(&fixture).await;
    let before = state(&fixture).await;
    let relative = "is not a web address such as https://shop.example/";
    let hidden = "control, direction or invisible character: remove it";
    let host = "expected a host name such as shop.example";
    let login = "holds a user name or password: remove it";
    let long = format!("https://shop.example/{}", "x".repeat(100_000));
    for (url, says) in [
        ("javascript:alert(1)", "uses javascript, expected https"),
        ("JavaScript:alert(1)//https://shop.example/", "uses javascript, expected https"),
        ("data:text/html,<script>alert(1)</script>", "uses data, expected https"),
        ("file:///etc/passwd", "uses file, expected https"),
        ("http://shop.example/", "uses http, expected https"),
        ("blob:https://evil.example/1", "uses blob, expected https"),
        ("//evil.example/", relative),
        ("\\\\evil.example\\", relative),
        ("/landing", relative),
        ("landing.html", relative),
        ("?url=https://evil.example/", relative),
        ("", relative),
        ("https://", relative),
        ("https://user@evil.example/", login),
        ("https://user:secret@evil.example/", login),
        ("https://shop.example@evil.example/", login),
        ("https://127.0.0.1/", host),
        ("https://2130706433/", host),
        ("https://[::1]/", host),
        ("https://localhost/", host),
        ("https://shop.example/a\r\nLocation: https://evil.example/", hidden),
        ("https://shop.example/\0", hidden),
        ("java\tscript:alert(1)", hidden),
        ("\u{1}javascript:alert(1)", hidden),
        ("https://shop.example/\u{202e}moc.live", hidden),
        ("https://shop\u{200b}.example/", hidden),
        (&long, "the limit is 2048"),
    ] {
        let fields = format!("\"landing_url\":{}", json!(url));
        refused_twice(&fixture, "/v1/ads", &fields, "landing_url", says).await;
        let fields = json!([{"kind": "image", "url": url, "alt": "A kettle"}]);
        let fields = format!("\"landing_url\":\"https://kettle.example/\",\"assets\":{fields}");
        refused_twice(&fixture, "/v1/ads", &fields, "assets[0].url", says).await;
    }
    assert_eq!(state(&fixture).await, before);
}

/// Every forgery of `token`: one byte of what it says changed, one character of how it is written, and every beginning.
fn forgeries(token: &str) -> Vec<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).expect("our own");
    let mut forged = Vec::new();
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut other = bytes.clone();
            other[at] ^= flip;
            forged.push(URL_SAFE_NO_PAD.encode(other));
        }
    }
    for at in 0..token.len() {
        for letter in ["A", "B", "_"] {
            let mut other = token.to_owned();
            other.replace_range(at..=at, letter);
            forged.push(other);
        }
        forged.push(token[..at].to_owned());
    }
    for more in ["A", "AA", "=", ".", "%00", "%0d%0aLocation:%20https:%2f%2fevil.example"] {
        forged.push(format!("{token}{more}"));
    }
    forged.retain(|other| other != token && !other.is_empty());
    forged
}

#[tokio::test]
async fn a_forged_link_is_refused_whatever_was_changed() {
    let fixture = booked_with(config()).await;
    let blocks = traded(&fixture).await;
    let before = state(&fixture).await;
    let denied = async |path: &str, says: &[&str]| {
        let (status, location, told) = follow(&fixture, path).await;
        let error = &told["error"];
        assert_eq!((status, location.as_str()), (400, ""), "{path}: {told}");
        assert_eq!((&error["code"], &error["param"]), (&json!("invalid_token"), &json!("token")), "{path}");
        let message = error["message"].as_str().expect("a message");
        assert!(says.iter().any(|says| message.contains(says)), "{path}: {message}");
    };
    let as_given = ["as it was given out"];
    // The one that was only decided: whatever is believed of it would be booked.
    let (seen, clicked) = &blocks[2];
    for (event, token) in [("i", seen), ("c", clicked)] {
        for forged in forgeries(token) {
            denied(&format!("/e/{event}/{forged}"), &as_given).await;
        }
    }
    // The one that was seen: a click of it would be billed.
    for forged in forgeries(&blocks[1].1) {
        denied(&format!("/e/c/{forged}"), &as_given).await;
    }
    for (seen, clicked) in &blocks {
        denied(&format!("/e/i/{clicked}"), &["is for click, expected impression"]).await;
        denied(&format!("/e/c/{seen}"), &["is for impression, expected click"]).await;
        denied(&format!("/e/c/{clicked}&to=evil.example"), &as_given).await;
        denied(&format!("/e/c/https:%2f%2fevil.example%2f{clicked}"), &as_given).await;
    }
    for path in ["/e/c/", "/e/i/", &format!("/e/c/{clicked}/https://evil.example/")] {
        let (status, location, told) = follow(&fixture, path).await;
        assert_eq!((status, location.as_str()), (404, ""), "{path}");
        assert_eq!(told["error"]["code"], "unknown_route", "{path}");
    }
    assert_eq!(state(&fixture).await, before);
}

#[tokio::test]
async fn a_link_that_is_used_again_hears_the_same_and_costs_nothing() {
    let fixture = booked_with(config()).await;
    let [(seen, clicked), (_, second), (_, third)] = traded(&fixture).await;
    let before = state(&fixture).await;
    for query in
        ["", "?url=https://evil.example/", "?to=//evil.example&redirect=https://evil.example/", "?token=x"]
    {
        let (status, location, _) = follow(&fixture, &format!("/e/c/{clicked}{query}")).await;
        assert_eq!((status, location.as_str()), (303, LANDING), "{query}");
        let (status, _, told) = follow(&fixture, &format!("/e/i/{seen}{query}")).await;
        assert_eq!(status, 200, "{told}");
        assert_eq!((&told["status"], &told["duplicate"]), (&json!("recorded"), &json!(true)), "{told}");
    }
    assert_eq!(state(&fixture).await, before);
    // What is appended changes nothing of a first click either: one is billed as ever, one was never seen.
    for (token, billed) in [(second, true), (third, false)] {
        let before = state(&fixture).await;
        let path = format!("/e/c/{token}?url=https://evil.example/&to=https://evil.example/");
        let (status, location, _) = follow(&fixture, &path).await;
        assert_eq!((status, location.as_str()), (303, LANDING));
        let events = |state: &Value| state["/v1/ledger/audit"]["events"].as_i64().expect("a number");
        let book = fixture.stack.ads.as_ref().expect("ads are on").books().await.expect("reads");
        let (_, audit) = call(&fixture.router, Method::GET, "/v1/ledger/audit", "").await;
        assert_eq!(audit["differences"], json!([]), "{audit}");
        assert_eq!(audit["events"].as_i64(), Some(events(&before) + 1));
        assert_eq!(json!(book.accounts) != before["accounts"], billed, "{:?}", book.accounts);
    }
}

#[tokio::test]
async fn a_link_that_expired_leads_on_and_is_not_booked() {
    let mut config = config();
    let moment = Duration::from_millis(1);
    config.ads.engine.time_to_live.impression = moment;
    config.ads.engine.time_to_live.click = moment;
    let fixture = booked_with(config).await;
    let (seen, clicked) = decided(&fixture).await;
    tokio::time::sleep(moment * 2).await;
    let books = async || fixture.stack.ads.as_ref().expect("ads are on").books().await.expect("reads");
    let before = books().await;
    assert!(!before.scopes.is_empty(), "something is held");
    for _ in 0..2 {
        let (status, _, told) = follow(&fixture, &format!("/e/i/{seen}")).await;
        assert_eq!((status, &told["status"], &told["duplicate"]), (200, &json!("expired"), &json!(false)));
        let (status, location, _) = follow(&fixture, &format!("/e/c/{clicked}")).await;
        assert_eq!((status, location.as_str()), (303, LANDING), "the reader is sent on");
    }
    let (_, audit) = call(&fixture.router, Method::GET, "/v1/ledger/audit", "").await;
    assert_eq!(
        (&audit["events"], &audit["entries"], &audit["differences"]),
        (&json!(0), &json!(0), &json!([]))
    );
    assert_eq!(books().await, before);
}
