//! The page at `/` in a real browser, against the demo with real models.

mod driver;

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::{Context, ensure};
use axum::Router;
use axum::http::{Method, StatusCode};
use bowerbird_tests::{call, post_json};
use fantoccini::Locator;
use fantoccini::elements::Element;
use fantoccini::key::Key;
use jiff::Timestamp;
use serde_json::json;

use self::driver::{Page, Screen, in_browser, in_browser_at};
use crate::ad_text::{FACT, OWN, shop};
use crate::ads_market::market;
use crate::support::{Copying, served};

/// A query that matches posts by word and by meaning, and for which the demo has an ad.
const SHOPPING: &str = "shoes for jogging";
/// A question that the demo's posts answer.
const QUESTION: &str = "Does coffee lower the risk of disease?";
/// An answer has ended, and not with a failure.
const ANSWERED: &str = r#"#answer[data-state="settled"] .sentence .cite"#;

#[tokio::test(flavor = "multi_thread")]
async fn results_mark_the_words_and_keep_the_query_in_the_address() {
    in_browser(Screen::Desktop, async |page: &Page| {
        page.search(SHOPPING).await?;
        let mark = page.wait(".hit .text mark").await?.text().await?.to_lowercase();
        ensure!(["shoe", "jog"].iter().any(|stem| mark.starts_with(stem)), "{mark} is no word of the query");
        ensure!(page.client.current_url().await?.query() == Some("q=shoes+for+jogging"));
        ensure!(page.wait("#summary").await?.text().await?.chars().any(|c| c.is_ascii_digit()));

        page.wait(".why-toggle").await?.click().await?;
        let scores = page.wait(".why:not([hidden]) table").await?.text().await?;
        ensure!(
            scores.contains("BM25") && scores.contains("cosine") && scores.contains("cross-encoder"),
            "{scores}"
        );

        page.wait("#options label:has([value=recent])").await?.click().await?;
        page.wait("body:not([aria-busy]) .hit").await?;
        ensure!(page.client.current_url().await?.query() == Some("q=shoes+for+jogging&sort=recent"));
        let times = page.attributes(".hit time", "datetime").await?;
        ensure!(times.len() > 1 && times.is_sorted_by(|a, b| a >= b), "not newest first: {times:?}");

        page.client.back().await?;
        page.wait("#options [value=relevance]:checked").await?;
        page.client.back().await?;
        page.wait(r#"html[data-view="home"]"#).await?;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sponsored_block_stands_apart_and_counts_when_seen() {
    in_browser(Screen::Desktop, async |page: &Page| {
        page.search(SHOPPING).await?;
        let region = page.wait("#sponsored:not([hidden])").await?;
        ensure!(region.attr("aria-label").await?.as_deref() == Some("Sponsored"));
        ensure!(region.css_value("border-top-style").await? == "solid");
        let ad = page.wait("#sponsored .ad").await?;
        ensure!(ad.find(Locator::Css(".ad-label strong")).await?.text().await? == "Sponsored");
        ensure!(ad.find(Locator::Css(".paid-by")).await?.text().await?.starts_with("Paid for by "));
        ensure!(page.all("#hits .ad, #answer .ad, .ad .hit").await?.is_empty(), "an ad is mixed with posts");

        let link = ad.find(Locator::Css("h2 a")).await?;
        ensure!(link.attr("rel").await?.as_deref() == Some("sponsored noopener nofollow"));
        ensure!(link.attr("target").await?.as_deref() == Some("_blank"));
        let href = link.prop("href").await?.context("the ad has a link")?;
        ensure!(href.starts_with(&format!("{}/e/c/", page.base)), "{href}");

        let why = ad.find(Locator::Css("details")).await?;
        ensure!(!why.find(Locator::Css("p")).await?.is_displayed().await?);
        why.find(Locator::Css("summary")).await?.click().await?;
        ensure!(!why.find(Locator::Css("p")).await?.text().await?.is_empty());
        page.until("document.querySelector('.ad .auction')?.textContent.includes('same winner, same price')")
            .await?;

        page.wait(r#".ad[data-seen="true"]"#).await?;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_a_model_wrote_says_so_with_its_fact() {
    let shop = shop(Arc::new(Copying::default()), true).await;
    let ads = shop.stack.ads.as_ref().expect("ads are on");
    in_browser_at(
        Screen::Desktop,
        async || served(shop.router.clone()).await,
        async |page: &Page| {
            let why = async || -> anyhow::Result<Vec<Element>> {
                page.search("running shoes").await?;
                page.wait("#sponsored .ad summary").await?.click().await?;
                page.wait("#sponsored .ad details[open]").await?;
                page.all("#sponsored .ad .wording").await
            };
            ensure!(why().await?.is_empty(), "the advertiser wrote the first text");
            ensure!(page.wait("#sponsored .ad-text").await?.text().await? == OWN);

            ads.texts_settled().await;
            let told = why().await?;
            ensure!(told.len() == 1 && told[0].is_displayed().await?, "it does not say who wrote the text");
            let (told, text) = (told[0].text().await?, page.wait("#sponsored .ad-text").await?.text().await?);
            ensure!(text.trim_end_matches('.') == FACT.trim_end_matches('.'), "{text}");
            ensure!(told.contains(&format!("“{FACT}”")) && told.contains("a model (copying)"), "{told}");
            Ok(())
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_leads_to_the_posts_it_cites() {
    in_browser(Screen::Desktop, async |page: &Page| {
        page.search(QUESTION).await?;
        page.wait(ANSWERED).await?;
        for sentence in page.all("#answer .sentence").await? {
            ensure!(!sentence.find_all(Locator::Css(".cite")).await?.is_empty(), "a sentence cites nothing");
            let origin = sentence.find(Locator::Css(".origin")).await?.text().await?;
            ensure!(["quoted", "written and checked"].contains(&origin.as_str()), "{origin}");
        }
        ensure!(page.all("#answer-stop:not([hidden])").await?.is_empty(), "a finished answer can be stopped");

        page.eval("document.querySelector('.cite').focus()").await?;
        ensure!(!page.wait("#quote:not([hidden]) q").await?.text().await?.is_empty());
        page.press(&Key::Escape).await?;
        page.wait("#quote[hidden]").await?;

        let cited = page.attributes("#answer .cite", "data-post-id").await?;
        for (at, (cite, post_id)) in page.all("#answer .cite").await?.iter().zip(&cited).enumerate() {
            if at == 0 {
                cite.click().await?;
            } else {
                cite.send_keys(&Key::Enter).await?;
            }
            let target = page.wait(".hit:focus, .source:focus").await?;
            ensure!(
                target.attr("data-post-id").await?.as_ref() == Some(post_id),
                "the citation leads elsewhere"
            );
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keyboard_is_enough() {
    in_browser(Screen::Desktop, async |page: &Page| {
        page.search(SHOPPING).await?;
        page.press(&Key::Down).await?;
        let first = page.wait("#hits > li:nth-child(1) > .hit:focus").await?;
        ensure!(first.css_value("outline-style").await? == "solid", "the focus cannot be seen");
        page.press(&Key::Down).await?;
        page.wait("#hits > li:nth-child(2) > .hit:focus").await?;
        page.press(&Key::Up).await?;
        page.wait("#hits > li:nth-child(1) > .hit:focus").await?;
        page.press(&Key::Enter).await?;
        page.wait(".hit:focus .why:not([hidden]) table").await?;
        page.press(&Key::Escape).await?;
        page.wait(".hit:focus .why[hidden]").await?;
        page.press("/").await?;
        page.wait("#q:focus").await?;
        page.press(&Key::Escape).await?;
        page.wait("#q:focus:placeholder-shown").await?;

        page.wait("#operators summary").await?.send_keys(&Key::Enter).await?;
        page.wait("#operators[open] #operator-list li:nth-child(1) button")
            .await?
            .send_keys(&Key::Enter)
            .await?;
        page.wait("#q:focus:not(:placeholder-shown)").await?;
        page.press("running").await?;
        ensure!(page.eval("document.getElementById('q').value").await? == "\"running\"");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_typed_is_completed_without_a_mouse() {
    in_browser(Screen::Desktop, async |page: &Page| {
        page.open("/").await?;
        page.wait("#examples [data-query]").await?;
        let input = page.wait(r#"#q[role="combobox"][aria-expanded="false"]"#).await?;
        input.send_keys("blood pres").await?;
        let list = page.wait("#suggestions:not([hidden])").await?;
        ensure!(list.attr("role").await?.as_deref() == Some("listbox"));
        ensure!(input.attr("aria-expanded").await?.as_deref() == Some("true"));
        ensure!(input.attr("aria-controls").await?.as_deref() == Some("suggestions"));
        let first = page.wait("#suggestions [role=option]:first-child").await?;
        ensure!(first.text().await? == "blood pressure", "{}", first.text().await?);
        ensure!(first.find(Locator::Css("b")).await?.text().await? == "sure", "what is new stands out");
        ensure!(page.all("#suggestions [aria-selected=true]").await?.is_empty(), "nothing is chosen unasked");

        page.press(&Key::Down).await?;
        let marked = page.wait("#suggestions [aria-selected=true]").await?;
        ensure!(input.attr("aria-activedescendant").await? == marked.attr("id").await?);
        ensure!(page.eval("document.activeElement.id").await? == "q", "the focus stays in the box");
        ensure!(page.eval("document.getElementById('q').value").await? == "blood pressure");
        page.press(&Key::Escape).await?;
        page.wait("#suggestions[hidden]").await?;
        ensure!(page.eval("document.getElementById('q').value").await? == "blood pres", "as it was typed");
        ensure!(input.attr("aria-activedescendant").await?.is_none());

        page.press("s").await?;
        page.wait("#suggestions:not([hidden]) [role=option]").await?;
        page.press(&Key::Up).await?;
        page.press(&Key::Down).await?;
        ensure!(page.all("#suggestions [aria-selected=true]").await?.is_empty(), "past the end is the box");
        page.press(&Key::Down).await?;
        page.press(&Key::Enter).await?;
        page.wait(".hit").await?;
        ensure!(page.client.current_url().await?.query() == Some("q=blood+pressure"));
        page.wait("#suggestions[hidden]").await?;

        page.open("/").await?;
        page.wait("#q").await?.send_keys("blood pres").await?;
        page.wait("#suggestions [role=option]").await?.click().await?;
        page.wait(".hit").await?;
        ensure!(page.client.current_url().await?.query() == Some("q=blood+pressure"));
        page.fits().await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_shows_everything_without_sideways_scrolling() {
    in_browser(Screen::Phone, async |page: &Page| {
        page.open("/").await?;
        page.wait("#examples [data-query]").await?;
        ensure!(page.eval("window.innerWidth").await? == 360);
        page.fits().await?;
        page.search(SHOPPING).await?;
        page.wait(".why-toggle").await?.click().await?;
        page.wait(".why:not([hidden])").await?;
        page.fits().await?;
        page.search(QUESTION).await?;
        page.wait(ANSWERED).await?;
        page.fits().await?;
        page.search("from:mallory hostile markup").await?;
        page.fits().await
    })
    .await;
}

/// Clicks an ad of the campaign and tells what it has spent today.
async fn spend(app: &Router, campaign: &str) -> anyhow::Result<i64> {
    let (_, slate) = post_json(app, "/v1/decide", json!({"q": "running shoes"})).await;
    let block = &slate["blocks"][0];
    for link in ["impression_url", "click_url"] {
        let link = block[link].as_str().with_context(|| slate.to_string())?;
        let (status, told) = call(app, Method::GET, link, "").await;
        ensure!(status == StatusCode::OK || status == StatusCode::SEE_OTHER, "{status} {told}");
    }
    let day = Timestamp::now().strftime("%Y-%m-%d");
    let path = format!("/v1/reports?campaign={campaign}&from={day}&to={day}");
    let (_, report) = call(app, Method::GET, &path, "").await;
    report["rows"][0]["spent"].as_i64().filter(|spent| *spent > 0).with_context(|| report.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_advertiser_sees_spend_and_reasons_and_can_pause() {
    const CAMPAIGN: &str = "fernquist-running";
    const ROW: &str = r#"[data-campaign="fernquist-running"]"#;
    // Of the test's own: what is spent in the demo stays spent for the next test.
    let market = market().await;
    let app = &market.router;
    in_browser_at(
        Screen::Desktop,
        async || served(app.clone()).await,
        async |page: &Page| {
            let spent = spend(app, CAMPAIGN).await?;
            let spent = format!("{}.{:02}", spent / 1_000_000, spent % 1_000_000 / 10_000);
            page.open("/console.html").await?;
            let budget = page.wait(&format!("{ROW} td:nth-of-type(2)")).await?.text().await?;
            ensure!(budget == "60.00 USD", "{budget}");
            page.wait(&format!("{ROW} .open")).await?.click().await?;
            the_chart_shows(page, &spent).await?;
            let ask = async |query: &str, reason: &str| -> anyhow::Result<()> {
                page.eval("document.getElementById('why-q').value = ''").await?;
                page.wait("#why-q").await?.send_keys(query).await?;
                page.press(&Key::Enter).await?;
                page.until(&format!("document.getElementById('why').dataset.reason === '{reason}'")).await?;
                ensure!(page.wait("#why").await?.text().await?.len() > 20);
                Ok(())
            };
            ask("who won the world cup", "no_match").await?;
            ask("running shoes", "served").await?;

            page.wait(&format!(r#"{ROW}[data-status="enabled"] .turn"#)).await?.click().await?;
            page.wait(&format!(r#"{ROW}[data-status="paused"]"#)).await?;
            page.client.refresh().await?;
            page.wait(&format!(r#"{ROW}[data-status="paused"] .turn"#)).await?.click().await?;
            page.wait(&format!(r#"{ROW}[data-status="enabled"]"#)).await?;
            page.fits().await?;

            // Spent as fast as it can be: there is no plan to be behind.
            let path = format!("/v1/campaigns/{CAMPAIGN}");
            let (status, told) = call(app, Method::PATCH, &path, json!({"pacing": "asap"}).to_string()).await;
            ensure!(status == StatusCode::OK, "{told}");
            page.client.refresh().await?;
            page.wait(&format!("{ROW} .open")).await?.click().await?;
            let label = page.wait("#pacing svg").await?.attr("aria-label").await?.context("a label")?;
            ensure!(label.starts_with(&format!("{spent} of 60.00 USD spent by ")), "{label}");
            ensure!(!label.contains("evenly") && page.all("#pacing .planned").await?.is_empty(), "{label}");
            Ok(())
        },
    )
    .await;
}

/// Checks the drawing of today's spend: what it says, its points, and where the plan ends.
async fn the_chart_shows(page: &Page, spent: &str) -> anyhow::Result<()> {
    let chart = page.wait(r#"#pacing svg[role="img"]"#).await?;
    let label = chart.attr("aria-label").await?.context("a label")?;
    let rest = label.strip_prefix(&format!("{spent} of 60.00 USD spent by "));
    let parts = rest.and_then(|rest| rest.split_once(" UTC; spread evenly it is "));
    let (now, rest) = parts.with_context(|| label.clone())?;
    ensure!(rest.contains(" by then and 60.00 by 24:00."), "{label}");
    ensure!(rest.ends_with(&format!(" Spent by the hour: {spent} by {now}.")), "{label}");
    let told = page.wait("#plan").await?.text().await?;
    ensure!(told.starts_with(&format!("{spent} spent by now; ")), "{told}");

    let (hour, minute) = now.split_once(':').context("a time")?;
    let (hour, minute): (u64, u64) = (hour.parse()?, minute.parse()?);
    let points = page.eval("document.querySelector('#pacing .spent').points.numberOfItems").await?;
    // Midnight, the end of each whole hour, and now; in the first minute of an hour only when something was spent in it.
    let least = 1 + hour + u64::from(minute > 0);
    ensure!((least..=hour + 2).contains(&points.as_u64().context("a number")?), "{points} at {now}");
    let plan = "const at = (name, side) => document.querySelector(`#pacing ${name}`).getAttribute(side); \
                return at('.planned', 'x2') === at('.frame', 'x2') && at('.planned', 'y2') === at('.limit', 'y2') \
                && at('.planned', 'y1') === at('.frame', 'y1')";
    let ends = page.eval(&format!("(() => {{ {plan}; }})()")).await?;
    ensure!(ends == true, "the plan goes from nothing to the budget at the end of the day");
    let (_, _, width, height) = chart.rectangle().await?;
    ensure!(width > 300.0 && height > 100.0, "{width} by {height}");
    Ok(())
}

/// Breaks the first stream of an answer off after its first sentence, and keeps what the second was asked with.
const BREAK_OFF: &str = r#"(() => {
  const real = window.fetch;
  let calls = 0;
  window.fetch = async (path, options) => {
    if (!String(path).endsWith("v1/answer")) return real(path, options);
    calls += 1;
    if (calls > 1) {
      document.body.dataset.resumedFrom = new Headers(options.headers).get("last-event-id");
      return real(path, options);
    }
    const response = await real(path, options);
    const reader = response.body.getReader();
    // A kept answer comes in one piece: what is behind the first sentence is thrown away.
    let seen = "";
    let cut = false;
    const body = new ReadableStream({
      async pull(stream) {
        if (cut) return stream.error(new TypeError("cut off"));
        const { done, value } = await reader.read();
        if (done) return stream.close();
        const text = new TextDecoder().decode(value);
        const delta = (seen + text).search(/event: ?delta/);
        const end = delta < 0 ? -1 : (seen + text).indexOf("\n\n", delta);
        cut = end >= 0;
        stream.enqueue(new TextEncoder().encode(cut ? (seen + text).slice(seen.length, end + 2) : text));
        seen += text;
      },
    });
    return new Response(body, { status: response.status, headers: response.headers });
  };
  return true;
})()"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_goes_on_where_it_was() {
    in_browser(Screen::Desktop, async |page: &Page| {
        page.open("/").await?;
        page.eval(BREAK_OFF).await?;
        page.type_query(QUESTION).await?;
        page.wait(ANSWERED).await?;
        page.until("document.querySelector('#answer-state').textContent.startsWith('From ')").await?;
        let from = page.eval("document.body.dataset.resumedFrom").await?;
        ensure!(from.as_str().is_some_and(|id| id.contains(':')), "asked again with {from}");
        let sentences = page.all("#answer .sentence .words").await?;
        let mut texts = HashSet::new();
        for sentence in &sentences {
            ensure!(texts.insert(sentence.text().await?), "a sentence is shown twice");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chosen_theme_is_remembered() {
    const COLOUR: &str = "getComputedStyle(document.body).backgroundColor";
    in_browser(Screen::Desktop, async |page: &Page| {
        page.open("/").await?;
        let toggle = page.wait(r#"#theme-toggle[aria-label="Switch to the dark theme"]"#).await?;
        let light = page.eval(COLOUR).await?;
        toggle.click().await?;
        page.wait(r#"html[data-theme="dark"]"#).await?;
        page.until(&format!("{COLOUR} !== {light}")).await?;
        let dark = page.eval(COLOUR).await?;
        page.eval("document.body.dataset.before = true").await?;
        page.client.refresh().await?;
        let toggle = r#"body:not([data-before]) #theme-toggle[aria-label="Switch to the light theme"]"#;
        page.wait(toggle).await?;
        page.wait(r#"html[data-theme="dark"]"#).await?;
        page.until(&format!("{COLOUR} === {dark}")).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_posts_are_other_posts() {
    in_browser(Screen::Desktop, async |page: &Page| {
        page.search("running").await?;
        page.wait("#more:not([hidden])").await?.click().await?;
        page.wait("#hits > li:nth-child(11)").await?;
        let ids = page.attributes(".hit", "data-post-id").await?;
        // The page drops repeats, so a repeat sent by the server shows as a page that is too short.
        ensure!(ids.len() == 20, "two pages of ten show {} posts", ids.len());
        ensure!(ids.iter().collect::<HashSet<_>>().len() == ids.len(), "repeated: {ids:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn markup_in_a_post_stays_text() {
    in_browser(Screen::Desktop, async |page: &Page| {
        page.search("from:mallory hostile markup").await?;
        let text = page.wait(".hit .text").await?.text().await?;
        ensure!(text.contains("<script>document.title='owned'</script> <b>soda</b>"), "{text}");
        ensure!(page.all(".hit script, .hit b, .hit img").await?.is_empty(), "markup became elements");
        ensure!(page.client.title().await?.starts_with("from:mallory"));
        Ok(())
    })
    .await;
}
