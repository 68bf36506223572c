//! The segment auction against its closed forms, in the two published scenarios: click probabilities .36, .87, .31
//! and .26; bids 3, 3, 2, 2 and 2, 1, 3, 3.
//!
//! Welfare, revenue and relevance are those of the paper: means over three segments, as parts of the largest possible.
//! Its own figures come from 500 runs of rounded inputs, so the closed form is the reference and not they.

use bowerbird_auction::segment::{SegmentAward, SegmentRules, expected_payments, run};
use bowerbird_auction::{Candidate, Micros};

use super::market::{books, seed};
use super::{Check, Mean, STANDARD_ERRORS, chi_squared};

/// Answers of three segments each.
const ANSWERS: u64 = 20_000;
const DRAWS: u64 = 100_000;
const SEGMENTS: u32 = 3;

pub(super) fn checks() -> anyhow::Result<Vec<Check>> {
    let mut checks = Vec::new();
    for (scenario, bids) in [[3, 3, 2, 2], [2, 1, 3, 3]].into_iter().enumerate() {
        checks.extend(repeated(scenario, &books(bids))?);
        checks.extend(without_replacement(scenario, &books(bids))?);
    }
    checks.push(shares()?);
    checks.push(orders()?);
    checks.push(payments()?);
    Ok(checks)
}

fn rules(winners: usize) -> SegmentRules {
    SegmentRules { winners, ..SegmentRules::default() }
}

fn weight(ad: &Candidate<String>) -> f64 {
    ad.ctr.get() * ad.bid.0 as f64
}

fn most(ads: &[Candidate<String>], of: impl Fn(&Candidate<String>) -> f64) -> f64 {
    ads.iter().map(of).fold(0.0, f64::max)
}

/// One ad for each of three segments, each drawn anew: welfare, revenue and relevance.
fn repeated(scenario: usize, ads: &[Candidate<String>]) -> anyhow::Result<Vec<Check>> {
    let most = [most(ads, weight), most(ads, |ad| ad.bid.0 as f64), most(ads, |ad| ad.ctr.get())];
    let total: f64 = ads.iter().map(weight).sum();
    let mean_of = |value: fn(&Candidate<String>) -> f64| -> f64 {
        ads.iter().map(|ad| weight(ad) / total * value(ad)).sum()
    };
    let paid: f64 = expected_payments(ads, &rules(1))?.iter().map(|(_, payment)| payment).sum();
    let theory = [mean_of(weight) / most[0], paid / most[1], mean_of(|ad| ad.ctr.get()) / most[2]];
    let mut means = [Mean::default(); 3];
    for n in 0..ANSWERS {
        let mut sums = [0.0; 3];
        for segment in 0..SEGMENTS {
            for SegmentAward { award, .. } in run(ads, &rules(1), seed(n), segment)?.awards {
                let ad = ads.iter().find(|ad| ad.id == award.id).expect("awards go to candidates");
                sums[0] += weight(ad);
                sums[1] += award.price.0 as f64;
                sums[2] += ad.ctr.get();
            }
        }
        for ((mean, sum), most) in means.iter_mut().zip(sums).zip(most) {
            mean.add(sum / most / f64::from(SEGMENTS));
        }
    }
    let names = ["welfare", "revenue", "relevance"];
    let checks = names.into_iter().zip(means).zip(theory).map(|((name, mean), theory)| {
        Check::at_most(
            &format!("segment.scenario{scenario}.{name}"),
            // A price is rounded down by less than a micro.
            mean.off(theory, 1e-6),
            STANDARD_ERRORS,
            format!("standard errors of the mean {:.4} from {theory:.4}", mean.mean()),
        )
    });
    Ok(checks.collect())
}

/// Three ads at once, none twice, against all 24 orders.
fn without_replacement(scenario: usize, ads: &[Candidate<String>]) -> anyhow::Result<Vec<Check>> {
    let weights: Vec<f64> = ads.iter().map(weight).collect();
    let (most_weight, most_ctr) = (most(ads, weight), most(ads, |ad| ad.ctr.get()));
    let value = |order: &[usize]| -> [f64; 2] {
        let welfare: f64 = order.iter().map(|at| weights[*at]).sum();
        let relevance: f64 = order.iter().map(|at| ads[*at].ctr.get()).sum();
        [welfare / most_weight / 3.0, relevance / most_ctr / 3.0]
    };
    let mut theory = [0.0; 2];
    for (order, chance) in plackett_luce(&weights, 3) {
        for (sum, value) in theory.iter_mut().zip(value(&order)) {
            *sum += chance * value;
        }
    }
    let mut means = [Mean::default(); 2];
    for n in 0..ANSWERS {
        let outcome = run(ads, &rules(3), seed(n), 9)?;
        for (mean, value) in means.iter_mut().zip(value(&positions(ads, &outcome.awards))) {
            mean.add(value);
        }
    }
    let checks = ["welfare", "relevance"].into_iter().zip(means).zip(theory).map(|((name, mean), theory)| {
        Check::at_most(
            &format!("segment.scenario{scenario}.three_ads.{name}"),
            mean.off(theory, 0.0),
            STANDARD_ERRORS,
            format!("standard errors of the mean {:.4} from {theory:.4}", mean.mean()),
        )
    });
    Ok(checks.collect())
}

fn positions(ads: &[Candidate<String>], drawn: &[SegmentAward<String>]) -> Vec<usize> {
    drawn.iter().filter_map(|drawn| ads.iter().position(|ad| ad.id == drawn.award.id)).collect()
}

/// Every order of `k` of `weights`, with its probability.
fn plackett_luce(weights: &[f64], k: usize) -> Vec<(Vec<usize>, f64)> {
    let mut orders: Vec<(Vec<usize>, f64)> = vec![(Vec::new(), 1.0)];
    for _ in 0..k {
        orders = orders
            .iter()
            .flat_map(|(order, chance)| {
                let open: Vec<usize> = (0..weights.len()).filter(|at| !order.contains(at)).collect();
                let total: f64 = open.iter().map(|at| weights[*at]).sum();
                open.into_iter().map(move |at| {
                    let longer = order.iter().copied().chain([at]).collect();
                    (longer, chance * weights[at] / total)
                })
            })
            .collect();
    }
    orders
}

/// Winners of 100,000 draws with a chance of no ad, against the chances that the outcome tells.
fn shares() -> anyhow::Result<Check> {
    let ads = books([3, 3, 2, 2]);
    let rules = SegmentRules { null_weight: 500_000.0, ..rules(1) };
    let outcome = run(&ads, &rules, seed(0), 0)?;
    let mut chances: Vec<f64> = outcome.shares.iter().map(|share| share.probability).collect();
    chances.push(outcome.no_ad);
    let mut counts = vec![0.0; 5];
    for n in 0..DRAWS {
        let awards = run(&ads, &rules, seed(n), 0)?.awards;
        counts[positions(&ads, &awards).first().copied().unwrap_or(4)] += 1.0;
    }
    // 99.9 % of χ² with 4 degrees of freedom.
    let what = "χ² of 100,000 draws against the told chances, 4 degrees of freedom";
    Ok(Check::at_most("segment.chi_squared", chi_squared(&counts, &chances), 18.47, what))
}

/// Ordered pairs of 100,000 draws against the propensities they tell, which must be those of Plackett and Luce.
fn orders() -> anyhow::Result<Check> {
    let ads = books([2, 1, 3, 3]);
    let weights: Vec<f64> = ads.iter().map(weight).collect();
    let theory = plackett_luce(&weights, 2);
    let mut counts = vec![0.0; theory.len()];
    for n in 0..DRAWS {
        let outcome = run(&ads, &rules(2), seed(n), 1)?;
        let drawn = positions(&ads, &outcome.awards);
        let at = theory.iter().position(|(order, _)| *order == drawn);
        let at = at.ok_or_else(|| anyhow::anyhow!("the segment auction drew {drawn:?}, which is no pair"))?;
        anyhow::ensure!(
            (outcome.propensity - theory[at].1).abs() < 1e-12,
            "the propensity of {drawn:?} is {}, expected {}",
            outcome.propensity,
            theory[at].1
        );
        counts[at] += 1.0;
    }
    let chances: Vec<f64> = theory.into_iter().map(|(_, chance)| chance).collect();
    // 99.9 % of χ² with 11 degrees of freedom.
    let what = "χ² of 100,000 ordered pairs against their propensities, 11 degrees of freedom";
    Ok(Check::at_most("segment.pairs.chi_squared", chi_squared(&counts, &chances), 31.26, what))
}

/// What each ad pays on average with a reserve and a chance of no ad, against Myerson's integral.
fn payments() -> anyhow::Result<Check> {
    let ads = books([3, 3, 2, 2]);
    let rules = SegmentRules { null_weight: 700_000.0, reserve: Micros(500_000), ..rules(1) };
    let mut means = vec![Mean::default(); ads.len()];
    for n in 0..DRAWS {
        let awards = run(&ads, &rules, seed(n), 2)?.awards;
        for (mean, ad) in means.iter_mut().zip(&ads) {
            let own = awards.iter().find(|drawn| drawn.award.id == ad.id);
            mean.add(own.map_or(0.0, |drawn| drawn.award.price.0 as f64));
        }
    }
    let expected = expected_payments(&ads, &rules)?;
    let off = means.iter().zip(&expected).map(|(mean, (_, expected))| mean.off(*expected, 1.0));
    let what = "standard errors of the mean payment of an ad from the closed form, farthest of four";
    Ok(Check::at_most("segment.payments", off.fold(0.0, f64::max), STANDARD_ERRORS, what))
}
