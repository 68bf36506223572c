//! Who gets the slots, at a price that is held at once.

use std::collections::HashSet;

use bowerbird_auction::{Billing, Candidate, Micros, Probability};

use crate::auction::{Auction, Won};
use crate::caps::{Hold as Place, UserHash};
use crate::decide::Scored;
use crate::decision_log::{self, DecisionLog, LoggedCandidate};
use crate::engine::Engine;
use crate::explain::{Funnel, Reason};
use crate::index::AdIndex;
use crate::learning::Reading;
use crate::money::{self, Hold, Liability};
use crate::pacing::PacedBid;
use crate::places::{self, Asked};
use crate::propensity;
use crate::served::{self, Served, kept_query};
use crate::snapshot::Snapshot;
use crate::time::{day, millis, millis_after};
use crate::token::{Billed, nonce};
use crate::{AdRequest, AdsError};

impl Engine {
    /// Holds the auction, takes places under frequency caps, holds the prices and keeps the decision, all or nothing. A
    /// campaign whose budget, or an ad whose last place was used up by others in the meantime is dropped and the auction
    /// held again; each round drops one, so there are at most as many as candidates. A test holds and keeps nothing.
    pub(crate) async fn award(
        &self,
        request: &AdRequest,
        reading: &Reading,
        snapshot: &Snapshot,
        user: Option<UserHash>,
        scored: &[Scored],
        funnel: &mut Funnel,
    ) -> Result<Vec<Won>, AdsError> {
        let index = &*snapshot.ads;
        let auction = self.config.auction(request.place, request.slots);
        let mut out = Out::default();
        for _ in 0..=scored.len() {
            let contenders = one_per_advertiser(index, scored, &out, auction.gamma(), funnel);
            let mut outcome = auction.hold(&contenders, request.auction_id)?;
            if let Auction::Slots(rules) = &auction {
                outcome.propensity = propensity::of_slots(
                    &self.learning.model,
                    index,
                    scored,
                    &out,
                    rules.squash_gamma,
                    request.auction_id.into_bytes(),
                    &mut outcome.won,
                );
            }
            for loser in &contenders {
                if let Some(ad) = position(index, scored, &loser.id) {
                    funnel.stop(ad, Reason::LostAuction);
                }
            }
            let winners: Vec<&Scored> =
                outcome.won.iter().filter_map(|won| of(index, scored, &won.award.id)).collect();
            // That nobody was drawn is a decision like any other; that nobody took part is none.
            let decided = !outcome.won.is_empty() || (auction.draws() && !contenders.is_empty());
            if !decided || request.test {
                served(funnel, &outcome.won, &winners);
                return Ok(outcome.won);
            }
            let places = match self.places(request, snapshot, user, &winners) {
                Ok(places) => places,
                Err(ad) => {
                    funnel.stop(ad, Reason::FrequencyCap);
                    out.capped.insert(ad);
                    continue;
                }
            };
            let pairs = || outcome.won.iter().zip(&winners);
            let holds: Vec<Hold> = pairs().map(|(won, winner)| hold(request, index, won, winner)).collect();
            let candidates = contenders
                .iter()
                .filter_map(|contender| Some(logged(index, contender, of(index, scored, &contender.id)?)))
                .collect();
            let mut log = DecisionLog::new(&auction, candidates, &outcome);
            log.lang.clone_from(&request.lang);
            log.country.clone_from(&request.country);
            log.stopped = funnel.stopped(index);
            let query = kept_query(&request.text, self.config.log.queries);
            let rows: Vec<Served> = pairs()
                .map(|(won, winner)| {
                    let features = self.shown(reading, index, won, winner);
                    Served { features, ..row(request, index, user, won, winner, &query) }
                })
                .collect();
            let caps: Vec<Asked> = winners
                .iter()
                .enumerate()
                .flat_map(|(at, winner)| places::asked(at, &snapshot.scopes(winner.ad)).collect::<Vec<_>>())
                .collect();
            let hold_ms = i64::try_from(self.config.time_to_live.impression.as_millis()).unwrap_or(i64::MAX);
            let (now, id) = (request.now, request.auction_id);
            let expires = millis_after(now, self.config.time_to_live.reservation);
            let kept = self.writer.run(move |work| {
                Box::pin(async move {
                    if let Some(person) = user {
                        let (auction, now) = (id.to_string(), millis(now));
                        let full = places::without_room(work.db(), person, &auction, &caps, now, hold_ms);
                        if let Some(at) = full.await? {
                            return Ok(Err(Lost::Place(at)));
                        }
                    }
                    if let Err(at) = money::reserve(work, &holds, &day(now), expires).await? {
                        return Ok(Err(Lost::Money(at)));
                    }
                    served::insert(work.db(), &rows).await?;
                    decision_log::insert(work.db(), id, now, &query, &log).await?;
                    Ok(Ok(()))
                })
            });
            let kept = kept.await;
            if !matches!(kept, Ok(Ok(()))) {
                places.iter().flatten().for_each(|place| self.caps.release(place));
            }
            match kept? {
                Ok(()) => {
                    for (won, place) in outcome.won.iter().zip(places) {
                        if let Some(place) = place {
                            let slot = u8::try_from(won.award.slot).unwrap_or(u8::MAX);
                            self.holds.keep(request.auction_id.as_u128(), slot, place, now.as_second());
                        }
                    }
                    served(funnel, &outcome.won, &winners);
                    return Ok(outcome.won);
                }
                Err(Lost::Place(at)) => {
                    funnel.stop(winners[at].ad, Reason::FrequencyCap);
                    out.capped.insert(winners[at].ad);
                }
                Err(Lost::Money(at)) => {
                    let campaign = index.groups[index.ads[winners[at].ad].group].campaign;
                    funnel.stop_campaign(campaign, Reason::BudgetExhausted);
                    out.broke.insert(campaign);
                }
            }
        }
        Ok(Vec::new())
    }

    /// A place under the frequency caps of every winner, or the ad that has none left; no place is taken then.
    fn places(
        &self,
        request: &AdRequest,
        snapshot: &Snapshot,
        user: Option<UserHash>,
        winners: &[&Scored],
    ) -> Result<Vec<Option<Place>>, usize> {
        let mut places: Vec<Option<Place>> = Vec::with_capacity(winners.len());
        for winner in winners {
            let scopes = snapshot.scopes(winner.ad);
            if scopes.is_empty() {
                places.push(None);
                continue;
            }
            let place = user.and_then(|user| self.caps.try_hold(user, &scopes, request.now.as_second()));
            if place.is_none() {
                places.iter().flatten().for_each(|place| self.caps.release(place));
                return Err(winner.ad);
            }
            places.push(place);
        }
        Ok(places)
    }
}

fn served(funnel: &mut Funnel, won: &[Won], winners: &[&Scored]) {
    for (Won { award, .. }, winner) in won.iter().zip(winners) {
        let (slot, price_per_click) = (award.slot, award.price);
        funnel.stop(winner.ad, Reason::Served { slot, price_per_click });
    }
}

/// What is kept of a won slot.
fn row(
    request: &AdRequest,
    index: &AdIndex,
    user: Option<UserHash>,
    won: &Won,
    winner: &Scored,
    query: &str,
) -> Served {
    let award = &won.award;
    let campaign = &index.campaigns[index.groups[index.ads[winner.ad].group].campaign];
    Served {
        nonce: nonce(request.auction_id, award.slot, &award.id),
        auction_id: request.auction_id.to_string(),
        ad: award.id.clone(),
        campaign: campaign.id.clone(),
        advertiser: index.advertisers[campaign.advertiser].id.clone(),
        day: day(request.now),
        at_ms: millis(request.now),
        slot: award.slot,
        billed: billed(award.billing),
        bid: index.event_bid(index.ads[winner.ad].group),
        price: award.price_of_event(),
        probability: winner.click_probability.get(),
        propensity: won.propensity,
        match_type: winner.keyword.as_ref().map_or("", |keyword| keyword.match_type.as_str()),
        keyword: winner.keyword.as_ref().map_or_else(String::new, |keyword| keyword.text.clone()),
        query: query.to_owned(),
        person: user.map_or_else(String::new, UserHash::to_hex),
        features: String::new(),
        log_odds: winner.log_odds,
        wording: winner.wording.as_ref().map_or_else(String::new, |wording| wording.id.clone()),
    }
}

/// Which event is paid for.
pub(crate) fn billed(billing: Billing) -> Billed {
    match billing {
        Billing::PerClick => Billed::Click,
        Billing::PerMille => Billed::Impression,
    }
}

/// What a won slot may cost.
fn hold(request: &AdRequest, index: &AdIndex, won: &Won, winner: &Scored) -> Hold {
    let Won { award, exposure, .. } = won;
    let clicked =
        Probability::new(winner.click_probability.get() * exposure).unwrap_or(winner.click_probability);
    let campaign = &index.campaigns[index.groups[index.ads[winner.ad].group].campaign];
    Hold {
        nonce: nonce(request.auction_id, award.slot, &award.id),
        campaign: campaign.id.clone(),
        advertiser: index.advertisers[campaign.advertiser].id.clone(),
        liability: match award.billing {
            Billing::PerClick => Liability::new(award.price_of_event(), clicked),
            Billing::PerMille => Liability::certain(award.price_of_event()),
        },
    }
}

fn logged(index: &AdIndex, candidate: &Candidate<String>, scored: &Scored) -> LoggedCandidate {
    let campaign = index.groups[index.ads[scored.ad].group].campaign;
    LoggedCandidate {
        ad: candidate.id.clone(),
        campaign: index.campaigns[campaign].id.clone(),
        bid: candidate.bid,
        click_probability: candidate.ctr.get(),
        pacing: candidate.pacing,
        relevance: scored.relevance.get(),
        cosine: scored.cosine,
        logit: scored.logit.get(),
        keyword: scored.keyword.as_ref().map(|keyword| keyword.text.clone()),
        per_mille: candidate.billing == Billing::PerMille,
    }
}

/// What a winner turned out not to have, by its position.
enum Lost {
    /// Room under a frequency cap.
    Place(usize),
    /// Money.
    Money(usize),
}

/// What is out of the auction: its money or its places went to others while it ran.
#[derive(Default)]
pub(crate) struct Out {
    /// Campaigns.
    broke: HashSet<usize>,
    /// Ads.
    capped: HashSet<usize>,
}

impl Out {
    /// Whether the ad may still take part.
    pub fn lets(&self, index: &AdIndex, scored: &Scored) -> bool {
        let campaign = index.groups[index.ads[scored.ad].group].campaign;
        !self.broke.contains(&campaign) && !self.capped.contains(&scored.ad)
    }
}

/// The best ad of each advertiser that still has money, ready for the auction.
fn one_per_advertiser(
    index: &AdIndex,
    scored: &[Scored],
    out: &Out,
    gamma: f64,
    funnel: &mut Funnel,
) -> Vec<Candidate<String>> {
    let worth = |scored: &Scored| scored.worth(index, scored.click_probability.get(), gamma);
    let contenders: Vec<&Scored> = scored.iter().filter(|scored| out.lets(index, scored)).collect();
    let mut seen = HashSet::new();
    let mut candidates = Vec::new();
    for scored in in_order(&contenders, worth) {
        let campaign = index.groups[index.ads[scored.ad].group].campaign;
        if seen.insert(index.campaigns[campaign].advertiser) {
            // Relevance has had its say at the gate and in the click estimate.
            let billing = index.billing(index.ads[scored.ad].group);
            let id = index.ads[scored.ad].id.clone();
            let PacedBid { bid, pacing } = scored.paced;
            candidates
                .push(Candidate { pacing, ..Candidate::new(id, billing, bid, scored.click_probability) });
        } else {
            funnel.stop(scored.ad, Reason::SameAdvertiser);
        }
    }
    candidates
}

/// The largest `worth` first; equal ones by their position.
pub(crate) fn in_order<'s>(contenders: &[&'s Scored], worth: impl Fn(&Scored) -> f64) -> Vec<&'s Scored> {
    let mut ranked: Vec<(f64, &Scored)> = contenders.iter().map(|scored| (worth(scored), *scored)).collect();
    ranked.sort_by(|(a, first), (b, second)| b.total_cmp(a).then(first.ad.cmp(&second.ad)));
    ranked.into_iter().map(|(_, scored)| scored).collect()
}

/// What the ad's group pays for a click at most.
pub(crate) fn bid(index: &AdIndex, ad: usize) -> Micros {
    index.groups[index.ads[ad].group].bid
}

fn of<'s>(index: &AdIndex, scored: &'s [Scored], id: &str) -> Option<&'s Scored> {
    scored.iter().find(|scored| index.ads[scored.ad].id == id)
}

fn position(index: &AdIndex, scored: &[Scored], id: &str) -> Option<usize> {
    of(index, scored, id).map(|scored| scored.ad)
}
