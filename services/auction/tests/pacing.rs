//! Pacing against markets whose optimum is known.

use bowerbird_auction::Micros;
use bowerbird_auction::pacing::{CpaDual, Pacer, PacingRules};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// What a day came to.
struct Day {
    /// Part of the budget that was spent.
    spent: f64,
    /// Largest distance of the spent part of the budget from the part of the expected traffic that has passed.
    deviation: f64,
    dual: f64,
}

/// Values and highest other bids are uniform over 0 to 1; `arrivals` opportunities come in each tick.
fn day(budget: i64, forecast: &[f64], arrivals: &[usize], warm: Option<f64>, seed: u64) -> Day {
    let mut rng = StdRng::seed_from_u64(seed);
    let rules = PacingRules::for_ticks(forecast.len());
    let mut pacer = Pacer::start(Micros(budget), forecast, rules, warm).expect("valid");
    let (total, mut passed, mut deviation) = (forecast.iter().sum::<f64>(), 0.0, 0.0_f64);
    for (tick, (share, arrivals)) in forecast.iter().zip(arrivals).enumerate() {
        let mut spend = 0;
        for _ in 0..*arrivals {
            let (value, other) = (rng.random_range(1..=1_000_000_i64), rng.random_range(1..=1_000_000_i64));
            let bid = (value as f64 * pacer.multiplier()) as i64;
            if bid >= other && pacer.spent().0 + spend + other <= budget {
                spend += other;
            }
        }
        pacer.tick(tick, Micros(spend)).expect("in order");
        passed += share / total;
        deviation = deviation.max((pacer.spent().0 as f64 / budget as f64 - passed).abs());
    }
    Day { spent: pacer.spent().0 as f64 / budget as f64, deviation, dual: pacer.dual() }
}

/// Traffic of a day in 1440 minutes: quiet at night, a peak in the evening.
fn curve() -> Vec<f64> {
    (0..1440).map(|minute| 1.2 - (f64::from(minute) / 1440.0 * std::f64::consts::TAU).cos()).collect()
}

#[test]
fn a_day_with_a_curve_is_spent_evenly_by_traffic() {
    let forecast = curve();
    let arrivals: Vec<usize> = forecast.iter().map(|share| (share * 40.0) as usize).collect();
    let opportunities: usize = arrivals.iter().sum();
    // Three hundredths of a unit for each opportunity: bids at 42 %.
    let budget = i64::try_from(opportunities).expect("a small number") * 30_000;
    for seed in 0..3 {
        let day = day(budget, &forecast, &arrivals, None, seed);
        assert!(day.spent >= 0.99 && day.deviation <= 0.02, "{} {}", day.spent, day.deviation);
        assert!((day.dual - (1.0 / 0.18_f64.sqrt()).ln()).abs() < 0.35, "{}", day.dual);
    }
}

#[test]
fn three_times_the_traffic_is_taken_in() {
    let forecast = vec![1.0; 1440];
    let arrivals: Vec<usize> = (0..1440).map(|tick| if tick < 720 { 40 } else { 120 }).collect();
    for seed in 0..3 {
        let day = day(1440 * 40 * 30_000, &forecast, &arrivals, Some(0.857), seed);
        assert!(day.spent >= 0.99 && day.deviation < 0.05, "{} {}", day.spent, day.deviation);
    }
}

#[test]
fn a_warm_start_saves_the_first_hour() {
    let forecast = vec![1.0; 1440];
    let cold = day(1440 * 40 * 10_000, &forecast, &[40; 1440], None, 7);
    let warm = day(1440 * 40 * 10_000, &forecast, &[40; 1440], Some(1.407), 7);
    assert!(warm.deviation < cold.deviation / 2.0, "{} {}", warm.deviation, cold.deviation);
}

/// Clicks convert with a probability of 2 to 10 %; the highest other bid for one is uniform up to 2 units. With the
/// cost held to 10 units the average lands there; the quotient of spend and conversions would bid too little.
#[test]
fn the_cost_of_a_conversion_lands_on_its_target() {
    const TARGET: f64 = 10.0;
    let run = |quotient: bool| {
        let mut rng = StdRng::seed_from_u64(11);
        let rules = PacingRules { step: 0.01, least: -1.0, most: 4.0 };
        let target = Micros(10_000_000);
        let mut dual = CpaDual::start(target, Micros(2_000_000), rules.clone(), None).expect("valid");
        let (mut spent, mut converted, mut by_quotient) = (0.0, 0.0, 0.0_f64);
        for tick in 0..40_000 {
            let (mut spend, mut conversions) = (0.0, 0.0);
            for _ in 0..10 {
                let chance = rng.random_range(0.02..0.10);
                let other = rng.random_range(0.0..2.0);
                let pressure = if quotient { by_quotient } else { dual.dual() };
                if TARGET * chance * (-pressure).exp() >= other {
                    spend += other;
                    conversions += f64::from(u8::from(rng.random_bool(chance)));
                }
            }
            if quotient && conversions > 0.0 {
                by_quotient = (by_quotient + 0.01 * (spend / (TARGET * conversions) - 1.0)).clamp(-1.0, 4.0);
            }
            dual.tick(Micros((spend * 1e6) as i64), conversions).expect("valid");
            if tick >= 10_000 {
                spent += spend;
                converted += conversions;
            }
        }
        spent / converted
    };
    let cost = run(false);
    assert!((cost / TARGET - 1.0).abs() < 0.02, "{cost}");
    let cost = run(true);
    assert!((cost / TARGET - 1.0).abs() > 0.05, "the quotient form is expected to miss, found {cost}");
}
