//! A log run again: the same candidates, rules and seed give the same winners and prices, in any order of candidates,
//! and on every machine.

use bowerbird_auction::segment::{self, SegmentRules};
use bowerbird_auction::{Billing, Candidate, Mechanism, Micros, Rules, run};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

use super::Check;
use super::market::{self, probability, seed};

const AUCTIONS: u64 = 500;
/// SHA-256 of winners and prices of the auctions of [`known`]. It changes only when old logs cannot be replayed.
const KNOWN: &str = "7dca9a395f0989725d4734f6d8600fab416c7d34d92cbef34178e25e0312cc07";

pub(super) fn checks() -> anyhow::Result<Vec<Check>> {
    let mut rng = StdRng::seed_from_u64(101);
    let (mut ranked, mut drawn) = (0, 0);
    for n in 0..AUCTIONS {
        let mechanism = if n % 2 == 0 { Mechanism::Vcg } else { Mechanism::Gsp };
        let (mut list, rules) = market::auction(&mut rng, mechanism);
        // Some equal candidates: ties must replay as well.
        let twin = Candidate { id: "twin".to_owned(), ..list[0].clone() };
        list.push(twin);
        let logged = run(&list, &rules, seed(n))?;
        list.shuffle(&mut rng);
        ranked += usize::from(run(&list, &rules, seed(n))? != logged);

        let (mut list, rules) = market::segment(&mut rng);
        let number = rng.random_range(0..100);
        let logged = segment::run(&list, &rules, seed(n), number)?;
        list.shuffle(&mut rng);
        drawn += usize::from(segment::run(&list, &rules, seed(n), number)? != logged);
    }
    let found = known()?;
    let what = format!("digests of known winners and prices that are not those of other machines: {found}");
    Ok(vec![
        Check::none("replay.auction", ranked, AUCTIONS as usize, "auctions that replay differently"),
        Check::none("replay.segment", drawn, AUCTIONS as usize, "segment auctions that replay differently"),
        Check::none("replay.machines", usize::from(found != KNOWN), 1, &what),
    ])
}

/// A digest of 400 auctions with inputs that need no random numbers.
fn known() -> anyhow::Result<String> {
    let mut digest = Sha256::new();
    for n in 0..200_i64 {
        let bid = |i: i64| Micros(100_000 + (n * 7_919 + i * 104_729) % 3_000_000);
        let ctr = |i: i64| probability(((n * 31 + i * 17) % 97 + 1) as f64 / 100.0);
        let ranked: Vec<_> = (0..6_i64)
            .map(|i| {
                let billing = if i % 3 == 0 { Billing::PerMille } else { Billing::PerClick };
                Candidate {
                    pacing: 1.0 / (1 + i % 2) as f64,
                    ..Candidate::new([i as u8], billing, bid(i), ctr(i))
                }
            })
            .collect();
        let rules = Rules { squash_gamma: 0.5, ..market::rules(Mechanism::Vcg, 50_000, &[1.0, 0.6, 0.4]) };
        for award in run(&ranked, &rules, seed(n.unsigned_abs()))? {
            digest.update(award.id);
            digest.update(award.price.0.to_le_bytes());
        }
        let drawn: Vec<_> =
            (0..6_i64).map(|i| Candidate::new([i as u8], Billing::PerClick, bid(i), ctr(i))).collect();
        let rules = SegmentRules {
            winners: 2,
            null_weight: 200_000.0,
            reserve: Micros(50_000),
            temperature: 1.25,
            ..SegmentRules::default()
        };
        for drawn in segment::run(&drawn, &rules, seed(n.unsigned_abs()), 1)?.awards {
            digest.update(drawn.award.id);
            digest.update(drawn.award.price.0.to_le_bytes());
        }
    }
    Ok(hex::encode(digest.finalize()))
}
