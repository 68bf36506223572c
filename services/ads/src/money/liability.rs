//! How much room a shown ad needs in a budget.
//!
//! Holding the whole price of every impression that may be clicked starves delivery (with 2 % of clicks, 98 % of what
//! is held comes back); holding nothing shows ads whose clicks nobody pays. The expected cost of all open holds plus
//! three standard deviations does neither, and the last clicks of a budget are held in full.

use bowerbird_auction::{Micros, Probability};

use super::scopes::Balance;

/// A budget that is left for fewer clicks than this holds whole prices.
const LAST_CLICKS: i64 = 20;
/// Standard deviations kept beside the expected cost.
const SIGMAS: i128 = 3;
/// A variance is counted in millions of squared micros, so that a sum of them fits an `i64`.
const VARIANCE_UNIT: f64 = 1e6;
/// A dearer click is always held in full: its variance would not fit.
const MOST_EXPECTED: Micros = Micros(1_000_000_000);

/// What a shown ad may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Liability {
    /// Most that will be charged.
    pub price: Micros,
    /// Expected charge, rounded up.
    pub expected: Micros,
    /// Variance of the charge, in millions of squared micros, rounded up.
    pub variance: i64,
}

impl Liability {
    /// A price that is charged with `probability`.
    pub fn new(price: Micros, probability: Probability) -> Self {
        let (c, p) = (price.0 as f64, probability.get());
        if price > MOST_EXPECTED {
            return Self::certain(price);
        }
        Self {
            price,
            expected: Micros(((c * p).ceil() as i64).clamp(1, price.0.max(1))),
            variance: (p * (1.0 - p) * c * c / VARIANCE_UNIT).ceil() as i64,
        }
    }

    /// A price that is charged for sure.
    pub fn certain(price: Micros) -> Self {
        Self { price, expected: price, variance: 0 }
    }

    /// The whole price held.
    pub fn in_full(self) -> Self {
        Self::certain(self.price)
    }

    /// Whether a scope with `balance` and `budget` is so near its end that prices are held in full.
    pub fn is_last(&self, balance: &Balance, budget: Micros) -> bool {
        let last = self.price.checked_mul(LAST_CLICKS).unwrap_or(Micros(i64::MAX));
        budget.0.saturating_sub(balance.settled.0) < last.0
    }

    /// Whether it fits beside what is settled and held: `settled + Σ held + 3 √Σ variance + price <= budget`, the sums
    /// with this one in it and its own price in place of its expectation where it is held in full.
    ///
    /// Computed in whole numbers, so that every machine decides alike.
    pub fn fits(&self, balance: &Balance, budget: Micros) -> bool {
        let own = if self.variance == 0 {
            self.price
        } else {
            Micros(self.expected.0.saturating_add(self.price.0))
        };
        let left = i128::from(budget.0)
            - i128::from(balance.settled.0)
            - i128::from(balance.reserved.0)
            - i128::from(own.0);
        let variance = i128::from(balance.variance) + i128::from(self.variance);
        left >= 0 && SIGMAS * SIGMAS * variance * (VARIANCE_UNIT as i128) <= left * left
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn of(price: i64, p: f64) -> Liability {
        Liability::new(Micros(price), Probability::new(p).expect("a probability"))
    }

    #[test]
    fn expectation_and_spread() {
        assert_eq!(
            of(1_000_000, 0.02),
            Liability { price: Micros(1_000_000), expected: Micros(20_000), variance: 19_600 }
        );
        assert_eq!(of(7, 0.0).expected, Micros(1), "a hold is never nothing");
        assert_eq!(of(1_000_000_001, 0.5), Liability::certain(Micros(1_000_000_001)));
    }

    #[test]
    fn a_whole_price_fits_exactly() {
        let balance = Balance { settled: Micros(60), reserved: Micros(30), ..Balance::default() };
        assert!(Liability::certain(Micros(10)).fits(&balance, Micros(100)));
        assert!(!Liability::certain(Micros(11)).fits(&balance, Micros(100)));
        assert!(!Liability::certain(Micros(i64::MAX)).fits(&balance, Micros(i64::MAX)));
    }

    /// 2 % of clicks, delay 60 s on average, 50 impressions a second, a budget of 1,000 clicks, two hours. Returns the
    /// shares of the budget that were delivered, and that were clicked without being paid.
    fn deliver(hold: impl Fn(Liability) -> Option<Liability>, seed: u64) -> (f64, f64) {
        const PRICE: i64 = 1_000_000;
        let budget = Micros(1_000 * PRICE);
        let mut rng = StdRng::seed_from_u64(seed);
        let mut balance = Balance::default();
        // By time: what is held, its variance, and whether a click ends it; without one it ends after ten minutes.
        let mut open: BinaryHeap<Reverse<(u64, i64, i64, bool)>> = BinaryHeap::new();
        let mut unpaid = 0;
        for tick in 0..50 * 7200_u64 {
            let now = tick * 20;
            while let Some(Reverse((at, held, variance, clicked))) = open.peek().copied() {
                if at > now {
                    break;
                }
                open.pop();
                balance.reserved.0 -= held;
                balance.variance -= variance;
                if clicked {
                    let charge = PRICE.min(budget.0 - balance.settled.0);
                    balance.settled.0 += charge;
                    unpaid += PRICE - charge;
                }
            }
            let liability = of(PRICE, 0.02);
            let held = match hold(liability) {
                Some(held) => {
                    let held = if held.is_last(&balance, budget) { held.in_full() } else { held };
                    if !held.fits(&balance, budget) {
                        continue;
                    }
                    held
                }
                None if balance.settled < budget => {
                    Liability { expected: Micros(0), variance: 0, ..liability }
                }
                None => continue,
            };
            let clicked = rng.random_bool(0.02);
            let delay = -60_000.0 * (1.0 - rng.random::<f64>()).ln();
            let end = now + if clicked { (delay as u64).min(600_000) } else { 600_000 };
            balance.reserved.0 += held.expected.0;
            balance.variance += held.variance;
            open.push(Reverse((end, held.expected.0, held.variance, clicked)));
        }
        (balance.settled.0 as f64 / budget.0 as f64, unpaid as f64 / budget.0 as f64)
    }

    #[test]
    fn expected_liability_delivers_what_neither_nothing_nor_everything_does() {
        let (delivered, unpaid) = deliver(Some, 1);
        assert!(delivered > 0.98, "{delivered}");
        assert!(unpaid < 1e-9, "{unpaid}");
        let (_, unpaid) = deliver(|_| None, 1);
        assert!(unpaid > 0.02, "without holds: {unpaid}");
        let (delivered, _) = deliver(|liability| Some(liability.in_full()), 1);
        assert!(delivered < 0.6, "with whole prices held: {delivered}");
    }
}
