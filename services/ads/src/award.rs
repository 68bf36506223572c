//! Who gets the slots, at a price that is held at once.

use std::collections::HashSet;

use bowerbird_auction::{Award, Billing, Candidate, Micros};

use crate::budget::{self, Hold};
use crate::decide::Scored;
use crate::engine::Engine;
use crate::explain::{Funnel, Reason};
use crate::index::AdIndex;
use crate::time::{millis, millis_after};
use crate::token::nonce;
use crate::{AdRequest, AdsError};

impl Engine {
    /// Runs the auction and holds the prices. A campaign whose budget was used up by others in the meantime is
    /// dropped and the auction run again; each round drops one, so there are at most as many as candidates.
    pub(crate) async fn award(
        &self,
        request: &AdRequest,
        index: &AdIndex,
        scored: &[Scored],
        day: &str,
        funnel: &mut Funnel,
    ) -> Result<Vec<Award<String>>, AdsError> {
        let rules = self.config.rules(request.slots);
        let expires = millis_after(request.now, self.config.time_to_live.reservation);
        let mut broke: HashSet<usize> = HashSet::new();
        for _ in 0..=scored.len() {
            let contenders = one_per_advertiser(index, scored, &broke, rules.squash_gamma, funnel);
            let awards = bowerbird_auction::run(&contenders, &rules, request.auction_id.into_bytes())?;
            for loser in &contenders {
                if let Some(ad) = position(index, scored, &loser.id) {
                    funnel.stop(ad, Reason::LostAuction);
                }
            }
            if awards.is_empty() {
                return Ok(awards);
            }
            let winners: Vec<usize> =
                awards.iter().filter_map(|award| position(index, scored, &award.id)).collect();
            let holds: Vec<Hold<'_>> = awards
                .iter()
                .zip(&winners)
                .map(|(award, ad)| Hold {
                    nonce: nonce(request.auction_id, award.slot, &award.id),
                    campaign: &index.campaigns[index.groups[index.ads[*ad].group].campaign].id,
                    amount: award.price_of_event(),
                })
                .collect();
            let mut tx = self.store.begin_write().await?;
            budget::release_expired(&mut tx, millis(request.now)).await?;
            match budget::reserve(&mut tx, &holds, day, expires).await? {
                Ok(()) => {
                    tx.commit().await?;
                    for (award, ad) in awards.iter().zip(winners) {
                        let (slot, price_per_click) = (award.slot, award.price);
                        funnel.stop(ad, Reason::Served { slot, price_per_click });
                    }
                    return Ok(awards);
                }
                Err(at) => {
                    tx.rollback().await?;
                    let campaign = index.groups[index.ads[winners[at]].group].campaign;
                    funnel.stop_campaign(campaign, Reason::BudgetExhausted);
                    broke.insert(campaign);
                }
            }
        }
        Ok(Vec::new())
    }
}

/// The best ad of each advertiser that still has money, ready for the auction.
fn one_per_advertiser(
    index: &AdIndex,
    scored: &[Scored],
    broke: &HashSet<usize>,
    gamma: f64,
    funnel: &mut Funnel,
) -> Vec<Candidate<String>> {
    let score = |s: &Scored| bid(index, s.ad).0 as f64 * s.click_probability.get().powf(gamma);
    let mut ranked: Vec<&Scored> =
        scored.iter().filter(|s| !broke.contains(&index.groups[index.ads[s.ad].group].campaign)).collect();
    ranked.sort_by(|a, b| score(b).total_cmp(&score(a)).then(a.ad.cmp(&b.ad)));
    let mut seen = HashSet::new();
    let mut candidates = Vec::new();
    for scored in ranked {
        let campaign = index.groups[index.ads[scored.ad].group].campaign;
        if seen.insert(index.campaigns[campaign].advertiser) {
            // Relevance has had its say at the gate and in the click estimate.
            candidates.push(Candidate::new(
                index.ads[scored.ad].id.clone(),
                Billing::PerClick,
                bid(index, scored.ad),
                scored.click_probability,
            ));
        } else {
            funnel.stop(scored.ad, Reason::SameAdvertiser);
        }
    }
    candidates
}

/// What the ad's group pays for a click at most.
pub(crate) fn bid(index: &AdIndex, ad: usize) -> Micros {
    index.groups[index.ads[ad].group].bid
}

fn position(index: &AdIndex, scored: &[Scored], id: &str) -> Option<usize> {
    scored.iter().map(|scored| scored.ad).find(|ad| index.ads[*ad].id == id)
}
