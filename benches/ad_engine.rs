//! How long an ad decision takes with everything but models: a database of its own on the disk, a booking of many
//! campaigns, budgets held and decisions kept before a link goes out.
//!
//! The vector of a request is given and the cross-encoder is a stub, so that what is measured is eligibility, matching,
//! click estimate, auction, caps, holds and the commit. Beside it, in the same process: the auction alone, drawn for an
//! answer and ranked for a page, and what a settled contest adds to an answer that has just been written.
//!
//! `cargo bench -p bowerbird-benches --bench ad_engine [-- ADS DECISIONS]`

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bowerbird_ads::{AdEngine, AdRequest, AdsConfig, DatabaseAddress, Level, Place};
use bowerbird_auction::segment::{self, SegmentRules};
use bowerbird_auction::{Billing, Candidate, Mechanism, Micros, Probability, Rules, SQUASH_PIVOT};
use bowerbird_models_api::stub::{StubEmbedder, StubReranker};
use bowerbird_models_api::{Embedder, Embedding, TextRole};
use bowerbird_scheduler::{Encoders, EncodersConfig};
use jiff::Timestamp;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use uuid::Uuid;

const SEED: u64 = 17;
const DIM: usize = 384;
/// Words that ads and requests are made of.
const WORDS: usize = 5_000;
const ADS_A_CAMPAIGN: usize = 10;
/// Callers at once.
const CALLERS: usize = 16;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let ads = numbers.first().copied().unwrap_or(100_000).max(ADS_A_CAMPAIGN);
    let decisions = numbers.get(1).copied().unwrap_or(5_000).max(100);

    auctions()?;

    let folder = tempfile::tempdir()?;
    let config = EncodersConfig { workers: 1, ..EncodersConfig::default() };
    let encoders =
        Encoders::start(config, |_| Ok((Box::new(StubEmbedder::new(DIM)), Box::new(StubReranker))))?;
    let address = DatabaseAddress::File(folder.path().join("ads.sqlite"));
    let engine = AdEngine::connect(&address, settings(), encoders).await?;
    let begun = Instant::now();
    // A document of many megabytes is refused; advertisers come in parts.
    for part in 0..ads.div_ceil(2_000) {
        engine.import_json(&bookings(part, 2_000.min(ads - part * 2_000))).await?;
    }
    say(&format!("{} ads booked in {:.1?}, seed {SEED}", engine.ads(), begun.elapsed()));

    engine.in_force().await?;
    let begun = Instant::now();
    engine.change(Level::AdGroup, "p0-0-g0", r#"{"bid_micros": 1234567}"#, None).await?;
    let answered = begun.elapsed();
    engine.in_force().await?;
    say(&format!("a changed bid: answered in {answered:.1?}, in force after {:.1?}", begun.elapsed()));

    let requests = Arc::new(requests(decisions));
    let mut pages = Times::default();
    for request in requests.iter() {
        pages.shown(engine.decide(named(request, Place::Page)).await?.blocks.len());
        let begun = Instant::now();
        let slate = engine.decide(named(request, Place::Page)).await?;
        pages.took(begun.elapsed());
        black_box(slate);
    }
    pages.tell("a page, one caller, the decision on the disk");

    let (mut looked, mut settled) = (Times::default(), Times::default());
    for request in requests.iter() {
        let begun = Instant::now();
        let contest = engine.contest(named(request, Place::Answer)).await?;
        looked.took(begun.elapsed());
        let begun = Instant::now();
        let slate =
            engine.settle(contest.below("Shoes that fit spare your knees.", Timestamp::now())).await?;
        settled.took(begun.elapsed());
        settled.shown(slate.blocks.len());
    }
    looked.tell("an answer: finding who fits, while it is written");
    settled.tell("an answer: added at its end, auction, holds and commit");

    let (begun, next, shown) = (Instant::now(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (engine, requests) = (engine.clone(), requests.clone());
            let (next, shown) = (next.clone(), shown.clone());
            tokio::spawn(async move {
                let mut times = Times::default();
                while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let begun = Instant::now();
                    let slate = engine.decide(named(request, Place::Page)).await?;
                    times.took(begun.elapsed());
                    shown.fetch_add(slate.blocks.len(), Ordering::Relaxed);
                }
                anyhow::Ok(times)
            })
        })
        .collect();
    let mut together = Times::default();
    for caller in callers {
        together.0.extend(caller.await??.0);
    }
    let took = begun.elapsed().as_secs_f64();
    together.tell(&format!("a page, {CALLERS} callers at once"));
    say(&format!(
        "{:.0} decisions a second with the database, {} blocks shown",
        decisions as f64 / took,
        shown.load(Ordering::Relaxed)
    ));
    let audit = engine.audit().await?;
    anyhow::ensure!(audit.passed(), "{:?}", audit.differences);
    say(&format!("the books are right: {} scopes and accounts, {} holds", audit.compared, audit.holds));
    engine.close().await;
    Ok(())
}

/// The auction alone, of the most candidates that are scored.
fn auctions() -> anyhow::Result<()> {
    const TIMES: u32 = 20_000;
    let mut rng = SmallRng::seed_from_u64(SEED);
    let candidates: Vec<Candidate<String>> = (0..32)
        .map(|at| {
            let bid = Micros(rng.random_range(100_000..3_000_000));
            let clicks = Probability::new(rng.random_range(0.01..0.1))?;
            Ok(Candidate::new(format!("ad-{at}"), Billing::PerClick, bid, clicks))
        })
        .collect::<anyhow::Result<_>>()?;
    let slots = Rules {
        mechanism: Mechanism::Vcg,
        reserve: Micros(50_000),
        reserve_per_mille: Micros::ZERO,
        slot_multipliers: vec![1.0, 0.6],
        squash_gamma: 1.0,
        squash_pivot: SQUASH_PIVOT,
    };
    let drawn = SegmentRules { winners: 2, null_weight: 1_000.0, ..SegmentRules::default() };
    let seed = |n: u32| u128::from(n).to_le_bytes();
    let each = |begun: Instant| begun.elapsed().as_secs_f64() * 1e6 / f64::from(TIMES);
    let begun = Instant::now();
    for n in 0..TIMES {
        black_box(bowerbird_auction::run(&candidates, &slots, seed(n))?);
    }
    let ranked = each(begun);
    let begun = Instant::now();
    for n in 0..TIMES {
        black_box(segment::run(&candidates, &drawn, seed(n), 0)?);
    }
    let drawn = each(begun);
    say(&format!("32 candidates: ranked and priced in {ranked:.1} µs, drawn and priced in {drawn:.1} µs"));
    Ok(())
}

fn settings() -> AdsConfig {
    let mut config = AdsConfig { semantic_threshold: 0.9, ..AdsConfig::default() };
    // The stub knows shared words alone.
    config.gate.bias = 4.0;
    config
}

fn word(n: usize) -> String {
    format!("w{n}")
}

/// `ads` ads of advertisers that no other part has.
fn bookings(part: usize, ads: usize) -> String {
    let mut rng = SmallRng::seed_from_u64(SEED + part as u64);
    let advertisers = (0..ads.div_ceil(ADS_A_CAMPAIGN)).map(|at| {
        let id = format!("p{part}-{at}");
        let booked: Vec<_> = (0..ADS_A_CAMPAIGN.min(ads - at * ADS_A_CAMPAIGN))
            .map(|ad| {
                let (first, second) = (word(rng.random_range(0..WORDS)), word(rng.random_range(0..WORDS)));
                json!({
                    "id": format!("{id}-g{ad}"), "bid_micros": rng.random_range(200_000..3_000_000),
                    "keywords": [
                        {"text": first, "match_type": "broad"},
                        {"text": format!("{first} {second}"), "match_type": "phrase"},
                    ],
                    "ads": [{
                        "id": format!("{id}-a{ad}"), "headline": format!("All about {first}"),
                        "text": format!("What there is of {first} and {second}."),
                        "landing_url": format!("https://{id}.example/{ad}"),
                    }],
                })
            })
            .collect();
        json!({
            "id": format!("{id}-adv"), "name": format!("{id} Inc"), "paid_by": format!("{id} Inc"),
            "campaigns": [{
                "id": id, "name": id, "currency": "USD", "daily_budget_micros": 1_000_000_000_i64,
                "starts": "2020-01-01", "ends": "2099-12-31", "ad_groups": booked,
            }],
        })
    });
    json!({"advertisers": advertisers.collect::<Vec<_>>()}).to_string()
}

/// Texts of three words with their vectors.
fn requests(n: usize) -> Vec<(String, Embedding)> {
    let mut rng = SmallRng::seed_from_u64(SEED ^ 0xffff);
    let mut embedder = StubEmbedder::new(DIM);
    (0..n)
        .map(|_| {
            let words: [String; 3] = std::array::from_fn(|_| word(rng.random_range(0..WORDS)));
            let text = words.join(" ");
            let vector = embedder.embed(&text, TextRole::Query).expect("a stub embeds everything");
            (text, vector)
        })
        .collect()
}

fn named((text, embedding): &(String, Embedding), place: Place) -> AdRequest {
    AdRequest {
        slots: 2,
        place,
        embedding: Some(embedding.clone()),
        ..AdRequest::new(text, Timestamp::now(), Uuid::now_v7())
    }
}

/// Times in milliseconds, and what was shown.
#[derive(Default)]
struct Times(Vec<f64>, usize);

impl Times {
    fn took(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64() * 1e3);
    }

    fn shown(&mut self, blocks: usize) {
        self.1 += blocks;
    }

    fn tell(&mut self, what: &str) {
        self.0.sort_by(f64::total_cmp);
        let at = |share: f64| self.0[((self.0.len() - 1) as f64 * share).round() as usize];
        let shown = self.1 as f64 / self.0.len() as f64;
        say(&format!(
            "{what}: p50 {:.2} p95 {:.2} p99 {:.2} ms; {shown:.2} blocks each",
            at(0.5),
            at(0.95),
            at(0.99)
        ));
    }
}

#[expect(clippy::print_stdout, reason = "a bench reports on standard output")]
fn say(line: &str) {
    println!("{line}");
}
