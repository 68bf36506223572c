//! What another bid or budget would have brought, from the auctions that were really held.
//!
//! Every logged auction in which the campaign took part is run again with the new bid; impressions, clicks and cost are
//! expectations under the click estimates of the time, with a 95 % interval over the auctions. Others are taken to bid as
//! they did, and auctions the campaign was not asked into (its budget was used up, or it was not matched) are not in
//! the log: an estimate, not a promise.

use bowerbird_auction::{Candidate, Micros};
use serde::Serialize;
use uuid::Uuid;

use crate::AdsError;
use crate::auction::{Auction, Won};
use crate::decision_log::{Decision, DecisionLog, Unread};
use crate::engine::Engine;

/// Points of a landscape.
const FACTORS: [f64; 9] = [0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0];
/// Half width of a 95 % interval, in standard errors.
const Z: f64 = 1.959_964;

/// An expected sum with its 95 % interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Estimate {
    /// The expectation.
    pub mean: f64,
    /// Lower end, at least 0.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// What a bid would have brought.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LandscapePoint {
    /// Bid as a multiple of the one that was made.
    pub factor: f64,
    /// Auctions in which the ad would have been shown.
    pub shown: usize,
    /// Expected clicks.
    pub clicks: Estimate,
    /// Expected cost, in micros.
    pub cost_micros: Estimate,
    /// Cost of a click; absent without clicks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_per_click_micros: Option<f64>,
}

/// What a daily budget would have brought at the bid that was made.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BudgetPoint {
    /// Budget of a day.
    pub daily_budget: Micros,
    /// Expected clicks until it is spent, over all days.
    pub clicks: f64,
    /// Expected cost, in micros.
    pub cost_micros: f64,
    /// Days on which it would have been spent before their end.
    pub days_spent: usize,
}

/// A simulation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Simulation {
    /// Id of the campaign.
    pub campaign: String,
    /// Logged auctions it took part in.
    pub auctions: usize,
    /// UTC days they are from.
    pub days: usize,
    /// By bid.
    pub landscape: Vec<LandscapePoint>,
    /// By budget: half, the same, twice and four times of what is booked.
    pub budgets: Vec<BudgetPoint>,
}

/// Clicks and cost expected of one auction; nothing when the campaign is not shown.
fn outcome(
    log: &DecisionLog,
    auction_id: Uuid,
    campaign: &str,
    factor: f64,
) -> Result<Option<(f64, f64)>, AdsError> {
    let mut candidates: Vec<Candidate<String>> = Vec::with_capacity(log.candidates.len());
    for logged in &log.candidates {
        let mut candidate = logged.candidate()?;
        if logged.campaign == campaign {
            let bid = (logged.bid.0 as f64 * factor).round().clamp(1.0, bowerbird_auction::MAX_BID.0 as f64);
            candidate.bid = Micros(bid as i64);
        }
        candidates.push(candidate);
    }
    let outcome = Auction::from(&log.rules).hold(&candidates, auction_id)?;
    let own = |ad: &str| log.candidates.iter().find(|c| c.ad == ad).filter(|c| c.campaign == campaign);
    let won = outcome.won.iter().find_map(|won| own(&won.award.id).map(|logged| (won, logged)));
    Ok(won.map(|(Won { award, exposure, .. }, logged)| {
        let clicks = logged.click_probability * exposure;
        let billed = if logged.per_mille { *exposure } else { clicks };
        (clicks, billed * award.price_of_event().0 as f64)
    }))
}

/// The sum of `values` over `n` auctions, the others being 0, with its interval.
fn summed(values: &[f64], n: usize) -> Estimate {
    let total: f64 = values.iter().sum();
    let n_f = n.max(1) as f64;
    let mean = total / n_f;
    let squares: f64 = values.iter().map(|value| value * value).sum();
    let variance = (squares / n_f - mean * mean).max(0.0);
    let half = Z * (variance * n_f).sqrt();
    Estimate { mean: total, low: (total - half).max(0.0), high: total + half }
}

/// The simulation of `campaign` over `decisions`, in any order; `daily_budget` is what is booked.
pub(crate) fn simulate(
    campaign: &str,
    daily_budget: Micros,
    decisions: &[Decision],
) -> Result<Simulation, AdsError> {
    let mut own: Vec<&Decision> =
        decisions.iter().filter(|d| d.log.candidates.iter().any(|c| c.campaign == campaign)).collect();
    own.sort_by(|a, b| a.at.cmp(&b.at).then(a.auction_id.cmp(&b.auction_id)));
    let mut landscape = Vec::with_capacity(FACTORS.len());
    for factor in FACTORS {
        let (mut clicks, mut costs) = (Vec::new(), Vec::new());
        for decision in &own {
            if let Some((click, cost)) = outcome(&decision.log, decision.auction_id, campaign, factor)? {
                clicks.push(click);
                costs.push(cost);
            }
        }
        let (shown, clicks, cost) = (clicks.len(), summed(&clicks, own.len()), summed(&costs, own.len()));
        let per_click = (clicks.mean > 0.0).then(|| cost.mean / clicks.mean);
        landscape.push(LandscapePoint {
            factor,
            shown,
            clicks,
            cost_micros: cost,
            cost_per_click_micros: per_click,
        });
    }
    let mut days: Vec<String> = own.iter().map(|decision| crate::time::day(decision.at)).collect();
    days.dedup();
    let mut budgets = Vec::new();
    for (times, parts) in [(1, 2), (1, 1), (2, 1), (4, 1)] {
        let budget = Micros(daily_budget.0.saturating_mul(times) / parts);
        let (mut clicks, mut cost, mut spent_days) = (0.0, 0.0, 0);
        for day in &days {
            let mut today = 0.0;
            for decision in own.iter().filter(|decision| crate::time::day(decision.at) == *day) {
                let Some((click, price)) = outcome(&decision.log, decision.auction_id, campaign, 1.0)? else {
                    continue;
                };
                if today + price > budget.0 as f64 {
                    spent_days += 1;
                    break;
                }
                today += price;
                clicks += click;
            }
            cost += today;
        }
        budgets.push(BudgetPoint { daily_budget: budget, clicks, cost_micros: cost, days_spent: spent_days });
    }
    Ok(Simulation {
        campaign: campaign.to_owned(),
        auctions: own.len(),
        days: days.len(),
        landscape,
        budgets,
    })
}

impl Engine {
    /// The simulation of `campaign` over the decisions since `since_ms`; none when there is no such campaign.
    pub(crate) async fn simulate(
        &self,
        campaign: &str,
        since_ms: i64,
    ) -> Result<Option<Simulation>, AdsError> {
        let budget: Option<i64> =
            sqlx::query_scalar("SELECT daily_budget_micros FROM campaigns WHERE id = $1")
                .bind(campaign.to_owned())
                .fetch_optional(&self.store.reader)
                .await?;
        let Some(budget) = budget else { return Ok(None) };
        let mut reader = self.store.reader.acquire().await?;
        let decisions = crate::decision_log::since(&mut reader, since_ms).await?;
        drop(reader);
        let campaign = campaign.to_owned();
        let work = move || {
            let decisions = decisions.into_iter().map(Unread::read).collect::<Result<Vec<_>, _>>()?;
            simulate(&campaign, Micros(budget), &decisions)
        };
        tokio::task::spawn_blocking(work).await?.map(Some)
    }
}

#[cfg(test)]
mod tests {
    use bowerbird_auction::Mechanism;
    use jiff::Timestamp;

    use super::*;
    use crate::auction::Outcome;
    use crate::decision_log::{LoggedCandidate, Replay};

    fn decision(n: u128, own: i64, other: i64) -> Decision {
        let candidate = |ad: &str, bid| LoggedCandidate {
            ad: ad.into(),
            campaign: ad.into(),
            bid: Micros(bid),
            click_probability: 0.1,
            pacing: 1.0,
            relevance: 0.9,
            cosine: 0.7,
            logit: 3.0,
            keyword: None,
            per_mille: false,
        };
        let rules = bowerbird_auction::Rules {
            mechanism: Mechanism::Vcg,
            reserve: Micros(50_000),
            reserve_per_mille: Micros::ZERO,
            squash_pivot: bowerbird_auction::SQUASH_PIVOT,
            slot_multipliers: vec![1.0],
            squash_gamma: 1.0,
        };
        let log = DecisionLog::new(
            &Auction::Slots(rules),
            vec![candidate("own", own), candidate("other", other)],
            &Outcome { won: Vec::new(), propensity: 1.0 },
        );
        let at = Timestamp::from_second(1_700_000_000 + n as i64 * 3600).expect("in range");
        let replay = Replay { same: true, awards: Vec::new() };
        Decision {
            auction_id: Uuid::from_u128(n),
            at,
            query: String::new(),
            log,
            replay,
            wordings: Vec::new(),
        }
    }

    #[test]
    fn a_higher_bid_wins_what_it_lost_at_the_price_of_others() {
        // Four auctions against 600,000, four against 200,000.
        let decisions: Vec<Decision> =
            (0..8).map(|n| decision(n, 500_000, if n % 2 == 0 { 600_000 } else { 200_000 })).collect();
        let found = simulate("own", Micros(50_000), &decisions).expect("runs");
        let at =
            |factor: f64| found.landscape.iter().find(|p| (p.factor - factor).abs() < 1e-9).expect("there");
        assert_eq!((found.auctions, at(1.0).shown, at(1.25).shown, at(0.25).shown), (8, 4, 8, 0));
        assert!((at(1.0).cost_micros.mean - 4.0 * 0.1 * 200_000.0).abs() < 1.0);
        assert!((at(1.25).cost_micros.mean - 0.1 * 4.0 * 800_000.0).abs() < 1.0);
        assert!(at(1.25).clicks.low <= at(1.25).clicks.mean && at(1.25).clicks.mean <= at(1.25).clicks.high);
        for pair in found.landscape.windows(2) {
            assert!(pair[0].clicks.mean <= pair[1].clicks.mean + 1e-12, "more is never less");
        }
        // One auction of 20,000 is won on the first day and three on the second, where 50,000 pay for two.
        assert_eq!((found.days, found.budgets[1].days_spent), (2, 1));
        assert!((found.budgets[1].clicks - 0.3).abs() < 1e-9 && (found.budgets[2].clicks - 0.4).abs() < 1e-9);
        assert!(simulate("absent", Micros(1), &decisions).expect("runs").auctions == 0);
    }
}
