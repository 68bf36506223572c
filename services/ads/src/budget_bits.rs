//! Which campaigns can pay, one bit each: whoever keeps the money sets it, matching reads it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use roaring::RoaringBitmap;

/// Campaigns with and without budget, shared between the books and matching.
///
/// A campaign that nothing was said about has budget. Bits outlive a change of the bookings: a campaign is known by its
/// id and keeps its number. Locks are held for the time of a look-up or of a copy of the changed set, never across an
/// await.
#[derive(Default)]
pub(crate) struct BudgetBits {
    numbers: RwLock<HashMap<Box<str>, u32>>,
    exhausted: RwLock<Arc<RoaringBitmap>>,
}

impl BudgetBits {
    /// Says whether `campaign` can pay for a slot. Decisions that begin after this returns see it.
    pub fn set(&self, campaign: &str, funded: bool) {
        let number = self.number(campaign);
        if self.exhausted.read().contains(number) != funded {
            return;
        }
        let mut exhausted = self.exhausted.write();
        if funded {
            Arc::make_mut(&mut exhausted).remove(number);
        } else {
            Arc::make_mut(&mut exhausted).insert(number);
        }
    }

    /// Says that `campaigns` cannot pay and all others can, as at the start of a day or after a restart.
    pub fn replace_exhausted<'a>(&self, campaigns: impl IntoIterator<Item = &'a str>) {
        let new: RoaringBitmap = campaigns.into_iter().map(|campaign| self.number(campaign)).collect();
        if **self.exhausted.read() == new {
            return;
        }
        *self.exhausted.write() = Arc::new(new);
    }

    /// The number of `campaign`, given to it now if it has none.
    pub fn number(&self, campaign: &str) -> u32 {
        if let Some(number) = self.numbers.read().get(campaign) {
            return *number;
        }
        let mut numbers = self.numbers.write();
        let next = numbers.len() as u32;
        *numbers.entry(campaign.into()).or_insert(next)
    }

    /// Numbers of the campaigns that cannot pay; another pointer when it has changed.
    pub fn exhausted(&self) -> Arc<RoaringBitmap> {
        self.exhausted.read().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_change_and_unchanged_ones_cost_nothing() {
        let bits = BudgetBits::default();
        let of = |bits: &BudgetBits| bits.exhausted().iter().collect::<Vec<_>>();
        bits.set("a", true);
        let before = bits.exhausted();
        bits.set("b", true);
        assert!(Arc::ptr_eq(&before, &bits.exhausted()), "nothing changed");
        bits.set("b", false);
        bits.set("a", false);
        assert_eq!((of(&bits), before.len()), (vec![0, 1], 0), "whoever reads keeps what they saw");
        bits.set("a", true);
        assert_eq!(of(&bits), [1]);
        let before = bits.exhausted();
        bits.replace_exhausted(["b"]);
        assert!(Arc::ptr_eq(&before, &bits.exhausted()));
        bits.replace_exhausted(["c"]);
        assert_eq!((of(&bits), bits.number("c")), (vec![2], 2));
    }
}
