//! Days on a market whose optimum is known: values and the highest other bids are drawn evenly from 0 to 1.
//!
//! The optimum is that of hindsight: of all opportunities of the day, those with the most value by cost until the money
//! is gone. Nobody who does not know the day reaches it. A first day begins at the full bid, and the smallest budget, a
//! hundred times the largest price, loses two in a hundred by finding its way; a next day begins where the one before
//! was on average after noon.

use bowerbird_auction::Micros;
use bowerbird_auction::pacing::{Pacer, PacingRules};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Check;

/// Days of the shock, and pairs of days of a budget for 100,000 opportunities.
const DAYS: u64 = 5;

pub(super) fn checks() -> anyhow::Result<Vec<Check>> {
    let mut checks = Vec::new();
    let (mut spent, mut deviation, mut over) = (f64::INFINITY, 0.0_f64, 0);
    let mut days = 0;
    for (row, rho, opportunities, pairs, first_bound) in
        [("01", 0.01, 10_000, 20, 0.97), ("03", 0.03, 10_000, 20, 0.98), ("06", 0.06, 100_000, DAYS, 0.98)]
    {
        let plan = Plan {
            budget: (rho * 1e6 * f64::from(opportunities)) as i64,
            forecast: vec![1.0; opportunities as usize],
            arrivals: vec![1; opportunities as usize],
            rules: PacingRules::for_opportunities(opportunities as usize),
        };
        let mut utilities = [0.0; 2];
        for pair in 0..pairs {
            let first = plan.run(500 + 2 * pair, None)?;
            let next = plan.run(501 + 2 * pair, Some(first.dual))?;
            for (sum, day) in utilities.iter_mut().zip([first, next]) {
                *sum += day.utility / pairs as f64;
                spent = spent.min(day.spent);
                deviation = deviation.max(day.deviation);
                over += usize::from(day.spent > 1.0);
                days += 1;
            }
        }
        for (day, utility, bound) in [("first", utilities[0], first_bound), ("next", utilities[1], 0.98)] {
            checks.push(Check::at_least(
                &format!("pacing.utility.rho_0.{row}.{day}_day"),
                utility,
                bound,
                format!(
                    "part of the optimum in hindsight, {opportunities} opportunities, mean of {pairs} days"
                ),
            ));
        }
    }
    checks.push(Check::at_least("pacing.spent", spent, 0.99, "part of the budget, least of all days"));
    checks.push(Check::at_most(
        "pacing.deviation",
        deviation,
        0.02,
        "of the budget from an even spend, largest",
    ));
    checks.push(Check::none("pacing.overspend", over, days, "days over budget"));

    let shocked = Plan {
        budget: 1_440 * 40 * 30_000,
        forecast: vec![1.0; 1_440],
        arrivals: (0..1_440).map(|minute| if minute < 720 { 40 } else { 120 }).collect(),
        rules: PacingRules::for_ticks(1_440),
    };
    let (mut spent, mut deviation, mut rate) = (f64::INFINITY, 0.0_f64, 0.0_f64);
    for day in 0..DAYS {
        let found = shocked.run(700 + day, None)?;
        spent = spent.min(found.spent);
        deviation = deviation.max(found.deviation);
        rate = rate.max(found.rate_after_an_hour);
    }
    checks.push(Check::at_most(
        "pacing.shock.deviation",
        deviation,
        0.05,
        "of the budget from an even spend, three times the traffic from noon, largest",
    ));
    checks.push(Check::at_most(
        "pacing.shock.recovered",
        rate,
        0.05,
        "of the spend of the second and third hour after from an even spend, largest",
    ));
    checks.push(Check::at_least("pacing.shock.spent", spent, 0.99, "part of the budget, least of all days"));
    Ok(checks)
}

/// One day of one budget.
struct Plan {
    /// In micros.
    budget: i64,
    forecast: Vec<f64>,
    /// Opportunities of each tick.
    arrivals: Vec<usize>,
    rules: PacingRules,
}

struct Day {
    /// Part of the optimum in hindsight.
    utility: f64,
    /// Part of the budget.
    spent: f64,
    /// Largest distance of the spent part of the budget from the part of the day.
    deviation: f64,
    /// Distance of the spend of ticks 780 to 900 from an even one, in parts of it; 0 for a day of other length.
    rate_after_an_hour: f64,
    /// Mean dual of the second half of the day.
    dual: f64,
}

impl Plan {
    fn run(&self, seed: u64, warm: Option<f64>) -> anyhow::Result<Day> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut pacer = Pacer::start(Micros(self.budget), &self.forecast, self.rules.clone(), warm)?;
        let (mut utility, mut deviation, mut duals) = (0, 0.0_f64, 0.0);
        let mut market = Vec::with_capacity(self.arrivals.iter().sum());
        let mut spent_at = Vec::with_capacity(self.arrivals.len());
        let ticks = self.arrivals.len() as f64;
        for (tick, arrivals) in self.arrivals.iter().enumerate() {
            let mut spend = 0;
            let multiplier = pacer.multiplier();
            for _ in 0..*arrivals {
                let (value, cost) =
                    (rng.random_range(1..=1_000_000_i64), rng.random_range(1..=1_000_000_i64));
                market.push((value, cost));
                let left = self.budget - pacer.spent().0 - spend;
                let bid = ((value as f64 * multiplier) as i64).min(left);
                if bid >= cost {
                    spend += cost;
                    utility += value - cost;
                }
            }
            pacer.tick(tick, Micros(spend))?;
            let part = pacer.spent().0 as f64 / self.budget as f64;
            deviation = deviation.max((part - (tick + 1) as f64 / ticks).abs());
            spent_at.push(part);
            if 2 * tick >= self.arrivals.len() {
                duals += pacer.dual();
            }
        }
        let rate_after_an_hour = if self.arrivals.len() == 1_440 {
            ((spent_at[899] - spent_at[779]) * ticks / 120.0 - 1.0).abs()
        } else {
            0.0
        };
        Ok(Day {
            utility: utility as f64 / hindsight(market, self.budget),
            spent: pacer.spent().0 as f64 / self.budget as f64,
            deviation,
            rate_after_an_hour,
            dual: duals * 2.0 / ticks,
        })
    }
}

/// The most utility that `budget` buys, with a part of the last purchase.
fn hindsight(mut market: Vec<(i64, i64)>, budget: i64) -> f64 {
    market.retain(|(value, cost)| value > cost);
    market.sort_by(|(v, c), (w, d)| (w * c).cmp(&(v * d)));
    let (mut left, mut utility) = (budget as f64, 0.0);
    for (value, cost) in market {
        let part = (left / cost as f64).min(1.0);
        utility += part * (value - cost) as f64;
        left -= part * cost as f64;
    }
    utility
}
