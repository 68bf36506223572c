//! How much of its bid a campaign makes, so that its day's budget lasts the day.
//!
//! One controller a campaign (`bowerbird_auction::pacing`), moved by what was settled in ticks of five minutes; the
//! time comes with the requests. A controller starts from where the same campaign stood at this hour of an earlier day,
//! which is kept in the database, and with the money and the part of the day that are left, so that a restart at noon
//! does not mistake the morning for a burst.

use std::collections::HashMap;

use bowerbird_auction::Micros;
use bowerbird_auction::bidding::{Duals, MOST_OVER_TARGET, Strategy, effective_bid};
use bowerbird_auction::pacing::{Pacer, PacingRules};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use parking_lot::Mutex;
use sqlx::AnyConnection;

use crate::AdsError;
use crate::booking::Pacing;
use crate::cpa::Costs;
use crate::index::AdIndex;
use crate::spending::Spending;
use crate::targeting::Bidding;
use crate::time::day;

/// Ticks of a day: five minutes each.
const TICKS: usize = 288;
const TICKS_OF_HOUR: usize = TICKS / 24;

/// What a campaign bids with at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PacedBid {
    /// Of the billed event.
    pub bid: Micros,
    /// Multiplier of it.
    pub pacing: f64,
}

struct State {
    day: String,
    pacer: Pacer,
    /// First tick of the controller.
    from: usize,
    /// First tick that was not reported.
    next: usize,
    /// Committed at the last report.
    settled: Micros,
}

/// Controllers by campaign, and what they start from.
#[derive(Default)]
pub(crate) struct Pacers {
    states: Mutex<HashMap<String, State>>,
    /// Dual by campaign and hour of the day.
    warm: Mutex<HashMap<(String, usize), f64>>,
    /// Of campaigns that want conversions.
    pub costs: Costs,
}

impl Pacers {
    /// Reads what controllers start from.
    pub async fn load(&self, db: &mut AnyConnection) -> Result<(), AdsError> {
        let rows: Vec<(String, i64, f64)> =
            sqlx::query_as("SELECT campaign, hour, dual FROM pacing").fetch_all(&mut *db).await?;
        let warm = rows
            .into_iter()
            .filter_map(|(campaign, hour, dual)| Some(((campaign, usize::try_from(hour).ok()?), dual)));
        self.warm.lock().extend(warm);
        self.costs.follow(db).await
    }

    /// Writes down where controllers stand, for tomorrow.
    pub async fn save(&self, db: &mut AnyConnection) -> Result<(), AdsError> {
        let rows: Vec<((String, usize), f64)> =
            self.warm.lock().iter().map(|(key, dual)| (key.clone(), *dual)).collect();
        for ((campaign, hour), dual) in rows {
            sqlx::query(
                "INSERT INTO pacing (campaign, hour, dual) VALUES ($1, $2, $3) \
                 ON CONFLICT (campaign, hour) DO UPDATE SET dual = excluded.dual",
            )
            .bind(campaign)
            .bind(i64::try_from(hour).unwrap_or_default())
            .bind(dual)
            .execute(&mut *db)
            .await?;
        }
        self.costs.save(db).await
    }

    /// What the group of an ad bids at `now`; none when its strategy bids nothing.
    pub fn bid(
        &self,
        index: &AdIndex,
        group: usize,
        spending: &Spending,
        now: Timestamp,
    ) -> Option<PacedBid> {
        let booked = &index.groups[group];
        let campaign = &index.campaigns[booked.campaign];
        // Who names the cost of a conversion may pay more for a click than it is worth on average, and less for others.
        let least = match campaign.bidding {
            Bidding::TargetCpa => -MOST_OVER_TARGET.ln(),
            Bidding::ManualCpc | Bidding::Cpm | Bidding::MaximiseClicks => 0.0,
        };
        let dual = match campaign.pacing {
            Pacing::Asap => least,
            Pacing::Even => self.dual(&campaign.id, campaign.daily_budget, least, spending, now),
        };
        match (campaign.bidding, campaign.target_cpa) {
            (Bidding::TargetCpa, Some(target)) => {
                let (rate, cpa) = self.costs.of(&campaign.id);
                let strategy = Strategy::TargetCpa { target, most: booked.bid };
                let duals = Duals { budget: dual, cpa };
                let bid = effective_bid(strategy, rate, duals).ok().flatten()?;
                Some(PacedBid { bid, pacing: 1.0 })
            }
            _ => Some(PacedBid { bid: booked.bid, pacing: (-dual).exp() }),
        }
    }

    fn dual(&self, campaign: &str, budget: Micros, least: f64, spending: &Spending, now: Timestamp) -> f64 {
        let at = now.to_zoned(TimeZone::UTC);
        let tick =
            (usize::try_from(at.hour()).unwrap_or(0) * 60 + usize::try_from(at.minute()).unwrap_or(0)) / 5;
        let today = day(now);
        let settled = spending.settled(campaign, &today);
        let mut states = self.states.lock();
        let known = states.get(campaign).is_some_and(|state| state.day == today && state.next <= tick + 1);
        if !known {
            let hour = tick / TICKS_OF_HOUR;
            let warm = self.warm.lock().get(&(campaign.to_owned(), hour)).copied();
            let left = Micros(budget.0.saturating_sub(settled.0).max(1));
            let forecast = vec![1.0; TICKS - tick];
            let rules = PacingRules { least, ..PacingRules::for_ticks(TICKS) };
            let Ok(pacer) = Pacer::start(left, &forecast, rules, warm) else {
                return 0.0;
            };
            let state = State { day: today, pacer, from: tick, next: tick, settled };
            states.insert(campaign.to_owned(), state);
        }
        let Some(state) = states.get_mut(campaign) else { return 0.0 };
        if tick > state.next {
            let spent = Micros((settled.0 - state.settled.0).max(0));
            if state.pacer.tick(tick - 1 - state.from, spent).is_ok() {
                state.settled = settled;
                state.next = tick;
                let hour = (tick - 1) / TICKS_OF_HOUR;
                self.warm.lock().insert((campaign.to_owned(), hour), state.pacer.dual());
            }
        }
        state.pacer.dual()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::Balance;

    fn at(minute: i64) -> Timestamp {
        let midnight: Timestamp = "2026-03-10T00:00:00Z".parse().expect("valid");
        Timestamp::from_second(midnight.as_second() + minute * 60).expect("in range")
    }

    /// A market that would buy the budget four times over a day: how much is spent by noon and in the whole day.
    fn run(pacers: &Pacers, day: i64, budget: i64) -> (f64, f64) {
        let spending = Spending::default();
        let (mut spent, mut noon) = (0, 0.0);
        for minute in 0..1440 {
            let now = at(day * 1440 + minute);
            let dual = pacers.dual("c", Micros(budget), 0.0, &spending, now);
            let wanted = (4.0 * budget as f64 / 1440.0 * (-dual).exp()) as i64;
            spent += wanted.min(budget - spent);
            let scope = format!("day/{}/c", crate::time::day(now));
            spending.set(vec![(scope, Balance { settled: Micros(spent), ..Balance::default() })]);
            if minute == 720 {
                noon = spent as f64 / budget as f64;
            }
        }
        (noon, spent as f64 / budget as f64)
    }

    #[test]
    fn a_budget_lasts_the_day_and_better_the_next() {
        let pacers = Pacers::default();
        let (noon, whole) = run(&pacers, 0, 100_000_000);
        assert!((0.45..0.75).contains(&noon) && whole > 0.95, "first day: {noon} {whole}");
        let (noon, whole) = run(&pacers, 1, 100_000_000);
        assert!((0.45..0.55).contains(&noon) && whole > 0.98, "next day: {noon} {whole}");
    }

    #[test]
    fn a_start_at_noon_does_not_mistake_the_morning_for_a_burst() {
        let (pacers, spending) = (Pacers::default(), Spending::default());
        let morning = Balance { settled: Micros(50_000_000), ..Balance::default() };
        spending.set(vec![("day/2026-03-10/c".into(), morning)]);
        assert!(pacers.dual("c", Micros(100_000_000), 0.0, &spending, at(720)).abs() < 1e-9);
        assert!(pacers.dual("c", Micros(100_000_000), 0.0, &spending, at(726)).abs() < 0.3);
    }
}
