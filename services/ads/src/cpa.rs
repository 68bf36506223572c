//! What a campaign pays for a conversion, held to its target.
//!
//! A click is worth `target · rate` to such a campaign, `rate` the share of its clicks that led to a conversion, shrunk
//! to a prior. Prices lie under bids, so bidding that would pay less than the target on average: a dual moves with what
//! was spent against `target · rate · clicks` (`bowerbird_auction::pacing::CpaDual`), and bids rise until it is paid, or
//! fall when more was. Clicks count by their rate and not by conversions that were told, which come days later.

use std::collections::HashMap;

use bowerbird_auction::bidding::MOST_OVER_TARGET;
use bowerbird_auction::pacing::{CpaDual, PacingRules};
use bowerbird_auction::{Micros, Probability};
use parking_lot::Mutex;
use sqlx::AnyConnection;

use crate::AdsError;

/// Clicks that the prior of the conversion rate is worth, and the rate itself.
const PRIOR_CLICKS: f64 = 50.0;
const PRIOR_RATE: f64 = 0.02;
/// How far a dual moves when a whole conversion's cost was spent too much.
const STEP: f64 = 0.1;

/// Controllers by campaign.
#[derive(Default)]
pub(crate) struct Costs(Mutex<HashMap<String, Cost>>);

struct Cost {
    target: Micros,
    totals: Totals,
    dual: CpaDual,
}

/// Since the campaign began.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    clicks: i64,
    conversions: i64,
    spent: i64,
}

impl Totals {
    fn rate(self) -> f64 {
        let rate =
            (self.conversions as f64 + PRIOR_CLICKS * PRIOR_RATE) / (self.clicks as f64 + PRIOR_CLICKS);
        rate.clamp(0.0, 1.0)
    }
}

impl Costs {
    /// Reads how the campaigns stand that want conversions, and moves their duals by what has happened since.
    pub async fn follow(&self, db: &mut AnyConnection) -> Result<(), AdsError> {
        let rows: Vec<(String, i64, i64, i64, i64, Option<f64>)> = sqlx::query_as(
            "SELECT c.id, c.target_cpa_micros, (SELECT COUNT(*) FROM events e WHERE e.campaign = c.id \
             AND e.kind = 'click' AND e.status IN ('billed', 'free_overdelivery')), \
             (SELECT COUNT(*) FROM conversions v JOIN served s ON s.nonce = v.nonce WHERE s.campaign = c.id \
             AND v.attribution = 'click'), \
             (SELECT CAST(COALESCE(SUM(e.amount_micros), 0) AS BIGINT) FROM events e WHERE e.campaign = c.id), \
             k.dual FROM campaigns c LEFT JOIN costs k ON k.campaign = c.id \
             WHERE c.bidding = 'target_cpa' AND c.target_cpa_micros IS NOT NULL",
        )
        .fetch_all(db)
        .await?;
        for (campaign, target, clicks, conversions, spent, kept) in rows {
            self.moved(campaign, Micros(target), Totals { clicks, conversions, spent }, kept);
        }
        Ok(())
    }

    /// `kept` is the dual of an earlier run, with which one begins.
    fn moved(&self, campaign: String, target: Micros, totals: Totals, kept: Option<f64>) {
        let mut costs = self.0.lock();
        if let Some(cost) = costs.get_mut(&campaign).filter(|cost| cost.target == target) {
            let spent = Micros((totals.spent - cost.totals.spent).max(0));
            let clicks = (totals.clicks - cost.totals.clicks).max(0);
            // Neither is negative, and a rate is finite.
            let _ = cost.dual.tick(spent, clicks as f64 * totals.rate());
            cost.totals = totals;
            return;
        }
        let rules = PacingRules { step: STEP, least: -MOST_OVER_TARGET.ln(), most: 4.0 };
        // A target out of range is refused when it is booked.
        if let Ok(dual) = CpaDual::start(target, target, rules, kept) {
            costs.insert(campaign, Cost { target, totals, dual });
        }
    }

    /// Writes down where the duals stand.
    pub async fn save(&self, db: &mut AnyConnection) -> Result<(), AdsError> {
        let rows: Vec<(String, f64)> =
            self.0.lock().iter().map(|(campaign, cost)| (campaign.clone(), cost.dual.dual())).collect();
        for (campaign, dual) in rows {
            sqlx::query(
                "INSERT INTO costs (campaign, dual) VALUES ($1, $2) \
                 ON CONFLICT (campaign) DO UPDATE SET dual = excluded.dual",
            )
            .bind(campaign)
            .bind(dual)
            .execute(&mut *db)
            .await?;
        }
        Ok(())
    }

    /// Probability that a click of `campaign` leads to a conversion, and the dual of its cost.
    pub fn of(&self, campaign: &str) -> (Probability, f64) {
        let costs = self.0.lock();
        let cost = costs.get(campaign);
        let rate = cost.map_or_else(|| Totals::default().rate(), |cost| cost.totals.rate());
        (Probability::new(rate).unwrap_or(Probability::ZERO), cost.map_or(0.0, |cost| cost.dual.dual()))
    }
}

#[cfg(test)]
mod tests {
    use bowerbird_auction::bidding::{Duals, Strategy, effective_bid};

    use super::*;

    /// One click in twenty converts; a click costs half of what is bid for it, so bidding `target · rate` would pay half
    /// of the target for a conversion.
    #[test]
    fn the_cost_of_a_conversion_comes_to_its_target() {
        let (costs, target) = (Costs::default(), Micros(20_000_000));
        let mut totals = Totals::default();
        let (mut spent_late, mut conversions_late) = (0, 0);
        for tick in 0..2_000 {
            costs.moved("c".into(), target, totals, None);
            let (rate, cpa) = costs.of("c");
            let duals = Duals { budget: -MOST_OVER_TARGET.ln(), cpa };
            let strategy = Strategy::TargetCpa { target, most: Micros(5_000_000) };
            let bid = effective_bid(strategy, rate, duals).expect("valid").expect("bids");
            totals.clicks += 2;
            totals.conversions += i64::from(tick % 10 == 0);
            totals.spent += bid.0;
            if tick >= 1_000 {
                spent_late += bid.0;
                conversions_late += i64::from(tick % 10 == 0);
            }
        }
        let cost = spent_late as f64 / conversions_late as f64 / target.0 as f64;
        assert!((cost - 1.0).abs() < 0.05, "{cost} of the target");
    }

    #[test]
    fn another_target_begins_anew_and_a_restart_where_it_was() {
        let costs = Costs::default();
        costs.moved("c".into(), Micros(10), Totals::default(), Some(0.7));
        assert!((costs.of("c").1 - 0.7).abs() < 1e-12);
        costs.moved("c".into(), Micros(20), Totals::default(), None);
        assert!(costs.of("c").1.abs() < 1e-12);
        assert!((costs.of("unknown").0.get() - PRIOR_RATE).abs() < 1e-12);
    }
}
