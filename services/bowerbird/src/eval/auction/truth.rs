//! What every auction must hold to: a higher bid never loses, one's own bid moves no price, nobody gains by another
//! bid than the truth, and nobody pays more than the bid.

use bowerbird_auction::segment::{SegmentAward, SegmentRules};
use bowerbird_auction::{Billing, Candidate, Mechanism, Micros, Rules, paced_bid, run, segment};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Check;
use super::market::{self, seed};

/// Random auctions of each kind.
const AUCTIONS: u64 = 1_000;
/// Bids tried in each against the truth, beside those next to the bids of others.
const PERTURBATIONS: usize = 12;

pub(super) fn checks() -> anyhow::Result<Vec<Check>> {
    let mut checks = Vec::new();
    for (name, mechanism) in [("vcg", Mechanism::Vcg), ("gsp", Mechanism::Gsp)] {
        let mut found = Found::default();
        let mut rng = StdRng::seed_from_u64(31);
        for n in 0..AUCTIONS {
            let (list, rules) = market::auction(&mut rng, mechanism);
            ranked(&mut rng, list, &rules, seed(n), &mut found)?;
        }
        found.tell(name, &mut checks);
        if mechanism == Mechanism::Gsp {
            checks.push(Check::at_least(
                "truth.gsp.regret_is_found",
                found.regret,
                0.01,
                "gain of another bid by the value, largest: the tester must find that GSP is not truthful",
            ));
        } else {
            checks.push(regret(name, &found));
        }
    }
    let mut found = Found::default();
    let mut rng = StdRng::seed_from_u64(32);
    for n in 0..AUCTIONS {
        let (list, rules) = market::segment(&mut rng);
        drawn(&mut rng, list, &rules, seed(n), &mut found)?;
    }
    found.tell("segment", &mut checks);
    checks.push(regret("segment", &found));
    Ok(checks)
}

fn regret(name: &str, found: &Found) -> Check {
    let what = format!("gain of another bid by the value, largest of {}", found.perturbed);
    Check::at_most(&format!("truth.{name}.regret"), found.regret, 1e-6, what)
}

#[derive(Default)]
struct Found {
    raised: usize,
    fell: usize,
    same_outcome: usize,
    price_moved: usize,
    priced: usize,
    price_out_of_range: usize,
    perturbed: usize,
    /// Largest gain of another bid, by the value.
    regret: f64,
}

impl Found {
    fn tell(&self, kind: &str, checks: &mut Vec<Check>) {
        for (name, found, of, what) in [
            ("monotone", self.fell, self.raised, "higher bids that lost a place or a chance"),
            (
                "own_bid_moves_no_price",
                self.price_moved,
                self.same_outcome,
                "prices moved in the same outcome",
            ),
            ("rational", self.price_out_of_range, self.priced, "prices over the bid or under the reserve"),
        ] {
            checks.push(Check::none(&format!("truth.{kind}.{name}"), found, of, what));
        }
    }

    /// Place and price of one candidate before and after it bid more.
    fn raised(&mut self, before: Option<(usize, Micros)>, after: Option<(usize, Micros)>) {
        self.raised += 1;
        let fell = match (before, after) {
            (Some((was, _)), Some((is, _))) => is > was,
            (Some(_), None) => true,
            (None, _) => false,
        };
        self.fell += usize::from(fell);
        if let (Some((was, price)), Some((is, now))) = (before, after)
            && was == is
        {
            self.same_outcome += 1;
            self.price_moved += usize::from(price != now);
        }
    }
}

/// Bids worth trying against a value: any, and those around which places change.
fn tries(rng: &mut StdRng, value: i64, others: impl Iterator<Item = f64>) -> Vec<i64> {
    let mut tries: Vec<i64> = (0..PERTURBATIONS).map(|_| rng.random_range(1..=3 * value)).collect();
    for level in others.filter(|level| *level < 3.0 * value as f64) {
        tries.extend([-1, 0, 1, 2].map(|off| (level as i64 + off).max(1)));
    }
    tries
}

fn ranked(
    rng: &mut StdRng,
    mut list: Vec<Candidate<String>>,
    rules: &Rules,
    key: [u8; 16],
    found: &mut Found,
) -> anyhow::Result<()> {
    for award in run(&list, rules, key)? {
        let own = list.iter().find(|c| c.id == award.id).expect("awards go to candidates");
        let everyone = match own.billing {
            Billing::PerClick => rules.reserve,
            Billing::PerMille => rules.reserve_per_mille,
        };
        let allowed = everyone.max(own.reserve)..=paced_bid(own.bid, own.pacing);
        found.priced += 1;
        found.price_out_of_range += usize::from(!allowed.contains(&award.price));
    }
    let who = rng.random_range(0..list.len());
    let id = list[who].id.clone();
    let won = |list: &[Candidate<String>]| -> anyhow::Result<Option<(usize, Micros)>> {
        let awards = run(list, rules, key)?;
        Ok(awards.into_iter().find(|award| award.id == id).map(|award| (award.slot, award.price)))
    };
    let before = won(&list)?;
    let value = list[who].bid.0;
    list[who].bid = Micros(value + rng.random_range(1..=2 * value));
    found.raised(before, won(&list)?);

    // The truth is the value by the pacing multiplier; a bid is compared without pacing.
    list[who].pacing = 1.0;
    let own = list[who].clone();
    let worth = weight(&own, rules);
    let levels: Vec<f64> = list
        .iter()
        .filter(|c| c.id != own.id)
        .map(|c| paced_bid(c.bid, c.pacing).0 as f64 * weight(c, rules) / worth)
        .chain([own.reserve.0 as f64, rules.reserve.0 as f64])
        .collect();
    let mut utility = |bid: i64| -> anyhow::Result<f64> {
        list[who].bid = Micros(bid);
        let won = won(&list)?;
        Ok(won.map_or(0.0, |(slot, price)| rules.slot_multipliers[slot - 1] * (value - price.0) as f64))
    };
    let truth = utility(value)?;
    for bid in tries(rng, value, levels.into_iter()) {
        found.perturbed += 1;
        found.regret = found.regret.max((utility(bid)? - truth) / value as f64);
    }
    Ok(())
}

/// Money of an impression by micro of the bid, as published; only to know where places change.
fn weight(c: &Candidate<String>, rules: &Rules) -> f64 {
    let (pivot, gamma) = (rules.squash_pivot.get(), rules.squash_gamma);
    match c.billing {
        Billing::PerClick => pivot.powf(1.0 - gamma) * c.ctr.get().powf(gamma) * c.relevance.get(),
        Billing::PerMille => c.relevance.get() / 1000.0,
    }
}

fn drawn(
    rng: &mut StdRng,
    mut list: Vec<Candidate<String>>,
    rules: &SegmentRules,
    key: [u8; 16],
    found: &mut Found,
) -> anyhow::Result<()> {
    let who = rng.random_range(0..list.len());
    let id = list[who].id.clone();
    // The chance of being drawn first, and for this noise whether it is shown and at which price.
    let won = |list: &[Candidate<String>]| -> anyhow::Result<(f64, Option<(usize, Micros)>)> {
        let outcome = segment::run(list, rules, key, 5)?;
        let share = outcome.shares.iter().find(|share| share.id == id).map_or(0.0, |share| share.probability);
        let drawn = outcome.awards.into_iter().find(|drawn| drawn.award.id == id);
        // All places are alike.
        Ok((share, drawn.map(|drawn| (1, drawn.award.price))))
    };
    let reserve = |c: &Candidate<String>| match c.billing {
        Billing::PerClick => rules.reserve,
        Billing::PerMille => rules.reserve_per_mille,
    };
    for SegmentAward { award, .. } in segment::run(&list, rules, key, 5)?.awards {
        let own = list.iter().find(|c| c.id == award.id).expect("awards go to candidates");
        found.priced += 1;
        let allowed = reserve(own)..=paced_bid(own.bid, own.pacing);
        found.price_out_of_range += usize::from(!allowed.contains(&award.price));
    }
    let before = won(&list)?;
    let value = list[who].bid.0;
    list[who].bid = Micros(value + rng.random_range(1..=2 * value));
    let after = won(&list)?;
    found.raised(before.1, after.1);
    found.raised += 1;
    found.fell += usize::from(after.0 < before.0);

    list[who].pacing = 1.0;
    let reserve = reserve(&list[who]).0 as f64;
    let mut utility = |bid: i64| -> anyhow::Result<f64> {
        list[who].bid = Micros(bid);
        Ok(won(&list)?.1.map_or(0.0, |(_, price)| (value - price.0) as f64))
    };
    let truth = utility(value)?;
    let price = utility(3 * value)?;
    // What the bidder would pay is where its place changes.
    let level = if price.abs() > 0.0 { value as f64 - price } else { reserve };
    for bid in tries(rng, value, [level, reserve].into_iter()) {
        found.perturbed += 1;
        found.regret = found.regret.max((utility(bid)? - truth) / value as f64);
    }
    Ok(())
}
