//! How long an ad decision takes up to the relevance gate: eligibility, keywords, meaning, negatives and frequency caps
//! over a made-up market, beside the plain way of looking at every ad.
//!
//! The vector of a request is given, and nothing is scored by a model: what models cost is measured elsewhere.
//!
//! `cargo bench -p bowerbird-benches --bench ad_decide [-- ADS KEYWORDS]`

use std::time::Instant;

use bowerbird_ads::testing::{Market, Size};

const SEED: u64 = 13;
const REQUESTS: usize = 5000;
/// Requests that look at every ad.
const PLAIN: usize = 200;
const SLOTS: usize = 2;

fn main() -> anyhow::Result<()> {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let (ads, keywords) = match numbers[..] {
        [ads, keywords, ..] => (ads, keywords),
        _ => (100_000, 300_000),
    };
    anyhow::ensure!(ads > 0, "ADS is 0, expected at least 1");
    let begun = Instant::now();
    let market = Market::new(SEED, Size { ads, keywords, dim: 384, words: 50_000, requests: REQUESTS });
    say(&format!("{ads} ads, {keywords} keywords, seed {SEED}, made up in {:.1?}", begun.elapsed()));

    for at in 0..PLAIN {
        anyhow::ensure!(market.find(at) == market.find_by_looking_at_all(at), "request {at} differs");
    }
    say(&format!("the same ads as by looking at all: {PLAIN} of {PLAIN} requests"));

    measure("eligibility", REQUESTS, |at| market.eligible(at));
    measure("keywords", REQUESTS, |at| market.called_up(at));
    measure("meaning by bounds", REQUESTS, |at| market.near(at));
    measure("up to the gate", REQUESTS, |at| market.find(at).len());
    measure("looking at all", PLAIN, |at| market.find_by_looking_at_all(at).len());

    let (mut shown, mut unchecked) = (0, 0);
    measure("up to the gate, caps taken and counted", REQUESTS, |at| {
        let (more, without) = market.show(at, &market.find(at), SLOTS);
        (shown, unchecked) = (shown + more, unchecked + without);
        more
    });
    say(&format!("{shown} ads shown, {unchecked} of them with a cap that was not looked at"));
    Ok(())
}

fn measure(name: &str, requests: usize, mut run: impl FnMut(usize) -> usize) {
    let (begun, mut found) = (Instant::now(), 0);
    let (mut wall, mut cpu) = (Vec::with_capacity(requests), Vec::with_capacity(requests));
    for at in 0..requests {
        let (begun, begun_cpu) = (Instant::now(), cpu_ms());
        found += run(at);
        cpu.push(cpu_ms() - begun_cpu);
        wall.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    let took = begun.elapsed().as_secs_f64();
    let quantiles = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
        format!("p50 {:.3} p95 {:.3} p99 {:.3} ms", at(0.5), at(0.95), at(0.99))
    };
    say(&format!(
        "{name}: {}, CPU {}; {:.0} a second on one core; {:.1} found on average",
        quantiles(&mut wall),
        quantiles(&mut cpu),
        requests as f64 / took,
        found as f64 / requests as f64
    ));
}

/// CPU time of this thread: what else the machine does is left out of it.
fn cpu_ms() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

#[expect(clippy::print_stdout, reason = "a bench reports on standard output")]
fn say(line: &str) {
    println!("{line}");
}
