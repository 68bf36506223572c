//! The auction for the ads of one segment of a generated answer.
//!
//! Ads are drawn, not ranked: each with a chance in proportion to its weight `w`, what an impression is worth to its
//! advertiser (click probability `q` by effective bid, or a thousandth of the bid for a thousand impressions), which maximises the logarithmic welfare `Σ w ln x` (Hajiaghayi, Lahaie, Rezaei and Shin 2024). The
//! draw is a race: every ad gets noise `E` of the exponential distribution, and the largest `w / E` wins; `-ln E` is
//! the Gumbel noise of the paper. What an ad had to bid for the noise it got is what a click costs it. The noise
//! follows from seed, segment and id alone ([`crate`] says why that replays), and the probability of what happened is
//! known exactly, so every log of this auction can judge other policies without bias.

use serde::{Deserialize, Serialize};

use crate::noise::{Noise, Purpose};
use crate::price::charge;
use crate::rank::check;
use crate::{AuctionError, Award, Billing, Candidate, MAX_BID, MAX_SLOTS, Micros, PriceSetBy, paced_bid};

/// Largest temperature: with the smallest noise, weights still stay finite.
pub const MAX_TEMPERATURE: f64 = 8.0;

/// The rules of a segment auction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentRules {
    /// Most ads of the segment.
    pub winners: usize,
    /// Weight `w0` of showing no ad, in micros an impression: what the reader's attention is worth to the place. The
    /// chance of an empty segment is `w0 / (w0 + Σ w)`; 0 for none.
    pub null_weight: f64,
    /// Least price of a click. A lower effective bid takes no part.
    pub reserve: Micros,
    /// Least price of a thousand impressions.
    pub reserve_per_mille: Micros,
    /// Exponent of the noise, 0 to [`MAX_TEMPERATURE`]: chances are in proportion to `w^(1/temperature)`. At 1 the
    /// logarithmic welfare is largest, at 0 the largest weight wins for certain, above 1 small ads are seen more.
    pub temperature: f64,
}

impl Default for SegmentRules {
    /// One ad at temperature 1, always, at any price.
    fn default() -> Self {
        let (reserve, reserve_per_mille) = (Micros::ZERO, Micros::ZERO);
        Self { winners: 1, null_weight: 0.0, reserve, reserve_per_mille, temperature: 1.0 }
    }
}

/// An ad that was drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentAward<Id> {
    /// Which, at what price. Its slot is the turn in which it was drawn, and its score the weight `w`.
    pub award: Award<Id>,
    /// Probability of being drawn at this turn, given those drawn before.
    pub propensity: f64,
}

/// The chance of a candidate to be drawn first.
#[derive(Clone, Debug, PartialEq)]
pub struct Share<Id> {
    /// Which candidate.
    pub id: Id,
    /// `w^(1/T) / (w0^(1/T) + Σ w^(1/T))`: its propensity when one ad is shown.
    pub probability: f64,
}

/// What a segment auction led to.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentOutcome<Id> {
    /// The ads, in the order in which they were drawn; fewer than asked for when showing none came before.
    pub awards: Vec<SegmentAward<Id>>,
    /// Probability of exactly these awards in this order, over all seeds (Plackett and Luce); includes the draw that
    /// ended them early, if one did.
    pub propensity: f64,
    /// Chance of each eligible candidate to be the first, ordered by id.
    pub shares: Vec<Share<Id>>,
    /// Chance that there is no ad at all.
    pub no_ad: f64,
}

/// Runs the auction of segment `segment`, counted from anywhere, of the answer with secret `seed`.
///
/// Every ad gets `s = w / E^T`; so does showing no ad, with `w0`. The `winners` largest win, as far as they lie over
/// that of no ad, and all of them pay against the same threshold `θ`: the larger of the next ad's `s` and that of no
/// ad. A click costs `θ · E^T / q`, the least effective bid that would still have won, rounded down to a micro and held
/// between reserve and effective bid.
///
/// For every noise that is a second-price auction with weights, and with several equal places a `(k+1)`th-price
/// auction, in which nobody wants two places: bidding one's value is a best response whatever the noise, and nobody
/// pays more than the bid. It stays so over the segments of an answer as long as each is drawn from the same
/// candidates; leaving out who won an earlier segment would make losing there worth something.
///
/// Errors: see [`AuctionError`]; nothing is awarded then.
pub fn run<Id: AsRef<[u8]> + Clone>(
    candidates: &[Candidate<Id>],
    rules: &SegmentRules,
    seed: [u8; 16],
    segment: u32,
) -> Result<SegmentOutcome<Id>, AuctionError> {
    let noise = Noise::new(&seed, segment);
    let mut drawn = eligible(candidates, rules)?;
    for ad in &mut drawn {
        ad.luck = libm::pow(noise.exponential(Purpose::Ad, ad.id.as_ref()), rules.temperature);
        ad.tie = noise.bits(Purpose::Tie, ad.id.as_ref());
    }
    // By id so far: the same sums whatever order the candidates came in.
    let no_ad_luck = libm::pow(noise.exponential(Purpose::NoAd, &[]), rules.temperature);
    let no_ad_score = rules.null_weight / no_ad_luck;
    let mut order: Vec<usize> = (0..drawn.len()).collect();
    order.sort_by(|a, b| {
        let (a, b) = (&drawn[*a], &drawn[*b]);
        b.score().total_cmp(&a.score()).then(a.tie.cmp(&b.tie)).then_with(|| a.id.as_ref().cmp(b.id.as_ref()))
    });
    let above = order.iter().take_while(|ad| drawn[**ad].score() > no_ad_score).count();
    let shown = above.min(rules.winners);
    let next = order.get(shown).map(|ad| &drawn[*ad]);
    let threshold = next.map_or(no_ad_score, |ad| ad.score().max(no_ad_score));

    let mut lot = Lot::new(&drawn, rules);
    let deterministic = rules.temperature <= 0.0;
    let first = order.first().copied().filter(|_| above > 0);
    let shares = drawn.iter().enumerate().map(|(at, ad)| Share {
        id: ad.id.clone(),
        probability: if deterministic {
            f64::from(u8::from(first == Some(at)))
        } else {
            lot.chance(Some(at))
        },
    });
    let shares = shares.collect();
    let no_ad = if deterministic { f64::from(u8::from(first.is_none())) } else { lot.chance(None) };

    let mut propensity = 1.0;
    let mut awards = Vec::with_capacity(shown);
    for (turn, at) in order[..shown].iter().enumerate() {
        let ad = &drawn[*at];
        let chance = if deterministic { 1.0 } else { lot.chance(Some(*at)) };
        lot.take(*at);
        propensity *= chance;
        let exact = threshold * ad.luck / ad.rate;
        let award = Award {
            id: ad.id.clone(),
            slot: turn + 1,
            billing: ad.billing,
            price: charge(exact, ad.bid, ad.reserve),
            score: ad.weight,
            price_set_by: match next {
                _ if exact <= ad.reserve.0 as f64 => PriceSetBy::Reserve,
                Some(next) if next.score() > no_ad_score => PriceSetBy::Competitor(next.id.clone()),
                _ => PriceSetBy::NoAd,
            },
        };
        awards.push(SegmentAward { award, propensity: chance });
    }
    if shown < rules.winners && !deterministic {
        propensity *= lot.chance(None);
    }
    Ok(SegmentOutcome { awards, propensity, shares, no_ad })
}

/// Probability, over all seeds, that these candidates and rules lead to exactly `drawn`, in this order; what [`run`]
/// tells of its own outcome. Other rules than those it was drawn by give the weight of a logged outcome for
/// another policy. 0 where the rules would not let one of them take part, or not as many.
///
/// Errors: those of [`run`].
pub fn propensity<Id: AsRef<[u8]> + Clone>(
    candidates: &[Candidate<Id>],
    rules: &SegmentRules,
    drawn: &[Id],
) -> Result<f64, AuctionError> {
    let ads = eligible(candidates, rules)?;
    if drawn.len() > rules.winners {
        return Ok(0.0);
    }
    if rules.temperature <= 0.0 {
        let same = |outcome: SegmentOutcome<Id>| {
            let awards = outcome.awards.iter().map(|drawn| drawn.award.id.as_ref());
            awards.eq(drawn.iter().map(AsRef::as_ref))
        };
        return Ok(f64::from(u8::from(same(run(candidates, rules, [0; 16], 0)?))));
    }
    let mut lot = Lot::new(&ads, rules);
    let mut propensity = 1.0;
    for id in drawn {
        let Ok(at) = ads.binary_search_by(|ad| ad.id.as_ref().cmp(id.as_ref())) else { return Ok(0.0) };
        propensity *= lot.chance(Some(at));
        lot.take(at);
    }
    if drawn.len() < rules.winners {
        propensity *= lot.chance(None);
    }
    Ok(propensity)
}

/// The chance of each eligible candidate to be among the one or two ads that are shown, ordered by id.
///
/// Errors: those of [`run`], and [`AuctionError::NoClosedForm`] for more winners.
pub fn shown_shares<Id: AsRef<[u8]> + Clone>(
    candidates: &[Candidate<Id>],
    rules: &SegmentRules,
) -> Result<Vec<Share<Id>>, AuctionError> {
    let ads = eligible(candidates, rules)?;
    if rules.winners > 2 {
        return Err(AuctionError::NoClosedForm { winners: rules.winners, temperature: rules.temperature });
    }
    let mut chances = vec![0.0; ads.len()];
    if rules.temperature <= 0.0 {
        for drawn in run(candidates, rules, [0; 16], 0)?.awards {
            if let Ok(at) = ads.binary_search_by(|ad| ad.id.as_ref().cmp(drawn.award.id.as_ref())) {
                chances[at] = 1.0;
            }
        }
    } else {
        for first in 0..ads.len() {
            let mut lot = Lot::new(&ads, rules);
            let chance = lot.chance(Some(first));
            chances[first] += chance;
            lot.take(first);
            for second in (0..ads.len()).filter(|second| rules.winners == 2 && *second != first) {
                chances[second] += chance * lot.chance(Some(second));
            }
        }
    }
    let share = |(ad, probability): (Drawn<Id>, f64)| Share { id: ad.id, probability };
    Ok(ads.into_iter().zip(chances).map(share).collect())
}

/// What each eligible candidate pays on average in an auction, in micros, ordered by id: the price of a click (or a
/// thousand impressions) times the chance to win it, for one winner at temperature 1. Times `q` (or a thousandth), it is
/// the revenue of an impression.
///
/// With `W` the weight of all others and of no ad, `b` the effective bid and `r` the reserve it is, by Myerson's lemma,
/// `b x(b) − ∫ from r to b of x = b·qb/(qb+W) − (b−r) + (W/q)·ln((qb+W)/(qr+W))`; without a reserve
/// `(W/q)·ln(1 + qb/W) − bW/(qb+W)`. Prices that are charged are lower by less than a micro, for rounding.
///
/// Errors: those of [`run`], and [`AuctionError::NoClosedForm`].
pub fn expected_payments<Id: AsRef<[u8]> + Clone>(
    candidates: &[Candidate<Id>],
    rules: &SegmentRules,
) -> Result<Vec<(Id, f64)>, AuctionError> {
    let (winners, temperature) = (rules.winners, rules.temperature);
    if winners != 1 || temperature.to_bits() != 1.0_f64.to_bits() {
        return Err(AuctionError::NoClosedForm { winners, temperature });
    }
    let ads = eligible(candidates, rules)?;
    let payment = |at: usize| {
        let others: f64 =
            ads.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, ad)| ad.weight).sum();
        expected_payment(
            ads[at].rate,
            ads[at].bid.0 as f64,
            others + rules.null_weight,
            ads[at].reserve.0 as f64,
        )
    };
    Ok(ads.iter().enumerate().map(|(at, ad)| (ad.id.clone(), payment(at))).collect())
}

/// See [`expected_payments`]; `q` and `b` over 0.
fn expected_payment(q: f64, b: f64, others: f64, r: f64) -> f64 {
    if others <= 0.0 {
        return r;
    }
    // With t = q(b−r) / (qr+W): the difference of two nearly equal numbers when t is small.
    let base = q * r + others;
    let t = q * (b - r) / base;
    let won = q * b / (q * b + others);
    if t < 1e-4 {
        // b·x(b) − ∫x with x nearly straight: r·x(r) + ∫ from r to b of z·x'(z), and x'(z) = qW/(qz+W)².
        let slope = q * others / (base * base);
        return r * q * r / base + slope * (b - r) * (f64::midpoint(b, r) - t * (r + (b - r) * (2.0 / 3.0)));
    }
    b * won - (b - r) + (others / q) * libm::log1p(t)
}

/// A candidate in the race.
struct Drawn<Id> {
    id: Id,
    /// Effective bid.
    bid: Micros,
    billing: Billing,
    /// The larger of the rules' reserve and its own.
    reserve: Micros,
    /// Micros an impression by micro of the bid: `q`, or a thousandth.
    rate: f64,
    /// `rate · bid`, over 0.
    weight: f64,
    /// `E^T`; a small number is good luck.
    luck: f64,
    tie: u64,
}

impl<Id> Drawn<Id> {
    fn score(&self) -> f64 {
        self.weight / self.luck
    }
}

/// Candidates that may win, ordered by id.
fn eligible<Id: AsRef<[u8]> + Clone>(
    candidates: &[Candidate<Id>],
    rules: &SegmentRules,
) -> Result<Vec<Drawn<Id>>, AuctionError> {
    rules.validate()?;
    check(candidates)?;
    let mut ads: Vec<Drawn<Id>> = candidates
        .iter()
        .filter_map(|c| {
            let bid = paced_bid(c.bid, c.pacing);
            let (everyone, rate) = match c.billing {
                Billing::PerClick => (rules.reserve, c.ctr.get() * c.relevance.get()),
                Billing::PerMille => (rules.reserve_per_mille, c.relevance.get() / 1000.0),
            };
            let reserve = everyone.max(c.reserve);
            let weight = rate * bid.0 as f64;
            let (id, billing) = (c.id.clone(), c.billing);
            let ad = Drawn { id, bid, billing, reserve, rate, weight, luck: 1.0, tie: 0 };
            (bid >= reserve && weight > 0.0).then_some(ad)
        })
        .collect();
    ads.sort_by(|a, b| a.id.as_ref().cmp(b.id.as_ref()));
    Ok(ads)
}

impl SegmentRules {
    /// Checks every rule; the first that does not hold is the error.
    pub fn validate(&self) -> Result<(), AuctionError> {
        if !(1..=MAX_SLOTS).contains(&self.winners) {
            return Err(AuctionError::Winners { found: self.winners });
        }
        if !(0.0..=MAX_BID.0 as f64).contains(&self.null_weight) {
            return Err(AuctionError::NullWeight { found: self.null_weight });
        }
        for reserve in [self.reserve, self.reserve_per_mille] {
            if reserve < Micros::ZERO || reserve > MAX_BID {
                return Err(AuctionError::Reserve { found: reserve });
            }
        }
        if !(0.0..=MAX_TEMPERATURE).contains(&self.temperature) {
            return Err(AuctionError::Temperature { found: self.temperature });
        }
        Ok(())
    }
}

/// What is left to be drawn from, and the chance of each.
struct Lot {
    /// Weights of the candidates; 0 once drawn.
    weights: Vec<f64>,
    null_weight: f64,
    /// Exponent of the weights.
    power: f64,
    /// `Σ (weight / largest)^power` with no ad, and the largest weight, once computed.
    sum: Option<(f64, f64)>,
}

impl Lot {
    fn new<Id>(ads: &[Drawn<Id>], rules: &SegmentRules) -> Self {
        let weights = ads.iter().map(|ad| ad.weight).collect();
        Self { weights, null_weight: rules.null_weight, power: 1.0 / rules.temperature, sum: None }
    }

    fn take(&mut self, at: usize) {
        self.weights[at] = 0.0;
        self.sum = None;
    }

    /// Chance that the next draw is `at`, or no ad. From nothing, nothing is drawn.
    fn chance(&mut self, at: Option<usize>) -> f64 {
        let (sum, largest) = *self.sum.get_or_insert_with(|| {
            let all = || self.weights.iter().copied().chain([self.null_weight]);
            let largest = all().fold(0.0, f64::max);
            (all().map(|weight| relative(weight, largest, self.power)).sum(), largest)
        });
        match at {
            None if largest <= 0.0 => 1.0,
            None => relative(self.null_weight, largest, self.power) / sum,
            Some(at) => relative(self.weights[at], largest, self.power) / sum,
        }
    }
}

/// `(weight / largest)^power`, 0 for no weight.
fn relative(weight: f64, largest: f64, power: f64) -> f64 {
    if weight > 0.0 { libm::pow(weight / largest, power) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Probability;

    fn candidate(id: &str, bid: f64, ctr: f64) -> Candidate<String> {
        let ctr = Probability::new(ctr).expect("within 0 to 1");
        Candidate::new(id.into(), Billing::PerClick, Micros((bid * 1e6) as i64), ctr)
    }

    fn rules(winners: usize) -> SegmentRules {
        SegmentRules { winners, ..SegmentRules::default() }
    }

    /// Scenario 0 of the paper: bids 3, 3, 2, 2.
    fn books() -> Vec<Candidate<String>> {
        vec![
            candidate("a", 3.0, 0.36),
            candidate("b", 3.0, 0.87),
            candidate("c", 2.0, 0.31),
            candidate("d", 2.0, 0.26),
        ]
    }

    fn seed(n: u32) -> [u8; 16] {
        let mut seed = [0; 16];
        seed[..4].copy_from_slice(&n.to_le_bytes());
        seed
    }

    #[test]
    fn shares_and_payments_of_the_published_scenario() {
        let outcome = run(&books(), &rules(1), seed(0), 0).expect("valid");
        for (share, expected) in outcome.shares.iter().zip([0.2236, 0.5404, 0.1284, 0.1077]) {
            assert!((share.probability - expected).abs() < 1e-4, "{share:?}");
        }
        let payments = expected_payments(&books(), &rules(1)).expect("closed form");
        for ((id, payment), expected) in payments.iter().zip([0.3072, 0.6047, 0.1225, 0.1036]) {
            assert!((payment / 1e6 - expected).abs() < 1e-4, "{id}: {payment}");
        }
    }

    #[test]
    fn a_long_run_meets_chances_and_payments() {
        const RUNS: u32 = 20_000;
        let rules = SegmentRules { null_weight: 700_000.0, reserve: Micros(500_000), ..rules(1) };
        let expected = expected_payments(&books(), &rules).expect("closed form");
        let mut paid = vec![(0.0, 0.0); 4];
        let mut empty = 0.0;
        let mut no_ad = 0.0;
        for n in 0..RUNS {
            let outcome = run(&books(), &rules, seed(n), 0).expect("valid");
            no_ad = outcome.no_ad;
            if let Some(SegmentAward { award, .. }) = outcome.awards.first() {
                let at = outcome.shares.iter().position(|s| s.id == award.id).expect("it took part");
                let price = award.price.0 as f64;
                assert!((outcome.shares[at].probability - outcome.propensity).abs() < 1e-12);
                assert!(price >= 500_000.0 && price <= books()[at].bid.0 as f64);
                paid[at].0 += price;
                paid[at].1 += price * price;
            } else {
                assert!((outcome.propensity - no_ad).abs() < 1e-12);
                empty += 1.0;
            }
        }
        let runs = f64::from(RUNS);
        assert!(
            (empty / runs - no_ad).abs() < 3.0 * (no_ad * (1.0 - no_ad) / runs).sqrt(),
            "{empty} {no_ad}"
        );
        for ((sum, squares), (id, expected)) in paid.into_iter().zip(expected) {
            let mean = sum / runs;
            let error = ((squares / runs - mean * mean) / runs).sqrt();
            assert!((mean - expected).abs() < 3.0 * error, "{id}: {mean} expected {expected} ± {error}");
        }
    }

    /// All orders of two of four add up to 1, and each is drawn as often as it says.
    #[test]
    fn ordered_propensities_are_exact() {
        const RUNS: u32 = 20_000;
        for (temperature, null_weight) in [(1.0, 0.0), (1.0, 900_000.0), (2.0, 500_000.0), (0.4, 400_000.0)] {
            let rules = SegmentRules { null_weight, temperature, ..rules(2) };
            let mut seen: std::collections::BTreeMap<Vec<String>, (f64, f64)> =
                std::collections::BTreeMap::new();
            for n in 0..RUNS {
                let outcome = run(&books(), &rules, seed(n), 3).expect("valid");
                let product: f64 = outcome.awards.iter().map(|a| a.propensity).product();
                assert!(outcome.propensity <= product + 1e-12);
                let ids = outcome.awards.into_iter().map(|a| a.award.id).collect();
                let entry = seen.entry(ids).or_insert((0.0, outcome.propensity));
                entry.0 += 1.0;
                assert!((entry.1 - outcome.propensity).abs() < 1e-12, "one order, one propensity");
            }
            let total: f64 = seen.values().map(|(_, propensity)| propensity).sum();
            assert!(total < 1.0 + 1e-9 && total > 0.999, "{total}");
            let runs = f64::from(RUNS);
            let chi: f64 = seen.values().map(|(times, p)| (times - runs * p).powi(2) / (runs * p)).sum();
            let freedom = seen.len() as f64 - 1.0;
            assert!(
                chi < freedom + 4.0 * (2.0 * freedom).sqrt(),
                "temperature {temperature}: {chi} {freedom}"
            );
        }
    }

    #[test]
    fn the_chance_of_an_outcome_can_be_asked_for() {
        for (winners, temperature, null_weight) in
            [(1, 1.0, 0.0), (2, 1.0, 600_000.0), (2, 0.5, 0.0), (2, 0.0, 700_000.0)]
        {
            let rules = SegmentRules { null_weight, temperature, ..rules(winners) };
            let mut shown: std::collections::BTreeMap<String, f64> = std::collections::BTreeMap::new();
            let mut seen = std::collections::BTreeSet::new();
            for n in 0..3_000 {
                let outcome = run(&books(), &rules, seed(n), 0).expect("valid");
                let ids: Vec<String> = outcome.awards.into_iter().map(|drawn| drawn.award.id).collect();
                let asked = propensity(&books(), &rules, &ids).expect("valid");
                assert!((asked - outcome.propensity).abs() < 1e-12, "{ids:?}");
                if seen.insert(ids.clone()) {
                    for id in ids {
                        *shown.entry(id).or_default() += asked;
                    }
                }
            }
            for share in shown_shares(&books(), &rules).expect("closed form") {
                let found = shown.get(&share.id).copied().unwrap_or(0.0);
                assert!((found - share.probability).abs() < 1e-9, "{share:?} {found}");
            }
        }
        let dear = SegmentRules { reserve: Micros(2_500_000), ..rules(1) };
        assert_eq!(propensity(&books(), &dear, &["c".to_owned()]), Ok(0.0), "under the reserve");
        let two = ["a".to_owned(), "b".to_owned()];
        assert_eq!(propensity(&books(), &rules(1), &two), Ok(0.0), "more than are shown");
        assert!(shown_shares(&books(), &rules(3)).is_err());
    }

    /// 20 for a thousand impressions is as much as 1 for a click of one in fifty.
    #[test]
    fn impressions_and_clicks_are_drawn_by_what_an_impression_is_worth() {
        let click = candidate("click", 1.0, 0.02);
        let mille =
            Candidate::new("mille".to_owned(), Billing::PerMille, Micros(20_000_000), Probability::ZERO);
        let list = [click, mille];
        let floors = SegmentRules { reserve_per_mille: Micros(5_000_000), ..rules(1) };
        let outcome = run(&list, &floors, seed(1), 0).expect("valid");
        for share in &outcome.shares {
            assert!((share.probability - 0.5).abs() < 1e-12, "{share:?}");
        }
        let mut least = i64::MAX;
        for n in 0..400 {
            let drawn = run(&list, &floors, seed(n), 0).expect("valid").awards.remove(0).award;
            let own = list.iter().find(|own| own.id == drawn.id).expect("took part");
            assert_eq!(drawn.billing, own.billing);
            assert!(drawn.price <= own.bid && drawn.price > Micros::ZERO);
            if drawn.billing == Billing::PerMille {
                least = least.min(drawn.price.0);
            }
        }
        assert_eq!(least, 5_000_000, "a reserve of its own");
        let dear = SegmentRules { reserve_per_mille: Micros(20_000_001), ..rules(1) };
        assert_eq!(run(&list, &dear, seed(1), 0).expect("valid").shares.len(), 1);
    }

    #[test]
    fn cold_draws_take_the_largest_weight_for_certain() {
        let rules = SegmentRules { temperature: 0.0, null_weight: 700_000.0, ..rules(3) };
        for n in 0..50 {
            let outcome = run(&books(), &rules, seed(n), 0).expect("valid");
            let prices: Vec<(&str, i64)> =
                outcome.awards.iter().map(|a| (a.award.id.as_str(), a.award.price.0)).collect();
            // c weighs .62 and d .52, less than no ad at .7, which sets the price.
            assert_eq!(prices, [("b", 804_597), ("a", 1_944_444)]);
            assert_eq!(outcome.awards[0].award.price_set_by, PriceSetBy::NoAd);
            assert!((outcome.propensity - 1.0).abs() < 1e-12 && outcome.no_ad < 1e-12);
        }
    }

    #[test]
    fn nobody_gains_by_another_bid_whatever_the_noise() {
        for winners in [1, 2, 3] {
            for n in 0..200 {
                let rules =
                    SegmentRules { null_weight: 300_000.0, reserve: Micros(400_000), ..rules(winners) };
                let value = 2_500_000_i64;
                let utility = |bid: i64| {
                    let mut list = books();
                    list[1].bid = Micros(bid);
                    let outcome = run(&list, &rules, seed(n), 1).expect("valid");
                    let own = outcome.awards.into_iter().find(|a| a.award.id == "b");
                    own.map_or(0, |a| value - a.award.price.0)
                };
                let truth = utility(value);
                assert!(truth >= 0, "paid more than its value");
                for bid in (100_000..=6_000_000).step_by(190_000) {
                    assert!(utility(bid) <= truth + 1, "seed {n}: {bid} beats the truth");
                }
            }
        }
    }

    #[test]
    fn order_of_candidates_does_not_matter_and_segments_differ() {
        let mut list = books();
        let rules = SegmentRules { null_weight: 100_000.0, temperature: 1.3, ..rules(3) };
        let first = run(&list, &rules, seed(5), 2).expect("valid");
        list.reverse();
        assert_eq!(run(&list, &rules, seed(5), 2).expect("valid"), first);
        let orders: std::collections::BTreeSet<Vec<String>> = (0..20)
            .map(|segment| run(&list, &rules, seed(5), segment).expect("valid"))
            .map(|outcome| outcome.awards.into_iter().map(|a| a.award.id).collect())
            .collect();
        assert!(orders.len() > 3, "every segment must have noise of its own");
    }

    /// Against Simpson's rule, on both sides of the switch to a series.
    #[test]
    fn expected_payment_is_the_integral() {
        let (q, others) = (0.1, 1.0);
        for r in [0.0, 0.5] {
            for more in [1e-5, 1e-3, 1.1e-3, 1e-2, 1.0, 10.0] {
                let density = |z: f64| z * q * others / (q * z + others).powi(2);
                let step = more / 200.0;
                let inner: f64 =
                    (1..200).map(|i| density(r + step * f64::from(i)) * f64::from(2 + 2 * (i % 2))).sum();
                let integral = step / 3.0 * (density(r) + inner + density(r + more));
                let expected = r * q * r / (q * r + others) + integral;
                let found = expected_payment(q, r + more, others, r);
                assert!((found / expected - 1.0).abs() < 1e-7, "{r} + {more}: {found} {expected}");
            }
        }
        assert!((expected_payment(0.1, 2.0, 0.0, 0.5) - 0.5).abs() < 1e-12, "alone: the reserve");
    }

    #[test]
    fn rules_that_make_no_sense_are_refused() {
        let good = rules(1);
        for bad in [
            SegmentRules { winners: 0, ..good.clone() },
            SegmentRules { winners: MAX_SLOTS + 1, ..good.clone() },
            SegmentRules { null_weight: -1.0, ..good.clone() },
            SegmentRules { null_weight: f64::NAN, ..good.clone() },
            SegmentRules { reserve: Micros(-1), ..good.clone() },
            SegmentRules { temperature: 8.1, ..good.clone() },
            SegmentRules { temperature: f64::NAN, ..good.clone() },
        ] {
            assert!(run(&books(), &bad, seed(0), 0).is_err(), "{bad:?}");
        }
        let two = rules(2);
        assert!(matches!(expected_payments(&books(), &two), Err(AuctionError::NoClosedForm { .. })));
    }
}
